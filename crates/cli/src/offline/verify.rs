//! `offline verify`: proves that what the vault promises is there, or rehearses a restore. Changes nothing but the vault's ledger of proofs.

use std::time::{Duration, Instant};

use anyhow::bail;
use blobkeep_vault::verify::{self, Depth, RehearsalReport, SeenNumbers, VerifyOptions, VerifyReport};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{OutputArgs, VaultArgs, point};
use crate::Outcome;
use crate::clock::SystemClock;
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};

/// Lost blobs that are printed as lines; `--output json` has up to 1,000.
const SPELLED_OUT: usize = 100;

/// Proves that everything the vault promises can be read; ends with code 1 if something is damaged
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep offline verify --store /backup/vault --key-file vault.key
  blobkeep offline verify --store /backup/vault --key-file vault.key --percent 4     # every day: all of it each month
  blobkeep offline verify --store /backup/vault --key-file vault.key --depth structure
  blobkeep offline verify --store /backup/vault --key-file vault.key --rehearse --point 473fee4d")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// How deep to look
    #[arg(long, value_enum, default_value_t, conflicts_with = "rehearse")]
    depth: DepthArg,
    /// The same as --depth structure
    #[arg(long, conflicts_with_all = ["depth", "percent", "rehearse"])]
    structure: bool,
    /// Reads only this share of the packs: those that were read longest ago, and among equals those of the newest points
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "rehearse")]
    percent: Option<u8>,
    /// Restores a point into nothing: reads every blob in order and compares lengths and MD5
    #[arg(long)]
    rehearse: bool,
    /// The point to rehearse: its id, the beginning of one, or latest
    #[arg(long, value_name = "ID", default_value = "latest", requires = "rehearse")]
    point: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum DepthArg {
    /// State, points, pages and index; content is not read.
    Structure,
    /// The same, and every byte of the packs.
    #[default]
    Bytes,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<Outcome> {
    let depth = if args.structure { DepthArg::Structure } else { args.depth };
    if depth == DepthArg::Structure && args.percent.is_some() {
        bail!("--percent reads packs, and --depth structure reads none: leave one of them out");
    }
    if args.rehearse {
        return rehearse(&args).await;
    }
    let vault = args.vault.open(&args.vault.place()?).await?;
    let options = VerifyOptions {
        depth: match depth {
            DepthArg::Structure => Depth::Structure,
            DepthArg::Bytes => Depth::Bytes,
        },
        percent: args.percent,
        seen: SeenNumbers::new(),
    };
    let view = ProgressView::new("verify", StopFlag::on_signals());
    let began = Instant::now();
    let report = verify::run_recorded(&vault, &options, &SystemClock, &view).await;
    view.finish();
    let report = report?;
    match args.output.output {
        Format::Json => output::json(&as_json(&report, &options, began.elapsed()))?,
        Format::Table => print(&report, &options, began.elapsed())?,
    }
    Ok(if report.is_sound() { Outcome::Done } else { Outcome::Failed })
}

fn as_json(report: &VerifyReport, options: &VerifyOptions, took: Duration) -> serde_json::Value {
    json!({
        "depth": if options.depth == Depth::Structure { "structure" } else { "bytes" },
        "percent": options.percent,
        "instances": report.instances,
        "points": report.points,
        "blobs": report.blobs,
        "packs": report.packs,
        "packsInAll": report.packs_in_all,
        "packBytes": report.pack_bytes,
        "indexRuns": report.index_runs,
        "journalSegments": report.journal_segments,
        "journalChanges": report.journal_changes,
        "damage": report.damage,
        "damageInAll": report.damage_in_all,
        "lost": report.losses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lostBlobs": report.lost_blobs,
        "harmedPoints": report.harmed_points,
        "notes": report.notes,
        "seconds": took.as_secs_f64(),
    })
}

fn print(report: &VerifyReport, options: &VerifyOptions, took: Duration) -> anyhow::Result<()> {
    output::line(format!(
        "looked at {} of {} with {}, and {}",
        output::counted(report.points, "point"),
        output::counted(report.instances, "source"),
        output::counted(report.blobs, "blob"),
        output::counted(report.index_runs, "index run")
    ))?;
    if options.depth == Depth::Structure {
        output::line("content was not read (--depth structure)")?;
    } else {
        let share = if report.packs < report.packs_in_all {
            format!(" of {}", output::count(report.packs_in_all))
        } else {
            String::new()
        };
        output::line(format!(
            "read every byte of {}{share}, {}, in {}",
            output::counted(report.packs, "pack"),
            output::bytes(report.pack_bytes),
            output::seconds(took)
        ))?;
    }
    if report.journal_segments > 0 {
        output::line(format!(
            "read {} of journals with {}",
            output::counted(report.journal_segments, "segment"),
            output::counted(report.journal_changes, "change")
        ))?;
    }
    for note in &report.notes {
        output::note(&format!("note: {}", output::printable(note)));
    }
    if report.is_sound() {
        return output::line("everything is as it was written");
    }
    for damage in &report.damage {
        output::line(format!("damaged: {}", output::printable(damage)))?;
    }
    print_lost(&report.losses, report.lost_blobs)?;
    output::error(&advice(report));
    Ok(())
}

fn print_lost(losses: &[verify::Loss], lost_blobs: u64) -> anyhow::Result<()> {
    for loss in losses.iter().take(SPELLED_OUT) {
        output::line(format!("lost: {}", output::printable(&loss.to_string())))?;
    }
    if losses.len() > SPELLED_OUT {
        output::line(format!(
            "and more: {} in all; --output json names up to 1,000",
            output::counted(lost_blobs, "lost blob")
        ))?;
    }
    Ok(())
}

/// What to do next. The chapter "When something is damaged" of docs/operating.md tells more.
fn advice(report: &VerifyReport) -> String {
    let what = output::counted(report.damage_in_all, "damaged thing");
    let is_index = |text: &String| text.starts_with("index") || text.contains("no run names");
    let mut text = if report.harmed_points == 0 {
        format!("{what}, and every blob of every point can still be restored.")
    } else {
        let (blobs, points) =
            (output::counted(report.lost_blobs, "blob"), output::counted(report.harmed_points, "point"));
        format!("{what}: {blobs} lost from {points}; everything else can still be restored.")
    };
    if report.damage.iter().any(is_index) || report.losses.iter().any(|loss| is_index(&loss.reason)) {
        text.push_str(" Run `blobkeep offline rebuild-index` first: what only the index lost comes back.");
    }
    text.push_str(
        " Keep the store as it is, put damaged files back from a copy of the store if there is one, and verify again",
    );
    if report.harmed_points > 0 {
        text.push_str(
            "; otherwise make a backup, which reads anew what the source still has, restore what is whole of what it has no longer, \
             and if damage comes again back up into a new vault on another disk",
        );
    }
    text
}

async fn rehearse(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let point = point::choose(&vault, &args.point).await?;
    let view = ProgressView::new("rehearse", StopFlag::on_signals());
    let began = Instant::now();
    let report = verify::rehearse(&vault, &point, &view).await;
    view.finish();
    let (report, took) = (report?, began.elapsed());
    if args.output.output == Format::Json {
        output::json(&json!({
            "point": point.job,
            "instance": point.instance,
            "blobs": report.blobs,
            "bytes": report.bytes,
            "comparedBlobs": report.compared_blobs,
            "atSourceBlobs": report.at_source_blobs,
            "failedBlobs": report.failed_blobs,
            "failures": report.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "seconds": took.as_secs_f64(),
        }))?;
    } else {
        print_rehearsal(&point.job, &report, took)?;
    }
    Ok(if report.failed_blobs == 0 && report.failures.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn print_rehearsal(job: &str, report: &RehearsalReport, took: Duration) -> anyhow::Result<()> {
    let speed = report.bytes as f64 / took.as_secs_f64().max(0.001);
    output::line(format!(
        "point {job}: {}, {}, came out as they went in, {} compared by MD5, in {} ({}/s)",
        output::counted(report.blobs, "blob"),
        output::bytes(report.bytes),
        output::count(report.compared_blobs),
        output::seconds(took),
        output::bytes(speed as u64)
    ))?;
    if report.at_source_blobs > 0 {
        output::line(format!(
            "{} stay at their account as versions: only a restore in place brings them back, and it looks whether they are there",
            output::counted(report.at_source_blobs, "blob")
        ))?;
    }
    print_lost(&report.failures, report.failed_blobs)?;
    if report.failed_blobs > 0 || !report.failures.is_empty() {
        let failed = output::counted(report.failed_blobs, "blob");
        output::error(&format!(
            "{failed} of the point cannot be restored: `blobkeep offline verify` tells which files are damaged"
        ));
    }
    Ok(())
}

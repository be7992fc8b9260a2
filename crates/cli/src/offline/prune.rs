//! `offline prune`: removes points that the caller names, then frees the space of whatever no point needs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use blobkeep_vault::prune::{self, PruneOptions, PruneReport};
use blobkeep_vault::state::remove_point;
use blobkeep_vault::{Clock, Vault};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::point::{self, FoundPoint};
use super::{OutputArgs, VaultArgs};
use crate::Outcome;
use crate::clock::SystemClock;
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};

/// Frees the space of whatever no recovery point needs, beside running backups and restores
#[derive(Debug, Args)]
#[command(after_help = "\
Without --point and --keep-last no point is removed. After a crash run it again: it goes on where it was.

Examples:
  blobkeep offline prune --store /backup/vault --key-file vault.key --dry-run
  blobkeep offline prune --store /backup/vault --key-file vault.key --keep-last 30")]
pub(super) struct PruneArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Removes this recovery point first (again for more): its id, or a unique beginning of it
    #[arg(long, value_name = "ID")]
    point: Vec<String>,
    /// Removes all but the newest N points of each source first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "point")]
    keep_last: Option<u32>,
    /// Only says what would be done; points that would be removed still count as needed
    #[arg(long)]
    dry_run: bool,
    /// Rewrites packs of which more than this share is not needed
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_unused: u8,
    /// Takes whoever shows no sign of life for this long for dead. Signs come every 10 seconds: give less than 30 only if nobody else works on
    /// the vault
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: PruneArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let removed = chosen(&args, &vault).await?;
    if !args.dry_run {
        for found in &removed {
            remove_point(&vault, &found.instance, &found.live.job, SystemClock.now())
                .await
                .with_context(|| format!("recovery point {} was not removed", found.live.job))?;
        }
    }
    let options = PruneOptions {
        dry_run: args.dry_run,
        max_unused_percent: args.max_unused,
        patience: Duration::from_secs(args.patience),
        ..PruneOptions::new(Uuid::new_v4().simple().to_string())
    };
    let view = ProgressView::new("prune", StopFlag::on_signals());
    let began = Instant::now();
    let report = prune::run(&vault, &options, &SystemClock, &view).await;
    view.finish();
    print(&args, &removed, &report?, began.elapsed())?;
    Ok(Outcome::Done)
}

/// The points to remove.
async fn chosen(args: &PruneArgs, vault: &Vault) -> anyhow::Result<Vec<FoundPoint>> {
    let (points, damage) = point::all(vault).await?;
    if let Some(error) = damage.first() {
        bail!("{error}: nothing was removed; `blobkeep offline verify` tells what is lost");
    }
    if let Some(keep) = args.keep_last {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        // They come newest first.
        return Ok(points
            .into_iter()
            .filter(|found| {
                let count = seen.entry(found.instance.clone()).or_default();
                *count += 1;
                *count > keep
            })
            .collect());
    }
    let mut chosen: Vec<FoundPoint> = Vec::new();
    for wanted in &args.point {
        let found = point::by_id(&points, wanted, &vault.store.describe())?;
        if chosen.iter().all(|other| other.live.job != found.live.job) {
            chosen.push(found.clone());
        }
    }
    Ok(chosen)
}

fn print(args: &PruneArgs, removed: &[FoundPoint], report: &PruneReport, took: Duration) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        return output::json(&json!({
            "dryRun": args.dry_run,
            "removedPoints": removed.iter().map(|found| found.live.job.as_str()).collect::<Vec<_>>(),
            "keptPoints": report.kept.iter().map(|kept| json!({
                "instance": kept.instance, "point": kept.job, "reason": kept.reason,
            })).collect::<Vec<_>>(),
            "packs": report.packs,
            "packBytes": report.pack_bytes,
            "packsInUse": report.packs_in_use,
            "deadPacks": report.dead_packs,
            "deadBytes": report.dead_bytes,
            "rewrittenPacks": report.rewritten_packs,
            "rewrittenBytes": report.rewritten_bytes,
            "unusedBytesKept": report.unused_bytes_kept,
            "copiedChunks": report.copied_chunks,
            "writtenBytes": report.written_bytes,
            "readBytes": report.read_bytes,
            "indexRunsBefore": report.index_runs.0,
            "indexRunsAfter": report.index_runs.1,
            "takenForDead": report.fenced,
            "removedJournals": report.removed_journals,
            "seconds": took.as_secs_f64(),
        }));
    }
    let (would, were) = if args.dry_run { ("would be ", "would be") } else { ("", "were") };
    for found in removed {
        output::line(format!("{would}removed: recovery point {}", found.live.job))?;
    }
    if args.dry_run {
        for kept in &report.kept {
            output::line(format!("kept: {} of {}: {}", kept.job, kept.instance, output::printable(&kept.reason)))?;
        }
    }
    output::line(format!(
        "{} of {}: {} ({}) {were} deleted, {} ({}) {were} rewritten, {} stay although nothing needs them, in {}",
        output::counted(report.packs, "pack"),
        output::bytes(report.pack_bytes),
        output::count(report.dead_packs),
        output::bytes(report.dead_bytes),
        output::count(report.rewritten_packs),
        output::bytes(report.rewritten_bytes),
        output::bytes(report.unused_bytes_kept),
        output::seconds(took)
    ))?;
    if report.packs_in_use > 0 {
        output::line(format!(
            "{} of writers at work were not looked at",
            output::counted(report.packs_in_use, "pack")
        ))?;
    }
    Ok(())
}

//! `offline verify`: proves that what the vault promises is there. Changes nothing.

use std::time::Instant;

use blobkeep_vault::verify::{self, Depth, SeenNumbers, VerifyReport};
use clap::Args;
use serde_json::json;

use super::{OutputArgs, VaultArgs};
use crate::Outcome;
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};

/// Proves that everything the vault promises can be read; ends with code 1 if something is damaged
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep offline verify --store /backup/vault --key-file vault.key
  blobkeep offline verify --store /backup/vault --key-file vault.key --structure")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Points, pages and index only; content is not read
    #[arg(long)]
    structure: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let depth = if args.structure { Depth::Structure } else { Depth::Bytes };
    let view = ProgressView::new("verify", StopFlag::on_signals());
    let began = Instant::now();
    let report = verify::run(&vault, depth, &SeenNumbers::new(), &view).await;
    view.finish();
    let report = report?;
    print(&args, &report, began.elapsed())?;
    Ok(if report.damage.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn print(args: &VerifyArgs, report: &VerifyReport, took: std::time::Duration) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        return output::json(&json!({
            "depth": if args.structure { "structure" } else { "bytes" },
            "instances": report.instances,
            "points": report.points,
            "blobs": report.blobs,
            "packs": report.packs,
            "packBytes": report.pack_bytes,
            "indexRuns": report.index_runs,
            "damage": report.damage,
            "seconds": took.as_secs_f64(),
        }));
    }
    output::line(format!(
        "looked at {} of {} with {}, and {}",
        output::counted(report.points, "point"),
        output::counted(report.instances, "source"),
        output::counted(report.blobs, "blob"),
        output::counted(report.index_runs, "index run")
    ))?;
    if args.structure {
        output::line("content was not read (--structure)")?;
    } else {
        output::line(format!(
            "read every byte of {}, {}, in {}",
            output::counted(report.packs, "pack"),
            output::bytes(report.pack_bytes),
            output::seconds(took)
        ))?;
    }
    if report.damage.is_empty() {
        return output::line("everything is as it was written");
    }
    for damage in &report.damage {
        output::line(format!("damaged: {}", output::printable(damage)))?;
    }
    output::error(&format!(
        "{} in the vault: restore what is still whole, keep the store as it is, and make a new backup into a new vault",
        output::counted(report.damage.len() as u64, "damage")
    ));
    Ok(())
}

//! `offline rebuild-index`: makes the index anew from the packs. Reads no content; removes the old index when the new one is durable.

use std::time::Instant;

use blobkeep_vault::rebuild::{RebuildOptions, RebuildReport, rebuild};
use clap::Args;
use serde_json::json;

use super::{OutputArgs, VaultArgs};
use crate::Outcome;
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};

/// Makes the index of the vault anew from its packs; ends with code 1 if a pack could not be read
#[derive(Debug, Args)]
#[command(after_help = "\
For a vault whose index is damaged or gone, as `blobkeep offline verify` tells. It may be stopped and run again. Stop a service that uses
the vault first, and start it again afterwards.

Example:
  blobkeep offline rebuild-index --store /backup/vault --key-file vault.key")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    vault: VaultArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: RebuildArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let view = ProgressView::new("rebuild-index", StopFlag::on_signals());
    let began = Instant::now();
    let report = rebuild(&vault, RebuildOptions::default(), &view).await;
    view.finish();
    let report = report?;
    if args.output.output == Format::Json {
        output::json(&json!({
            "packs": report.packs,
            "readBytes": report.read_bytes,
            "entries": report.entries,
            "newRuns": report.new_runs,
            "removedRuns": report.removed_runs,
            "damaged": report.damaged,
            "damagedPacks": report.damaged_packs,
            "seconds": began.elapsed().as_secs_f64(),
        }))?;
    } else {
        print(&report, began.elapsed())?;
    }
    Ok(if report.damaged_packs == 0 { Outcome::Done } else { Outcome::Failed })
}

fn print(report: &RebuildReport, took: std::time::Duration) -> anyhow::Result<()> {
    output::line(format!(
        "read the footers of {}, {}, in {}",
        output::counted(report.packs, "pack"),
        output::bytes(report.read_bytes),
        output::seconds(took)
    ))?;
    output::line(format!(
        "wrote {} of {}, and removed {} that were there before",
        output::counted(report.new_runs, "index run"),
        output::counted(report.entries, "chunk"),
        output::count(report.removed_runs)
    ))?;
    for damage in &report.damaged {
        output::line(format!("damaged: {}", output::printable(damage)))?;
    }
    if report.damaged_packs > 0 {
        output::error(&format!(
            "{} without a readable footer: what the old index said of them was kept; `blobkeep offline verify` tells what is lost",
            output::counted(report.damaged_packs, "pack")
        ));
    }
    Ok(())
}

//! `offline backup`: one backup of a source into a vault, and what it did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobkeep_source::{Location, open_source};
use blobkeep_vault::backup::{self, BackupOptions, BackupReport, BackupSelection};
use blobkeep_vault::caps::{CappedSource, Caps, Schedule};
use blobkeep_vault::point::Skipped;
use blobkeep_vault::{Source, Vault};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{OutputArgs, VaultArgs};
use crate::Outcome;
use crate::clock::SystemClock;
use crate::output::{self, Format};
use crate::place;
use crate::progress::{ProgressView, StopFlag};

/// Skipped blobs that the summary spells out.
const SPELLED_OUT: usize = 100;

/// Backs up a source into the vault
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep offline backup --store /backup/vault --key-file vault.key --source /home/me/documents --limit 20MiB/s
  BLOBKEEP_CONNECTION_STRING=… blobkeep offline backup --store /backup/vault --key-file vault.key --container photos")]
pub(super) struct BackupArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// What to back up: a folder, file:///…, or the address of an Azure container with its SAS; without it the account of
    /// BLOBKEEP_CONNECTION_STRING
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Reads the source no faster than this: rates like 20MiB/s,50req/s, or by time of day (UTC unless zone= says otherwise)
    /// 'zone=+02:00; 08:00-18:00=20MiB/s,50req/s; else unlimited'
    #[arg(long, value_name = "RATES")]
    limit: Option<Schedule>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: BackupArgs) -> anyhow::Result<Outcome> {
    let place = args.vault.place()?;
    let location = place::location(args.source.as_deref(), "--source")?;
    place.check_apart_from(&location, "--source")?;
    let vault = args.vault.open(&place).await?;
    let source = open_source(&location)?;
    let source: Arc<dyn Source> = match &args.limit {
        Some(limit) => Arc::new(CappedSource::new(source, Caps::new(limit.clone(), Arc::new(SystemClock)))),
        None => source,
    };
    let containers = (!args.container.is_empty()).then(|| args.container.clone());
    let options = BackupOptions {
        selection: BackupSelection { containers, exclude_container_prefixes: Vec::new() },
        labels: BTreeMap::from([("trigger".to_owned(), "offline".to_owned())]),
        ..BackupOptions::new(instance_of(&location), Uuid::new_v4().simple().to_string())
    };
    let view = ProgressView::new("backup", StopFlag::on_signals());
    let began = Instant::now();
    let report = backup::run(&vault, source, &options, &SystemClock, &view).await;
    view.finish();
    let report = report?;
    let skipped = report.point.skipped(&vault, SPELLED_OUT).await?;
    print(&args, &vault, &report, &skipped, began.elapsed())?;
    Ok(Outcome::Done)
}

/// The instance of a source: the same for the same place, whatever its credential, and another for another place.
fn instance_of(location: &Location) -> String {
    let place = match location {
        Location::Folder(path) => {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            format!("folder {}", path.display())
        }
        Location::Azure(_) => format!("azure {location}").to_lowercase(),
    };
    let hash = blake3::hash(place.as_bytes()).to_hex();
    format!("offline-{}", &hash.as_str()[..12])
}

fn print(
    args: &BackupArgs,
    vault: &Vault,
    report: &BackupReport,
    skipped: &[Skipped],
    took: Duration,
) -> anyhow::Result<()> {
    let (point, counts) = (&report.point, &report.point.counts);
    let totals = &point.root.totals;
    for warning in &report.warnings {
        output::note(&format!("warning: {warning}"));
    }
    if args.output.output == Format::Json {
        return output::json(&json!({
            "id": point.job,
            "instance": point.instance,
            "created": output::time(point.started_at),
            "completed": output::time(point.completed_at),
            "source": point.source,
            "store": vault.store.describe(),
            "containers": totals.containers,
            "blobs": totals.blobs,
            "bytes": totals.bytes,
            "unchangedBlobs": counts.unchanged_blobs,
            "readBlobs": counts.read_blobs,
            "readBytes": counts.read_bytes,
            "newBytes": counts.new_bytes,
            "newStoredBytes": counts.stored_bytes,
            "skipped": counts.skipped_blobs,
            "skippedBlobs": skipped,
            "warnings": report.warnings,
            "seconds": took.as_secs_f64(),
        }));
    }
    output::line(format!("point {} of {}", point.job, output::printable(&point.source)))?;
    output::line(format!(
        "  holds    {} in {}, {}",
        output::counted(totals.blobs, "blob"),
        output::counted(totals.containers, "container"),
        output::bytes(totals.bytes)
    ))?;
    output::line(format!(
        "  read     {}, {} ({} unchanged)",
        output::counted(counts.read_blobs, "blob"),
        output::bytes(counts.read_bytes),
        output::count(counts.unchanged_blobs)
    ))?;
    output::line(format!(
        "  stored   {} of new content in {}",
        output::bytes(counts.new_bytes),
        output::bytes(counts.stored_bytes)
    ))?;
    output::line(format!("  skipped  {}", output::counted(counts.skipped_blobs, "blob")))?;
    for blob in skipped {
        let (container, name, reason) = (&blob.container, &blob.name, &blob.reason);
        output::line(format!("    {}", output::printable(&format!("{container}/{name}: {reason}"))))?;
    }
    if counts.skipped_blobs > skipped.len() as u64 {
        output::line(format!("    and {} more", output::count(counts.skipped_blobs - skipped.len() as u64)))?;
    }
    output::line(format!("  took     {}", output::seconds(took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(text: &str) -> String {
        instance_of(&text.parse().unwrap())
    }

    #[test]
    fn a_place_has_one_instance_whatever_its_credential() {
        let by_one_sas = instance("https://acc.blob.core.windows.net/photos?sv=1&sig=x");
        assert_eq!(by_one_sas, instance("https://acc.blob.core.windows.net/photos?sv=2&sig=y"));
        assert_ne!(by_one_sas, instance("https://acc.blob.core.windows.net/other?sv=1&sig=x"));
        assert_eq!(by_one_sas.len(), "offline-".len() + 12);
    }

    #[test]
    fn a_folder_is_the_same_by_any_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        let (straight, crooked) = (root.path().join("data"), root.path().join("data/../data/."));
        assert_eq!(instance(straight.to_str().unwrap()), instance(crooked.to_str().unwrap()));
    }
}

//! `offline list`: the recovery points of a vault, newest first. Reads no content and changes nothing.

use blobkeep_vault::point::Point;
use blobkeep_vault::verify::{Ledger, PointProof};
use clap::Args;
use serde_json::{Value, json};

use super::point::{self, FoundPoint};
use super::{OutputArgs, VaultArgs};
use crate::Outcome;
use crate::output::{self, Format};

/// Shows the recovery points of the vault, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blobkeep offline list --store /backup/vault --key-file vault.key --output json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    vault: VaultArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let (found, mut damage) = point::all(&vault).await?;
    let mut points = Vec::with_capacity(found.len());
    for found in found {
        match Point::get(&vault, &found.instance, &found.live.job).await {
            Ok(point) => points.push((found, point)),
            // A point whose file is gone or damaged must not hide the others.
            Err(error) if is_damage(&error) => damage.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    // A ledger that cannot be read costs nothing but this column.
    let (ledger, _) = Ledger::load(&vault).await?;
    print(&args, &points, &ledger)?;
    for error in &damage {
        output::error(&format!("{error}: `blobkeep offline verify` tells more"));
    }
    Ok(if damage.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn is_damage(error: &blobkeep_vault::Error) -> bool {
    matches!(error.kind(), blobkeep_vault::ErrorKind::Damaged | blobkeep_vault::ErrorKind::NotFound)
}

fn print(args: &ListArgs, points: &[(FoundPoint, Point)], ledger: &Ledger) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        return output::json(&points.iter().map(|point| as_json(point, ledger)).collect::<Vec<_>>());
    }
    let headers = [
        "ID",
        "CREATED",
        "COMPLETED",
        "EXPIRES",
        "SOURCE",
        "CONTAINERS",
        "BLOBS",
        "BYTES",
        "NEW STORED",
        "SKIPPED",
        "PROVEN",
    ];
    let rows = points.iter().map(|(found, point)| {
        let totals = &point.root.totals;
        vec![
            point.job.clone(),
            output::short_time(point.started_at),
            output::short_time(point.completed_at),
            found.live.expires_at.map_or_else(|| "never".to_owned(), output::short_time),
            point.source.clone(),
            output::count(totals.containers),
            output::count(totals.blobs),
            output::bytes(totals.bytes),
            output::bytes(point.counts.stored_bytes),
            output::count(point.counts.skipped_blobs),
            proven(ledger.point(&point.instance, &point.job)),
        ]
    });
    output::table(&headers, rows.collect(), "the vault has no recovery point")
}

/// When every byte that the point needs was last read; otherwise when its structure was last walked.
fn proven(proof: PointProof) -> String {
    match (proof.bytes_at, proof.structure_at) {
        (Some(at), _) => output::short_time(at),
        (None, Some(at)) => format!("{} (structure)", output::short_time(at)),
        (None, None) => "never".to_owned(),
    }
}

fn as_json((found, point): &(FoundPoint, Point), ledger: &Ledger) -> Value {
    let proof = ledger.point(&point.instance, &point.job);
    let totals = &point.root.totals;
    json!({
        "id": point.job,
        "instance": point.instance,
        "created": output::time(point.started_at),
        "completed": output::time(point.completed_at),
        "expires": found.live.expires_at.map(output::time),
        "source": point.source,
        "containers": totals.containers,
        "blobs": totals.blobs,
        "bytes": totals.bytes,
        "newStoredBytes": point.counts.stored_bytes,
        "skipped": point.counts.skipped_blobs,
        "structureProven": proof.structure_at.map(output::time),
        "bytesProven": proof.bytes_at.map(output::time),
    })
}

//! `blobkeep recovery-point`: what can be restored. Read-only.

mod look;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{Client, version};
use crate::scope::{self, VaultScope, text};
use crate::{Outcome, instance};

/// Recovery points: what can be restored
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blobkeep recovery-point list -g backups --vault-name team --instance photos")]
pub(crate) struct RecoveryPointArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the recovery points of an instance, newest first
    #[command(after_help = "Example:\n  blobkeep recovery-point list -g backups --vault-name team --instance photos")]
    List(InstanceScope),
    /// Shows one recovery point
    #[command(
        after_help = "Example:\n  blobkeep recovery-point show $POINT -g backups --vault-name team --instance photos"
    )]
    Show(OneArgs),
    /// Shows the containers of a point, or the blobs of one, folder by folder
    #[command(after_help = "\
Examples:
  blobkeep recovery-point browse latest -g backups --vault-name team --instance photos
  blobkeep recovery-point browse latest -g backups --vault-name team --instance photos --container raw --prefix 2024/")]
    Browse(look::BrowseArgs),
    /// Finds blobs by name, in all points or in one
    #[command(after_help = "\
Example:
  blobkeep recovery-point search '**/report*.pdf' -g backups --vault-name team --instance photos")]
    Search(look::SearchArgs),
    /// Shows what differs between two points
    #[command(after_help = "\
Example:
  blobkeep recovery-point diff $POINT --with latest -g backups --vault-name team --instance photos")]
    Diff(look::DiffArgs),
}

#[derive(Debug, Args)]
struct InstanceScope {
    #[command(flatten)]
    scope: VaultScope,
    /// The backup instance
    #[arg(long, value_name = "NAME")]
    instance: String,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The point's id, or `latest`
    #[arg(value_name = "POINT")]
    point: String,
    #[command(flatten)]
    instance: InstanceScope,
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: RecoveryPointArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::List(args) => {
            let (client, id) = instance::open(&args.scope, &args.instance)?;
            let points = client.values(&format!("{id}/recoveryPoints"), version::DATA_PROTECTION).await?;
            scope::list(
                args.scope.format(),
                &points,
                &["ID", "TIME", "EXPIRES", "TAG", "STATE"],
                row,
                "there is no recovery point",
            )?;
        }
        Verb::Show(args) => {
            let (client, id) = instance::open(&args.instance.scope, &args.instance.instance)?;
            let point = find(&client, &id, &args.point).await?;
            let row = row(&point);
            let names = ["id", "time", "expires", "tag", "state"];
            let lines: Vec<(&str, String)> = names.into_iter().zip(row).collect();
            scope::show(args.instance.scope.format(), &point, &lines)?;
        }
        Verb::Browse(args) => look::browse(&args).await?,
        Verb::Search(args) => look::search(&args).await?,
        Verb::Diff(args) => look::diff(&args).await?,
    }
    Ok(Outcome::Done)
}

fn row(point: &Value) -> Vec<String> {
    vec![
        text(point, "/name").to_owned(),
        scope::time(point, "/properties/recoveryPointTime"),
        scope::time(point, "/properties/expiryTime"),
        text(point, "/properties/retentionTagName").to_owned(),
        text(point, "/properties/recoveryPointState").to_owned(),
    ]
}

/// The point of an instance that `wanted` means: `latest` or an id.
///
/// # Errors
/// There is none.
pub(crate) async fn find(client: &Client, instance_id: &str, wanted: &str) -> anyhow::Result<Value> {
    if wanted != "latest" {
        let path = format!("{instance_id}/recoveryPoints/{}", scope::segment(wanted)?);
        return client.get(&path, version::DATA_PROTECTION).await;
    }
    let mut points = client.values(&format!("{instance_id}/recoveryPoints"), version::DATA_PROTECTION).await?;
    points.sort_by(|a, b| text(b, "/properties/recoveryPointTime").cmp(text(a, "/properties/recoveryPointTime")));
    match points.into_iter().next() {
        Some(point) => Ok(point),
        None => anyhow::bail!("the backup instance has no recovery point yet: `blobkeep instance backup` makes one"),
    }
}

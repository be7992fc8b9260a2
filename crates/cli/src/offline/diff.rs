//! `offline diff`: what differs between two recovery points. Reads no content and changes nothing.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use anyhow::bail;
use blobkeep_vault::Vault;
use blobkeep_vault::diff::{Changed, Diff, Difference};
use blobkeep_vault::manifest::{Record, Root};
use blobkeep_vault::names::Pattern;
use blobkeep_vault::point::Point;
use blobkeep_vault::walk::containers;
use clap::Args;
use serde_json::{Value, json};

use super::{OutputArgs, VaultArgs, blob, point};
use crate::Outcome;
use crate::output::{self, Format};

/// Shows what differs between two recovery points; without --from, between a point and the one before it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep offline diff --store /backup/vault --key-file vault.key
  blobkeep offline diff --store /backup/vault --key-file vault.key --from 3f2a --point 91bc --container photos
  blobkeep offline diff --store /backup/vault --key-file vault.key --prefix 2024/ --limit 20 --output json")]
pub(super) struct DiffArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// The earlier point, by the beginning of its id; without it the one of the same source before --point, or nothing if there is none
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// The later point: `latest` (of all sources), or the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    point: String,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Only blobs whose names start so, in every chosen container (again for more)
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,
    /// Shows at most so many differences
    #[arg(long, value_name = "NUMBER", default_value_t = blob::SHOWN)]
    limit: NonZeroUsize,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: DiffArgs) -> anyhow::Result<Outcome> {
    let vault = args.vault.open(&args.vault.place()?).await?;
    let after = point::choose(&vault, &args.point).await?;
    let before = match &args.from {
        Some(from) => Some(point::choose(&vault, from).await?),
        None => point::before(&vault, &after).await?,
    };
    let old_root = before.as_ref().map(|point| point.root).unwrap_or_default();
    let mut diff = open(&args, &vault, &old_root, &after.root).await?;
    let mut differences = Vec::new();
    let mut has_more = false;
    while let Some(difference) = diff.next().await? {
        has_more = differences.len() == args.limit.get();
        if has_more {
            break;
        }
        differences.push(difference);
    }
    print(&args, before.as_ref(), &after, &differences, has_more)?;
    Ok(Outcome::Done)
}

async fn open<'a>(args: &DiffArgs, vault: &'a Vault, before: &Root, after: &Root) -> anyhow::Result<Diff<'a>> {
    if args.container.is_empty() && args.prefix.is_empty() {
        return Ok(Diff::new(&vault.reader, before, after));
    }
    let mut names = BTreeSet::new();
    for root in [before, after] {
        names.extend(containers(&vault.reader, root).await?.into_iter().map(|container| container.name));
    }
    if let Some(stray) = args.container.iter().find(|name| !names.contains(*name)) {
        let there = names.into_iter().collect::<Vec<_>>().join(", ");
        bail!("neither recovery point has a container {stray}: there are {there}");
    }
    names.retain(|name| args.container.is_empty() || args.container.contains(name));
    let patterns: Vec<Pattern> = match args.prefix.as_slice() {
        [] => vec![Pattern::Prefix(String::new())],
        prefixes => prefixes.iter().cloned().map(Pattern::Prefix).collect(),
    };
    let chosen = names.iter().flat_map(|name| patterns.iter().map(|pattern| (name.as_str(), pattern)));
    Ok(Diff::of_names(&vault.reader, before, after, chosen))
}

fn print(
    args: &DiffArgs,
    before: Option<&Point>,
    after: &Point,
    differences: &[Difference],
    has_more: bool,
) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        return output::json(&json!({
            "from": before.map(blob::of_point),
            "point": blob::of_point(after),
            "differences": differences.iter().map(as_json).collect::<Vec<_>>(),
            "more": has_more,
        }));
    }
    let earlier = before.map_or_else(|| "nothing (it is the first of its source)".to_owned(), blob::point_name);
    output::line(format!("from   {earlier}"))?;
    output::line(format!("point  {}", blob::point_name(after)))?;
    let headers = ["CHANGE", "WHAT", "CONTAINER", "NAME", "BYTES BEFORE", "BYTES AFTER"];
    output::table(&headers, differences.iter().map(row).collect(), "nothing differs")?;
    if has_more {
        output::note(&format!("these are the first {}: there are more, give a larger --limit", differences.len()));
    }
    Ok(())
}

/// How a difference is called, what of a blob changed, and both sides of it.
fn parts(difference: &Difference) -> (&'static str, Option<&'static str>, Option<&Record>, Option<&Record>) {
    match difference {
        Difference::Added(record) => ("added", None, None, Some(record)),
        Difference::Removed(record) => ("removed", None, Some(record), None),
        Difference::Changed { before, after, what } => {
            let what = match what {
                Changed::Content => "content",
                Changed::Properties => "properties",
                Changed::Both => "content and properties",
            };
            ("changed", Some(what), Some(before), Some(after))
        }
    }
}

fn as_json(difference: &Difference) -> Value {
    let (change, what, before, after) = parts(difference);
    let key = difference.key();
    json!({
        "change": change,
        "what": what,
        "container": key.container,
        "name": (!key.name.is_empty()).then_some(key.name),
        "version": (!key.version.is_empty()).then_some(key.version),
        "before": before.map(blob::of_record),
        "after": after.map(blob::of_record),
    })
}

fn row(difference: &Difference) -> Vec<String> {
    let (change, what, before, after) = parts(difference);
    let key = difference.key();
    let bytes = |record: Option<&Record>| match record {
        Some(Record::Blob(item)) => output::bytes(item.entry.size_bytes),
        Some(Record::Container(_)) | None => String::new(),
    };
    let name = if key.name.is_empty() { "(the container)" } else { key.name };
    vec![
        change.to_owned(),
        what.unwrap_or_default().to_owned(),
        key.container.to_owned(),
        name.to_owned(),
        bytes(before),
        bytes(after),
    ]
}

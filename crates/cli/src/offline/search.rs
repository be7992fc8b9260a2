//! `offline search`: blobs by name, in one recovery point or in all of them, and the history of one blob. Reads no content and changes
//! nothing.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use anyhow::bail;
use blobkeep_vault::names::Pattern;
use blobkeep_vault::search::{Found, Query, Search, SearchCursor, Version, history};
use blobkeep_vault::state::LivePoint;
use blobkeep_vault::{Timestamp, Vault};
use clap::Args;
use serde_json::{Value, json};

use super::{OutputArgs, VaultArgs, blob, point};
use crate::output::{self, Format};
use crate::{Outcome, UsageError};

/// Finds blobs by name in the recovery points, or tells the history of one blob
#[derive(Debug, Args)]
#[command(
    after_help = "\
A PATTERN with * or ? is a glob for whole names: * and ? stay within a folder, ** does not, **/ is any number of folders, \\ takes a sign as
it is. Any other PATTERN is a text that is looked for anywhere in names. Names are looked for fastest by their beginning.

A blob is shown with the newest point that holds it so; older versions of it come with the points before.

Examples:
  blobkeep offline search --store /backup/vault --key-file vault.key '**/report*.pdf'
  blobkeep offline search --store /backup/vault --key-file vault.key invoice --point latest --container documents
  blobkeep offline search --store /backup/vault --key-file vault.key --prefix 2024/05/ --limit 20 --output json
  blobkeep offline search --store /backup/vault --key-file vault.key --history documents/2024/05/plan.txt",
    group = clap::ArgGroup::new("wanted").required(true)
)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// A glob, or a text that is part of the name
    #[arg(group = "wanted")]
    pattern: Option<String>,
    /// Names that start so
    #[arg(long, value_name = "PREFIX", group = "wanted")]
    prefix: Option<String>,
    /// All versions of this blob, oldest first, each with the points that hold it
    #[arg(long, value_name = "CONTAINER/NAME", group = "wanted", conflicts_with_all = ["point", "container", "after"])]
    history: Option<String>,
    /// Only this point: `latest` (of all sources), or the beginning of its id; without it all points of all sources
    #[arg(long, value_name = "ID")]
    point: Option<String>,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Shows at most so many
    #[arg(long, value_name = "NUMBER", default_value_t = blob::SHOWN)]
    limit: NonZeroUsize,
    /// Goes on where the same search stopped: the text that it printed then
    #[arg(long, value_name = "TEXT")]
    after: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: SearchArgs) -> anyhow::Result<Outcome> {
    let query = query(&args)?;
    let vault = args.vault.open(&args.vault.place()?).await?;
    let points = Points::of(&vault).await?;
    match &args.history {
        Some(blob) => print_history(&args, &points, &versions(&args, &vault, &points, blob).await?)?,
        None => {
            let (found, next) = find(&args, &vault, &points, &query).await?;
            print(&args, &points, &found, next.as_ref())?;
        }
    }
    Ok(Outcome::Done)
}

fn query(args: &SearchArgs) -> anyhow::Result<Query> {
    let pattern = match (&args.pattern, &args.prefix) {
        (Some(text), _) if text.contains(['*', '?']) => {
            Pattern::glob(text).map_err(|error| UsageError(error.to_string()))?
        }
        (Some(text), _) => Pattern::Contains(text.clone()),
        (None, prefix) => Pattern::Prefix(prefix.clone().unwrap_or_default()),
    };
    Ok(Query { containers: args.container.clone(), pattern })
}

/// The points of the vault: their times, and the sources they were made of.
struct Points {
    created: BTreeMap<String, Timestamp>,
    instances: Vec<String>,
}

impl Points {
    async fn of(vault: &Vault) -> anyhow::Result<Self> {
        let (points, damage) = point::all(vault).await?;
        for error in &damage {
            output::note(&format!("warning: the points of one instance cannot be seen: {error}"));
        }
        if points.is_empty() {
            bail!(
                "the vault in {} has no recovery point: make one with `blobkeep offline backup`",
                vault.store.describe()
            );
        }
        let mut instances: Vec<String> = points.iter().map(|point| point.instance.clone()).collect();
        instances.sort();
        instances.dedup();
        let created = points.into_iter().map(|point| (point.live.job, point.live.started_at)).collect();
        Ok(Self { created, instances })
    }

    fn created(&self, job: &str) -> Timestamp {
        self.created.get(job).copied().unwrap_or_default()
    }
}

/// What is shown, and where to go on if there is more.
async fn find(
    args: &SearchArgs,
    vault: &Vault,
    points: &Points,
    query: &Query,
) -> anyhow::Result<(Vec<(String, Found)>, Option<SearchCursor>)> {
    let mut cursor: Option<SearchCursor> = match &args.after {
        Some(text) => Some(text.parse().map_err(|error: blobkeep_vault::Error| UsageError(error.to_string()))?),
        None => None,
    };
    let only = match &args.point {
        Some(wanted) => Some(point::choose(vault, wanted).await?),
        None => None,
    };
    let instances = only.as_ref().map_or_else(|| points.instances.clone(), |point| vec![point.instance.clone()]);
    let from = cursor.as_ref().map(|cursor| cursor.instance().to_owned()).unwrap_or_default();
    let mut found = Vec::new();
    let mut next = cursor.clone();
    for instance in instances.into_iter().filter(|instance| *instance >= from) {
        let mut search = match &only {
            Some(point) => Search::in_point(vault, point, query.clone())?,
            None => Search::in_instance(vault, &instance, query.clone()).await?,
        };
        if let Some(cursor) = cursor.take() {
            search = search.go_on(cursor).await?;
        }
        while let Some(blob) = search.next().await? {
            if found.len() == args.limit.get() {
                return Ok((found, next));
            }
            next = search.cursor().cloned();
            found.push((instance.clone(), blob));
        }
    }
    Ok((found, None))
}

fn print(
    args: &SearchArgs,
    points: &Points,
    found: &[(String, Found)],
    next: Option<&SearchCursor>,
) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        let as_json = |(instance, found): &(String, Found)| {
            let entry = &found.item.entry;
            json!({
                "container": entry.container,
                "name": entry.name,
                "version": entry.version,
                "instance": instance,
                "point": found.point,
                "created": output::time(points.created(&found.point)),
                "properties": blob::properties(entry),
            })
        };
        return output::json(&json!({
            "found": found.iter().map(as_json).collect::<Vec<_>>(),
            "next": next.map(ToString::to_string),
        }));
    }
    let rows = found.iter().map(|(_, found)| {
        let entry = &found.item.entry;
        vec![
            entry.container.clone(),
            entry.name.clone(),
            output::bytes(entry.size_bytes),
            output::short_time(entry.modified_at),
            found.point.clone(),
            output::short_time(points.created(&found.point)),
        ]
    });
    let headers = ["CONTAINER", "NAME", "BYTES", "MODIFIED", "NEWEST POINT WITH IT", "CREATED"];
    output::table(&headers, rows.collect(), "no blob of such a name was found")?;
    if let Some(next) = next {
        output::note(&format!("there are more: give a larger --limit, or go on with --after {next}"));
    }
    Ok(())
}

async fn versions(
    args: &SearchArgs,
    vault: &Vault,
    points: &Points,
    blob: &str,
) -> anyhow::Result<Vec<(String, Version)>> {
    let Some((container, name)) =
        blob.split_once('/').filter(|(container, name)| !container.is_empty() && !name.is_empty())
    else {
        return Err(UsageError(format!(
            "--history {blob}: give CONTAINER/NAME, the container and the blob's whole name"
        ))
        .into());
    };
    let mut versions = Vec::new();
    for instance in &points.instances {
        let of_instance = history(vault, instance, container, name).await?;
        versions.extend(of_instance.into_iter().map(|version| (instance.clone(), version)));
    }
    if versions.is_empty() {
        bail!("no recovery point holds {blob}: `blobkeep offline search` finds names by a part of them");
    }
    // The newest ones are wanted if not all are.
    let dropped = versions.len().saturating_sub(args.limit.get());
    if dropped > 0 {
        output::note(&format!("these are the last {}: there are {dropped} older, give a larger --limit", args.limit));
    }
    Ok(versions.split_off(dropped))
}

fn print_history(args: &SearchArgs, points: &Points, versions: &[(String, Version)]) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        let of_point = |live: &LivePoint| json!({ "id": live.job, "created": output::time(live.started_at) });
        let as_json = |(instance, version): &(String, Version)| -> Value {
            json!({
                "container": version.item.entry.container,
                "name": version.item.entry.name,
                "instance": instance,
                "properties": blob::properties(&version.item.entry),
                "points": version.points.iter().map(of_point).collect::<Vec<_>>(),
            })
        };
        return output::json(&json!({ "versions": versions.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let rows = versions.iter().map(|(_, version)| {
        let entry = &version.item.entry;
        let job = |live: Option<&LivePoint>| live.map(|live| live.job.clone()).unwrap_or_default();
        let (first, last) = (job(version.points.first()), job(version.points.last()));
        vec![
            output::short_time(entry.modified_at),
            output::bytes(entry.size_bytes),
            output::count(version.points.len() as u64),
            output::short_time(points.created(&first)),
            first,
            output::short_time(points.created(&last)),
            last,
        ]
    });
    let headers = ["MODIFIED", "BYTES", "POINTS", "FROM", "FIRST POINT", "TO", "LAST POINT"];
    output::table(&headers, rows.collect(), "")
}

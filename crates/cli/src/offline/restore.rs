//! `offline restore`: a recovery point, or chosen parts of it, into a target; or with `--dry-run` the plan of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use blobkeep_source::{Location, open_target};
use blobkeep_vault::caps::{CappedTarget, Caps, Schedule};
use blobkeep_vault::names::{Pattern, ScopedPattern};
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{
    self, ContainerSelection, NoJournal, Plan, RestoreCounts, RestoreOptions, RestoreState, Selection,
};
use blobkeep_vault::walk::containers;
use blobkeep_vault::{OnConflict, Target, Vault};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{OutputArgs, VaultArgs, point};
use crate::clock::SystemClock;
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};
use crate::tier::AccessTier;
use crate::{Outcome, UsageError, place};

/// Restores a recovery point, or chosen parts of it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep offline restore --store /backup/vault --key-file vault.key --target /tmp/restored
  blobkeep offline restore --store /backup/vault --key-file vault.key --target env:CONTAINER_URL --point 3f2a --prefix 2024/
  blobkeep offline restore --store /backup/vault --key-file vault.key --target /tmp/plans \\
      --include '**/plan*.pdf' --include '/documents/2024/budget.xlsx'
  BLOBKEEP_CONNECTION_STRING=… blobkeep offline restore --store /backup/vault --key-file vault.key --first '/databases/**'
  BLOBKEEP_CONNECTION_STRING=… blobkeep offline restore --store /backup/vault --key-file vault.key \\
      --container photos --rename photos=photos-restored")]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Where to restore to: a folder, file:///…, or the address of an Azure container with its SAS; without it the account of
    /// BLOBKEEP_CONNECTION_STRING. A folder or container takes one container
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Which point: `latest` (of all sources), or the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    point: String,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Only blobs whose names start so, in every chosen container (again for more)
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,
    /// Only blobs whose names fit this glob as a whole, beside those of --prefix; for one container: /CONTAINER/GLOB (again for more).
    /// * and ? stay within a folder, ** does not, **/ is any number of folders, \ takes a sign as it is
    #[arg(long, value_name = "GLOB", value_parser = ScopedPattern::parse)]
    include: Vec<ScopedPattern>,
    /// Restores what fits this glob first, then what fits the next one, and the rest last (again for more; written as for --include)
    #[arg(long, value_name = "GLOB", value_parser = ScopedPattern::parse)]
    first: Vec<ScopedPattern>,
    /// Restores a container under another name (again for more)
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    rename: Vec<(String, String)>,
    /// What to do about what is in the target already
    #[arg(long, value_enum, default_value_t)]
    on_conflict: ConflictRule,
    /// The access tier that all restored block blobs get, instead of the one that each had
    #[arg(long, value_name = "TIER", value_enum, ignore_case = true)]
    access_tier: Option<AccessTier>,
    /// Writes to the target no faster than this: rates like 20MiB/s,50req/s, or by time of day (UTC unless zone= says otherwise)
    /// 'zone=+02:00; 08:00-18:00=20MiB/s,50req/s; else unlimited'
    #[arg(long, value_name = "RATES")]
    limit: Option<Schedule>,
    /// Shows what would be done and writes nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to do about what is in the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ConflictRule {
    /// Refuse the restore before anything is written
    #[default]
    Fail,
    /// Keep what is there
    Skip,
    /// Replace what is there
    Overwrite,
    /// Replace what is there if the point's blob is newer
    Newer,
}

impl From<ConflictRule> for OnConflict {
    fn from(rule: ConflictRule) -> Self {
        match rule {
            ConflictRule::Fail => Self::Fail,
            ConflictRule::Skip => Self::Skip,
            ConflictRule::Overwrite => Self::Overwrite,
            ConflictRule::Newer => Self::Newer,
        }
    }
}

fn rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("give OLD=NEW, the container's name in the point and in the target".to_owned()),
    }
}

pub(super) async fn run(args: RestoreArgs) -> anyhow::Result<Outcome> {
    let place = args.vault.place()?;
    let location = place::location(args.target.as_deref(), "--target")?;
    place.check_apart_from(&location, "--target")?;
    // Everything that can be wrong with vault, key and point shows before a target folder is made.
    let vault = args.vault.open(&place).await?;
    let point = point::choose(&vault, &args.point).await?;
    let selection = selection(&args, &vault, &point).await?;
    let tier = args.access_tier.map(|tier| tier.word().to_owned());
    let options = RestoreOptions { selection, on_conflict: args.on_conflict.into(), tier };
    if args.dry_run {
        return dry_run(&args, &vault, &point, &location, &options).await;
    }
    let target = open_target(&location)?;
    note_useless_rename(&args, target.as_ref());
    let target: Arc<dyn Target> = match &args.limit {
        Some(limit) => Arc::new(CappedTarget::new(target, Caps::new(limit.clone(), Arc::new(SystemClock)))),
        None => target,
    };
    let description = target.describe();
    let view = ProgressView::new("restore", StopFlag::on_signals());
    let began = Instant::now();
    let done = restore::run(&vault, &point, target, &options, RestoreState::default(), &NoJournal, &view).await;
    view.finish();
    print(&args, &point, &description, &done?.counts, began.elapsed())?;
    Ok(Outcome::Done)
}

fn note_useless_rename(args: &RestoreArgs, target: &dyn Target) {
    if let Some(only) = target.only_container()
        && !args.rename.is_empty()
    {
        output::note(&format!("note: the target is one container ({only}), so --rename changes nothing"));
    }
}

/// What the flags choose of the point.
async fn selection(args: &RestoreArgs, vault: &Vault, point: &Point) -> anyhow::Result<Selection> {
    let mut renames: BTreeMap<&str, &str> = BTreeMap::new();
    for (old, new) in &args.rename {
        if renames.insert(old, new).is_some() {
            return Err(UsageError(format!("--rename names the container {old} twice")).into());
        }
    }
    let is_part = !args.prefix.is_empty() || !args.include.is_empty();
    if args.container.is_empty() && !is_part && renames.is_empty() {
        return Ok(Selection { first: args.first.clone(), ..Selection::default() });
    }
    let mut names = args.container.clone();
    if names.is_empty() {
        names = containers(&vault.reader, &point.root).await?.into_iter().map(|container| container.name).collect();
    }
    if let Some((stray, _)) = renames.iter().find(|(old, _)| !names.iter().any(|name| name == *old)) {
        bail!("--rename {stray}=…: the chosen containers of the recovery point are {}", names.join(", "));
    }
    let of_include = args.include.iter().filter_map(|include| include.container.as_ref());
    if let Some(stray) = of_include.into_iter().find(|container| !names.contains(container)) {
        bail!("--include /{stray}/…: the chosen containers of the recovery point are {}", names.join(", "));
    }
    let choose = |name: String| {
        let touching = args.include.iter().filter(|include| include.touches(&name));
        let patterns: Vec<Pattern> = touching.map(|include| include.pattern.clone()).collect();
        // A container that no --include speaks of is not chosen as a whole.
        let has_part = !is_part || !args.prefix.is_empty() || !patterns.is_empty();
        let rename_to = renames.get(name.as_str()).map(|new| (*new).to_owned());
        has_part.then(|| ContainerSelection { name, prefixes: args.prefix.clone(), patterns, rename_to })
    };
    Ok(Selection { containers: names.into_iter().filter_map(choose).collect(), first: args.first.clone() })
}

async fn dry_run(
    args: &RestoreArgs,
    vault: &Vault,
    point: &Point,
    location: &Location,
    options: &RestoreOptions,
) -> anyhow::Result<Outcome> {
    // Opening a target folder makes it; a dry run looks at an empty one of the same name instead.
    let stand_in = match location {
        Location::Folder(path) if !path.exists() => Some((tempfile::tempdir()?, path.file_name())),
        _ => None,
    };
    let opened = match &stand_in {
        Some((folder, name)) => Location::Folder(folder.path().join(name.unwrap_or("data".as_ref()))),
        None => location.clone(),
    };
    let target = open_target(&opened)?;
    let plan = restore::plan(vault, point, target.as_ref(), options, &RestoreState::default()).await?;
    print_plan(args, point, &location.to_string(), &plan)?;
    Ok(Outcome::Done)
}

fn print_plan(args: &RestoreArgs, point: &Point, target: &str, plan: &Plan) -> anyhow::Result<()> {
    let containers: Vec<&str> = plan.containers.iter().map(|container| container.name.as_str()).collect();
    if args.output.output == Format::Json {
        return output::json(&json!({
            "dryRun": true,
            "point": point.job,
            "created": output::time(point.started_at),
            "target": target,
            "containers": containers,
            "blobs": plan.totals.blobs,
            "bytes": plan.totals.bytes,
        }));
    }
    output::line(format!(
        "would restore {}, {}, of point {} ({}) to {}",
        output::counted(plan.totals.blobs, "blob"),
        output::bytes(plan.totals.bytes),
        point.job,
        output::short_time(point.started_at),
        output::printable(target)
    ))?;
    output::line(format!("  containers  {}", output::printable(&containers.join(", "))))?;
    output::line("nothing was written")
}

fn print(
    args: &RestoreArgs,
    point: &Point,
    target: &str,
    counts: &RestoreCounts,
    took: Duration,
) -> anyhow::Result<()> {
    if args.output.output == Format::Json {
        return output::json(&json!({
            "point": point.job,
            "created": output::time(point.started_at),
            "target": target,
            "plannedBlobs": counts.planned.blobs,
            "plannedBytes": counts.planned.bytes,
            "createdContainers": counts.created_containers,
            "writtenBlobs": counts.written_blobs,
            "writtenBytes": counts.written_bytes,
            "skipped": counts.skipped_blobs,
            "lostProperties": counts.lost_properties,
            "examples": counts.examples,
            "seconds": took.as_secs_f64(),
        }));
    }
    let created = output::short_time(point.started_at);
    output::line(format!("restored point {} ({created}) to {}", point.job, output::printable(target)))?;
    output::line(format!(
        "  wrote    {}, {}",
        output::counted(counts.written_blobs, "blob"),
        output::bytes(counts.written_bytes)
    ))?;
    output::line(format!("  skipped  {}", output::counted(counts.skipped_blobs, "blob")))?;
    for (property, blobs) in &counts.lost_properties {
        output::line(format!("  lost     {} on {}", output::printable(property), output::counted(*blobs, "blob")))?;
    }
    for example in &counts.examples {
        output::line(format!("    {}", output::printable(example)))?;
    }
    output::line(format!("  took     {}", output::seconds(took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_has_two_sides() {
        assert_eq!(rename("old=new").unwrap(), ("old".into(), "new".into()));
        for bad in ["", "old", "=new", "old="] {
            assert!(rename(bad).is_err(), "{bad}");
        }
    }
}

//! `blobkeep restore`: restores by the service, of a recovery point to an account or of an instant in place.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, version};
use crate::scope::{self, VaultScope, text};
use crate::tier::AccessTier;
use crate::{Outcome, UsageError, instance, job, recovery_point};

/// Restores: of a recovery point to another account, or of an instant in place
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  blobkeep restore trigger photos -g backups --vault-name team --recovery-point latest --target $OTHER_ACCOUNT_ID --wait"
)]
pub(crate) struct RestoreArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begins a restore
    #[command(after_help = "\
Examples:
  blobkeep restore trigger photos -g backups --vault-name team --recovery-point latest --target $OTHER_ACCOUNT_ID --wait
  blobkeep restore trigger photos -g backups --vault-name team --recovery-point latest --target $OTHER_ACCOUNT_ID \\
      --container summer --prefix 2024/ --rename summer=summer-restored --wait
  blobkeep restore trigger photos -g backups --vault-name team --time 2026-05-01T12:00:00Z --wait      (in place)")]
    Trigger(TriggerArgs),
    /// Checks whether a restore would work, and changes nothing
    #[command(
        after_help = "Example:\n  blobkeep restore validate photos -g backups --vault-name team --recovery-point latest --target $OTHER_ACCOUNT_ID"
    )]
    Validate(WantedArgs),
}

#[derive(Debug, Args)]
struct TriggerArgs {
    #[command(flatten)]
    wanted: WantedArgs,
    /// Waits for the end of the restore
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct WantedArgs {
    /// The backup instance
    #[arg(value_name = "INSTANCE")]
    name: String,
    #[command(flatten)]
    scope: VaultScope,
    /// The recovery point: its id, or `latest`
    #[arg(long, value_name = "ID", conflicts_with = "time", required_unless_present = "time")]
    recovery_point: Option<String>,
    /// The instant to which the account is rolled back in place (operational tier), RFC 3339
    #[arg(long, value_name = "T")]
    time: Option<jiff::Timestamp>,
    /// The storage account to restore to [default with --time: the protected account]
    #[arg(long, value_name = "ARM_ID", required_unless_present = "time")]
    target: Option<String>,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Only blobs whose names start so, in every chosen container (again for more)
    #[arg(long, value_name = "PREFIX", requires = "container")]
    prefix: Vec<String>,
    /// Restores a chosen container under another name (again for more)
    #[arg(long, value_name = "OLD=NEW", requires = "container", conflicts_with = "time")]
    rename: Vec<String>,
    /// The access tier that all restored block blobs get, instead of the one that each had
    #[arg(long, value_name = "TIER", value_enum, ignore_case = true, conflicts_with = "time")]
    access_tier: Option<AccessTier>,
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: RestoreArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Trigger(args) => {
            let (client, id) = instance::open(&args.wanted.scope, &args.wanted.name)?;
            let request = request(&client, &id, &args.wanted).await?;
            let job_id = begin(&client, &id, &request).await?;
            job::after_begin(&client, args.wanted.scope.format(), &job_id, "restore", args.wait).await
        }
        Verb::Validate(args) => {
            let (client, id) = instance::open(&args.scope, &args.name)?;
            let body = json!({ "restoreRequestObject": request(&client, &id, &args).await? });
            let accepted = client.post(&format!("{id}/validateRestore"), version::DATA_PROTECTION, &body).await?;
            client.finish(&accepted).await?;
            scope::done(args.scope.format(), &id, "can be restored so:")?;
            Ok(Outcome::Done)
        }
    }
}

/// Begins a restore; the id of its job.
///
/// # Errors
/// What the service answers.
pub(crate) async fn begin(client: &Client, instance_id: &str, request: &Value) -> anyhow::Result<String> {
    let accepted = client.post(&format!("{instance_id}/restore"), version::DATA_PROTECTION, request).await?;
    job::id_of(&client.finish(&accepted).await?)
}

/// The request for a restore of a whole point to an account.
pub(crate) fn whole_point(point: &str, target: &Value) -> Value {
    json!({
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore",
        "restoreTargetInfo": target_info("RestoreTargetInfo", target, None),
    })
}

fn target_info(object_type: &str, target: &Value, criteria: Option<Vec<Value>>) -> Value {
    let mut info = json!({
        "objectType": object_type,
        "recoveryOption": "FailIfExists",
        "restoreLocation": text(target, "/resourceLocation"),
        "datasourceInfo": target,
    });
    if let Some(criteria) = criteria {
        info["restoreCriteria"] = Value::Array(criteria);
    }
    info
}

async fn request(client: &Client, instance_id: &str, args: &WantedArgs) -> anyhow::Result<Value> {
    let target_id = match &args.target {
        Some(target) => scope::account_id(target)?,
        None => {
            let instance = client.get(instance_id, version::DATA_PROTECTION).await?;
            text(&instance, "/properties/dataSourceInfo/resourceID").to_owned()
        }
    };
    let target = instance::datasource(client, &target_id).await?;
    if let Some(time) = args.time {
        let ranges = ranges(&args.container, &args.prefix);
        let (object_type, criteria) = match ranges.is_empty() {
            true => ("RestoreTargetInfo", None),
            false => ("ItemLevelRestoreTargetInfo", Some(ranges)),
        };
        return Ok(json!({
            "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
            "recoveryPointTime": format!("{time:.7}"),
            "sourceDataStoreType": "OperationalStore",
            "restoreTargetInfo": target_info(object_type, &target, criteria),
        }));
    }
    let wanted = args.recovery_point.as_deref().unwrap_or("latest");
    let point = recovery_point::find(client, instance_id, wanted).await?;
    let mut request = whole_point(text(&point, "/name"), &target);
    if !args.container.is_empty() {
        let paths = paths(&args.container, &args.prefix, &args.rename)?;
        request["restoreTargetInfo"] = target_info("ItemLevelRestoreTargetInfo", &target, Some(paths));
    }
    if let Some(tier) = args.access_tier {
        request["blobkeep"] = json!({ "accessTier": tier.word() });
    }
    Ok(request)
}

/// Criteria of a vaulted restore: one for each container.
fn paths(containers: &[String], prefixes: &[String], renames: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut pairs = Vec::new();
    for rename in renames {
        match rename.split_once('=') {
            Some((old, new)) if !new.is_empty() && containers.iter().any(|name| name == old) => pairs.push((old, new)),
            _ => return Err(UsageError(format!("--rename {rename}: give OLD=NEW, where OLD is a --container")).into()),
        }
    }
    let criterion = |container: &String| {
        let rename = pairs.iter().find(|(old, _)| old == container).map(|(_, new)| *new);
        json!({
            "objectType": "ItemPathBasedRestoreCriteria",
            "itemPath": container,
            "isPathRelativeToBackupItem": true,
            "subItemPathPrefix": prefixes,
            "renameTo": rename,
        })
    };
    Ok(containers.iter().map(criterion).collect())
}

/// Criteria of a restore in place: ranges of `container/name`, their ends not included. A whole container `c` is `c` … `c-0`, as clients
/// of Azure send it.
fn ranges(containers: &[String], prefixes: &[String]) -> Vec<Value> {
    let range = |min: String, max: String| json!({ "objectType": "RangeBasedItemLevelRestoreCriteria", "minMatchingValue": min, "maxMatchingValue": max });
    let mut ranges = Vec::new();
    for container in containers {
        if prefixes.is_empty() {
            ranges.push(range(container.clone(), format!("{container}-0")));
        }
        for prefix in prefixes {
            let min = format!("{container}/{prefix}");
            let max = after_prefix(&min);
            ranges.push(range(min, max));
        }
    }
    ranges
}

/// The smallest text that is greater than everything that starts with `prefix`.
fn after_prefix(prefix: &str) -> String {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // The gap of the surrogates is skipped; the greatest character has no successor.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            characters.push(next);
            break;
        }
    }
    characters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after_prefix("c/2024"), "c/2025");
        assert_eq!(after_prefix("c/\u{10ffff}"), "c0");
        assert!("c/2024/zzz" < after_prefix("c/2024").as_str());
    }

    #[test]
    fn ranges_cover_containers_or_prefixes() {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let whole = ranges(&strings(&["c"]), &[]);
        assert_eq!((text(&whole[0], "/minMatchingValue"), text(&whole[0], "/maxMatchingValue")), ("c", "c-0"));
        assert_eq!(ranges(&strings(&["a", "b"]), &strings(&["x", "y"])).len(), 4);
    }

    #[test]
    fn a_rename_needs_its_container() {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let criteria = paths(&strings(&["a", "b"]), &[], &strings(&["b=c"])).unwrap();
        assert_eq!((&criteria[0]["renameTo"], text(&criteria[1], "/renameTo")), (&Value::Null, "c"));
        assert!(paths(&strings(&["a"]), &[], &strings(&["b=c"])).is_err());
    }
}

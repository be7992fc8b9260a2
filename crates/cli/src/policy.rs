//! `blobkeep policy`: backup policies of a vault, from a few flags or from a JSON file in the API's own shape.

use std::path::PathBuf;

use anyhow::Context as _;
use blobkeep_vault::{Clock as _, Timestamp};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, version};
use crate::clock::SystemClock;
use crate::scope::{self, VaultScope, text};
use crate::{Outcome, UsageError, output};

/// The datasource type of blobs.
pub(crate) const BLOBS: &str = "Microsoft.Storage/storageAccounts/blobServices";
/// The name of the backup rule in policies made from flags, as Azure's own templates call it.
pub(crate) const DAILY_RULE: &str = "BackupDaily";

/// Backup policies: how often, and for how long
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  blobkeep policy create nightly -g backups --vault-name team --daily 02:00 --retention-days 30"
)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes or replaces a policy
    #[command(after_help = "\
Examples:
  blobkeep policy create nightly -g backups --vault-name team --daily 02:00 --retention-days 30 --time-zone Europe/Berlin
  blobkeep policy create continuous -g backups --vault-name team --operational-days 30
  blobkeep policy create weekly -g backups --vault-name team --from-file policy.json")]
    Create(CreateArgs),
    /// Tells what making the policy so would do to the points that are there; changes nothing
    #[command(after_help = "\
Example:
  blobkeep policy preview nightly -g backups --vault-name team --daily 02:00 --retention-days 7")]
    Preview(CreateArgs),
    /// Shows the policies of the vault
    #[command(after_help = "Example:\n  blobkeep policy list -g backups --vault-name team")]
    List(VaultScope),
    /// Shows one policy
    #[command(after_help = "Example:\n  blobkeep policy show nightly -g backups --vault-name team --output json")]
    Show(OneArgs),
    /// Removes a policy that nothing uses
    #[command(after_help = "Example:\n  blobkeep policy delete nightly -g backups --vault-name team")]
    Delete(OneArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The policy's name
    name: String,
    #[command(flatten)]
    scope: VaultScope,
    /// The policy as JSON, in the shape of the API (the whole body, or its `properties`)
    #[arg(long, value_name = "JSON", conflicts_with_all = ["daily", "retention_days", "operational_days", "time_zone"])]
    from_file: Option<PathBuf>,
    /// A backup into the vault every day at this time
    #[arg(long, value_name = "HH:MM", requires = "retention_days", value_parser = time_of_day)]
    daily: Option<String>,
    /// Days for which the vault keeps a daily point
    #[arg(long, value_name = "N", requires = "daily", value_parser = clap::value_parser!(u32).range(1..=3660))]
    retention_days: Option<u32>,
    /// Days back to which the account can be restored in place, to any instant (continuous backup)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=360))]
    operational_days: Option<u32>,
    /// The time zone of --daily, an IANA or Windows name [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "daily")]
    time_zone: Option<String>,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The policy's name
    name: String,
    #[command(flatten)]
    scope: VaultScope,
}

fn time_of_day(text: &str) -> Result<String, String> {
    let number = |part: &str, below: u8| {
        (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u8>().ok().filter(|n| *n < below))
            .flatten()
    };
    match text.split_once(':') {
        Some((hour, minute)) if number(hour, 24).is_some() && number(minute, 60).is_some() => Ok(text.to_owned()),
        _ => Err("give a time of day as HH:MM, 00:00 to 23:59".to_owned()),
    }
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: PolicyArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Create(args) => {
            let body = body(&args)?;
            let (client, vault) = args.scope.open()?;
            show(&args.scope, &put(&client, &vault, &args.name, &body).await?)?;
        }
        Verb::Preview(args) => preview(&args).await?,
        Verb::List(scope) => {
            let (client, vault) = scope.open()?;
            let policies = client.values(&format!("{vault}/backupPolicies"), version::DATA_PROTECTION).await?;
            let row = |policy: &Value| vec![text(policy, "/name").to_owned(), schedules(policy), retentions(policy)];
            scope::list(scope.format(), &policies, &["NAME", "SCHEDULE", "RETENTION"], row, "the vault has no policy")?;
        }
        Verb::Show(args) => {
            let (client, id) = open(&args)?;
            show(&args.scope, &client.get(&id, version::DATA_PROTECTION).await?)?;
        }
        Verb::Delete(args) => {
            let (client, id) = open(&args)?;
            client.delete(&id, version::DATA_PROTECTION).await?;
            scope::done(args.scope.format(), &id, "deleted")?;
        }
    }
    Ok(Outcome::Done)
}

async fn preview(args: &CreateArgs) -> anyhow::Result<()> {
    let body = body(args)?;
    let (client, vault) = args.scope.open()?;
    let id = format!("{vault}/backupPolicies/{}", scope::segment(&args.name)?);
    let path = format!("{id}/providers/Blobkeep.DataProtection/preview");
    let preview = client.post(&path, version::DATA_PROTECTION, &body).await?.body;
    if args.scope.format() == output::Format::Json {
        return output::json(&preview);
    }
    let count = |member: &str| output::count(preview.get(member).and_then(Value::as_u64).unwrap_or(0));
    let points = preview.get("points").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |point: &Value| {
        vec![
            scope::last_segment(text(point, "/instanceId")).to_owned(),
            text(point, "/recoveryPointId").to_owned(),
            scope::time(point, "/recoveryPointTime"),
            scope::time(point, "/expiryTime"),
            scope::time(point, "/newExpiryTime"),
            if point.get("wouldBeRemovedNow") == Some(&Value::Bool(true)) {
                "at once".to_owned()
            } else {
                String::new()
            },
        ]
    };
    let headers = ["INSTANCE", "POINT", "TIME", "EXPIRES", "WOULD EXPIRE", "REMOVED"];
    scope::list(args.scope.format(), &points, &headers, row, "no point would expire at another time")?;
    output::note(&format!(
        "{} of {} instances would expire at another time, {} of them at once",
        output::counted(preview.get("changedPoints").and_then(Value::as_u64).unwrap_or(0), "point"),
        count("affectedInstances"),
        count("removedNow"),
    ));
    Ok(())
}

fn open(args: &OneArgs) -> anyhow::Result<(Client, String)> {
    let (client, vault) = args.scope.open()?;
    Ok((client, format!("{vault}/backupPolicies/{}", scope::segment(&args.name)?)))
}

/// Makes or replaces a policy.
///
/// # Errors
/// What the service answers.
pub(crate) async fn put(client: &Client, vault_id: &str, name: &str, body: &Value) -> anyhow::Result<Value> {
    let id = format!("{vault_id}/backupPolicies/{}", scope::segment(name)?);
    Ok(client.put(&id, version::DATA_PROTECTION, body).await?.body)
}

fn body(args: &CreateArgs) -> anyhow::Result<Value> {
    if let Some(file) = &args.from_file {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the policy {shown}"))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("the policy {shown} is no JSON"))?;
        let is_whole =
            value.as_object().is_some_and(|members| members.keys().any(|name| name.eq_ignore_ascii_case("properties")));
        return Ok(if is_whole { value } else { json!({ "properties": value }) });
    }
    let mut rules = Vec::new();
    if let Some(days) = args.operational_days {
        rules.push(retention_rule("OperationalStore", days));
    }
    if let (Some(time), Some(days)) = (&args.daily, args.retention_days) {
        rules.push(retention_rule("VaultStore", days));
        rules.push(daily_rule(time, args.time_zone.as_deref().unwrap_or("UTC"), SystemClock.now()));
    }
    if rules.is_empty() {
        let text = "give --daily HH:MM with --retention-days N, or --operational-days N, or both, or --from-file JSON";
        return Err(UsageError(text.to_owned()).into());
    }
    Ok(policy_body(rules))
}

/// The body of a policy of these rules.
pub(crate) fn policy_body(rules: Vec<Value>) -> Value {
    json!({"properties": { "objectType": "BackupPolicy", "datasourceTypes": [BLOBS], "policyRules": rules }})
}

/// The default retention rule of a store.
pub(crate) fn retention_rule(store: &str, days: u32) -> Value {
    json!({
        "objectType": "AzureRetentionRule",
        "name": "Default",
        "isDefault": true,
        "lifecycles": [{
            "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": format!("P{days}D") },
            "sourceDataStore": { "objectType": "DataStoreInfoBase", "dataStoreType": store },
            "targetDataStoreCopySettings": [],
        }],
    })
}

/// A daily backup into the vault at `time` (`HH:MM`) of a zone, from today on.
pub(crate) fn daily_rule(time: &str, zone: &str, now: Timestamp) -> Value {
    let day = output::time(now).chars().take(10).collect::<String>();
    json!({
        "objectType": "AzureBackupRule",
        "name": DAILY_RULE,
        "backupParameters": { "objectType": "AzureBackupParams", "backupType": "Discrete" },
        "dataStore": { "objectType": "DataStoreInfoBase", "dataStoreType": "VaultStore" },
        "trigger": {
            "objectType": "ScheduleBasedTriggerContext",
            "schedule": { "repeatingTimeIntervals": [format!("R/{day}T{time}:00+00:00/P1D")], "timeZone": zone },
            "taggingCriteria": [{
                "isDefault": true,
                "taggingPriority": 99,
                "tagInfo": { "id": "Default_", "tagName": "Default" },
            }],
        },
    })
}

/// The rules of a policy of one kind.
pub(crate) fn rules<'a>(policy: &'a Value, object_type: &'a str) -> impl Iterator<Item = &'a Value> {
    let rules = policy.pointer("/properties/policyRules").and_then(Value::as_array);
    rules.into_iter().flatten().filter(move |rule| text(rule, "/objectType") == object_type)
}

fn schedules(policy: &Value) -> String {
    let intervals = rules(policy, "AzureBackupRule").flat_map(|rule| {
        let intervals = rule.pointer("/trigger/schedule/repeatingTimeIntervals").and_then(Value::as_array);
        intervals.into_iter().flatten().filter_map(Value::as_str)
    });
    let shown: Vec<&str> = intervals.collect();
    if shown.is_empty() { "continuous".to_owned() } else { shown.join(", ") }
}

fn retentions(policy: &Value) -> String {
    let shown = rules(policy, "AzureRetentionRule").map(|rule| {
        let part = |pointer| text(rule, pointer);
        format!(
            "{} {} {}",
            part("/lifecycles/0/sourceDataStore/dataStoreType"),
            part("/name"),
            part("/lifecycles/0/deleteAfter/duration")
        )
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn show(scope: &VaultScope, policy: &Value) -> anyhow::Result<()> {
    let lines =
        [("id", text(policy, "/id").to_owned()), ("schedule", schedules(policy)), ("retention", retentions(policy))];
    scope::show(scope.format(), policy, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_four_digits() {
        assert_eq!(time_of_day("02:30").unwrap(), "02:30");
        for bad in ["2:30", "24:00", "12:60", "noon", "+1:30"] {
            assert!(time_of_day(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_of_flags_is_readable_again() {
        let rules = vec![
            retention_rule("VaultStore", 30),
            daily_rule("02:00", "Europe/Berlin", Timestamp(1_800_000_000_000_000)),
        ];
        let policy = policy_body(rules);
        assert_eq!(schedules(&policy), "R/2027-01-15T02:00:00+00:00/P1D");
        assert_eq!(retentions(&policy), "VaultStore Default P30D");
    }
}

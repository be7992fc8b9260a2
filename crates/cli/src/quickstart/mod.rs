//! `blobkeep quickstart`: the whole story over real HTTPS against a service in this process: protect, back up, change and delete, restore
//! elsewhere, compare every byte. Each step says what happened in plain words. Ends well only if everything compared equal.

mod compare;
mod sample;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use blobkeep_vault::{Clock as _, Timestamp};
use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{ApiFailure, Client, version};
use crate::clock::SystemClock;
use crate::progress::{ProgressView, StopFlag, wait_for_signal};
use crate::scope::text;
use crate::{Outcome, instance, job, output, policy, recovery_point, restore, storage_account, vault};
use stage::{RESTORED, SAMPLE, Stage};

/// Where everything of the story is, to Azure's clients.
const LOCATION: &str = "westus";

/// Tells the whole story on this machine: protect, back up, damage, restore, compare every byte
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep quickstart
  blobkeep quickstart --keep                 goes on serving, to try things by hand
  blobkeep quickstart --source ~/documents   protects that folder instead of the built-in sample; it is only read")]
pub(crate) struct QuickstartArgs {
    /// Leaves the service running until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Protects this folder instead of the built-in sample; nothing in it is changed
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// The service's data folder; it stays [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Tells the story.
///
/// # Errors
/// The step that failed, and why.
pub(crate) async fn run(args: QuickstartArgs) -> anyhow::Result<Outcome> {
    output::line("Blobkeep quickstart: the whole story on this machine, every request over real HTTPS.\n")?;
    let mut steps = Steps::default();
    steps.begin();
    let stage =
        Stage::set(args.source.as_deref(), args.data_dir.as_deref()).await.context("the stage cannot be set")?;
    let told = tokio::select! {
        told = tell(&stage, &mut steps) => told,
        () = wait_for_signal() => Err(anyhow::anyhow!("stopped before the end of the story")),
    };
    let is_equal = match &told {
        Ok(is_equal) => *is_equal,
        Err(_) => false,
    };
    if told.is_ok() {
        say_how_to_go_on(&args, &stage, is_equal)?;
        if args.keep {
            output::line("\nThe service goes on until Ctrl-C.")?;
            wait_for_signal().await;
        }
    }
    let struck = stage.strike().await;
    told?;
    struck?;
    Ok(if is_equal { Outcome::Done } else { Outcome::Failed })
}

/// Prints numbered steps with the time each took.
#[derive(Default)]
struct Steps {
    number: u32,
    began: Option<Instant>,
}

impl Steps {
    fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// Says what the step did; the next one begins.
    fn done(&mut self, what: &str, more: &[String]) -> anyhow::Result<()> {
        self.number += 1;
        let took = self.began.map(|began| output::seconds(began.elapsed())).unwrap_or_default();
        output::line(format!("{:2}. {} ({took})", self.number, output::printable(what)))?;
        for line in more {
            output::line(format!("    {}", output::printable(line)))?;
        }
        self.begin();
        Ok(())
    }
}

/// The ids of the story.
struct Ids {
    group: String,
    source: String,
    target: String,
    vault: String,
    instance: String,
}

impl Ids {
    /// A group of its own for each run, so that a given data folder can hear the story again.
    fn new(subscription: &str) -> Self {
        let run = Uuid::new_v4().simple().to_string();
        let group = format!("/subscriptions/{subscription}/resourceGroups/quickstart-{}", &run[..8]);
        let account = |name: &str| format!("{group}/providers/Microsoft.Storage/storageAccounts/{name}");
        let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/quickstart");
        Self {
            source: account(SAMPLE),
            target: account(RESTORED),
            instance: format!("{vault}/backupInstances/{SAMPLE}"),
            vault,
            group,
        }
    }
}

/// All steps; whether everything compared equal.
async fn tell(stage: &Stage, steps: &mut Steps) -> anyhow::Result<bool> {
    let client = &stage.client;
    let ids = Ids::new(client.default_subscription());
    let stays = if stage.keeps_data { "" } else { " (temporary)" };
    steps.done(
        &format!("the service answers at {}", client.endpoint()),
        &[
            format!("its data folder is {}{stays}", stage.data_dir.display()),
            format!("to protect: {}", stage.accounts.description),
        ],
    )?;
    connect(stage, &ids, steps).await?;
    protect(stage, &ids, steps).await?;
    let first = back_up(stage, &ids, steps, "the first backup").await?;
    if let Some(emulator) = &stage.accounts.emulator {
        let changes = sample::change(emulator, SAMPLE)?;
        steps.done(
            "a bad afternoon in the account",
            &[format!(
                "{} overwritten, {} added, {} deleted (a whole container among them)",
                output::counted(changes.overwritten, "blob"),
                output::count(changes.added),
                output::count(changes.deleted)
            )],
        )?;
    }
    back_up(stage, &ids, steps, "a second backup, which reads only what changed").await?;
    restore_first(stage, &ids, steps, &first).await?;
    let comparison = compare::run(stage.accounts.expected.clone(), stage.accounts.restored.clone())
        .await
        .context("the accounts cannot be compared")?;
    let is_equal = comparison.differences.is_empty() && comparison.blobs > 0;
    let compared = format!("{}, {}", output::counted(comparison.blobs, "blob"), output::bytes(comparison.bytes));
    if is_equal {
        steps.done(
            &format!("every byte and property compared equal: {compared}"),
            &["what was restored is what was there before the first backup".to_owned()],
        )?;
    } else {
        steps.done(&format!("NOT equal, of {compared}"), &comparison.differences)?;
        if comparison.blobs == 0 {
            output::error("nothing was compared: there was no blob to protect");
        }
    }
    Ok(is_equal)
}

async fn connect(stage: &Stage, ids: &Ids, steps: &mut Steps) -> anyhow::Result<()> {
    let client = &stage.client;
    client.put(&ids.group, version::RESOURCES, &json!({ "location": LOCATION })).await?;
    for (id, connection) in [(&ids.source, &stage.accounts.source), (&ids.target, &stage.accounts.target)] {
        client.put(id, version::STORAGE, &storage_account::body(LOCATION, connection)).await?;
    }
    let connected =
        format!("two storage accounts are connected: {SAMPLE} (to protect), {RESTORED} (empty, to restore to)");
    steps.done(&connected, &[ids.source.clone(), ids.target.clone()])?;
    vault::create(client, &ids.vault, LOCATION).await?;
    let now = SystemClock.now();
    let rules = vec![policy::retention_rule("VaultStore", 30), policy::daily_rule(&far_time_of_day(now), "UTC", now)];
    policy::put(client, &ids.vault, "daily", &policy::policy_body(rules)).await?;
    steps.done("a backup vault with an identity of its own, and a policy: daily, kept for 30 days", &[])
}

/// Half a day from now: the schedule does not join in while the story is told.
fn far_time_of_day(now: Timestamp) -> String {
    let hour = (now.0.div_euclid(3_600_000_000) + 12).rem_euclid(24);
    format!("{hour:02}:00")
}

async fn protect(stage: &Stage, ids: &Ids, steps: &mut Steps) -> anyhow::Result<()> {
    let client = &stage.client;
    let datasource = instance::datasource(client, &ids.source).await?;
    let parameters = match &stage.accounts.containers {
        Some(containers) => json!({ "objectType": "BlobBackupDatasourceParameters", "containersList": containers }),
        None => instance::all_containers(),
    };
    let policy_id = format!("{}/backupPolicies/daily", ids.vault);
    let properties = instance::instance_properties(datasource, &policy_id, SAMPLE, Some(parameters));
    let refused = match instance::validate(client, &ids.vault, &properties).await {
        Ok(()) => bail!("the account was accepted although the vault has no right on it"),
        Err(error) => error.downcast::<ApiFailure>()?,
    };
    if refused.code != "UserErrorMissingRequiredPermissions" {
        return Err(refused).context("the account should have been refused for a missing permission");
    }
    steps.done(
        "may the vault protect the account? Refused, as it must be:",
        &[format!("{}: {}", refused.code, refused.message)],
    )?;
    for account in [&ids.source, &ids.target] {
        vault::grant(client, &ids.vault, account).await?;
    }
    instance::validate(client, &ids.vault, &properties).await.context("the account is refused in spite of the role")?;
    steps.done("with the role Storage Account Backup Contributor for the vault's identity: accepted", &[])?;
    let protected =
        instance::protect(client, &ids.instance, &properties).await.context("the account cannot be protected")?;
    let state = text(&protected, "/properties/currentProtectionState");
    if state != "ProtectionConfigured" {
        bail!("the account should be protected, and its state is {state}");
    }
    steps.done("the account is protected: ProtectionConfigured", &[])
}

/// Makes a point; its id.
async fn back_up(stage: &Stage, ids: &Ids, steps: &mut Steps, what: &str) -> anyhow::Result<String> {
    let client = &stage.client;
    let stored_before = folder_bytes(&stage.data_dir.join("vaults"));
    if let Some(emulator) = &stage.accounts.emulator {
        emulator.clear_requests();
    }
    let job_id = instance::begin_backup(client, &ids.instance, policy::DAILY_RULE).await?;
    let job = follow(client, &job_id, "backup").await?;
    let point = recovery_point::find(client, &ids.instance, "latest").await?;
    let stored = folder_bytes(&stage.data_dir.join("vaults")).saturating_sub(stored_before);
    let mut more = vec![told_by(&job)];
    if let Some(emulator) = &stage.accounts.emulator {
        let (reads, lists) = (emulator.count("GetBlob") as u64, emulator.count("ListBlobs") as u64);
        more.push(format!(
            "the account saw {} and {}",
            output::counted(reads, "blob read"),
            output::counted(lists, "listing page")
        ));
    }
    more.push(format!("the vault grew by {} on disk", output::bytes(stored)));
    let point_id = text(&point, "/name").to_owned();
    more.push(format!("recovery point {point_id}"));
    more.retain(|line| !line.is_empty());
    steps.done(what, &more)?;
    Ok(point_id)
}

async fn restore_first(stage: &Stage, ids: &Ids, steps: &mut Steps, point: &str) -> anyhow::Result<()> {
    let client = &stage.client;
    let target = instance::datasource(client, &ids.target).await?;
    let job_id = restore::begin(client, &ids.instance, &restore::whole_point(point, &target)).await?;
    let job = follow(client, &job_id, "restore").await?;
    let place = match &stage.accounts.restored_folder {
        Some(folder) => format!("the folder {}", folder.display()),
        None => format!("the account {RESTORED}"),
    };
    let more: Vec<String> = [told_by(&job)].into_iter().filter(|line| !line.is_empty()).collect();
    steps.done(&format!("the first point is restored to {place}"), &more)
}

/// Waits for a job, which must complete.
async fn follow(client: &Client, job_id: &str, label: &str) -> anyhow::Result<Value> {
    let view = ProgressView::new(label, StopFlag::default());
    let job = client.wait_for_job(job_id, &view).await?;
    view.finish();
    if job::has_succeeded(&job) {
        return Ok(job);
    }
    let status = text(&job, "/properties/status");
    bail!("the {label} ended as {status}: {}", job::errors(&job).join("; "))
}

/// What a job says about its size, as far as it says anything.
fn told_by(job: &Value) -> String {
    let number = |name: &str| {
        let value = job.pointer(&format!("/properties/extendedInfo/additionalDetails/{name}"))?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let mut parts = Vec::new();
    if let (Some(blobs), Some(bytes)) = (number("Blobs"), number("Bytes")) {
        parts.push(format!("the point holds {}, {}", output::counted(blobs, "blob"), output::bytes(bytes)));
    }
    if let (Some(blobs), Some(bytes)) = (number("ReadBlobs"), number("ReadBytes")) {
        parts.push(format!("{} with {} were read", output::counted(blobs, "blob"), output::bytes(bytes)));
    }
    if let Some(skipped) = number("SkippedBlobs").filter(|skipped| *skipped > 0) {
        parts.push(format!("{} left out", output::counted(skipped, "blob")));
    }
    if let (Some(blobs), Some(bytes)) = (number("WrittenBlobs"), number("WrittenBytes")) {
        parts.push(format!("{} with {} were written", output::counted(blobs, "blob"), output::bytes(bytes)));
    }
    parts.join("; ")
}

/// The size of all files below a folder; what cannot be seen counts nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn say_how_to_go_on(args: &QuickstartArgs, stage: &Stage, is_equal: bool) -> anyhow::Result<()> {
    let took = if is_equal { "Everything is as it should be." } else { "Something is NOT as it should be: see above." };
    output::line(format!("\n{took} How to go on:"))?;
    let data_dir = stage.data_dir.display();
    if args.keep {
        output::line(format!(
            "  eval \"$(blobkeep env --data-dir {data_dir})\"      addresses and credentials for SDKs and scripts\n  \
             eval \"$(blobkeep env --data-dir {data_dir} --format az)\"      signs the az CLI in\n  \
             blobkeep vault list --data-dir {data_dir}\n  \
             the API is Azure's, at {}",
            stage.client.endpoint()
        ))?;
        if let Some(folder) = &stage.accounts.restored_folder {
            output::line(format!("  what was restored lies in {}", folder.display()))?;
        }
        if let Some(emulator) = &stage.accounts.emulator {
            for account in [SAMPLE, RESTORED] {
                output::line(format!("  the account {account} is at {}", emulator.account_url(account)))?;
            }
        }
        return Ok(());
    }
    output::line(
        "  blobkeep quickstart --keep         the same, and the service stays to try things by hand\n  \
         blobkeep serve                     the service for good; then `eval \"$(blobkeep env)\"`\n  \
         blobkeep storage-account add …     connects a real account\n  \
         blobkeep offline init …            a vault without any service",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_half_a_day_away() {
        assert_eq!(far_time_of_day(Timestamp(0)), "12:00");
        assert_eq!(far_time_of_day(Timestamp(13 * 3_600_000_000)), "01:00");
    }

    #[test]
    fn a_job_tells_its_numbers_if_it_has_any() {
        assert_eq!(told_by(&json!({"properties": {"extendedInfo": null}})), "");
        let details = json!({"Blobs": "2", "Bytes": "2048", "ReadBlobs": "1", "ReadBytes": "10"});
        let job = json!({"properties": {"extendedInfo": {"additionalDetails": details}}});
        assert_eq!(told_by(&job), "the point holds 2 blobs, 2.0 KiB; 1 blob with 10 B were read");
    }
}

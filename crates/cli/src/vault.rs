//! `blobkeep vault`: backup vaults, and the role that a vault's identity needs on an account.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{ApiFailure, Client, version};
use crate::scope::{self, GroupArgs, ServiceArgs, text};
use crate::{Outcome, output};

/// `Storage Account Backup Contributor`, the role by which a vault's identity backs up and restores.
pub(crate) const BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";

/// Backup vaults
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blobkeep vault create team -g backups --location westus --create-group")]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a backup vault with an identity of its own
    #[command(after_help = "Example:\n  blobkeep vault create team -g backups --location westus --create-group")]
    Create(CreateArgs),
    /// Shows the vaults of a resource group or subscription
    #[command(after_help = "Example:\n  blobkeep vault list -g backups")]
    List(ListArgs),
    /// Shows one vault
    #[command(after_help = "Example:\n  blobkeep vault show team -g backups --output json")]
    Show(OneArgs),
    /// Removes an empty vault
    #[command(after_help = "Example:\n  blobkeep vault delete team -g backups")]
    Delete(OneArgs),
    /// Lets the vault's identity back up and restore a storage account (Storage Account Backup Contributor)
    #[command(after_help = "Example:\n  blobkeep vault grant team -g backups --account $ACCOUNT_ID")]
    Grant(GrantArgs),
    /// Proves that everything the vault promises can be read; ends with code 1 if something is damaged
    #[command(after_help = "\
Examples:
  blobkeep vault verify team -g backups
  blobkeep vault verify team -g backups --percent 4     # every day: all of it each month")]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Only the structure: content is not read
    #[arg(long, conflicts_with = "percent")]
    structure: bool,
    /// Reads only this share of the packs, those that were read longest ago first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: Option<u8>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The vault's name
    name: String,
    #[command(flatten)]
    group: GroupArgs,
    /// The vault's location; it protects accounts of the same location
    #[arg(long, short = 'l', value_name = "L")]
    location: String,
    /// Makes the resource group if it is missing
    #[arg(long)]
    create_group: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The subscription [default: the service's first, or AZURE_SUBSCRIPTION_ID]
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Only of this resource group
    #[arg(long, short = 'g', value_name = "GROUP")]
    resource_group: Option<String>,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The vault's name
    name: String,
    #[command(flatten)]
    group: GroupArgs,
}

#[derive(Debug, Args)]
struct GrantArgs {
    /// The vault's name
    name: String,
    #[command(flatten)]
    group: GroupArgs,
    /// The storage account's ARM id
    #[arg(long, value_name = "ARM_ID")]
    account: String,
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let client = args.one.group.service.client()?;
    let id = args.one.group.vault_id(&client, &args.one.name)?;
    let actions = format!("{id}/providers/Blobkeep.DataProtection");
    let depth = if args.structure { "Structure" } else { "Bytes" };
    let body = json!({ "depth": depth, "percent": args.percent });
    let accepted = client.post(&format!("{actions}/verify"), version::DATA_PROTECTION, &body).await?;
    client.finish(&accepted).await?;
    let report = client.get(&format!("{actions}/verification"), version::DATA_PROTECTION).await?;
    let count = |member: &str| report.get(member).and_then(Value::as_u64).unwrap_or(0);
    let is_sound = report.get("isSound") == Some(&Value::Bool(true));
    let packs = format!("{} of {}", output::count(count("packs")), output::count(count("packsInAll")));
    let lines = [
        ("points", output::count(count("recoveryPoints"))),
        ("blobs", output::count(count("blobs"))),
        ("packs read", packs),
        ("damaged", output::count(count("damageInAll"))),
        ("lost blobs", output::count(count("lostBlobs"))),
    ];
    scope::show(args.one.group.service.output, &report, &lines)?;
    for found in ["damage", "lost"].into_iter().filter_map(|member| report.get(member)?.as_array()).flatten() {
        output::error(&output::printable(found.as_str().unwrap_or_default()));
    }
    Ok(if is_sound { Outcome::Done } else { Outcome::Failed })
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: VaultArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Create(args) => {
            let client = args.group.service.client()?;
            if args.create_group {
                scope::ensure_group(&client, &args.group.id(&client)?, &args.location).await?;
            }
            let id = args.group.vault_id(&client, &args.name)?;
            show(&args.group, &create(&client, &id, &args.location).await?)?;
        }
        Verb::List(args) => list(args).await?,
        Verb::Verify(args) => return verify(&args).await,
        Verb::Show(args) => {
            let client = args.group.service.client()?;
            let id = args.group.vault_id(&client, &args.name)?;
            show(&args.group, &client.get(&id, version::DATA_PROTECTION).await?)?;
        }
        Verb::Delete(args) => {
            let client = args.group.service.client()?;
            let id = args.group.vault_id(&client, &args.name)?;
            let accepted = client.delete(&id, version::DATA_PROTECTION).await?;
            client.finish(&accepted).await?;
            scope::done(args.group.service.output, &id, "deleted")?;
        }
        Verb::Grant(args) => {
            let client = args.group.service.client()?;
            let id = args.group.vault_id(&client, &args.name)?;
            let account = scope::account_id(&args.account)?;
            let is_new = grant(&client, &id, &account).await?;
            let change = if is_new {
                "the vault's identity may now back up"
            } else {
                "the vault's identity could already back up"
            };
            scope::done(args.group.service.output, &account, change)?;
        }
    }
    Ok(Outcome::Done)
}

/// Makes a vault with a system-assigned identity, and waits for it.
///
/// # Errors
/// What the service answers.
pub(crate) async fn create(client: &Client, id: &str, location: &str) -> anyhow::Result<Value> {
    let body = json!({
        "location": location,
        "identity": { "type": "SystemAssigned" },
        "properties": { "storageSettings": [{ "datastoreType": "VaultStore", "type": "LocallyRedundant" }] },
    });
    let accepted = client.put(id, version::DATA_PROTECTION, &body).await?;
    client.finish(&accepted).await?;
    client.get(id, version::DATA_PROTECTION).await
}

/// Assigns the vault's identity the role that it needs on an account; `false` if it has it already.
///
/// # Errors
/// What the service answers, or a vault without an identity.
pub(crate) async fn grant(client: &Client, vault_id: &str, account_id: &str) -> anyhow::Result<bool> {
    let vault = client.get(vault_id, version::DATA_PROTECTION).await?;
    let principal = text(&vault, "/identity/principalId");
    if principal.is_empty() {
        anyhow::bail!("the vault has no system-assigned identity: `blobkeep vault create` gives it one");
    }
    let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{BACKUP_CONTRIBUTOR}");
    let path = format!("{account_id}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::new_v4());
    let body = json!({"properties": {
        "roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal",
    }});
    match client.put(&path, version::AUTHORIZATION, &body).await {
        Ok(_) => Ok(true),
        Err(error) if error.downcast_ref::<ApiFailure>().is_some_and(|e| e.code == "RoleAssignmentExists") => Ok(false),
        Err(error) => Err(error),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.service.client()?;
    let mut path = format!("/subscriptions/{}", scope::subscription(args.subscription.as_deref(), &client)?);
    if let Some(group) = &args.resource_group {
        path.push_str(&format!("/resourceGroups/{}", scope::segment(group)?));
    }
    path.push_str("/providers/Microsoft.DataProtection/backupVaults");
    let vaults = client.values(&path, version::DATA_PROTECTION).await?;
    let row = |vault: &Value| {
        ["/name", "/location", "/properties/provisioningState", "/id"]
            .map(|pointer| text(vault, pointer).to_owned())
            .to_vec()
    };
    scope::list(args.service.output, &vaults, &["NAME", "LOCATION", "STATE", "ID"], row, "there is no vault")
}

fn show(group: &GroupArgs, vault: &Value) -> anyhow::Result<()> {
    let line = |name, pointer| (name, text(vault, pointer).to_owned());
    scope::show(
        group.service.output,
        vault,
        &[
            line("id", "/id"),
            line("location", "/location"),
            line("state", "/properties/provisioningState"),
            line("soft delete", "/properties/securitySettings/softDeleteSettings/state"),
            line("identity", "/identity/principalId"),
        ],
    )?;
    if text(vault, "/identity/principalId").is_empty() {
        output::note("note: the vault has no identity yet; backups run with its identity's rights");
    }
    Ok(())
}

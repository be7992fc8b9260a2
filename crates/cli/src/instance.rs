//! `blobkeep instance`: backup instances, that is accounts under protection, and backups on demand.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{ApiFailure, Client, version};
use crate::policy::{BLOBS, rules};
use crate::scope::{self, VaultScope, last_segment, text};
use crate::{Outcome, job, output};

/// Backup instances: storage accounts under protection
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  blobkeep instance create photos -g backups --vault-name team --policy nightly --account $ACCOUNT_ID"
)]
pub(crate) struct InstanceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Checks whether an account could be protected, and changes nothing
    #[command(
        after_help = "Example:\n  blobkeep instance validate -g backups --vault-name team --policy nightly --account $ACCOUNT_ID"
    )]
    Validate(ProtectArgs),
    /// Protects an account by a policy
    #[command(after_help = "\
Examples:
  blobkeep instance create -g backups --vault-name team --policy nightly --account $ACCOUNT_ID
  blobkeep instance create -g backups --vault-name team --policy nightly --account $ACCOUNT_ID --container photos")]
    Create(ProtectArgs),
    /// Shows the backup instances of the vault
    #[command(
        after_help = "Example:\n  blobkeep instance list -g backups --vault-name team\n  blobkeep instance list -g backups --vault-name team --deleted"
    )]
    List(ListArgs),
    /// Shows one backup instance
    #[command(after_help = "Example:\n  blobkeep instance show photos -g backups --vault-name team --output json")]
    Show(OneArgs),
    /// Ends the protection; the points stay as long as soft delete says
    #[command(after_help = "Example:\n  blobkeep instance delete photos -g backups --vault-name team")]
    Delete(OneArgs),
    /// Takes a deletion back
    #[command(after_help = "Example:\n  blobkeep instance undelete photos -g backups --vault-name team")]
    Undelete(OneArgs),
    /// Makes a recovery point now
    #[command(after_help = "Example:\n  blobkeep instance backup photos -g backups --vault-name team --wait")]
    Backup(BackupArgs),
}

#[derive(Debug, Args)]
struct ProtectArgs {
    /// The instance's name [default: the account's name twice and a GUID, as az does it]
    name: Option<String>,
    #[command(flatten)]
    scope: VaultScope,
    /// The policy's name
    #[arg(long, value_name = "NAME")]
    policy: String,
    /// The storage account's ARM id
    #[arg(long, value_name = "ARM_ID")]
    account: String,
    /// Only this container (again for more)
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    container: Vec<String>,
    /// All containers, also those that are made later
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    scope: VaultScope,
    /// The deleted ones that can still be taken back
    #[arg(long)]
    deleted: bool,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The instance's name
    name: String,
    #[command(flatten)]
    scope: VaultScope,
}

#[derive(Debug, Args)]
struct BackupArgs {
    /// The instance's name
    name: String,
    #[command(flatten)]
    scope: VaultScope,
    /// The backup rule of the policy [default: its first]
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Waits for the end of the backup
    #[arg(long)]
    wait: bool,
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: InstanceArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Validate(args) => {
            let (client, vault) = args.scope.open()?;
            let name = name_for(&args)?;
            let properties = properties(&client, &vault, &args, &name).await?;
            validate(&client, &vault, &properties).await?;
            scope::done(args.scope.format(), &scope::account_id(&args.account)?, "can be protected:")?;
        }
        Verb::Create(args) => {
            let (client, vault) = args.scope.open()?;
            let name = name_for(&args)?;
            let properties = properties(&client, &vault, &args, &name).await?;
            let id = format!("{vault}/backupInstances/{}", scope::segment(&name)?);
            show(&args.scope, &protect(&client, &id, &properties).await?)?;
        }
        Verb::List(args) => list(&args).await?,
        Verb::Show(args) => {
            let (client, id) = open(&args.scope, &args.name)?;
            show(&args.scope, &client.get(&id, version::DATA_PROTECTION).await?)?;
        }
        Verb::Delete(args) => {
            let (client, id) = open(&args.scope, &args.name)?;
            let accepted = client.delete(&id, version::DATA_PROTECTION).await?;
            client.finish(&accepted).await?;
            scope::done(args.scope.format(), &id, "deleted")?;
        }
        Verb::Undelete(args) => {
            let (client, vault) = args.scope.open()?;
            let path = format!("{vault}/deletedBackupInstances/{}/undelete", scope::segment(&args.name)?);
            let accepted = client.post(&path, version::DATA_PROTECTION, &json!({})).await?;
            client.finish(&accepted).await?;
            scope::done(args.scope.format(), &args.name, "undeleted")?;
        }
        Verb::Backup(args) => return back_up(&args).await,
    }
    Ok(Outcome::Done)
}

/// A client, and the id of an instance.
///
/// # Errors
/// No service or subscription is named.
pub(crate) fn open(scope: &VaultScope, name: &str) -> anyhow::Result<(Client, String)> {
    let (client, vault) = scope.open()?;
    Ok((client, format!("{vault}/backupInstances/{}", scope::segment(name)?)))
}

fn name_for(args: &ProtectArgs) -> anyhow::Result<String> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let id = scope::account_id(&args.account)?;
    let account = last_segment(&id);
    Ok(format!("{account}-{account}-{}", Uuid::new_v4()))
}

/// The body of an account as a datasource or restore target.
///
/// # Errors
/// What the service answers about the account.
pub(crate) async fn datasource(client: &Client, account_id: &str) -> anyhow::Result<Value> {
    let account = client.get(account_id, version::STORAGE).await?;
    Ok(json!({
        "objectType": "Datasource",
        "resourceID": account_id,
        "resourceName": last_segment(account_id),
        "resourceType": "Microsoft.Storage/storageAccounts",
        "resourceUri": account_id,
        "resourceLocation": text(&account, "/location"),
        "datasourceType": BLOBS,
    }))
}

/// The properties of an instance.
pub(crate) fn instance_properties(datasource: Value, policy_id: &str, name: &str, parameters: Option<Value>) -> Value {
    let mut policy = json!({ "policyId": policy_id });
    if let Some(parameters) = parameters {
        policy["policyParameters"] =
            json!({ "dataStoreParametersList": [], "backupDatasourceParametersList": [parameters] });
    }
    json!({
        "objectType": "BackupInstance",
        "friendlyName": name,
        "dataSourceInfo": datasource,
        "policyInfo": policy,
    })
}

/// Parameters that choose all containers, also future ones.
pub(crate) fn all_containers() -> Value {
    json!({
        "objectType": "BlobBackupDatasourceParametersForAutoProtection",
        "autoProtectionSettings": {
            "objectType": "BlobBackupRuleBasedAutoProtectionSettings",
            "enabled": true,
            "rules": [],
        },
    })
}

async fn properties(client: &Client, vault: &str, args: &ProtectArgs, name: &str) -> anyhow::Result<Value> {
    let datasource = datasource(client, &scope::account_id(&args.account)?).await?;
    let policy_id = format!("{vault}/backupPolicies/{}", scope::segment(&args.policy)?);
    let parameters = if !args.container.is_empty() {
        Some(json!({ "objectType": "BlobBackupDatasourceParameters", "containersList": args.container }))
    } else if args.all {
        Some(all_containers())
    } else {
        None
    };
    Ok(instance_properties(datasource, &policy_id, name, parameters))
}

/// Asks whether an instance could be protected.
///
/// # Errors
/// [`ApiFailure`] saying why not.
pub(crate) async fn validate(client: &Client, vault_id: &str, properties: &Value) -> anyhow::Result<()> {
    let body = json!({ "backupInstance": properties });
    let accepted = client.post(&format!("{vault_id}/validateForBackup"), version::DATA_PROTECTION, &body).await?;
    client.finish(&accepted).await?;
    Ok(())
}

/// Configures an instance and waits until it is protected.
///
/// # Errors
/// [`ApiFailure`] saying why it cannot be.
pub(crate) async fn protect(client: &Client, id: &str, properties: &Value) -> anyhow::Result<Value> {
    let accepted = client.put(id, version::DATA_PROTECTION, &json!({ "properties": properties })).await?;
    client.finish(&accepted).await?;
    loop {
        let instance = client.get(id, version::DATA_PROTECTION).await?;
        match text(&instance, "/properties/currentProtectionState") {
            "ConfiguringProtection" | "UpdatingProtection" => {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
            "ConfiguringProtectionFailed" | "ProtectionError" => {
                let error = instance.pointer("/properties/protectionErrorDetails").cloned().unwrap_or_default();
                return Err(ApiFailure::from_error(&error, None).into());
            }
            _ => return Ok(instance),
        }
    }
}

/// Begins a backup; the id of its job.
///
/// # Errors
/// What the service answers.
pub(crate) async fn begin_backup(client: &Client, id: &str, rule: &str) -> anyhow::Result<String> {
    let body = json!({"backupRuleOptions": { "ruleName": rule, "triggerOption": {} }});
    let accepted = client.post(&format!("{id}/backup"), version::DATA_PROTECTION, &body).await?;
    job::id_of(&client.finish(&accepted).await?)
}

async fn back_up(args: &BackupArgs) -> anyhow::Result<Outcome> {
    let (client, id) = open(&args.scope, &args.name)?;
    let rule = match &args.rule {
        Some(rule) => rule.clone(),
        None => first_rule(&client, &id).await?,
    };
    let job_id = begin_backup(&client, &id, &rule).await?;
    job::after_begin(&client, args.scope.format(), &job_id, "backup", args.wait).await
}

async fn first_rule(client: &Client, instance_id: &str) -> anyhow::Result<String> {
    let instance = client.get(instance_id, version::DATA_PROTECTION).await?;
    let policy_id = text(&instance, "/properties/policyInfo/policyId");
    let policy = client.get(policy_id, version::DATA_PROTECTION).await?;
    match rules(&policy, "AzureBackupRule").next() {
        Some(rule) => Ok(text(rule, "/name").to_owned()),
        None => bail!(
            "the policy {} has no backup rule: it protects continuously, and nothing is begun by hand",
            last_segment(policy_id)
        ),
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let (client, vault) = args.scope.open()?;
    let kind = if args.deleted { "deletedBackupInstances" } else { "backupInstances" };
    let instances = client.values(&format!("{vault}/{kind}"), version::DATA_PROTECTION).await?;
    let row = |instance: &Value| {
        vec![
            text(instance, "/name").to_owned(),
            text(instance, "/properties/currentProtectionState").to_owned(),
            last_segment(text(instance, "/properties/policyInfo/policyId")).to_owned(),
            text(instance, "/properties/dataSourceInfo/resourceID").to_owned(),
        ]
    };
    let if_empty = if args.deleted { "no deleted instance can be taken back" } else { "the vault protects nothing" };
    scope::list(args.scope.format(), &instances, &["NAME", "STATE", "POLICY", "ACCOUNT"], row, if_empty)
}

fn show(scope: &VaultScope, instance: &Value) -> anyhow::Result<()> {
    let line = |name, pointer| (name, text(instance, pointer).to_owned());
    let error = instance.pointer("/properties/protectionErrorDetails").filter(|error| error.is_object());
    scope::show(
        scope.format(),
        instance,
        &[
            line("id", "/id"),
            line("state", "/properties/currentProtectionState"),
            line("account", "/properties/dataSourceInfo/resourceID"),
            line("policy", "/properties/policyInfo/policyId"),
            ("error", error.map(|error| ApiFailure::from_error(error, None).to_string()).unwrap_or_default()),
        ],
    )?;
    if text(instance, "/properties/currentProtectionState") == "ProtectionStopped" {
        output::note("note: protection is stopped: points are kept and no backup is made");
    }
    Ok(())
}

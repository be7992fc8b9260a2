//! `blobkeep storage-account`: says where the blobs of a storage account are. Secrets go to the service, which seals them; none is shown.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::version;
use crate::scope::{self, ServiceArgs, text};
use crate::{Outcome, UsageError, secret};

/// Connects storage accounts: where their blobs are, and by what right
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  blobkeep storage-account add $ACCOUNT_ID --location westus --connection-string env:CONNECTION_STRING"
)]
pub(crate) struct StorageAccountArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Connects a storage account, or changes its connection
    #[command(after_help = "\
Examples:
  blobkeep storage-account add $ACCOUNT_ID --location westus --connection-string env:CONNECTION_STRING
  blobkeep storage-account add $ACCOUNT_ID --location westus --url https://acc.blob.core.windows.net --key file:acc.key
  blobkeep storage-account add $ACCOUNT_ID --location westus --url file:///srv/nas      (below `local_roots` of the configuration)
with ACCOUNT_ID=/subscriptions/…/resourceGroups/…/providers/Microsoft.Storage/storageAccounts/NAME")]
    Add(AddArgs),
    /// Shows the connected storage accounts
    #[command(after_help = "Example:\n  blobkeep storage-account list --output json")]
    List(ListArgs),
    /// Shows one storage account
    #[command(after_help = "Example:\n  blobkeep storage-account show $ACCOUNT_ID")]
    Show(OneArgs),
    /// Forgets a storage account; its blobs and its backups stay
    #[command(after_help = "Example:\n  blobkeep storage-account remove $ACCOUNT_ID")]
    Remove(OneArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The account's ARM id
    #[arg(value_name = "ARM_ID")]
    id: String,
    /// The account's location; a vault protects accounts of its own location
    #[arg(long, short = 'l', value_name = "L")]
    location: String,
    /// Address and key in one (a secret: env:NAME, file:PATH or -)
    #[arg(long, value_name = "S", conflicts_with_all = ["url", "key", "sas"], required_unless_present = "url")]
    connection_string: Option<String>,
    /// Where the blobs are: an Azure Blob endpoint, s3://…, or file:///…
    #[arg(long, value_name = "U")]
    url: Option<String>,
    /// The account key (a secret: env:NAME, file:PATH or -)
    #[arg(long, value_name = "K", requires = "url", conflicts_with = "sas")]
    key: Option<String>,
    /// A shared access signature (a secret: env:NAME, file:PATH or -)
    #[arg(long, value_name = "T", requires = "url")]
    sas: Option<String>,
    /// Makes the resource group of the id if it is missing
    #[arg(long)]
    create_group: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this resource group
    #[arg(long, short = 'g', value_name = "GROUP")]
    resource_group: Option<String>,
    /// The subscription [default: the service's first, or AZURE_SUBSCRIPTION_ID]
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The account's ARM id
    #[arg(value_name = "ARM_ID")]
    id: String,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: StorageAccountArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Add(args) => add(args).await?,
        Verb::List(args) => list(args).await?,
        Verb::Show(args) => {
            let account = args.service.client()?.get(&scope::account_id(&args.id)?, version::STORAGE).await?;
            show(&args.service, &account)?;
        }
        Verb::Remove(args) => {
            let id = scope::account_id(&args.id)?;
            args.service.client()?.delete(&id, version::STORAGE).await?;
            scope::done(args.service.output, &id, "removed")?;
        }
    }
    Ok(Outcome::Done)
}

/// The body that connects an account; `connection` is the value of `properties.connection`.
pub(crate) fn body(location: &str, connection: &Value) -> Value {
    json!({
        "location": location,
        "kind": "StorageV2",
        "sku": { "name": "Standard_LRS" },
        "properties": { "connection": connection },
    })
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let id = scope::account_id(&args.id)?;
    let connection = connection(&args)?;
    let client = args.service.client()?;
    if args.create_group
        && let Some((group, _)) = id.split_once("/providers/")
    {
        scope::ensure_group(&client, group, &args.location).await?;
    }
    let answer = client.put(&id, version::STORAGE, &body(&args.location, &connection)).await?;
    show(&args.service, &answer.body)
}

/// `properties.connection` of the flags, its secrets read.
fn connection(args: &AddArgs) -> anyhow::Result<Value> {
    if let Some(given) = &args.connection_string {
        let connection_string = secret::read(given, "--connection-string")?;
        return Ok(json!({ "kind": "AzureBlob", "connectionString": connection_string }));
    }
    let url = args.url.as_deref().unwrap_or_default();
    if url.starts_with("file://") {
        if args.key.is_some() || args.sas.is_some() {
            return Err(UsageError("--url file:///… takes neither --key nor --sas".to_owned()).into());
        }
        return Ok(json!({ "kind": "LocalFolder", "url": url }));
    }
    if url.starts_with("s3://") {
        return Ok(json!({ "kind": "S3", "url": url }));
    }
    if let Some(key) = &args.key {
        return Ok(json!({ "kind": "AzureBlob", "url": url, "accountKey": secret::read(key, "--key")? }));
    }
    match (&args.sas, url.split_once('?')) {
        (Some(sas), _) => Ok(json!({ "kind": "AzureBlob", "url": url, "sasToken": secret::read(sas, "--sas")? })),
        (None, Some((address, sas))) => {
            let sas = secret::read(sas, "the SAS in --url")?;
            Ok(json!({ "kind": "AzureBlob", "url": address, "sasToken": sas }))
        }
        (None, None) => Err(UsageError("--url of a Blob endpoint needs --key or --sas".to_owned()).into()),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.service.client()?;
    let mut path = format!("/subscriptions/{}", scope::subscription(args.subscription.as_deref(), &client)?);
    if let Some(group) = &args.resource_group {
        path.push_str(&format!("/resourceGroups/{}", scope::segment(group)?));
    }
    path.push_str("/providers/Microsoft.Storage/storageAccounts");
    let accounts = client.values(&path, version::STORAGE).await?;
    let row = |account: &Value| {
        ["/name", "/location", "/properties/connection/kind", "/properties/connection/url", "/id"]
            .map(|pointer| text(account, pointer).to_owned())
            .to_vec()
    };
    scope::list(
        args.service.output,
        &accounts,
        &["NAME", "LOCATION", "KIND", "URL", "ID"],
        row,
        "no storage account is connected",
    )
}

fn show(service: &ServiceArgs, account: &Value) -> anyhow::Result<()> {
    let line = |name, pointer| (name, text(account, pointer).to_owned());
    scope::show(
        service.output,
        account,
        &[
            line("id", "/id"),
            line("location", "/location"),
            line("kind", "/properties/connection/kind"),
            line("url", "/properties/connection/url"),
        ],
    )
}

//! What client commands share: the flags that name a service and a scope, ARM ids, and small readers of answered JSON.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use crate::client::{Client, version};
use crate::output::{self, Format};

/// Which service, and how results are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceArgs {
    /// The data folder of a service on this machine; without it the variables of `blobkeep env`, then the default folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl ServiceArgs {
    /// A client of the service.
    ///
    /// # Errors
    /// No service is named.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::find(self.data_dir.as_deref())
    }
}

/// A resource group.
#[derive(Debug, Clone, Args)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    /// The subscription [default: the service's first, or AZURE_SUBSCRIPTION_ID]
    #[arg(long, value_name = "ID")]
    pub(crate) subscription: Option<String>,
    /// The resource group
    #[arg(long, short = 'g', value_name = "GROUP")]
    pub(crate) resource_group: String,
}

impl GroupArgs {
    /// The group's ARM id.
    ///
    /// # Errors
    /// No subscription is named.
    pub(crate) fn id(&self, client: &Client) -> anyhow::Result<String> {
        let subscription = subscription(self.subscription.as_deref(), client)?;
        Ok(format!("/subscriptions/{subscription}/resourceGroups/{}", segment(&self.resource_group)?))
    }

    /// The ARM id of a vault of the group.
    ///
    /// # Errors
    /// As [`GroupArgs::id`].
    pub(crate) fn vault_id(&self, client: &Client, vault: &str) -> anyhow::Result<String> {
        Ok(format!("{}/providers/Microsoft.DataProtection/backupVaults/{}", self.id(client)?, segment(vault)?))
    }
}

/// A vault.
#[derive(Debug, Clone, Args)]
pub(crate) struct VaultScope {
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// The backup vault
    #[arg(long, short = 'v', value_name = "VAULT")]
    pub(crate) vault_name: String,
}

impl VaultScope {
    /// A client of the service, and the vault's ARM id.
    ///
    /// # Errors
    /// No service or subscription is named.
    pub(crate) fn open(&self) -> anyhow::Result<(Client, String)> {
        let client = self.group.service.client()?;
        let id = self.group.vault_id(&client, &self.vault_name)?;
        Ok((client, id))
    }

    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        self.group.service.output
    }
}

/// The subscription to use.
///
/// # Errors
/// None is named.
pub(crate) fn subscription(given: Option<&str>, client: &Client) -> anyhow::Result<String> {
    match given.unwrap_or(client.default_subscription()) {
        "" => bail!("no subscription is named: give --subscription or set AZURE_SUBSCRIPTION_ID"),
        subscription => segment(subscription),
    }
}

/// A name as one segment of a path.
///
/// # Errors
/// A name that no resource can have.
pub(crate) fn segment(name: &str) -> anyhow::Result<String> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        bail!("{name:?} is no name of a resource");
    }
    Ok(crate::client::encode(name))
}

/// An ARM id as a path, without a slash at its end.
///
/// # Errors
/// A text that is no ARM id.
pub(crate) fn arm_id(text: &str) -> anyhow::Result<String> {
    match blobkeep_arm::ResourceId::parse(text.trim_end_matches('/')) {
        Ok(id) => Ok(id.to_string()),
        Err(error) => bail!("{text:?} is no ARM id: {error}"),
    }
}

/// The id of a storage account.
///
/// # Errors
/// An id of something else.
pub(crate) fn account_id(text: &str) -> anyhow::Result<String> {
    let id = arm_id(text)?;
    let marker = "/providers/microsoft.storage/storageaccounts/";
    match id.to_ascii_lowercase().split_once(marker) {
        Some((_, name)) if !name.is_empty() && !name.contains('/') => Ok(id),
        _ => bail!(
            "{text:?} is no id of a storage account: write /subscriptions/…/resourceGroups/…/providers/Microsoft.Storage/storageAccounts/NAME"
        ),
    }
}

/// Makes a resource group unless it is there.
///
/// # Errors
/// What the service answers.
pub(crate) async fn ensure_group(client: &Client, group_id: &str, location: &str) -> anyhow::Result<()> {
    match client.get(group_id, version::RESOURCES).await {
        Ok(_) => return Ok(()),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error),
    }
    client.put(group_id, version::RESOURCES, &serde_json::json!({ "location": location })).await?;
    Ok(())
}

/// The service answered that there is no such thing.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<crate::client::ApiFailure>().is_some_and(crate::client::ApiFailure::is_not_found)
}

/// The text at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The last segment of an ARM id.
pub(crate) fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

/// An answered time to the second.
pub(crate) fn time(value: &Value, pointer: &str) -> String {
    let text = text(value, pointer);
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => output::short_time(blobkeep_vault::Timestamp(time.as_microsecond())),
        Err(_) => text.to_owned(),
    }
}

/// Prints one resource: as JSON, or as lines of names and values.
///
/// # Errors
/// As [`output::line`].
pub(crate) fn show(format: Format, resource: &Value, lines: &[(&str, String)]) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(resource);
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(format!("{name:width$}  {}", output::printable(value)))?;
    }
    Ok(())
}

/// Prints a list of resources: as a JSON array, or as a table with one row for each.
///
/// # Errors
/// As [`output::line`].
pub(crate) fn list(
    format: Format,
    resources: &[Value],
    headers: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
    if_empty: &str,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&resources);
    }
    output::table(headers, resources.iter().map(row).collect(), if_empty)
}

/// Prints what became of a change: a JSON object, or a line.
///
/// # Errors
/// As [`output::line`].
pub(crate) fn done(format: Format, id: &str, change: &str) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&serde_json::json!({ "id": id, "result": change }));
    }
    output::line(format!("{change} {}", output::printable(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_accounts_are_accounts() {
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acc";
        assert_eq!(account_id(id).unwrap(), id);
        assert_eq!(account_id(&format!("{id}/")).unwrap(), id);
        for bad in ["acc", "/subscriptions/s", &format!("{id}/blobServices/default")] {
            assert!(account_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("my group").unwrap(), "my%20group");
        for bad in ["", "a/b", ".."] {
            assert!(segment(bad).is_err(), "{bad}");
        }
    }
}

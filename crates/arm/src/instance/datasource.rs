//! The protected account, as instances and restores name it.

use serde::{Deserialize, Serialize};

use crate::id::{ResourceId, fold};
use crate::word::{Invalid, blob_datasource_type};

/// The resource type of a datasource.
pub const STORAGE_ACCOUNT: &str = "Microsoft.Storage/storageAccounts";

/// A storage account as datasource or as target of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datasource {
    /// The account's id.
    #[serde(rename = "resourceID")]
    pub resource_id: String,
    /// Free text, usually empty or the id again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_uri: Option<String>,
    /// `Microsoft.Storage/storageAccounts/blobServices`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datasource_type: String,
    /// The account's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_name: String,
    /// `Microsoft.Storage/storageAccounts`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_type: String,
    /// The account's region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_location: String,
    /// `Datasource` or `DatasourceSet`.
    #[serde(default)]
    pub object_type: String,
}

impl Datasource {
    /// The account's id.
    ///
    /// # Errors
    /// [`Invalid`] when it is no id of a storage account. `target` names the member in the message.
    pub fn account(&self, target: &str) -> Result<ResourceId, Invalid> {
        let id = ResourceId::parse(&self.resource_id).map_err(|error| {
            Invalid::new(target, format!("The id '{}' in '{target}' cannot be used: {error}.", self.resource_id))
        })?;
        let is_complete = id.subscription().is_some() && id.resource_group().is_some();
        if !is_complete || !id.is_type(STORAGE_ACCOUNT) {
            return Err(Invalid::new(
                target,
                format!("The id '{}' in '{target}' is not the id of a storage account.", self.resource_id),
            ));
        }
        Ok(id)
    }

    /// Fills in what follows from the id, and gives known words their spelling. An id that was sent in another form than
    /// ids are compared in (escapes, repeated slashes, spaces around it) becomes the canonical one, so that whoever compares
    /// it later finds the same account; casing stays as sent.
    pub fn complete(&mut self, object_type: &str) {
        object_type.clone_into(&mut self.object_type);
        if let Ok(account) = self.account("resourceID")
            && fold(&self.resource_id) != account.folded()
        {
            self.resource_id = account.to_string();
        }
        if self.resource_name.is_empty() {
            let id = self.resource_id.trim_end_matches('/');
            self.resource_name = id.rsplit('/').next().unwrap_or_default().to_owned();
        }
        if self.resource_type.is_empty() || self.resource_type.eq_ignore_ascii_case(STORAGE_ACCOUNT) {
            STORAGE_ACCOUNT.clone_into(&mut self.resource_type);
        }
        if let Some(known) = blob_datasource_type(&self.datasource_type) {
            known.clone_into(&mut self.datasource_type);
        }
    }
}

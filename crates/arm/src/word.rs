//! Words of the API that have a fixed spelling, and the reading of request bodies that may spell them otherwise.
//!
//! Clients write member names and enum words in any case, add members that nobody knows and send explicit nulls; all of
//! that is read here, once, so that the shapes in the other files can be plain serde structs with the exact names of
//! the specification. Nothing here decides what a request means.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::envelope;
use crate::error::{ApiError, ErrorCode};

/// What is wrong with a request body: the member, and a sentence for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The member, as a path from the top of the body (`properties.policyRules[0].trigger`).
    pub target: String,
    /// What is wrong with it and what would be right; a full sentence.
    pub message: String,
}

impl Invalid {
    /// A complaint about one member.
    pub fn new(target: impl Into<String>, message: impl Into<String>) -> Self {
        Self { target: target.into(), message: message.into() }
    }
}

impl From<Invalid> for ApiError {
    /// The backup service's own code for a member that cannot be used; the complaint is its message.
    fn from(invalid: Invalid) -> Self {
        let values = [("parameter", invalid.target.as_str()), ("reason", invalid.message.trim_end_matches('.'))];
        let mut error = Self::of(ErrorCode::UserErrorInvalidParameterInRequest, &values);
        error.message = invalid.message;
        error.target = Some(invalid.target);
        error
    }
}

/// Words that tell shapes apart (`objectType`), matched without case: documents send `itemLevelRestoreTargetInfo`.
const OBJECT_TYPES: &[&str] = &[
    "AbsoluteDeleteOption",
    "AdhocBasedTriggerContext",
    "AdlsBlobBackupDatasourceParameters",
    "AdlsBlobBackupDatasourceParametersForAutoProtection",
    "AzureBackupParams",
    "AzureBackupRecoveryPointBasedRestoreRequest",
    "AzureBackupRecoveryTimeBasedRestoreRequest",
    "AzureBackupRestoreWithRehydrationRequest",
    "AzureBackupRule",
    "AzureOperationalStoreParameters",
    "AzureRetentionRule",
    "BackupInstance",
    "BackupPolicy",
    "BlobBackupAutoProtectionRule",
    "BlobBackupDatasourceParameters",
    "BlobBackupDatasourceParametersForAutoProtection",
    "BlobBackupRuleBasedAutoProtectionSettings",
    "DataStoreInfoBase",
    "Datasource",
    "DatasourceSet",
    "ItemLevelRestoreTargetInfo",
    "ItemPathBasedRestoreCriteria",
    "RangeBasedItemLevelRestoreCriteria",
    "RestoreFilesTargetInfo",
    "RestoreTargetInfo",
    "ScheduleBasedBackupCriteria",
    "ScheduleBasedTriggerContext",
];

/// Reads a body into `T`: nulls are dropped, member names get the spelling of `members` and shapes that of the
/// specification. Unknown members are ignored by `T` itself.
pub fn read<T: DeserializeOwned>(body: &Value, members: &[&str]) -> Result<T, Invalid> {
    let mut spelled = body.clone();
    envelope::respell(&mut spelled, members);
    tidy(&mut spelled);
    serde_json::from_value(spelled).map_err(|error| {
        let reason = error.to_string();
        let target = reason.split('`').nth(1).unwrap_or_default().to_owned();
        Invalid::new(target, format!("The request body cannot be used: {reason}."))
    })
}

/// Drops nulls and spells the words of `objectType`, at every depth.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.retain(|value| !value.is_null());
            values.iter_mut().for_each(tidy);
        }
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            if let Some(Value::String(word)) = members.get_mut("objectType")
                && let Some(known) = envelope::one_of(word, OBJECT_TYPES)
            {
                known.clone_into(word);
            }
            members.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Declares an enum whose words have one spelling in answers and any case in requests. A macro, because the list of
/// words would otherwise stand four times for each of the dozen enums.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $word:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$note])* $word),+
        }

        impl $name {
            /// All words, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// The spelling of the specification.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word)),+
                }
            }

            /// The word with this spelling, case aside.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str().eq_ignore_ascii_case(text.trim()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|word| word.as_str()).collect();
                    serde::de::Error::custom(format!(
                        "'{text}' is not one of {} for `{}`",
                        known.join(", "),
                        stringify!($name)
                    ))
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a rule or a restore finds its data.
    DataStore {
        /// Continuous protection: any second of the recent past.
        OperationalStore,
        /// Recovery points in the vault.
        VaultStore,
        /// Long-term archive of points; not offered for blobs.
        ArchiveStore,
        /// Snapshots at the source; not offered for blobs.
        SnapshotStore,
    }
}

/// The datasource type of blobs in a storage account.
pub const BLOB_DATASOURCE: &str = "Microsoft.Storage/storageAccounts/blobServices";
/// The datasource type of blobs in a storage account with a hierarchical namespace.
pub const ADLS_DATASOURCE: &str = "Microsoft.Storage/storageAccounts/adlsBlobServices";

/// The datasource type in the spelling of the specification, if it is one that can be protected.
pub fn blob_datasource_type(text: &str) -> Option<&'static str> {
    [BLOB_DATASOURCE, ADLS_DATASOURCE].into_iter().find(|known| known.eq_ignore_ascii_case(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_read_without_regard_to_case_and_nulls() {
        #[derive(serde::Deserialize, PartialEq, Debug)]
        struct Shape {
            #[serde(rename = "resourceID")]
            id: String,
            #[serde(rename = "objectType")]
            object_type: String,
            #[serde(default)]
            list: Vec<String>,
        }
        let body = json!({"ResourceId": "x", "other": 1, "List": null, "objecttype": "itemLevelRestoreTargetInfo"});
        let shape: Shape = read(&body, &["resourceID", "list", "objectType"]).unwrap();
        let object_type = "ItemLevelRestoreTargetInfo".to_owned();
        assert_eq!(shape, Shape { id: "x".to_owned(), object_type, list: Vec::new() });
        let invalid = read::<Shape>(&json!({}), &[]).unwrap_err();
        assert_eq!(invalid.target, "resourceID");
        assert!(invalid.message.contains("missing field `resourceID`"), "{}", invalid.message);
    }

    #[test]
    fn words_are_read_in_any_case_and_written_in_one() {
        let store: DataStore = serde_json::from_value(json!("vaultSTORE")).unwrap();
        assert_eq!(serde_json::to_value(store).unwrap(), json!("VaultStore"));
        let error = serde_json::from_value::<DataStore>(json!("Cellar")).unwrap_err().to_string();
        assert!(error.contains("'Cellar' is not one of OperationalStore, VaultStore"), "{error}");
    }
}

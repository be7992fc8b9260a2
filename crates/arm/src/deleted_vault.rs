//! Deleted backup vaults: kept for a while, and answered below their subscription and location.

use serde_json::{Map, Value, json};

use crate::id::{ResourceId, fold_location};
use crate::time::format_instant;
use crate::vault::VaultProperties;

/// The full type.
pub const TYPE: &str = "Microsoft.DataProtection/locations/deletedVaults";

/// The id of a deleted vault. Its name is a GUID of its own, for several vaults of one name may have been deleted.
pub fn id(subscription: &str, location: &str, name: &str) -> ResourceId {
    ResourceId::subscription_scope(subscription)
        .attach("Microsoft.DataProtection", "locations", &fold_location(location))
        .child("deletedVaults", name)
}

/// When a vault was deleted, and what follows; µs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultDeletion {
    /// The deleted vault's own name: a lower-case GUID.
    pub name: String,
    /// When.
    pub deleted_at: i64,
    /// When it goes for good.
    pub purge_at: i64,
    /// The correlation id of the request that deleted it.
    pub activity_id: String,
}

/// What is answered of a deleted vault.
#[derive(Debug, Clone)]
pub struct DeletedVaultView<'a> {
    /// The vault's id as created.
    pub original_id: &'a str,
    /// The vault's name as created.
    pub original_name: &'a str,
    /// The GUID that names the vault in operation ids.
    pub vault_uuid: &'a str,
    /// The subscription as created.
    pub subscription: &'a str,
    /// The location as created.
    pub location: &'a str,
    /// The user's labels.
    pub tags: &'a Map<String, Value>,
    /// The settings.
    pub properties: &'a VaultProperties,
    /// When it was deleted.
    pub deletion: &'a VaultDeletion,
    /// With the members that were recorded although no specification names them.
    pub has_recorded: bool,
}

impl DeletedVaultView<'_> {
    /// The resource, in the order that was recorded, and after that the other settings that the specification names. `deleteActivityID` is
    /// the recorded spelling and `deleteActivityId` that of the specification: there are clients of both. `location` and `tags` were
    /// recorded, too.
    pub fn render(&self) -> Value {
        let mut info = Map::new();
        info.insert("deletionTime".into(), json!(format_instant(self.deletion.deleted_at)));
        info.insert("scheduledPurgeTime".into(), json!(format_instant(self.deletion.purge_at)));
        if self.has_recorded {
            info.insert("deleteActivityID".into(), json!(self.deletion.activity_id));
        }
        info.insert("deleteActivityId".into(), json!(self.deletion.activity_id));
        let mut properties = Map::new();
        properties.insert("originalBackupVaultId".into(), json!(self.vault_uuid));
        properties.insert("originalBackupVaultName".into(), json!(self.original_name));
        properties.insert("originalBackupVaultResourcePath".into(), json!(self.original_id));
        properties.insert("resourceDeletionInfo".into(), Value::Object(info));
        properties.insert("provisioningState".into(), json!("Succeeded"));
        let Ok(Value::Object(mut settings)) = serde_json::to_value(self.properties) else { return Value::Null };
        properties.extend(settings.shift_remove_entry("storageSettings"));
        // A vault that a guard protects is not deleted.
        properties.insert("isVaultProtectedByResourceGuard".into(), json!(false));
        properties.extend(settings.shift_remove_entry("securitySettings"));
        properties.extend(settings);
        let mut body = Map::new();
        if self.has_recorded {
            body.insert("location".into(), json!(self.location));
            body.insert("tags".into(), json!(self.tags));
        }
        body.insert("properties".into(), Value::Object(properties));
        body.insert("id".into(), json!(id(self.subscription, self.location, &self.deletion.name).to_string()));
        body.insert("name".into(), json!(self.deletion.name));
        body.insert("type".into(), json!(TYPE));
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{DeletedVaultView, TYPE, VaultDeletion, id};
    use crate::vault::VaultProperties;

    #[test]
    fn an_id_is_of_the_type_and_its_location_is_folded() {
        let id = id("s", "West US", "n");
        assert_eq!(
            id.to_string(),
            "/subscriptions/s/providers/Microsoft.DataProtection/locations/westus/deletedVaults/n"
        );
        assert!(id.is_type(TYPE));
    }

    #[test]
    fn a_deleted_vault_is_answered_as_recorded() {
        let deletion = VaultDeletion {
            name: "n".to_owned(),
            deleted_at: 0,
            purge_at: 86_400_000_000,
            activity_id: "a".to_owned(),
        };
        let view = DeletedVaultView {
            original_id: "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/backupVaults/v",
            original_name: "v",
            vault_uuid: "u",
            subscription: "s",
            location: "westus",
            tags: &Map::new(),
            properties: &VaultProperties::default().with_defaults(),
            deletion: &deletion,
            has_recorded: true,
        };
        let mut expected = json!({
            "location": "westus",
            "tags": {},
            "properties": {
                "originalBackupVaultId": "u",
                "originalBackupVaultName": "v",
                "originalBackupVaultResourcePath":
                    "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/backupVaults/v",
                "resourceDeletionInfo": {
                    "deletionTime": "1970-01-01T00:00:00Z",
                    "scheduledPurgeTime": "1970-01-02T00:00:00Z",
                    "deleteActivityID": "a",
                    "deleteActivityId": "a",
                },
                "provisioningState": "Succeeded",
                "storageSettings": [{ "datastoreType": "VaultStore", "type": "LocallyRedundant" }],
                "isVaultProtectedByResourceGuard": false,
                "securitySettings": { "softDeleteSettings": { "state": "On", "retentionDurationInDays": 14 } },
            },
            "id": "/subscriptions/s/providers/Microsoft.DataProtection/locations/westus/deletedVaults/n",
            "name": "n",
            "type": "Microsoft.DataProtection/locations/deletedVaults",
        });
        assert_eq!(view.render().to_string(), expected.to_string());

        let body = expected.as_object_mut().unwrap();
        body.shift_remove("location");
        body.shift_remove("tags");
        let info = body["properties"]["resourceDeletionInfo"].as_object_mut().unwrap();
        info.shift_remove("deleteActivityID");
        let specified = DeletedVaultView { has_recorded: false, ..view };
        assert_eq!(specified.render().to_string(), expected.to_string(), "and otherwise as specified");
    }
}

//! What is answered of a vault.

use serde_json::{Map, Value, json};

use super::{ImmutabilityState, SoftDeleteState, VaultProperties};

/// What is answered of a vault.
#[derive(Debug, Clone)]
pub struct VaultView<'a> {
    /// The id as created.
    pub id: &'a str,
    /// The name as created.
    pub name: &'a str,
    /// The location as created.
    pub location: &'a str,
    /// The user's labels.
    pub tags: &'a Map<String, Value>,
    /// Object id and tenant of the vault's own identity, if it has one.
    pub identity: Option<(&'a str, &'a str)>,
    /// The settings.
    pub properties: &'a VaultProperties,
    /// `Provisioning`, `Updating`, `Succeeded` …
    pub provisioning_state: &'a str,
    /// It is linked to a resource guard.
    pub is_guarded: bool,
}

impl VaultView<'_> {
    /// The resource, members that are absent left out (recorded).
    pub fn render(&self) -> Value {
        let (secure_score, security_level) = self.properties.scores(self.is_guarded);
        let mut properties = Map::new();
        if let Ok(Value::Object(settings)) = serde_json::to_value(self.properties) {
            properties.extend(settings);
        }
        // Always there in answers, unlike the other settings (recorded).
        properties.entry("replicatedRegions").or_insert_with(|| json!([]));
        properties.insert("provisioningState".into(), json!(self.provisioning_state));
        properties.insert("isVaultProtectedByResourceGuard".into(), json!(self.is_guarded));
        properties.insert("secureScore".into(), json!(secure_score));
        properties.insert("bcdrSecurityLevel".into(), json!(security_level));
        let mut body = Map::new();
        if let Some((principal_id, tenant_id)) = self.identity {
            let identity = json!({ "principalId": principal_id, "tenantId": tenant_id, "type": "SystemAssigned" });
            body.insert("identity".into(), identity);
        }
        body.insert("id".into(), json!(self.id));
        body.insert("name".into(), json!(self.name));
        body.insert("type".into(), json!("Microsoft.DataProtection/backupVaults"));
        body.insert("location".into(), json!(self.location));
        body.insert("tags".into(), json!(self.tags));
        body.insert("properties".into(), Value::Object(properties));
        Value::Object(body)
    }
}

impl VaultProperties {
    /// `secureScore` and `bcdrSecurityLevel`, by the recorded pairs. The best one needs multi-user authorization too; it was not seen, but
    /// follows from the others.
    pub(super) fn scores(&self, is_guarded: bool) -> (&'static str, &'static str) {
        let soft_delete = self.soft_delete_state().unwrap_or(SoftDeleteState::On);
        match (soft_delete, self.immutability()) {
            (SoftDeleteState::Off, _) => ("None", "Poor"),
            (SoftDeleteState::AlwaysOn, ImmutabilityState::Locked) if is_guarded => ("Maximum", "Excellent"),
            (SoftDeleteState::AlwaysOn, _) | (_, ImmutabilityState::Locked) => ("Adequate", "Good"),
            _ => ("Minimum", "Fair"),
        }
    }
}

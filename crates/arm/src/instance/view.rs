//! Instances as they are answered, the deleted ones too.

use serde_json::{Map, Value, json};

use super::{BackupInstance, ProtectionState};
use crate::time::format_instant;

/// When an instance was deleted, and what follows; µs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub deleted_at: i64,
    /// Until when it is charged for: what remains then is free.
    pub billing_end: i64,
    /// When its data goes.
    pub purge_at: i64,
    /// The correlation id of the request that deleted it.
    pub activity_id: String,
}

/// What is answered of an instance.
#[derive(Debug, Clone)]
pub struct InstanceView<'a> {
    /// The id as created.
    pub id: &'a str,
    /// The name as created.
    pub name: &'a str,
    /// The stored part.
    pub instance: &'a BackupInstance,
    /// The user's labels. Without any, and for deleted ones, the member is left out (recorded).
    pub tags: &'a Map<String, Value>,
    /// How far it is protected.
    pub state: ProtectionState,
    /// `Provisioning`, `Updating`, `Succeeded`, `Failed`.
    pub provisioning_state: &'a str,
    /// The `info` shape of the error that keeps it from being protected.
    pub error: Option<&'a Value>,
    /// Set for deleted ones.
    pub deletion: Option<&'a Deletion>,
}

impl InstanceView<'_> {
    /// The resource, members that are absent left out, in the order of the seed. A deleted instance is answered as
    /// `deletedBackupInstances/{name}`.
    pub fn render(&self) -> Value {
        let mut properties = match serde_json::to_value(self.instance) {
            Ok(Value::Object(stored)) => stored,
            _ => Map::new(),
        };
        if let Some(deletion) = self.deletion {
            properties.insert(
                "deletionInfo".into(),
                json!({
                    "deletionTime": format_instant(deletion.deleted_at),
                    "billingEndDate": format_instant(deletion.billing_end),
                    "scheduledPurgeTime": format_instant(deletion.purge_at),
                    "deleteActivityID": deletion.activity_id,
                }),
            );
        }
        let mut status = json!({ "status": self.state.answered() });
        if let (Some(error), Some(members)) = (self.error, status.as_object_mut()) {
            members.insert("errorDetails".into(), error.clone());
        }
        properties.insert("protectionStatus".into(), status);
        properties.insert("currentProtectionState".into(), json!(self.state.answered()));
        if let Some(error) = self.error {
            properties.insert("protectionErrorDetails".into(), error.clone());
        }
        properties.insert("provisioningState".into(), json!(self.provisioning_state));
        let (object_type, kind) = match self.deletion {
            Some(_) => ("DeletedBackupInstance", "Microsoft.DataProtection/backupVaults/deletedBackupInstances"),
            None => ("BackupInstance", "Microsoft.DataProtection/backupVaults/backupInstances"),
        };
        properties.insert("objectType".into(), json!(object_type));
        let mut body = Map::new();
        body.insert("id".into(), json!(self.id));
        body.insert("name".into(), json!(self.name));
        body.insert("type".into(), json!(kind));
        if !self.tags.is_empty() && self.deletion.is_none() {
            body.insert("tags".into(), json!(self.tags));
        }
        body.insert("properties".into(), Value::Object(properties));
        Value::Object(body)
    }
}

//! What goes with a vault and with an instance: nobody finds old rights in a new thing of the same name.

use blobkeep_server::auth::{Caller, authorize};
use blobkeep_server::db;
use serde_json::Value;

use crate::service::Service;

const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";

impl Service {
    /// The scopes below the vault that somebody has a role at.
    async fn scopes_in_vault(&mut self) -> Vec<String> {
        let rows = self
            .rows("SELECT scope_key FROM role_assignments WHERE scope_key LIKE '%/backupvaults/%' ORDER BY scope_key")
            .await;
        rows.iter().map(|row| row.try_get("scope_key").unwrap()).collect()
    }

    /// What was queued of a kind, oldest first.
    pub(crate) async fn queued(&mut self, kind: &str) -> Vec<Value> {
        let rows = self.rows(&format!("SELECT spec FROM jobs WHERE kind = '{kind}' ORDER BY created_at, id")).await;
        rows.iter().map(|row| serde_json::from_str(&row.try_get::<String>("spec").unwrap()).unwrap()).collect()
    }
}

#[tokio::test]
async fn roles_inside_a_vault_a_policy_and_an_instance_go_with_them() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let vault = service.vault();
    let policy = format!("{vault}/backupPolicies/BlobBackup-Policy");
    let (_, object) = service.stranger("somebody").await;
    for scope in [&vault, &policy, &id] {
        service.assign(BACKUP_READER, &object, scope).await;
    }
    assert_eq!(service.scopes_in_vault().await.len(), 3);

    let instance_key = id.to_lowercase();
    let caller = Caller { object_id: object, app_id: String::new() };
    let read = "Microsoft.DataProtection/backupVaults/backupInstances/read";
    let granted = authorize(service.running.app(), &caller, read, &id).await.unwrap();
    let database = service.running.app().db.clone();
    let mut tx = database.write().await.unwrap();
    db::instances::purge(&mut tx, &granted, &instance_key).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!service.scopes_in_vault().await.contains(&instance_key));

    assert_eq!(service.delete(&policy).await.status, 200);
    assert_eq!(service.scopes_in_vault().await, [vault.to_lowercase()]);
    assert_eq!(service.delete(&vault).await.status, 202);
    assert_eq!(service.scopes_in_vault().await, Vec::<String>::new());
}

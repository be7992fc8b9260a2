//! What goes with a vault and with an instance: nobody finds old rights in a new thing of the same name.

use blobkeep_server::auth::{Caller, authorize};
use blobkeep_server::db;
use serde_json::Value;

use crate::service::Service;

const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";

impl Service {
    /// The scopes below the vault that somebody has a role at.
    async fn scopes_in_vault(&mut self) -> Vec<String> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT scope_key FROM role_assignments WHERE scope_key LIKE '%/backupvaults/%' ORDER BY 1")
                .fetch_all(&mut self.database)
                .await
                .unwrap();
        rows.into_iter().map(|(scope,)| scope).collect()
    }

    /// What was queued of a kind, oldest first.
    pub(crate) async fn queued(&mut self, kind: &str) -> Vec<Value> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT spec FROM jobs WHERE kind = $1 ORDER BY created_at, rowid")
            .bind(kind)
            .fetch_all(&mut self.database)
            .await
            .unwrap();
        rows.iter().map(|(spec,)| serde_json::from_str(spec).unwrap()).collect()
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

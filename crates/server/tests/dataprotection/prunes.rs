//! When a vault is pruned, and what becomes of a prune whose vault is deleted.

use blobkeep_server::auth::{Caller, Granted, authorize};
use blobkeep_server::db;
use blobkeep_server::db::jobs::NewJob;
use blobkeep_server::jobs::spec::{JobSpec, PruneSpec};

use crate::service::Service;

/// An instant at which the service's own scheduler has not arrived.
const THEN: i64 = 4_000_000_000_000_000;
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

impl Service {
    async fn granted(&self) -> Granted {
        let (_, object_id) = self.stranger("pruner").await;
        self.assign(READER, &object_id, &self.vault()).await;
        let caller = Caller { object_id, app_id: String::new() };
        let read = "Microsoft.DataProtection/backupVaults/read";
        authorize(self.running.app(), &caller, read, &self.vault()).await.unwrap()
    }

    /// What the only vault remembers of points that have gone.
    async fn points_removed_at(&mut self) -> Option<i64> {
        let row = self.row("SELECT points_removed_at FROM backup_vaults WHERE name = 'testBkpVault'").await;
        row.try_get("points_removed_at").unwrap()
    }
}

#[tokio::test]
async fn a_prune_is_due_a_while_after_the_one_before_and_only_where_points_have_gone() {
    let mut service = Service::start().await;
    service.make_vault_and_policy().await;
    let granted = service.granted().await;
    let database = service.running.app().db.clone();
    for (created, removed, begun, is_due) in [
        ("1", "NULL", "NULL", false),
        ("{THEN}", "{THEN} + 5", "NULL", true),
        ("{THEN} + 1", "{THEN} + 5", "NULL", false),
        ("1", "{THEN} + 5", "{THEN}", true),
        ("1", "{THEN} + 5", "{THEN} + 1", false),
        ("1", "{THEN} - 1", "{THEN}", false),
        ("1", "{THEN}", "{THEN}", true),
    ] {
        let row = format!("created_at = {created}, points_removed_at = {removed}, prune_begun_at = {begun}");
        service.sql(&format!("UPDATE backup_vaults SET {}", row.replace("{THEN}", &THEN.to_string()))).await;
        let mut reader = database.read().await.unwrap();
        let due = db::prunes::due(&mut reader, &granted, THEN).await.unwrap();
        assert_eq!(due.len(), usize::from(is_due), "{row}");
    }
    service.sql(&format!("UPDATE backup_vaults SET points_removed_at = {THEN}, deleted_at = 1")).await;
    let mut reader = database.read().await.unwrap();
    let due = db::prunes::due(&mut reader, &granted, THEN).await.unwrap();
    assert!(due.is_empty(), "a deleted vault is freed as a whole");
}

#[tokio::test]
async fn a_prune_does_not_keep_its_vault_from_being_deleted() {
    let mut service = Service::start().await;
    service.make_vault_and_policy().await;
    let vault_key = service.vault().to_lowercase();
    let spec = JobSpec::Prune(PruneSpec { vault_key: vault_key.clone() });
    let id = uuid::Uuid::new_v4().to_string();
    let job = NewJob {
        id: &id,
        vault_key: &vault_key,
        spec: &spec,
        operation_id: None,
        principal_id: "",
        correlation_id: "",
        now: 1,
    };
    let mut tx = service.running.app().db.write().await.unwrap();
    db::jobs::enqueue(&mut tx, &job).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(service.points_removed_at().await, None);
    let deleted = service.delete(&service.vault()).await;
    assert_eq!(deleted.status, 202, "{deleted:?}");
    let prune = service.row("SELECT status FROM jobs WHERE kind = 'prune'").await;
    assert_eq!(prune.try_get::<String>("status").unwrap(), "Cancelled");
    assert!(service.points_removed_at().await.is_some(), "it is begun anew if the vault comes back");
}

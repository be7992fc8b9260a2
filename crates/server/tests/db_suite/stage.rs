//! An opened database with everything around it, and the things that steps put into it.

use std::sync::Arc;

use blobkeep_arm::id::fold;
use blobkeep_server::auth::{Caller, Granted, authorize};
use blobkeep_server::db::instances::StoredInstance;
use blobkeep_server::db::policies::StoredPolicy;
use blobkeep_server::db::resource_groups::ResourceGroup;
use blobkeep_server::db::storage_accounts::StorageAccount;
use blobkeep_server::db::subscriptions::Subscription;
use blobkeep_server::db::vaults::Vault;
use blobkeep_server::db::{self, Database, Db, Writer};
use blobkeep_server::{App, Config, Parts, Running, serve};
use serde_json::{Value, json};

use crate::database::{OwnDatabase, server};

/// Some instant.
pub(crate) const NOW: i64 = 1_740_787_200_000_000;
pub(crate) const SUBSCRIPTION: &str = "3AFD9D59-e223-475f-b9c3-00a45a94324c";

/// A service that does nothing by itself, on a database of its own.
pub(crate) struct Stage {
    pub(crate) db: Db,
    /// The right over everything.
    pub(crate) granted: Granted,
    running: Running,
    database: Option<OwnDatabase>,
    dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn sqlite() -> Self {
        Self::on(None).await
    }

    /// None where no server is known.
    pub(crate) async fn postgres() -> Option<Self> {
        match server() {
            Some(server) => Some(Self::on(Some(OwnDatabase::new(&server).await)).await),
            None => {
                println!("BLOBKEEP_TEST_POSTGRES is not set: nothing was looked at");
                None
            }
        }
    }

    async fn on(database: Option<OwnDatabase>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.database = database.as_ref().map_or(Database::Sqlite, OwnDatabase::database);
        let running = serve(config, Parts { by_hand: true, ..Parts::default() }).await.unwrap();
        let db = running.app().db.clone();
        let owner = db::principals::by_name(&mut db.read().await.unwrap(), "blobkeep-owner").await.unwrap().unwrap();
        let caller = Caller { object_id: owner.object_id, app_id: owner.app_id };
        let granted = authorize(running.app(), &caller, "Microsoft.DataProtection/backupVaults/write", "/").await;
        Self { db, granted: granted.unwrap(), running, database, dir }
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        self.running.app()
    }

    /// The same database, opened once more.
    pub(crate) async fn open_again(&self) -> db::DbResult<Db> {
        match &self.database {
            Some(database) => Db::open_postgres(&database.url()).await,
            None => Db::open(&self.dir.path().join("blobkeep.db")).await,
        }
    }

    pub(crate) async fn read(&self) -> db::Reader {
        self.db.read().await.unwrap()
    }

    pub(crate) async fn write(&self) -> Writer {
        self.db.write().await.unwrap()
    }

    /// A subscription with the group `team`, in which a vault and a policy and an account are made by [`Self::vault`] and the others.
    pub(crate) async fn with_group(&self) -> Writer {
        let mut tx = self.write().await;
        let subscription =
            Subscription { id: SUBSCRIPTION.to_owned(), display_name: "one".to_owned(), created_at: NOW };
        db::subscriptions::create(&mut tx, &subscription).await.unwrap();
        db::resource_groups::create(&mut tx, &self.granted, &group("Team"), SUBSCRIPTION).await.unwrap();
        tx
    }

    /// The same with the vault `Vault` and the policy `Daily`.
    pub(crate) async fn with_vault(&self) -> Writer {
        let mut tx = self.with_group().await;
        db::vaults::put(&mut tx, &self.granted, &vault("Vault")).await.unwrap();
        db::policies::put(&mut tx, &self.granted, &policy("Daily", 1)).await.unwrap();
        tx
    }
}

pub(crate) fn group_id(name: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}")
}

pub(crate) fn account_id(name: &str) -> String {
    format!("{}/providers/Microsoft.Storage/storageAccounts/{name}", group_id("Team"))
}

pub(crate) fn vault_id(name: &str) -> String {
    format!("{}/providers/Microsoft.DataProtection/backupVaults/{name}", group_id("Team"))
}

pub(crate) fn policy_id(name: &str) -> String {
    format!("{}/backupPolicies/{name}", vault_id("Vault"))
}

pub(crate) fn instance_id(name: &str) -> String {
    format!("{}/backupInstances/{name}", vault_id("Vault"))
}

pub(crate) fn group(name: &str) -> ResourceGroup {
    let tags = [("who".to_owned(), "me".to_owned())].into();
    ResourceGroup { id: group_id(name), name: name.to_owned(), location: "westus".to_owned(), tags, created_at: NOW }
}

pub(crate) fn account(name: &str) -> StorageAccount {
    StorageAccount {
        id: account_id(name),
        name: name.to_owned(),
        subscription_key: SUBSCRIPTION.to_lowercase(),
        group_key: fold(&group_id("Team")),
        location: "westus".to_owned(),
        tags: Default::default(),
        properties: json!({"kind": "StorageV2"}),
        connection_kind: None,
        connection_url: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn vault(name: &str) -> Vault {
    Vault {
        key: fold(&vault_id(name)),
        id: vault_id(name),
        name: name.to_owned(),
        subscription_id: SUBSCRIPTION.to_owned(),
        group_key: fold(&group_id("Team")),
        location: "westus".to_owned(),
        tags: Default::default(),
        properties: Default::default(),
        vault_uuid: uuid::Uuid::new_v4().to_string(),
        principal_id: Some("identity".to_owned()),
        provisioning_state: "Succeeded".to_owned(),
        created_at: NOW,
        updated_at: NOW,
        is_guarded: false,
    }
}

pub(crate) fn policy(name: &str, version: i64) -> StoredPolicy {
    let rules = json!({"objectType": "BackupPolicy", "policyRules": [],
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"]});
    StoredPolicy {
        key: fold(&policy_id(name)),
        id: policy_id(name),
        name: name.to_owned(),
        vault_key: fold(&vault_id("Vault")),
        version,
        policy: serde_json::from_value(rules).unwrap(),
        created_at: NOW,
        updated_at: NOW + version,
    }
}

/// An instance of that name that protects the account of that name under the policy `Daily`.
pub(crate) fn instance(name: &str, account: &str) -> StoredInstance {
    let content: Value = json!({"friendlyName": name, "dataSourceInfo": {"resourceID": account_id(account)},
        "policyInfo": {"policyId": policy_id("Daily")}});
    StoredInstance {
        key: fold(&instance_id(name)),
        id: instance_id(name),
        name: name.to_owned(),
        vault_key: fold(&vault_id("Vault")),
        instance_uuid: uuid::Uuid::new_v4().to_string(),
        datasource_key: fold(&account_id(account)),
        instance: serde_json::from_value(content).unwrap(),
        tags: Default::default(),
        policy_key: fold(&policy_id("Daily")),
        state: blobkeep_arm::instance::ProtectionState::ConfiguringProtection,
        provisioning_state: "Provisioning".to_owned(),
        error: None,
        deletion: None,
        configured_at: None,
        next_run_at: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

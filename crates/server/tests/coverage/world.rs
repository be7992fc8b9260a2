//! What there must be for every operation to find its subject.

use blobkeep_server::api::Route;
use blobkeep_server::auth::roles::BUILT_IN;
use blobkeep_server::db::query;
use serde_json::{Value, json};

use super::common::database::hold_the_queue;
use super::common::{Got, Service, VERSION};

const POINT: &str = "00000000000000000000000000000001";

/// A protected account, a deleted instance, and whatever else there must be for every operation to find its subject. No job is done.
pub(crate) struct World {
    pub(crate) service: Service,
    group: String,
    vault: String,
    /// Values of placeholders.
    values: Vec<(&'static str, String)>,
}

fn account_body() -> Value {
    json!({"location": "westus", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}})
}

fn policy_body() -> Value {
    let store = json!({"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"});
    json!({"properties": {
        "objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
        "policyRules": [
            {"objectType": "AzureRetentionRule", "name": "Default", "isDefault": true, "lifecycles": [
                {"deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": "P7D"}, "sourceDataStore": store}]},
            {"objectType": "AzureBackupRule", "name": "BackupDaily", "dataStore": store,
             "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
             "trigger": {"objectType": "ScheduleBasedTriggerContext",
                "schedule": {"repeatingTimeIntervals": ["R/2023-06-28T07:30:00+00:00/P1D"], "timeZone": "UTC"},
                "taggingCriteria": [{"isDefault": true, "taggingPriority": 99,
                    "tagInfo": {"id": "Default_", "tagName": "Default"}}]}}
        ]
    }})
}

fn last_segment(url: &str) -> String {
    url.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap().to_owned()
}

impl World {
    pub(crate) async fn start() -> Self {
        let service = Service::start().await;
        let group = service.group("coverage").await;
        let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/vault");
        let mut world = Self { service, group, vault, values: Vec::new() };
        hold_the_queue(&world.service.running.app().db).await;
        let guard = format!("{}/providers/Microsoft.DataProtection/resourceGuards/guard", world.group);
        world.service.put(&guard, json!({"location": "westus", "properties": {}})).await.expect(200);
        for account in ["protected", "deleted", "free"] {
            world.service.put(&world.account(account), account_body()).await.expect(200);
        }
        let body = json!({"location": "westus", "identity": {"type": "SystemAssigned"}, "properties": {
            "featureSettings": {"crossRegionRestoreSettings": {"state": "Enabled"}}}});
        let made = world.service.put(&world.vault, body).await.expect(201);
        let operation = last_segment(made.header("azure-asyncoperation"));
        world.service.put(&format!("{}/backupPolicies/daily", world.vault), policy_body()).await.expect(200);
        for (name, account) in [("one", "protected"), ("gone", "deleted")] {
            let body = json!({"properties": world.instance(account)});
            world.service.put(&format!("{}/backupInstances/{name}", world.vault), body).await.expect(201);
        }
        world.set_states().await;
        let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
        world.post(&format!("{}/backupInstances/one/backup", world.vault), body).await.expect(202);
        let jobs = world.service.get(&format!("{}/backupJobs", world.vault)).await.expect(200);
        let export = world.post(&format!("{}/exportBackupJobs", world.vault), Value::Null).await;
        let (object, _) = world.service.principal("driven").await;
        let reader = role_id("Reader");
        let assignment = last_segment(&world.service.assign(&object, reader, &world.account("protected")).await);
        world.service.put("/providers/Microsoft.Subscription/aliases/spare", json!({})).await.expect(201);
        world.values = vec![
            ("subscription", world.service.env.subscription_id.clone()),
            ("tenant", world.service.env.tenant_id.clone()),
            ("group", "coverage".to_owned()),
            ("account", "protected".to_owned()),
            ("container", "photos".to_owned()),
            ("vault", "vault".to_owned()),
            ("policy", "daily".to_owned()),
            ("instance", "one".to_owned()),
            ("point", POINT.to_owned()),
            ("guard", "guard".to_owned()),
            ("requests", "dppModifyPolicy".to_owned()),
            ("requestName", "default".to_owned()),
            ("job", jobs.body["value"][0]["name"].as_str().unwrap().to_owned()),
            ("operation", operation),
            ("export", last_segment(export.header("location"))),
            ("location", "westus".to_owned()),
            ("namespace", "Microsoft.DataProtection".to_owned()),
            ("alias", "spare".to_owned()),
            ("object", object),
            ("assignment", assignment),
        ];
        world
    }

    fn account(&self, name: &str) -> String {
        format!("{}/providers/Microsoft.Storage/storageAccounts/{name}", self.group)
    }

    fn instance(&self, account: &str) -> Value {
        json!({
            "objectType": "BackupInstance",
            "dataSourceInfo": {
                "objectType": "Datasource",
                "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
                "resourceID": self.account(account),
                "resourceLocation": "westus"
            },
            "policyInfo": {"policyId": format!("{}/backupPolicies/daily", self.vault)}
        })
    }

    async fn post(&self, path: &str, body: Value) -> Got {
        self.service.call("POST", path, Some(body).filter(|body| !body.is_null())).await
    }

    async fn sql(&self, statement: &str) {
        let mut tx = self.service.running.app().db.write().await.unwrap();
        query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// One instance is protected and has a point, the other one is deleted: as if nobody had asked for anything before.
    pub(crate) async fn set_states(&self) {
        self.sql("UPDATE jobs SET status = 'Completed' WHERE kind <> 'backup'").await;
        self.sql("UPDATE backup_instances SET protection_state = 'ProtectionConfigured', provisioning_state = 'Succeeded', deleted_at = NULL, purge_at = NULL WHERE name = 'one'").await;
        self.sql("UPDATE backup_instances SET protection_state = 'SoftDeleted', deleted_at = 1, purge_at = 9000000000000000 WHERE name = 'gone'").await;
        self.sql(&format!(
            "INSERT INTO recovery_points (instance_key, id, job_id, created_at, expires_at, tag, rule, policy_name, counts, state, store)
             SELECT key, '{POINT}', 'job', 1740787200000000, NULL, 'Default', 'BackupDaily', 'daily', '{{}}', 'Completed', 'VaultStore'
             FROM backup_instances WHERE name = 'one' ON CONFLICT DO NOTHING"
        ))
        .await;
    }

    fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| *known == name).map_or("none", |(_, value)| value)
    }

    /// The path of a route's own subject.
    fn path(&self, route: &Route) -> String {
        let pattern = format!("/{}", route.pattern.trim_start_matches('/'));
        let mut path = String::new();
        let mut rest = pattern.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after.split_once('}').unwrap();
            path.push_str(before);
            let value = match (name, route.operation) {
                ("*scope", _) => self.account("protected").trim_start_matches('/').to_owned(),
                ("instance", operation) if operation.starts_with("Deleted") => "gone".to_owned(),
                ("operation", "ExportJobsOperationResult_Get") => self.value("export").to_owned(),
                ("name", "RoleDefinitions_Get") => role_id("Reader").to_owned(),
                ("name", "RoleAssignments_Create") => uuid::Uuid::new_v4().to_string(),
                ("name", operation) if operation.starts_with("RoleAssignments_") => self.value("assignment").to_owned(),
                ("name", operation) if operation.starts_with("ServicePrincipals_") => "driven".to_owned(),
                (name, _) => self.value(name).to_owned(),
            };
            path.push_str(&value);
            rest = tail;
        }
        path + rest
    }

    /// A body that the operation can do something with.
    fn body(&self, route: &Route) -> Option<String> {
        let instance = format!("{}/backupInstances/one", self.vault);
        let details = json!({"sourceRegion": "westus", "sourceBackupInstanceId": instance, "sourceBackupVaultId": self.vault, "jobId": "none"});
        let restore = json!({
            "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
            "sourceDataStoreType": "VaultStore",
            "recoveryPointId": POINT,
            "restoreTargetInfo": {
                "objectType": "RestoreTargetInfo",
                "recoveryOption": "FailIfExists",
                "restoreLocation": "westus",
                "datasourceInfo": {
                    "objectType": "Datasource",
                    "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
                    "resourceID": self.account("free")
                }
            }
        });
        let body = match route.operation {
            _ if route.method.is_safe() || route.method == http::Method::DELETE => return None,
            "Token_Issue" | "Token_IssueV2" => {
                let (id, secret) = (&self.service.env.client_id, &self.service.env.client_secret);
                let scope = format!("{}/.default", self.service.env.endpoint);
                let form = "grant_type=client_credentials";
                return Some(format!("{form}&client_id={id}&client_secret={secret}&scope={scope}"));
            }
            "BackupVaults_CreateOrUpdate" | "ResourceGroups_CreateOrUpdate" => json!({"location": "westus"}),
            "BackupVaults_CheckNameAvailability" => json!({"name": "vault"}),
            "BackupPolicies_CreateOrUpdate" | "BlobkeepPolicies_Preview" => policy_body(),
            "BlobkeepInstances_Search" => json!({"pattern": "report"}),
            "BlobkeepPoints_Diff" => json!({"with": POINT}),
            "BackupInstances_CreateOrUpdate" => json!({"properties": self.instance("protected")}),
            "BackupInstances_ValidateForBackup" => json!({"backupInstance": self.instance("free")}),
            "BackupInstances_ValidateForModifyBackup" => json!({"backupInstance": self.instance("protected")}),
            "BackupInstances_AdhocBackup" => json!({"backupRuleOptions": {"ruleName": "BackupDaily"}}),
            "BackupInstances_TriggerRestore" => restore,
            "BackupInstances_ValidateForRestore" => json!({"restoreRequestObject": restore}),
            "BackupInstances_TriggerRehydrate" => {
                json!({"recoveryPointId": POINT, "rehydrationRetentionDuration": "P7D"})
            }
            "RestorableTimeRanges_Find" => json!({"sourceDataStoreType": "VaultStore"}),
            "BackupInstances_TriggerCrossRegionRestore" | "BackupInstances_ValidateCrossRegionRestore" => {
                json!({"restoreRequestObject": restore, "crossRegionRestoreDetails": details})
            }
            operation if operation.starts_with("Fetch") => details,
            "StorageAccounts_Create" => account_body(),
            "RoleAssignments_Create" => json!({"properties": {
                "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{}", role_id("Backup Reader")),
                "principalId": self.value("object")
            }}),
            "Graph_GetByIds" => json!({"ids": [self.value("object")]}),
            _ => json!({}),
        };
        Some(body.to_string())
    }

    pub(crate) async fn drive(&self, token: &str, route: &Route) -> Got {
        let path = format!("{}?api-version={}", self.path(route), VERSION);
        self.service.raw(token, route.method.as_str(), &path, self.body(route).as_deref()).await
    }
}

/// The GUID of a built-in role.
pub(crate) fn role_id(name: &str) -> &'static str {
    BUILT_IN.iter().find(|role| role.name == name).unwrap_or_else(|| panic!("no role {name}")).guid
}

//! What there must be for an example to find its subject: a subscription of its own in one running service. No job is done but exports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blobkeep_arm::ResourceId;
use blobkeep_arm::id::fold;
use blobkeep_server::Parts;
use blobkeep_server::config::EncryptionKeyConfig;
use blobkeep_server::db::query;
use reqwest::Method;
use serde_json::{Value, json};

use super::common::database::hold_the_queue;
use super::common::{Got, Service, config, read};
use super::example::{Example, operations};
use super::table::{Need, QUIRKS};

/// 1 March 2025, in instants.
const MADE: i64 = 1_740_787_200_000_000;
/// Some instant far in the future.
const LATER: i64 = 4_000_000_000_000_000;
const BLOBS: &str = "Microsoft.Storage/storageAccounts/blobServices";
/// What is only known when the service has given it out.
const GIVEN_OUT: &[&str] = &["operationId", "jobId", "deletedVaultName"];

/// The key that examples name, and another one.
const KEYS: &[(u8, &str)] = &[
    (1, "https://cmk2xkv.vault.azure.net/keys/Key1/0767b348bb1a4c07baa6c4ec0055d2b3"),
    (2, "https://cmk2xkv.vault.azure.net/keys/Key2"),
];

/// A key of equal bytes that is made known to a service.
fn key(dir: &Path, byte: u8, uri: &str) -> EncryptionKeyConfig {
    let file = dir.join(format!("{byte}.key"));
    std::fs::write(&file, [byte; 32]).unwrap();
    EncryptionKeyConfig { uri: uri.to_owned(), file }
}

/// A service that does nothing by itself.
pub(crate) struct World {
    pub(crate) service: Service,
    operations: BTreeMap<String, (String, String)>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts { by_hand: true, ..Parts::default() };
        let mut config = config(&dir.path().join("data"));
        config.encryption_keys = KEYS.iter().map(|(byte, uri)| key(dir.path(), *byte, uri)).collect();
        let service = Service::start_at(config, parts).await;
        let world = Self { service, operations: operations(), _dir: dir };
        hold_the_queue(&world.service.running.app().db).await;
        world
    }

    async fn sql(&self, statement: &str) {
        let mut tx = self.service.running.app().db.write().await.unwrap();
        query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// The names of what an example is about: its parameters, or where these are silent what its body names.
struct Names {
    group: String,
    vault: String,
    instance: String,
    policy: String,
    location: String,
    account: String,
    datasource_type: String,
    policy_parameters: Option<Value>,
    guard: String,
    proxy: String,
}

fn last_segment(url: &str) -> String {
    url.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap().to_owned()
}

impl Names {
    fn of(example: &Example) -> Self {
        let subject = [
            "/sourceBackupInstanceId",
            "/crossRegionRestoreDetails/sourceBackupInstanceId",
            "/sourceBackupVaultId",
            "/resourceToBeDeleted",
        ];
        let subject = subject.into_iter().find_map(|at| ResourceId::parse(example.text(at)?).ok()).unwrap_or_default();
        let of = |kind: &str, parameter: &str, default: &str| {
            subject.name_of(kind).or(example.parameter(parameter)).unwrap_or(default).to_owned()
        };
        let group = subject.resource_group().or(example.parameter("resourceGroupName")).unwrap_or("group").to_owned();
        let instance = example.instance();
        let datasource = |member: &str| instance.and_then(|instance| instance["dataSourceInfo"][member].as_str());
        let locations = ["/sourceRegion", "/crossRegionRestoreDetails/sourceRegion"];
        let location = locations.into_iter().find_map(|at| example.text(at)).or(datasource("resourceLocation"));
        let policy = example.text("/properties/policyInfo/policyId").map(last_segment);
        let policy = policy.or(example.parameter("backupPolicyName").map(str::to_owned));
        let guard = example.text("/properties/resourceGuardResourceId").map(str::to_owned);
        // The id of a request below the guard: `{guard}/{type}/default`.
        let request = example.text("/resourceGuardOperationRequests/0").and_then(|id| id.rsplitn(3, '/').nth(2));
        let name = example.parameter("resourceGuardsName").unwrap_or("guard");
        let default = format!(
            "/subscriptions/{{}}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{name}"
        );
        let parameters = instance.map(|instance| instance["policyInfo"]["policyParameters"].clone());
        Self {
            vault: of("backupVaults", "vaultName", "vault"),
            instance: of("backupInstances", "backupInstanceName", "instance"),
            policy: policy.unwrap_or_else(|| "policy".to_owned()),
            location: location.unwrap_or("westus").to_owned(),
            account: datasource("resourceID").map_or_else(|| "account".to_owned(), last_segment),
            datasource_type: datasource("datasourceType").unwrap_or(BLOBS).to_owned(),
            policy_parameters: parameters,
            guard: guard.or(request.map(str::to_owned)).unwrap_or(default),
            proxy: example.parameter("resourceGuardProxyName").unwrap_or("DppResourceGuardProxy").to_owned(),
            group,
        }
    }
}

/// All subscriptions of an example are one, which nothing else uses.
fn in_subscription(text: &str, subscription: &str) -> String {
    let mut parts = text.split("subscriptions/");
    let mut moved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        moved.push_str("subscriptions/");
        let id = part.get(..36).filter(|id| uuid::Uuid::try_parse(id).is_ok());
        moved.push_str(id.map_or("", |_| subscription));
        moved.push_str(id.map_or(part, |id| &part[id.len()..]));
    }
    moved
}

fn groups_in(text: &str) -> BTreeSet<String> {
    let segments: Vec<&str> = text.split(['/', '"', '?']).collect();
    let named = segments.windows(2).filter(|pair| pair[0].eq_ignore_ascii_case("resourceGroups"));
    named.map(|pair| pair[1].to_owned()).collect()
}

/// Where one example is played.
pub(crate) struct Stage<'a> {
    world: &'a World,
    example: &'a Example,
    names: Names,
    subscription: String,
    given_out: BTreeMap<&'static str, String>,
}

impl<'a> Stage<'a> {
    /// A new subscription with the groups that the example names.
    pub(crate) async fn new(world: &'a World, example: &'a Example) -> Self {
        let names = Names::of(example);
        let alias = format!("/providers/Microsoft.Subscription/aliases/{}", last_segment(&example.name));
        let made = world.service.put(&alias, json!({})).await.expect(201);
        let subscription = made.body["properties"]["subscriptionId"].as_str().unwrap().to_owned();
        let stage = Self { world, example, names, subscription, given_out: BTreeMap::new() };
        let body = example.body().map(Value::to_string).unwrap_or_default();
        let mut groups = groups_in(&format!("{body}/{}", stage.path_template()));
        groups.insert(stage.names.group.clone());
        groups.extend(example.parameter("resourceGroupName").map(str::to_owned));
        groups.remove("{resourceGroupName}");
        for group in groups {
            let path = format!("/subscriptions/{}/resourceGroups/{group}", stage.subscription);
            let got = stage.call("PUT", &path, json!({"location": "westus"})).await;
            assert!(got.status < 300, "{}", got.text);
        }
        stage
    }

    pub(crate) fn subscription(&self) -> &str {
        &self.subscription
    }

    fn path_template(&self) -> &str {
        &self.world.operations[&self.example.operation].1
    }

    fn group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.names.group)
    }

    fn vault(&self) -> String {
        format!("{}/providers/Microsoft.DataProtection/backupVaults/{}", self.group(), self.names.vault)
    }

    fn policy(&self) -> String {
        format!("{}/backupPolicies/{}", self.vault(), self.names.policy)
    }

    fn account(&self) -> String {
        format!("{}/providers/Microsoft.Storage/storageAccounts/{}", self.group(), self.names.account)
    }

    fn instance(&self) -> String {
        format!("{}/backupInstances/{}", self.vault(), self.names.instance)
    }

    fn guard(&self) -> String {
        in_subscription(&self.names.guard.replace("{}", &self.subscription), &self.subscription)
    }

    fn proxy(&self) -> String {
        format!("{}/backupResourceGuardProxies/{}", self.vault(), self.names.proxy)
    }

    /// A request at the version of the example; null is no body.
    async fn call(&self, method: &str, path: &str, body: Value) -> Got {
        let path = format!("{path}?api-version={}", self.example.parameter("api-version").unwrap());
        let body = (!body.is_null()).then(|| body.to_string());
        let service = &self.world.service;
        service.raw(&service.token, method, &path, body.as_deref()).await
    }

    /// Prepares something.
    pub(crate) async fn set(&mut self, need: Need) {
        match need {
            Need::Vault => self.make_vault().await,
            Need::Encrypted => self.make_encrypted_vault().await,
            Need::Policy => self.make_policy().await,
            Need::Account => self.make_account().await,
            Need::Protected => self.protect("ProtectionConfigured").await,
            Need::Stopped => self.protect("ProtectionStopped").await,
            Need::Suspended => self.protect("BackupSchedulesSuspended").await,
            Need::Deleted => self.delete_instance().await,
            Need::Point => self.add_point().await,
            Need::Job => self.back_up().await,
            Need::Export => self.export().await,
            Need::DeletedVault => self.delete_vault().await,
            Need::Guard => self.make_guard().await,
            Need::Linked => self.link().await,
            Need::Unlocked => self.unlock().await,
        }
    }

    async fn make_vault(&mut self) {
        let body = json!({"location": self.names.location, "identity": {"type": "SystemAssigned"}, "properties": {
            "featureSettings": {"crossRegionRestoreSettings": {"state": "Enabled"}}}});
        let made = self.call("PUT", &self.vault(), body).await.expect(201);
        self.given_out.insert("operationId", last_segment(made.header("azure-asyncoperation")));
    }

    async fn make_encrypted_vault(&mut self) {
        let encryption = json!({"state": "Enabled", "keyVaultProperties": {"keyUri": KEYS[1].1},
            "kekIdentity": {"identityType": "SystemAssigned"}, "infrastructureEncryption": "Enabled"});
        let body = json!({"location": self.names.location, "identity": {"type": "SystemAssigned"}, "properties": {
            "securitySettings": {"encryptionSettings": encryption}}});
        self.call("PUT", &self.vault(), body).await.expect(201);
    }

    async fn make_policy(&mut self) {
        let store = json!({"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"});
        let retention = |name: &str, duration: &str| {
            json!({"objectType": "AzureRetentionRule", "name": name, "isDefault": name == "Default", "lifecycles": [
                {"deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": duration}, "sourceDataStore": store}]})
        };
        let body = json!({"properties": {
            "objectType": "BackupPolicy",
            "datasourceTypes": [self.names.datasource_type],
            "policyRules": [
                retention("Default", "P30D"),
                retention("yearly", "P1Y"),
                {"objectType": "AzureBackupRule", "name": "BackupWeekly", "dataStore": store,
                 "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
                 "trigger": {"objectType": "ScheduleBasedTriggerContext",
                    "schedule": {"repeatingTimeIntervals": ["R/2019-11-20T08:00:00-08:00/P1W"], "timeZone": "UTC"},
                    "taggingCriteria": [{"isDefault": true, "taggingPriority": 99,
                        "tagInfo": {"id": "Default_", "tagName": "Default"}}]}}
            ]
        }});
        self.call("PUT", &self.policy(), body).await.expect(200);
    }

    async fn make_account(&mut self) {
        let is_hierarchical = self.names.datasource_type != BLOBS;
        let body = json!({"location": self.names.location, "kind": "StorageV2", "sku": {"name": "Standard_LRS"},
            "properties": {"isHnsEnabled": is_hierarchical}});
        self.call("PUT", &self.account(), body).await.expect(200);
    }

    async fn protect(&mut self, state: &str) {
        self.make_vault().await;
        self.make_policy().await;
        self.make_account().await;
        let mut policy = json!({"policyId": self.policy()});
        if let Some(parameters) = &self.names.policy_parameters {
            policy["policyParameters"] = parameters.clone();
        }
        let body = json!({"properties": {
            "objectType": "BackupInstance",
            "dataSourceInfo": {
                "objectType": "Datasource",
                "datasourceType": self.names.datasource_type,
                "resourceID": self.account(),
                "resourceLocation": self.names.location,
            },
            "policyInfo": policy,
        }});
        self.call("PUT", &self.instance(), body).await.expect(201);
        let vault = fold(&self.vault());
        self.world
            .sql(&format!("UPDATE jobs SET status = 'Completed', ended_at = {MADE} WHERE vault_key = '{vault}'"))
            .await;
        let states = format!("protection_state = '{state}', provisioning_state = 'Succeeded'");
        self.world.sql(&format!("UPDATE backup_instances SET {states} WHERE vault_key = '{vault}'")).await;
    }

    async fn delete_instance(&mut self) {
        self.protect("SoftDeleted").await;
        let activity = uuid::Uuid::new_v4();
        let times =
            format!("deleted_at = {MADE}, billing_end = {MADE}, purge_at = {LATER}, delete_activity_id = '{activity}'");
        let vault = fold(&self.vault());
        self.world.sql(&format!("UPDATE backup_instances SET {times} WHERE vault_key = '{vault}'")).await;
    }

    /// The point that the example names, by whatever name; kept as the service spells ids of points.
    async fn add_point(&mut self) {
        let pointers = ["/recoveryPointId", "/restoreRequestObject/recoveryPointId"];
        let named = pointers.into_iter().find_map(|at| self.example.text(at));
        let id = named.or(self.example.parameter("recoveryPointId")).unwrap_or("7fb2cddd-c5b3-44f6-a0d9-db3c4f9d5f25");
        let (id, instance) = (id.replace('-', "").to_lowercase(), fold(&self.instance()));
        self.world
            .sql(&format!(
                "INSERT INTO recovery_points (instance_key, id, job_id, created_at, expires_at, tag, rule, policy_name, counts, state, store)
                 VALUES ('{instance}', '{id}', 'job', {MADE}, NULL, 'Default', 'BackupWeekly', '{}', '{{}}', 'Completed', 'VaultStore')",
                self.names.policy
            ))
            .await;
    }

    async fn back_up(&mut self) {
        let body = json!({"backupRuleOptions": {"ruleName": "BackupWeekly"}});
        let accepted = self.call("POST", &format!("{}/backup", self.instance()), body).await.expect(202);
        self.given_out.insert("operationId", last_segment(accepted.header("azure-asyncoperation")));
        let jobs = self.call("GET", &format!("{}/backupJobs", self.vault()), Value::Null).await.expect(200);
        let job = jobs.body["value"][0]["name"].as_str().unwrap().to_owned();
        let times = format!("created_at = {MADE}, started_at = {MADE}, ended_at = {MADE} + 90000000");
        self.world.sql(&format!("UPDATE jobs SET status = 'Completed', {times} WHERE id = '{job}'")).await;
        self.given_out.insert("jobId", job);
    }

    async fn export(&mut self) {
        let accepted = self.call("POST", &format!("{}/exportBackupJobs", self.vault()), Value::Null).await.expect(202);
        self.given_out.insert("operationId", last_segment(accepted.header("location")));
        self.world.sql("UPDATE jobs SET not_before = 0 WHERE kind = 'export_jobs'").await;
        blobkeep_server::jobs::tick(self.world.service.running.app()).await.unwrap();
    }

    async fn delete_vault(&mut self) {
        self.make_vault().await;
        self.make_policy().await;
        self.call("DELETE", &self.vault(), Value::Null).await.expect(202);
        let (subscription, location) = (&self.subscription, &self.names.location);
        let list = format!(
            "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/deletedVaults"
        );
        let deleted = self.call("GET", &list, Value::Null).await.expect(200);
        let name = deleted.body["value"][0]["name"].as_str().unwrap().to_owned();
        self.given_out.insert("deletedVaultName", name);
    }

    async fn make_guard(&mut self) {
        self.call("PUT", &self.guard(), json!({"location": "westus"})).await.expect(200);
    }

    async fn link(&mut self) {
        self.make_guard().await;
        let body = json!({"properties": {"resourceGuardResourceId": self.guard()}});
        self.call("PUT", &self.proxy(), body).await.expect(200);
    }

    async fn unlock(&mut self) {
        self.link().await;
        let request = format!("{}/deleteResourceGuardProxyRequests/default", self.guard());
        let body = json!({"resourceGuardOperationRequests": [request]});
        self.call("POST", &format!("{}/unlockDelete", self.proxy()), body).await.expect(200);
    }

    /// Sends the example's request, and says what was sent.
    pub(crate) async fn send(&self) -> (String, Got) {
        let (method, _) = &self.world.operations[&self.example.operation];
        let path = in_subscription(&self.path(), &self.subscription);
        let service = &self.world.service;
        let url = format!("{}{path}", service.env.endpoint);
        let mut request = service.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        request = request.bearer_auth(&service.token);
        for (name, value) in self.example.parameters().filter(|(name, _)| name.starts_with("x-ms-")) {
            request = request.header(name, in_subscription(&self.named_anew(name, value), &self.subscription));
        }
        if let Some(body) = self.body() {
            let body = in_subscription(&body.to_string(), &self.subscription);
            request = request.header("content-type", "application/json").body(body);
        }
        (format!("{method} {path}"), read(request.send().await.unwrap()).await)
    }

    fn path(&self) -> String {
        let mut path = self.path_template().to_owned();
        for (name, value) in self.example.parameters() {
            let given_out = GIVEN_OUT.contains(&name).then(|| self.given_out.get(name)).flatten();
            let value = given_out.map_or(value, String::as_str).replace(' ', "%20");
            path = path.replace(&format!("{{{name}}}"), &value);
        }
        format!("{path}?api-version={}", self.example.parameter("api-version").unwrap())
    }

    /// The id of a deleted vault has the name that the deletion has given it.
    fn named_anew(&self, header: &str, value: &str) -> String {
        match (header, self.given_out.get("deletedVaultName"), value.rsplit_once('/')) {
            ("x-ms-deleted-vault-id", Some(name), Some((collection, _))) => format!("{collection}/{name}"),
            _ => value.to_owned(),
        }
    }

    fn body(&self) -> Option<Value> {
        let mut body = self.example.body()?.clone();
        for quirk in QUIRKS.iter().filter(|quirk| quirk.examples.contains(&self.example.name.as_str())) {
            *body.pointer_mut(quirk.at).unwrap() = json!(quirk.sent);
        }
        Some(body)
    }
}

//! A real service on a free port, and the little that is needed to talk to it.
//!
//! Its queue is held: jobs are stored and stay where they are, so that a test sees exactly what a handler did and moves things on by
//! itself.

use std::sync::Arc;

use blobkeep_server::db::{Row, query};
use blobkeep_server::{Config, Parts, Running, client_env, serve};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use crate::database::{OwnDatabase, hold_the_queue};

/// The api-version of the public how-to.
pub(crate) const VERSION: &str = "2021-01-01";

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A service with a resource group and two storage accounts.
pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) subscription: String,
    client: Client,
    token: String,
    tenant: String,
    _dir: TempDir,
    _database: Option<Arc<OwnDatabase>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(Parts::default(), |_| {}).await
    }

    /// A service with these parts, whose configuration `change` has seen.
    pub(crate) async fn start_with(parts: Parts, change: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.listen = "127.0.0.1:0".parse().unwrap();
        let database = OwnDatabase::for_service(dir.path()).await;
        if let Some(database) = &database {
            config.database = database.database();
        }
        change(&mut config);
        let running = serve(config, parts).await.unwrap();
        let env = client_env(dir.path()).unwrap();
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&env.ca_file).unwrap()).unwrap();
        let client = Client::builder().tls_certs_only([ca]).build().unwrap();
        let mut service = Self {
            running,
            client,
            token: String::new(),
            tenant: env.tenant_id.clone(),
            subscription: env.subscription_id.clone(),
            _dir: dir,
            _database: database,
        };
        service.token = service.token_of(&env.client_id, &env.client_secret).await;
        hold_the_queue(&service.running.app().db).await;
        for group in ["TestBkpVaultRG", "RG-BlobBackup"] {
            let path = format!("/subscriptions/{}/resourcegroups/{group}", service.subscription);
            let answer = service.put(&path, json!({"location": "westus"})).await;
            assert!(answer.status < 300, "{answer:?}");
        }
        for account in ["msblobbackup", "restoretarget"] {
            let body =
                json!({"location": "westus", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}});
            let answer = service.put(&service.account(account), body).await;
            assert!(answer.status < 300, "{answer:?}");
        }
        service
    }

    pub(crate) fn account(&self, name: &str) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/RG-BlobBackup/providers/Microsoft.Storage/storageAccounts/{name}",
            self.subscription
        )
    }

    pub(crate) fn vault(&self) -> String {
        self.vault_named("testBkpVault")
    }

    pub(crate) fn vault_named(&self, name: &str) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults/{name}",
            self.subscription
        )
    }

    pub(crate) async fn token_of(&self, id: &str, secret: &str) -> String {
        let url = format!("{}/{}/oauth2/v2.0/token", self.running.base_url(), self.tenant);
        let form = format!(
            "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
        );
        let request = self.client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(form);
        let answer = read(request.send().await.unwrap()).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}")).to_owned()
    }

    /// The owner's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A principal without any role; gives its token and object id.
    pub(crate) async fn stranger(&self, name: &str) -> (String, String) {
        let made = self.put(&format!("/providers/Blobkeep.Identity/servicePrincipals/{name}"), json!({})).await;
        let properties = &made.json()["properties"];
        let text = |member: &str| properties[member].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned();
        (self.token_of(&text("appId"), &text("secret")).await, text("objectId"))
    }

    pub(crate) async fn assign(&self, role: &str, principal: &str, scope: &str) {
        let name = uuid::Uuid::new_v4();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
        let role =
            format!("/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}", self.subscription);
        let body = json!({"properties": {"roleDefinitionId": role, "principalId": principal}});
        let answer = self.put(&path, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Sends a request with that token, none if it is empty. A path without a query gets the how-to's api-version.
    pub(crate) async fn send(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.send_with(token, method, path, &[], body).await
    }

    /// The same with further headers.
    pub(crate) async fn send_with(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let url =
            if path.starts_with("https://") { path.to_owned() } else { format!("{}{path}", self.running.base_url()) };
        let url = match (url.contains("api-version="), url.contains('?')) {
            (true, _) => url,
            (false, true) => format!("{url}&api-version={VERSION}"),
            (false, false) => format!("{url}?api-version={VERSION}"),
        };
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !token.is_empty() {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        read(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&self.token, Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(&self.token, Method::PUT, path, Some(&body)).await
    }

    /// The token of the owner of everything.
    pub(crate) fn owner(&self) -> String {
        self.token.clone()
    }

    /// A PUT with one more header.
    pub(crate) async fn put_with(&self, token: &str, path: &str, header: (&str, &str), body: Value) -> Answer {
        let url = format!("{}{path}?api-version={VERSION}", self.running.base_url());
        let request =
            self.client.put(url).header("Authorization", format!("Bearer {token}")).header(header.0, header.1);
        read(request.header("Content-Type", "application/json").body(body.to_string()).send().await.unwrap()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(&self.token, Method::PATCH, path, Some(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(&self.token, Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn post_empty(&self, path: &str) -> Answer {
        self.send(&self.token, Method::POST, path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(&self.token, Method::DELETE, path, None).await
    }

    pub(crate) async fn sql(&mut self, statement: &str) {
        let mut tx = self.running.app().db.write().await.unwrap();
        query(AssertSqlSafe(statement.to_owned())).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The rows of the service's database that a statement gives.
    pub(crate) async fn rows(&self, statement: &str) -> Vec<Row> {
        let mut reader = self.running.app().db.read().await.unwrap();
        query(AssertSqlSafe(statement.to_owned())).fetch_all(&mut reader).await.unwrap()
    }

    /// The first of them.
    pub(crate) async fn row(&self, statement: &str) -> Row {
        self.rows(statement).await.into_iter().next().unwrap_or_else(|| panic!("no row: {statement}"))
    }

    /// The vault of the how-to, with an identity of its own.
    pub(crate) async fn make_vault(&self, name: &str) -> Answer {
        let body = json!({"location": "westUS", "identity": {"type": "systemAssigned"}, "properties": {
            "storageSettings": [{"datastoreType": "VaultStore", "type": "LocallyRedundant"}]}});
        let answer = self.put(&self.vault_named(name), body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer
    }

    /// A policy with both tiers, as the command line client makes it.
    pub(crate) async fn make_policy(&self, vault: &str, name: &str) {
        let answer = self.put(&format!("{}/backupPolicies/{name}", self.vault_named(vault)), policy()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) async fn make_vault_and_policy(&self) {
        self.make_vault("testBkpVault").await;
        self.make_policy("testBkpVault", "BlobBackup-Policy").await;
    }

    /// The how-to's datasource and policy, as they stand in a validation.
    pub(crate) fn instance(&self, vault: &str) -> Value {
        json!({
            "dataSourceInfo": {
              "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
              "objectType": "Datasource",
              "resourceID": self.account("msblobbackup"),
              "resourceLocation": "westUS",
              "resourceName": "msblobbackup",
              "resourceType": "Microsoft.Storage/storageAccounts",
              "resourceUri": ""
            },
            "policyInfo": {"policyId": format!("{}/backupPolicies/BlobBackup-Policy", self.vault_named(vault))},
            "objectType": "BackupInstance"
        })
    }

    /// The same with vaulted backup of two containers.
    pub(crate) fn vaulted_instance(&self, vault: &str) -> Value {
        let mut instance = self.instance(vault);
        instance["policyInfo"]["policyParameters"] = json!({
            "dataStoreParametersList": [],
            "backupDatasourceParametersList": [
                {"objectType": "BlobBackupDatasourceParameters", "containersList": ["container1", "container2"]}]
        });
        instance
    }

    /// Vault, policy and a vaulted instance that is protected; gives the instance's id.
    pub(crate) async fn protect(&mut self) -> String {
        self.make_vault_and_policy().await;
        let id = format!("{}/backupInstances/msblobbackup-1", self.vault());
        let answer = self.put(&id, json!({"properties": self.vaulted_instance("testBkpVault")})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.sql("UPDATE jobs SET status = 'Completed'").await;
        self.set_state("ProtectionConfigured").await;
        id
    }

    pub(crate) async fn set_state(&mut self, state: &str) {
        self.sql(&format!(
            "UPDATE backup_instances SET protection_state = '{state}', provisioning_state = 'Succeeded'"
        ))
        .await;
    }

    /// A point of the only instance, `number` days after 1 March 2025.
    pub(crate) async fn add_point(&mut self, number: i64, store: &str) -> String {
        let id = format!("{number:032x}");
        let time = 1_740_787_200_000_000 + number * 86_400_000_000;
        self.sql(&format!(
            "INSERT INTO recovery_points (instance_key, id, job_id, created_at, expires_at, tag, rule, policy_name, counts, state, store)
             SELECT key, '{id}', 'job', {time}, {time} + 604800000000, 'Default', 'BackupDaily', 'BlobBackup-Policy', '{{}}',
                    'Completed', '{store}' FROM backup_instances"
        ))
        .await;
        id
    }
}

/// The command line client's template for blobs.
pub(crate) fn policy() -> Value {
    let retention = |store: &str, duration: &str| {
        json!({"objectType": "AzureRetentionRule", "name": "Default", "isDefault": true, "lifecycles": [{
            "deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": duration},
            "sourceDataStore": {"dataStoreType": store, "objectType": "DataStoreInfoBase"},
            "targetDataStoreCopySettings": []}]})
    };
    json!({"properties": {
    "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
    "objectType": "BackupPolicy",
    "name": "BlobBackup-Policy",
    "policyRules": [
        retention("OperationalStore", "P30D"),
        retention("VaultStore", "P7D"),
        {"objectType": "AzureBackupRule", "name": "BackupDaily",
         "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
         "dataStore": {"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"},
         "trigger": {"objectType": "ScheduleBasedTriggerContext",
            "schedule": {"repeatingTimeIntervals": ["R/2023-06-28T07:30:00+00:00/P1D"], "timeZone": "UTC"},
            "taggingCriteria": [{"isDefault": true, "taggingPriority": 99,
                "tagInfo": {"id": "Default_", "tagName": "Default"}}]}}
    ]}})
}

async fn read(response: Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Answer { status, headers, text: response.text().await.unwrap() }
}

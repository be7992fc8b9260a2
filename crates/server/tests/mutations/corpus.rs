//! Good requests: every operation that there is, with a path and a body that it takes.

use std::fmt;
use std::net::SocketAddr;

use blobkeep_server::api::routes;
use serde_json::{Value, json};

use crate::common::Service;

/// A request, not yet bytes.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) operation: &'static str,
    pub(crate) method: String,
    /// As it goes onto the wire.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Draft {
    /// The body is more than connections hold on their way.
    pub(crate) fn is_large(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.len() > 64 * 1024)
    }

    /// The bytes of the request. A token is added if no header names one.
    pub(crate) fn bytes(&self, address: &SocketAddr, token: &str) -> Vec<u8> {
        let question = if self.query.is_empty() { "" } else { "?" };
        let mut bytes = format!("{} {}{question}{} HTTP/1.1\r\n", self.method, self.path, self.query).into_bytes();
        bytes.extend_from_slice(format!("Host: localhost:{}\r\n", address.port()).as_bytes());
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("Authorization") {
            bytes.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let body = self.body.as_deref().unwrap_or_default();
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
        let path: String = self.path.chars().take(2_000).collect();
        write!(f, "made from {}: {} {path}?{}", self.operation, self.method, self.query)?;
        for (name, value) in &self.headers {
            write!(f, "\n{name}: {}", begin(value))?;
        }
        if let Some(body) = &self.body {
            write!(f, "\n{} bytes: {}", body.len(), begin(body))?;
        }
        Ok(())
    }
}

/// All good requests.
pub(crate) struct Corpus {
    all: Vec<Draft>,
    repairs: Vec<Draft>,
}

/// What makes again what the others work on, in this order.
const REPAIRS: &[&str] = &[
    "ManagementLocks_DeleteByScope",
    "ResourceGroups_CreateOrUpdate",
    "StorageAccounts_Create",
    "BackupVaults_CreateOrUpdate",
    "BackupPolicies_CreateOrUpdate",
    "BackupInstances_CreateOrUpdate",
];

impl Corpus {
    /// The requests for that service; `principal` is the object id of somebody.
    pub(crate) fn new(service: &Service, principal: &str) -> Self {
        let names = Names::of(service, principal);
        let all: Vec<Draft> =
            routes().into_iter().map(|route| names.draft(route.operation, &route.method, route.pattern)).collect();
        let named = |operation: &&'static str| all.iter().find(|draft| draft.operation == *operation).unwrap().clone();
        let repairs = REPAIRS.iter().map(named).collect();
        Self { all, repairs }
    }

    pub(crate) fn all(&self) -> &[Draft] {
        &self.all
    }

    pub(crate) fn repairs(&self) -> &[Draft] {
        &self.repairs
    }
}

/// What stands for the placeholders of patterns, and in bodies.
struct Names {
    subscription: String,
    tenant: String,
    client: (String, String),
    principal: String,
}

const GUID: &str = "5f1d2a8e-3b47-4c7e-9d52-0a6f1c3e7b90";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

impl Names {
    fn of(service: &Service, principal: &str) -> Self {
        Self {
            subscription: service.env.subscription_id.clone(),
            tenant: service.env.tenant_id.clone(),
            client: (service.env.client_id.clone(), service.env.client_secret.clone()),
            principal: principal.to_owned(),
        }
    }

    fn group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/mutants", self.subscription)
    }

    fn account(&self) -> String {
        format!("{}/providers/Microsoft.Storage/storageAccounts/mutants", self.group())
    }

    fn vault(&self) -> String {
        format!("{}/providers/Microsoft.DataProtection/backupVaults/mutants", self.group())
    }

    fn draft(&self, operation: &'static str, method: &http::Method, pattern: &str) -> Draft {
        let group = self.group();
        let mut path = pattern.replace("/{*scope}", &group).replace("{*scope}", &group);
        for (name, value) in [
            ("subscription", self.subscription.as_str()),
            ("tenant", &self.tenant),
            ("object", &self.principal),
            ("group", "mutants"),
            ("account", "mutants"),
            ("vault", "mutants"),
            ("policy", "daily"),
            ("instance", "mutants"),
            ("container", "photos"),
            ("location", "westus"),
            ("namespace", "Microsoft.DataProtection"),
            ("point", "5f1d2a8e3b474c7e9d520a6f1c3e7b90"),
            ("name", if pattern.contains("Authorization/role") { GUID } else { "somebody" }),
        ] {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        // What other resources call their names.
        while let Some((start, length)) = path.find('{').and_then(|at| path[at..].find('}').map(|end| (at, end + 1))) {
            path.replace_range(start..start + length, GUID);
        }
        let is_token = operation.starts_with("Token_Issue");
        let body =
            if is_token { Some(self.form()) } else { self.body(operation).map(|body| body.to_string().into_bytes()) };
        let content_type = if is_token { "application/x-www-form-urlencoded" } else { "application/json" };
        let changes = method != http::Method::GET && method != http::Method::HEAD && method != http::Method::DELETE;
        Draft {
            operation,
            method: method.to_string(),
            path,
            query: "api-version=2025-09-01".to_owned(),
            headers: vec![("Content-Type".to_owned(), content_type.as_bytes().to_vec())],
            body: body.or_else(|| changes.then(|| b"{}".to_vec())),
        }
    }

    fn form(&self) -> Vec<u8> {
        let (id, secret) = &self.client;
        let form =
            format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=x/.default&resource=x");
        form.into_bytes()
    }

    fn body(&self, operation: &str) -> Option<Value> {
        let tagged = || json!({ "location": "westus", "tags": { "a": "b" } });
        Some(match operation {
            "ResourceGroups_CreateOrUpdate" | "ResourceGroups_Update" => tagged(),
            "StorageAccounts_Create" => json!({
                "location": "westus", "kind": "StorageV2", "sku": { "name": "Standard_LRS" }, "tags": { "a": "b" },
                "properties": { "accessTier": "Hot" },
            }),
            // Refused, for no folder is allowed: with a connection that is taken, others would wait for the network.
            "StorageAccounts_Update" => json!({
                "tags": { "a": "b" },
                "properties": { "connection": { "kind": "LocalFolder", "url": "file:///nowhere", "accountName": "mutants" } },
            }),
            "BackupVaults_CreateOrUpdate" | "BackupVaults_Update" => json!({
                "location": "westus", "identity": { "type": "SystemAssigned" }, "tags": { "a": "b" },
                "properties": {
                    "storageSettings": [{ "datastoreType": "VaultStore", "type": "LocallyRedundant" }],
                    "securitySettings": {
                        "softDeleteSettings": { "state": "On", "retentionDurationInDays": 14 },
                        "immutabilitySettings": { "state": "Disabled" },
                    },
                    "featureSettings": { "crossSubscriptionRestoreSettings": { "state": "Enabled" } },
                },
            }),
            "BackupVaults_CheckNameAvailability" => {
                json!({ "name": "other", "type": "Microsoft.DataProtection/backupVaults" })
            }
            "BackupPolicies_CreateOrUpdate" | "BlobkeepPolicies_Preview" => policy(),
            "BlobkeepPoints_Browse" => json!({ "container": "photos", "prefix": "a/", "delimiter": "/" }),
            "BlobkeepPoints_Diff" => {
                json!({ "with": "5f1d2a8e3b474c7e9d520a6f1c3e7b90", "container": "photos", "prefix": "a/" })
            }
            "BlobkeepInstances_Search" => json!({ "pattern": "**/a*", "containers": ["photos"] }),
            "BackupInstances_CreateOrUpdate" => json!({ "tags": { "a": "b" }, "properties": self.instance() }),
            "BackupInstances_ValidateForBackup" | "BackupInstances_ValidateForModifyBackup" => {
                json!({ "backupInstance": self.instance() })
            }
            "BackupInstances_AdhocBackup" => json!({ "backupRuleOptions": {
                "ruleName": "BackupDaily", "triggerOption": { "retentionTagOverride": "Default" } } }),
            "BackupInstances_TriggerRestore" => self.restore(),
            "BackupInstances_ValidateForRestore" => json!({ "restoreRequestObject": self.restore() }),
            "RestorableTimeRanges_Find" => json!({
                "sourceDataStoreType": "OperationalStore",
                "startTime": "2021-01-01T00:00:00.0000000Z", "endTime": "2031-01-01T00:00:00.0000000Z" }),
            "RoleAssignments_Create" => json!({ "properties": {
                "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{READER}"),
                "principalId": self.principal, "principalType": "ServicePrincipal", "description": "x" } }),
            "RoleDefinitions_CreateOrUpdate" => json!({ "properties": {
                "roleName": "Mutant", "description": "x", "type": "CustomRole", "assignableScopes": [self.group()],
                "permissions": [{ "actions": ["Microsoft.DataProtection/*/read"], "notActions": ["*/secret/read"], "dataActions": [] }] } }),
            "ManagementLocks_CreateOrUpdateByScope" => {
                json!({ "properties": { "level": "CanNotDelete", "notes": "x" } })
            }
            "Alias_Create" => json!({ "properties": { "displayName": "x", "subscriptionId": GUID } }),
            "Graph_GetByIds" => json!({ "ids": [self.principal], "types": ["servicePrincipal"] }),
            _ => return None,
        })
    }

    fn instance(&self) -> Value {
        json!({
            "objectType": "BackupInstance",
            "friendlyName": "mutants",
            "dataSourceInfo": {
                "objectType": "Datasource",
                "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
                "resourceID": self.account(),
                "resourceName": "mutants",
                "resourceType": "Microsoft.Storage/storageAccounts",
                "resourceLocation": "westus",
                "resourceUri": "",
            },
            "policyInfo": {
                "policyId": format!("{}/backupPolicies/daily", self.vault()),
                "policyParameters": { "backupDatasourceParametersList": [
                    { "objectType": "BlobBackupDatasourceParameters", "containersList": ["photos"] }] },
            },
        })
    }

    fn restore(&self) -> Value {
        json!({
            "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
            "recoveryPointId": "5f1d2a8e3b474c7e9d520a6f1c3e7b90",
            "sourceDataStoreType": "VaultStore",
            "restoreTargetInfo": {
                "objectType": "ItemLevelRestoreTargetInfo",
                "recoveryOption": "FailIfExists",
                "restoreLocation": "westus",
                "datasourceInfo": { "objectType": "Datasource", "resourceID": self.account() },
                "restoreCriteria": [{ "objectType": "ItemPathBasedRestoreCriteria", "itemPath": "photos",
                    "isPathRelativeToBackupItem": true, "subItemPathPrefix": ["a/"], "renameTo": "restored" }],
            },
        })
    }
}

fn policy() -> Value {
    let retention = |store: &str| {
        json!({ "objectType": "AzureRetentionRule", "name": "Default", "isDefault": true, "lifecycles": [{
            "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": "P30D" },
            "sourceDataStore": { "dataStoreType": store, "objectType": "DataStoreInfoBase" } }] })
    };
    json!({ "properties": {
        "objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
        "policyRules": [retention("OperationalStore"), retention("VaultStore"), {
            "objectType": "AzureBackupRule",
            "name": "BackupDaily",
            "backupParameters": { "objectType": "AzureBackupParams", "backupType": "Discrete" },
            "dataStore": { "dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase" },
            "trigger": {
                "objectType": "ScheduleBasedTriggerContext",
                "schedule": { "repeatingTimeIntervals": ["R/2023-06-28T07:30:00+00:00/P1D"], "timeZone": "UTC" },
                "taggingCriteria": [
                    { "isDefault": true, "taggingPriority": 99, "tagInfo": { "id": "Default_", "tagName": "Default" } }],
            },
        }],
    }})
}

//! Providers: what is served under which namespace, and what is answered to paths that nobody serves.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, ParsedPath, envelope};
use http::Method;
use serde_json::{Value, json};

use super::request::{ApiVersion, NEWEST_API_VERSION};
use super::subscriptions::require_subscription;
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Providers_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "Providers_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/{namespace}",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "Providers_Register",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/providers/{namespace}/register",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "Providers_ListAtTenantScope",
        method: Method::GET,
        pattern: "/providers",
        access: Access::SignedIn,
        handler: |_, _| {
            Box::pin(async { Ok(Answer::ok(envelope::list(SERVED.iter().map(|p| p.body(None)).collect(), None))) })
        },
    },
    Route {
        operation: "Providers_GetAtTenantScope",
        method: Method::GET,
        pattern: "/providers/{namespace}",
        access: Access::SignedIn,
        handler: |_, request| Box::pin(async move { Ok(Answer::ok(served(request.param("namespace"))?.body(None))) }),
    },
];

/// A provider that is served.
#[derive(Debug)]
struct Provider {
    namespace: &'static str,
    /// Types with the api-versions that are named for them, newest first. Other dates are accepted all the same.
    types: &'static [(&'static str, &'static [&'static str])],
}

const DATA_PROTECTION: &[&str] = &[
    NEWEST_API_VERSION,
    "2026-03-01",
    "2025-09-01",
    "2025-07-01",
    "2025-01-01",
    "2024-04-01",
    "2023-11-01",
    "2021-01-01",
];
const STORAGE: &[&str] = &["2025-08-01", "2024-01-01", "2023-05-01", "2022-09-01", "2021-01-01"];
const AUTHORIZATION: &[&str] = &["2022-04-01", "2021-04-01"];
const RESOURCES: &[&str] = &["2024-11-01", "2022-12-01", "2021-04-01"];

/// Everything that is served, in the order in which it is listed.
const SERVED: &[Provider] = &[
    Provider {
        namespace: "Microsoft.DataProtection",
        types: &[
            ("backupVaults", DATA_PROTECTION),
            ("backupVaults/backupPolicies", DATA_PROTECTION),
            ("backupVaults/backupInstances", DATA_PROTECTION),
            ("backupVaults/backupInstances/recoveryPoints", DATA_PROTECTION),
            ("backupVaults/backupJobs", DATA_PROTECTION),
            ("backupVaults/deletedBackupInstances", DATA_PROTECTION),
            ("backupInstances", DATA_PROTECTION),
            ("locations", DATA_PROTECTION),
            ("locations/checkNameAvailability", DATA_PROTECTION),
            ("locations/deletedVaults", DATA_PROTECTION),
            ("locations/operationStatus", DATA_PROTECTION),
            ("locations/operationResults", DATA_PROTECTION),
            ("operations", DATA_PROTECTION),
            ("locations/checkFeatureSupport", DATA_PROTECTION),
            ("locations/crossRegionRestore", DATA_PROTECTION),
            ("locations/validateCrossRegionRestore", DATA_PROTECTION),
            ("locations/fetchSecondaryRecoveryPoints", DATA_PROTECTION),
            ("locations/fetchCrossRegionRestoreJobs", DATA_PROTECTION),
            ("locations/fetchCrossRegionRestoreJob", DATA_PROTECTION),
            ("backupVaults/backupResourceGuardProxies", DATA_PROTECTION),
            ("resourceGuards", DATA_PROTECTION),
        ],
    },
    Provider {
        namespace: "Microsoft.Storage",
        types: &[
            ("storageAccounts", STORAGE),
            ("storageAccounts/blobServices", STORAGE),
            ("storageAccounts/blobServices/containers", STORAGE),
            ("checkNameAvailability", STORAGE),
        ],
    },
    Provider {
        namespace: "Microsoft.Authorization",
        types: &[
            ("roleAssignments", AUTHORIZATION),
            ("roleDefinitions", AUTHORIZATION),
            ("locks", &["2020-05-01", "2016-09-01"]),
        ],
    },
    Provider {
        namespace: "Microsoft.Resources",
        types: &[
            ("subscriptions", RESOURCES),
            ("subscriptions/resourceGroups", RESOURCES),
            ("subscriptions/locations", RESOURCES),
            ("subscriptions/providers", RESOURCES),
            ("tenants", RESOURCES),
        ],
    },
    Provider { namespace: "Microsoft.Subscription", types: &[("aliases", &["2021-10-01"])] },
    Provider { namespace: "Blobkeep.Identity", types: &[("servicePrincipals", &["2021-01-01"])] },
    Provider { namespace: "Blobkeep.DataProtection", types: &[] },
];

impl Provider {
    fn body(&self, subscription: Option<&str>) -> Value {
        let id = match subscription {
            Some(subscription) => format!("/subscriptions/{subscription}/providers/{}", self.namespace),
            None => format!("/providers/{}", self.namespace),
        };
        let types: Vec<Value> = self
            .types
            .iter()
            .map(|(kind, versions)| {
                json!({
                    "resourceType": kind,
                    "locations": LOCATIONS.iter().map(|location| location.display_name).collect::<Vec<_>>(),
                    "apiVersions": versions,
                    "defaultApiVersion": versions.first(),
                    "capabilities": "None",
                })
            })
            .collect();
        json!({
            "id": id,
            "namespace": self.namespace,
            "resourceTypes": types,
            "registrationState": "Registered",
            "registrationPolicy": "RegistrationFree",
        })
    }
}

/// A location that can be named. Every other name is accepted, too: a location is a label here.
#[derive(Debug)]
pub(super) struct Location {
    /// As it stands in ids and URLs.
    pub(super) name: &'static str,
    /// For people.
    pub(super) display_name: &'static str,
}

/// Locations that are listed.
pub(super) const LOCATIONS: &[Location] = &[
    Location { name: "local", display_name: "Local" },
    Location { name: "eastus", display_name: "East US" },
    Location { name: "eastus2", display_name: "East US 2" },
    Location { name: "westus", display_name: "West US" },
    Location { name: "westus2", display_name: "West US 2" },
    Location { name: "westus3", display_name: "West US 3" },
    Location { name: "centralus", display_name: "Central US" },
    Location { name: "northcentralus", display_name: "North Central US" },
    Location { name: "southcentralus", display_name: "South Central US" },
    Location { name: "northeurope", display_name: "North Europe" },
    Location { name: "westeurope", display_name: "West Europe" },
    Location { name: "uksouth", display_name: "UK South" },
    Location { name: "ukwest", display_name: "UK West" },
    Location { name: "francecentral", display_name: "France Central" },
    Location { name: "germanywestcentral", display_name: "Germany West Central" },
    Location { name: "swedencentral", display_name: "Sweden Central" },
    Location { name: "switzerlandnorth", display_name: "Switzerland North" },
    Location { name: "eastasia", display_name: "East Asia" },
    Location { name: "southeastasia", display_name: "Southeast Asia" },
    Location { name: "japaneast", display_name: "Japan East" },
    Location { name: "australiaeast", display_name: "Australia East" },
    Location { name: "centralindia", display_name: "Central India" },
    Location { name: "canadacentral", display_name: "Canada Central" },
    Location { name: "brazilsouth", display_name: "Brazil South" },
];

fn served(namespace: &str) -> ApiResult<&'static Provider> {
    SERVED
        .iter()
        .find(|provider| provider.namespace.eq_ignore_ascii_case(namespace))
        .ok_or_else(|| ApiError::of(ErrorCode::InvalidResourceNamespace, &[("namespace", namespace)]))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let subscription = require_subscription(&app, &request).await?;
    let values = SERVED.iter().map(|provider| provider.body(Some(&subscription.id))).collect();
    Ok(Answer::ok(envelope::list(values, None)))
}

/// Registration changes nothing: every provider is always there.
async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let subscription = require_subscription(&app, &request).await?;
    Ok(Answer::ok(served(request.param("namespace"))?.body(Some(&subscription.id))))
}

/// What is answered when no route has the path: the resource manager's distinction between namespace, type and anything else.
pub(super) fn nothing_there(path: &ParsedPath, version: &ApiVersion) -> ApiError {
    let (namespace, kinds) = match (path.id.provider(), path.rest.as_slice()) {
        (_, [word, namespace, kinds @ ..]) if word.eq_ignore_ascii_case("providers") => {
            (Some(namespace.as_str()), kinds.iter().map(String::as_str).collect::<Vec<_>>())
        }
        (Some(namespace), rest) => {
            let own = path.id.types().iter().map(|(kind, _)| kind.as_str());
            (Some(namespace), own.chain(rest.iter().map(String::as_str)).collect())
        }
        (None, _) => (None, Vec::new()),
    };
    let Some(namespace) = namespace else {
        return ApiError::of(ErrorCode::NotFound, &[("path", &path.decoded())]);
    };
    match served(namespace) {
        Err(error) => error,
        Ok(provider) => ApiError::of(
            ErrorCode::InvalidResourceType,
            &[("kind", &kinds.join("/")), ("namespace", provider.namespace), ("version", version.as_str())],
        ),
    }
}

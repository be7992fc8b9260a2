//! What answers have depends on the api-version.

use serde_json::{Value, json};

use crate::service::Service;

/// The names in `one` that `other` does not have, sorted.
fn missing(one: &Value, other: &Value) -> Vec<String> {
    let names = one.as_object().unwrap().keys();
    let mut missing: Vec<String> = names.filter(|name| other.get(name.as_str()).is_none()).cloned().collect();
    missing.sort();
    missing
}

impl Service {
    async fn in_version(&self, path: &str, version: &str) -> Value {
        let answer = self.get(&format!("{path}?api-version={version}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

#[tokio::test]
async fn jobs_have_from_2026_06_01_on_what_its_document_names_and_before_also_what_was_recorded() {
    let mut service = Service::start().await;
    let instance = service.protect().await;
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    assert_eq!(service.post(&format!("{instance}/backup"), body).await.status, 202);
    let list = format!("{}/backupJobs", service.vault());
    let job = service.get(&list).await.json()["value"][0]["name"].as_str().unwrap().to_owned();
    for (path, place) in [(list.clone(), "/value/0"), (format!("{list}/{job}"), "")] {
        let newer = service.in_version(&path, "2026-06-01").await;
        for older in ["2021-01-01", "2025-09-01", "2025-12-31-preview"] {
            let older = service.in_version(&path, older).await;
            let properties = |body: &Value| body.pointer(place).unwrap()["properties"].clone();
            let (older, newer) = (properties(&older), properties(&newer));
            assert_eq!(missing(&older, &newer), ["isCrossRegionRestore", "sourceDataStoreType"]);
            assert_eq!(missing(&newer, &older), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn deleted_vaults_have_from_2026_06_01_on_what_its_document_names_and_before_also_what_was_recorded() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    assert_eq!(service.delete(&service.vault()).await.status, 202);
    let locations = format!("/subscriptions/{}/providers/Microsoft.DataProtection/locations", service.subscription);
    let list = format!("{locations}/westus/deletedVaults");
    let name = service.get(&list).await.json()["value"][0]["name"].as_str().unwrap().to_owned();
    for (path, place) in [(list.clone(), "/value/0"), (format!("{list}/{name}"), "")] {
        let (older, newer) =
            (service.in_version(&path, "2025-09-01").await, service.in_version(&path, "2026-06-01").await);
        let (older, newer) = (older.pointer(place).unwrap(), newer.pointer(place).unwrap());
        assert_eq!(missing(older, newer), ["location", "tags"]);
        assert_eq!(missing(newer, older), Vec::<String>::new());
        let info = |body: &Value| body["properties"]["resourceDeletionInfo"].clone();
        assert_eq!(missing(&info(older), &info(newer)), ["deleteActivityID"]);
        assert_eq!(info(newer)["deleteActivityId"], info(older)["deleteActivityID"]);
    }
}

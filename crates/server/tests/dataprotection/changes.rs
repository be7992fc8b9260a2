//! A PUT on an instance that is being configured or changed: the same one again, another one, and one that nobody works on any more.

use serde_json::{Value, json};

use crate::service::{Answer, Service};

/// A PUT body with these containers.
fn wanted(service: &Service, containers: &[&str]) -> Value {
    let mut instance = service.vaulted_instance("testBkpVault");
    instance["policyInfo"]["policyParameters"]["backupDatasourceParametersList"][0]["containersList"] =
        json!(containers);
    json!({"properties": instance})
}

/// The operation that a PUT is followed by.
fn operation(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    let url = answer.header("azure-asyncoperation");
    url.split('?').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_change_that_is_sent_again_is_the_same_operation_and_another_one_waits() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let first = operation(&service.put(&id, wanted(&service, &["container3"])).await);
    let again = operation(&service.put(&id, wanted(&service, &["container3"])).await);
    assert_eq!(first, again);
    let other = service.put(&id, wanted(&service, &["container4"])).await;
    assert_eq!((other.status, other.code().as_str()), (409, "UserErrorOperationNotAllowedInState"));
    let back = service.put(&id, wanted(&service, &["container1", "container2"])).await;
    assert_eq!(back.code(), "UserErrorOperationNotAllowedInState", "what it still shows is not what it will be");
    assert_eq!(service.queued("update_instance").await.len(), 1);
}

#[tokio::test]
async fn a_configuration_that_is_sent_again_is_the_same_operation() {
    let mut service = Service::start().await;
    service.make_vault_and_policy().await;
    let id = format!("{}/backupInstances/msblobbackup-1", service.vault());
    let containers = ["container1", "container2"];
    let first = operation(&service.put(&id, wanted(&service, &containers)).await);
    assert_eq!(operation(&service.put(&id, wanted(&service, &containers)).await), first);
    assert_eq!(service.put(&id, wanted(&service, &["container4"])).await.status, 409);
    assert_eq!(service.queued("configure").await.len(), 1);
}

#[tokio::test]
async fn a_state_that_no_job_will_end_is_worked_on_anew() {
    for state in ["ConfiguringProtection", "UpdatingProtection"] {
        let mut service = Service::start().await;
        let id = service.protect().await;
        service.set_state(state).await;
        let before = service.queued("configure").await.len();
        let answer = service.put(&id, wanted(&service, &["container1", "container2"])).await;
        let url = operation(&answer);
        assert_eq!(service.get(&url).await.json()["status"], "Inprogress", "{state}");
        assert_eq!(service.queued("configure").await.len(), before + 1, "{state}");
        assert_eq!(answer.json()["properties"]["currentProtectionState"], "ConfiguringProtection");
    }
}

#[tokio::test]
async fn a_datasource_is_kept_in_the_form_that_jobs_compare() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    let id = format!("{}/backupInstances/msblobbackup-1", service.vault());
    let mut body = wanted(&service, &["container1"]);
    let own = service.account("msblobbackup");
    body["properties"]["dataSourceInfo"]["resourceID"] = json!(own.replace("msblobbackup", "msblob%62ackup/"));
    let made = service.put(&id, body.clone()).await;
    assert_eq!(made.json()["properties"]["dataSourceInfo"]["resourceID"], json!(own), "{made:?}");
    assert_eq!(service.delete(&service.account("msblobbackup")).await.code(), "StorageAccountProtected");
}

#[tokio::test]
async fn tags_are_kept_replaced_and_left_out_where_there_are_none() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    assert!(service.get(&id).await.json().get("tags").is_none());
    let properties = service.vaulted_instance("testBkpVault");
    let body = json!({"tags": {"Location": "cellar"}, "properties": properties});
    let made = service.put(&id, body).await;
    assert_eq!((made.status, &made.json()["tags"]), (201, &json!({"Location": "cellar"})));
    assert_eq!(made.json()["properties"]["currentProtectionState"], "ProtectionConfigured", "tags change nothing else");
    service.put(&id, json!({"properties": properties})).await;
    let kept = service.get(&format!("{}/backupInstances", service.vault())).await.json();
    assert_eq!(kept["value"][0]["tags"], json!({"Location": "cellar"}), "a PUT without tags leaves them");
    service.set_state("SoftDeleted").await;
    service.sql("UPDATE backup_instances SET deleted_at = 1, purge_at = 9000000000000000").await;
    let deleted = format!("{}/deletedBackupInstances/msblobbackup-1", service.vault());
    let answer = service.get(&deleted).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("tags").is_none(), "deleted instances have none");
    service.set_state("ProtectionConfigured").await;
    let none = service.put(&id, json!({"tags": {}, "properties": properties})).await;
    assert!(none.json().get("tags").is_none(), "{none:?}");
    let bad = service.put(&id, json!({"tags": {"a": 1}, "properties": properties})).await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "UserErrorInvalidParameterInRequest"));
}

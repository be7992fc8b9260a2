//! Lists and their pages, of two rows here: whole in the end, steady between two pages, and silent about what may not be read.

use blobkeep_server::Parts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::BACKUP_READER;
use crate::service::{Answer, Service, policy};

/// Some time in 2096, so that nothing here is purged meanwhile.
const LATER: &str = "4000000000000000";

async fn service() -> Service {
    Service::start_with(Parts::default(), |config| config.api.page_size = 2).await
}

fn names(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let values = body["value"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    values.iter().map(|value| value["name"].as_str().unwrap().to_owned()).collect()
}

fn next_link(answer: &Answer) -> Option<String> {
    answer.json().get("nextLink").map(|link| link.as_str().unwrap().to_owned())
}

impl Service {
    /// The names on each page of a list.
    async fn pages(&self, token: &str, path: &str) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(url) = next {
            let answer = self.send(token, Method::GET, &url, None).await;
            assert_eq!(answer.status, 200, "{url}: {answer:?}");
            pages.push(names(&answer));
            next = next_link(&answer);
            assert!(pages.len() < 20, "the pages of {path} do not end");
        }
        pages
    }

    /// The only instance once more, under that name and for another account.
    async fn copy_instance(&mut self, name: &str, state: &str) {
        let uuid = uuid::Uuid::new_v4();
        self.sql(&format!(
            "INSERT INTO backup_instances (key, id, name, vault_key, instance_uuid, datasource_key, properties, policy_key,
                 protection_state, provisioning_state, deleted_at, billing_end, purge_at, created_at, updated_at)
             SELECT vault_key || '/backupinstances/{name}', replace(id, name, '{name}'), '{name}', vault_key, '{uuid}',
                 datasource_key || '{name}', properties, policy_key, '{state}', 'Succeeded', {LATER}, {LATER}, {LATER},
                 created_at, updated_at
             FROM backup_instances WHERE name = 'msblobbackup-1'"
        ))
        .await;
    }

    /// The only backup job once more, so many seconds later.
    async fn copy_job(&mut self, id: &str, seconds: i64) {
        self.sql(&format!(
            "INSERT INTO jobs (id, vault_key, instance_key, kind, visible, status, spec, state, principal_id, correlation_id,
                 created_at, not_before, display)
             SELECT '{id}', vault_key, instance_key, kind, visible, status, spec, state, principal_id, correlation_id,
                 created_at + {}, not_before, display
             FROM jobs WHERE kind = 'backup' ORDER BY created_at LIMIT 1",
            seconds * 1_000_000
        ))
        .await;
    }
}

fn two_by_two(names: &[&str]) -> Vec<Vec<String>> {
    names.chunks(2).map(|page| page.iter().map(|name| (*name).to_owned()).collect()).collect()
}

#[tokio::test]
async fn lists_of_resources_are_whole_and_in_order_over_their_pages() {
    let service = service().await;
    let subscription = format!("/subscriptions/{}", service.subscription);
    let group = format!("{subscription}/resourceGroups/TestBkpVaultRG");
    for name in ["Vault-5", "vault-2", "vault-3", "vault-1", "vault-4"] {
        service.make_vault(name).await;
    }
    let vaults = two_by_two(&["vault-1", "vault-2", "vault-3", "vault-4", "Vault-5"]);
    for scope in [&subscription, &group] {
        let list = format!("{scope}/providers/Microsoft.DataProtection/backupVaults");
        assert_eq!(service.pages(service.token(), &list).await, vaults, "{scope}");
    }

    for name in ["third", "fourth", "fifth"] {
        let answer = service.put(&service.account(name), json!({"location": "westus"})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let accounts = two_by_two(&["fifth", "fourth", "msblobbackup", "restoretarget", "third"]);
    for scope in [&subscription, &format!("{subscription}/resourceGroups/RG-BlobBackup")] {
        let list = format!("{scope}/providers/Microsoft.Storage/storageAccounts");
        assert_eq!(service.pages(service.token(), &list).await, accounts, "{scope}");
    }

    for name in ["a", "z", "m"] {
        let answer = service.put(&format!("{subscription}/resourceGroups/{name}"), json!({"location": "westus"})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let groups = two_by_two(&["a", "m", "RG-BlobBackup", "TestBkpVaultRG", "z"]);
    assert_eq!(service.pages(service.token(), &format!("{subscription}/resourceGroups")).await, groups);
}

#[tokio::test]
async fn lists_in_a_vault_are_whole_and_in_order_over_their_pages() {
    let mut service = service().await;
    let id = service.protect().await;
    let vault = service.vault();
    for name in ["pol-4", "pol-2", "pol-1", "pol-3"] {
        service.make_policy("testBkpVault", name).await;
    }
    let policies = two_by_two(&["BlobBackup-Policy", "pol-1", "pol-2", "pol-3", "pol-4"]);
    assert_eq!(service.pages(service.token(), &format!("{vault}/backupPolicies")).await, policies);

    let point = |number: i64| format!("{number:032x}");
    for number in 1..=5 {
        service.add_point(number, "VaultStore").await;
    }
    service.sql("UPDATE recovery_points SET created_at = created_at - 86400000000 WHERE id LIKE '%4'").await;
    service.add_point(9, "OperationalStore").await;
    let points = [vec![point(5), point(4)], vec![point(3), point(2)], vec![point(1)]];
    assert_eq!(service.pages(service.token(), &format!("{id}/recoveryPoints")).await, points);

    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    assert_eq!(service.post(&format!("{id}/backup"), body).await.status, 202);
    let first = names(&service.get(&format!("{vault}/backupJobs")).await).remove(0);
    let job = |number: i64| format!("00000000-0000-0000-0000-00000000000{number}");
    for (number, seconds) in [(2, 1), (3, 1), (4, 2), (1, -1)] {
        service.copy_job(&job(number), seconds).await;
    }
    let jobs = [vec![job(4), job(3)], vec![job(2), first], vec![job(1)]];
    assert_eq!(service.pages(service.token(), &format!("{vault}/backupJobs")).await, jobs);

    for name in ["e", "c", "d"] {
        service.copy_instance(&format!("live-{name}"), "ProtectionStopped").await;
        service.copy_instance(&format!("gone-{name}"), "SoftDeleted").await;
    }
    let live = two_by_two(&["live-c", "live-d", "live-e", "msblobbackup-1"]);
    assert_eq!(service.pages(service.token(), &format!("{vault}/backupInstances")).await, live);
    let gone = two_by_two(&["gone-c", "gone-d", "gone-e"]);
    assert_eq!(service.pages(service.token(), &format!("{vault}/deletedBackupInstances")).await, gone);
}

#[tokio::test]
async fn a_link_keeps_the_rest_of_the_request() {
    let mut service = service().await;
    let id = service.protect().await;
    for number in 1..=6 {
        service.add_point(number, "VaultStore").await;
    }
    let filter = "startDate%20eq%20'2025-03-03T00:00:00.0000000%2B00:00'%20and%20endDate%20eq%20'2025-03-05T12:00:00Z'";
    let list = format!("{id}/recoveryPoints?$filter={filter}&api-version=2025-09-01");
    let first = service.get(&list).await;
    let link = next_link(&first).unwrap();
    assert!(link.contains("?api-version=2025-09-01&$filter=startDate%20eq%20"), "{link}");
    let counts: Vec<usize> = service.pages(service.token(), &list).await.iter().map(Vec::len).collect();
    assert_eq!(counts, [2, 1], "the filter holds on every page");

    let group = format!("/subscriptions/{}/resourceGroups/%C3%BCberall_(1)", service.subscription);
    assert_eq!(service.put(&group, json!({"location": "westus"})).await.status, 201);
    let list = format!("{group}/providers/Microsoft.DataProtection/backupVaults");
    for name in ["one", "two", "three"] {
        let answer = service.put(&format!("{list}/{name}"), json!({"location": "westus"})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let link = next_link(&service.get(&list).await).unwrap();
    assert!(link.starts_with(&format!("{}{list}?", service.running.base_url())), "{link}");
    assert_eq!(service.pages(service.token(), &list).await, two_by_two(&["one", "three", "two"]));
}

#[tokio::test]
async fn a_page_is_full_of_what_may_be_read_and_tells_of_nothing_else() {
    let service = service().await;
    for number in 1..=9 {
        service.make_vault(&format!("vault-{number}")).await;
    }
    let subscription = format!("/subscriptions/{}", service.subscription);
    let list = format!("{subscription}/providers/Microsoft.DataProtection/backupVaults");

    let (some, object_id) = service.stranger("some").await;
    for number in [3, 6, 8] {
        service.assign(BACKUP_READER, &object_id, &service.vault_named(&format!("vault-{number}"))).await;
    }
    assert_eq!(service.pages(&some, &list).await, two_by_two(&["vault-3", "vault-6", "vault-8"]));

    let (two, object_id) = service.stranger("two").await;
    for number in [1, 2] {
        service.assign(BACKUP_READER, &object_id, &service.vault_named(&format!("vault-{number}"))).await;
    }
    assert_eq!(service.pages(&two, &list).await, two_by_two(&["vault-1", "vault-2"]), "what follows is not announced");

    let (none, _) = service.stranger("none").await;
    let nothing: Vec<Vec<String>> = vec![vec![]];
    for list in [
        list.clone(),
        list.replace("/providers/", "/resourceGroups/TestBkpVaultRG/providers/"),
        format!("{subscription}/resourceGroups/RG-BlobBackup/providers/Microsoft.Storage/storageAccounts"),
    ] {
        let answer = service.send(&none, Method::GET, &list, None).await;
        if answer.status == 200 {
            assert_eq!(service.pages(&none, &list).await, nothing, "{list}");
        } else {
            assert_eq!(answer.code(), "AuthorizationFailed", "{list}");
        }
    }
}

#[tokio::test]
async fn what_is_made_or_removed_between_two_pages_doubles_and_hides_nothing() {
    let service = service().await;
    service.make_vault("testBkpVault").await;
    let list = format!("{}/backupPolicies", service.vault());
    for name in ["pol-2", "pol-4", "pol-6", "pol-8"] {
        assert_eq!(service.put(&format!("{list}/{name}"), policy()).await.status, 200);
    }
    let first = service.get(&list).await;
    assert_eq!(names(&first), ["pol-2", "pol-4"]);
    assert_eq!(service.delete(&format!("{list}/pol-4")).await.status, 200, "the row that the link names");
    for name in ["pol-1", "pol-3", "pol-7"] {
        assert_eq!(service.put(&format!("{list}/{name}"), policy()).await.status, 200);
    }
    let rest = service.pages(service.token(), &next_link(&first).unwrap()).await;
    assert_eq!(rest, two_by_two(&["pol-6", "pol-7", "pol-8"]));
}

#[tokio::test]
async fn a_token_that_the_list_did_not_give_out_is_refused() {
    let mut service = service().await;
    let id = service.protect().await;
    let vault = service.vault();
    for number in 1..=3 {
        service.add_point(number, "VaultStore").await;
        service.make_policy("testBkpVault", &format!("pol-{number}")).await;
    }
    let token_of = |answer: &Answer| next_link(answer).unwrap().split_once("$skipToken=").unwrap().1.to_owned();
    let of_points = token_of(&service.get(&format!("{id}/recoveryPoints")).await);
    let of_policies = token_of(&service.get(&format!("{vault}/backupPolicies")).await);
    let subscription = format!("/subscriptions/{}", service.subscription);
    let by_name = [
        format!("{subscription}/providers/Microsoft.DataProtection/backupVaults"),
        format!("{subscription}/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults"),
        format!("{subscription}/providers/Microsoft.Storage/storageAccounts"),
        format!("{subscription}/resourceGroups/RG-BlobBackup/providers/Microsoft.Storage/storageAccounts"),
        format!("{subscription}/resourceGroups"),
        format!("{vault}/backupPolicies"),
        format!("{vault}/backupInstances"),
        format!("{vault}/deletedBackupInstances"),
    ];
    let by_time = [format!("{id}/recoveryPoints"), format!("{vault}/backupJobs")];
    let lists = by_name.iter().map(|list| (list, &of_points)).chain(by_time.iter().map(|list| (list, &of_policies)));
    for (list, foreign) in lists {
        for token in [foreign.as_str(), "x", "%00", "1_2", "'", "Li4vLi4"] {
            let answer = service.get(&format!("{list}?$skipToken={token}")).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidParameter"), "{list} {token}");
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("$skipToken"), "{answer:?}");
        }
        let (first, empty) = (service.get(list).await, service.get(&format!("{list}?$skipToken=")).await);
        assert_eq!((empty.status, empty.json()["value"].clone()), (200, first.json()["value"].clone()), "{list}");
    }
    let again = service.get(&format!("{vault}/backupPolicies?%24SKIPTOKEN={of_policies}")).await;
    assert_eq!(names(&again), ["pol-2", "pol-3"], "its name is compared without case");
    assert_ne!(again.json()["value"], Value::Null);
}

//! Subscriptions, groups, storage accounts, guards, stamps, and the order of lists.

use blobkeep_arm::blob_service::Protection;
use blobkeep_arm::id::fold;
use blobkeep_arm::stamp::Change;
use blobkeep_server::accounts::Connection;
use blobkeep_server::db::blob_services::{self, BlobService};
use blobkeep_server::db::guard_proxies::{self, Proxy};
use blobkeep_server::db::guards::{self, Guard};
use blobkeep_server::db::storage_accounts::{self, StorageAccount};
use blobkeep_server::db::subscriptions::{self, Subscription};
use blobkeep_server::db::{DbError, instances, resource_groups, stamps, vaults};

use crate::identity::{is_duplicate, is_refused};
use crate::stage::{
    NOW, SUBSCRIPTION, Stage, account, account_id, group, group_id, instance, instance_id, policy_id, vault, vault_id,
};

pub(crate) async fn subscriptions_and_aliases_fold_their_case(stage: &Stage) {
    let mut tx = stage.write().await;
    let one = Subscription { id: SUBSCRIPTION.to_owned(), display_name: "one".to_owned(), created_at: NOW };
    subscriptions::create(&mut tx, &one).await.unwrap();
    let again = Subscription { id: SUBSCRIPTION.to_lowercase(), display_name: "other".to_owned(), created_at: NOW + 1 };
    subscriptions::create(&mut tx, &again).await.unwrap();
    let found = subscriptions::get(&mut tx, &SUBSCRIPTION.to_uppercase()).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.display_name.as_str()), (SUBSCRIPTION, "one"), "the first one stays");
    let all = subscriptions::list(&mut tx).await.unwrap();
    assert_eq!((all.len(), all[0].id.as_str()), (2, SUBSCRIPTION), "beside the one that is there from the start");
    subscriptions::create_alias(&mut tx, "Spare", SUBSCRIPTION, NOW).await.unwrap();
    let (name, found) = subscriptions::alias(&mut tx, "spare").await.unwrap().unwrap();
    assert_eq!((name.as_str(), found.id.as_str()), ("Spare", SUBSCRIPTION));
    assert_eq!(subscriptions::alias_of(&mut tx, SUBSCRIPTION).await.unwrap().as_deref(), Some("Spare"));
    tx.commit().await.unwrap();
    is_duplicate(subscriptions::create_alias(&mut *stage.write().await, "SPARE", SUBSCRIPTION, NOW).await);
    is_refused(subscriptions::create_alias(&mut *stage.write().await, "other", "none", NOW).await);
}

pub(crate) async fn groups_are_listed_by_pages_and_kept_while_used(stage: &Stage) {
    let (mut tx, granted) = (stage.with_group().await, &stage.granted);
    for name in ["b", "A", "c"] {
        resource_groups::create(&mut tx, granted, &group(name), SUBSCRIPTION).await.unwrap();
    }
    let page = resource_groups::list(&mut tx, SUBSCRIPTION, "", 2).await.unwrap();
    let names = |page: &[resource_groups::ResourceGroup]| page.iter().map(|each| each.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&page), ["A", "b"]);
    let rest = resource_groups::list(&mut tx, SUBSCRIPTION, &fold(&page[1].id), 10).await.unwrap();
    assert_eq!(names(&rest), ["c", "Team"]);
    let tags = [("who".to_owned(), "you".to_owned())].into();
    resource_groups::set_tags(&mut tx, granted, &fold(&group_id("A")), &tags).await.unwrap();
    assert_eq!(resource_groups::get(&mut tx, granted, &fold(&group_id("A"))).await.unwrap().unwrap().tags, tags);
    resource_groups::delete(&mut tx, granted, &fold(&group_id("A"))).await.unwrap();
    assert!(resource_groups::get(&mut tx, granted, &fold(&group_id("A"))).await.unwrap().is_none());

    let key = fold(&group_id("Team"));
    assert!(resource_groups::contents(&mut tx, granted, &key).await.unwrap().is_empty());
    storage_accounts::put(&mut tx, granted, &account("photos")).await.unwrap();
    vaults::put(&mut tx, granted, &vault("Vault")).await.unwrap();
    guards::put(&mut tx, granted, &guard("Guard")).await.unwrap();
    let contents = resource_groups::contents(&mut tx, granted, &key).await.unwrap();
    assert_eq!(contents, [vault_id("Vault"), guard("Guard").id, account_id("photos")], "by their bytes");
    tx.commit().await.unwrap();
    is_refused(resource_groups::delete(&mut *stage.write().await, granted, &key).await);
    is_duplicate(resource_groups::create(&mut *stage.write().await, granted, &group("TEAM"), SUBSCRIPTION).await);
    is_refused(resource_groups::create(&mut *stage.write().await, granted, &group("d"), "none").await);
}

pub(crate) async fn accounts_keep_their_connection(stage: &Stage) {
    let (mut tx, granted, sealer) = (stage.with_vault().await, &stage.granted, &stage.app().sealer);
    for name in ["photos", "papers"] {
        storage_accounts::put(&mut tx, granted, &account(name)).await.unwrap();
    }
    let key = fold(&account_id("photos"));
    assert!(storage_accounts::connection(&mut tx, granted, sealer, &key).await.unwrap().is_none());
    let connection = Connection::LocalFolder { path: "/srv/photos".into() };
    storage_accounts::set_connection(&mut tx, granted, sealer, &key, &connection).await.unwrap();
    let changed = StorageAccount { updated_at: NOW + 1, location: "eastus".to_owned(), ..account("photos") };
    storage_accounts::put(&mut tx, granted, &changed).await.unwrap();
    let found = storage_accounts::get(&mut tx, granted, &key).await.unwrap().unwrap();
    assert_eq!((found.location.as_str(), found.updated_at), ("westus", NOW + 1), "an account does not move");
    assert_eq!(found.connection_kind.as_deref(), Some("LocalFolder"));
    let opened = storage_accounts::connection(&mut tx, granted, sealer, &key).await.unwrap().unwrap();
    assert_eq!(opened.public_url(), connection.public_url());

    let group = fold(&group_id("Team"));
    let names = |page: Vec<StorageAccount>| page.into_iter().map(|each| each.name).collect::<Vec<_>>();
    assert_eq!(names(storage_accounts::list_in_group(&mut tx, &group, "", 1).await.unwrap()), ["papers"]);
    let rest = storage_accounts::list_in_subscription(&mut tx, SUBSCRIPTION, &fold(&account_id("papers")), 9).await;
    assert_eq!(names(rest.unwrap()), ["photos"]);
    assert_eq!(names(storage_accounts::of_name(&mut tx, SUBSCRIPTION, "photos").await.unwrap()), ["photos"]);
    instances::create(&mut tx, granted, &instance("One", "photos")).await.unwrap();
    let protected_by = storage_accounts::protected_by(&mut tx, granted, &key).await.unwrap();
    assert_eq!(protected_by, Some(instance_id("One")));
    storage_accounts::delete(&mut tx, granted, &key).await.unwrap();
    assert!(storage_accounts::get(&mut tx, granted, &key).await.unwrap().is_none());
}

pub(crate) async fn blob_services_keep_what_a_protection_changed(stage: &Stage) {
    let (mut tx, granted) = (stage.with_group().await, &stage.granted);
    storage_accounts::put(&mut tx, granted, &account("photos")).await.unwrap();
    let key = fold(&account_id("photos"));
    assert_eq!(blob_services::get(&mut tx, granted, &key).await.unwrap(), BlobService::default());
    let mut service = BlobService { protection: Some(Protection::default()), ..BlobService::default() };
    service.settings.protect(7, service.protection.as_mut().unwrap());
    for versions_seen in [None, Some(true), Some(false)] {
        let service = BlobService { versions_seen, ..service };
        blob_services::put(&mut tx, granted, &key, &service, NOW).await.unwrap();
        assert_eq!(blob_services::get(&mut tx, granted, &key).await.unwrap(), service);
    }
    storage_accounts::delete(&mut tx, granted, &key).await.unwrap();
    assert_eq!(blob_services::get(&mut tx, granted, &key).await.unwrap(), BlobService::default());
}

fn guard(name: &str) -> Guard {
    let id = format!("{}/providers/Microsoft.DataProtection/resourceGuards/{name}", group_id("Team"));
    Guard {
        key: fold(&id),
        id,
        name: name.to_owned(),
        subscription_key: SUBSCRIPTION.to_lowercase(),
        group_key: fold(&group_id("Team")),
        location: "westus".to_owned(),
        tags: Default::default(),
        exclusions: Vec::new(),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn proxy(name: &str, guard_key: &str) -> Proxy {
    let id = format!("{}/backupResourceGuardProxies/{name}", vault_id("Vault"));
    Proxy {
        key: fold(&id),
        id,
        name: name.to_owned(),
        vault_key: fold(&vault_id("Vault")),
        guard_key: guard_key.to_owned(),
        description: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) async fn guards_and_their_links(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let (one, two) = (guard("one"), guard("Two"));
    for guard in [&one, &two] {
        guards::put(&mut tx, granted, guard).await.unwrap();
    }
    guards::put(&mut tx, granted, &Guard { exclusions: vec!["x".to_owned()], ..one.clone() }).await.unwrap();
    assert_eq!(guards::get(&mut tx, granted, &one.key).await.unwrap().unwrap().exclusions, ["x"]);
    assert_eq!(guards::list_in_group(&mut tx, &one.group_key, "", 1).await.unwrap()[0].name, "one");
    assert_eq!(guards::list_in_subscription(&mut tx, SUBSCRIPTION, &one.key, 9).await.unwrap()[0].name, "Two");

    let vault_key = fold(&vault_id("Vault"));
    assert!(guard_proxies::of_vault(&mut tx, granted, &vault_key).await.unwrap().is_none());
    guard_proxies::put(&mut tx, granted, &proxy("link", &one.key)).await.unwrap();
    let link = guard_proxies::of_vault(&mut tx, granted, &vault_key).await.unwrap().unwrap();
    assert_eq!((link.guard_id, link.exclusions), (one.id.clone(), vec!["x".to_owned()]));
    assert!(vaults::get(&mut tx, granted, &vault_key).await.unwrap().unwrap().is_guarded);
    assert_eq!(guards::vaults_of(&mut tx, granted, &one.key).await.unwrap(), [vault_id("Vault")]);

    let unlock = async |tx: &mut blobkeep_server::db::Conn, until: i64| {
        guard_proxies::unlock(tx, granted, &vault_key, "thing", NOW, until).await.unwrap();
    };
    unlock(&mut tx, NOW + 5).await;
    unlock(&mut tx, NOW + 10).await;
    assert!(!guard_proxies::use_unlock(&mut tx, granted, "thing", NOW + 10).await.unwrap(), "it is over");
    assert!(guard_proxies::use_unlock(&mut tx, granted, "thing", NOW + 9).await.unwrap());
    assert!(!guard_proxies::use_unlock(&mut tx, granted, "thing", NOW + 9).await.unwrap(), "once");
    unlock(&mut tx, NOW + 10).await;
    guard_proxies::put(&mut tx, granted, &proxy("link", &two.key)).await.unwrap();
    assert!(!guard_proxies::use_unlock(&mut tx, granted, "thing", NOW + 9).await.unwrap(), "another guard locks again");
    tx.commit().await.unwrap();

    is_refused(guards::delete(&mut *stage.write().await, granted, &two.key).await);
    is_duplicate(guard_proxies::put(&mut *stage.write().await, granted, &proxy("second", &one.key)).await);
    let mut tx = stage.write().await;
    guards::delete(&mut tx, granted, &one.key).await.unwrap();
    guard_proxies::delete(&mut tx, granted, &proxy("link", &two.key)).await.unwrap();
    assert!(!vaults::get(&mut tx, granted, &vault_key).await.unwrap().unwrap().is_guarded);
    guards::delete(&mut tx, granted, &two.key).await.unwrap();
}

pub(crate) async fn stamps_grow_with_every_change(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let key = fold(&vault_id("Vault"));
    let change = |by: &str, at: i64| Change { by: by.to_owned(), by_type: "Application".to_owned(), at };
    assert!(stamps::get(&mut tx, granted, &key).await.unwrap().is_none());
    let made = stamps::made(&mut tx, granted, &key, &change("me", NOW)).await.unwrap();
    let changed = stamps::changed(&mut tx, granted, &key, &change("you", NOW + 1)).await.unwrap();
    assert_eq!((made.revision, changed.revision), (1, 2));
    assert_eq!((changed.created.by.as_str(), changed.updated.by.as_str()), ("me", "you"));
    assert_eq!(stamps::get(&mut tx, granted, &key).await.unwrap(), Some(changed));
    let again = stamps::made(&mut tx, granted, &key, &change("her", NOW + 2)).await.unwrap();
    assert_eq!((again.revision, again.created.by.as_str()), (3, "her"), "what is left of an earlier one is replaced");
    let policy = fold(&policy_id("Daily"));
    let unknown = stamps::changed(&mut tx, granted, &policy, &change("you", NOW)).await.unwrap();
    assert_eq!((unknown.revision, unknown.created.by.as_str()), (1, ""));
    let found = stamps::between(&mut tx, &key, &key).await.unwrap();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [key]);
}

/// Names in the order in which their folded bytes lie, which is not that of any language.
pub(crate) async fn order_is_that_of_bytes(stage: &Stage) {
    let (mut tx, granted) = (stage.with_group().await, &stage.granted);
    for name in ["Zebra", "apple", "Äpfel", "_x", "a-b", "a.b", "ab", "ñ", "A B", "日本", "z", "é"] {
        resource_groups::create(&mut tx, granted, &group(name), SUBSCRIPTION).await.unwrap();
    }
    let mut expected: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let page = resource_groups::list(&mut tx, SUBSCRIPTION, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = fold(&last.id);
        expected.extend(page.iter().map(|each| fold(&each.id)));
    }
    assert_eq!(expected.len(), 13);
    assert!(expected.is_sorted(), "{expected:?}");
    tx.commit().await.unwrap();
    let error = resource_groups::create(&mut *stage.write().await, granted, &group("zEBRA"), SUBSCRIPTION).await;
    assert!(matches!(&error, Err(DbError::Sql(_))), "{error:?}");
    is_duplicate(error);
}

//! Vaults, also deleted ones, their policies, exports and prunes.

use blobkeep_arm::deleted_vault::VaultDeletion;
use blobkeep_arm::id::fold;
use blobkeep_arm::stamp::Change;
use blobkeep_server::db::deleted_vaults::{self, DeletedVault};
use blobkeep_server::db::exports::{self, Export};
use blobkeep_server::db::vaults::{self, Vault};
use blobkeep_server::db::{instances, jobs, operations, points, policies, prunes, stamps};
use blobkeep_server::jobs::spec::{ConfigureSpec, JobSpec, PruneSpec};

use crate::identity::{is_duplicate, is_refused};
use crate::instances::point;
use crate::queue::{new_job, operation};
use crate::stage::{NOW, SUBSCRIPTION, Stage, group_id, instance, instance_id, policy, policy_id, vault, vault_id};

fn names(page: Vec<Vault>) -> Vec<String> {
    page.into_iter().map(|each| each.name).collect()
}

pub(crate) async fn vaults_are_made_replaced_and_listed(stage: &Stage) {
    let (mut tx, granted) = (stage.with_group().await, &stage.granted);
    for name in ["two", "One", "three"] {
        vaults::put(&mut tx, granted, &vault(name)).await.unwrap();
    }
    let one = vaults::get(&mut tx, granted, &fold(&vault_id("One"))).await.unwrap().unwrap();
    let changed =
        Vault { provisioning_state: "Updating".to_owned(), principal_id: None, updated_at: NOW + 1, ..one.clone() };
    vaults::put(&mut tx, granted, &changed).await.unwrap();
    let found = vaults::by_uuid(&mut tx, granted, &one.vault_uuid).await.unwrap().unwrap();
    assert_eq!((found.provisioning_state.as_str(), found.principal_id, found.created_at), ("Updating", None, NOW));
    let page = vaults::list_in_group(&mut tx, &fold(&group_id("Team")), "", 2).await.unwrap();
    assert_eq!(names(page), ["One", "three"]);
    let rest = vaults::list_in_subscription(&mut tx, SUBSCRIPTION, &fold(&vault_id("three")), 9).await.unwrap();
    assert_eq!(names(rest), ["two"]);
    vaults::delete(&mut tx, granted, &one.key).await.unwrap();
    assert!(vaults::get(&mut tx, granted, &one.key).await.unwrap().is_none());
    tx.commit().await.unwrap();
    let of_same_uuid = vaults::list_in_group(&mut *stage.read().await, &fold(&group_id("Team")), "", 1).await.unwrap();
    let of_same_uuid = Vault { key: "other".to_owned(), ..of_same_uuid[0].clone() };
    is_duplicate(vaults::put(&mut *stage.write().await, granted, &of_same_uuid).await);
    let of_no_group = Vault { group_key: "none".to_owned(), ..vault("other") };
    is_refused(vaults::put(&mut *stage.write().await, granted, &of_no_group).await);
}

pub(crate) async fn policies_keep_their_versions(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    policies::put(&mut tx, granted, &policy("Daily", 2)).await.unwrap();
    policies::put(&mut tx, granted, &policy("another", 1)).await.unwrap();
    let key = fold(&policy_id("Daily"));
    let found = policies::get(&mut tx, granted, &key).await.unwrap().unwrap();
    assert_eq!((found.version, found.created_at, found.updated_at), (2, NOW, NOW + 2));
    let versions = async |tx: &mut blobkeep_server::db::Conn, before: i64| {
        let versions = policies::versions(tx, granted, &key, before, 9).await.unwrap();
        versions.into_iter().map(|each| each.version).collect::<Vec<_>>()
    };
    assert_eq!((versions(&mut tx, i64::MAX).await, versions(&mut tx, 2).await), (vec![2, 1], vec![1]));
    let vault_key = fold(&vault_id("Vault"));
    let page = policies::page(&mut tx, granted, &vault_key, "", 1).await.unwrap();
    assert_eq!((page.len(), page[0].name.as_str()), (1, "another"));
    assert_eq!(policies::list(&mut tx, granted, &vault_key).await.unwrap().len(), 2);
    instances::create(&mut tx, granted, &instance("One", "photos")).await.unwrap();
    tx.commit().await.unwrap();
    is_duplicate(policies::put(&mut *stage.write().await, granted, &policy("Daily", 2)).await);
    is_refused(policies::delete(&mut *stage.write().await, granted, &key).await);
    let mut tx = stage.write().await;
    instances::purge(&mut tx, granted, &fold(&instance_id("One"))).await.unwrap();
    policies::delete(&mut tx, granted, &key).await.unwrap();
    assert!(versions(&mut tx, i64::MAX).await.is_empty());
}

/// The vault with an instance, a point, a job, an operation, an export and stamps.
async fn full_vault(stage: &Stage) -> Vault {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let one = instance("One", "photos");
    instances::create(&mut tx, granted, &one).await.unwrap();
    points::put(&mut tx, granted, &point("One", 1)).await.unwrap();
    let spec = JobSpec::Configure(ConfigureSpec { instance_key: one.key.clone() });
    jobs::enqueue(&mut tx, &new_job("job", &one.vault_key, &spec, NOW)).await.unwrap();
    operations::create(&mut tx, &operation("inside", Some(&one.key))).await.unwrap();
    operations::create(&mut tx, &operation("elsewhere", Some("/elsewhere"))).await.unwrap();
    exports::create(&mut tx, granted, &export("1", NOW)).await.unwrap();
    let change = Change { by: "me".to_owned(), by_type: "Application".to_owned(), at: NOW };
    for id in [vault_id("Vault"), policy_id("Daily"), instance_id("One")] {
        stamps::made(&mut tx, granted, &fold(&id), &change).await.unwrap();
    }
    let vault = vaults::get(&mut tx, granted, &one.vault_key).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    vault
}

/// What of a full vault is found under a key.
async fn found_under(stage: &Stage, vault_key: &str) -> Vec<&'static str> {
    let (mut reader, granted) = (stage.read().await, &stage.granted);
    let (instance_key, policy_key) =
        (format!("{vault_key}/backupinstances/one"), format!("{vault_key}/backuppolicies/daily"));
    let mut found = Vec::new();
    let mut note = |is_there: bool, what: &'static str| found.extend(is_there.then_some(what));
    let instance = instances::get(&mut reader, granted, &instance_key).await.unwrap();
    note(instance.is_some_and(|found| found.policy_key == policy_key && found.vault_key == vault_key), "instance");
    note(policies::get(&mut reader, granted, &policy_key).await.unwrap().is_some(), "policy");
    note(!policies::versions(&mut reader, granted, &policy_key, 9, 9).await.unwrap().is_empty(), "version");
    note(points::get(&mut reader, granted, &instance_key, &point("One", 1).id).await.unwrap().is_some(), "point");
    let jobs = jobs::unfinished_in_vault(&mut reader, vault_key).await.unwrap();
    note(jobs.iter().any(|job| job.instance_key.as_deref() == Some(&instance_key)), "job");
    for (id, resource_key) in [("inside", instance_key.as_str()), ("elsewhere", "/elsewhere")] {
        let operation = operations::get(&mut reader, id).await.unwrap().unwrap();
        let is_here = operation.vault_key == vault_key && operation.resource_key.as_deref() == Some(resource_key);
        note(is_here, "operation");
    }
    note(exports::get(&mut reader, granted, vault_key, "1").await.unwrap().is_some(), "export");
    for key in [vault_key, &policy_key, &instance_key] {
        note(stamps::get(&mut reader, granted, key).await.unwrap().is_some(), "stamp");
    }
    found
}

const ALL: [&str; 11] =
    ["instance", "policy", "version", "point", "job", "operation", "operation", "export", "stamp", "stamp", "stamp"];

async fn delete(stage: &Stage, vault: &Vault) -> DeletedVault {
    let deletion =
        VaultDeletion { name: "gone".to_owned(), deleted_at: NOW, purge_at: NOW + 10, activity_id: "why".to_owned() };
    let mut tx = stage.write().await;
    let key = deleted_vaults::put(&mut tx, &stage.granted, vault, &deletion).await.unwrap();
    let deleted = deleted_vaults::get(&mut tx, &stage.granted, &key).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    deleted
}

pub(crate) async fn a_deleted_vault_takes_everything_along_and_brings_it_back(stage: &Stage) {
    let granted = &stage.granted;
    let vault = full_vault(stage).await;
    assert_eq!(found_under(stage, &vault.key).await, ALL);
    let deleted = delete(stage, &vault).await;
    assert_eq!(found_under(stage, &deleted.vault.key).await, ALL);
    assert!(found_under(stage, &vault.key).await.is_empty());
    assert_eq!((deleted.vault.id.as_str(), deleted.vault.principal_id.as_deref()), (vault.id.as_str(), None));
    let mut tx = stage.write().await;
    for (now, expected) in [(NOW + 9, 1), (NOW + 10, 0)] {
        let list = deleted_vaults::list(&mut tx, SUBSCRIPTION, now, "", 9).await.unwrap();
        assert_eq!(list.len(), expected);
    }
    assert!(deleted_vaults::purgeable(&mut tx, granted, NOW + 10).await.unwrap().is_empty(), "an instance is left");
    let again = Vault { vault_uuid: "other".to_owned(), ..vault.clone() };
    vaults::put(&mut tx, granted, &again).await.unwrap();
    tx.commit().await.unwrap();
    is_duplicate(deleted_vaults::restore(&mut *stage.write().await, granted, deleted.clone(), NOW + 1).await);
    let mut tx = stage.write().await;
    vaults::delete(&mut tx, granted, &vault.key).await.unwrap();
    let restored = deleted_vaults::restore(&mut tx, granted, deleted, NOW + 1).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((restored.key.as_str(), restored.updated_at), (vault.key.as_str(), NOW + 1));
    assert_eq!(found_under(stage, &vault.key).await, ALL);
    assert!(deleted_vaults::get(&mut *stage.read().await, granted, &restored.key).await.unwrap().is_none());
}

pub(crate) async fn a_vault_is_purged_with_what_is_in_it(stage: &Stage) {
    let granted = &stage.granted;
    let deleted = delete(stage, &full_vault(stage).await).await;
    let key = &deleted.vault.key;
    is_refused(deleted_vaults::purge(&mut *stage.write().await, granted, key).await);
    let mut tx = stage.write().await;
    instances::purge(&mut tx, granted, &format!("{key}/backupinstances/one")).await.unwrap();
    deleted_vaults::put_off(&mut tx, granted, key, NOW + 20).await.unwrap();
    deleted_vaults::put_off(&mut tx, granted, key, NOW + 15).await.unwrap();
    assert!(deleted_vaults::purgeable(&mut tx, granted, NOW + 19).await.unwrap().is_empty());
    assert_eq!(deleted_vaults::purgeable(&mut tx, granted, NOW + 20).await.unwrap().len(), 1);
    deleted_vaults::purge(&mut tx, granted, key).await.unwrap();
    tx.commit().await.unwrap();
    assert!(vaults::get(&mut *stage.read().await, granted, key).await.unwrap().is_none());
    let left = found_under(stage, key).await;
    assert_eq!(left, ["job", "operation", "operation"], "what has not ended, and what somebody may still ask for");
}

pub(crate) async fn prunes_are_due_where_points_have_gone(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let key = fold(&vault_id("Vault"));
    let due =
        async |tx: &mut blobkeep_server::db::Conn, before: i64| prunes::due(tx, granted, before).await.unwrap().len();
    assert_eq!(due(&mut tx, NOW).await, 0);
    prunes::points_removed(&mut tx, granted, &key, NOW + 5).await.unwrap();
    assert_eq!((due(&mut tx, NOW - 1).await, due(&mut tx, NOW).await), (0, 1));
    prunes::begun(&mut tx, granted, &key, NOW + 6).await.unwrap();
    assert_eq!(due(&mut tx, NOW + 100).await, 0);
    prunes::points_removed(&mut tx, granted, &key, NOW + 6).await.unwrap();
    assert_eq!((due(&mut tx, NOW + 5).await, due(&mut tx, NOW + 6).await), (0, 1));
    assert!(!prunes::is_under_way(&mut tx).await.unwrap());
    let spec = JobSpec::Prune(PruneSpec { vault_key: key.clone() });
    jobs::enqueue(&mut tx, &new_job("prune", &key, &spec, NOW)).await.unwrap();
    assert!(prunes::is_under_way(&mut tx).await.unwrap());
}

fn export(id: &str, created_at: i64) -> Export {
    Export {
        id: id.to_owned(),
        vault_key: fold(&vault_id("Vault")),
        principal_id: "me".to_owned(),
        created_at,
        ended_at: None,
        error: None,
    }
}

pub(crate) async fn exports_are_kept_for_a_while(stage: &Stage) {
    let (mut tx, granted) = (stage.write().await, &stage.granted);
    let key = fold(&vault_id("Vault"));
    for (id, at) in [("a", NOW), ("b", NOW + 1)] {
        exports::create(&mut tx, granted, &export(id, at)).await.unwrap();
    }
    assert_eq!(exports::unfinished(&mut tx, granted, &key, NOW).await.unwrap(), Some(export("b", NOW + 1)));
    assert_eq!(exports::unfinished(&mut tx, granted, &key, NOW + 2).await.unwrap(), None);
    exports::finish(&mut tx, "b", Some("no room"), NOW + 3).await.unwrap();
    let ended = Export { ended_at: Some(NOW + 3), error: Some("no room".to_owned()), ..export("b", NOW + 1) };
    assert_eq!(exports::get(&mut tx, granted, &key, "B").await.unwrap(), Some(ended));
    assert_eq!(exports::unfinished(&mut tx, granted, &key, NOW).await.unwrap(), Some(export("a", NOW)));
    assert_eq!(exports::forget_begun_before(&mut tx, NOW + 1).await.unwrap(), 1);
    assert_eq!(exports::ids(&mut tx).await.unwrap(), ["b"]);
}

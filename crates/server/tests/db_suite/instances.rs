//! Backup instances and their points.

use blobkeep_arm::id::fold;
use blobkeep_arm::instance::{Deletion, ProtectionState};
use blobkeep_arm::point::{PointFilter, PointState};
use blobkeep_arm::restore::RecoveryOption;
use blobkeep_arm::stamp::Change;
use blobkeep_arm::word::DataStore;
use blobkeep_server::db::instances::{self, DueLook};
use blobkeep_server::db::operational_containers;
use blobkeep_server::db::operational_ranges::{self, JournalPlace, StoredRange};
use blobkeep_server::db::points::{self, Base, Point};
use blobkeep_server::db::{jobs, policies, stamps};
use blobkeep_server::jobs::spec::{BackupSpec, BackupTrigger, JobSpec, PointReference, RestoreSpec, Selection};
use serde_json::json;

use crate::identity::{is_duplicate, is_refused};
use crate::queue::new_job;
use crate::stage::{NOW, Stage, account_id, instance, instance_id, policy, policy_id, vault_id};

const STATES: [ProtectionState; 2] = [ProtectionState::ProtectionConfigured, ProtectionState::SoftDeleted];

pub(crate) async fn an_account_is_protected_once(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let one = instance("One", "photos");
    instances::create(&mut tx, granted, &one).await.unwrap();
    tx.commit().await.unwrap();
    is_duplicate(instances::create(&mut *stage.write().await, granted, &instance("Two", "PHOTOS")).await);
    is_duplicate(instances::create(&mut *stage.write().await, granted, &instance("ONE", "papers")).await);
    let mut of_no_policy = instance("Two", "papers");
    of_no_policy.policy_key = "none".to_owned();
    is_refused(instances::create(&mut *stage.write().await, granted, &of_no_policy).await);

    let mut tx = stage.write().await;
    let datasource = fold(&account_id("photos"));
    assert_eq!(instances::by_datasource(&mut tx, granted, &datasource).await.unwrap().unwrap().id, one.id);
    let deleted = ProtectionState::SoftDeleted;
    instances::set_state(&mut tx, granted, &one.key, deleted, "Succeeded", None, NOW).await.unwrap();
    assert!(instances::by_datasource(&mut tx, granted, &datasource).await.unwrap().is_none());
    instances::create(&mut tx, granted, &instance("Two", "photos")).await.unwrap();
    tx.commit().await.unwrap();
    let configured = ProtectionState::ProtectionConfigured;
    let mut tx = stage.write().await;
    is_duplicate(instances::set_state(&mut tx, granted, &one.key, configured, "Succeeded", None, NOW).await);
}

pub(crate) async fn instances_move_through_their_states(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let one = instance("One", "photos");
    instances::create(&mut tx, granted, &one).await.unwrap();
    let change = Change { by: "me".to_owned(), by_type: String::new(), at: NOW };
    stamps::made(&mut tx, granted, &one.key, &change).await.unwrap();
    let get = async |tx: &mut blobkeep_server::db::Conn| {
        instances::get(tx, granted, &fold(&instance_id("One"))).await.unwrap().unwrap()
    };
    let failed = ProtectionState::ProtectionError;
    let info = json!({"code": "x"});
    instances::set_state(&mut tx, granted, &one.key, failed, "Failed", Some(&info), NOW + 1).await.unwrap();
    let found = get(&mut tx).await;
    assert_eq!((found.state, found.error, found.updated_at), (failed, Some(info), NOW + 1));
    instances::set_configured(&mut tx, granted, &one.key, Some(NOW + 9), NOW + 2).await.unwrap();
    instances::set_configured(&mut tx, granted, &one.key, None, NOW + 3).await.unwrap();
    let found = get(&mut tx).await;
    assert_eq!((found.configured_at, found.next_run_at, found.error), (Some(NOW + 2), None, None));
    assert_eq!(stamps::get(&mut tx, granted, &one.key).await.unwrap().unwrap().revision, 4, "clients see each");

    policies::put(&mut tx, granted, &policy("Weekly", 1)).await.unwrap();
    let other = fold(&policy_id("Weekly"));
    instances::apply_update(&mut tx, granted, &one.key, &one.instance, &other, NOW + 4).await.unwrap();
    let tags = [("who".to_owned(), json!("me"))].into_iter().collect();
    instances::set_tags(&mut tx, granted, &one.key, &tags, NOW + 5).await.unwrap();
    let by_policy = instances::by_policy(&mut tx, granted, &other).await.unwrap();
    assert_eq!((by_policy.len(), &by_policy[0].tags, by_policy[0].updated_at), (1, &tags, NOW + 5));
    instances::clear_schedule(&mut tx, granted, &one.key).await.unwrap();
    assert_eq!(get(&mut tx).await.configured_at, None);

    let deletion = Deletion { deleted_at: NOW, billing_end: NOW + 1, purge_at: NOW + 2, activity_id: "why".to_owned() };
    instances::set_deletion(&mut tx, granted, &one.key, Some(&deletion)).await.unwrap();
    assert_eq!(get(&mut tx).await.deletion, Some(deletion));
    assert!(instances::purgeable(&mut tx, granted, NOW + 2).await.unwrap().is_empty(), "it is not deleted yet");
    for (state, deleted, purgeable) in [(STATES[0], 0, 0), (STATES[1], 1, 1)] {
        instances::set_state(&mut tx, granted, &one.key, state, "Succeeded", None, NOW).await.unwrap();
        assert_eq!(instances::list(&mut tx, granted, &one.vault_key, true).await.unwrap().len(), deleted);
        assert_eq!(instances::list(&mut tx, granted, &one.vault_key, false).await.unwrap().len(), 1 - deleted);
        assert_eq!(instances::purgeable(&mut tx, granted, NOW + 2).await.unwrap().len(), purgeable);
    }
    instances::set_deletion(&mut tx, granted, &one.key, None).await.unwrap();
    assert_eq!(get(&mut tx).await.deletion, None);
}

pub(crate) async fn instances_are_due_for_backups_and_looks(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    for (name, account, at) in [("a", "one", NOW + 2), ("B", "two", NOW + 1), ("c", "three", NOW + 3)] {
        let each = instance(name, account);
        instances::create(&mut tx, granted, &each).await.unwrap();
        instances::set_configured(&mut tx, granted, &each.key, Some(at), at).await.unwrap();
    }
    let key = |name: &str| fold(&instance_id(name));
    let due = instances::due(&mut tx, granted, NOW + 2, 9).await.unwrap();
    assert_eq!(due.iter().map(|each| each.name.as_str()).collect::<Vec<_>>(), ["B", "a"], "the longest waiting first");
    instances::set_next_run(&mut tx, granted, &key("B"), None).await.unwrap();
    assert_eq!(instances::due(&mut tx, granted, NOW + 9, 1).await.unwrap()[0].name, "a");

    let look = |name: &str, is_backed_up: bool| DueLook { key: key(name), is_backed_up };
    let looks =
        async |tx: &mut blobkeep_server::db::Conn, at: i64| instances::due_looks(tx, granted, at, 9).await.unwrap();
    assert_eq!(looks(&mut tx, NOW + 2).await, [look("B", false), look("a", false)]);
    instances::set_look_at(&mut tx, granted, &key("a"), Some(NOW + 100)).await.unwrap();
    instances::look_no_later_than(&mut tx, granted, NOW + 50).await.unwrap();
    assert_eq!(looks(&mut tx, NOW + 50).await, [look("B", false), look("c", false), look("a", false)]);
    let spec = JobSpec::Backup(BackupSpec {
        instance_key: key("c"),
        rule_name: "rule".to_owned(),
        tag_override: None,
        trigger: BackupTrigger::Adhoc,
        scheduled_for: None,
    });
    jobs::enqueue(&mut tx, &new_job("backup", &fold(&vault_id("Vault")), &spec, NOW)).await.unwrap();
    instances::set_look_at(&mut tx, granted, &key("a"), None).await.unwrap();
    assert_eq!(looks(&mut tx, NOW + 50).await, [look("B", false)], "c is being backed up");
    let uuid = instances::get(&mut tx, granted, &key("c")).await.unwrap().unwrap().instance_uuid;
    let journal = JournalPlace { base: "base".to_owned(), segments: 0, cursor: "here".to_owned() };
    for (is_open, journal, due) in [(true, None, 1), (true, Some(&journal), 2), (false, Some(&journal), 1)] {
        let range = StoredRange { starts_at: NOW, ends_at: NOW, is_open, journal: journal.cloned() };
        operational_ranges::put(&mut tx, &uuid, &range).await.unwrap();
        let found = looks(&mut tx, NOW + 50).await;
        assert_eq!(found.len(), due, "{range:?}");
        assert_eq!(found.contains(&look("c", true)), due == 2);
    }
    for (id, in_place, due) in [("elsewhere", false, 2), ("in-place", true, 1)] {
        let (instance_key, target) = (key("B"), account_id("two"));
        let spec = JobSpec::Restore(RestoreSpec {
            instance_key,
            point: PointReference::ByTime(NOW),
            source_store: if in_place { DataStore::OperationalStore } else { DataStore::VaultStore },
            target,
            selection: Selection::All,
            option: RecoveryOption::FailIfExists,
            in_place,
            tier: None,
        });
        let range = StoredRange { starts_at: NOW, ends_at: NOW, is_open: true, journal: Some(journal.clone()) };
        operational_ranges::put(&mut tx, &uuid, &range).await.unwrap();
        jobs::enqueue(&mut tx, &new_job(id, &fold(&vault_id("Vault")), &spec, NOW)).await.unwrap();
        let found = looks(&mut tx, NOW + 50).await;
        assert_eq!(found.len(), due, "a restore in place is waited for: {found:?}");
    }
    let page = instances::page(&mut tx, granted, &fold(&vault_id("Vault")), false, &key("a"), 1).await.unwrap();
    assert_eq!(page[0].name, "B");
}

/// The point of that number of an instance.
pub(crate) fn point(instance: &str, number: i64) -> Point {
    Point {
        instance_key: fold(&instance_id(instance)),
        id: format!("{number:032x}"),
        job_id: "job".to_owned(),
        created_at: NOW + number,
        expires_at: Some(NOW + 10 * number),
        tag: "Default".to_owned(),
        rule: "Daily".to_owned(),
        policy_name: "Daily".to_owned(),
        tag_version: None,
        counts: json!({"blobs": number}),
        state: PointState::Completed,
        store: DataStore::VaultStore,
        base: None,
    }
}

pub(crate) async fn points_are_remembered_listed_and_counted(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let one = instance("One", "photos");
    instances::create(&mut tx, granted, &one).await.unwrap();
    for number in 1..=4 {
        points::put(&mut tx, granted, &point("One", number)).await.unwrap();
    }
    let of_same_time = Point { id: "f".repeat(32), ..point("One", 3) };
    points::put(&mut tx, granted, &of_same_time).await.unwrap();
    for (number, follows) in [(8, None), (9, Some(point("One", 8).id))] {
        let base = Some(Base { complete_until: NOW - number, follows });
        let operational = Point { store: DataStore::OperationalStore, base: base.clone(), ..point("One", number) };
        points::put(&mut tx, granted, &operational).await.unwrap();
        assert_eq!(points::get(&mut tx, granted, &one.key, &operational.id).await.unwrap().unwrap().base, base);
    }
    let again = Point { tag: "Weekly".to_owned(), policy_name: "not kept".to_owned(), ..point("One", 1) };
    points::put(&mut tx, granted, &again).await.unwrap();
    let hyphens = format!("{}-{}", &again.id[..8], &again.id[8..].to_uppercase());
    let found = points::get(&mut tx, granted, &one.key, &hyphens).await.unwrap().unwrap();
    assert_eq!(
        (found.tag.as_str(), found.policy_name.as_str(), found.counts),
        ("Weekly", "Daily", json!({"blobs": 1}))
    );

    let vaulted = DataStore::VaultStore;
    let ids = |page: Vec<Point>| page.into_iter().map(|each| each.id).collect::<Vec<_>>();
    let id = |number: i64| point("One", number).id;
    let all = points::list(&mut tx, granted, &one.key, vaulted, PointFilter::default()).await.unwrap();
    assert_eq!(ids(all), [id(4), "f".repeat(32), id(3), id(2), id(1)], "newest first");
    let filter = PointFilter { from: Some(NOW + 2), until: Some(NOW + 3) };
    let page = points::page(&mut tx, granted, &one.key, vaulted, filter, None, 2).await.unwrap();
    assert_eq!(ids(page), ["f".repeat(32), id(3)]);
    let before = Some((NOW + 3, "f"));
    let page = points::page(&mut tx, granted, &one.key, vaulted, filter, before, 9).await.unwrap();
    assert_eq!(ids(page), [id(3), id(2)]);

    assert_eq!(points::count_unexpired(&mut tx, granted, &one.key, NOW + 20).await.unwrap(), 3);
    points::set_expiry(&mut tx, granted, &one.key, &id(1), None).await.unwrap();
    assert_eq!(points::count_unexpired(&mut tx, granted, &one.key, NOW + 20).await.unwrap(), 4, "one is kept for ever");
    assert!(points::instances_with_expired(&mut tx, granted, NOW + 19).await.unwrap().is_empty());
    let expired = points::instances_with_expired(&mut tx, granted, NOW + 30).await.unwrap();
    assert_eq!(expired, std::slice::from_ref(&one.key));
    points::set_deleted(&mut tx, granted, &one.key, &id(2)).await.unwrap();
    assert!(points::get(&mut tx, granted, &one.key, &id(2)).await.unwrap().is_none());
    assert!(points::instances_with_expired(&mut tx, granted, NOW + 29).await.unwrap().is_empty());
}

pub(crate) async fn ranges_go_with_their_instance(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let (one, two) = (instance("One", "photos"), instance("Two", "papers"));
    let journal = JournalPlace { base: "base".to_owned(), segments: 3, cursor: "here".to_owned() };
    let range = |starts_at: i64, journal: Option<&JournalPlace>| StoredRange {
        starts_at,
        ends_at: starts_at + 5,
        is_open: true,
        journal: journal.cloned(),
    };
    for each in [&one, &two] {
        instances::create(&mut tx, granted, each).await.unwrap();
        for range in [range(NOW, None), range(NOW + 10, None)] {
            operational_ranges::put(&mut tx, &each.instance_uuid, &range).await.unwrap();
        }
    }
    let longer = StoredRange { ends_at: NOW + 99, ..range(NOW + 10, Some(&journal)) };
    operational_ranges::put(&mut tx, &one.instance_uuid, &longer).await.unwrap();
    let found = operational_ranges::list(&mut tx, &one.instance_uuid).await.unwrap();
    assert_eq!(found, [longer.clone(), range(NOW, None)], "newest first");
    let marks = |mark: &str| [("photos".to_owned(), Some(mark.to_owned())), ("papers".to_owned(), None)].into();
    for (base, mark) in [("base", "one"), ("base", "two"), ("later", "two")] {
        operational_containers::put(&mut tx, &one.instance_uuid, base, &marks(mark)).await.unwrap();
        let found = operational_containers::get(&mut tx, &one.instance_uuid, base).await.unwrap();
        assert_eq!(found, Some(marks(mark)));
    }
    assert_eq!(operational_containers::get(&mut tx, &one.instance_uuid, "base").await.unwrap(), None);

    operational_ranges::forget_before(&mut tx, &one.instance_uuid, NOW + 50).await.unwrap();
    assert_eq!(operational_ranges::list(&mut tx, &one.instance_uuid).await.unwrap().len(), 2, "they are open");
    instances::clear_schedule(&mut tx, granted, &one.key).await.unwrap();
    operational_ranges::forget_before(&mut tx, &one.instance_uuid, NOW + 50).await.unwrap();
    let left = operational_ranges::list(&mut tx, &one.instance_uuid).await.unwrap();
    assert_eq!(left, [StoredRange { is_open: false, ..longer }]);
    instances::purge(&mut tx, granted, &one.key).await.unwrap();
    assert!(operational_ranges::list(&mut tx, &one.instance_uuid).await.unwrap().is_empty());
    assert_eq!(operational_containers::get(&mut tx, &one.instance_uuid, "later").await.unwrap(), None);
    let others = operational_ranges::list(&mut tx, &two.instance_uuid).await.unwrap();
    assert_eq!(others, [range(NOW + 10, None), range(NOW, None)]);
}

pub(crate) async fn an_instance_is_purged_with_its_points(stage: &Stage) {
    let (mut tx, granted) = (stage.with_vault().await, &stage.granted);
    let (one, two) = (instance("One", "photos"), instance("Two", "papers"));
    for each in [&one, &two] {
        instances::create(&mut tx, granted, each).await.unwrap();
        points::put(&mut tx, granted, &point(&each.name, 1)).await.unwrap();
    }
    instances::purge(&mut tx, granted, &one.key).await.unwrap();
    assert!(instances::get(&mut tx, granted, &one.key).await.unwrap().is_none());
    assert!(points::get(&mut tx, granted, &one.key, &point("One", 1).id).await.unwrap().is_none());
    assert!(points::get(&mut tx, granted, &two.key, &point("Two", 1).id).await.unwrap().is_some());
}

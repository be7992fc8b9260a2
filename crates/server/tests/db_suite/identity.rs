//! Facts, principals, roles and locks.

use blobkeep_arm::id::fold;
use blobkeep_server::auth::permission::Permission;
use blobkeep_server::db::locks::{self, Lock, LockLevel};
use blobkeep_server::db::principals::{self, Principal, PrincipalKind};
use blobkeep_server::db::role_assignments::{self, Given, RoleAssignment};
use blobkeep_server::db::role_definitions::{self, RoleDefinition};
use blobkeep_server::db::{DbError, DbResult, meta};

use crate::stage::{NOW, Stage, group_id, vault_id};

#[track_caller]
pub(crate) fn is_duplicate<T>(outcome: DbResult<T>) {
    let Err(error) = outcome else { panic!("it must be refused") };
    assert!(error.is_duplicate(), "{error}");
}

/// A reference to what is not there, or the end of what something refers to.
#[track_caller]
pub(crate) fn is_refused<T>(outcome: DbResult<T>) {
    let Err(error) = outcome else { panic!("it must be refused") };
    let DbError::Sql(sqlx::Error::Database(reason)) = &error else { panic!("{error}") };
    assert!(reason.is_foreign_key_violation(), "{error}");
}

pub(crate) async fn facts_are_set_replaced_and_forgotten(stage: &Stage) {
    let mut tx = stage.write().await;
    assert_eq!(meta::get(&mut tx, "colour").await.unwrap(), None);
    for colour in ["red", "grün 🟢", "a\tb\n'\"%_\\", ""] {
        meta::set(&mut tx, "colour", colour).await.unwrap();
        assert_eq!(meta::get(&mut tx, "colour").await.unwrap().as_deref(), Some(colour));
    }
    assert_eq!(meta::get(&mut tx, "COLOUR").await.unwrap(), None, "case counts");
    meta::remove(&mut tx, "colour").await.unwrap();
    meta::remove(&mut tx, "colour").await.unwrap();
    assert_eq!(meta::get(&mut tx, "colour").await.unwrap(), None);
}

fn principal(name: &str, kind: PrincipalKind, resource_key: Option<&str>) -> Principal {
    Principal {
        object_id: format!("object-of-{name}"),
        app_id: format!("app-of-{name}"),
        name: name.to_owned(),
        kind,
        resource_key: resource_key.map(str::to_owned),
        created_at: NOW,
    }
}

pub(crate) async fn principals_are_found_by_each_of_their_names(stage: &Stage) {
    let mut tx = stage.write().await;
    let one = principal("one", PrincipalKind::Application, None);
    principals::create(&mut tx, &one, Some("hash")).await.unwrap();
    principals::set_secret_hash(&mut tx, &one.object_id, "other hash").await.unwrap();
    let (found, hash) = principals::by_app_id(&mut tx, "APP-OF-one").await.unwrap().unwrap();
    assert_eq!((found.object_id.as_str(), hash.as_deref()), ("object-of-one", Some("other hash")));
    assert_eq!(principals::by_object_id(&mut tx, "Object-Of-One").await.unwrap().unwrap().name, "one");
    assert!(principals::by_name(&mut tx, "one").await.unwrap().is_some());
    assert!(principals::by_name(&mut tx, "One").await.unwrap().is_none());

    let made = principals::create_managed_identity(&mut tx, "vault", "/vault", NOW + 1).await.unwrap();
    let again = principals::create_managed_identity(&mut tx, "vault", "/vault", NOW + 2).await.unwrap();
    assert_eq!((made.object_id.clone(), made.kind), (again.object_id, PrincipalKind::ManagedIdentity));
    assert!(principals::by_resource(&mut tx, "/vault").await.unwrap().is_some());
    assert!(principals::by_name(&mut tx, "vault").await.unwrap().is_none(), "identities have no name to sign in with");
    tx.commit().await.unwrap();

    let of_same_name = Principal { object_id: "x".to_owned(), app_id: "x".to_owned(), ..one.clone() };
    is_duplicate(principals::create(&mut *stage.write().await, &of_same_name, None).await);
    let of_same_resource = principal("two", PrincipalKind::ManagedIdentity, Some("/vault"));
    is_duplicate(principals::create(&mut *stage.write().await, &of_same_resource, None).await);

    let mut tx = stage.write().await;
    let names: Vec<String> = principals::list(&mut tx).await.unwrap().into_iter().map(|each| each.name).collect();
    assert_eq!(&names[..2], ["one", "vault"], "oldest first; the owner was made now");
    role_assignments::create(&mut tx, &stage.granted, &assignment("a", "/", "role", &one.object_id)).await.unwrap();
    principals::delete(&mut tx, &one.object_id).await.unwrap();
    assert!(principals::by_object_id(&mut tx, &one.object_id).await.unwrap().is_none());
    assert!(role_assignments::of_principal(&mut tx, &one.object_id).await.unwrap().is_empty());
}

fn assignment(name: &str, scope: &str, role: &str, principal_id: &str) -> RoleAssignment {
    RoleAssignment {
        id: format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", scope.trim_end_matches('/')),
        name: name.to_owned(),
        scope: scope.to_owned(),
        role: role.to_owned(),
        principal_id: principal_id.to_owned(),
        principal_type: "User".to_owned(),
        description: None,
        created_by: "me".to_owned(),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) async fn assignments_say_who_may_what_where(stage: &Stage) {
    let (mut tx, granted) = (stage.write().await, &stage.granted);
    let (group, vault) = (group_id("Team"), vault_id("Vault"));
    let custom = definition("custom", "Auditor");
    role_definitions::put(&mut tx, granted, &custom).await.unwrap();
    for (name, scope, role) in [("a", group.as_str(), "custom"), ("b", &vault, "built-in"), ("c", "/", "built-in")] {
        role_assignments::create(&mut tx, granted, &assignment(name, scope, role, "somebody")).await.unwrap();
    }
    let mut given = role_assignments::of_principal(&mut tx, "somebody").await.unwrap();
    given.sort_by(|a, b| a.scope_key.cmp(&b.scope_key));
    let expected = |scope: &str, role: &str, permissions: Option<Vec<Permission>>| Given {
        scope_key: fold(scope),
        role: role.to_owned(),
        permissions,
    };
    let custom = expected(&group, "custom", Some(custom.permissions));
    assert_eq!(given, [expected("/", "built-in", None), custom, expected(&vault, "built-in", None)]);
    tx.commit().await.unwrap();
    is_duplicate(
        role_assignments::create(
            &mut *stage.write().await,
            granted,
            &assignment("d", &group.to_uppercase(), "custom", "somebody"),
        )
        .await,
    );

    let mut tx = stage.write().await;
    let key = fold(&assignment("a", &group, "custom", "somebody").id);
    role_assignments::update(&mut tx, granted, &key, Some("why"), NOW + 1).await.unwrap();
    let found = role_assignments::get(&mut tx, granted, &key).await.unwrap().unwrap();
    assert_eq!((found.description.as_deref(), found.updated_at, found.scope), (Some("why"), NOW + 1, group.clone()));
    assert!(role_assignments::same(&mut tx, granted, "somebody", "custom", &fold(&group)).await.unwrap().is_some());
    assert!(role_assignments::same(&mut tx, granted, "somebody", "custom", "/").await.unwrap().is_none());
    assert_eq!(role_assignments::list(&mut tx, granted).await.unwrap().len(), 4, "the owner has one, too");
    assert_eq!(role_assignments::count(&mut tx, granted, "built-in", &fold(&vault)).await.unwrap(), 1);
    let scopes = role_assignments::scopes_of_role(&mut tx, granted, "built-in").await.unwrap();
    assert_eq!(scopes, ["/".to_owned(), fold(&vault)]);
    locks::put(&mut tx, granted, &lock("kept", &vault)).await.unwrap();
    role_assignments::delete_within(&mut tx, granted, &fold(&group)).await.unwrap();
    assert_eq!(role_assignments::of_principal(&mut tx, "somebody").await.unwrap().len(), 1, "that at the root stays");
    assert!(locks::around(&mut tx, granted, &fold(&vault)).await.unwrap().is_empty(), "locks go with them");
}

fn definition(guid: &str, name: &str) -> RoleDefinition {
    let actions = vec!["Microsoft.DataProtection/*/read".to_owned()];
    RoleDefinition {
        guid: guid.to_owned(),
        name: name.to_owned(),
        description: None,
        permissions: vec![Permission { actions, ..Permission::default() }],
        assignable_scopes: vec![group_id("Team")],
        created_by: "me".to_owned(),
        updated_by: "me".to_owned(),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) async fn definitions_have_names_of_their_own(stage: &Stage) {
    let (mut tx, granted) = (stage.write().await, &stage.granted);
    let one = definition("1", "Émile's Role");
    role_definitions::put(&mut tx, granted, &one).await.unwrap();
    assert_eq!(role_definitions::by_name(&mut tx, granted, "ÉMILE'S role ").await.unwrap(), Some(one.clone()));
    let changed = RoleDefinition {
        description: Some("text".to_owned()),
        updated_by: "you".to_owned(),
        created_by: "not kept".to_owned(),
        ..one.clone()
    };
    role_definitions::put(&mut tx, granted, &changed).await.unwrap();
    let expected = RoleDefinition { created_by: "me".to_owned(), ..changed };
    assert_eq!(role_definitions::get(&mut tx, granted, "1").await.unwrap(), Some(expected));
    role_definitions::put(&mut tx, granted, &definition("2", "auditor")).await.unwrap();
    let all = role_definitions::list(&mut tx, granted).await.unwrap();
    assert_eq!(all.iter().map(|each| each.guid.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    tx.commit().await.unwrap();
    is_duplicate(role_definitions::put(&mut *stage.write().await, granted, &definition("3", "Auditor")).await);
    let mut tx = stage.write().await;
    role_definitions::delete(&mut tx, granted, "1").await.unwrap();
    assert_eq!(role_definitions::get(&mut tx, granted, "1").await.unwrap(), None);
}

fn lock(name: &str, scope: &str) -> Lock {
    Lock {
        id: format!("{scope}/providers/Microsoft.Authorization/locks/{name}"),
        name: name.to_owned(),
        scope: scope.to_owned(),
        level: LockLevel::CanNotDelete,
        notes: Some("a\0b".to_owned()),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) async fn locks_are_found_around_a_scope(stage: &Stage) {
    let (mut tx, granted) = (stage.write().await, &stage.granted);
    let (group, vault) = (group_id("Te%m"), format!("{}/providers/x/vaults/v_1", group_id("Te%m")));
    for (name, scope) in [("above", group.as_str()), ("at", &vault), ("below", &format!("{vault}/policies/p"))] {
        locks::put(&mut tx, granted, &lock(name, scope)).await.unwrap();
    }
    for (name, scope) in
        [("beside", format!("{vault}0")), ("alike", vault.replace("v_1", "vx1")), ("other", group_id("Te%mX"))]
    {
        locks::put(&mut tx, granted, &lock(name, &scope)).await.unwrap();
    }
    let names = |found: Vec<Lock>| found.into_iter().map(|each| each.name).collect::<Vec<_>>();
    let around = locks::around(&mut tx, granted, &fold(&vault)).await.unwrap();
    assert_eq!(names(around), ["above", "at", "below"]);
    let changed = Lock { level: LockLevel::ReadOnly, notes: None, updated_at: NOW + 1, ..lock("at", &vault) };
    locks::put(&mut tx, granted, &changed).await.unwrap();
    assert_eq!(locks::get(&mut tx, granted, &fold(&changed.id)).await.unwrap(), Some(changed.clone()));
    locks::delete(&mut tx, granted, &fold(&changed.id)).await.unwrap();
    assert_eq!(locks::get(&mut tx, granted, &fold(&changed.id)).await.unwrap(), None);
    locks::delete_within(&mut tx, granted, &fold(&vault)).await.unwrap();
    assert_eq!(names(locks::around(&mut tx, granted, &fold(&vault)).await.unwrap()), ["above"]);
}

//! Management locks, and what they forbid.
//!
//! A lock stands at a subscription, a group or a resource and holds for all that lies in it, for everybody, whatever roles they have. The
//! front door asks `check` before any handler runs, and after the caller's right was found: who may not do a thing is not told that it is
//! locked. Jobs of the service go on in what is locked, as they only read it; a restore, which writes, asks by itself.

use std::sync::Arc;

use blobkeep_arm::id::is_within;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};

use super::authorization::{read_filter, scope_of, unknown_term};
use super::request::invalid_content;
use super::resource_groups::find_group;
use super::subscriptions::find_subscription;
use super::{Access, Answer, Request, Route, vaults};
use crate::App;
use crate::auth::{Granted, Rights};
use crate::db::locks::{Lock, LockLevel};
use crate::db::{self, Conn};
use crate::error::ApiResult;

const KIND: &str = "locks";
const LOCK: &str = "{*scope}/providers/Microsoft.Authorization/locks/{name}";
const READ: &str = "Microsoft.Authorization/locks/read";
/// Longest notes, in characters.
const MAX_NOTES: usize = 512;
/// Longest name, in characters.
const MAX_NAME: usize = 260;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "ManagementLocks_ListByScope",
        method: Method::GET,
        pattern: "{*scope}/providers/Microsoft.Authorization/locks",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "ManagementLocks_GetByScope",
        method: Method::GET,
        pattern: LOCK,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "ManagementLocks_CreateOrUpdateByScope",
        method: Method::PUT,
        pattern: LOCK,
        access: Access::Action("Microsoft.Authorization/locks/write"),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "ManagementLocks_DeleteByScope",
        method: Method::DELETE,
        pattern: LOCK,
        access: Access::Action("Microsoft.Authorization/locks/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
];

/// What a request does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Delete,
    /// Also every POST, as in Azure.
    Write,
}

impl Change {
    /// What performing `action` changes; `None` for reading, and for the locks themselves.
    fn of(action: &str) -> Option<Self> {
        let action = action.to_ascii_lowercase();
        if action.starts_with("microsoft.authorization/locks/") {
            None
        } else if action.ends_with("/delete") {
            Some(Self::Delete)
        } else if action.ends_with("/write") || action.ends_with("/action") {
            Some(Self::Write)
        } else {
            None
        }
    }

    /// A lock stands against this change of the resource of that folded id. To remove a thing is also to remove what lies in it.
    fn is_forbidden_by(self, lock: &Lock, key: &str) -> bool {
        match (self, lock.level) {
            (Self::Delete, _) => lock.covers(key) || is_within(&lock.scope_key(), key),
            (Self::Write, LockLevel::ReadOnly) => lock.covers(key),
            (Self::Write, LockLevel::CanNotDelete) => false,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Write => "write",
        }
    }
}

/// Refuses what a lock forbids.
///
/// # Errors
/// 409 `ScopeLocked` naming what is locked.
pub(super) async fn check(app: &App, granted: &Granted, id: &ResourceId) -> ApiResult<()> {
    let Some(change) = Change::of(granted.action()) else { return Ok(()) };
    let key = granted.scope();
    let mut reader = app.db.read().await?;
    let locks = db::locks::around(&mut reader, granted, key).await?;
    drop(reader);
    let mut locked: Vec<&str> =
        locks.iter().filter(|lock| change.is_forbidden_by(lock, key)).map(|lock| lock.scope.as_str()).collect();
    locked.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    if locked.is_empty() {
        return Ok(());
    }
    let values = [("scope", id.to_string()), ("operation", change.as_str().to_owned()), ("locked", locked.join(", "))];
    Err(ApiError::of(ErrorCode::ScopeLocked, &values.each_ref().map(|(name, value)| (*name, value.as_str()))))
}

fn body(lock: &Lock) -> Value {
    let mut properties = json!({ "level": lock.level.as_str() });
    if let Some(notes) = &lock.notes {
        properties["notes"] = json!(notes);
    }
    json!({ "properties": properties, "id": lock.id, "type": "Microsoft.Authorization/locks", "name": lock.name })
}

fn not_found(request: &Request, scope: &ResourceId) -> ApiError {
    let resource = format!("Microsoft.Authorization/locks/{}", request.param("name"));
    let group = scope.resource_group().unwrap_or_default();
    ApiError::of(ErrorCode::ResourceNotFound, &[("resource", &resource), ("group", group)])
}

/// Locks at the scope and, without `atScope()`, below it; those above it that the caller may read where they are.
async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = scope_of(&request, KIND)?.folded();
    let filter = request.filter().unwrap_or_default();
    let terms = read_filter(filter)?;
    if let Some((other, _)) = terms.iter().find(|(word, _)| word != "atscope") {
        return Err(unknown_term(filter, other));
    }
    let is_at_scope = !terms.is_empty();
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let mut found = db::locks::around(&mut reader, granted, &key).await?;
    found.retain(|lock| {
        let own = lock.scope_key();
        let is_below = own != key && is_within(&own, &key);
        own == key || is_below && !is_at_scope || lock.covers(&key) && rights.allow(READ, &own)
    });
    Ok(Answer::ok(envelope::list(found.iter().map(body).collect(), None)))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let scope = scope_of(&request, KIND)?;
    let mut reader = app.db.read().await?;
    let found = db::locks::get(&mut reader, request.granted()?, &request.path.id.folded()).await?;
    Ok(Answer::ok(body(&found.ok_or_else(|| not_found(&request, &scope))?)))
}

/// Level and notes of a body.
fn read(content: &Value) -> ApiResult<(LockLevel, Option<String>)> {
    let properties =
        envelope::member(content, "properties").ok_or_else(|| invalid_content("'properties' is missing"))?;
    let level = envelope::text(properties, "level").and_then(|word| envelope::one_of(word, LockLevel::WORDS));
    let level = level.and_then(LockLevel::parse).ok_or_else(|| {
        invalid_content(&format!("'properties.level' must be one of {}", LockLevel::WORDS.join(", ")))
    })?;
    let notes = match envelope::member(properties, "notes") {
        None => None,
        Some(Value::String(notes)) if notes.chars().count() <= MAX_NOTES => Some(notes.clone()),
        Some(_) => {
            return Err(invalid_content(&format!(
                "'properties.notes' must be a text of at most {MAX_NOTES} characters"
            )));
        }
    };
    Ok((level, notes))
}

fn check_name(name: &str) -> ApiResult<()> {
    let rule = if name.chars().count() > MAX_NAME {
        "it can have at most 260 characters"
    } else if name.contains(['<', '>', '%', '&', ':', '?']) {
        "it cannot hold '<', '>', '%', '&', ':' or '?'"
    } else {
        return Ok(());
    };
    let values = [("name", name), ("kind", "Microsoft.Authorization/locks"), ("rule", rule)];
    Err(ApiError::of(ErrorCode::InvalidResourceName, &values))
}

/// What shall be locked is there. Of types that no lock was thought of for, the group is enough.
async fn require_scope(conn: &mut Conn, granted: &Granted, scope: &ResourceId) -> ApiResult<()> {
    if scope.subscription().is_none() {
        let reason = "a lock is put on a subscription, a resource group or a resource in one";
        return Err(ApiError::of(ErrorCode::NotSupported, &[("what", "A lock at this scope"), ("reason", reason)]));
    }
    find_subscription(conn, scope).await?;
    if scope.resource_group().is_some() {
        find_group(conn, granted, scope).await?;
    }
    let key = scope.folded();
    let is_there = match scope.full_type().unwrap_or_default().to_ascii_lowercase().as_str() {
        "microsoft.storage/storageaccounts" => db::storage_accounts::get(conn, granted, &key).await?.is_some(),
        "microsoft.dataprotection/backupvaults" => db::vaults::get(conn, granted, &key).await?.is_some(),
        "microsoft.dataprotection/resourceguards" => db::guards::get(conn, granted, &key).await?.is_some(),
        "microsoft.dataprotection/backupvaults/backuppolicies" => {
            db::policies::get(conn, granted, &key).await?.is_some()
        }
        "microsoft.dataprotection/backupvaults/backupinstances" => {
            db::instances::get(conn, granted, &key).await?.is_some()
        }
        _ => true,
    };
    if is_there { Ok(()) } else { Err(vaults::not_found(scope)) }
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let scope = scope_of(&request, KIND)?;
    let name = request.param("name");
    check_name(name)?;
    let (level, notes) = read(&request.json()?)?;
    let mut tx = app.db.write().await?;
    require_scope(&mut tx, granted, &scope).await?;
    let present = db::locks::get(&mut tx, granted, &request.path.id.folded()).await?;
    let is_new = present.is_none();
    let lock = match present {
        Some(present) => Lock { level, notes, updated_at: request.now, ..present },
        None => Lock {
            id: scope.attach("Microsoft.Authorization", KIND, name).to_string(),
            name: name.to_owned(),
            scope: scope.to_string(),
            level,
            notes,
            created_at: request.now,
            updated_at: request.now,
        },
    };
    db::locks::put(&mut tx, granted, &lock).await?;
    tx.commit().await?;
    Ok(if is_new { Answer::created(body(&lock)) } else { Answer::ok(body(&lock)) })
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    scope_of(&request, KIND)?;
    let key = request.path.id.folded();
    let mut tx = app.db.write().await?;
    if db::locks::get(&mut tx, granted, &key).await?.is_none() {
        return Ok(Answer::no_content());
    }
    db::locks::delete(&mut tx, granted, &key).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Change, check_name, read};
    use crate::db::locks::{Lock, LockLevel};

    fn lock(scope: &str, level: LockLevel) -> Lock {
        let (id, name) = (format!("{scope}/providers/Microsoft.Authorization/locks/l"), "l".to_owned());
        Lock { id, name, scope: scope.to_owned(), level, notes: None, created_at: 0, updated_at: 0 }
    }

    #[test]
    fn actions_change_or_read() {
        for (action, wanted) in [
            ("Microsoft.Storage/storageAccounts/read", None),
            ("Microsoft.Storage/storageAccounts/write", Some(Change::Write)),
            ("Microsoft.Storage/storageAccounts/listkeys/ACTION", Some(Change::Write)),
            ("Microsoft.Authorization/roleAssignments/Delete", Some(Change::Delete)),
            ("Microsoft.Authorization/locks/delete", None),
            ("Microsoft.Authorization/Locks/write", None),
        ] {
            assert_eq!(Change::of(action), wanted, "{action}");
        }
    }

    #[test]
    fn a_lock_holds_below_and_against_removing_what_is_above() {
        use LockLevel::{CanNotDelete, ReadOnly};
        for (level, at, change, key, wanted) in [
            (
                CanNotDelete,
                "/subscriptions/S/resourceGroups/G",
                Change::Delete,
                "/subscriptions/s/resourcegroups/g",
                true,
            ),
            (CanNotDelete, "/subscriptions/S", Change::Delete, "/subscriptions/s/resourcegroups/g", true),
            (CanNotDelete, "/subscriptions/S", Change::Write, "/subscriptions/s/resourcegroups/g", false),
            (
                CanNotDelete,
                "/subscriptions/s/resourceGroups/g/providers/P/t/n",
                Change::Delete,
                "/subscriptions/s/resourcegroups/g",
                true,
            ),
            (
                ReadOnly,
                "/subscriptions/s/resourceGroups/g/providers/P/t/n",
                Change::Write,
                "/subscriptions/s/resourcegroups/g",
                false,
            ),
            (
                ReadOnly,
                "/subscriptions/s/resourceGroups/g",
                Change::Write,
                "/subscriptions/s/resourcegroups/g/providers/p/t/n",
                true,
            ),
            (ReadOnly, "/subscriptions/s/resourceGroups/g", Change::Write, "/subscriptions/s/resourcegroups/gg", false),
            (
                ReadOnly,
                "/subscriptions/s/resourceGroups/g",
                Change::Delete,
                "/subscriptions/s/resourcegroups/gg",
                false,
            ),
        ] {
            assert_eq!(change.is_forbidden_by(&lock(at, level), key), wanted, "{level:?} at {at}, {change:?} of {key}");
        }
    }

    #[test]
    fn bodies_and_names_follow_azures_rules() {
        let body = json!({ "Properties": { "level": "cannotdelete", "notes": "why" } });
        assert_eq!(read(&body).unwrap(), (LockLevel::CanNotDelete, Some("why".to_owned())));
        for bad in [
            json!({}),
            json!({ "properties": {} }),
            json!({ "properties": { "level": "NotSpecified" } }),
            json!({ "properties": { "level": "ReadOnly", "notes": 3 } }),
            json!({ "properties": { "level": "ReadOnly", "notes": "x".repeat(513) } }),
        ] {
            assert_eq!(read(&bad).unwrap_err().code_name(), "InvalidRequestContent", "{bad}");
        }
        assert!(check_name("Do not delete (1)").is_ok());
        assert!(check_name("a:b").is_err() && check_name(&"x".repeat(261)).is_err());
    }
}

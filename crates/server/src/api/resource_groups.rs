//! Resource groups: folders with a location and tags.
//!
//! A group is removed only when it is empty: backup data must never go because somebody tidied up a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_arm::id::{fold, fold_location};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};

use super::page::{Page, Readable};
use super::request::invalid_content;
use super::subscriptions::{existing_subscription, find_subscription, require_subscription};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{Granted, Rights};
use crate::db::resource_groups::{ResourceGroup, Tags};
use crate::db::{self, Conn};
use crate::error::ApiResult;

pub(super) const READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";
const WRITE: &str = "Microsoft.Resources/subscriptions/resourceGroups/write";
const DELETE: &str = "Microsoft.Resources/subscriptions/resourceGroups/delete";
const GROUP: &str = "/subscriptions/{subscription}/resourceGroups/{group}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "ResourceGroups_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "ResourceGroups_CreateOrUpdate",
        method: Method::PUT,
        pattern: GROUP,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "ResourceGroups_Get",
        method: Method::GET,
        pattern: GROUP,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "ResourceGroups_CheckExistence",
        method: Method::HEAD,
        pattern: GROUP,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(head(app, request)),
    },
    Route {
        operation: "ResourceGroups_Update",
        method: Method::PATCH,
        pattern: GROUP,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(patch(app, request)),
    },
    Route {
        operation: "ResourceGroups_Delete",
        method: Method::DELETE,
        pattern: GROUP,
        access: Access::Action(DELETE),
        handler: |app, request| Box::pin(delete(app, request)),
    },
];

fn body(group: &ResourceGroup) -> Value {
    json!({
        "id": group.id,
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": group.location,
        "tags": group.tags,
        "properties": { "provisioningState": "Succeeded" },
    })
}

/// `tags` of a body: an object of strings; absent or null is none.
///
/// # Errors
/// 400 `InvalidRequestContent`.
pub fn read_tags(content: &Value) -> ApiResult<Option<Tags>> {
    let Some(tags) = envelope::member(content, "tags") else { return Ok(None) };
    let members = tags.as_object().ok_or_else(|| invalid_content("'tags' must be an object"))?;
    let mut read = BTreeMap::new();
    for (name, value) in members {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(invalid_content(&format!("the tag '{name}' must be a string")));
            }
        };
        read.insert(name.clone(), value);
    }
    Ok(Some(read))
}

/// The `location` of a body.
///
/// # Errors
/// 400 `LocationRequired`.
pub fn read_location(content: &Value) -> ApiResult<String> {
    let location = envelope::text(content, "location").map(str::trim).unwrap_or_default();
    if location.is_empty() {
        return Err(ApiError::of(ErrorCode::LocationRequired, &[]));
    }
    Ok(location.to_owned())
}

/// 404 `ResourceGroupNotFound`.
fn group_not_found(id: &ResourceId) -> ApiError {
    ApiError::of(ErrorCode::ResourceGroupNotFound, &[("group", id.resource_group().unwrap_or_default())])
}

/// The resource group that an id lies in. A grant on something inside is enough.
///
/// # Errors
/// 404 `SubscriptionNotFound` or `ResourceGroupNotFound`.
pub async fn existing_group(app: &App, granted: &Granted, id: &ResourceId) -> ApiResult<ResourceGroup> {
    let mut reader = app.db.read().await?;
    find_group(&mut reader, granted, id).await
}

/// The same on a connection that the caller holds: what is read inside a transaction stays so until its end.
///
/// # Errors
/// As [`existing_group`].
pub(super) async fn find_group(conn: &mut Conn, granted: &Granted, id: &ResourceId) -> ApiResult<ResourceGroup> {
    let subscription = find_subscription(conn, id).await?;
    let group = id.resource_group().unwrap_or_default();
    let key = ResourceId::group_scope(subscription.id, group).folded();
    db::resource_groups::get(conn, granted, &key).await?.ok_or_else(|| group_not_found(id))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let subscription = require_subscription(&app, &request).await?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut groups = Readable::of(&page);
    let may_read = rights.to(READ);
    let mut reader = app.db.read().await?;
    while groups.wants_more() {
        let read = db::resource_groups::list(&mut reader, &subscription.id, groups.after(), page.fetch()).await?;
        groups.add(read, |group| may_read.on(&fold(&group.id)));
    }
    page.answer(&request, groups.rows(), body)
}

fn check_name(name: &str) -> ApiResult<()> {
    let is_legal = name.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c));
    let rule = if name.chars().count() > 90 {
        "it can have at most 90 characters"
    } else if !is_legal {
        "it can hold letters, digits, '-', '_', '.', '(' and ')' only"
    } else if name.ends_with('.') {
        "it cannot end with '.'"
    } else {
        return Ok(());
    };
    Err(ApiError::of(ErrorCode::InvalidResourceGroupName, &[("name", name), ("rule", rule)]))
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let content = request.json()?;
    let subscription = existing_subscription(&app, &request.path.id).await?;
    let name = request.param("group");
    check_name(name)?;
    let location = read_location(&content)?;
    let tags = read_tags(&content)?.unwrap_or_default();
    let id = ResourceId::group_scope(subscription.id.clone(), name);
    let key = id.folded();
    let mut tx = app.db.write().await?;
    if let Some(mut group) = db::resource_groups::get(&mut tx, granted, &key).await? {
        if fold_location(&group.location) != fold_location(&location) {
            let values = [("wanted", location.as_str()), ("location", group.location.as_str())];
            return Err(ApiError::of(ErrorCode::InvalidResourceGroupLocation, &values));
        }
        db::resource_groups::set_tags(&mut tx, granted, &key, &tags).await?;
        tx.commit().await?;
        group.tags = tags;
        return Ok(Answer::ok(body(&group)));
    }
    let location = fold_location(&location);
    let group = ResourceGroup { id: id.to_string(), name: name.to_owned(), location, tags, created_at: request.now };
    db::resource_groups::create(&mut tx, granted, &group, &subscription.id).await?;
    tx.commit().await?;
    Ok(Answer::created(body(&group)))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let group = existing_group(&app, request.granted()?, &request.path.id).await?;
    Ok(Answer::ok(body(&group)))
}

async fn head(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    match existing_group(&app, request.granted()?, &request.path.id).await {
        Ok(_) => Ok(Answer::no_content()),
        Err(error) if error.status() == 404 => Ok(Answer::new(404, None)),
        Err(error) => Err(error),
    }
}

async fn patch(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let content = request.json()?;
    let mut group = existing_group(&app, granted, &request.path.id).await?;
    if let Some(tags) = read_tags(&content)? {
        let mut tx = app.db.write().await?;
        group = find_group(&mut tx, granted, &request.path.id).await?;
        db::resource_groups::set_tags(&mut tx, granted, &request.path.id.folded(), &tags).await?;
        tx.commit().await?;
        group.tags = tags;
    }
    Ok(Answer::ok(body(&group)))
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = request.path.id.folded();
    let mut tx = app.db.write().await?;
    let group = find_group(&mut tx, granted, &request.path.id).await?;
    let inside = db::resource_groups::contents(&mut tx, granted, &key).await?;
    if !inside.is_empty() {
        let values = [("group", group.name.as_str()), ("resources", &inside.join(", "))];
        return Err(ApiError::of(ErrorCode::ResourceGroupNotEmpty, &values));
    }
    db::role_assignments::delete_within(&mut tx, granted, &key).await?;
    db::resource_groups::delete(&mut tx, granted, &key).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check_name, read_location, read_tags};

    #[test]
    fn group_names_follow_azures_rule() {
        for good in ["RG-BlobBackup", "a", "Gruppe_(1).x", "überall"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["ends.", "a b", "x/y", &"a".repeat(91)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_strings_and_may_be_absent() {
        assert_eq!(read_tags(&json!({})).unwrap(), None);
        assert_eq!(read_tags(&json!({"tags": null})).unwrap(), None);
        let tags = read_tags(&json!({"Tags": {"a": "b", "n": 1}})).unwrap().unwrap();
        assert_eq!(tags["a"], "b");
        assert_eq!(tags["n"], "1");
        assert!(read_tags(&json!({"tags": {"a": []}})).is_err());
        assert!(read_tags(&json!({"tags": "x"})).is_err());
    }

    #[test]
    fn a_location_is_required() {
        assert!(read_location(&json!({"location": " "})).is_err());
        assert_eq!(read_location(&json!({"Location": "West US"})).unwrap(), "West US");
    }
}

//! Storage accounts: Azure's shapes, plus the connection that says where the blobs are.
//!
//! No answer may hold a secret: not the connection's, not one that a client sent in an error.

use std::sync::Arc;

use blobkeep_arm::id::{fold, fold_location};
use blobkeep_arm::stamp::Change;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Map, Value, json};

use super::page::{Page, Readable};
use super::request::invalid_content;
use super::resource_groups::{existing_group, find_group, read_location, read_tags};
use super::subscriptions::require_subscription;
use super::{Access, Answer, Request, Route, conditions};
use crate::accounts::{Connection, ConnectionError};
use crate::auth::{Granted, Rights};
use crate::config::StorageAccountConfig;
use crate::db::Conn;
use crate::db::resource_groups::ResourceGroup;
use crate::db::storage_accounts::StorageAccount;
use crate::db::subscriptions::Subscription;
use crate::error::ApiResult;
use crate::{App, ServeError, db};

pub(super) const READ: &str = "Microsoft.Storage/storageAccounts/read";
const WRITE: &str = "Microsoft.Storage/storageAccounts/write";
const GROUP_READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";
const ACCOUNT: &str =
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "StorageAccounts_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.Storage/storageAccounts",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list_in_subscription(app, request)),
    },
    Route {
        operation: "StorageAccounts_ListByResourceGroup",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list_in_group(app, request)),
    },
    Route {
        operation: "StorageAccounts_Create",
        method: Method::PUT,
        pattern: ACCOUNT,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "StorageAccounts_GetProperties",
        method: Method::GET,
        pattern: ACCOUNT,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "StorageAccounts_Update",
        method: Method::PATCH,
        pattern: ACCOUNT,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(patch(app, request)),
    },
    Route {
        operation: "StorageAccounts_Delete",
        method: Method::DELETE,
        pattern: ACCOUNT,
        access: Access::Action("Microsoft.Storage/storageAccounts/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "StorageAccounts_ListKeys",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/listKeys",
        access: Access::Action("Microsoft.Storage/storageAccounts/listkeys/action"),
        handler: |app, request| Box::pin(list_keys(app, request)),
    },
];

/// Settings of an account that are kept and answered as they were given; none of them changes what happens here.
const SETTINGS: &[&str] = &[
    "accessTier",
    "allowBlobPublicAccess",
    "allowCrossTenantReplication",
    "allowSharedKeyAccess",
    "isHnsEnabled",
    "minimumTlsVersion",
    "publicNetworkAccess",
    "supportsHttpsTrafficOnly",
];

pub(super) fn timestamp(micros: i64) -> String {
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{instant:.7}")
}

/// The account in Azure's shape.
pub(super) fn body(account: &StorageAccount) -> Value {
    let said = &account.properties;
    let text = |name: &str, default: &str| envelope::text(said, name).unwrap_or(default).to_owned();
    let sku = text("sku", "Standard_LRS");
    let tier = if sku.to_ascii_lowercase().starts_with("premium") { "Premium" } else { "Standard" };
    let endpoint = match account.connection_url.as_deref() {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None => format!("https://{}.blob.core.windows.net/", account.name),
    };
    let mut properties = Map::new();
    properties.insert("provisioningState".into(), json!("Succeeded"));
    properties.insert("creationTime".into(), json!(timestamp(account.created_at)));
    properties.insert("primaryLocation".into(), json!(fold_location(&account.location)));
    properties.insert("statusOfPrimary".into(), json!("available"));
    properties.insert("primaryEndpoints".into(), json!({ "blob": endpoint }));
    properties.insert("supportsHttpsTrafficOnly".into(), json!(true));
    properties.insert("accessTier".into(), json!("Hot"));
    // `az storage account update` reads it and ends with a traceback where it is missing.
    properties.insert("encryption".into(), json!({ "keySource": "Microsoft.Storage" }));
    if let Some(settings) = envelope::member(said, "settings").and_then(Value::as_object) {
        properties.extend(settings.clone());
    }
    if let (Some(kind), Some(url)) = (&account.connection_kind, &account.connection_url) {
        properties.insert("connection".into(), json!({ "kind": kind, "url": url }));
    }
    json!({
        "sku": { "name": sku, "tier": tier },
        "kind": text("kind", "StorageV2"),
        "id": account.id,
        "name": account.name,
        "type": "Microsoft.Storage/storageAccounts",
        "location": account.location,
        "tags": account.tags,
        "properties": properties,
    })
}

fn not_found(id: &ResourceId) -> ApiError {
    let resource = format!("Microsoft.Storage/storageAccounts/{}", id.name_of("storageAccounts").unwrap_or_default());
    let group = id.resource_group().unwrap_or_default();
    ApiError::of(ErrorCode::ResourceNotFound, &[("resource", &resource), ("group", group)])
}

/// The account that an id names or lies in.
///
/// # Errors
/// 404 for the subscription, the group or the account.
pub async fn existing_account(app: &App, granted: &Granted, id: &ResourceId) -> ApiResult<StorageAccount> {
    let mut reader = app.db.read().await?;
    find_account(&mut reader, granted, id).await
}

/// The same on a connection that the caller holds.
pub(in crate::api) async fn find_account(
    conn: &mut Conn,
    granted: &Granted,
    id: &ResourceId,
) -> ApiResult<StorageAccount> {
    find_group(conn, granted, id).await?;
    let name = id.name_of("storageAccounts").unwrap_or_default();
    let key = id.scope().attach("Microsoft.Storage", "storageAccounts", name).folded();
    db::storage_accounts::get(conn, granted, &key).await?.ok_or_else(|| not_found(id))
}

pub(super) fn check_name(name: &str) -> ApiResult<()> {
    let is_legal = (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if is_legal { Ok(()) } else { Err(ApiError::of(ErrorCode::AccountNameInvalid, &[("name", name)])) }
}

/// Takes over what the body says; `replaces` forgets what it does not say (PUT).
fn apply_settings(account: &mut StorageAccount, content: &Value, replaces: bool) {
    if replaces || !account.properties.is_object() {
        account.properties = json!({});
    }
    let Some(said) = account.properties.as_object_mut() else { return };
    if let Some(sku) = envelope::member(content, "sku").and_then(|sku| envelope::text(sku, "name")) {
        said.insert("sku".into(), json!(sku));
    }
    if let Some(kind) = envelope::text(content, "kind") {
        said.insert("kind".into(), json!(kind));
    }
    let Some(given) = envelope::member(content, "properties") else { return };
    let mut settings = said.get("settings").and_then(Value::as_object).cloned().unwrap_or_default();
    for name in SETTINGS {
        if let Some(value) = envelope::member(given, name) {
            settings.insert((*name).to_owned(), value.clone());
        }
    }
    said.insert("settings".into(), Value::Object(settings));
}

fn connection_error(account: &str, error: &ConnectionError) -> ApiError {
    let code = match error {
        ConnectionError::Invalid(_) => ErrorCode::InvalidConnection,
        ConnectionError::NotSupported(_) => ErrorCode::ConnectionNotSupported,
    };
    ApiError::of(code, &[("account", account), ("reason", &error.to_string())]).with_target("properties.connection")
}

/// Whether a connection is no more than what answers show of it. Who reads an account, changes something else and sends the whole back (as
/// `az resource tag` does) cannot send the secret, and means "as it is".
fn is_shown(given: &Value, account: &StorageAccount) -> bool {
    let is_shown_member = |name: &str| name.eq_ignore_ascii_case("kind") || name.eq_ignore_ascii_case("url");
    let says_no_more = given
        .as_object()
        .is_some_and(|members| members.iter().all(|(name, value)| value.is_null() || is_shown_member(name)));
    says_no_more
        && account.connection_kind.is_some()
        && envelope::text(given, "kind") == account.connection_kind.as_deref()
        && envelope::text(given, "url") == account.connection_url.as_deref()
}

/// `properties.connection` of a body, checked against the configuration. `known` is the account as it was so far.
fn read_connection(
    app: &App,
    account: &str,
    known: Option<&StorageAccount>,
    content: &Value,
) -> ApiResult<Option<Connection>> {
    let given =
        envelope::member(content, "properties").and_then(|properties| envelope::member(properties, "connection"));
    let Some(given) = given else { return Ok(None) };
    if !given.is_object() {
        return Err(invalid_content("'properties.connection' must be an object"));
    }
    if known.is_some_and(|known| is_shown(given, known)) {
        return Ok(None);
    }
    Connection::from_body(given, &app.config).map(Some).map_err(|error| connection_error(account, &error))
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let content = request.json()?;
    if !content.is_object() {
        return Err(invalid_content("The body must be a JSON object."));
    }
    // Where the group is missing nothing else is looked at. It is read again below, for it may go meanwhile.
    existing_group(&app, granted, &request.path.id).await?;
    let name = request.param("account");
    let location = read_location(&content)?;
    // Nothing for a new account.
    let known = existing_account(&app, granted, &request.path.id).await.ok();
    let connection = read_connection(&app, name, known.as_ref(), &content)?;
    let tags = read_tags(&content)?.unwrap_or_default();
    let key = request.path.id.folded();
    let mut tx = app.db.write().await?;
    let group = find_group(&mut tx, granted, &request.path.id).await?;
    let present = db::storage_accounts::get(&mut tx, granted, &key).await?;
    let is_new = present.is_none();
    conditions::check(&mut tx, &request, (!is_new).then_some(key.as_str())).await?;
    let mut account = match present {
        Some(account) if fold_location(&account.location) != fold_location(&location) => {
            let values = [("name", name), ("location", account.location.as_str()), ("wanted", location.as_str())];
            return Err(ApiError::of(ErrorCode::InvalidResourceLocation, &values));
        }
        Some(account) => account,
        None => {
            check_name(name)?;
            new_account(&group, &request.path.id, &location, request.now)
        }
    };
    apply_settings(&mut account, &content, true);
    account.tags = tags;
    account.updated_at = request.now;
    db::storage_accounts::put(&mut tx, granted, &account).await?;
    if let Some(connection) = &connection {
        db::storage_accounts::set_connection(&mut tx, granted, &app.sealer, &key, connection).await?;
    }
    let stored = db::storage_accounts::get(&mut tx, granted, &key).await?.unwrap_or(account);
    let stamp = conditions::change(&mut tx, &request, &key, is_new).await?;
    tx.commit().await?;
    Ok(conditions::written_answer(Answer::ok(body(&stored)), &stamp))
}

/// A new account in the spelling of its group.
fn new_account(group: &ResourceGroup, id: &ResourceId, location: &str, now: i64) -> StorageAccount {
    let name = id.name().to_owned();
    let group_id = ResourceId::parse(&group.id).unwrap_or_else(|_| id.scope());
    StorageAccount {
        id: group_id.attach("Microsoft.Storage", "storageAccounts", &name).to_string(),
        name,
        subscription_key: group_id.subscription().unwrap_or_default().to_lowercase(),
        group_key: group_id.folded(),
        location: fold_location(location),
        tags: db::resource_groups::Tags::new(),
        properties: json!({}),
        connection_kind: None,
        connection_url: None,
        created_at: now,
        updated_at: now,
    }
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let account = find_account(&mut reader, request.granted()?, &request.path.id).await?;
    let stamp = conditions::stamp(&mut reader, &request, &request.path.id.folded()).await?;
    conditions::read_answer(&request, stamp.as_ref(), body(&account))
}

async fn list_in_subscription(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let subscription = require_subscription(&app, &request).await?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut accounts = Readable::of(&page);
    let may_read = rights.to(READ);
    let mut reader = app.db.read().await?;
    while accounts.wants_more() {
        let (after, limit) = (accounts.after(), page.fetch());
        let read = db::storage_accounts::list_in_subscription(&mut reader, &subscription.id, after, limit).await?;
        accounts.add(read, |account| may_read.on(&fold(&account.id)));
    }
    page.answer(&request, accounts.rows(), body)
}

async fn list_in_group(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let subscription = require_subscription(&app, &request).await?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let key = ResourceId::group_scope(subscription.id, request.param("group")).folded();
    // Whether the group is there is told only to who may see it.
    if rights.allow(GROUP_READ, &key) {
        let granted = crate::auth::authorize(&app, &request.caller, GROUP_READ, &key).await?;
        existing_group(&app, &granted, &request.path.id).await?;
    }
    let (mut accounts, may_read) = (Readable::of(&page), rights.to(READ));
    // Taken only now: who holds a connection and waits for another one may wait for ever, once enough do so.
    let mut reader = app.db.read().await?;
    while accounts.wants_more() {
        let read = db::storage_accounts::list_in_group(&mut reader, &key, accounts.after(), page.fetch()).await?;
        accounts.add(read, |account| may_read.on(&fold(&account.id)));
    }
    page.answer(&request, accounts.rows(), body)
}

async fn patch(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let content = request.json()?;
    // Where the account is missing nothing else is looked at. It is read again below, for another request may change it meanwhile.
    let known = existing_account(&app, granted, &request.path.id).await?;
    let connection = read_connection(&app, &known.name, Some(&known), &content)?;
    let tags = read_tags(&content)?;
    let key = request.path.id.folded();
    let mut tx = app.db.write().await?;
    let mut account = find_account(&mut tx, granted, &request.path.id).await?;
    conditions::check(&mut tx, &request, Some(&key)).await?;
    account.tags = tags.unwrap_or(account.tags);
    apply_settings(&mut account, &content, false);
    account.updated_at = request.now;
    db::storage_accounts::put(&mut tx, granted, &account).await?;
    if let Some(connection) = &connection {
        db::storage_accounts::set_connection(&mut tx, granted, &app.sealer, &key, connection).await?;
    }
    let stored = db::storage_accounts::get(&mut tx, granted, &key).await?.unwrap_or(account);
    let stamp = conditions::change(&mut tx, &request, &key, false).await?;
    tx.commit().await?;
    Ok(conditions::written_answer(Answer::ok(body(&stored)), &stamp))
}

/// Forgets the account and its connection; the blobs stay where they are.
async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = request.path.id.folded();
    let mut tx = app.db.write().await?;
    let account = db::storage_accounts::get(&mut tx, granted, &key).await?;
    conditions::check(&mut tx, &request, account.is_some().then_some(key.as_str())).await?;
    let Some(account) = account else { return Ok(Answer::no_content()) };
    if let Some(instance) = db::storage_accounts::protected_by(&mut tx, granted, &key).await? {
        let values = [("account", account.name.as_str()), ("instance", instance.as_str())];
        return Err(ApiError::of(ErrorCode::StorageAccountProtected, &values));
    }
    db::role_assignments::delete_within(&mut tx, granted, &key).await?;
    db::storage_accounts::delete(&mut tx, granted, &key).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}

async fn list_keys(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let account = existing_account(&app, request.granted()?, &request.path.id).await?;
    Err(ApiError::of(ErrorCode::ListKeysNotOffered, &[("account", &account.name)]))
}

/// Makes and connects the storage accounts of the configuration, with their subscriptions and groups where these are missing.
///
/// # Errors
/// [`ServeError::StorageAccount`] naming the account and what to do.
pub(crate) async fn connect_configured(app: &App, now: i64) -> Result<(), ServeError> {
    for configured in &app.config.storage_accounts {
        let failed = |reason: String| ServeError::StorageAccount { id: configured.id.clone(), reason };
        let id = ResourceId::parse(&configured.id).map_err(|error| failed(error.to_string()))?;
        if !id.is_type("Microsoft.Storage/storageAccounts") || id.resource_group().is_none() {
            let text = "it is not the id of a storage account: /subscriptions/…/resourceGroups/…/providers/Microsoft.Storage/storageAccounts/…";
            return Err(failed(text.to_owned()));
        }
        check_name(id.name()).map_err(|error| failed(error.message))?;
        let body = Value::Object(configured.connection.clone());
        let connection = Connection::from_body(&body, &app.config).map_err(|error| failed(error.to_string()))?;
        connect_one(app, configured, &id, &connection, now).await.map_err(|error| failed(error.message))?;
    }
    Ok(())
}

async fn connect_one(
    app: &App,
    configured: &StorageAccountConfig,
    id: &ResourceId,
    connection: &Connection,
    now: i64,
) -> ApiResult<()> {
    let granted = Granted::service();
    let subscription_id = id.subscription().unwrap_or_default();
    let mut tx = app.db.write().await?;
    let named =
        Subscription { id: subscription_id.to_owned(), display_name: subscription_id.to_owned(), created_at: now };
    db::subscriptions::create(&mut tx, &named).await?;
    let subscription = db::subscriptions::get(&mut tx, subscription_id).await?.unwrap_or(named);
    let group_id = ResourceId::group_scope(subscription.id.clone(), id.resource_group().unwrap_or_default());
    let group = match db::resource_groups::get(&mut tx, &granted, &group_id.folded()).await? {
        Some(group) => group,
        None => {
            let group = ResourceGroup {
                id: group_id.to_string(),
                name: group_id.name().to_owned(),
                location: fold_location(&configured.location),
                tags: db::resource_groups::Tags::new(),
                created_at: now,
            };
            db::resource_groups::create(&mut tx, &granted, &group, &subscription.id).await?;
            group
        }
    };
    let key = id.folded();
    let present = db::storage_accounts::get(&mut tx, &granted, &key).await?;
    let is_new = present.is_none();
    let account = present.unwrap_or_else(|| new_account(&group, id, &configured.location, now));
    let url = connection.public_url();
    let is_moved = account.connection_kind.as_deref() != Some(connection.kind_name())
        || account.connection_url.as_deref() != Some(url.as_str());
    db::storage_accounts::put(&mut tx, &granted, &account).await?;
    db::storage_accounts::set_connection(&mut tx, &granted, &app.sealer, &key, connection).await?;
    let change = Change { at: now, ..Change::default() };
    if is_new {
        db::stamps::made(&mut tx, &granted, &key, &change).await?;
    } else if is_moved {
        db::stamps::changed(&mut tx, &granted, &key, &change).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn account_names_follow_azures_rule() {
        for good in ["abc", "msblobbackup", "a23456789012345678901234"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["ab", "Abc", "a-b-c", "a2345678901234567890123456", "straße"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

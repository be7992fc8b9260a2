//! What lies in a subscription or a resource group, of all types that are listed there: vaults, resource guards and storage accounts.
//!
//! A list of all types is merged from those of each type. Each row is shown to who may read that resource, by its own type's action.

use std::sync::Arc;

use blobkeep_arm::guard::RESOURCE_GUARD;
use blobkeep_arm::id::{fold, fold_location};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;
use serde_json::{Map, Value, json};

use super::authorization::{Term, read_filter, unknown_term};
use super::page::{Listed, Page, Readable};
use super::{Access, Answer, Request, Route, guards, storage_accounts, vaults};
use crate::App;
use crate::auth::{Allowed, Rights};
use crate::db::guards::Guard;
use crate::db::storage_accounts::StorageAccount;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Resources_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resources",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "Resources_ListByResourceGroup",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/resources",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
];

const VAULT: &str = "Microsoft.DataProtection/backupVaults";
const ACCOUNT: &str = "Microsoft.Storage/storageAccounts";

/// A resource of any type, as far as a list of all types shows it.
#[derive(Debug)]
pub(super) struct Resource {
    /// Folded id.
    pub(super) key: String,
    /// Tags; the values are texts.
    pub(super) tags: Map<String, Value>,
    id: String,
    name: String,
    kind: &'static str,
    location: String,
    provisioning_state: String,
    created_at: i64,
    updated_at: i64,
    /// `identity`, `sku` and `kind` where its type has them.
    more: Map<String, Value>,
}

impl Listed for Resource {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl Resource {
    fn of_vault(app: &App, vault: Vault) -> Self {
        let mut more = Map::new();
        if let Some(principal) = &vault.principal_id {
            let identity = json!({ "principalId": principal, "tenantId": app.tenant_id(), "type": "SystemAssigned" });
            more.insert("identity".to_owned(), identity);
        }
        Self {
            key: vault.key,
            tags: vault.tags,
            id: vault.id,
            name: vault.name,
            kind: VAULT,
            location: vault.location,
            provisioning_state: vault.provisioning_state,
            created_at: vault.created_at,
            updated_at: vault.updated_at,
            more,
        }
    }

    fn of_guard(guard: Guard) -> Self {
        Self {
            key: guard.key,
            tags: guard.tags,
            id: guard.id,
            name: guard.name,
            kind: RESOURCE_GUARD,
            location: guard.location,
            provisioning_state: "Succeeded".to_owned(),
            created_at: guard.created_at,
            updated_at: guard.updated_at,
            more: Map::new(),
        }
    }

    fn of_account(account: StorageAccount) -> Self {
        let body = storage_accounts::body(&account);
        let shown = ["sku", "kind"].map(|name| (name.to_owned(), body[name].clone()));
        Self {
            key: fold(&account.id),
            tags: account.tags.into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
            id: account.id,
            name: account.name,
            kind: ACCOUNT,
            location: account.location,
            provisioning_state: "Succeeded".to_owned(),
            created_at: account.created_at,
            updated_at: account.updated_at,
            more: shown.into_iter().collect(),
        }
    }

    fn group(&self) -> &str {
        // /subscriptions/{subscription}/resourcegroups/{group}/…
        self.key.split('/').nth(4).unwrap_or_default()
    }

    fn body(&self, expanded: &Expanded) -> Value {
        let mut body = Map::new();
        body.insert("id".to_owned(), json!(self.id));
        body.insert("name".to_owned(), json!(self.name));
        body.insert("type".to_owned(), json!(self.kind));
        body.insert("location".to_owned(), json!(self.location));
        body.extend(self.more.clone());
        body.insert("tags".to_owned(), json!(self.tags));
        if expanded.created_time {
            body.insert("createdTime".to_owned(), json!(storage_accounts::timestamp(self.created_at)));
        }
        if expanded.changed_time {
            body.insert("changedTime".to_owned(), json!(storage_accounts::timestamp(self.updated_at)));
        }
        if expanded.provisioning_state {
            body.insert("provisioningState".to_owned(), json!(self.provisioning_state));
        }
        Value::Object(body)
    }
}

/// Members that are shown only if `$expand` names them.
struct Expanded {
    created_time: bool,
    changed_time: bool,
    provisioning_state: bool,
}

impl Expanded {
    fn of(request: &Request) -> Self {
        let named: Vec<&str> = request.query("$expand").unwrap_or_default().split(',').map(str::trim).collect();
        let is_named = |member: &str| named.iter().any(|name| name.eq_ignore_ascii_case(member));
        Self {
            created_time: is_named("createdTime"),
            changed_time: is_named("changedTime"),
            provisioning_state: is_named("provisioningState"),
        }
    }
}

/// What a text must be, compared without case.
#[derive(Debug, PartialEq)]
enum Test {
    Is(String),
    BeginsWith(String),
    Holds(String),
}

impl Test {
    fn allows(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        match self {
            Self::Is(wanted) => text == *wanted,
            Self::BeginsWith(wanted) => text.starts_with(wanted),
            Self::Holds(wanted) => text.contains(wanted),
        }
    }
}

/// The `$filter` of a list of all types. The default one allows everything.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filter {
    kinds: Vec<Test>,
    names: Vec<Test>,
    groups: Vec<Test>,
    locations: Vec<String>,
    tag_names: Vec<Test>,
    /// Values of tags are compared with case.
    tag_values: Vec<String>,
}

impl Filter {
    /// Reads what the resource manager documents and command lines send: `resourceType`, `name`, `location`, `resourceGroup`, `tagName` and
    /// `tagValue` with `eq`, `startswith(tagname, 'x')`, `substringof('x', name)`, joined by `and`.
    ///
    /// # Errors
    /// 400 `InvalidFilterInQueryString`.
    fn of(request: &Request) -> ApiResult<Self> {
        let text = request.filter().unwrap_or_default();
        let mut filter = Self::default();
        for (word, value) in read_filter(text)? {
            filter.take(text, (word, value))?;
        }
        Ok(filter)
    }

    fn take(&mut self, filter: &str, (word, text): Term) -> ApiResult<()> {
        let is = || Test::Is(text.to_lowercase());
        match word.as_str() {
            "resourcetype" => self.kinds.push(is()),
            "name" => self.names.push(is()),
            "resourcegroup" => self.groups.push(is()),
            "location" => self.locations.push(fold_location(&text)),
            "tagname" => self.tag_names.push(is()),
            "tagvalue" => self.tag_values.push(text),
            "startswith" => match arguments(&text) {
                Some((property, begin)) if property.eq_ignore_ascii_case("tagname") => {
                    self.tag_names.push(Test::BeginsWith(begin.to_lowercase()));
                }
                _ => return Err(bad_function(filter, "startswith(tagname, 'text')")),
            },
            "substringof" => match arguments(&text) {
                Some((part, property)) if property.eq_ignore_ascii_case("name") => {
                    self.names.push(Test::Holds(part.to_lowercase()));
                }
                Some((part, property)) if property.eq_ignore_ascii_case("resourceGroup") => {
                    self.groups.push(Test::Holds(part.to_lowercase()));
                }
                _ => return Err(bad_function(filter, "substringof('text', name)")),
            },
            other => return Err(unknown_term(filter, other)),
        }
        Ok(())
    }

    /// Resources of that type are not asked for.
    fn is_without(&self, kind: &str) -> bool {
        !self.kinds.iter().all(|test| test.allows(kind))
    }

    fn allows(&self, resource: &Resource) -> bool {
        let location = fold_location(&resource.location);
        !self.is_without(resource.kind)
            && self.names.iter().all(|test| test.allows(&resource.name))
            && self.groups.iter().all(|test| test.allows(resource.group()))
            && self.locations.iter().all(|wanted| *wanted == location)
            && self.allows_tags(&resource.tags)
    }

    /// One tag has to meet all that is said of tags.
    fn allows_tags(&self, tags: &Map<String, Value>) -> bool {
        let is_meant = |(name, value): (&String, &Value)| {
            self.tag_names.iter().all(|test| test.allows(name))
                && self.tag_values.iter().all(|wanted| value.as_str() == Some(wanted))
        };
        self.tag_names.is_empty() && self.tag_values.is_empty() || tags.iter().any(is_meant)
    }
}

/// The two arguments of a function, without quotes.
fn arguments(text: &str) -> Option<(&str, &str)> {
    let (first, second) = text.split_once(',')?;
    Some((bare(first), bare(second)))
}

fn bare(text: &str) -> &str {
    text.trim().trim_matches('\'')
}

fn bad_function(filter: &str, form: &str) -> ApiError {
    let reason = format!("the function has the form {form}");
    ApiError::of(ErrorCode::InvalidFilterInQueryString, &[("filter", filter), ("reason", &reason)])
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let filter = Filter::of(&request)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let (may_read, place) = (Readings::of(&rights), Scope::of(&request));
    let mut found = Readable::of(&page);
    // Who may read nothing here is not worth a look.
    if may_read.some_in(&request.path.id.folded()) {
        let mut reader = app.db.read().await?;
        while found.wants_more() {
            let read = read_some(&app, &mut reader, place, &filter, found.after(), page.fetch()).await?;
            found.add(read, |resource: &Resource| filter.allows(resource) && may_read.on(resource));
        }
    }
    let expanded = Expanded::of(&request);
    page.answer(&request, found.rows(), |resource| resource.body(&expanded))
}

/// Where the caller may read resources of each type.
#[derive(Debug)]
pub(super) struct Readings<'r>([(&'static str, Allowed<'r>); 3]);

impl<'r> Readings<'r> {
    pub(super) fn of(rights: &'r Rights) -> Self {
        let actions = [(VAULT, vaults::READ), (RESOURCE_GUARD, guards::READ), (ACCOUNT, storage_accounts::READ)];
        Self(actions.map(|(kind, action)| (kind, rights.to(action))))
    }

    /// Of some type at that folded id, or in it.
    pub(super) fn some_in(&self, key: &str) -> bool {
        self.0.iter().any(|(_, allowed)| allowed.somewhere_in(key))
    }

    pub(super) fn on(&self, resource: &Resource) -> bool {
        self.0.iter().any(|(kind, allowed)| *kind == resource.kind && allowed.on(&resource.key))
    }
}

/// Where resources are looked for: in a subscription (its GUID), or in one group of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) subscription: &'a str,
    pub(super) group: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// Of a path that names a group, or else a subscription.
    pub(super) fn of(request: &'a Request) -> Self {
        let group = Some(request.param("group")).filter(|group| !group.is_empty());
        Self { subscription: request.param("subscription"), group }
    }

    /// The folded id of the group.
    pub(super) fn group_key(&self) -> Option<String> {
        self.group.map(|group| ResourceId::group_scope(self.subscription, group).folded())
    }
}

/// The first `limit` resources behind the folded id `after`, of the types that the filter asks for. The caller shows only what may be read.
pub(super) async fn read_some(
    app: &App,
    conn: &mut Conn,
    place: Scope<'_>,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> ApiResult<Vec<Resource>> {
    let mut found = Vec::new();
    if !filter.is_without(VAULT) {
        let read = vaults::read_some(conn, place, after, limit).await?;
        found.extend(read.into_iter().map(|vault| Resource::of_vault(app, vault)));
    }
    if !filter.is_without(RESOURCE_GUARD) {
        let read = guards::read_some(conn, place, after, limit).await?;
        found.extend(read.into_iter().map(Resource::of_guard));
    }
    if !filter.is_without(ACCOUNT) {
        let read = match place.group_key() {
            Some(group) => db::storage_accounts::list_in_group(conn, &group, after, limit).await?,
            None => db::storage_accounts::list_in_subscription(conn, place.subscription, after, limit).await?,
        };
        found.extend(read.into_iter().map(Resource::of_account));
    }
    // The first of each type hold the first of all.
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Filter, Test, read_filter};

    fn filter(text: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for term in read_filter(text).map_err(|error| error.message)? {
            filter.take(text, term).map_err(|error| error.message)?;
        }
        Ok(filter)
    }

    #[test]
    fn filters_are_read_as_command_lines_send_them() {
        let read = filter("resourceGroup eq 'RG' and resourceType eq 'Microsoft.Storage/storageAccounts'").unwrap();
        assert_eq!(read.groups, [Test::Is("rg".to_owned())]);
        assert!(read.is_without("Microsoft.DataProtection/backupVaults"));
        assert!(!read.is_without("Microsoft.Storage/storageAccounts"));
        assert_eq!(filter("location eq 'West US'").unwrap().locations, ["westus"]);
        assert_eq!(filter("startswith(tagname, 'cost')").unwrap().tag_names, [Test::BeginsWith("cost".to_owned())]);
        assert_eq!(filter("substringof('Blob', name)").unwrap().names, [Test::Holds("blob".to_owned())]);
        assert_eq!(filter("").unwrap(), Filter::default());
    }

    #[test]
    fn filters_of_which_nothing_is_known_are_refused() {
        for text in ["plan eq 'x'", "startswith(name, 'x')", "startswith(tagname)", "substringof('x', location)"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_tag_has_to_meet_all_that_is_said_of_tags() {
        let tags = json!({ "Team": "a", "stage": "b" });
        let tags = tags.as_object().unwrap();
        for (text, wanted) in [
            ("tagName eq 'team'", true),
            ("tagName eq 'team' and tagValue eq 'a'", true),
            ("tagName eq 'team' and tagValue eq 'A'", false),
            ("tagName eq 'team' and tagValue eq 'b'", false),
            ("startswith(tagname, 'ST')", true),
            ("startswith(tagname, 'x')", false),
        ] {
            assert_eq!(filter(text).unwrap().allows_tags(tags), wanted, "{text}");
        }
    }
}

//! Names and values of the tags that are in use in a subscription.
//!
//! Tags are kept with what they are on; nothing is kept of a name that nothing has any more, and none can be made in advance.

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_arm::id::fold;
use http::Method;
use serde_json::{Value, json};

use super::page::{Listed, Page};
use super::resources::{self, Filter, Readings, Scope};
use super::{Access, Answer, Request, Route, resource_groups};
use crate::App;
use crate::auth::{Allowed, Rights};
use crate::db;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "Tags_List",
    method: Method::GET,
    pattern: "/subscriptions/{subscription}/tagNames",
    access: Access::SignedIn,
    handler: |app, request| Box::pin(list(app, request)),
}];

/// Resources that are read at once.
const STEP: i64 = 1000;

/// A name of tags.
#[derive(Debug)]
struct TagName {
    /// The name in lower case behind a slash: names are told apart without case.
    key: String,
    /// As it was first met.
    name: String,
    /// How many have each value.
    values: BTreeMap<String, u64>,
}

impl Listed for TagName {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl TagName {
    fn body(&self, subscription: &str) -> Value {
        let id = format!("/subscriptions/{subscription}/tagNames/{}", self.name);
        let count = |uses: u64| json!({ "type": "Total", "value": uses });
        let values = self.values.iter().map(|(value, uses)| {
            json!({ "id": format!("{id}/tagValues/{value}"), "tagValue": value, "count": count(*uses) })
        });
        let values: Vec<Value> = values.collect();
        json!({ "id": id, "tagName": self.name, "count": count(self.values.values().sum()), "values": values })
    }
}

/// Names in use, by name.
#[derive(Debug, Default)]
struct Found(BTreeMap<String, TagName>);

impl Found {
    fn add(&mut self, name: &str, value: &str) {
        let key = format!("/{}", name.to_lowercase());
        let new = || TagName { key: key.clone(), name: name.to_owned(), values: BTreeMap::new() };
        let found = self.0.entry(key.clone()).or_insert_with(new);
        *found.values.entry(value.to_owned()).or_default() += 1;
    }
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let subscription = request.param("subscription");
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let scope = request.path.id.folded();
    let mut found = Found::default();
    let groups = rights.to(resource_groups::READ);
    if groups.somewhere_in(&scope) {
        of_groups(&app, subscription, &groups, &mut found).await?;
    }
    let readings = Readings::of(&rights);
    if readings.some_in(&scope) {
        of_resources(&app, subscription, &readings, &mut found).await?;
    }
    let behind = found.0.into_values().filter(|name| name.key.as_str() > page.after());
    let names: Vec<TagName> = behind.collect();
    page.answer(&request, &names, |name| name.body(subscription))
}

/// Tags of the resource groups that the caller may read.
async fn of_groups(app: &App, subscription: &str, may_read: &Allowed<'_>, found: &mut Found) -> ApiResult<()> {
    let mut reader = app.db.read().await?;
    let mut after = String::new();
    loop {
        let read = db::resource_groups::list(&mut reader, subscription, &after, STEP).await?;
        let Some(last) = read.last() else { return Ok(()) };
        after = fold(&last.id);
        for group in read.iter().filter(|group| may_read.on(&fold(&group.id))) {
            for (name, value) in &group.tags {
                found.add(name, value);
            }
        }
    }
}

/// Tags of the resources that the caller may read.
async fn of_resources(app: &App, subscription: &str, may_read: &Readings<'_>, found: &mut Found) -> ApiResult<()> {
    let (place, everything) = (Scope { subscription, group: None }, Filter::default());
    let mut reader = app.db.read().await?;
    let mut after = String::new();
    loop {
        let read = resources::read_some(app, &mut reader, place, &everything, &after, STEP).await?;
        let Some(last) = read.last() else { return Ok(()) };
        after.clone_from(&last.key);
        for resource in read.iter().filter(|resource| may_read.on(resource)) {
            for (name, value) in &resource.tags {
                found.add(name, value.as_str().unwrap_or_default());
            }
        }
    }
}

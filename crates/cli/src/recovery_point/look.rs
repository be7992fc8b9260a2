//! Looking into points through the service: browse, search and diff.

use clap::Args;
use serde_json::{Value, json};

use super::{InstanceScope, OneArgs, find};
use crate::client::{Client, version};
use crate::scope::{self, text};
use crate::{instance, output};

#[derive(Debug, Args)]
pub(super) struct BrowseArgs {
    #[command(flatten)]
    point: OneArgs,
    /// The blobs of this container; without it the containers
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Only names that start so
    #[arg(long, value_name = "PREFIX", requires = "container", default_value = "")]
    prefix: String,
    /// Every blob, not folder by folder
    #[arg(long, requires = "container")]
    flat: bool,
}

#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// A glob for whole names if it has * or ?, else a part of the name
    pattern: String,
    #[command(flatten)]
    instance: InstanceScope,
    /// Only in this point: its id, or `latest`
    #[arg(long, value_name = "POINT")]
    point: Option<String>,
    /// Only in this container (again for more)
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    point: OneArgs,
    /// The point to compare with: its id, or `latest`
    #[arg(long, value_name = "POINT")]
    with: String,
    /// Only this container
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Only names that start so
    #[arg(long, value_name = "PREFIX", requires = "container", default_value = "")]
    prefix: String,
}

/// All entries that an action answers, through its tokens; and its first answer.
async fn all(client: &Client, subject: &str, action: &str, mut body: Value) -> anyhow::Result<(Vec<Value>, Value)> {
    let path = format!("{subject}/providers/Blobkeep.DataProtection/{action}");
    let (mut values, mut first) = (Vec::new(), None);
    loop {
        let mut page = client.post(&path, version::DATA_PROTECTION, &body).await?.body;
        if let Some(Value::Array(found)) = page.get_mut("value").map(Value::take) {
            values.extend(found);
        }
        let token = page.get("skipToken").cloned();
        first.get_or_insert(page);
        match token {
            Some(token) => body["skipToken"] = token,
            None => return Ok((values, first.unwrap_or_default())),
        }
    }
}

/// The ARM id of a point.
async fn point_id(client: &Client, instance_id: &str, wanted: &str) -> anyhow::Result<String> {
    let point = find(client, instance_id, wanted).await?;
    Ok(format!("{instance_id}/recoveryPoints/{}", scope::segment(text(&point, "/name"))?))
}

fn bytes(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_u64).map(output::bytes).unwrap_or_default()
}

pub(super) async fn browse(args: &BrowseArgs) -> anyhow::Result<()> {
    let scope = &args.point.instance;
    let (client, id) = instance::open(&scope.scope, &scope.instance)?;
    let point = point_id(&client, &id, &args.point.point).await?;
    let delimiter = if args.flat || args.container.is_none() { "" } else { "/" };
    let body = json!({ "container": args.container, "prefix": args.prefix, "delimiter": delimiter });
    let (entries, first) = all(&client, &point, "browse", body).await?;
    let row = |entry: &Value| {
        let time = scope::time(entry, "/lastModified");
        vec![text(entry, "/kind").to_owned(), text(entry, "/name").to_owned(), bytes(entry, "/size"), time]
    };
    scope::list(scope.scope.format(), &entries, &["KIND", "NAME", "BYTES", "MODIFIED"], row, "there is nothing")?;
    for skipped in first.get("skipped").and_then(Value::as_array).into_iter().flatten() {
        let (container, name, reason) = (text(skipped, "/container"), text(skipped, "/name"), text(skipped, "/reason"));
        output::note(&output::printable(&format!("not in the point: {container}/{name}: {reason}")));
    }
    Ok(())
}

pub(super) async fn search(args: &SearchArgs) -> anyhow::Result<()> {
    let (client, id) = instance::open(&args.instance.scope, &args.instance.instance)?;
    let point = match &args.point {
        Some(wanted) => Some(text(&find(&client, &id, wanted).await?, "/name").to_owned()),
        None => None,
    };
    let body = json!({ "pattern": args.pattern, "containers": args.container, "recoveryPointId": point });
    let (found, _) = all(&client, &id, "search", body).await?;
    let row = |blob: &Value| {
        vec![
            text(blob, "/container").to_owned(),
            text(blob, "/name").to_owned(),
            bytes(blob, "/size"),
            scope::time(blob, "/lastModified"),
            text(blob, "/recoveryPointId").to_owned(),
            scope::time(blob, "/recoveryPointTime"),
        ]
    };
    let headers = ["CONTAINER", "NAME", "BYTES", "MODIFIED", "NEWEST POINT WITH IT", "TIME"];
    scope::list(args.instance.scope.format(), &found, &headers, row, "no blob of such a name was found")
}

pub(super) async fn diff(args: &DiffArgs) -> anyhow::Result<()> {
    let scope = &args.point.instance;
    let (client, id) = instance::open(&scope.scope, &scope.instance)?;
    let point = point_id(&client, &id, &args.point.point).await?;
    let with = find(&client, &id, &args.with).await?;
    let body = json!({ "with": text(&with, "/name"), "container": args.container, "prefix": args.prefix });
    let (differences, _) = all(&client, &point, "diff", body).await?;
    let row = |difference: &Value| {
        let side = if difference["after"].is_null() { "before" } else { "after" };
        vec![
            text(difference, "/change").to_owned(),
            text(difference, "/what").to_owned(),
            text(difference, &format!("/{side}/container")).to_owned(),
            text(difference, &format!("/{side}/name")).to_owned(),
            bytes(difference, "/before/size"),
            bytes(difference, "/after/size"),
        ]
    };
    let headers = ["CHANGE", "WHAT", "CONTAINER", "NAME", "BYTES BEFORE", "BYTES AFTER"];
    scope::list(scope.scope.format(), &differences, &headers, row, "nothing differs")
}

//! The shapes that all answers and requests share: member names without case, lists, the status of an operation.
//!
//! Clients spell members differently (`resourceID`, `resourceId`; `datasourceinfo`, `dataSourceInfo`). Input is re-keyed here to the
//! one spelling that the typed structs know; output is never touched by this file's re-keying.

use serde_json::{Map, Value, json};

/// Members whose own keys belong to the user: never re-keyed.
const USER_KEYED: &[&str] = &["tags", "userAssignedIdentities"];

/// Re-keys `value`, recursively, so that every member which equals one of `known` without case has the spelling of `known`.
///
/// Unknown members stay as they are. If one object holds a member in two spellings, the exact one wins, else the first. The contents
/// of `tags` and `userAssignedIdentities` are left alone: their keys are the user's.
pub fn respell(value: &mut Value, known: &[&str]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| respell(item, known)),
        Value::Object(members) => respell_object(members, known),
        _ => {}
    }
}

fn respell_object(members: &mut Map<String, Value>, known: &[&str]) {
    let given = std::mem::take(members);
    for (key, mut value) in given {
        let spelled = known.iter().find(|k| k.eq_ignore_ascii_case(&key)).map_or(key.as_str(), |k| *k);
        if !USER_KEYED.iter().any(|k| k.eq_ignore_ascii_case(&key)) {
            respell(&mut value, known);
        }
        let is_exact = spelled == key;
        if is_exact || !members.contains_key(spelled) {
            members.insert(spelled.to_owned(), value);
        }
    }
}

/// A member of an object, found without case; `None` if `value` is no object or the member is absent or null.
pub fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    let found = members
        .get(name)
        .or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

/// A member that is a string.
pub fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    member(value, name)?.as_str()
}

/// Finds one of `allowed` without case: how enum values in requests are compared. The answer is the canonical spelling.
pub fn one_of(word: &str, allowed: &[&'static str]) -> Option<&'static str> {
    allowed.iter().find(|a| a.eq_ignore_ascii_case(word)).copied()
}

/// The list envelope. `nextLink` is absent on the last page.
pub fn list(values: Vec<Value>, next_link: Option<String>) -> Value {
    let mut body = Map::new();
    body.insert("value".into(), Value::Array(values));
    if let Some(next) = next_link {
        body.insert("nextLink".into(), json!(next));
    }
    Value::Object(body)
}

/// What the status URL of an operation answers, members in the order of the seed.
#[derive(Debug, Clone)]
pub struct OperationStatus {
    /// Path of the status URL, without host and query.
    pub id: String,
    /// The operation's id.
    pub name: String,
    /// `Inprogress`, `Succeeded` or `Failed`.
    pub status: String,
    /// `error` of a failed operation: see `ApiError::status_error`.
    pub error: Option<Value>,
    /// When it began, formatted.
    pub start_time: String,
    /// When it ended, formatted; `None` while it runs.
    pub end_time: Option<String>,
    /// Only for backup and restore that succeeded: the job.
    pub properties: Option<Value>,
}

/// What a running operation says as its end (seed): without `Z`, as clients' parsers have learnt it.
pub const NOT_ENDED: &str = "0001-01-01T00:00:00";

impl OperationStatus {
    /// The body.
    pub fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("id".into(), json!(self.id));
        body.insert("name".into(), json!(self.name));
        body.insert("status".into(), json!(self.status));
        if let Some(error) = self.error {
            body.insert("error".into(), error);
        }
        body.insert("startTime".into(), json!(self.start_time));
        body.insert("endTime".into(), json!(self.end_time.as_deref().unwrap_or(NOT_ENDED)));
        if let Some(properties) = self.properties {
            body.insert("properties".into(), properties);
        }
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{OperationStatus, list, member, one_of, respell, text};

    const KNOWN: &[&str] = &["dataSourceInfo", "resourceID", "tags"];

    #[test]
    fn members_get_the_known_spelling_at_every_depth() {
        let mut value = json!({ "datasourceinfo": [{ "resourceId": 1, "Other": 2 }] });
        respell(&mut value, KNOWN);
        assert_eq!(value, json!({ "dataSourceInfo": [{ "resourceID": 1, "Other": 2 }] }));
    }

    #[test]
    fn the_exact_spelling_wins_over_another_one() {
        let mut value = json!({ "resourceId": 1, "resourceID": 2, "RESOURCEID": 3 });
        respell(&mut value, KNOWN);
        assert_eq!(value, json!({ "resourceID": 2 }));
    }

    #[test]
    fn names_of_tags_belong_to_the_user() {
        let mut value = json!({ "Tags": { "ResourceId": "x" } });
        respell(&mut value, KNOWN);
        assert_eq!(value, json!({ "tags": { "ResourceId": "x" } }));
    }

    #[test]
    fn lookups_ignore_case_and_nulls() {
        let value = json!({ "Kind": "x", "url": null });
        assert_eq!(text(&value, "kind"), Some("x"));
        assert_eq!(member(&value, "url"), None);
        assert_eq!(member(&json!(3), "x"), None);
        assert_eq!(one_of("vaultSTORE", &["OperationalStore", "VaultStore"]), Some("VaultStore"));
    }

    #[test]
    fn the_last_page_has_no_next_link() {
        assert_eq!(list(vec![], None).to_string(), r#"{"value":[]}"#);
        assert_eq!(list(vec![json!(1)], Some("u".into())).to_string(), r#"{"value":[1],"nextLink":"u"}"#);
    }

    #[test]
    fn a_running_operation_has_the_seeds_five_members() {
        let status = OperationStatus {
            id: "/i".into(),
            name: "n".into(),
            status: "Inprogress".into(),
            error: None,
            start_time: "2021-07-07T12:48:50.3432229Z".into(),
            end_time: None,
            properties: None,
        };
        assert_eq!(
            status.body().to_string(),
            r#"{"id":"/i","name":"n","status":"Inprogress","startTime":"2021-07-07T12:48:50.3432229Z","endTime":"0001-01-01T00:00:00"}"#
        );
    }
}

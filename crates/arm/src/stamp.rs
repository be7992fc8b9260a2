//! Who made and changed a resource, the tag of its present state, and what requests may demand of that tag.
//!
//! The rules of conditions are those of HTTP (RFC 9110, 8.8.3 and 13.1): `If-Match` compares strongly, `If-None-Match` weakly, and `*`
//! stands for whatever is there.

use serde_json::{Map, Value, json};

use crate::time::format_seven_digits;

/// Somebody's change of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Application id of who did it; empty: the service by itself, or it is not known.
    pub by: String,
    /// `Application` or `ManagedIdentity`; empty like `by`.
    pub by_type: String,
    /// Microseconds.
    pub at: i64,
}

/// What is remembered of a resource beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Grows with every change that a client can see.
    pub revision: i64,
    /// Who made it.
    pub created: Change,
    /// Who changed it last; what the service does by itself leaves this alone.
    pub updated: Change,
}

impl Stamp {
    /// The strong entity tag, in quotes. That of another resource of the same name, made later, differs.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}\"", self.created.at, self.revision)
    }

    /// Azure's `systemData`; what is not known is left out.
    pub fn system_data(&self) -> Value {
        let mut members = Map::new();
        let changes = [(&self.created, CREATED), (&self.updated, UPDATED)];
        for (change, [by, by_type, at]) in changes {
            if !change.by.is_empty() {
                members.insert(by.to_owned(), json!(change.by));
                members.insert(by_type.to_owned(), json!(change.by_type));
            }
            members.insert(at.to_owned(), json!(format_seven_digits(change.at)));
        }
        Value::Object(members)
    }
}

const CREATED: [&str; 3] = ["createdBy", "createdByType", "createdAt"];
const UPDATED: [&str; 3] = ["lastModifiedBy", "lastModifiedByType", "lastModifiedAt"];

/// The value of `If-Match` is met. `current` is the tag of what is there, empty if it has none; `None`: nothing is there.
pub fn meets_match(value: &str, current: Option<&str>) -> bool {
    let Some(current) = current else { return false };
    value.trim() == "*" || tags(value).any(|(is_weak, tag)| !is_weak && tag == inner(current))
}

/// The value of `If-None-Match` is met. `current` is the tag of what is there, empty if it has none; `None`: nothing is there.
pub fn meets_none_match(value: &str, current: Option<&str>) -> bool {
    let Some(current) = current else { return true };
    let has_star = value.split(',').any(|entry| entry.trim() == "*");
    !has_star && !tags(value).any(|(_, tag)| tag == inner(current))
}

/// The tags of a list, and whether each is a weak one. Clients that leave the quotes out are understood: no tag of ours holds a comma.
fn tags(value: &str) -> impl Iterator<Item = (bool, &str)> {
    let entries = value.split(',').map(str::trim);
    let tags = entries.map(|entry| match entry.strip_prefix("W/") {
        Some(weak) => (true, inner(weak)),
        None => (false, inner(entry)),
    });
    tags.filter(|(_, tag)| !tag.is_empty())
}

fn inner(tag: &str) -> &str {
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Change, Stamp, meets_match, meets_none_match};

    const CURRENT: &str = "\"5c6-2\"";

    fn stamp() -> Stamp {
        let change = |by: &str, at: i64| Change { by: by.into(), by_type: "Application".into(), at };
        Stamp {
            revision: 2,
            created: change("one", 1_625_662_130_343_222),
            updated: change("two", 1_625_662_131_000_000),
        }
    }

    #[test]
    fn a_tag_is_quoted_and_another_one_for_every_revision_and_birth() {
        let one = stamp();
        assert_eq!(one.etag(), "\"5c687f5cdcd36-2\"");
        let changed = Stamp { revision: 3, ..one.clone() };
        let reborn = Stamp { created: Change { at: one.created.at + 1, ..one.created.clone() }, ..one.clone() };
        assert!(one.etag() != changed.etag() && one.etag() != reborn.etag());
    }

    #[test]
    fn system_data_names_who_is_known() {
        let expected = json!({
            "createdBy": "one", "createdByType": "Application", "createdAt": "2021-07-07T12:48:50.3432220Z",
            "lastModifiedBy": "two", "lastModifiedByType": "Application", "lastModifiedAt": "2021-07-07T12:48:51.0000000Z",
        });
        assert_eq!(stamp().system_data(), expected);
        let unknown = Stamp { created: Change { at: 0, ..Change::default() }, ..stamp() };
        assert_eq!(unknown.system_data().as_object().map(serde_json::Map::len), Some(4));
    }

    #[test]
    fn if_match_wants_exactly_this_state() {
        for (value, wanted) in [
            (CURRENT, true),
            ("*", true),
            (" * ", true),
            ("\"other\", \"5c6-2\"", true),
            ("5c6-2", true),
            ("W/\"5c6-2\"", false),
            ("\"5c6-1\"", false),
            ("\"5C6-2\"", false),
            ("\"*\"", false),
            ("", false),
            (",", false),
            ("\"\"", false),
        ] {
            assert_eq!(meets_match(value, Some(CURRENT)), wanted, "{value}");
            assert!(!meets_match(value, None), "{value}: nothing is there");
        }
    }

    #[test]
    fn if_none_match_wants_any_other_state_or_none() {
        for (value, wanted) in [
            (CURRENT, false),
            ("*", false),
            ("\"other\", W/\"5c6-2\"", false),
            ("W/5c6-2", false),
            ("\"other\", *", false),
            ("\"5c6-1\"", true),
            ("", true),
            ("\"\"", true),
        ] {
            assert_eq!(meets_none_match(value, Some(CURRENT)), wanted, "{value}");
            assert!(meets_none_match(value, None), "{value}: nothing is there");
        }
    }

    #[test]
    fn what_is_there_without_a_tag_is_met_by_the_star_alone() {
        assert!(meets_match("*", Some("")) && !meets_none_match("*", Some("")));
        for value in ["\"\"", "", "\"5c6-2\""] {
            assert!(!meets_match(value, Some("")) && meets_none_match(value, Some("")), "{value}");
        }
    }
}

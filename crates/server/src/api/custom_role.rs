//! The body of a role that somebody makes: `properties` with `roleName`, `permissions` and `assignableScopes`.

use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use serde_json::Value;

use super::request::invalid_content;
use crate::auth::permission::Permission;
use crate::error::ApiResult;

/// Longest name, in characters.
const MAX_NAME: usize = 512;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 2048;
/// Most patterns of one definition, and most scopes: every request of who has the role looks at them.
const MAX_ENTRIES: usize = 2000;
/// Longest pattern of actions, in bytes.
const MAX_PATTERN: usize = 512;

/// What a client says about a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CustomRole {
    /// `roleName`, not empty.
    pub(super) name: String,
    /// For people.
    pub(super) description: Option<String>,
    /// At least one entry.
    pub(super) permissions: Vec<Permission>,
    /// Ids of subscriptions or of what lies in them, at least one, each once, in canonical spelling of the keywords.
    pub(super) assignable_scopes: Vec<String>,
}

/// Reads a body.
///
/// # Errors
/// 400 with the code of what does not fit: a name, a type, a pattern, a scope; `InvalidRequestContent` for the form.
pub(super) fn read(content: &Value) -> ApiResult<CustomRole> {
    let properties = envelope::member(content, "properties").filter(|properties| properties.is_object());
    let properties = properties.ok_or_else(|| invalid_content("'properties' must be an object"))?;
    let kind = text(properties, "type")?.unwrap_or("CustomRole");
    if !kind.eq_ignore_ascii_case("CustomRole") {
        return Err(ApiError::of(ErrorCode::InvalidRoleDefinitionType, &[("kind", kind)]));
    }
    let name = text(properties, "roleName")?.map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::of(ErrorCode::RoleDefinitionNameNullOrEmpty, &[]));
    }
    check_length("roleName", name, MAX_NAME)?;
    let description = text(properties, "description")?;
    check_length("description", description.unwrap_or_default(), MAX_DESCRIPTION)?;
    Ok(CustomRole {
        name: name.to_owned(),
        description: description.map(str::to_owned),
        permissions: read_permissions(properties)?,
        assignable_scopes: read_scopes(properties)?,
    })
}

/// A member that is a string where it is there.
fn text<'a>(value: &'a Value, name: &str) -> ApiResult<Option<&'a str>> {
    let Some(given) = envelope::member(value, name) else { return Ok(None) };
    given.as_str().map(Some).ok_or_else(|| invalid_content(&format!("'{name}' must be a string")))
}

fn check_length(name: &str, text: &str, most: usize) -> ApiResult<()> {
    if text.chars().count() <= most {
        return Ok(());
    }
    Err(invalid_content(&format!("'{name}' can have at most {most} characters")))
}

/// A member that is a list where it is there.
fn items<'a>(value: &'a Value, name: &str) -> ApiResult<&'a [Value]> {
    let Some(given) = envelope::member(value, name) else { return Ok(&[]) };
    let given = given.as_array().ok_or_else(|| invalid_content(&format!("'{name}' must be a list")))?;
    if given.len() > MAX_ENTRIES {
        return Err(invalid_content(&format!("'{name}' can have at most {MAX_ENTRIES} entries")));
    }
    Ok(given)
}

fn read_permissions(properties: &Value) -> ApiResult<Vec<Permission>> {
    let entries = items(properties, "permissions")?;
    if entries.is_empty() {
        return Err(invalid_content("'properties.permissions' must have at least one entry"));
    }
    let read = entries.iter().map(read_permission).collect::<ApiResult<Vec<Permission>>>()?;
    let patterns = |entry: &Permission| {
        entry.actions.len() + entry.not_actions.len() + entry.data_actions.len() + entry.not_data_actions.len()
    };
    if read.iter().map(patterns).sum::<usize>() > MAX_ENTRIES {
        return Err(invalid_content(&format!("'permissions' can have at most {MAX_ENTRIES} actions in all")));
    }
    Ok(read)
}

fn read_permission(entry: &Value) -> ApiResult<Permission> {
    if !entry.is_object() {
        return Err(invalid_content("each entry of 'permissions' must be an object"));
    }
    if text(entry, "condition")?.is_some_and(|condition| !condition.trim().is_empty()) {
        let reason = "conditions are not evaluated here, so the role would allow more than it says";
        return Err(ApiError::of(ErrorCode::NotSupported, &[("what", "A condition in a role"), ("reason", reason)]));
    }
    Ok(Permission {
        actions: read_patterns(entry, "actions")?,
        not_actions: read_patterns(entry, "notActions")?,
        data_actions: read_patterns(entry, "dataActions")?,
        not_data_actions: read_patterns(entry, "notDataActions")?,
    })
}

fn read_patterns(entry: &Value, name: &str) -> ApiResult<Vec<String>> {
    let patterns = items(entry, name)?.iter().map(|item| {
        let pattern = item.as_str().ok_or_else(|| invalid_content(&format!("'{name}' must be a list of strings")))?;
        if !is_pattern(pattern) {
            return Err(ApiError::of(ErrorCode::InvalidActionOrNotAction, &[("action", pattern)]));
        }
        Ok(pattern.to_owned())
    });
    patterns.collect()
}

/// `*`, or a provider and what of it, with slashes in between: `Microsoft.Storage/storageAccounts/*`, `*/read`. Whether any provider knows
/// it is not looked at, for roles are brought along from installations that have more providers.
fn is_pattern(text: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "*._-{}$".contains(c);
    let mut parts = text.split('/');
    let provider = parts.next().unwrap_or_default();
    let has_provider = provider.contains('.') || provider.contains('*');
    let rest: Vec<&str> = parts.collect();
    let is_action = has_provider && !rest.is_empty() && rest.iter().all(|part| !part.is_empty());
    text.len() <= MAX_PATTERN && (text == "*" || is_action && text.split('/').all(|part| part.chars().all(is_legal)))
}

fn read_scopes(properties: &Value) -> ApiResult<Vec<String>> {
    let given = items(properties, "assignableScopes")?;
    if given.is_empty() {
        return Err(ApiError::of(ErrorCode::MissingAssignableScopes, &[]));
    }
    let mut scopes: Vec<ResourceId> = Vec::with_capacity(given.len());
    for (number, item) in given.iter().enumerate() {
        let given = item.as_str().ok_or_else(|| invalid_content("'assignableScopes' must be a list of strings"))?;
        // The root is nobody's to give: built-in roles alone can be given everywhere.
        let scope = ResourceId::parse(given).ok().filter(|scope| scope.subscription().is_some());
        let scope = scope.ok_or_else(|| {
            let path = format!("properties.assignableScopes[{number}]");
            ApiError::of(ErrorCode::LinkedInvalidPropertyId, &[("id", given), ("path", &path)])
        })?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{is_pattern, read};

    fn body() -> Value {
        json!({ "properties": {
            "RoleName": " Backup Auditor ",
            "description": "Looks",
            "type": "customrole",
            "permissions": [{ "Actions": ["Microsoft.DataProtection/*/read"], "notActions": ["*/secret/read"] }],
            "assignableScopes": ["/subscriptions/S", "/Subscriptions/s/", "/subscriptions/S/resourcegroups/g"],
        }})
    }

    /// The code that a body with one member changed is refused with.
    fn refusal(member: &str, value: Value) -> String {
        let mut body = body();
        body["properties"].as_object_mut().unwrap().retain(|key, _| !key.eq_ignore_ascii_case(member));
        body["properties"][member] = value;
        read(&body).unwrap_err().code_name().to_owned()
    }

    #[test]
    fn a_role_is_read_in_any_case_and_names_each_scope_once() {
        let role = read(&body()).unwrap();
        assert_eq!(role.name, "Backup Auditor");
        assert_eq!(role.assignable_scopes, ["/subscriptions/S", "/subscriptions/S/resourceGroups/g"]);
        assert_eq!(role.permissions.len(), 1);
        assert!(role.permissions[0].allows("Microsoft.DataProtection/backupVaults/read"));
        assert!(!role.permissions[0].allows("Microsoft.DataProtection/secret/read"));
    }

    #[test]
    fn roles_that_make_no_sense_are_refused_by_name() {
        assert_eq!(refusal("roleName", json!("  ")), "RoleDefinitionNameNullOrEmpty");
        assert_eq!(refusal("roleName", Value::Null), "RoleDefinitionNameNullOrEmpty");
        assert_eq!(refusal("roleName", json!("x".repeat(513))), "InvalidRequestContent");
        assert_eq!(refusal("type", json!("BuiltInRole")), "InvalidRoleDefinitionType");
        assert_eq!(refusal("type", json!(3)), "InvalidRequestContent");
        assert_eq!(refusal("assignableScopes", json!([])), "MissingAssignableScopes");
        assert_eq!(refusal("assignableScopes", Value::Null), "MissingAssignableScopes");
        for scope in ["/", "Invalid_Scope", "/providers/Microsoft.Management/managementGroups/g", "/subscriptions/s/x"]
        {
            assert_eq!(refusal("assignableScopes", json!([scope])), "LinkedInvalidPropertyId", "{scope}");
        }
        assert_eq!(refusal("permissions", json!([])), "InvalidRequestContent");
        assert_eq!(refusal("permissions", json!(["*"])), "InvalidRequestContent");
        assert_eq!(refusal("permissions", json!([{ "actions": "*" }])), "InvalidRequestContent");
        assert_eq!(refusal("permissions", json!([{ "notActions": ["read"] }])), "InvalidActionOrNotAction");
        assert_eq!(refusal("permissions", json!([{ "actions": ["*"], "condition": "@x" }])), "NotSupported");
        let many: Vec<String> = (0..1500).map(|n| format!("A.B/c{n}/read")).collect();
        assert_eq!(refusal("permissions", json!([{ "actions": many, "notActions": many }])), "InvalidRequestContent");
        assert!(read(&json!({ "properties": [] })).is_err() && read(&Value::Null).is_err());
    }

    #[test]
    fn patterns_have_a_provider_and_slashes() {
        for good in ["*", "*/read", "Microsoft.Storage/*", "Microsoft.DataProtection/backupVaults/{operationName}/read"]
        {
            assert!(is_pattern(good), "{good}");
        }
        for bad in [
            "",
            "read",
            "/read",
            "Microsoft.Storage",
            "Microsoft.Storage//read",
            "Microsoft.Storage/",
            "A.B/c d",
            "A.B/ü",
        ] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}

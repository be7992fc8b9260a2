//! Role assignments at any scope. What the roles in them allow is decided in [`crate::auth`], never here.

use std::sync::Arc;

use blobkeep_arm::id::{fold, is_within};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::request::invalid_content;
use super::role_definitions::{self, definition_id};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{Granted, roles};
use crate::db::role_assignments::RoleAssignment;
use crate::db::{self, Conn};
use crate::error::ApiResult;

const ASSIGNMENT: &str = "{*scope}/providers/Microsoft.Authorization/roleAssignments/{name}";
const KIND: &str = "roleAssignments";
const ASSIGNMENTS: &str = "{*scope}/providers/Microsoft.Authorization/roleAssignments";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "RoleAssignments_ListForScope",
        method: Method::GET,
        pattern: ASSIGNMENTS,
        access: Access::Action("Microsoft.Authorization/roleAssignments/read"),
        handler: |app, request| Box::pin(list_assignments(app, request)),
    },
    Route {
        operation: "RoleAssignments_Get",
        method: Method::GET,
        pattern: ASSIGNMENT,
        access: Access::Action("Microsoft.Authorization/roleAssignments/read"),
        handler: |app, request| Box::pin(get_assignment(app, request)),
    },
    Route {
        operation: "RoleAssignments_Create",
        method: Method::PUT,
        pattern: ASSIGNMENT,
        access: Access::Action("Microsoft.Authorization/roleAssignments/write"),
        handler: |app, request| Box::pin(put_assignment(app, request)),
    },
    Route {
        operation: "RoleAssignments_Delete",
        method: Method::DELETE,
        pattern: ASSIGNMENT,
        access: Access::Action("Microsoft.Authorization/roleAssignments/delete"),
        handler: |app, request| Box::pin(delete_assignment(app, request)),
    },
];

/// The scope that a path is about, in canonical spelling. `kind` is the type of `Microsoft.Authorization` at its end.
///
/// Rights were looked up on the id at the front of the path. Where that is not this scope, or what lies directly at it, nothing may be
/// answered.
///
/// # Errors
/// 400 `InvalidRequestUri` when what stands in front of the provider is not the id of anything.
pub(super) fn scope_of(request: &Request, kind: &str) -> ApiResult<ResourceId> {
    let path = &request.path;
    let full_type = format!("Microsoft.Authorization/{kind}");
    let collection = ["providers", "Microsoft.Authorization", kind];
    let is_collection = path.rest.len() == collection.len()
        && path.rest.iter().zip(collection).all(|(segment, word)| segment.eq_ignore_ascii_case(word));
    if is_collection {
        Ok(path.id.clone())
    } else if path.rest.is_empty() && path.id.is_type(&full_type) {
        Ok(path.id.scope())
    } else {
        let reason = format!("what stands in front of '/providers/{full_type}' is not the id of a scope");
        Err(ApiError::of(ErrorCode::InvalidRequestUri, &[("reason", &reason)]))
    }
}

/// One comparison of a filter: the word on the left and the text on the right.
pub(super) type Term = (String, String);

/// Reads `a eq 'b' and atScope() and assignedTo('c')` into terms; a function without text has an empty one.
///
/// # Errors
/// 400 `InvalidFilterInQueryString`.
pub(super) fn read_filter(filter: &str) -> ApiResult<Vec<Term>> {
    let bad =
        |reason: &str| ApiError::of(ErrorCode::InvalidFilterInQueryString, &[("filter", filter), ("reason", reason)]);
    let mut terms = Vec::new();
    let mut rest = filter.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '/').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        if word.is_empty() {
            return Err(bad("a name is expected"));
        }
        let (text, after) = if let Some(arguments) = after.strip_prefix('(') {
            let (inside, after) = arguments.split_once(')').ok_or_else(|| bad("a closing parenthesis is missing"))?;
            (inside.trim().trim_matches('\'').to_owned(), after)
        } else {
            let operator = after.get(..2).unwrap_or("");
            if !operator.eq_ignore_ascii_case("eq") {
                return Err(bad("only the operator 'eq' is known"));
            }
            let quoted =
                after[2..].trim_start().strip_prefix('\'').ok_or_else(|| bad("a text in quotes is expected"))?;
            read_quoted(quoted).ok_or_else(|| bad("a closing quote is missing"))?
        };
        terms.push((word.to_ascii_lowercase(), text));
        rest = after.trim_start();
        if let Some(joined) = rest.get(..3).filter(|word| word.eq_ignore_ascii_case("and")) {
            rest = rest[joined.len()..].trim_start();
        } else if !rest.is_empty() {
            return Err(bad("only 'and' can join comparisons"));
        }
    }
    Ok(terms)
}

/// A text up to its closing quote, and what follows; a quote inside is doubled.
fn read_quoted(mut rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        text.push_str(part);
        let Some(more) = after.strip_prefix('\'') else { return Some((text, after)) };
        text.push('\'');
        rest = more;
    }
}

/// 400: nothing can be filtered by that word.
pub(super) fn unknown_term(filter: &str, word: &str) -> ApiError {
    let reason = format!("'{word}' cannot be filtered by");
    ApiError::of(ErrorCode::InvalidFilterInQueryString, &[("filter", filter), ("reason", &reason)])
}

/// An instant as roles show it: UTC with microseconds.
pub(super) fn time(micros: i64) -> String {
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{instant:.6}")
}

fn assignment_body(assignment: &RoleAssignment) -> Value {
    let scope = ResourceId::parse(&assignment.scope).unwrap_or_default();
    json!({
        "properties": {
            "roleDefinitionId": definition_id(&scope, &assignment.role),
            "principalId": assignment.principal_id,
            "principalType": assignment.principal_type,
            "scope": assignment.scope,
            "condition": null,
            "conditionVersion": null,
            "createdOn": time(assignment.created_at),
            "updatedOn": time(assignment.updated_at),
            "createdBy": assignment.created_by,
            "updatedBy": assignment.created_by,
            "delegatedManagedIdentityResourceId": null,
            "description": assignment.description,
        },
        "id": assignment.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "name": assignment.name,
    })
}

/// Assignments at the scope, above it (they work here, too) and, without `atScope()`, below it.
async fn list_assignments(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let scope = scope_of(&request, KIND)?.folded();
    let terms = request.filter().map(read_filter).transpose()?.unwrap_or_default();
    let is_at_scope = terms.iter().any(|(word, _)| word == "atscope");
    let mut reader = app.db.read().await?;
    let mut found = db::role_assignments::list(&mut reader, granted).await?;
    found.retain(|assignment| {
        let own = fold(&assignment.scope);
        is_within(&scope, &own) || !is_at_scope && is_within(&own, &scope)
    });
    for (word, text) in &terms {
        match word.as_str() {
            "atscope" => {}
            "principalid" | "assignedto" => found.retain(|a| a.principal_id.eq_ignore_ascii_case(text)),
            "roledefinitionid" => {
                let guid = text.rsplit('/').next().unwrap_or(text);
                found.retain(|a| a.role.eq_ignore_ascii_case(guid));
            }
            other => return Err(unknown_term(request.filter().unwrap_or_default(), other)),
        }
    }
    Ok(Answer::ok(envelope::list(found.iter().map(assignment_body).collect(), None)))
}

/// Folded id of the assignment that the path names. A GUID can be spelled in several ways; here it has one.
fn assignment_key(request: &Request) -> ApiResult<String> {
    let (scope, name) = (scope_of(request, KIND)?, request.param("name"));
    let name = Uuid::parse_str(name).map_or_else(|_| name.to_owned(), |guid| guid.to_string());
    Ok(scope.attach("Microsoft.Authorization", KIND, &name).folded())
}

async fn get_assignment(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let key = assignment_key(&request)?;
    let mut reader = app.db.read().await?;
    let found = db::role_assignments::get(&mut reader, request.granted()?, &key).await?;
    let found =
        found.ok_or_else(|| ApiError::of(ErrorCode::RoleAssignmentNotFound, &[("id", request.param("name"))]))?;
    Ok(Answer::ok(assignment_body(&found)))
}

/// What a client says about a new assignment.
struct Wanted {
    /// The GUID of the role, lower case, and the id in which it was named.
    role: String,
    definition: String,
    principal_id: String,
    principal_type: String,
    description: Option<String>,
}

fn read_assignment(content: &Value) -> ApiResult<Wanted> {
    let properties =
        envelope::member(content, "properties").ok_or_else(|| invalid_content("'properties' is missing"))?;
    let definition = envelope::text(properties, "roleDefinitionId")
        .ok_or_else(|| invalid_content("'properties.roleDefinitionId' is missing"))?;
    let guid = definition.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let guid = guid.to_ascii_lowercase();
    let principal_id = envelope::text(properties, "principalId")
        .ok_or_else(|| invalid_content("'properties.principalId' is missing"))?;
    let principal_id = Uuid::parse_str(principal_id.trim())
        .map_err(|_| invalid_content("'properties.principalId' must be a GUID"))?
        .to_string();
    let has_condition = envelope::text(properties, "condition").is_some_and(|condition| !condition.trim().is_empty());
    if has_condition {
        let values = [
            ("what", "A condition on a role assignment"),
            ("reason", "conditions are not evaluated here, so the assignment would allow more than it says"),
        ];
        return Err(ApiError::of(ErrorCode::NotSupported, &values));
    }
    Ok(Wanted {
        role: guid,
        definition: definition.to_owned(),
        principal_id,
        principal_type: envelope::text(properties, "principalType").unwrap_or("ServicePrincipal").to_owned(),
        description: envelope::text(properties, "description").map(str::to_owned),
    })
}

/// The role is there, and may be given at the scope. A custom role that can be given nowhere around is not told of.
async fn check_role(conn: &mut Conn, granted: &Granted, wanted: &Wanted, scope_key: &str) -> ApiResult<()> {
    if roles::by_guid(&wanted.role).is_some() {
        return Ok(());
    }
    let found = db::role_definitions::get(conn, granted, &wanted.role).await?;
    let found = found.filter(|definition| role_definitions::is_seen_from(definition, scope_key));
    let found = found.ok_or_else(|| role_definitions::not_found(&wanted.definition))?;
    if role_definitions::is_assignable_at(&found, scope_key) {
        return Ok(());
    }
    let values = [("scope", scope_key), ("id", wanted.definition.as_str())];
    Err(ApiError::of(ErrorCode::RoleAssignmentScopeNotAssignableToRoleDefinition, &values))
}

async fn put_assignment(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let name = request.param("name");
    let name = Uuid::parse_str(name)
        .map_err(|_| ApiError::of(ErrorCode::InvalidRoleAssignmentId, &[("id", name)]))?
        .to_string();
    let wanted = read_assignment(&request.json()?)?;
    let scope = scope_of(&request, KIND)?;
    let scope_key = scope.folded();
    let key = assignment_key(&request)?;
    let mut tx = app.db.write().await?;
    check_role(&mut tx, granted, &wanted, &scope_key).await?;
    if let Some(mut present) = db::role_assignments::get(&mut tx, granted, &key).await? {
        if present.principal_id != wanted.principal_id || !present.role.eq_ignore_ascii_case(&wanted.role) {
            return Err(ApiError::of(ErrorCode::RoleAssignmentUpdateNotPermitted, &[]));
        }
        db::role_assignments::update(&mut tx, granted, &key, wanted.description.as_deref(), request.now).await?;
        tx.commit().await?;
        present.description = wanted.description;
        present.updated_at = request.now;
        return Ok(Answer::ok(assignment_body(&present)));
    }
    let same = db::role_assignments::same(&mut tx, granted, &wanted.principal_id, &wanted.role, &scope_key).await?;
    if let Some(same) = same {
        return Err(ApiError::of(ErrorCode::RoleAssignmentExists, &[("id", &same.name)]));
    }
    if db::principals::by_object_id(&mut tx, &wanted.principal_id).await?.is_none() {
        let values = [("principal", wanted.principal_id.as_str()), ("tenant", app.tenant_id())];
        return Err(ApiError::of(ErrorCode::PrincipalNotFound, &values));
    }
    let assignment = RoleAssignment {
        id: scope.attach("Microsoft.Authorization", "roleAssignments", &name).to_string(),
        name,
        scope: scope.to_string(),
        role: wanted.role,
        principal_id: wanted.principal_id,
        principal_type: wanted.principal_type,
        description: wanted.description,
        created_by: request.caller.object_id.clone(),
        created_at: request.now,
        updated_at: request.now,
    };
    db::role_assignments::create(&mut tx, granted, &assignment).await?;
    tx.commit().await?;
    Ok(Answer::created(assignment_body(&assignment)))
}

async fn delete_assignment(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = assignment_key(&request)?;
    let mut tx = app.db.write().await?;
    let Some(present) = db::role_assignments::get(&mut tx, granted, &key).await? else {
        return Ok(Answer::no_content());
    };
    let is_root_owner = present.role == roles::OWNER && fold(&present.scope) == "/";
    if is_root_owner && db::role_assignments::count(&mut tx, granted, roles::OWNER, "/").await? <= 1 {
        return Err(ApiError::of(ErrorCode::LastOwnerCannotBeRemoved, &[("id", &present.name)]));
    }
    db::role_assignments::delete(&mut tx, granted, &key).await?;
    tx.commit().await?;
    Ok(Answer::ok(assignment_body(&present)))
}

#[cfg(test)]
mod tests {
    use super::read_filter;

    fn terms(filter: &str) -> Vec<(String, String)> {
        read_filter(filter).unwrap()
    }

    #[test]
    fn filters_of_command_lines_are_understood() {
        let pair = |word: &str, text: &str| (word.to_owned(), text.to_owned());
        assert_eq!(terms("atScope()"), [pair("atscope", "")]);
        assert_eq!(terms("assignedTo('x-1')"), [pair("assignedto", "x-1")]);
        assert_eq!(terms("principalId eq 'x' and atScope()"), [pair("principalid", "x"), pair("atscope", "")]);
        assert_eq!(terms("roleName eq 'Backup Reader'"), [pair("rolename", "Backup Reader")]);
        assert_eq!(
            terms("roleName eq 'O''Brien''s' and atScope()"),
            [pair("rolename", "O'Brien's"), pair("atscope", "")]
        );
        assert_eq!(terms("roleName eq ''"), [pair("rolename", "")]);
        assert_eq!(terms(""), []);
    }

    #[test]
    fn filters_that_make_no_sense_are_refused() {
        for filter in [
            "roleName ne 'x'",
            "roleName eq x",
            "roleName eq 'x",
            "roleName eq 'x''",
            "atScope(",
            "a eq 'b' or c eq 'd'",
            "'x'",
            "roleName",
        ] {
            assert!(read_filter(filter).is_err(), "{filter}");
        }
    }
}

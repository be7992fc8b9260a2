//! Who may do what: decided only by role assignments, before anybody looks whether the thing exists.
//!
//! [`authorize`] hands out a [`Granted`], and the functions that touch resources take one. Nothing here may consult a resource's row.

pub mod permission;
pub mod roles;

use blobkeep_arm::id::{fold, is_within};
use blobkeep_arm::{ApiError, ErrorCode};

use self::permission::Permission;
use self::roles::Role;
use crate::App;
use crate::db::{self, DbResult};
use crate::error::ApiResult;

/// The principal that a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal's object id: what role assignments name. Empty for nobody.
    pub object_id: String,
    /// The application (client) id.
    pub app_id: String,
}

impl Caller {
    /// The caller of a route that needs no token: has no rights.
    pub fn nobody() -> Self {
        Self { object_id: String::new(), app_id: String::new() }
    }
}

/// Proof that somebody may perform `action` on `scope`. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Granted {
    scope: String,
    action: String,
    principal_id: String,
}

impl Granted {
    /// The folded id of the scope that was asked for.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The action that was asked for.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Who it was granted to; empty for what the service does in its own name.
    pub fn principal_id(&self) -> &str {
        &self.principal_id
    }

    /// The resource `id` lies within the scope of this grant.
    pub fn covers(&self, id: &str) -> bool {
        is_within(&fold(id), &self.scope)
    }

    /// The right of the service itself over everything, for its own start and its background work. Never hand this to a request.
    pub(crate) fn service() -> Self {
        Self { scope: "/".to_owned(), action: "*".to_owned(), principal_id: String::new() }
    }
}

/// Decides whether `caller` may perform `action` on `scope` (an ARM id in any case; `/` is the tenant root).
///
/// # Errors
/// 403 `AuthorizationFailed`, whether or not the scope exists.
pub async fn authorize(app: &App, caller: &Caller, action: &str, scope: &str) -> ApiResult<Granted> {
    if may(app, &caller.object_id, action, scope).await? {
        return Ok(Granted { scope: fold(scope), action: action.to_owned(), principal_id: caller.object_id.clone() });
    }
    tracing::info!(principal = %caller.object_id, action, scope, "refused: no role assignment allows this");
    Err(ApiError::of(
        ErrorCode::AuthorizationFailed,
        &[("client", &caller.app_id), ("object", &caller.object_id), ("action", action), ("scope", scope)],
    ))
}

/// The principal (of a user, an application or a vault's identity) may perform `action` on `scope`.
///
/// # Errors
/// [`db::DbError`] when the assignments cannot be read; then nothing may be done.
pub async fn may(app: &App, principal_id: &str, action: &str, scope: &str) -> DbResult<bool> {
    Ok(Rights::of(app, principal_id).await?.allow(action, scope))
}

/// A role that somebody holds: one of ours, or the permissions of one that somebody made.
#[derive(Debug, Clone)]
enum Held {
    BuiltIn(&'static Role),
    Custom(Vec<Permission>),
}

impl Held {
    fn allows(&self, action: &str) -> bool {
        match self {
            Self::BuiltIn(role) => role.allows(action),
            Self::Custom(permissions) => permissions.iter().any(|permission| permission.allows(action)),
        }
    }
}

/// All role assignments of one principal, for questions about many scopes: what a list may show, what a role lacks.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// Folded scope and what is held there.
    assignments: Vec<(String, Held)>,
}

impl Rights {
    /// Reads the assignments of a principal, and what the roles in them allow now.
    ///
    /// # Errors
    /// [`db::DbError`] when they cannot be read.
    pub async fn of(app: &App, principal_id: &str) -> DbResult<Self> {
        if principal_id.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = app.db.read().await?;
        let given = db::role_assignments::of_principal(&mut reader, principal_id).await?;
        // A role that is neither built in nor defined allows nothing.
        let assignments = given.into_iter().filter_map(|given| {
            let held = match roles::by_guid(&given.role) {
                Some(role) => Held::BuiltIn(role),
                None => Held::Custom(given.permissions?),
            };
            Some((given.scope_key, held))
        });
        Ok(Self { assignments: assignments.collect() })
    }

    /// Where `action` is allowed: for lists, which ask that for each of their rows.
    pub fn to(&self, action: &str) -> Allowed<'_> {
        let allowing = self.assignments.iter().filter(|(_, held)| held.allows(action));
        Allowed { scopes: allowing.map(|(at, _)| at.as_str()).collect() }
    }

    /// Some assignment at `scope` or above it allows `action`. Roles add up; a `notActions` entry takes away only within its own role.
    pub fn allow(&self, action: &str, scope: &str) -> bool {
        let scope = fold(scope);
        self.assignments.iter().any(|(at, held)| is_within(&scope, at) && held.allows(action))
    }

    /// Some assignment at, above or *below* `scope` allows `action`: what decides whether a subscription or group is shown at all.
    pub fn allow_somewhere_in(&self, action: &str, scope: &str) -> bool {
        let scope = fold(scope);
        let touches = |at: &str| is_within(&scope, at) || is_within(at, &scope);
        self.assignments.iter().any(|(at, held)| touches(at) && held.allows(action))
    }
}

/// Where one action is allowed to a principal.
#[derive(Debug)]
pub struct Allowed<'r> {
    /// Folded.
    scopes: Vec<&'r str>,
}

impl Allowed<'_> {
    /// The action is allowed on the resource of that folded id, like [`Rights::allow`].
    pub fn on(&self, key: &str) -> bool {
        self.scopes.iter().any(|at| is_within(key, at))
    }

    /// The action is allowed at, above or below that folded id, like [`Rights::allow_somewhere_in`].
    pub fn somewhere_in(&self, key: &str) -> bool {
        self.scopes.iter().any(|at| is_within(key, at) || is_within(at, key))
    }
}

#[cfg(test)]
mod tests {
    use super::permission::Permission;
    use super::{Held, Rights, roles};

    #[test]
    fn where_an_action_is_allowed_is_what_asking_for_each_scope_says() {
        let built_in = |name: &str| Held::BuiltIn(roles::BUILT_IN.iter().find(|role| role.name == name).unwrap());
        let custom = Permission { actions: vec!["*/write".to_owned()], ..Permission::default() };
        let rights = Rights {
            assignments: vec![
                ("/subscriptions/s".to_owned(), built_in("Reader")),
                ("/subscriptions/s/resourcegroups/g".to_owned(), Held::Custom(vec![custom])),
                ("/subscriptions/t/resourcegroups/h".to_owned(), built_in("Owner")),
            ],
        };
        let mut allowed = 0;
        for action in ["a/b/read", "A/b/WRITE", "a/b/delete"] {
            for scope in [
                "/",
                "/subscriptions/S",
                "/subscriptions/s/resourceGroups/G/x",
                "/subscriptions/t",
                "/subscriptions/tt",
            ] {
                let (key, to) = (super::fold(scope), rights.to(action));
                assert_eq!(to.on(&key), rights.allow(action, scope), "{action} on {scope}");
                assert_eq!(to.somewhere_in(&key), rights.allow_somewhere_in(action, scope), "{action} in {scope}");
                allowed += usize::from(to.on(&key));
            }
        }
        assert_eq!(allowed, 3);
    }
}

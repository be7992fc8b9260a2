//! Routes: which method and path belong to which handler, and what the caller must be allowed to do.
//!
//! Patterns are matched without case. `{name}` stands for exactly one segment, `{*scope}` at the front for any number of them
//! (also none). The table decides nothing else: no handler may look at the method or path again to find out what it is asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use blobkeep_arm::ParsedPath;
use http::Method;

use super::{Answer, Request};
use crate::App;
use crate::error::ApiResult;

/// What a handler returns.
pub type HandlerFuture = Pin<Box<dyn Future<Output = ApiResult<Answer>> + Send>>;
/// A handler; in tables: `|app, request| Box::pin(get(app, request))`.
pub type Handler = fn(Arc<App>, Request) -> HandlerFuture;

/// What a caller of a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No token, and any or no api-version: token service and discovery.
    Public,
    /// A token, but no role and no api-version: directory look-alikes.
    Unversioned,
    /// A token but no role: the handler shows only what the caller may read ([`crate::auth::Rights`]) or authorizes itself.
    SignedIn,
    /// A role that allows this action on the path's own id (for a collection or an action: the id in front of it).
    Action(&'static str),
}

/// One operation.
pub struct Route {
    /// The operation's name, e.g. `BackupVaults_Get`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path.
    pub pattern: &'static str,
    /// What the caller needs.
    pub access: Access,
    /// Who answers.
    pub handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.operation, self.method, self.pattern)
    }
}

/// At the front of a pattern: any number of segments.
const SCOPE: &str = "{*scope}";

/// What the values of a pattern's placeholders are.
pub type Params = Vec<(&'static str, String)>;

impl Route {
    /// The placeholders' values if the path fits the pattern.
    pub fn match_path(&self, path: &ParsedPath) -> Option<Params> {
        let mut parts = self.parts();
        let has_scope = parts.clone().next() == Some(SCOPE);
        if has_scope {
            parts.next();
        }
        let (free, segments) = path.segments.split_at(path.segments.len().checked_sub(parts.clone().count())?);
        // Each request is held against every route, and nearly all of them end here.
        let fits = |(part, segment): (&'static str, &String)| {
            placeholder(part).is_some() || part.eq_ignore_ascii_case(segment)
        };
        if !(has_scope || free.is_empty()) || !parts.clone().zip(segments).all(fits) {
            return None;
        }
        let mut params = Params::new();
        if has_scope {
            params.push(("scope", format!("/{}", free.join("/"))));
        }
        params.extend(parts.zip(segments).filter_map(|(part, value)| Some((placeholder(part)?, value.clone()))));
        Some(params)
    }

    fn parts(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.pattern.split('/').filter(|part| !part.is_empty())
    }

    /// How exact the pattern is: literal segments count; of two patterns that fit, the more exact one is meant.
    pub fn exactness(&self) -> usize {
        self.parts().map(|part| if part.starts_with('{') { usize::from(part != SCOPE) } else { 100 }).sum()
    }
}

/// The name in a segment of a pattern that stands for any one.
fn placeholder(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// What the table says about a method and path.
#[derive(Debug)]
pub enum Found {
    /// This route, with the values of its placeholders.
    Route(&'static Route, Params),
    /// The path is known with these other methods.
    OtherMethods(Vec<Method>),
    /// No pattern fits the path.
    Nothing,
}

/// Looks up a method and path.
pub fn find(routes: &[&'static Route], method: &Method, path: &ParsedPath) -> Found {
    let fitting: Vec<(&'static Route, Params)> =
        routes.iter().filter_map(|route| route.match_path(path).map(|params| (*route, params))).collect();
    let Some(most_exact) = fitting.iter().map(|(route, _)| route.exactness()).max() else { return Found::Nothing };
    let mut others = Vec::new();
    for (route, params) in fitting {
        if route.exactness() != most_exact {
            continue;
        }
        if route.method == *method {
            return Found::Route(route, params);
        }
        others.push(route.method.clone());
    }
    Found::OtherMethods(others)
}

#[cfg(test)]
mod tests {
    use blobkeep_arm::ParsedPath;
    use http::Method;

    use super::{Found, find};
    use crate::api::routes;

    fn operation(method: Method, path: &str) -> String {
        let path = ParsedPath::parse(path).unwrap();
        match find(&routes(), &method, &path) {
            Found::Route(route, params) => {
                let values: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", route.operation, values.join(" "))
            }
            Found::OtherMethods(methods) => format!("{methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_find_their_routes_in_any_case() {
        let account = "/Subscriptions/s/resourcegroups/g/PROVIDERS/microsoft.storage/storageaccounts/abc";
        assert_eq!(operation(Method::GET, account), "StorageAccounts_GetProperties subscription=s group=g account=abc");
        assert_eq!(
            operation(Method::GET, "/subscriptions/s/providers/Microsoft.Storage"),
            "Providers_Get subscription=s namespace=Microsoft.Storage"
        );
        assert_eq!(
            operation(Method::HEAD, "/subscriptions/s/resourcegroups/g"),
            "ResourceGroups_CheckExistence subscription=s group=g"
        );
    }

    #[test]
    fn a_free_scope_takes_any_number_of_segments() {
        let tail = "providers/Microsoft.Authorization/roleAssignments/n";
        assert_eq!(operation(Method::GET, &format!("/{tail}")), "RoleAssignments_Get scope=/ name=n");
        assert_eq!(
            operation(Method::GET, "/subscriptions/s/providers/Microsoft.DataProtection/backupInstances"),
            "BackupInstancesExtensionRouting_List scope=/subscriptions/s"
        );
        assert_eq!(
            operation(Method::GET, &format!("/subscriptions/s/{tail}")),
            "RoleAssignments_Get scope=/subscriptions/s name=n"
        );
        let account = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/abc";
        assert_eq!(
            operation(Method::PUT, &format!("{account}/{tail}")),
            format!("RoleAssignments_Create scope={account} name=n")
        );
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(operation(Method::DELETE, "/subscriptions/s"), "[GET]");
        assert_eq!(operation(Method::GET, "/nonsense/path/of/no/kind"), "nothing");
    }

    #[test]
    fn operations_are_named_once_and_paths_listed_once() {
        let all = routes();
        for route in &all {
            let same = all.iter().filter(|other| other.operation == route.operation).count();
            assert_eq!(same, 1, "operation {}", route.operation);
            let twins =
                all.iter().filter(|o| o.method == route.method && o.pattern.eq_ignore_ascii_case(route.pattern));
            assert_eq!(twins.count(), 1, "{route:?}");
        }
    }
}

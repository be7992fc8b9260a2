//! Resource ids and request paths: one parser for both.
//!
//! A path is decoded exactly once, here. Keywords, provider and type names, and resource names compare without case; they are
//! answered as they were created, with the keywords in their canonical spelling. This file must never look anything up: whether a
//! resource exists is not its business.

mod path;
mod word;

use std::fmt;
use std::hash::{Hash, Hasher};

pub use path::{ParsedPath, PathError};
use word::canonical_word;

/// A provider with the type/name pairs that follow it, e.g. `Microsoft.Storage/storageAccounts/a`.
#[derive(Debug, Clone)]
struct Provided {
    namespace: String,
    types: Vec<(String, String)>,
}

/// The id of anything that has one: the tenant root, a subscription, a resource group, or a resource in one of these or attached to
/// another resource (as role assignments are).
///
/// [`fmt::Display`] gives the canonical spelling of the keywords with names as they were given; equality, order and hash ignore case.
#[derive(Debug, Clone, Default)]
pub struct ResourceId {
    subscription: Option<String>,
    resource_group: Option<String>,
    chain: Vec<Provided>,
}

impl ResourceId {
    /// The tenant root, `/`.
    pub fn root() -> Self {
        Self::default()
    }

    /// `/subscriptions/{subscription}`.
    pub fn subscription_scope(subscription: impl Into<String>) -> Self {
        Self { subscription: Some(subscription.into()), ..Self::default() }
    }

    /// `/subscriptions/{subscription}/resourceGroups/{group}`.
    pub fn group_scope(subscription: impl Into<String>, group: impl Into<String>) -> Self {
        Self { subscription: Some(subscription.into()), resource_group: Some(group.into()), chain: Vec::new() }
    }

    /// Reads an id from a body or configuration: a trailing slash is allowed, anything after a complete id is not.
    ///
    /// # Errors
    /// [`PathError`] when it is not an id.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = ParsedPath::parse(text.trim())?;
        if !path.rest.is_empty() {
            return Err(PathError::NotAnId(text.to_owned()));
        }
        Ok(path.id)
    }

    /// The subscription's id, as given.
    pub fn subscription(&self) -> Option<&str> {
        self.subscription.as_deref()
    }

    /// The resource group's name, as given.
    pub fn resource_group(&self) -> Option<&str> {
        self.resource_group.as_deref()
    }

    /// The provider of the innermost resource, e.g. `Microsoft.DataProtection`.
    pub fn provider(&self) -> Option<&str> {
        self.chain.last().map(|p| p.namespace.as_str())
    }

    /// The type/name pairs of the innermost resource, outermost first.
    pub fn types(&self) -> &[(String, String)] {
        self.chain.last().map_or(&[], |p| p.types.as_slice())
    }

    /// The full type, e.g. `Microsoft.DataProtection/backupVaults/backupInstances`; `None` for scopes that are no resource.
    pub fn full_type(&self) -> Option<String> {
        let last = self.chain.last()?;
        let names: Vec<&str> = last.types.iter().map(|(kind, _)| kind.as_str()).collect();
        Some(format!("{}/{}", last.namespace, names.join("/")))
    }

    /// This id is a resource of exactly that full type, compared without case.
    pub fn is_type(&self, full_type: &str) -> bool {
        self.full_type().is_some_and(|own| own.eq_ignore_ascii_case(full_type))
    }

    /// The last name: of the resource, else of the group, else of the subscription; empty for the root.
    pub fn name(&self) -> &str {
        if let Some((_, name)) = self.types().last() {
            return name;
        }
        self.resource_group.as_deref().or(self.subscription.as_deref()).unwrap_or("")
    }

    /// The name that belongs to a type word within the innermost provider, compared without case.
    pub fn name_of(&self, kind: &str) -> Option<&str> {
        self.types().iter().find(|(k, _)| k.eq_ignore_ascii_case(kind)).map(|(_, name)| name.as_str())
    }

    /// This id with one more type/name pair of the same provider.
    #[must_use]
    pub fn child(&self, kind: &str, name: &str) -> Self {
        let mut id = self.clone();
        match id.chain.last_mut() {
            Some(last) => last.types.push((canonical_word(kind), name.to_owned())),
            None => {
                id.chain.push(Provided {
                    namespace: "Microsoft.Resources".to_owned(),
                    types: vec![(canonical_word(kind), name.to_owned())],
                });
            }
        }
        id
    }

    /// A resource of another provider attached to this scope: `{self}/providers/{namespace}/{kind}/{name}`.
    #[must_use]
    pub fn attach(&self, namespace: &str, kind: &str, name: &str) -> Self {
        let mut id = self.clone();
        id.chain.push(Provided {
            namespace: canonical_word(namespace),
            types: vec![(canonical_word(kind), name.to_owned())],
        });
        id
    }

    /// What this id hangs under: the outer resource, else the scope, else the subscription, else the root; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let mut id = self.clone();
        if let Some(last) = id.chain.last_mut() {
            last.types.pop();
            if last.types.is_empty() {
                id.chain.pop();
            }
            return Some(id);
        }
        if id.resource_group.take().is_some() {
            return Some(id);
        }
        id.subscription.take()?;
        Some(id)
    }

    /// What the innermost provider is attached to: the account of a role assignment, the group of a vault, …
    pub fn scope(&self) -> Self {
        let mut id = self.clone();
        id.chain.pop();
        id
    }

    /// This id and everything it lies in, innermost first, ending with the root.
    pub fn scopes(&self) -> Vec<Self> {
        let mut all = vec![self.clone()];
        let mut next = self.parent();
        while let Some(id) = next {
            next = id.parent();
            all.push(id);
        }
        all
    }

    /// The lower-case key by which rows are found; equal for equal ids.
    pub fn folded(&self) -> String {
        fold(&self.to_string())
    }

    /// `other` is this id or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        is_within(&other.folded(), &self.folded())
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subscription.is_none() && self.chain.is_empty() {
            return f.write_str("/");
        }
        if let Some(subscription) = &self.subscription {
            write!(f, "/subscriptions/{subscription}")?;
        }
        if let Some(group) = &self.resource_group {
            write!(f, "/resourceGroups/{group}")?;
        }
        for provided in &self.chain {
            write!(f, "/providers/{}", provided.namespace)?;
            for (kind, name) in &provided.types {
                write!(f, "/{kind}/{name}")?;
            }
        }
        Ok(())
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}

impl Eq for ResourceId {}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

/// Lower case, without a trailing slash: the form in which ids are keys. The root stays `/`.
pub fn fold(id: &str) -> String {
    let trimmed = id.trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_lowercase() }
}

/// Both are folded ids (see [`fold`]); `id` is `scope` or lies below it.
pub fn is_within(id: &str, scope: &str) -> bool {
    scope == "/" || id == scope || id.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
}

/// A location as it is compared and put into tracking URLs: lower case, no spaces (`West US` → `westus`).
pub fn fold_location(location: &str) -> String {
    location.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;

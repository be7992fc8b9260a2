//! What a role that somebody made allows.

use serde::{Deserialize, Serialize};

use super::roles::matches;

/// One entry of the `permissions` of a role that somebody made: what it allows, minus what it takes away again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// Patterns of allowed actions; `*` stands for any text.
    pub actions: Vec<String>,
    /// Patterns that are taken away from `actions`, within this entry only.
    pub not_actions: Vec<String>,
    /// Patterns of allowed data actions; nothing here asks for them.
    pub data_actions: Vec<String>,
    /// Patterns that are taken away from `data_actions`.
    pub not_data_actions: Vec<String>,
}

impl Permission {
    /// The entry allows `action`.
    pub fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| matches(pattern, action))
            && !self.not_actions.iter().any(|pattern| matches(pattern, action))
    }
}

#[cfg(test)]
mod tests {
    use super::Permission;

    #[test]
    fn an_entry_takes_away_from_itself_only() {
        let entry = |actions: &[&str], not_actions: &[&str]| Permission {
            actions: actions.iter().map(ToString::to_string).collect(),
            not_actions: not_actions.iter().map(ToString::to_string).collect(),
            ..Permission::default()
        };
        let most = entry(&["Microsoft.Storage/*"], &["*/delete"]);
        assert!(most.allows("microsoft.storage/storageAccounts/read"));
        assert!(!most.allows("Microsoft.Storage/storageAccounts/Delete"));
        assert!(entry(&["*/delete"], &[]).allows("Microsoft.Storage/storageAccounts/delete"));
        assert!(!Permission::default().allows("Microsoft.Storage/storageAccounts/read"));
    }
}

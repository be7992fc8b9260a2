//! Encryption of a vault under a key of its owner's (`encryptionSettings`): what a request may say, and which change it is.
//!
//! The key itself is never seen here. Whoever changes a vault asks [`VaultProperties::settle_encryption`] what is to be done, and says
//! `Enabled` only of a vault that the key really guards: until then the state is `Inconsistent`.

use serde::{Deserialize, Serialize};

use super::{Switch, VaultProperties};
use crate::error::{ApiError, ErrorCode};
use crate::word::{Invalid, words};

const SETTINGS: &str = "properties.securitySettings.encryptionSettings";
const KEY_URI: &str = "properties.securitySettings.encryptionSettings.keyVaultProperties.keyUri";
/// The longest name of a key (the key vault's limit).
const LONGEST_KEY_NAME: usize = 127;

words! {
    /// Whether a key of its owner's guards a vault.
    EncryptionState {
        /// None does; the service's own key does.
        Disabled,
        /// The key that is named does, and no other.
        Enabled,
        /// The key that is named was to, and that has not come to its end: ask for it again.
        Inconsistent,
    }
}

words! {
    /// By which identity the key would be read in a key vault.
    KeyIdentityType {
        /// The vault's own.
        SystemAssigned,
        /// One that is named.
        UserAssigned,
    }
}

/// Encryption under a key of the owner's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EncryptionSettings {
    /// Whether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<EncryptionState>,
    /// Which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_vault_properties: Option<KeyVaultProperties>,
    /// Who would read the key. Kept and answered: here the configuration says where a key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_identity: Option<KeyIdentity>,
    /// Whether the place where the files lie encrypts them once more. Kept and answered, like its redundancy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure_encryption: Option<Switch>,
}

/// Which key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyVaultProperties {
    /// `https://{vault}/keys/{name}` or `https://{vault}/keys/{name}/{version}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_uri: Option<String>,
}

/// Who would read the key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyIdentity {
    /// Which kind of identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_type: Option<KeyIdentityType>,
    /// Its ARM id, if it is a user-assigned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
}

/// What is to be done about the key of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Nothing.
    None,
    /// The vault is new, and is to be made under the key of this URI.
    New(String),
    /// The vault is to be brought under the key of this URI. Its state says `Inconsistent` until that is done.
    Change(String),
}

/// Two spellings of one URI are one key: letters of either case, with or without a slash at the end.
pub fn fold_key_uri(uri: &str) -> String {
    uri.trim().trim_end_matches('/').to_ascii_lowercase()
}

/// The rule for URIs of keys.
///
/// # Errors
/// The rule, in words.
pub fn check_key_uri(uri: &str) -> Result<(), &'static str> {
    const RULE: &str = "it must be https://{host}/keys/{name} or https://{host}/keys/{name}/{version}";
    let folded = fold_key_uri(uri);
    let mut parts = folded.strip_prefix("https://").ok_or(RULE)?.split('/');
    let host = parts.next().unwrap_or_default();
    let is_host =
        !host.is_empty() && host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-:".contains(letter));
    let is_name = |part: &str| {
        (1..=LONGEST_KEY_NAME).contains(&part.len())
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    let names_key = parts.next() == Some("keys") && parts.next().is_some_and(is_name);
    let version_fits = parts.next().is_none_or(is_name);
    if is_host && names_key && version_fits && parts.next().is_none() { Ok(()) } else { Err(RULE) }
}

impl EncryptionSettings {
    fn state(&self) -> EncryptionState {
        self.state.unwrap_or(EncryptionState::Disabled)
    }

    fn key_uri(&self) -> Option<&str> {
        self.key_vault_properties.as_ref()?.key_uri.as_deref().map(str::trim).filter(|uri| !uri.is_empty())
    }

    fn has_infrastructure_encryption(&self) -> bool {
        self.infrastructure_encryption == Some(Switch::Enabled)
    }

    /// What can be said of a request alone, which may leave out what the vault has already.
    pub(super) fn check_request(&self) -> Result<(), Invalid> {
        if self.state == Some(EncryptionState::Inconsistent) {
            return Err(Invalid::new(format!("{SETTINGS}.state"), "The state is set to Enabled or Disabled."));
        }
        if let Some(uri) = self.key_uri() {
            check_key_uri(uri)
                .map_err(|rule| Invalid::new(KEY_URI, format!("The key URI '{uri}' cannot be used: {rule}.")))?;
        }
        let Some(identity) = &self.kek_identity else { return Ok(()) };
        let is_named = identity.identity_id.as_deref().is_some_and(|id| !id.trim().is_empty());
        let is_user_assigned = identity.identity_type == Some(KeyIdentityType::UserAssigned);
        if is_named == is_user_assigned {
            return Ok(());
        }
        Err(Invalid::new(
            format!("{SETTINGS}.kekIdentity.identityId"),
            "'identityId' names the identity of the type UserAssigned, and is given with that type only.",
        ))
    }
}

impl VaultProperties {
    /// What is said of encryption, if anything is.
    pub fn encryption(&self) -> Option<&EncryptionSettings> {
        self.security_settings.as_ref()?.encryption_settings.as_ref()
    }

    /// The state of encryption under a key of the owner's; `Disabled` where nothing is said.
    pub fn encryption_state(&self) -> EncryptionState {
        self.encryption().map_or(EncryptionState::Disabled, EncryptionSettings::state)
    }

    /// The key of the owner's that guards the vault, or is to, as it was given.
    pub fn key_uri(&self) -> Option<&str> {
        let settings = self.encryption().filter(|settings| settings.state() != EncryptionState::Disabled)?;
        settings.key_uri()
    }

    /// Both say the same of encryption; what is not said is `Disabled`.
    pub fn is_encrypted_like(&self, other: &Self) -> bool {
        let said = |properties: &Self| {
            let mut settings = properties.encryption().cloned().unwrap_or_default();
            settings.state.get_or_insert(EncryptionState::Disabled);
            settings.infrastructure_encryption.get_or_insert(Switch::Disabled);
            settings
        };
        said(self) == said(other)
    }

    /// The key that is named now guards the vault.
    pub fn set_guarded(&mut self) {
        self.set_encryption_state(EncryptionState::Enabled);
    }

    fn set_encryption_state(&mut self, state: EncryptionState) {
        let security = self.security_settings.as_mut();
        if let Some(settings) = security.and_then(|security| security.encryption_settings.as_mut()) {
            settings.state = Some(state);
        }
    }

    /// Checks these settings, which replace those of `before`, and says what they need. A key that is to be changed leaves the state
    /// `Inconsistent`. `vault` is the vault's id, for messages.
    ///
    /// # Errors
    /// 400 `UserErrorEncryptionSettingsChangeNotAllowed` for what cannot be taken back or is decided when a vault is made, and
    /// `UserErrorInvalidParameterInRequest` for settings that do not go together.
    pub fn settle_encryption(&mut self, before: Option<&Self>, vault: &str) -> Result<KeyChange, ApiError> {
        let Some(next) = self.encryption().cloned() else { return Ok(KeyChange::None) };
        let was = before.map(|before| before.encryption().cloned().unwrap_or_default());
        let refused = |reason: &str| {
            let values = [("vault", vault), ("reason", reason)];
            Err(ApiError::of(ErrorCode::UserErrorEncryptionSettingsChangeNotAllowed, &values))
        };
        if let Some(was) = &was {
            if was.has_infrastructure_encryption() != next.has_infrastructure_encryption() {
                return refused("infrastructure encryption is decided when a vault is made");
            }
            if was.state() != EncryptionState::Disabled && next.state() == EncryptionState::Disabled {
                return refused("encryption under a key of your own is never switched off again");
            }
        }
        if next.state() == EncryptionState::Disabled {
            return next.check_disabled();
        }
        let Some(uri) = next.key_uri().map(str::to_owned) else {
            return Err(Invalid::new(KEY_URI, "Encryption with the state Enabled names a key by its URI.").into());
        };
        let is_same_key =
            |was: &EncryptionSettings| was.key_uri().is_some_and(|old| fold_key_uri(old) == fold_key_uri(&uri));
        match was {
            None => Ok(KeyChange::New(uri)),
            // Nothing was asked for, or nothing else than what is.
            Some(was) if was.state() == next.state() && is_same_key(&was) => Ok(KeyChange::None),
            Some(_) => {
                self.set_encryption_state(EncryptionState::Inconsistent);
                Ok(KeyChange::Change(uri))
            }
        }
    }
}

impl EncryptionSettings {
    fn check_disabled(&self) -> Result<KeyChange, ApiError> {
        if self.key_uri().is_some() || self.kek_identity.is_some() || self.has_infrastructure_encryption() {
            let reason = "A key, its identity and infrastructure encryption go with the state Enabled.";
            return Err(Invalid::new(format!("{SETTINGS}.state"), reason).into());
        }
        Ok(KeyChange::None)
    }
}

#[cfg(test)]
mod tests;

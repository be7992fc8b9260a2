//! Backup vaults: their settings, the defaults of these, and which changes of them are allowed.
//!
//! The settings of a vault decide what may be removed from it, so a change that would weaken what was promised for good
//! (soft delete AlwaysOn, immutability Locked) is refused here, before anybody asks the database.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::word::{DataStore, Invalid, read, words};

mod encryption;
mod promises;
mod view;

pub use encryption::{EncryptionSettings, EncryptionState, KeyChange, check_key_uri, fold_key_uri};
pub use view::VaultView;

/// Members that a vault may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "location",
    "tags",
    "identity",
    "type",
    "userAssignedIdentities",
    "properties",
    "monitoringSettings",
    "azureMonitorAlertSettings",
    "alertsForAllJobFailures",
    "costManagementSettings",
    "granularityLevel",
    "securitySettings",
    "softDeleteSettings",
    "state",
    "retentionDurationInDays",
    "immutabilitySettings",
    "encryptionSettings",
    "infrastructureEncryption",
    "keyVaultProperties",
    "keyUri",
    "kekIdentity",
    "identityType",
    "identityId",
    "storageSettings",
    "datastoreType",
    "featureSettings",
    "crossSubscriptionRestoreSettings",
    "crossRegionRestoreSettings",
    "replicatedRegions",
    "resourceGuardOperationRequests",
    "name",
];

/// The shortest soft-delete retention, in days.
pub const SHORTEST_SOFT_DELETE_DAYS: u32 = 14;
/// The longest soft-delete retention, in days.
pub const LONGEST_SOFT_DELETE_DAYS: u32 = 180;
/// How many days of soft delete cost nothing, the last ones: `billingEndDate` lies this long before the data goes, but not before the deletion.
pub const FREE_SOFT_DELETE_DAYS: u32 = 14;

words! {
    /// Whether deleted backup data is kept for a while.
    SoftDeleteState {
        /// It is not (before api-version 2025-09-01; later versions keep it nevertheless).
        Off,
        /// It is.
        On,
        /// It is, and that cannot be changed any more.
        AlwaysOn,
    }
}

words! {
    /// Whether backup data may be removed before it expires.
    ImmutabilityState {
        /// It may.
        Disabled,
        /// It may not; the setting can be taken back.
        Unlocked,
        /// It may not, for good.
        Locked,
    }
}

words! {
    /// How the vault's data is replicated. Kept and answered; where a store's files really lie is the store's business.
    StorageRedundancy {
        /// In one place.
        LocallyRedundant,
        /// In several zones.
        ZoneRedundant,
        /// In two regions.
        GeoRedundant,
    }
}

words! {
    /// Whether restores may go to another subscription.
    CrossSubscriptionRestore {
        /// Not now.
        Disabled,
        /// Never again.
        PermanentlyDisabled,
        /// They may.
        Enabled,
    }
}

words! {
    /// A switch.
    Switch {
        /// On.
        Enabled,
        /// Off.
        Disabled,
    }
}

words! {
    /// Which identity a vault has.
    IdentityType {
        /// None: it can back up nothing.
        None,
        /// One of its own.
        SystemAssigned,
    }
}

/// The body of a vault's PUT or PATCH.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VaultRequest {
    /// Required in a PUT.
    pub location: Option<String>,
    /// The user's own labels, if sent.
    pub tags: Option<Map<String, Value>>,
    /// Which identity the vault shall have, if sent.
    pub identity: Option<IdentityType>,
    /// Settings, if sent.
    pub properties: VaultProperties,
}

/// The settings of a vault. Every part may be absent in a request; [`VaultProperties::with_defaults`] fills them in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VaultProperties {
    /// Alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring_settings: Option<MonitoringSettings>,
    /// What may be removed, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_settings: Option<SecuritySettings>,
    /// Redundancy per store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub storage_settings: Vec<StorageSetting>,
    /// Where restores may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_settings: Option<FeatureSettings>,
    /// How costs are reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_management_settings: Option<CostManagementSettings>,
    /// Regions to which a geo-redundant vault is copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicated_regions: Vec<String>,
}

/// Alerts of a vault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitoringSettings {
    /// The only kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_monitor_alert_settings: Option<AlertSettings>,
}

/// Which alerts are raised.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertSettings {
    /// For each job that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts_for_all_job_failures: Option<Switch>,
}

/// What may be removed, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecuritySettings {
    /// Keeping deleted data for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_delete_settings: Option<SoftDeleteSettings>,
    /// Keeping data until it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutability_settings: Option<ImmutabilitySettings>,
    /// Encryption under a key of the owner's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_settings: Option<EncryptionSettings>,
}

/// Keeping deleted data for a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SoftDeleteSettings {
    /// Whether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SoftDeleteState>,
    /// How many days: 14 to 180.
    #[serde(deserialize_with = "whole_days", skip_serializing_if = "Option::is_none")]
    pub retention_duration_in_days: Option<u32>,
}

/// The specification makes it a floating-point number of days.
fn whole_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let days = f64::deserialize(deserializer)?;
    if days.fract() != 0.0 || !(0.0..=1_000_000.0).contains(&days) {
        return Err(serde::de::Error::custom(format!(
            "`retentionDurationInDays` {days} is not a whole number of days"
        )));
    }
    // In range by the check above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Some(days as u32))
}

/// Keeping data until it expires.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImmutabilitySettings {
    /// Whether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ImmutabilityState>,
}

/// Redundancy of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageSetting {
    /// Which store.
    #[serde(rename = "datastoreType")]
    pub datastore_type: DataStore,
    /// How redundant.
    #[serde(rename = "type")]
    pub redundancy: StorageRedundancy,
}

/// Where restores may go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeatureSettings {
    /// To other subscriptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_subscription_restore_settings: Option<CrossSubscriptionRestoreSettings>,
    /// To other regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_region_restore_settings: Option<CrossRegionRestoreSettings>,
}

/// Restores to other subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrossSubscriptionRestoreSettings {
    /// Whether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<CrossSubscriptionRestore>,
}

/// Restores to other regions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrossRegionRestoreSettings {
    /// Whether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Switch>,
}

/// How costs are reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CostManagementSettings {
    /// Per vault or per protected item; kept as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity_level: Option<String>,
}

impl VaultRequest {
    /// Reads the body of a PUT or PATCH and checks what can be checked without the vault.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Body {
            location: Option<String>,
            tags: Option<Map<String, Value>>,
            identity: Option<Identity>,
            properties: Option<VaultProperties>,
        }
        #[derive(Deserialize)]
        struct Identity {
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        if !body.is_object() {
            return Err(Invalid::new("", "The request body must be a JSON object that describes a backup vault."));
        }
        let body: Body = read(body, MEMBERS)?;
        let tags = body.tags.map(check_tags).transpose()?;
        let identity =
            body.identity.and_then(|identity| identity.kind).map(|kind| parse_identity(&kind)).transpose()?;
        let properties = body.properties.unwrap_or_default();
        properties.validate()?;
        if let Some(encryption) = properties.encryption() {
            encryption.check_request()?;
        }
        Ok(Self { location: body.location, tags, identity, properties })
    }
}

fn parse_identity(kind: &str) -> Result<IdentityType, Invalid> {
    IdentityType::parse(kind).ok_or_else(|| {
        Invalid::new(
            "identity.type",
            format!("The identity type '{kind}' is not supported; backup vaults have 'SystemAssigned' or 'None'."),
        )
    })
}

/// Tags are strings, at most fifty of them (the resource manager's limits).
pub(crate) fn check_tags(tags: Map<String, Value>) -> Result<Map<String, Value>, Invalid> {
    if tags.len() > 50 {
        return Err(Invalid::new("tags", format!("A resource has at most 50 tags; {} were sent.", tags.len())));
    }
    for (name, value) in &tags {
        let Some(text) = value.as_str() else {
            return Err(Invalid::new(
                format!("tags.{name}"),
                format!("The value of the tag '{name}' must be a string."),
            ));
        };
        if name.chars().count() > 512 || text.chars().count() > 256 {
            return Err(Invalid::new(
                format!("tags.{name}"),
                "A tag's name has at most 512 characters and its value at most 256.",
            ));
        }
    }
    Ok(tags)
}

impl VaultProperties {
    fn validate(&self) -> Result<(), Invalid> {
        if let Some(days) = self.soft_delete().and_then(|settings| settings.retention_duration_in_days) {
            let is_off = self.soft_delete_state() == Some(SoftDeleteState::Off);
            if !is_off && !(SHORTEST_SOFT_DELETE_DAYS..=LONGEST_SOFT_DELETE_DAYS).contains(&days) {
                return Err(Invalid::new(
                    "properties.securitySettings.softDeleteSettings.retentionDurationInDays",
                    format!(
                        "Soft delete keeps data for {days} days; it must be {SHORTEST_SOFT_DELETE_DAYS} to \
                         {LONGEST_SOFT_DELETE_DAYS}."
                    ),
                ));
            }
        }
        for (position, setting) in self.storage_settings.iter().enumerate() {
            let store = setting.datastore_type;
            let target = format!("properties.storageSettings[{position}].datastoreType");
            if store == DataStore::SnapshotStore {
                return Err(Invalid::new(
                    target,
                    "A storage setting is for VaultStore, OperationalStore or ArchiveStore.",
                ));
            }
            if self.storage_settings.iter().filter(|other| other.datastore_type == store).count() > 1 {
                return Err(Invalid::new(target, format!("{store} has two storage settings; give it one.")));
            }
        }
        Ok(())
    }

    fn soft_delete(&self) -> Option<&SoftDeleteSettings> {
        self.security_settings.as_ref()?.soft_delete_settings.as_ref()
    }

    /// The soft-delete state, if it is said.
    pub fn soft_delete_state(&self) -> Option<SoftDeleteState> {
        self.soft_delete()?.state
    }

    /// How many days deleted data is kept; 14 where nothing is said.
    pub fn soft_delete_days(&self) -> u32 {
        self.soft_delete().and_then(|settings| settings.retention_duration_in_days).unwrap_or(SHORTEST_SOFT_DELETE_DAYS)
    }

    /// The immutability state; `Disabled` where nothing is said.
    pub fn immutability(&self) -> ImmutabilityState {
        let security = self.security_settings.as_ref();
        let settings = security.and_then(|security| security.immutability_settings.as_ref());
        settings.and_then(|settings| settings.state).unwrap_or(ImmutabilityState::Disabled)
    }

    /// Whether restores may go to another subscription; they may where nothing is said.
    pub fn cross_subscription_restore(&self) -> CrossSubscriptionRestore {
        let features = self.feature_settings.as_ref();
        let settings = features.and_then(|features| features.cross_subscription_restore_settings.as_ref());
        settings.and_then(|settings| settings.state).unwrap_or(CrossSubscriptionRestore::Enabled)
    }

    /// Whether cross-region restore is switched on.
    pub fn allows_cross_region_restore(&self) -> bool {
        self.cross_region_restore() == Some(Switch::Enabled)
    }

    fn cross_region_restore(&self) -> Option<Switch> {
        self.feature_settings.as_ref()?.cross_region_restore_settings.as_ref()?.state
    }

    /// Fills in what a new vault has where its request says nothing: soft delete On for 14 days, locally redundant.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        let security = self.security_settings.get_or_insert_default();
        let soft_delete = security.soft_delete_settings.get_or_insert_default();
        soft_delete.state.get_or_insert(SoftDeleteState::On);
        soft_delete.retention_duration_in_days.get_or_insert(SHORTEST_SOFT_DELETE_DAYS);
        if self.storage_settings.is_empty() {
            self.storage_settings.push(StorageSetting {
                datastore_type: DataStore::VaultStore,
                redundancy: StorageRedundancy::LocallyRedundant,
            });
        }
        self
    }

    /// These settings with those of a PATCH laid over them: parts that it does not name stay.
    ///
    /// # Errors
    /// [`Invalid`] when the sum is not allowed.
    pub fn merged(&self, patch: &Self) -> Result<Self, Invalid> {
        let base = serde_json::to_value(self).unwrap_or_default();
        let over = serde_json::to_value(patch).unwrap_or_default();
        let mut merged: Self = read(&laid_over(base, over), MEMBERS)?;
        // An identity is one whole: no id of another one stays behind.
        let identity = patch.encryption().and_then(|encryption| encryption.kek_identity.as_ref());
        let security = merged.security_settings.as_mut();
        let encryption = security.and_then(|security| security.encryption_settings.as_mut());
        if let (Some(identity), Some(encryption)) = (identity, encryption) {
            encryption.kek_identity = Some(identity.clone());
        }
        merged.validate()?;
        Ok(merged)
    }
}

/// `over` laid over `base`, object by object; arrays and plain values replace.
fn laid_over(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (name, value) in over {
                let merged = match base.shift_remove(&name) {
                    Some(below) => laid_over(below, value),
                    None => value,
                };
                base.insert(name, merged);
            }
            Value::Object(base)
        }
        (_, over) => over,
    }
}

/// The rule for names of vaults: 2 to 50 characters, a letter first, letters, digits and hyphens, no hyphen last
/// (specification).
///
/// # Errors
/// The rule, in words.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_good = (2..=50).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    if is_good {
        return Ok(());
    }
    Err("it must have 2 to 50 letters, digits and hyphens, begin with a letter and end with a letter or digit")
}

#[cfg(test)]
mod tests;

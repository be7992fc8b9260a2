//! What was promised for good cannot be taken back.

use super::{CrossSubscriptionRestore, ImmutabilityState, SoftDeleteState, Switch, VaultProperties};
use crate::error::{ApiError, ErrorCode};

impl VaultProperties {
    /// Refuses a change that would take back what was promised for good. `vault` is the vault's id, for the message.
    ///
    /// # Errors
    /// The product's own codes, as recorded.
    pub fn check_change(&self, next: &Self, vault: &str) -> Result<(), ApiError> {
        let was_always_on = self.soft_delete_state() == Some(SoftDeleteState::AlwaysOn);
        if was_always_on && next.soft_delete_state() != Some(SoftDeleteState::AlwaysOn) {
            return Err(ApiError::of(ErrorCode::UserErrorDisableSoftDeleteNotAllowed, &[("vault", vault)]));
        }
        if was_always_on && next.soft_delete_days() < self.soft_delete_days() {
            return Err(ApiError::of(ErrorCode::UserErrorDisableSoftDeleteNotAllowed, &[("vault", vault)]));
        }
        let (from, to) = (self.immutability(), next.immutability());
        if from == ImmutabilityState::Locked && to != from {
            return Err(ApiError::of(
                ErrorCode::UserErrorUnsupportedVaultImmutabilityStateChange,
                &[("vault", vault), ("from", from.as_str()), ("to", to.as_str())],
            ));
        }
        let was_enabled = self.cross_region_restore() == Some(Switch::Enabled);
        if was_enabled && next.cross_region_restore() != Some(Switch::Enabled) {
            return Err(ApiError::of(ErrorCode::UserErrorCrossRegionRestoreStateChangeNotAllowed, &[("vault", vault)]));
        }
        let permanent = CrossSubscriptionRestore::PermanentlyDisabled;
        if self.cross_subscription_restore() == permanent && next.cross_subscription_restore() != permanent {
            return Err(ApiError::of(
                ErrorCode::UserErrorInvalidParameterInRequest,
                &[
                    ("parameter", "featureSettings.crossSubscriptionRestoreSettings.state"),
                    ("reason", "PermanentlyDisabled cannot be changed any more"),
                ],
            ));
        }
        Ok(())
    }
}

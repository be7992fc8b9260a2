//! What changes in a vault: chains of records ([`Chain`]), one for each instance and one for the vault itself.
//!
//! The record that adds a point is the commit of its backup: before it nothing is visible, after it everything is. The truth
//! about what exists, until when, and what may not be removed lies here, beside the data, and in no database.

mod chain;
mod instance;
mod vault;

pub use chain::{At, Chain, Chained};
pub use instance::{Change, Hold, LivePoint, Removal, State, expire, expire_others, remove_point};
pub use vault::{Condemned, Immutability, VaultChange, VaultState};

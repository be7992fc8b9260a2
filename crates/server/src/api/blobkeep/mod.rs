//! Actions of our own on backup resources and accounts: `{id}/providers/Blobkeep.DataProtection/{action}`. Azure has nothing like them.
//!
//! Each needs the right that Azure's own actions need for the same thing, on the resource in front of it.

pub mod accounts;
pub mod browse;
pub mod diff;
pub mod jobs;
pub mod policies;
mod reading;
pub mod search;
pub mod verify;

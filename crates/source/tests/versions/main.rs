//! Accounts that keep versions of their blobs and write a change feed: what changed, what there is, and how a version becomes the current blob
//! again.

// Helpers of tests, where a failure should stop the test at once.
#![allow(clippy::unwrap_used)]

mod as_azure;
mod changes;
mod copies;
mod endpoint;
mod model;
mod pending;
mod setup;

//! The emulator over real HTTP, told as the Blob service's reference tells it.

// A helper of a test may fail the test, and what it offers to the other files is public to them alone.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod access;
mod client;
mod faults;
mod feed;
mod kinds;
mod listing;
mod reading;
mod synthetic;
mod versions;
mod writing;

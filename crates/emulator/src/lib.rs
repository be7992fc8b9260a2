//! A small Azure Blob server that lives inside a process: the sample account of a first try, the double in tests, and a
//! server of its own. State is in memory only and is gone when the server stops. It must never claim what it does not do:
//! soft delete and immutability are answered as by an account that has them switched off, versions and the change feed are
//! where [`EmulatorOptions`] ask for them, and an operation it does not know is 501.
//!
//! The rules come from the public reference of the Blob service's REST API. Addresses have the account in the path,
//! `http://127.0.0.1:PORT/{account}/{container}/{blob}`. One known difference: names of metadata arrive in lower case,
//! because HTTP header names have no case here.
//!
//! Reading order: [`Emulator`] → `server` (connections) → `ops` (one file per group of operations) → `model` (what is held)
//! → `feed` (what is told of its changes).

mod answer;
mod auth;
mod checksum;
mod clock;
mod conditions;
mod error;
mod faults;
mod feed;
mod model;
mod operation;
mod ops;
mod options;
mod record;
mod request;
mod seed;
mod server;
mod xml;

pub use checksum::{crc64_base64, md5_base64};
pub use clock::Clock;
pub use faults::{FaultAction, FaultRule, Faults, Hold};
pub use model::synthetic::SyntheticSpec;
pub use options::{Account, DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY, EmulatorOptions};
pub use record::RecordedRequest;
pub use seed::{SeedBlob, SeedError, SeedKind, StoredBlob};
pub use server::Emulator;

//! The words of the API: ids, resource shapes, errors, schedules.
//!
//! This crate is pure: it reads no file, opens no connection, knows no clock and no database. What it holds can be
//! tested with a table. It must never depend on the engine; only the service's jobs speak both languages.
//!
//! Read in this order: `id` (the path of every request), `error` (everything that can be answered instead of success),
//! `envelope` (the shapes that all answers share), then one file per resource.

pub mod blob_service;
pub mod cross_region;
pub mod deleted_vault;
pub mod envelope;
pub mod error;
pub mod feature;
pub mod guard;
pub mod id;
pub mod instance;
pub mod interval;
pub mod job;
pub mod operation;
pub mod point;
pub mod policy;
pub mod rehydration;
pub mod restore;
pub mod schedule;
pub mod stamp;
pub mod sync;
pub mod time;
pub mod vault;
pub mod word;
mod zones;

pub use error::{ApiError, ErrorCode};
pub use id::{ParsedPath, PathError, ResourceId};

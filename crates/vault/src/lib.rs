//! The Blobkeep engine: what a vault is, and the way of blobs into it and out of it again.
//!
//! The engine knows no HTTP, no SQL and no Azure. It sees the world through three traits: a [`Source`] yields
//! blobs, a [`Target`] takes them back, a [`Store`] keeps the files of a vault. `docs/format.md` is the authority on the
//! bytes written here. `journal` keeps what changes between points. `diff` and `search` look into points, `names` says which names are meant, `caps` holds back.
//!
//! Read in this order: `item` (what is kept of a blob), `key` (the secrets of a vault), `chunk`, `compress` and `pack` (how
//! content is cut and sealed), `index` (where a chunk lies), `manifest` (the sorted list of one point), `point` and
//! `state` (what exists and until when), then `backup`, `restore`, `verify` and `rebuild`; last `work` (who works on a vault now) and
//! `prune` (what may go).

pub mod backup;
pub mod caps;
pub mod chunk;
mod compress;
pub mod diff;
pub mod error;
pub mod index;
pub mod item;
pub mod journal;
pub mod key;
pub mod manifest;
pub mod mark;
pub mod monitor;
pub mod names;
pub mod pack;
pub mod point;
pub mod prune;
pub mod read;
pub mod rebuild;
pub mod rekey;
pub mod restore;
pub mod seal;
pub mod search;
pub mod sort;
pub mod source;
pub mod spill;
pub mod state;
pub mod store;
pub mod target;
pub mod vault;
pub mod verify;
pub mod walk;
pub mod work;
pub mod write;

pub use error::{Error, ErrorKind, Result};
pub use item::{BlobEntry, BlobKind, ContainerEntry, Content, ContentHeaders, Item, Timestamp};
pub use key::MasterKey;
pub use monitor::{Clock, Monitor, Unwatched, WorkProgress};
pub use source::{ListPage, Source, SourceError, SourceErrorKind, TopLevel};
pub use store::{Put, Store, StoreError, StoreErrorKind, StoredFile};
pub use target::{BlobWriter, OnConflict, Target, Written};
pub use vault::Vault;

//! Where blobs come from and go back to: Azure Blob endpoints and folders, behind the traits `Source` and `Target` of the
//! engine.
//!
//! Read in this order: `location` (what an operator writes), `connection` (what the service holds), `filter` (which blobs
//! take part), then `local` and `azure`. What is kept of a blob is the engine's business; nothing here may decide it.

pub mod azure;
pub mod connection;
pub mod filter;
pub mod local;
pub mod location;

pub use azure::{AddressPolicy, AzureAccount, AzureOptions, Cidr, Credential, Endpoint, Secret};
pub use connection::Connection;
pub use filter::Filter;
pub use local::LocalFolder;
pub use location::{Location, open_source, open_target};

//! How the service reaches a storage account that was connected to it. Secrets are taken in, never given out.

use std::path::PathBuf;
use std::sync::Arc;

use blobkeep_vault::{Source, SourceError, SourceErrorKind, Target};

use crate::azure::{AddressPolicy, AzureAccount, AzureOptions, Secret};
use crate::local::LocalFolder;

/// Where the blobs of a storage account are.
#[derive(Debug, Clone)]
pub enum Connection {
    /// An Azure Blob endpoint.
    AzureBlob(Box<AzureOptions>),
    /// A folder whose sub-folders are the containers.
    LocalFolder {
        /// The folder; the caller has checked that it is one that may be used.
        path: PathBuf,
    },
}

impl Connection {
    /// An Azure Blob endpoint by its connection string.
    ///
    /// # Errors
    /// What is wrong with the connection string.
    pub fn by_connection_string(text: &str) -> Result<Self, SourceError> {
        AzureOptions::from_connection_string(text).map(|options| Self::AzureBlob(Box::new(options)))
    }

    /// An Azure Blob endpoint by its address and account key.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn by_key(url: &str, key: Secret) -> Result<Self, SourceError> {
        whole_account(AzureOptions::from_url(url, Some(key), None)?)
    }

    /// An Azure Blob endpoint by its address and a shared access signature.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn by_sas(url: &str, sas: Secret) -> Result<Self, SourceError> {
        whole_account(AzureOptions::from_url(url, None, Some(sas))?)
    }

    /// The same with another rule on addresses; without effect on folders.
    #[must_use]
    pub fn with_addresses(mut self, allowed: AddressPolicy) -> Self {
        if let Self::AzureBlob(options) = &mut self {
            options.allowed = allowed;
        }
        self
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] if the address is not allowed or a secret is malformed, otherwise what the file system
    /// says. Whether an endpoint answers shows at the first call.
    pub fn open_source(&self) -> Result<Arc<dyn Source>, SourceError> {
        Ok(match self {
            Self::AzureBlob(options) => Arc::new(AzureAccount::new((**options).clone())?),
            Self::LocalFolder { path } => Arc::new(LocalFolder::account(path)?),
        })
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// As [`Connection::open_source`].
    pub fn open_target(&self) -> Result<Arc<dyn Target>, SourceError> {
        Ok(match self {
            Self::AzureBlob(options) => Arc::new(AzureAccount::new((**options).clone())?),
            Self::LocalFolder { path } => Arc::new(LocalFolder::account(path)?),
        })
    }

    /// What this is, for messages: kind and address, never a secret.
    pub fn describe(&self) -> String {
        match self {
            Self::AzureBlob(options) => format!("Azure Blob account {}", options.endpoint),
            Self::LocalFolder { path } => format!("folder {}", path.display()),
        }
    }
}

fn whole_account(options: AzureOptions) -> Result<Connection, SourceError> {
    if let Some(container) = &options.container {
        return Err(SourceError::new(
            SourceErrorKind::Refused,
            format!("{}/{container} is the address of a container: give that of the account", options.endpoint),
        ));
    }
    Ok(Connection::AzureBlob(Box::new(options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_connected_as_a_whole_and_shows_no_secret() {
        let key = || Secret::new("c2VjcmV0");
        assert!(Connection::by_key("https://acc.blob.core.windows.net/photos", key()).is_err());
        let connection = Connection::by_key("https://acc.blob.core.windows.net/", key()).unwrap();
        assert_eq!(connection.describe(), "Azure Blob account https://acc.blob.core.windows.net");
        assert!(!format!("{connection:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn addresses_are_checked_when_it_is_opened() {
        let connection = Connection::by_sas("http://169.254.169.254/acc", Secret::new("sig=x")).unwrap();
        let error = connection.open_source().err().unwrap();
        assert_eq!(error.kind, SourceErrorKind::Refused);
        let private = Connection::by_sas("http://10.0.0.1/acc", Secret::new("sig=x")).unwrap();
        assert!(private.open_source().is_err());
        assert!(private.with_addresses(AddressPolicy::for_operator()).open_source().is_ok());
    }
}

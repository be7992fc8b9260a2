//! How the service reaches a storage account that was connected to it. Secrets are taken in, never given out.

use std::path::PathBuf;
use std::sync::Arc;

use blobkeep_vault::{Source, SourceError, Target};

use crate::azure::{AddressPolicy, AzureAccount, AzureOptions, Secret};
use crate::local::LocalFolder;

/// Where the blobs of a storage account are.
#[derive(Debug, Clone)]
pub enum Connection {
    /// An Azure Blob endpoint.
    AzureBlob(Box<AzureOptions>),
    /// A folder whose sub-folders are the containers.
    LocalFolder {
        /// The folder, absolute and without symbolic links; the caller has checked that it is one that may be used. A link that
        /// was put into the way since then refuses the opening.
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

    /// An Azure Blob endpoint by its address and account key; `account` is the name that requests are signed with, where the
    /// address does not tell it.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn by_key(url: &str, account: Option<&str>, key: Secret) -> Result<Self, SourceError> {
        AzureOptions::of_account_by_key(url, account, key).map(|options| Self::AzureBlob(Box::new(options)))
    }

    /// An Azure Blob endpoint by its address and a shared access signature.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn by_sas(url: &str, sas: &Secret) -> Result<Self, SourceError> {
        AzureOptions::of_account_by_sas(url, sas).map(|options| Self::AzureBlob(Box::new(options)))
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
    /// `Refused` if the address is not allowed or a secret is malformed, otherwise what the file system
    /// says. Whether an endpoint answers shows at the first call.
    pub fn open_source(&self) -> Result<Arc<dyn Source>, SourceError> {
        Ok(match self {
            Self::AzureBlob(options) => Arc::new(AzureAccount::new((**options).clone())?),
            Self::LocalFolder { path } => Arc::new(LocalFolder::account_without_links(path)?),
        })
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// As [`Connection::open_source`].
    pub fn open_target(&self) -> Result<Arc<dyn Target>, SourceError> {
        Ok(match self {
            Self::AzureBlob(options) => Arc::new(AzureAccount::new((**options).clone())?),
            Self::LocalFolder { path } => Arc::new(LocalFolder::account_without_links(path)?),
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

#[cfg(test)]
mod tests {
    use blobkeep_vault::SourceErrorKind;

    use super::*;

    #[test]
    fn an_account_is_connected_as_a_whole_and_shows_no_secret() {
        let key = || Secret::new("c2VjcmV0");
        assert!(Connection::by_key("https://acc.blob.core.windows.net/photos", None, key()).is_err());
        let connection = Connection::by_key("https://acc.blob.core.windows.net/", None, key()).unwrap();
        assert_eq!(connection.describe(), "Azure Blob account https://acc.blob.core.windows.net");
        assert!(!format!("{connection:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn addresses_are_checked_when_it_is_opened() {
        let connection = Connection::by_sas("http://169.254.169.254/acc", &Secret::new("sig=x")).unwrap();
        let error = connection.open_source().err().unwrap();
        assert_eq!(error.kind, SourceErrorKind::Refused);
        let private = Connection::by_sas("http://10.0.0.1/acc", &Secret::new("sig=x")).unwrap();
        assert!(private.open_source().is_err());
        assert!(private.with_addresses(AddressPolicy::for_operator()).open_source().is_ok());
    }
}

//! Sources and targets as they are written on a command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use blobkeep_vault::{Source, SourceError, SourceErrorKind, Target};
use percent_encoding::percent_decode_str;

use crate::azure::{AddressPolicy, AzureAccount, AzureOptions};
use crate::local::{LocalFolder, container_name_for};

/// Where blobs come from or go to, as an operator writes it.
#[derive(Debug, Clone)]
pub enum Location {
    /// A folder that is one container, named after itself.
    Folder(PathBuf),
    /// An Azure Blob account, or one container of it.
    Azure(Box<AzureOptions>),
}

impl Location {
    /// An account by its connection string. The operator's own commands may go to private addresses.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] naming what is wrong.
    pub fn by_connection_string(text: &str) -> Result<Self, SourceError> {
        let mut options = AzureOptions::from_connection_string(text)?;
        options.allowed = AddressPolicy::for_operator();
        Ok(Self::Azure(Box::new(options)))
    }
}

impl FromStr for Location {
    type Err = SourceError;

    /// A path, `file:///…`, the URL of an Azure container or account with its SAS, or a connection string.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let refused = |message: String| SourceError::new(SourceErrorKind::Refused, message);
        if text.is_empty() {
            return Err(refused("an empty text names no source or target".to_owned()));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let mut options = AzureOptions::from_url(text, None, None)?;
            options.allowed = AddressPolicy::for_operator();
            return Ok(Self::Azure(Box::new(options)));
        }
        if let Some(rest) = text.strip_prefix("file://") {
            let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(refused(format!("{text} is no file address: write file:///and/the/path")));
            }
            let path = percent_decode_str(path).decode_utf8().map_err(|_| refused(format!("{text} is not UTF-8")))?;
            return Ok(Self::Folder(PathBuf::from(path.into_owned())));
        }
        if is_connection_string(text) {
            return Self::by_connection_string(text);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(refused(format!(
                "{scheme}:// is no source or target: give a folder, file:///…, or the URL of an Azure container with its SAS"
            )));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

impl fmt::Display for Location {
    /// Without a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Azure(options) => match &options.container {
                Some(container) => write!(f, "{}/{container}", options.endpoint),
                None => write!(f, "{}", options.endpoint),
            },
        }
    }
}

fn is_connection_string(text: &str) -> bool {
    const MARKS: [&str; 5] = [
        "accountname=",
        "blobendpoint=",
        "usedevelopmentstorage=",
        "defaultendpointsprotocol=",
        "sharedaccesssignature=",
    ];
    let folded = text.to_ascii_lowercase();
    folded.split(';').any(|part| MARKS.iter().any(|mark| part.trim_start().starts_with(mark)))
}

/// Opens a location for reading.
///
/// # Errors
/// [`SourceErrorKind::NotFound`] for a folder that is not there, [`SourceErrorKind::Refused`] for an address that is not
/// allowed. Whether an endpoint answers shows at the first call.
pub fn open_source(location: &Location) -> Result<Arc<dyn Source>, SourceError> {
    Ok(match location {
        Location::Folder(path) => Arc::new(LocalFolder::single(path, container_name_for(path))?),
        Location::Azure(options) => Arc::new(AzureAccount::new((**options).clone())?),
    })
}

/// Opens a location for writing. A folder is made where it is missing.
///
/// # Errors
/// As [`open_source`].
pub fn open_target(location: &Location) -> Result<Arc<dyn Target>, SourceError> {
    Ok(match location {
        Location::Folder(path) => Arc::new(LocalFolder::create_single(path, container_name_for(path))?),
        Location::Azure(options) => Arc::new(AzureAccount::new((**options).clone())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Location>().unwrap().to_string()
    }

    #[test]
    fn every_form_is_understood_and_shown_without_its_secret() {
        assert_eq!(shown("/data/photos"), "/data/photos");
        assert_eq!(shown("photos"), "photos");
        assert_eq!(shown("file:///data/my%20photos"), "/data/my photos");
        assert_eq!(shown("file://localhost/data"), "/data");
        assert_eq!(
            shown("https://acc.blob.core.windows.net/photos?sv=1&sig=x"),
            "https://acc.blob.core.windows.net/photos"
        );
        assert_eq!(shown("http://127.0.0.1:10000/dev/photos?sig=x"), "http://127.0.0.1:10000/dev/photos");
        assert_eq!(shown("UseDevelopmentStorage=true"), "http://127.0.0.1:10000/devstoreaccount1");
        assert_eq!(
            shown("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=eA=="),
            "https://a.blob.core.windows.net"
        );
        assert_eq!(shown("odd=folder;name"), "odd=folder;name");
        for bad in ["", "file://host/path", "ftp://x/y", "https://a.blob.core.windows.net/c/b"] {
            assert_eq!(bad.parse::<Location>().unwrap_err().kind, SourceErrorKind::Refused, "{bad}");
        }
    }

    #[test]
    fn a_target_folder_is_made_and_a_source_folder_must_be_there() {
        let root = tempfile::tempdir().unwrap();
        let location = Location::Folder(root.path().join("new/photos"));
        assert_eq!(open_source(&location).err().unwrap().kind, SourceErrorKind::NotFound);
        assert!(open_target(&location).is_ok());
        assert!(open_source(&location).is_ok());
    }
}

//! The errors of the engine. Messages are for the operator: lower case, naming the thing and what to do where that is known.

use crate::source::{SourceError, SourceErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// The result of engine calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is, for callers that must decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A stored byte is not what was written, or a file is missing.
    Damaged,
    /// The key does not open this vault.
    WrongKey,
    /// The request makes no sense or contradicts what is there.
    Invalid,
    /// What was asked for does not exist.
    NotFound,
    /// Something in the target stands in the way.
    Conflict,
    /// Credentials do not suffice.
    Denied,
    /// Busy or unreachable; may succeed later.
    Unavailable,
    /// The caller asked to stop.
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// Everything that can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A source or target failed.
    #[error("{0}")]
    Endpoint(#[from] SourceError),
    /// A file of the vault is not what was written.
    #[error("{file} is damaged: {reason}")]
    Damaged {
        /// The file's name in the store.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// The key does not fit.
    #[error(
        "the key does not open vault {vault}: use the key file that was made with it, or put vault.json and keys/ back from a copy of the store if they were changed"
    )]
    WrongKey {
        /// The vault's id.
        vault: String,
    },
    /// The key that guards the vault is known by a name, and cannot be used.
    #[error("the key {key} guards the vault, and {reason}")]
    NoKey {
        /// The key's name.
        key: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Something is not there.
    #[error("{0}")]
    NotFound(String),
    /// A restore in place would have to bring back blobs of containers that the account does not have any more.
    #[error("a restore in place cannot bring back deleted containers: {}", containers.join(", "))]
    ContainersGone {
        /// Their names.
        containers: Vec<String>,
    },
    /// The account does not keep everything any more that would have to come back.
    #[error("the account does not keep {in_all} of the versions any more that would have to come back, so nothing was changed: {}", blobs.join(", "))]
    VersionsGone {
        /// Some of the blobs, with the versions.
        blobs: Vec<String>,
        /// How many there are.
        in_all: u64,
    },
    /// Something is in the way.
    #[error("{0}")]
    Conflict(String),
    /// The writer was taken for dead meanwhile.
    #[error("job {job} was taken for dead while it ran, so its point cannot be added: run it again")]
    Fenced {
        /// The job.
        job: String,
    },
    /// The caller asked to stop.
    #[error("cancelled: {0}")]
    Cancelled(String),
    /// The local machine failed (scratch files, threads).
    #[error("{what}: {error}")]
    Local {
        /// What was tried.
        what: String,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
    /// A fault of ours.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl Error {
    /// A damaged file.
    pub fn damaged(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), reason: reason.into() }
    }

    /// The same, saying which blob or point needs what is damaged; other errors are left as they are.
    #[must_use]
    pub fn needed_by(self, what: &str) -> Self {
        match self {
            Self::Damaged { file, reason } => Self::damaged(file, format!("{reason} (needed by {what})")),
            other => other,
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => match e.kind {
                StoreErrorKind::NotFound => ErrorKind::Damaged,
                StoreErrorKind::Denied => ErrorKind::Denied,
                StoreErrorKind::Full | StoreErrorKind::Unavailable => ErrorKind::Unavailable,
                StoreErrorKind::Other => ErrorKind::Internal,
            },
            Self::Endpoint(e) => match e.kind {
                SourceErrorKind::NotFound => ErrorKind::NotFound,
                SourceErrorKind::Denied => ErrorKind::Denied,
                SourceErrorKind::Conflict => ErrorKind::Conflict,
                SourceErrorKind::Refused | SourceErrorKind::Archived => ErrorKind::Invalid,
                SourceErrorKind::Changed | SourceErrorKind::Unavailable => ErrorKind::Unavailable,
                SourceErrorKind::Protocol => ErrorKind::Internal,
            },
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::WrongKey { .. } | Self::NoKey { .. } => ErrorKind::WrongKey,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound(_) | Self::ContainersGone { .. } | Self::VersionsGone { .. } => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Fenced { .. } => ErrorKind::Unavailable,
            Self::Cancelled(_) => ErrorKind::Cancelled,
            Self::Local { .. } | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Trying the same again later may succeed.
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }
}

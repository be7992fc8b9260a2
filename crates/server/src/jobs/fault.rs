//! Why a job cannot go on, and what becomes of it.

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_vault::{Error as EngineError, ErrorKind};

use crate::db::DbError;

/// Why a job stops before its end.
#[derive(Debug)]
pub(super) enum Fault {
    /// For good: the user is told.
    Final(Box<ApiError>),
    /// For now: tried again later; after the last try it is final.
    Passing(Box<ApiError>),
    /// The user asked for it.
    Cancelled,
    /// Another worker has the job now, or the service is stopping: the job is left to be taken up again.
    Yielded,
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        if error.code.rule().is_retryable { Self::Passing(Box::new(error)) } else { Self::Final(Box::new(error)) }
    }
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "a job cannot use the database");
        Self::Passing(Box::new(ApiError::of(ErrorCode::CloudInternalError, &[])))
    }
}

/// A fault of the service, with what is known about it.
pub(super) fn internal(detail: &str) -> ApiError {
    ApiError::of(ErrorCode::CloudInternalError, &[]).with_detailed_message(detail)
}

/// The key that guards the vault cannot be used: what is told of that.
pub(crate) fn missing_key(error: &EngineError) -> Option<ApiError> {
    match error {
        EngineError::NoKey { key, reason } => Some(crate::keys::not_found(key, reason)),
        _ => None,
    }
}

/// What the engine reports about work on an account, in the API's words.
pub(super) fn of_engine(error: &EngineError, account: &str) -> Fault {
    let text = error.to_string();
    if let Some(error) = missing_key(error) {
        // The key may be back at the next start, and what was to be done in the vault is still to be done then.
        return Fault::Passing(Box::new(error));
    }
    match error.kind() {
        ErrorKind::Unavailable => Fault::Passing(Box::new(super::accounts::unreachable_account(account, &text))),
        ErrorKind::Denied | ErrorKind::Invalid => {
            Fault::Final(Box::new(super::accounts::unreachable_account(account, &text)))
        }
        ErrorKind::NotFound => {
            Fault::Final(Box::new(ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &text)])))
        }
        ErrorKind::Conflict => Fault::Final(Box::new(ApiError::of(ErrorCode::Conflict, &[("reason", &text)]))),
        ErrorKind::Damaged | ErrorKind::WrongKey => {
            tracing::error!(%error, "the vault is damaged");
            Fault::Final(Box::new(internal(&text)))
        }
        ErrorKind::Cancelled => Fault::Cancelled,
        ErrorKind::Internal => Fault::Passing(Box::new(internal(&text))),
    }
}

//! How inner errors become answers: here and nowhere else.
//!
//! The reason of a fault goes into the log under the correlation id; the caller is told the id, never the inside.

use blobkeep_arm::{ApiError, ErrorCode};

use crate::db::DbError;

/// The result of handlers and of what they call.
pub type ApiResult<T> = Result<T, ApiError>;

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        fault(&error)
    }
}

/// A fault of ours: logged with its reason, answered without it. The front door fills in the correlation id.
pub fn fault(reason: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(reason = %reason, "request failed by a fault of the service");
    ApiError::of(ErrorCode::InternalServerError, &[("correlation", CORRELATION_MARK)])
}

/// Stands in the message of a fault until the front door knows the correlation id.
pub(crate) const CORRELATION_MARK: &str = "(correlation)";

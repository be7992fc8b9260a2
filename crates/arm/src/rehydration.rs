//! Requests to bring a recovery point back from the archive tier. Blobs have none; the request is read all the same, so that a wrong one is
//! told what is wrong with it.

use serde::Deserialize;
use serde_json::Value;

use crate::word::{Invalid, read, words};

words! {
    /// How soon the point is wanted.
    RehydrationPriority {
        /// Sooner, for more money.
        High,
        /// Within hours.
        Standard,
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RehydrationRequest {
    /// The point.
    pub recovery_point_id: String,
    /// How long it is wanted; kept as it was sent, for nothing is done with it.
    pub rehydration_retention_duration: String,
    /// How soon.
    pub rehydration_priority: Option<RehydrationPriority>,
}

impl RehydrationRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Invalid`] for a member that is missing or has a word that is not known.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        read(body, &["recoveryPointId", "rehydrationRetentionDuration", "rehydrationPriority"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn point_and_duration_are_needed() {
        let body =
            json!({ "recoveryPointId": "p", "rehydrationRetentionDuration": "P7D", "rehydrationPriority": "high" });
        assert_eq!(RehydrationRequest::parse(&body).unwrap().rehydration_priority, Some(RehydrationPriority::High));
        for (body, missing) in [
            (json!({ "rehydrationRetentionDuration": "P7D" }), "recoveryPointId"),
            (json!({ "recoveryPointId": "p" }), "rehydrationRetentionDuration"),
        ] {
            assert_eq!(RehydrationRequest::parse(&body).unwrap_err().target, missing);
        }
    }
}

//! Asynchronous operations: their ids, and the body that names a job.
//!
//! The status body itself is `envelope::OperationStatus`. Ids are opaque to clients; they must survive a URL path and a
//! client's string formatting, so nothing but base64 of two GUIDs goes in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use uuid::Uuid;

/// Base64 of two GUIDs with a semicolon between them (recorded): the first is the vault's, the second the operation's.
/// The URL-safe alphabet gives the same text here, for neither hex digits, hyphens nor semicolons make a `+` or `/`.
pub fn operation_id(vault: Uuid, operation: Uuid) -> String {
    URL_SAFE.encode(format!("{vault};{operation}"))
}

/// The result of an operation that began a job, or of one that has no result of its own (`job_id` absent).
pub fn job_info(job_id: Option<&str>) -> Value {
    match job_id {
        Some(job_id) => json!({ "objectType": "OperationJobExtendedInfo", "jobId": job_id }),
        None => json!({ "objectType": "OperationJobExtendedInfo" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_the_seed() {
        let vault = Uuid::parse_str("fc341fac-ebe1-44ba-a8a8-03cb28cc9911").unwrap();
        let id = operation_id(vault, Uuid::nil());
        assert!(id.starts_with("ZmMzNDFmYWMtZWJlMS00NGJhLWE4YTgtMDNjYjI4Y2M5OTEx"), "{id}");
        assert!(id.ends_with("=="), "{id}");
        assert!(!id.contains(['+', '/', '{', '}']));
    }
}

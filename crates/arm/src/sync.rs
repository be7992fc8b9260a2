//! Syncing an instance: the last attempt to protect it is repeated.

use serde_json::Value;

use crate::envelope;
use crate::word::{Invalid, words};

words! {
    /// When a sync works on an instance.
    SyncType {
        /// Only if it is not protected because something failed.
        Default,
        /// Also if it is protected.
        ForceResync,
    }
}

impl SyncType {
    /// Reads the body of a request; `Default` if it says nothing, or if there is none.
    ///
    /// # Errors
    /// [`Invalid`] for a word that is not known.
    pub fn of_request(body: &Value) -> Result<Self, Invalid> {
        let Some(given) = envelope::member(body, "syncType") else { return Ok(Self::Default) };
        given.as_str().and_then(Self::parse).ok_or_else(|| {
            Invalid::new("syncType", format!("{given} is not a type of sync. Use Default or ForceResync."))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn silence_is_the_default_and_case_does_not_matter() {
        for body in [Value::Null, json!({}), json!({ "syncType": null }), json!({ "SyncType": "default" })] {
            assert_eq!(SyncType::of_request(&body).unwrap(), SyncType::Default, "{body}");
        }
        assert_eq!(SyncType::of_request(&json!({ "synctype": "FORCERESYNC" })).unwrap(), SyncType::ForceResync);
        assert_eq!(SyncType::of_request(&json!({ "syncType": "Never" })).unwrap_err().target, "syncType");
        assert!(SyncType::of_request(&json!({ "syncType": 1 })).is_err());
    }
}

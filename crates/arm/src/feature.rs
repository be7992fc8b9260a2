//! What can be protected here: the answer to clients that ask before they offer a choice.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::word::{ADLS_DATASOURCE, BLOB_DATASOURCE, Invalid, blob_datasource_type, read};

/// The only kind of feature that the specification knows.
const DATASOURCE_TYPE: &str = "DataSourceType";

/// A question about features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureRequest {
    /// The one that is asked about; all of them if none is named.
    pub name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    feature_type: Option<String>,
    feature_name: Option<String>,
}

impl FeatureRequest {
    /// Reads the body of a request. A question without `featureType` is about datasource types.
    ///
    /// # Errors
    /// [`Invalid`] for any other type of feature.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        let body: Body = read(body, &["featureType", "featureName"])?;
        let kind = body.feature_type.as_deref().unwrap_or(DATASOURCE_TYPE).trim();
        if !kind.eq_ignore_ascii_case(DATASOURCE_TYPE) {
            return Err(Invalid::new(
                "featureType",
                format!("'{kind}' is not a type of feature that can be asked about. Use {DATASOURCE_TYPE}."),
            ));
        }
        let name = body.feature_name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Ok(Self { name })
    }

    /// The answer: the datasource types of blobs are `GenerallyAvailable`, any other one that is named is `NotSupported`.
    pub fn answer(&self) -> Value {
        let features = match self.name.as_deref() {
            None => vec![feature(BLOB_DATASOURCE, true), feature(ADLS_DATASOURCE, true)],
            Some(name) => match blob_datasource_type(name) {
                Some(known) => vec![feature(known, true)],
                None => vec![feature(name, false)],
            },
        };
        json!({ "objectType": "FeatureValidationResponse", "featureType": DATASOURCE_TYPE, "features": features })
    }
}

fn feature(name: &str, is_supported: bool) -> Value {
    let status = if is_supported { "GenerallyAvailable" } else { "NotSupported" };
    json!({ "featureName": name, "supportStatus": status, "exposureControlledFeatures": [] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(name: &str) -> Value {
        let body = json!({ "featuretype": "datasourcetype", "featureName": name });
        FeatureRequest::parse(&body).unwrap().answer()["features"][0].clone()
    }

    #[test]
    fn blobs_are_available_and_everything_else_is_named_as_not_supported() {
        let all = FeatureRequest::parse(&json!({ "featureType": "DataSourceType", "featureName": null })).unwrap();
        assert_eq!(all.answer()["features"].as_array().map(Vec::len), Some(2));
        assert_eq!(status_of("microsoft.storage/STORAGEACCOUNTS/blobServices")["featureName"], BLOB_DATASOURCE);
        assert_eq!(status_of("Microsoft.Compute/disks")["supportStatus"], "NotSupported");
    }

    #[test]
    fn only_datasource_types_can_be_asked_about() {
        let invalid = FeatureRequest::parse(&json!({ "featureType": "Invalid" })).unwrap_err();
        assert_eq!(invalid.target, "featureType");
    }
}

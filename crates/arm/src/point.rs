//! Recovery points and restorable time ranges: how they are asked for and how they are answered.
//!
//! Points print explicit nulls for absent members, as recorded. Only points of the vault are listed; the operational
//! tier has no points, only ranges of time.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, ErrorCode};
use crate::time::{format_seven_digits, parse_instant};
use crate::word::{DataStore, Invalid, read, words};

words! {
    /// Whether a point holds everything that was selected.
    PointState {
        /// It does.
        Completed,
        /// Some items could not be read; the job says which.
        Partial,
    }
}

/// What is answered of a recovery point. Times are µs.
#[derive(Debug, Clone)]
pub struct PointView<'a> {
    /// The id of the instance.
    pub instance_id: &'a str,
    /// 32 hex digits.
    pub id: &'a str,
    /// When the state that it holds was taken.
    pub created_at: i64,
    /// When it goes; nothing while it is kept for ever.
    pub expires_at: Option<i64>,
    /// The retention rule that it falls under.
    pub tag: &'a str,
    /// When the policy last changed: its tag's version.
    pub tag_version: Option<i64>,
    /// The policy under which it was made.
    pub policy_name: &'a str,
    /// Whether it is complete.
    pub state: PointState,
    /// Where it lies.
    pub store: DataStore,
}

/// .NET's ticks (100 ns since the year 1) of an instant (µs since 1970): the form of a tag's version.
pub fn ticks(instant: i64) -> i64 {
    instant.saturating_mul(10).saturating_add(621_355_968_000_000_000)
}

impl PointView<'_> {
    /// The resource, in the recorded shape.
    pub fn render(&self) -> Value {
        let created = format_seven_digits(self.created_at);
        let expires = self.expires_at.map(format_seven_digits);
        json!({
            "properties": {
                "objectType": "AzureBackupDiscreteRecoveryPoint",
                "recoveryPointId": self.id,
                "recoveryPointTime": created,
                "recoveryPointType": "Full",
                "friendlyName": self.id,
                "recoveryPointDataStoresDetails": [{
                    "id": hyphenated(self.id),
                    "type": self.store,
                    "creationTime": created,
                    "expiryTime": expires,
                    "metaData": null,
                    "visible": true,
                    "state": "COMMITTED",
                    "rehydrationExpiryTime": null,
                    "rehydrationStatus": null,
                }],
                "retentionTagName": self.tag,
                "retentionTagVersion": self.tag_version.map(|version| ticks(version).to_string()),
                "policyName": self.policy_name,
                "policyVersion": null,
                "expiryTime": expires,
                "recoveryPointState": self.state,
            },
            "id": format!("{}/recoveryPoints/{}", self.instance_id, self.id),
            "name": self.id,
            "type": "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints",
        })
    }
}

/// 32 hex digits with the hyphens of a GUID; anything else as it is.
fn hyphenated(id: &str) -> String {
    uuid::Uuid::parse_str(id).map_or_else(|_| id.to_owned(), |uuid| uuid.to_string())
}

/// Which points a list asks for, by time; both ends belong to it. µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PointFilter {
    /// Not earlier than this.
    pub from: Option<i64>,
    /// Not later than this.
    pub until: Option<i64>,
}

impl PointFilter {
    /// Reads `startDate eq '…' and endDate eq '…'`, either part alone, or nothing at all (clients always send
    /// `$filter=`, empty without dates). Words in any case; `ge`, `gt`, `le` and `lt` are understood like `eq`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidFilterInQueryString`] for everything else.
    pub fn parse(filter: &str) -> Result<Self, ApiError> {
        let mut found = Self::default();
        let trimmed = filter.trim();
        if trimmed.is_empty() {
            return Ok(found);
        }
        let wrong = |reason: &str| {
            ApiError::of(ErrorCode::InvalidFilterInQueryString, &[("filter", filter), ("reason", reason)])
        };
        let form = "it must have the form startDate eq '2025-03-01T00:00:00.0000000Z' and endDate eq '…'";
        let mut words = trimmed.split_whitespace();
        loop {
            let (Some(name), Some(comparison), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(wrong(form));
            };
            if !["eq", "ge", "gt", "le", "lt"].contains(&comparison.to_ascii_lowercase().as_str()) {
                return Err(wrong(form));
            }
            let instant = parse_instant(value.trim_matches('\'')).map_err(|error| wrong(&error.to_string()))?;
            match name.to_ascii_lowercase().as_str() {
                "startdate" => found.from = Some(instant),
                "enddate" => found.until = Some(instant),
                _ => return Err(wrong(form)),
            }
            match words.next() {
                None => return Ok(found),
                Some(and) if and.eq_ignore_ascii_case("and") => {}
                Some(_) => return Err(wrong(form)),
            }
        }
    }
}

/// The body of `findRestorableTimeRanges`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which tier.
    pub store: DataStore,
    /// From when, µs.
    pub start: Option<i64>,
    /// Until when, µs.
    pub end: Option<i64>,
}

impl RangeRequest {
    /// Reads the body and checks it.
    ///
    /// # Errors
    /// `UserErrorInvalidRestorableTimeRange` for an end before the start, `DppPluginInvalidInputParameters` for the rest
    /// (recorded).
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            source_data_store_type: DataStore,
            #[serde(default)]
            start_time: String,
            #[serde(default)]
            end_time: String,
        }
        let wrong = |reason: &str| ApiError::of(ErrorCode::DppPluginInvalidInputParameters, &[("reason", reason)]);
        let body: Body = read(body, &["sourceDataStoreType", "startTime", "endTime"])
            .map_err(|Invalid { message, .. }| wrong(message.trim_end_matches('.')))?;
        let instant = |text: &str| match text {
            "" => Ok(None),
            text => parse_instant(text).map(Some).map_err(|error| wrong(&error.to_string())),
        };
        let (start, end) = (instant(&body.start_time)?, instant(&body.end_time)?);
        if let (Some(from), Some(until)) = (start, end)
            && until < from
        {
            return Err(ApiError::of(
                ErrorCode::UserErrorInvalidRestorableTimeRange,
                &[("start", &body.start_time), ("end", &body.end_time)],
            ));
        }
        Ok(Self { store: body.source_data_store_type, start, end })
    }
}

/// The answer of `findRestorableTimeRanges`: ranges of µs. It has no ARM id (recorded): id and name are the instance's name.
pub fn render_ranges(instance_name: &str, ranges: &[(i64, i64)]) -> Value {
    let ranges: Vec<Value> = ranges
        .iter()
        .map(|(start, end)| {
            json!({
                "startTime": format_seven_digits(*start),
                "endTime": format_seven_digits(*end),
                "objectType": "RestorableTimeRange",
            })
        })
        .collect();
    json!({
        "id": instance_name,
        "name": instance_name,
        "type": "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges",
        "properties": {
            "restorableTimeRanges": ranges,
            "objectType": "AzureBackupFindRestorableTimeRangesResponse",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_clients_are_read() {
        let from = parse_instant("2025-03-01T00:00:00Z").ok();
        let until = parse_instant("2025-03-02T00:00:00Z").ok();
        for (text, expected) in [
            ("", PointFilter::default()),
            ("  ", PointFilter::default()),
            (
                "startDate eq '2025-03-01T00:00:00.0000000Z' and endDate eq '2025-03-02T00:00:00.0000000Z'",
                PointFilter { from, until },
            ),
            ("ENDDATE EQ '2025-03-02T00:00:00Z'", PointFilter { from: None, until }),
        ] {
            assert_eq!(PointFilter::parse(text), Ok(expected), "{text}");
        }
        for text in ["startDate", "startDate eq yesterday", "name eq 'x'", "startDate eq '2025-03-01T00:00:00Z' or x"] {
            assert_eq!(PointFilter::parse(text).unwrap_err().code, ErrorCode::InvalidFilterInQueryString, "{text}");
        }
    }

    #[test]
    fn points_print_their_nulls() {
        let point = PointView {
            instance_id: "/i",
            id: "0123456789abcdef0123456789abcdef",
            created_at: 0,
            expires_at: None,
            tag: "Default",
            tag_version: Some(0),
            policy_name: "policy",
            state: PointState::Completed,
            store: DataStore::VaultStore,
        };
        let answer = point.render();
        assert_eq!(answer["properties"]["policyVersion"], Value::Null);
        assert!(answer["properties"].as_object().unwrap().contains_key("policyVersion"));
        assert_eq!(
            answer["properties"]["recoveryPointDataStoresDetails"][0]["id"],
            "01234567-89ab-cdef-0123-456789abcdef"
        );
        assert_eq!(answer["properties"]["retentionTagVersion"], "621355968000000000");
        assert_eq!(answer["id"], "/i/recoveryPoints/0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn ranges_must_go_forward() {
        let body = |start: &str, end: &str| json!({"sourceDataStoreType": "operationalstore", "startTime": start, "endTime": end});
        assert!(RangeRequest::parse(&body("", "")).is_ok());
        let error = RangeRequest::parse(&body("2025-03-02T00:00:00Z", "2025-03-01T00:00:00Z")).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorInvalidRestorableTimeRange);
        for bad in [body("soon", ""), json!({}), json!({"sourceDataStoreType": "Cellar"})] {
            assert_eq!(RangeRequest::parse(&bad).unwrap_err().code, ErrorCode::DppPluginInvalidInputParameters);
        }
    }
}

//! Names and small documents of a change feed, as "Change feed support in Azure Blob Storage" shows them: hourly segments,
//! each with a manifest, and the folders of their log files. Hours count from the year 1, like ticks.

use crate::clock;

/// The container of the feed.
pub(crate) const FEED_CONTAINER: &str = "$blobchangefeed";
/// The blob that tells up to when the feed is complete.
pub(crate) const SEGMENTS: &str = "meta/segments.json";

const HOUR_TICKS: i64 = 36_000_000_000;
/// The first hour that Azure's own times can tell: 1601-01-01T00. Its segment is always there and always empty.
pub(super) const FIRST_HOUR: i64 = 14_025_312;
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// The hour of a time.
pub(super) fn hour_of(ticks: i64) -> i64 {
    ticks.div_euclid(HOUR_TICKS)
}

fn begin(hour: i64) -> String {
    clock::iso_millis(hour * HOUR_TICKS)
}

/// `2026/01/31/0800`.
fn folder(hour: i64) -> String {
    let begin = begin(hour);
    format!("{}/{}00", begin[..10].replace('-', "/"), &begin[11..13])
}

/// The manifest's name of a segment.
pub(super) fn manifest_name(hour: i64) -> String {
    format!("idx/segments/{}/meta.json", folder(hour))
}

/// The name of a segment's log file.
pub(super) fn log_name(hour: i64, file: u32) -> String {
    format!("log/00/{}/{file:05}.avro", folder(hour))
}

/// The manifest of a segment.
pub(super) fn manifest(hour: i64, is_final: bool, changed_ticks: i64) -> String {
    let status = if is_final { "Finalized" } else { "Publishing" };
    format!(
        "{{\"version\":0,\"begin\":\"{}\",\"intervalSecs\":3600,\"status\":\"{status}\",\"config\":{{\"version\":1,\
         \"configVersionEtag\":\"0x8d0000000000000\",\"numShards\":1,\"recordsFormat\":\"avro\",\"formatSchemaVersion\":5,\
         \"shardDistFnVersion\":1,\"streamAppendType\":1}},\"chunkFilePaths\":[\"{FEED_CONTAINER}/log/00/{}/\"],{}}}",
        begin(hour),
        folder(hour),
        diagnostics(changed_ticks)
    )
}

/// What [`SEGMENTS`] holds.
pub(super) fn segments(complete_ticks: i64) -> String {
    format!(
        "{{\"version\":0,\"lastConsumable\":\"{}\",{}}}",
        clock::iso_millis(complete_ticks),
        diagnostics(complete_ticks)
    )
}

fn diagnostics(changed_ticks: i64) -> String {
    format!(
        "\"storageDiagnostics\":{{\"version\":0,\"lastModifiedTime\":\"{}\",\"data\":{{\"aid\":\"{NOBODY}\"}}}}",
        clock::iso_millis(changed_ticks)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_in_the_folder_of_their_hour() {
        let ticks = clock::ticks(784_111_777_123_456);
        assert_eq!(manifest_name(hour_of(ticks)), "idx/segments/1994/11/06/0800/meta.json");
        assert_eq!(log_name(hour_of(ticks), 1), "log/00/1994/11/06/0800/00001.avro");
        assert_eq!(manifest_name(FIRST_HOUR), "idx/segments/1601/01/01/0000/meta.json");
        let manifest = manifest(hour_of(ticks), false, ticks);
        assert!(manifest.contains("\"begin\":\"1994-11-06T08:00:00.000Z\""), "{manifest}");
        assert!(manifest.contains("\"chunkFilePaths\":[\"$blobchangefeed/log/00/1994/11/06/0800/\"]"), "{manifest}");
        assert!(segments(ticks).starts_with("{\"version\":0,\"lastConsumable\":\"1994-11-06T08:49:37.123Z\","));
    }
}

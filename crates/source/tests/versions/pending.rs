//! Copies that the account makes on its own, as Azure may and an emulator does not.

use blobkeep_vault::{BlobEntry, BlobKind, SourceErrorKind, Target, Written};

use crate::endpoint::Endpoint;

fn blob(size_bytes: u64) -> BlobEntry {
    BlobEntry { container: "photos".into(), name: "a b".into(), size_bytes, etag: "0x1".into(), ..BlobEntry::default() }
}

const PUT: &str = "PUT /acc/photos/a%20b";
const HEAD: &str = "HEAD /acc/photos/a%20b";
const VERSION: &str = "2026-11-23T07:00:00.1234567Z";

#[tokio::test]
async fn a_copy_that_the_account_makes_on_its_own_is_waited_for() {
    let endpoint = Endpoint::start().await;
    let pending = "x-ms-copy-id: 7\r\nx-ms-copy-status: pending\r\nx-ms-copy-progress: ";
    let started = "202 Accepted\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: pending";
    let [none, half] = ["0/9", "5/9"].map(|progress| format!("200 OK\r\ncontent-length: 0\r\n{pending}{progress}"));
    let done = "200 OK\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: success\r\netag: \"0x2\"";
    endpoint.script(PUT, &[started]);
    endpoint.script(HEAD, &[&none, &none, &half, done]);
    let large = blob(300 << 20);
    let written = Written::Written { lost: Vec::new() };
    assert_eq!(endpoint.account.copy_version(&large, VERSION, None).await.unwrap(), written);
    let heads = endpoint.heads();
    assert_eq!(heads.len(), 5, "{heads:?}");
    let (copy, source) = (&heads[0], "x-ms-copy-source: http://");
    assert!(
        copy.contains(source) && copy.contains("?versionid=2026-11-23T07%3A00%3A00.1234567Z&sig=secret\r\n"),
        "{copy}"
    );
    assert!(!copy.contains("x-ms-requires-sync"), "too large for that");
    assert!(copy.contains("if-none-match: *\r\n") && copy.contains("x-ms-source-if-match: \"0x1\"\r\n"), "{copy}");

    for (answer, kind, words) in [
        (
            "x-ms-copy-id: 7\r\nx-ms-copy-status: failed\r\nx-ms-copy-status-description: 500 broken",
            SourceErrorKind::Unavailable,
            "500 broken",
        ),
        ("x-ms-copy-id: 8\r\nx-ms-copy-status: success", SourceErrorKind::Changed, "somebody else"),
    ] {
        endpoint.script(HEAD, &[&format!("200 OK\r\ncontent-length: 0\r\n{answer}")]);
        let error = endpoint.account.copy_version(&large, VERSION, None).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words) && error.message.contains(VERSION), "{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
    // One that never gets on is given up, and the account is told so.
    endpoint.heads();
    endpoint.script(HEAD, &[&half]);
    let error = endpoint.account.copy_version(&large, VERSION, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.message.contains("no progress"), "{error}");
    assert!(endpoint.heads().last().unwrap().contains("x-ms-copy-action: abort"));
}

#[tokio::test]
async fn a_small_copy_by_a_signature_is_done_when_it_is_answered() {
    let endpoint = Endpoint::start().await;
    let done = "202 Accepted\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: success";
    endpoint.script(PUT, &[done]);
    endpoint.account.copy_version(&blob(3), VERSION, None).await.unwrap();
    assert!(endpoint.heads()[0].contains("x-ms-requires-sync: true\r\n"));
}

/// What the account says of the blob while it copies, and afterwards, by the number and the state of the copy and what it is a copy of.
fn head(copy_id: u32, status: &str, version: &str, size_bytes: u64, more: &str) -> String {
    let source = format!("http://localhost/acc/photos/a%20b?versionid={}", version.replace(':', "%3A"));
    format!(
        "200 OK\r\ncontent-length: {size_bytes}\r\nlast-modified: Thu, 01 Jan 1970 00:00:03 GMT\r\netag: \"0x2\"\r\n\
         x-ms-copy-id: {copy_id}\r\nx-ms-copy-status: {status}\r\nx-ms-copy-source: {source}{more}"
    )
}

const IS_PENDING: &str = "409 Conflict\r\ncontent-length: 0\r\nx-ms-error-code: PendingCopyOperation";
const IS_ANOTHER: &str = "412 Precondition Failed\r\ncontent-length: 0\r\nx-ms-error-code: ConditionNotMet";

#[tokio::test]
async fn a_copy_that_an_ended_restore_began_is_waited_for() {
    let endpoint = Endpoint::start().await;
    let large = blob(300 << 20);
    let live = BlobEntry { etag: "0x9".into(), ..large.clone() };
    let pending = head(7, "pending", VERSION, 0, "");
    let done = head(7, "success", VERSION, large.size_bytes, "");
    let written = Written::Written { lost: Vec::new() };
    for (refusal, heads) in [(IS_PENDING, vec![&pending, &pending, &done]), (IS_ANOTHER, vec![&done])] {
        endpoint.script(PUT, &[refusal]);
        endpoint.script(HEAD, &heads.iter().map(|head| head.as_str()).collect::<Vec<_>>());
        endpoint.heads();
        assert_eq!(endpoint.account.copy_version(&large, VERSION, Some(&live)).await.unwrap(), written);
        let puts = endpoint.heads().iter().filter(|head| head.starts_with("PUT")).count();
        assert_eq!(puts, 1, "it is not begun anew");
    }
}

#[tokio::test]
async fn a_copy_that_nobody_waits_for_any_more_is_found_by_the_next_try() {
    let endpoint = Endpoint::start().await;
    let large = blob(300 << 20);
    let started = "202 Accepted\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: pending";
    endpoint.script(PUT, &[started, IS_PENDING]);
    let (pending, done) = (head(7, "pending", VERSION, 0, ""), head(7, "success", VERSION, large.size_bytes, ""));
    endpoint.script(HEAD, &[&pending]);
    let (account, wanted) = (endpoint.account.clone(), large.clone());
    let waiting = tokio::spawn(async move { account.copy_version(&wanted, VERSION, None).await });
    while endpoint.asked() < 3 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert!(!endpoint.heads().iter().any(|head| head.contains("x-ms-copy-action")), "it goes on");
    endpoint.script(HEAD, &[&pending, &done]);
    let written = Written::Written { lost: Vec::new() };
    assert_eq!(endpoint.account.copy_version(&large, VERSION, None).await.unwrap(), written);
}

#[tokio::test]
async fn what_an_earlier_copy_lacks_is_put_back() {
    let endpoint = Endpoint::start().await;
    let mut typed = blob(3);
    typed.headers.content_type = Some("text/plain".into());
    endpoint.script(PUT, &[IS_ANOTHER, "200 OK\r\ncontent-length: 0"]);
    endpoint.script(HEAD, &[&head(7, "success", VERSION, 3, "\r\ncontent-type: text/html")]);
    endpoint.account.copy_version(&typed, VERSION, None).await.unwrap();
    let heads = endpoint.heads();
    let last = heads.last().unwrap();
    assert!(last.contains("comp=properties") && last.contains("x-ms-blob-content-type: text/plain\r\n"), "{heads:?}");
    assert!(last.contains("if-match: \"0x2\"\r\n"), "{last}");
}

#[tokio::test]
async fn what_somebody_else_wrote_is_no_earlier_copy() {
    let other = "2026-11-23T06:00:00.1234567Z";
    let meta = "\r\nx-ms-meta-owner: me";
    let kinds = [(IS_PENDING, SourceErrorKind::Refused), (IS_ANOTHER, SourceErrorKind::Changed)];
    for (refusal, kind) in kinds {
        for there in [
            head(7, "pending", other, 3, ""),
            head(7, "success", other, 3, ""),
            head(7, "aborted", VERSION, 0, ""),
            // Marks of a copy stay when blocks are appended and when metadata are set.
            head(7, "success", VERSION, 4, ""),
            head(7, "success", VERSION, 3, meta),
            "404 Not Found\r\ncontent-length: 0\r\nx-ms-error-code: BlobNotFound".to_owned(),
        ] {
            let endpoint = Endpoint::start().await;
            endpoint.script(PUT, &[refusal]);
            endpoint.script(HEAD, &[&there]);
            let row = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
            endpoint.script("GET /acc/photos", &[&format!("200 OK\r\ncontent-length: {}\r\n\r\n{row}", row.len())]);
            let error = endpoint.account.copy_version(&blob(3), VERSION, Some(&blob(9))).await.unwrap_err();
            assert_eq!(error.kind, kind, "{there}: {error}");
        }
    }
}

#[tokio::test]
async fn pages_that_were_copied_earlier_may_have_been_written_since() {
    let endpoint = Endpoint::start().await;
    let pages = BlobEntry { kind: BlobKind::Page { sequence_number: 0 }, ..blob(512) };
    let of_pages = "\r\nx-ms-blob-type: PageBlob";
    let (pending, done) = (head(7, "pending", VERSION, 512, of_pages), head(7, "success", VERSION, 512, of_pages));
    endpoint.script(PUT, &[IS_ANOTHER]);
    endpoint.script(HEAD, &[&done]);
    let error = endpoint.account.copy_version(&pages, VERSION, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
    // While a copy is under way nobody can write.
    endpoint.script(PUT, &[IS_PENDING]);
    endpoint.script(HEAD, &[&pending, &done]);
    let written = Written::Written { lost: Vec::new() };
    assert_eq!(endpoint.account.copy_version(&pages, VERSION, None).await.unwrap(), written);
}

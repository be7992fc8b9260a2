//! Copies that the account makes on its own, as Azure may and an emulator does not.

use blobkeep_vault::{BlobEntry, SourceErrorKind, Target, Written};

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

//! Compares two accounts: the same containers and blobs, with equal properties and equal bytes. Reads both in full and trusts no checksum.

use std::sync::Arc;

use blobkeep_vault::{BlobEntry, ContainerEntry, Source, SourceError};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// Bytes that are compared at once; no source is asked for more.
const PIECE_BYTES: u64 = 8 << 20;
/// Blobs that are compared at once.
const AT_ONCE: usize = 8;
/// Differences that are spelled out.
const SPELLED_OUT: usize = 20;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Blobs that are in both.
    pub(super) blobs: u64,
    /// Bytes of the blobs that are in both.
    pub(super) bytes: u64,
    /// What is not equal, in words; empty means that everything is.
    pub(super) differences: Vec<String>,
}

/// Compares everything in `expected` with everything in `found`.
///
/// # Errors
/// A source that cannot be read.
pub(super) async fn run(expected: Arc<dyn Source>, found: Arc<dyn Source>) -> Result<Comparison, SourceError> {
    let mut comparison = Comparison::default();
    let (wanted, there) = (expected.containers().await?, found.containers().await?);
    let names = |containers: &[ContainerEntry]| containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    if names(&wanted) != names(&there) {
        comparison.differences.push(format!("containers: expected {:?}, found {:?}", names(&wanted), names(&there)));
        return Ok(comparison);
    }
    for (wanted, there) in wanted.iter().zip(&there) {
        if wanted.metadata != there.metadata || wanted.public_access != there.public_access {
            comparison.differences.push(format!("container {}: its properties differ", wanted.name));
        }
        container(&expected, &found, &wanted.name, &mut comparison).await?;
    }
    comparison.differences.truncate(SPELLED_OUT);
    Ok(comparison)
}

async fn container(
    expected: &Arc<dyn Source>,
    found: &Arc<dyn Source>,
    name: &str,
    comparison: &mut Comparison,
) -> Result<(), SourceError> {
    let (wanted, there) = (entries(expected.as_ref(), name).await?, entries(found.as_ref(), name).await?);
    let mut rest = there.into_iter().peekable();
    let mut pairs = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        while let Some(surplus) = rest.next_if(|there| there.name < wanted.name) {
            comparison.differences.push(format!("{}: it should not be there", surplus.display_name()));
        }
        match rest.next_if(|there| there.name == wanted.name) {
            Some(there) => pairs.push((wanted, there)),
            None => comparison.differences.push(format!("{}: it is missing", wanted.display_name())),
        }
    }
    comparison.differences.extend(rest.map(|surplus| format!("{}: it should not be there", surplus.display_name())));
    let mut compared = stream::iter(pairs)
        .map(|(wanted, there)| async move {
            let difference = match properties(&wanted, &there) {
                Some(property) => Some(format!("its {property} differs")),
                None if content(expected.as_ref(), &wanted, found.as_ref(), &there).await? => None,
                None => Some("its bytes differ".to_owned()),
            };
            Ok::<_, SourceError>((wanted, difference))
        })
        .buffer_unordered(AT_ONCE);
    while let Some((entry, difference)) = compared.try_next().await? {
        comparison.blobs += 1;
        comparison.bytes += entry.size_bytes;
        comparison.differences.extend(difference.map(|what| format!("{}: {what}", entry.display_name())));
    }
    Ok(())
}

async fn entries(source: &dyn Source, container: &str) -> Result<Vec<BlobEntry>, SourceError> {
    let mut entries = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = source.list(container, "", cursor.as_deref()).await?;
        entries.extend(page.entries);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The first property in which two blobs differ. ETags and times belong to the account, not to the blob.
fn properties(wanted: &BlobEntry, there: &BlobEntry) -> Option<&'static str> {
    let pairs = [
        ("type", wanted.kind == there.kind),
        ("length", wanted.size_bytes == there.size_bytes),
        ("content headers", wanted.headers == there.headers),
        ("stored MD5", wanted.content_md5 == there.content_md5),
        ("metadata", wanted.metadata == there.metadata),
        ("index tags", wanted.tags == there.tags),
        ("tier", wanted.tier == there.tier),
    ];
    pairs.into_iter().find(|(_, is_equal)| !is_equal).map(|(name, _)| name)
}

async fn content(
    expected: &dyn Source,
    wanted: &BlobEntry,
    found: &dyn Source,
    there: &BlobEntry,
) -> Result<bool, SourceError> {
    let mut from = 0;
    while from < wanted.size_bytes {
        let to = (from + PIECE_BYTES).min(wanted.size_bytes);
        let (left, right) = futures::try_join!(expected.read(wanted, from..to), found.read(there, from..to))?;
        if left != right {
            return Ok(false);
        }
        from = to;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use blobkeep_emulator::{Emulator, EmulatorOptions, SeedBlob};
    use blobkeep_source::Connection;

    use super::*;

    async fn compare(emulator: &Emulator) -> Vec<String> {
        let open = |account: &str| {
            Connection::by_connection_string(&emulator.connection_string(account)).unwrap().open_source().unwrap()
        };
        run(open("left"), open("right")).await.unwrap().differences
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_byte_or_property_is_enough_to_differ() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = EmulatorOptions::with_accounts(&["left", "right"]);
        let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        let put = |account: &str, name: &str, blob: SeedBlob| emulator.put_blob(account, "con", name, blob).unwrap();
        // Without a stored MD5, so that only the bytes can tell.
        let blob = |content: &'static str| SeedBlob { with_md5: false, ..SeedBlob::new(content) };
        for account in ["left", "right"] {
            put(account, "a", blob("first"));
            put(account, "b", blob("second"));
        }
        assert_eq!(compare(&emulator).await, Vec::<String>::new());
        put("right", "b", blob("sEcond"));
        assert_eq!(compare(&emulator).await, ["con/b: its bytes differ"]);
        put("right", "b", SeedBlob { tags: [("t".to_owned(), "v".to_owned())].into(), ..blob("second") });
        assert_eq!(compare(&emulator).await, ["con/b: its index tags differs"]);
        emulator.delete_blob("right", "con", "a");
        put("right", "b", blob("second"));
        put("right", "c", blob("third"));
        assert_eq!(compare(&emulator).await, ["con/a: it is missing", "con/c: it should not be there"]);
        emulator.stop().await;
    }
}

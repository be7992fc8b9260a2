//! The sample account of the quickstart: some hundred blobs of every kind, about 100 MB, the same on every machine. Contents come from
//! seeds; nothing here depends on time or randomness.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blobkeep_emulator::{Emulator, SeedBlob, SeedKind};
use bytes::Bytes;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a story step did to the account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changes {
    /// Blobs with new content.
    pub(super) overwritten: u64,
    /// Blobs that were not there before.
    pub(super) added: u64,
    /// Blobs that are gone.
    pub(super) deleted: u64,
}

/// Fills several accounts with the same blobs; the bytes are held once. Returns how many blobs and bytes each has.
///
/// # Errors
/// An account that the emulator does not serve.
pub(super) fn fill(emulator: &Emulator, accounts: &[&str]) -> anyhow::Result<(u64, u64)> {
    let (mut blobs, mut bytes) = (0, 0);
    let mut put = |container: &str, name: String, blob: SeedBlob| -> anyhow::Result<()> {
        blobs += 1;
        bytes += blob.content.len() as u64;
        for account in accounts {
            emulator.put_blob(account, container, &name, blob.clone()).context("the sample cannot be made")?;
        }
        Ok(())
    };
    for number in 0..300_u64 {
        let name =
            format!("{}/{:03} {}.md", ["letters", "minutes", "plans"][number as usize % 3], number, title(number));
        put("documents", name, document(number))?;
    }
    for number in 0..120_u64 {
        put("photos", format!("{}/{:04}.jpg", 2021 + number % 5, number), photo(number))?;
    }
    for day in 1..=12_u64 {
        put("logs", format!("2026/05/{day:02}/service.log"), log(day))?;
    }
    put("disks", "database.bak".to_owned(), backup_file())?;
    put("disks", "boot.vhd".to_owned(), disk())?;
    Ok((blobs, bytes))
}

/// What a bad afternoon does to the account: edits, a changed megabyte, new files, and deletions.
///
/// # Errors
/// An account that the emulator does not serve.
pub(super) fn change(emulator: &Emulator, account: &str) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    let failed = "the sample cannot be changed";
    for name in emulator.blob_names(account, "documents").iter().step_by(60) {
        let blob = SeedBlob { metadata: metadata(&[("author", "nobody")]), ..SeedBlob::new("overwritten by mistake") };
        emulator.put_blob(account, "documents", name, blob).context(failed)?;
        changes.overwritten += 1;
    }
    let mut edited = backup_file();
    let mut content = edited.content.to_vec();
    let middle = content.len() / 2;
    content[middle..middle + MIB].copy_from_slice(&noise(MIB, "another megabyte"));
    edited.content = Bytes::from(content);
    emulator.put_blob(account, "disks", "database.bak", edited).context(failed)?;
    changes.overwritten += 1;
    for number in 1000..1003_u64 {
        emulator.put_blob(account, "photos", &format!("2026/{number}.jpg"), photo(number)).context(failed)?;
        changes.added += 1;
    }
    for name in emulator.blob_names(account, "photos").iter().filter(|name| name.starts_with("2022/")) {
        changes.deleted += u64::from(emulator.delete_blob(account, "photos", name));
    }
    changes.deleted += emulator.blob_names(account, "logs").len() as u64;
    emulator.delete_container(account, "logs");
    Ok(changes)
}

fn document(number: u64) -> SeedBlob {
    let length = 4 * KIB + (number as usize * 7919) % (32 * KIB);
    SeedBlob {
        content_type: Some("text/markdown; charset=utf-8".to_owned()),
        content_language: Some("en".to_owned()),
        metadata: metadata(&[
            ("author", ["ada", "grace", "alan"][number as usize % 3]),
            ("number", &number.to_string()),
        ]),
        tags: metadata(&[("department", ["legal", "sales"][number as usize % 2]), ("year", "2026")]),
        tier: number.is_multiple_of(10).then(|| "Cool".to_owned()),
        ..SeedBlob::new(prose(length, &format!("document {number}")))
    }
}

fn photo(number: u64) -> SeedBlob {
    let length = 200 * KIB + (number as usize * 104_729) % (400 * KIB);
    SeedBlob {
        content_type: Some("image/jpeg".to_owned()),
        cache_control: Some("max-age=86400".to_owned()),
        content_disposition: Some(format!("inline; filename=\"{number}.jpg\"")),
        metadata: metadata(&[("camera", "C-1000")]),
        ..SeedBlob::new(noise(length, &format!("photo {number}")))
    }
}

fn log(day: u64) -> SeedBlob {
    SeedBlob {
        kind: SeedKind::Append,
        content: Bytes::from(prose(MIB, &format!("log {day}"))),
        content_type: Some("text/plain".to_owned()),
        sealed: day < 6,
        ..SeedBlob::default()
    }
}

fn backup_file() -> SeedBlob {
    SeedBlob { metadata: metadata(&[("database", "orders")]), ..SeedBlob::new(noise(24 * MIB, "database")) }
}

/// A disk of 8 MiB, three quarters of which were never written.
fn disk() -> SeedBlob {
    let mut content = vec![0; 8 * MIB];
    content[..MIB].copy_from_slice(&noise(MIB, "boot sector"));
    content[5 * MIB..6 * MIB].copy_from_slice(&noise(MIB, "file system"));
    SeedBlob { kind: SeedKind::Page, content: Bytes::from(content), sequence_number: 7, ..SeedBlob::default() }
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn title(number: u64) -> &'static str {
    ["für alle", "draft", "100% final", "notes & ideas", "übersicht", "q#1"][number as usize % 6]
}

/// Bytes that don't compress.
fn noise(length: usize, seed: &str) -> Vec<u8> {
    let mut content = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut content);
    content
}

/// Bytes that compress like text.
fn prose(length: usize, seed: &str) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "backup ", "restore ", "the ", "point ", "of ", "a ", "vault ", "keeps ", "every ", "blob ", "and ", "its ",
        "name ", "until ", "then ", "done.\n",
    ];
    let mut content = Vec::with_capacity(length + 16);
    // One byte of noise chooses two words.
    let choices = noise(length / 2, seed);
    for choice in choices {
        content.extend_from_slice(WORDS[usize::from(choice & 15)].as_bytes());
        content.extend_from_slice(WORDS[usize::from(choice >> 4)].as_bytes());
        if content.len() >= length {
            break;
        }
    }
    content.truncate(length);
    content
}

#[cfg(test)]
mod tests {
    use blobkeep_emulator::EmulatorOptions;

    use super::*;

    #[tokio::test]
    async fn the_sample_is_some_hundred_blobs_and_about_a_hundred_megabytes() {
        let options = EmulatorOptions::with_accounts(&["one", "two"]);
        let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        let (blobs, bytes) = fill(&emulator, &["one", "two"]).unwrap();
        assert_eq!(blobs, 434);
        assert!((80 << 20..120 << 20).contains(&bytes), "{bytes} bytes");
        let name = &emulator.blob_names("one", "photos")[7];
        let (one, two) = (emulator.get_blob("one", "photos", name), emulator.get_blob("two", "photos", name));
        assert_eq!(one.unwrap().blob.content, two.unwrap().blob.content);
        let changes = change(&emulator, "one").unwrap();
        assert_eq!(changes, Changes { overwritten: 6, added: 3, deleted: 36 });
        assert_eq!(emulator.container_names("two").len(), 4, "the other account is as it was");
        emulator.stop().await;
    }
}

//! What a plain file cannot hold of a blob: headers, metadata, tags, tier and the like, as JSON files in the folder
//! `.blobkeep` of the container. It must never hold content, and must never be needed for reading a plain file.
//!
//! The properties of the blob in `a/b/file` lie in `.blobkeep/a.d/b.d/file.json`, those of the container in
//! `.blobkeep/container`. Names too long for their suffix are replaced by the MD5 of the name.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use blobkeep_vault::{BlobEntry, BlobKind, ContainerEntry, ContentHeaders, Timestamp};
use md5::{Digest, Md5};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::names::{PART_PREFIX, RESERVED};
use super::tree;

const CONTAINER_FILE: &str = "container";
const MAX_BYTES: u64 = 4 << 20;
const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// The stored form of a blob's properties. Members may be added; none changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Properties {
    version: u32,
    kind: String,
    #[serde(skip_serializing_if = "is_false")]
    sealed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_md5: Option<String>,
    /// Size of the content that the MD5 belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at_micros: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_at_micros: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_scope: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    legal_hold: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable_until_micros: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutability_mode: Option<String>,
}

/// The stored form of a container's properties.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerProperties {
    version: u32,
    metadata: Vec<(String, String)>,
    public_access: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Properties {
    /// What must be kept beside the file; `None` if the file alone says it all. The default content type, the MD5 of a
    /// blob that will be written in one piece again and the creation time are no reason of their own.
    pub(crate) fn of(entry: &BlobEntry, whole_limit_bytes: u64) -> Option<Self> {
        let headers = &entry.headers;
        let has_headers = headers.content_type.as_deref().is_some_and(|kind| kind != DEFAULT_CONTENT_TYPE)
            || headers.content_encoding.is_some()
            || headers.content_language.is_some()
            || headers.content_disposition.is_some()
            || headers.cache_control.is_some();
        let is_plain = entry.kind == BlobKind::Block
            && !has_headers
            && entry.metadata.is_empty()
            && entry.tags.is_empty()
            && entry.tier.is_none()
            && entry.encryption_scope.is_none()
            && entry.immutability == Default::default()
            && (entry.content_md5.is_none() || entry.size_bytes <= whole_limit_bytes);
        if is_plain {
            return None;
        }
        let (kind, sealed, sequence_number) = match entry.kind {
            BlobKind::Block => ("block", false, None),
            BlobKind::Append { sealed } => ("append", sealed, None),
            BlobKind::Page { sequence_number } => ("page", false, Some(sequence_number)),
        };
        Some(Self {
            version: 1,
            kind: kind.to_owned(),
            sealed,
            sequence_number,
            content_type: headers.content_type.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            content_disposition: headers.content_disposition.clone(),
            cache_control: headers.cache_control.clone(),
            content_md5: entry.content_md5.map(hex),
            size_bytes: Some(entry.size_bytes),
            metadata: entry.metadata.clone(),
            tags: entry.tags.clone(),
            tier: entry.tier.clone(),
            created_at_micros: Some(entry.created_at.0).filter(|&micros| micros != 0),
            modified_at_micros: Some(entry.modified_at.0),
            encryption_scope: entry.encryption_scope.clone(),
            legal_hold: entry.immutability.legal_hold,
            immutable_until_micros: entry.immutability.until.map(|until| until.0),
            immutability_mode: entry.immutability.mode.clone(),
        })
    }

    /// Puts the kept properties into an entry made from the file. The MD5 is dropped when the file was changed since.
    pub(crate) fn apply(self, entry: &mut BlobEntry) {
        let is_untouched =
            self.size_bytes == Some(entry.size_bytes) && self.modified_at_micros == Some(entry.modified_at.0);
        entry.kind = match self.kind.as_str() {
            "append" => BlobKind::Append { sealed: self.sealed },
            // A file that was edited to another length can no longer be a page blob.
            "page" if entry.size_bytes.is_multiple_of(512) => {
                BlobKind::Page { sequence_number: self.sequence_number.unwrap_or(0) }
            }
            _ => BlobKind::Block,
        };
        entry.headers = ContentHeaders {
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            content_language: self.content_language,
            content_disposition: self.content_disposition,
            cache_control: self.cache_control,
        };
        entry.content_md5 = self.content_md5.as_deref().filter(|_| is_untouched).and_then(unhex);
        entry.metadata = self.metadata;
        entry.tags = self.tags;
        entry.tier = self.tier;
        entry.encryption_scope = self.encryption_scope;
        entry.immutability.legal_hold = self.legal_hold;
        entry.immutability.until = self.immutable_until_micros.map(Timestamp);
        entry.immutability.mode = self.immutability_mode;
        if let Some(created) = self.created_at_micros {
            entry.created_at = Timestamp(created);
        }
    }
}

/// Opens the folder in which the sidecars of the files in `folders` lie, if there is one.
pub(crate) fn open_folder(container: BorrowedFd<'_>, folders: &[String]) -> Result<Option<OwnedFd>, Errno> {
    let Some(root) = tree::walk_down(container, &[RESERVED])? else { return Ok(None) };
    let names: Vec<String> = folders.iter().map(|folder| folder_name(folder)).collect();
    tree::walk_down(root.as_fd(), &names)
}

/// Opens the sidecar folder of one more folder below `parent`.
pub(crate) fn open_child(parent: BorrowedFd<'_>, folder: &str) -> Result<Option<OwnedFd>, Errno> {
    tree::walk_down(parent, &[folder_name(folder)])
}

/// The properties kept for the file `name`, with what shows that they changed.
pub(crate) fn read(folder: BorrowedFd<'_>, name: &str) -> Result<Option<(Properties, Stat)>, String> {
    let file_name = file_name(name);
    let Some((file, stat)) = tree::open_file(folder, &file_name).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let properties =
        serde_json::from_slice(&text).map_err(|error| format!("the file of its properties ({file_name}): {error}"))?;
    Ok(Some((properties, stat)))
}

/// Whether there are properties for the file `name`, without reading them.
pub(crate) fn stat(folder: BorrowedFd<'_>, name: &str) -> Result<Option<Stat>, Errno> {
    tree::stat(folder, &file_name(name))
}

/// Writes the properties of the file `name`, atomically; `part` is a name that nobody else uses.
pub(crate) fn write(
    container: BorrowedFd<'_>,
    folders: &[String],
    name: &str,
    properties: &Properties,
    part: &str,
) -> Result<(), Errno> {
    let mut here = tree::make_folder(container, RESERVED)?;
    for folder in folders {
        here = tree::make_folder(&here, &folder_name(folder))?;
    }
    write_json(here.as_fd(), &file_name(name), properties, part)
}

/// Removes what is kept for the file `name`, if anything is.
pub(crate) fn remove(container: BorrowedFd<'_>, folders: &[String], name: &str) -> Result<(), Errno> {
    let Some(folder) = open_folder(container, folders)? else { return Ok(()) };
    match rustix::fs::unlinkat(&folder, file_name(name), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Keeps what a folder cannot say about its container, if there is anything.
pub(crate) fn write_container(container: BorrowedFd<'_>, entry: &ContainerEntry, part: &str) -> Result<(), Errno> {
    if entry.metadata.is_empty() && entry.public_access.is_none() {
        return Ok(());
    }
    let kept = ContainerProperties {
        version: 1,
        metadata: entry.metadata.clone(),
        public_access: entry.public_access.clone(),
    };
    let folder = tree::make_folder(container, RESERVED)?;
    write_json(folder.as_fd(), CONTAINER_FILE, &kept, part)
}

/// Puts what is kept about a container into its entry.
pub(crate) fn apply_container(container: BorrowedFd<'_>, entry: &mut ContainerEntry) {
    let Ok(Some(folder)) = tree::walk_down(container, &[RESERVED]) else { return };
    let Ok(Some((file, _))) = tree::open_file(&folder, CONTAINER_FILE) else { return };
    let kept: Result<ContainerProperties, _> = serde_json::from_reader(file.take(MAX_BYTES));
    match kept {
        Ok(kept) => {
            entry.metadata = kept.metadata;
            entry.public_access = kept.public_access;
        }
        Err(error) => {
            tracing::warn!(container = entry.name, %error, "the kept properties of a container are unreadable: ignored");
        }
    }
}

fn write_json(folder: BorrowedFd<'_>, name: &str, value: &impl Serialize, part: &str) -> Result<(), Errno> {
    let text = serde_json::to_vec_pretty(value).map_err(|_| Errno::INVAL)?;
    debug_assert!(part.starts_with(PART_PREFIX));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, part, flags, Mode::from_raw_mode(0o666))?;
    let mut file = std::fs::File::from(fd);
    let written = file
        .write_all(&text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .and_then(|()| rustix::fs::renameat(folder, part, folder, name));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(folder, part, AtFlags::empty());
    }
    written
}

fn folder_name(folder: &str) -> String {
    suffixed(folder, ".d")
}

fn file_name(name: &str) -> String {
    suffixed(name, ".json")
}

fn suffixed(name: &str, suffix: &str) -> String {
    if name.len() + suffix.len() <= 255 {
        return format!("{name}{suffix}");
    }
    format!("{}.long{suffix}", hex(Md5::digest(name.as_bytes()).into()))
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> BlobEntry {
        BlobEntry { size_bytes: 512, modified_at: Timestamp(5), ..BlobEntry::default() }
    }

    #[test]
    fn a_plain_blob_needs_no_sidecar() {
        let mut plain = entry();
        plain.headers.content_type = Some("application/octet-stream".into());
        plain.content_md5 = Some([1; 16]);
        plain.created_at = Timestamp(3);
        assert_eq!(Properties::of(&plain, 1024), None);
        assert!(
            Properties::of(&plain, 100).is_some(),
            "the MD5 of a blob written in parts is not made again by itself"
        );
    }

    #[test]
    fn every_property_comes_back() {
        let mut rich = entry();
        rich.kind = BlobKind::Page { sequence_number: 7 };
        rich.headers.cache_control = Some("no-cache".into());
        rich.content_md5 = Some([0xab; 16]);
        rich.metadata = vec![("k".into(), "v".into())];
        rich.tags = vec![("t".into(), "1".into())];
        rich.tier = Some("P10".into());
        rich.created_at = Timestamp(2);
        rich.immutability.until = Some(Timestamp(9));
        let text = serde_json::to_string(&Properties::of(&rich, 1024).unwrap()).unwrap();
        let mut back = entry();
        serde_json::from_str::<Properties>(&text).unwrap().apply(&mut back);
        assert_eq!(back, rich);
    }

    #[test]
    fn an_edited_file_loses_its_md5_and_its_pages() {
        let mut page = entry();
        page.kind = BlobKind::Page { sequence_number: 1 };
        page.content_md5 = Some([1; 16]);
        let kept = Properties::of(&page, 1024).unwrap();
        let mut edited = entry();
        edited.size_bytes = 513;
        kept.apply(&mut edited);
        assert_eq!((edited.kind, edited.content_md5), (BlobKind::Block, None));
    }
}

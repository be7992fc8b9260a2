//! Request paths: decoded once, taken apart into the id at the front and what follows it.

use super::word::canonical_word;
use super::{Provided, ResourceId};

/// Longest path that is read, in bytes before decoding.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// Why a path or id cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("'{0}' does not begin with '/'")]
    NotAbsolute(String),
    /// Nobody writes paths of this length by hand or by program.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Two slashes in a row inside the path.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..`, plain or encoded.
    #[error("the path holds the relative segment '{0}'")]
    RelativeSegment(String),
    /// `%2F` or `%5C`: would change its meaning when decoded.
    #[error("the segment '{0}' holds an encoded slash")]
    EncodedSlash(String),
    /// A broken `%XX` sequence, bytes that are not UTF-8, or a control character.
    #[error("the segment '{0}' cannot be decoded")]
    BadEncoding(String),
    /// The words are not those of a resource id.
    #[error("'{0}' is not the id of a resource")]
    NotAnId(String),
}

/// A request path, decoded and taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPath {
    /// The decoded segments in order, as given.
    pub segments: Vec<String>,
    /// The longest id that the path begins with; the root if it is not about a resource at all.
    pub id: ResourceId,
    /// What follows the id: nothing (the resource itself), a collection (`["backupInstances"]`, or with its provider
    /// `["providers", "Microsoft.Storage", "storageAccounts"]`), or an action (`["validateForBackup"]`).
    pub rest: Vec<String>,
}

impl ParsedPath {
    /// Reads the raw path of a request (without the query).
    ///
    /// Repeated slashes at the front count as one (command lines that register an endpoint with a trailing slash send `//metadata`), one
    /// slash at the end is ignored.
    ///
    /// # Errors
    /// [`PathError`] for everything that could mean two things.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute(raw.to_owned()));
        }
        let inner = raw.trim_start_matches('/');
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let mut segments = Vec::new();
        if !inner.is_empty() {
            for segment in inner.split('/') {
                segments.push(decode_segment(segment)?);
            }
        }
        let (id, used) = read_id(&segments);
        let rest = segments[used..].to_vec();
        Ok(Self { segments, id, rest })
    }

    /// The path in decoded form, as given.
    pub fn decoded(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }
}

/// Decodes `%XX` once and refuses what would then mean something else.
fn decode_segment(segment: &str) -> Result<String, PathError> {
    if segment.is_empty() {
        return Err(PathError::EmptySegment);
    }
    let bad = || PathError::BadEncoding(segment.to_owned());
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let pair = bytes.get(at + 1..at + 3).ok_or_else(bad)?;
        let byte = hex_value(pair[0]).zip(hex_value(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
        if byte == b'/' || byte == b'\\' {
            return Err(PathError::EncodedSlash(segment.to_owned()));
        }
        decoded.push(byte);
        at += 3;
    }
    let text = String::from_utf8(decoded).map_err(|_| bad())?;
    if text == "." || text == ".." {
        return Err(PathError::RelativeSegment(text));
    }
    if text.chars().any(char::is_control) || text.contains('\\') {
        return Err(bad());
    }
    Ok(text)
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok())
}

/// The longest id at the front, and how many segments it takes.
fn read_id(segments: &[String]) -> (ResourceId, usize) {
    let mut id = ResourceId::root();
    let mut at = 0;
    if is_word(segments, at, "subscriptions") && at + 1 < segments.len() {
        id.subscription = Some(segments[at + 1].clone());
        at += 2;
        if is_word(segments, at, "resourceGroups") && at + 1 < segments.len() {
            id.resource_group = Some(segments[at + 1].clone());
            at += 2;
        }
    }
    while is_word(segments, at, "providers") && at + 3 < segments.len() {
        let mut provided = Provided { namespace: canonical_word(&segments[at + 1]), types: Vec::new() };
        at += 2;
        while at + 1 < segments.len() && !is_word(segments, at, "providers") {
            provided.types.push((canonical_word(&segments[at]), segments[at + 1].clone()));
            at += 2;
        }
        id.chain.push(provided);
    }
    (id, at)
}

fn is_word(segments: &[String], at: usize, word: &str) -> bool {
    segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word))
}

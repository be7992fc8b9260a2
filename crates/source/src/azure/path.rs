//! Names in request lines. A blob name must arrive as it is, whatever it contains; so paths are encoded here and sent raw,
//! never through a URL type that folds `.` and `..`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same with slashes left in place.
const ENCODED_NAME: &AsciiSet = &ENCODED.remove(b'/');

/// One query value or container name.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A blob name in a path.
///
/// Servers and proxies may fold segments of dots and runs of slashes, encoded dots too, but not what stands between encoded
/// slashes: names that have such segments go with `%2F` for every slash, which Azure decodes like any other character.
pub(crate) fn encode_blob(name: &str) -> String {
    let has_odd_segment = name.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    if !has_odd_segment {
        return utf8_percent_encode(name, ENCODED_NAME).to_string();
    }
    let encoded = encode(name);
    match encoded.as_str() {
        "." | ".." => encoded.replace('.', "%2E"),
        _ => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_so_that_they_arrive() {
        for (name, sent) in [
            ("a/b.txt", "a/b.txt"),
            ("a b+c%d#e?f", "a%20b%2Bc%25d%23e%3Ff"),
            ("tab\t", "tab%09"),
            ("ü☃", "%C3%BC%E2%98%83"),
            ("~-_.", "~-_."),
            ("a/../b", "a%2F..%2Fb"),
            ("/lead", "%2Flead"),
            ("a//b", "a%2F%2Fb"),
            ("trail/", "trail%2F"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("...", "..."),
        ] {
            assert_eq!(encode_blob(name), sent, "{name:?}");
        }
    }
}

//! How blob names become file names and back. It must lose nothing: `decode(encode(name)) == name` for every blob name.
//!
//! A blob name is cut at its slashes; each segment becomes one file name, unchanged wherever that is possible. What a
//! folder cannot hold is escaped:
//!
//! | blob name has | file name |
//! |---|---|
//! | a segment `.` or `..`, a first segment `.blobkeep`, a segment that starts with `.blobkeep-part-` | its first dot as `%2E` |
//! | an empty segment (leading, trailing or double slash) | `%-` |
//! | a NUL character | `%00` |
//! | a segment of more than 255 bytes | folders, each ending with `%+`, whose continuations start with `%+` |
//! | a blob `a` beside blobs `a/…` | the file `a%@` beside the folder `a` |
//! | a segment that would read as one of these escapes | every `%` in it as `%25` |
//!
//! So a file of a user that merely contains `%` keeps its name: only what reads back as an escape is one.

/// The folder at the root of a container that holds what a file cannot; never a blob.
pub(crate) const RESERVED: &str = ".blobkeep";
/// Unfinished files start with this; never a blob.
pub(crate) const PART_PREFIX: &str = ".blobkeep-part-";
/// Ends the file name of a blob whose own name is taken by a folder.
pub(crate) const BESIDE_FOLDER: &str = "%@";
const CONTINUES: &str = "%+";
const EMPTY: &str = "%-";
const MAX_BYTES: usize = 255;

/// The file names, from the container's folder down, under which the blob `name` is stored.
pub(crate) fn encode(name: &str) -> Vec<String> {
    if name == EMPTY {
        return vec![EMPTY.to_owned()];
    }
    let mut components = Vec::new();
    for (index, segment) in name.split('/').enumerate() {
        encode_segment(segment, index == 0, &mut components);
    }
    components
}

/// The blob `name` lies under its own name, cut at its slashes, if it lies in a folder at all: a quick test that may say no too often.
pub(crate) fn is_plain(name: &str) -> bool {
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.starts_with(RESERVED) && part.len() <= MAX_BYTES;
    !name.contains(['%', '\0']) && name.split('/').all(is_plain)
}

/// The blob name that the file names `components` stand for. What is no proper escape stands for itself.
pub(crate) fn decode<S: AsRef<str>>(components: &[S]) -> String {
    let parts: Vec<&str> = components.iter().map(AsRef::as_ref).collect();
    if parts == [EMPTY] {
        return EMPTY.to_owned();
    }
    let mut name = String::new();
    let mut at = 0;
    while at < parts.len() {
        if at > 0 {
            name.push('/');
        }
        let (segment, used) = decode_group(&parts[at..], at == 0);
        name.push_str(&segment);
        at += used;
    }
    name
}

/// What one file name sorts as among its neighbours: its decoded segment, with a slash for folders, because that is what
/// the names below it continue with.
pub(crate) fn sort_key(component: &str, is_folder: bool, is_first: bool) -> String {
    if !component.contains('%') {
        return if is_folder { format!("{component}/") } else { component.to_owned() };
    }
    let piece = component.strip_prefix(CONTINUES).unwrap_or(component);
    match (is_folder, piece.strip_suffix(CONTINUES)) {
        (true, Some(partial)) => partial.to_owned(),
        (true, None) => decode_segment(piece, is_first) + "/",
        (false, _) => decode_segment(piece.strip_suffix(BESIDE_FOLDER).unwrap_or(piece), is_first),
    }
}

fn decode_group(parts: &[&str], is_first: bool) -> (String, usize) {
    if parts[0].ends_with(CONTINUES) && !parts[0].starts_with(CONTINUES) {
        let mut joined = parts[0][..parts[0].len() - CONTINUES.len()].to_owned();
        for (index, part) in parts.iter().enumerate().skip(1) {
            let Some(piece) = part.strip_prefix(CONTINUES) else { break };
            if let Some(middle) = piece.strip_suffix(CONTINUES) {
                joined.push_str(middle);
                continue;
            }
            joined.push_str(piece);
            let segment = decode_segment(&joined, is_first);
            let mut again = Vec::new();
            encode_segment(&segment, is_first, &mut again);
            if again.iter().map(String::as_str).eq(parts[..=index].iter().copied()) {
                return (segment, index + 1);
            }
            break;
        }
    }
    (decode_segment(parts[0], is_first), 1)
}

fn decode_segment(stored: &str, is_first: bool) -> String {
    match unescape(stored) {
        Some(plain) if plain != stored && needs_escape(&plain, is_first) && escape(&plain) == stored => plain,
        _ => stored.to_owned(),
    }
}

fn encode_segment(segment: &str, is_first: bool, components: &mut Vec<String>) {
    let stored = if needs_escape(segment, is_first) { escape(segment) } else { segment.to_owned() };
    if stored.len() <= MAX_BYTES {
        components.push(stored);
        return;
    }
    let mut rest = stored.as_str();
    let mut lead = "";
    while lead.len() + rest.len() > MAX_BYTES {
        let cut = floor_char_boundary(rest, MAX_BYTES - lead.len() - CONTINUES.len());
        components.push(format!("{lead}{}{CONTINUES}", &rest[..cut]));
        rest = &rest[cut..];
        lead = CONTINUES;
    }
    components.push(format!("{lead}{rest}"));
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

fn needs_escape(segment: &str, is_first: bool) -> bool {
    if matches!(segment, "" | "." | ".." | EMPTY)
        || (is_first && segment == RESERVED)
        || segment.starts_with(PART_PREFIX)
        || segment.contains('\0')
    {
        return true;
    }
    if !segment.contains('%') {
        return false;
    }
    if segment.ends_with(BESIDE_FOLDER) || segment.ends_with(CONTINUES) || segment.starts_with(CONTINUES) {
        return true;
    }
    // A name that would read back as another name.
    decode_segment(segment, is_first) != segment
}

fn escape(segment: &str) -> String {
    if segment.is_empty() {
        return EMPTY.to_owned();
    }
    let mut stored = String::with_capacity(segment.len() + 8);
    let hide_dot = matches!(segment, "." | "..") || segment.starts_with(RESERVED);
    for (index, character) in segment.chars().enumerate() {
        match character {
            '%' => stored.push_str("%25"),
            '\0' => stored.push_str("%00"),
            '.' if index == 0 && hide_dot => stored.push_str("%2E"),
            other => stored.push(other),
        }
    }
    stored
}

fn unescape(stored: &str) -> Option<String> {
    if stored == EMPTY {
        return Some(String::new());
    }
    let mut plain = String::with_capacity(stored.len());
    let mut rest = stored;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        plain.push(match rest.get(at..at + 3)? {
            "%25" => '%',
            "%00" => '\0',
            "%2E" => '.',
            _ => return None,
        });
        rest = &rest[at + 3..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in
            ["a", "a/b.txt", "100%.txt", "a%2Fb", "50%25", "x\ty", "späß/☃", ".hidden", "a/.blobkeep", "%zz", "%"]
        {
            assert_eq!(encode(name).join("/"), name);
            assert_eq!(decode(&encode(name)), name);
        }
    }

    #[test]
    fn what_a_folder_cannot_hold_is_escaped() {
        let cases = [
            (".", vec!["%2E"]),
            ("..", vec!["%2E."]),
            ("a/../b", vec!["a", "%2E.", "b"]),
            ("/a", vec!["%-", "a"]),
            ("a//b", vec!["a", "%-", "b"]),
            ("a/", vec!["a", "%-"]),
            (".blobkeep", vec!["%2Eblobkeep"]),
            (".blobkeep/x", vec!["%2Eblobkeep", "x"]),
            ("x/.blobkeep-part-1", vec!["x", "%2Eblobkeep-part-1"]),
            ("a\0b", vec!["a%00b"]),
            ("%2E", vec!["%252E"]),
            ("%252E", vec!["%25252E"]),
            ("x%@", vec!["x%25@"]),
        ];
        for (name, stored) in cases {
            assert_eq!(encode(name), stored, "{name:?}");
            assert_eq!(decode(&stored), name, "{stored:?}");
        }
    }

    #[test]
    fn long_segments_become_chained_folders() {
        for name in ["x".repeat(1024), "ü".repeat(1024), "%2E".repeat(300), format!("a/{}/b", "y".repeat(256))] {
            let stored = encode(&name);
            assert!(stored.len() > 1);
            assert!(stored.iter().all(|component| component.len() <= 255 && !component.contains('/')));
            assert_eq!(decode(&stored), name);
        }
        assert_eq!(encode(&"x".repeat(255)), ["x".repeat(255)]);
    }

    #[test]
    fn keys_sort_folders_after_dots() {
        assert!(sort_key("a.txt", false, true) < sort_key("a", true, true));
        assert!(sort_key("a", false, true) < sort_key("a", true, true));
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "([a%.+@/\\-205E\u{0}ü]|\\.blobkeep|%2E|%25|x{130}|%\\+|%@|%-){1,12}") {
            let stored = encode(&name);
            for component in &stored {
                prop_assert!(!component.is_empty() && component.len() <= 255);
                prop_assert!(component != "." && component != "..");
                prop_assert!(!component.contains('\0') && !component.contains('/'));
                prop_assert!(!component.starts_with(PART_PREFIX));
            }
            prop_assert!(stored[0] != RESERVED);
            prop_assert_eq!(decode(&stored), name);
        }

        #[test]
        fn different_names_never_share_a_file(a in "[%2E5./+@-]{1,7}", b in "[%2E5./+@-]{1,7}") {
            prop_assume!(a != b);
            prop_assert_ne!(encode(&a), encode(&b));
        }
    }
}

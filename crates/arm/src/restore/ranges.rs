//! What of an account a restore in place may name: at most ten ranges of names (or containers, or prefixes), none of them empty, turned round or
//! overlapping another. The limit is that of Azure's point-in-time restore.

use super::{ContainerSelection, NameRange};
use crate::error::{ApiError, ErrorCode};

/// Ranges, or containers, of one restore in place.
const MOST: usize = 10;

fn refuse(range: &NameRange, reason: &str) -> ApiError {
    let (from, to) = (range.min.as_deref().unwrap_or_default(), range.max.as_deref().unwrap_or_default());
    ApiError::of(ErrorCode::UserErrorInvalidRestorePrefixRange, &[("from", from), ("to", to), ("reason", reason)])
}

/// A place in the account: container, and the beginning of a blob's name.
fn place(value: &str) -> (&str, &str) {
    value.split_once('/').unwrap_or((value, ""))
}

/// Where a range ends: clients write a whole container as `c` … `c-0`, which does not reach into a container `c-0`, nor into `c-`.
fn end(range: &NameRange) -> Option<(String, String)> {
    let max = range.max.as_deref()?;
    let min = range.min.as_deref().unwrap_or_default();
    let is_container = !min.is_empty() && !min.contains('/') && max.strip_suffix("-0") == Some(min);
    let (container, name) =
        if is_container { (format!("{min}\0"), "") } else { (place(max).0.to_owned(), place(max).1) };
    Some((container, name.to_owned()))
}

/// The ranges that criteria name, each by its minimum and its maximum.
///
/// # Errors
/// `UserErrorTooManyRestoreCriteriaGivenForBlobRestore`, or `UserErrorInvalidRestorePrefixRange` naming the range.
pub(super) fn of<'a>(
    pairs: impl ExactSizeIterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> Result<Vec<NameRange>, ApiError> {
    check_count(ErrorCode::UserErrorTooManyRestoreCriteriaGivenForBlobRestore, pairs.len())?;
    let named = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    let mut ranges = Vec::with_capacity(pairs.len());
    for (min, max) in pairs {
        let range = NameRange { min: named(min), max: named(max) };
        check(&range)?;
        ranges.push(range);
    }
    check_apart(&ranges)?;
    Ok(ranges)
}

fn check_count(code: ErrorCode, count: usize) -> Result<(), ApiError> {
    if count <= MOST {
        return Ok(());
    }
    Err(ApiError::of(code, &[("count", &count.to_string()), ("limit", &MOST.to_string())]))
}

fn check(range: &NameRange) -> Result<(), ApiError> {
    let min = range.min.as_deref().unwrap_or_default();
    let is_system = |name: &Option<String>| name.as_deref().is_some_and(|name| name.starts_with('$'));
    if is_system(&range.min) || is_system(&range.max) {
        return Err(refuse(range, "system containers cannot be restored in place"));
    }
    if range.max.as_deref().is_some_and(|max| place(max) <= place(min)) {
        return Err(refuse(range, "its end is not greater than its start"));
    }
    Ok(())
}

fn check_apart(ranges: &[NameRange]) -> Result<(), ApiError> {
    fn start(range: &NameRange) -> (&str, &str) {
        place(range.min.as_deref().unwrap_or_default())
    }
    let mut sorted: Vec<&NameRange> = ranges.iter().collect();
    sorted.sort_by(|one, other| start(one).cmp(&start(other)));
    for pair in sorted.windows(2) {
        let (before, range) = (pair[0], pair[1]);
        let (container, name) = start(range);
        if end(before).is_none_or(|end| (container.to_owned(), name.to_owned()) < end) {
            let (from, to) = (before.min.as_deref().unwrap_or_default(), before.max.as_deref().unwrap_or_default());
            return Err(refuse(range, &format!("it overlaps the range from '{from}' to '{to}'")));
        }
    }
    Ok(())
}

/// The same limits for containers, which are ranges too: one for each prefix.
///
/// # Errors
/// `UserErrorTooManyRestoreCriteriaGivenForBlobRestore` or `UserErrorTooManyPrefixesGivenForBlobRestore`.
pub(super) fn check_containers(containers: &[ContainerSelection]) -> Result<(), ApiError> {
    check_count(ErrorCode::UserErrorTooManyRestoreCriteriaGivenForBlobRestore, containers.len())?;
    let prefixes = containers.iter().map(|container| container.prefixes.len().max(1)).sum();
    check_count(ErrorCode::UserErrorTooManyPrefixesGivenForBlobRestore, prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<NameRange>, ApiError> {
        of(pairs.iter().map(|(min, max)| (Some(*min), Some(*max))))
    }

    #[test]
    fn ranges_are_compared_by_container_and_then_by_name() {
        // By the bytes of the whole text, "abc-1" would come before "abc/x".
        read(&[("abc/x", "abc-1")]).unwrap();
        read(&[("abc", "abc-0"), ("abc-0", "abc-0-0"), ("abc-1/a", "abc-1/b"), ("abc-1/b", "abc-1/c")]).unwrap();
        read(&[("", "")]).unwrap();
        read(&[("", "b"), ("b", "")]).unwrap();
    }

    #[test]
    fn ranges_that_are_empty_turned_round_or_overlapping_are_refused() {
        for (pairs, reason) in [
            (&[("abc/b", "abc/b")][..], "not greater"),
            (&[("abc/b", "abc/a")], "not greater"),
            (&[("b", "a")], "not greater"),
            (&[("abc/a", "abc/m"), ("abc/l", "abc/z")], "it overlaps the range from 'abc/a' to 'abc/m'"),
            (&[("abc/l", "abc/z"), ("abc/a", "abc/m")], "it overlaps the range from 'abc/a' to 'abc/m'"),
            (&[("abc", "abc-0"), ("abc", "abc-0")], "it overlaps"),
            (&[("", ""), ("abc", "abc-0")], "it overlaps"),
            (&[("$web", "$web-0")], "system containers"),
        ] {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.code, ErrorCode::UserErrorInvalidRestorePrefixRange, "{pairs:?}");
            assert!(error.message.contains(reason), "{pairs:?}: {}", error.message);
        }
    }

    #[test]
    fn ten_ranges_are_the_most() {
        let names: Vec<(String, String)> = (0..11).map(|n| (format!("c/{n:02}a"), format!("c/{n:02}b"))).collect();
        let pairs = |count: usize| names.iter().take(count).map(|(min, max)| (Some(min.as_str()), Some(max.as_str())));
        assert_eq!(of(pairs(10)).unwrap().len(), 10);
        let error = of(pairs(11)).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorTooManyRestoreCriteriaGivenForBlobRestore);
        assert!(error.message.contains("11 restore criteria were given; at most 10"), "{}", error.message);
    }

    #[test]
    fn containers_and_their_prefixes_count_alike() {
        let container = |prefixes: usize| ContainerSelection {
            container: "abc".to_owned(),
            prefixes: (0..prefixes).map(|n| n.to_string()).collect(),
            rename_to: None,
        };
        check_containers(&[container(5), container(4), container(0)]).unwrap();
        let error = check_containers(&[container(5), container(5), container(0)]).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorTooManyPrefixesGivenForBlobRestore);
        let error = check_containers(&vec![container(0); 11]).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorTooManyRestoreCriteriaGivenForBlobRestore);
    }
}

//! Which names are meant: patterns over blob names, and the parts of a manifest that can hold such names. Names are compared as they
//! are: nothing is folded or decoded here.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::EntryKey;

/// Names of blobs, within a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pattern {
    /// This one name.
    Exact(String),
    /// Names that start so.
    Prefix(String),
    /// Names that hold this text somewhere.
    Contains(String),
    /// Names that a glob fits as a whole.
    Glob(Glob),
}

impl Pattern {
    /// A glob; see [`Glob`] for its signs.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] as for [`Glob::parse`].
    pub fn glob(text: &str) -> Result<Self> {
        Ok(Self::Glob(Glob::parse(text)?))
    }

    /// The name fits.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Contains(part) => name.contains(part),
            Self::Glob(glob) => glob.matches(name),
        }
    }

    /// The part of a container that holds every name that fits.
    pub(crate) fn span(&self, container: &str) -> Span {
        let prefix = match self {
            Self::Exact(text) | Self::Prefix(text) => text.clone(),
            Self::Contains(_) => String::new(),
            Self::Glob(glob) => glob.literal_prefix(),
        };
        Span { container: container.to_owned(), prefix, is_exact: matches!(self, Self::Exact(_)) }
    }
}

/// A pattern, in every container or in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopedPattern {
    /// Only in this container; `None` is all of them.
    pub container: Option<String>,
    /// Names in it.
    pub pattern: Pattern,
}

impl ScopedPattern {
    /// Reads `GLOB`, or `/CONTAINER/GLOB` for one container. A name that starts with a slash is written `\/…`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] saying what to write.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(scoped) = text.strip_prefix('/') else {
            return Ok(Self { container: None, pattern: Pattern::glob(text)? });
        };
        match scoped.split_once('/') {
            Some((container, glob)) if !container.is_empty() && !glob.is_empty() => {
                Ok(Self { container: Some(container.to_owned()), pattern: Pattern::glob(glob)? })
            }
            _ => Err(Error::Invalid(format!(
                "{text:?} names no blobs: write GLOB, or /CONTAINER/GLOB for one container"
            ))),
        }
    }

    /// Blobs of this container can fit.
    pub fn touches(&self, container: &str) -> bool {
        self.container.as_ref().is_none_or(|only| only == container)
    }

    /// The blob fits.
    pub fn matches(&self, container: &str, name: &str) -> bool {
        self.touches(container) && self.pattern.matches(name)
    }
}

/// A glob over blob names: `*` stands for any characters but `/`, `?` for one character but `/`, `**` for any characters, and `**/` at the
/// beginning of a folder for any number of folders, also none. `\` takes a sign as it is. Everything else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// This character.
    One(char),
    /// A character but `/`.
    Any,
    /// Any number of characters but `/`.
    Run,
    /// Any number of characters.
    Deep,
    /// Before [`Token::Folders`], which it can leave out together with itself.
    MaybeFolders,
    /// Any number of characters, the last of which is `/`.
    Folders,
}

/// A longer glob is refused: no name has more characters than 1,024.
const GLOB_BYTES: usize = 4096;

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for an empty or overlong text, and for a `\` with nothing after it.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::Invalid("an empty pattern fits no name: write `**` for all".into()));
        }
        if text.len() > GLOB_BYTES {
            return Err(Error::Invalid(format!("a pattern has {} bytes: {GLOB_BYTES} are the most", text.len())));
        }
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(sign) = rest.next() {
            match sign {
                '\\' => match rest.next() {
                    Some(literal) => tokens.push(Token::One(literal)),
                    None => {
                        return Err(Error::Invalid(format!("{text:?} ends in `\\`: write `\\\\` for the sign itself")));
                    }
                },
                '?' => tokens.push(Token::Any),
                '*' if rest.next_if_eq(&'*').is_none() => tokens.push(Token::Run),
                '*' => {
                    let starts_folder = matches!(tokens.last(), None | Some(Token::One('/') | Token::Folders));
                    if starts_folder && rest.next_if_eq(&'/').is_some() {
                        tokens.extend([Token::MaybeFolders, Token::Folders]);
                    } else {
                        tokens.push(Token::Deep);
                    }
                }
                literal => tokens.push(Token::One(literal)),
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// What every name that fits starts with.
    fn literal_prefix(&self) -> String {
        self.tokens
            .iter()
            .map_while(|token| if let Token::One(literal) = token { Some(literal) } else { None })
            .collect()
    }

    /// The name fits as a whole. Takes at most the product of the lengths: all ways to fit are followed at once.
    pub fn matches(&self, name: &str) -> bool {
        let mut at = vec![false; self.tokens.len() + 1];
        at[0] = true;
        self.skip_empty(&mut at);
        for character in name.chars() {
            let mut next = vec![false; at.len()];
            for (position, token) in self.tokens.iter().enumerate().filter(|(position, _)| at[*position]) {
                match token {
                    Token::One(literal) => next[position + 1] |= *literal == character,
                    Token::Any => next[position + 1] |= character != '/',
                    Token::Run => next[position] |= character != '/',
                    Token::Deep => next[position] = true,
                    Token::MaybeFolders => {}
                    Token::Folders => {
                        next[position] = true;
                        next[position + 1] |= character == '/';
                    }
                }
            }
            if !next.contains(&true) {
                return false;
            }
            self.skip_empty(&mut next);
            at = next;
        }
        at[self.tokens.len()]
    }

    /// Marks the places that can be reached without a character; they always lie further on.
    fn skip_empty(&self, at: &mut [bool]) {
        for (position, token) in self.tokens.iter().enumerate() {
            if !at[position] {
                continue;
            }
            match token {
                Token::Run | Token::Deep => at[position + 1] = true,
                Token::MaybeFolders => {
                    at[position + 1] = true;
                    at[position + 2] = true;
                }
                Token::One(_) | Token::Any | Token::Folders => {}
            }
        }
    }
}

impl TryFrom<String> for Glob {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.text
    }
}

/// A part of a manifest: the names of one container that start alike, or one name. Such a part is one run of entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) container: String,
    pub(crate) prefix: String,
    /// Only the name that the prefix is. Sorts after the span of all names that start so.
    pub(crate) is_exact: bool,
}

impl Span {
    /// A whole container, its own entry included.
    pub(crate) fn container(name: &str) -> Self {
        Self { container: name.to_owned(), prefix: String::new(), is_exact: false }
    }

    /// The key at which it starts.
    pub(crate) fn start(&self) -> EntryKey<'_> {
        EntryKey { container: &self.container, name: &self.prefix, is_current: false, version: "" }
    }

    /// It holds this key.
    pub(crate) fn holds(&self, key: EntryKey<'_>) -> bool {
        let name_fits = if self.is_exact { key.name == self.prefix } else { key.name.starts_with(&self.prefix) };
        key.container == self.container && name_fits
    }

    /// Every key it holds comes before this one.
    pub(crate) fn ends_before(&self, key: EntryKey<'_>) -> bool {
        key >= self.start() && !self.holds(key)
    }

    fn covers(&self, other: &Self) -> bool {
        !self.is_exact && self.container == other.container && other.prefix.starts_with(&self.prefix)
    }

    /// What both hold.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        if self.covers(other) || self == other { Some(other.clone()) } else { other.covers(self).then(|| self.clone()) }
    }
}

/// The same parts in key order, without those that another one covers.
pub(crate) fn disjoint(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans.into_iter().collect();
    sorted.sort_unstable();
    let mut kept: Vec<Span> = Vec::new();
    for span in sorted {
        if !kept.last().is_some_and(|last| last.covers(&span) || *last == span) {
            kept.push(span);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(glob: &str, name: &str) -> bool {
        Pattern::glob(glob).unwrap().matches(name)
    }

    #[test]
    fn a_glob_fits_whole_names_and_a_star_stays_in_its_folder() {
        for (glob, name) in [
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbc"),
            ("a?c", "aüc"),
            ("2024/*/raw", "2024/05/raw"),
            ("**", "a/b/c"),
            ("2024**", "2024-old/x/y"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("a/**/**/b", "a/x/b"),
            ("**.log", "deep/down/a.log"),
            (r"100\*", "100*"),
            (r"a\\b", r"a\b"),
            ("[x]", "[x]"),
        ] {
            assert!(fits(glob, name), "{glob} must fit {name:?}");
        }
        for (glob, name) in [
            ("*", "a/b"),
            ("?", "/"),
            ("?", ""),
            ("a*c", "abd"),
            ("A", "a"),
            ("a", "ab"),
            ("*.log", "a/b.log"),
            ("**/x", "ax"),
            ("a/**/b", "a/xb"),
            ("a/**/b", "ab"),
            (r"100\*", "1000"),
        ] {
            assert!(!fits(glob, name), "{glob} must not fit {name:?}");
        }
    }

    #[test]
    fn a_glob_that_could_fit_in_very_many_ways_is_decided_at_once() {
        assert!(!fits(&format!("{}b", "**a".repeat(40)), &"a".repeat(1_000)));
    }

    #[test]
    fn globs_that_cannot_be_meant_are_refused_with_advice() {
        for (glob, advice) in [("", "`**`"), ("a\\", "`\\\\`")] {
            let error = Pattern::glob(glob).unwrap_err();
            assert!(error.to_string().contains(advice), "{glob}: {error}");
        }
        for text in ["/", "/photos", "/photos/", "//x"] {
            assert!(ScopedPattern::parse(text).unwrap_err().to_string().contains("/CONTAINER/GLOB"), "{text}");
        }
    }

    #[test]
    fn a_pattern_of_one_container_fits_nowhere_else() {
        let scoped = ScopedPattern::parse("/photos/2024/*").unwrap();
        assert!(scoped.matches("photos", "2024/a") && !scoped.matches("logs", "2024/a"));
        assert!(ScopedPattern::parse("2024/*").unwrap().matches("logs", "2024/a"));
        assert!(ScopedPattern::parse(r"\/odd").unwrap().matches("logs", "/odd"));
    }

    #[test]
    fn the_literal_beginning_of_a_glob_is_where_a_walk_starts() {
        let prefix = |glob: &str| Pattern::glob(glob).unwrap().span("c").prefix;
        assert_eq!(prefix("2024/05/*.jpg"), "2024/05/");
        assert_eq!(prefix(r"a\*b?"), "a*b");
        assert_eq!(prefix("**/x"), "");
        assert_eq!(prefix("whole"), "whole");
    }

    #[test]
    fn spans_are_walked_once_and_in_order() {
        let span = |prefix: &str, is_exact| Span { container: "c".into(), prefix: prefix.into(), is_exact };
        let spans = [span("b", true), span("a/x", false), span("a", false), span("b", true), span("ba", false)];
        assert_eq!(disjoint(spans), [span("a", false), span("b", true), span("ba", false)]);
        assert_eq!(disjoint([span("b", true), span("b", false)]), [span("b", false)]);
        assert_eq!(span("a", false).intersection(&span("ab", true)), Some(span("ab", true)));
        assert_eq!(span("ab", false).intersection(&span("a", false)), Some(span("ab", false)));
        assert_eq!(span("a", true).intersection(&span("ab", false)), None);
    }

    #[test]
    fn patterns_survive_being_stored() {
        for pattern in [Pattern::Exact("a".into()), Pattern::Contains("b".into()), Pattern::glob("**/x").unwrap()] {
            let text = serde_json::to_string(&pattern).unwrap();
            assert_eq!(serde_json::from_str::<Pattern>(&text).unwrap(), pattern, "{text}");
        }
        assert!(serde_json::from_str::<Pattern>(r#"{"glob":""}"#).is_err());
    }
}

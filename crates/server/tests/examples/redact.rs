//! What differs from run to run, replaced by what it is.

use serde_json::Value;
use uuid::Uuid;

/// Members whose whole value differs.
const MEMBERS: &[(&str, &str)] = &[("blobSasKey", "{signed}"), ("excelFileBlobSasKey", "{signed}"), ("eTag", "{etag}")];
/// An operation's id is two GUIDs and what is between them, in base64.
const OPERATION_LETTERS: usize = 98;
/// Instants from here on are those of the run; earlier ones are the test's own.
const FIRST_YEAR: &str = "2026";

/// Knows the run.
pub(crate) struct Redactor<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) subscription: &'a str,
}

impl Redactor<'_> {
    /// A value with all its texts redacted.
    pub(crate) fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.value(value)).collect(),
            Value::Object(members) => {
                let redacted = members.iter().map(|(name, value)| {
                    let whole = MEMBERS.iter().find(|(known, _)| known == name).map(|(_, word)| Value::from(*word));
                    (name.clone(), whole.unwrap_or_else(|| self.value(value)))
                });
                Value::Object(redacted.collect())
            }
            _ => value.clone(),
        }
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let text = text.replace(self.endpoint, "{service}").replace(self.subscription, "{subscription}");
        let (mut redacted, mut rest) = (String::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            let found = [("{guid}", guid(rest)), ("{operation}", operation(rest)), ("{time}", instant(rest))];
            let found = found.into_iter().find_map(|(word, length)| Some((word, length?)));
            let (word, length) = found.unwrap_or((&rest[..first.len_utf8()], first.len_utf8()));
            redacted.push_str(word);
            rest = &rest[length..];
        }
        redacted
    }
}

/// The length of the GUID that a text begins with.
fn guid(text: &str) -> Option<usize> {
    let length = 36;
    text.get(..length).filter(|id| Uuid::try_parse(id).is_ok()).map(|_| length)
}

/// The length of the operation's id that a text begins with.
fn operation(text: &str) -> Option<usize> {
    let letters = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    (letters == OPERATION_LETTERS && text[letters..].starts_with("==")).then_some(letters + 2)
}

/// The length of the instant of this run that a text begins with.
fn instant(text: &str) -> Option<usize> {
    let length = "2026-01-01T00:00:00".len();
    let begin = text.get(..length)?;
    let has_form = begin
        .bytes()
        .zip("0000-00-00T00:00:00".bytes())
        .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form });
    let fraction =
        text[length..].bytes().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'Z')).count();
    (has_form && begin >= FIRST_YEAR).then_some(length + fraction)
}

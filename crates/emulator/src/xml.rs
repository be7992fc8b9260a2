//! Reading and writing the small XML documents of the Blob service. Writing is by hand into one string, because a listing of
//! 5,000 names must cost a few milliseconds.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::error::AzureError;

/// The first line of every document that Azure sends, with its byte order mark.
pub(crate) const PROLOG: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>";

/// What stays as it is in an encoded name.
const NAME_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Whether XML 1.0 can't hold a character, not even escaped.
fn is_illegal(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// Appends text; what XML can't hold is left out.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b'&' | b'<' | b'>' | b'"' | 0..=0x1f | 0xef)) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader turns a plain carriage return into a line feed.
            '\r' => out.push_str("&#xD;"),
            c if is_illegal(c) => {}
            c => out.push(c),
        }
    }
}

/// Appends an element with text, or an empty one.
pub(crate) fn push_element(out: &mut String, name: &str, text: &str) {
    if text.is_empty() {
        out.push('<');
        out.push_str(name);
        out.push_str(" />");
        return;
    }
    out.push('<');
    out.push_str(name);
    out.push('>');
    push_escaped(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Appends an element whose text is a blob's name: percent-encoded and marked so if XML can't hold it
/// (List Blobs, "Blob name encoding", since version 2021-02-12).
pub(crate) fn push_name(out: &mut String, element: &str, name: &str) {
    if !name.chars().any(is_illegal) {
        push_element(out, element, name);
        return;
    }
    let encoded = utf8_percent_encode(name, NAME_SET);
    let _ = write!(out, "<{element} Encoded=\"true\">{encoded}</{element}>");
}

/// An element without child elements: its name, its parent's name, its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// All elements of a document that have no child elements, in order.
pub(crate) fn leaves(document: &[u8]) -> Result<Vec<Leaf>, AzureError> {
    let text = std::str::from_utf8(document).map_err(AzureError::invalid_xml)?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<String> = Vec::new();
    let mut leaves = Vec::new();
    let mut text = String::new();
    let mut childless = false;
    loop {
        match reader.read_event().map_err(AzureError::invalid_xml)? {
            Event::Start(start) => {
                open.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                text.clear();
                childless = true;
            }
            Event::Empty(empty) => {
                let name = String::from_utf8_lossy(empty.local_name().as_ref()).into_owned();
                leaves.push(Leaf { parent: open.last().cloned().unwrap_or_default(), name, text: String::new() });
                childless = false;
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(AzureError::invalid_xml)?),
            Event::CData(part) => text.push_str(&part.decode().map_err(AzureError::invalid_xml)?),
            Event::GeneralRef(reference) => push_reference(&mut text, &reference)?,
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                if childless {
                    let parent = open.last().cloned().unwrap_or_default();
                    leaves.push(Leaf { parent, name, text: std::mem::take(&mut text) });
                }
                childless = false;
            }
            Event::Eof if open.is_empty() => return Ok(leaves),
            Event::Eof => return Err(AzureError::invalid_xml("the document ends too early")),
            _ => {}
        }
    }
}

fn push_reference(text: &mut String, reference: &quick_xml::events::BytesRef<'_>) -> Result<(), AzureError> {
    if let Some(c) = reference.resolve_char_ref().map_err(AzureError::invalid_xml)? {
        text.push(c);
        return Ok(());
    }
    let name = reference.decode().map_err(AzureError::invalid_xml)?;
    let known = quick_xml::escape::resolve_predefined_entity(&name)
        .ok_or_else(|| AzureError::invalid_xml(format!("unknown entity {name}")))?;
    text.push_str(known);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_reads_back() {
        let text = "a<b>&\"c\" d\r\né";
        let mut document = String::from("<R>");
        push_element(&mut document, "V", text);
        document.push_str("<E /></R>");
        let leaves = leaves(document.as_bytes()).unwrap();
        assert_eq!(leaves[0], Leaf { parent: "R".to_owned(), name: "V".to_owned(), text: text.to_owned() });
        assert_eq!((leaves[1].name.as_str(), leaves[1].text.as_str()), ("E", ""));
    }

    #[test]
    fn a_name_that_xml_can_not_hold_is_encoded_whole() {
        let mut out = String::new();
        push_name(&mut out, "Name", "a/b c\u{1}%\u{ffff}");
        assert_eq!(out, "<Name Encoded=\"true\">a/b%20c%01%25%EF%BF%BF</Name>");
        out.clear();
        push_name(&mut out, "Name", "tab\tand é");
        assert_eq!(out, "<Name>tab\tand é</Name>");
    }

    #[test]
    fn a_document_that_is_cut_is_refused() {
        assert_eq!(leaves(b"<BlockList><Latest>AAAA</Latest>").unwrap_err().code, "InvalidXmlDocument");
        assert_eq!(leaves(b"<A></B>").unwrap_err().code, "InvalidXmlDocument");
    }
}

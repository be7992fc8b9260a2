//! Index tags of one blob, as the calls for them alone have them ("Get Blob Tags", "Set Blob Tags").

use super::xml::{Step, escape, walk, without_bom};

/// Reads the answer to Get Blob Tags.
///
/// # Errors
/// What is wrong with the document.
pub(crate) fn parse_tags(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let (mut tags, mut key, mut is_list) = (Vec::new(), String::new(), false);
    walk(without_bom(body), |step| {
        match step {
            Step::Leaf { path: [_, _, _, name], text, .. } if name == b"Key" => text.clone_into(&mut key),
            Step::Leaf { path: [_, _, _, name], text, .. } if name == b"Value" => {
                tags.push((std::mem::take(&mut key), text.to_owned()));
            }
            Step::End { path: [root] } => is_list = root == b"Tags",
            _ => {}
        }
        Ok(())
    })?;
    tags.sort();
    if is_list { Ok(tags) } else { Err("it is no list of tags".to_owned()) }
}

/// The body of Set Blob Tags.
pub(crate) fn tags_body(tags: &[(String, String)]) -> String {
    let one = |(key, value): &(String, String)| {
        format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(key), escape(value))
    };
    let all: String = tags.iter().map(one).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Tags><TagSet>{all}</TagSet></Tags>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_both_ways() {
        let tags = vec![("a & b".to_owned(), "<1>".to_owned()), ("z".to_owned(), String::new())];
        assert_eq!(parse_tags(tags_body(&tags).as_bytes()).unwrap(), tags);
        assert_eq!(parse_tags(tags_body(&[]).as_bytes()).unwrap(), []);
        assert!(parse_tags(b"<Error><Code>x</Code></Error>").is_err() && parse_tags(b"<Tags>").is_err());
    }
}

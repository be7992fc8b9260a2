//! A request, taken apart: account, container and blob from the raw path, each decoded once; the query; the headers. The raw
//! path is kept, because signatures cover it as it was sent.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::error::AzureError;

/// The name of the container whose blobs may be addressed without it.
pub(crate) const ROOT_CONTAINER: &str = "$root";

/// The decoded query: names in lower case, in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(pub(crate) Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Query {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).to_lowercase();
            // A signature is base64 and often sent with its plus signs bare.
            let value = if name == "sig" { decode(value).replace(' ', "+") } else { decode(value) };
            (name, value)
        });
        Query(pairs.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) raw_path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) account: String,
    pub(crate) container: Option<String>,
    pub(crate) blob: Option<String>,
    pub(crate) peer: IpAddr,
}

impl Request {
    pub(crate) fn parse(parts: &http::request::Parts, peer: IpAddr) -> Result<Request, AzureError> {
        let raw_path = parts.uri.path().to_owned();
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let (account, container, blob) = split_path(&raw_path, &query)?;
        Ok(Request {
            method: parts.method.clone(),
            raw_path,
            query,
            headers: parts.headers.clone(),
            account,
            container,
            blob,
            peer,
        })
    }

    /// A header's value; none if it is not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// A header's value, none if it is empty.
    pub(crate) fn filled_header(&self, name: &str) -> Option<&str> {
        self.header(name).filter(|value| !value.is_empty())
    }

    /// A query parameter's value.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }

    /// A number in a header.
    pub(crate) fn number_header(&self, name: &str) -> Result<Option<u64>, AzureError> {
        self.filled_header(name)
            .map(|value| value.trim().parse().map_err(|_| AzureError::invalid_header(name, value)))
            .transpose()
    }
}

/// Path and query for the record, without the signature.
pub(crate) fn redacted_target(uri: &http::Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let pairs: Vec<&str> = query
        .split('&')
        .map(|pair| if pair.len() >= 4 && pair[..4].eq_ignore_ascii_case("sig=") { "sig=REDACTED" } else { pair })
        .collect();
    format!("{}?{}", uri.path(), pairs.join("&"))
}

/// Decodes percent signs once.
pub(crate) fn decode_segment(raw: &str) -> Result<String, AzureError> {
    percent_decode_str(raw)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| AzureError::bad_request("InvalidUri", "The requested URI does not represent any resource."))
}

type Place = (String, Option<String>, Option<String>);

/// Account, container and blob of a path.
pub(crate) fn split_path(raw_path: &str, query: &Query) -> Result<Place, AzureError> {
    let mut segments = raw_path.strip_prefix('/').unwrap_or(raw_path).splitn(3, '/');
    let account = decode_segment(segments.next().unwrap_or(""))?;
    let container = segments.next().filter(|segment| !segment.is_empty()).map(decode_segment).transpose()?;
    let blob = segments.next().filter(|segment| !segment.is_empty()).map(decode_segment).transpose()?;
    // One segment that is not spoken of as a container is a blob of the root container.
    match (container, blob) {
        (Some(name), None) if query.get("restype").is_none() => {
            Ok((account, Some(ROOT_CONTAINER.to_owned()), Some(name)))
        }
        (container, blob) => Ok((account, container, blob)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str, query: &str) -> (String, String, String) {
        let (account, container, blob) = split_path(path, &Query::parse(query)).unwrap();
        (account, container.unwrap_or_default(), blob.unwrap_or_default())
    }

    fn place(account: &str, container: &str, blob: &str) -> (String, String, String) {
        (account.to_owned(), container.to_owned(), blob.to_owned())
    }

    #[test]
    fn a_blob_name_is_all_that_follows_and_is_decoded_once() {
        assert_eq!(split("/a/c//x/../%2525", ""), place("a", "c", "/x/../%25"));
        assert_eq!(split("/a/c/b%2Fd%5C+", ""), place("a", "c", "b/d\\+"));
        assert_eq!(split("/a", "comp=list"), place("a", "", ""));
        assert_eq!(split("/a/", "comp=list"), place("a", "", ""));
        assert_eq!(split("/a/c", "restype=container"), place("a", "c", ""));
        assert_eq!(split("/a/index.html", ""), place("a", "$root", "index.html"));
    }

    #[test]
    fn a_path_that_is_not_utf8_is_refused() {
        assert_eq!(split_path("/a/c/%ff", &Query::default()).unwrap_err().code, "InvalidUri");
    }

    #[test]
    fn the_query_is_decoded_and_its_names_fold_their_case() {
        let query = Query::parse("Comp=list&prefix=a%20b+c&sig=a+b%2F%3D&flag");
        assert_eq!(query.get("comp"), Some("list"));
        assert_eq!(query.get("prefix"), Some("a b c"));
        assert_eq!(query.get("sig"), Some("a+b/="));
        assert_eq!(query.get("flag"), Some(""));
    }

    #[test]
    fn a_signature_is_never_recorded() {
        let uri: http::Uri = "/a/c?sv=1&sig=secret%3D&sp=r".parse().unwrap();
        assert_eq!(redacted_target(&uri), "/a/c?sv=1&sig=REDACTED&sp=r");
    }
}

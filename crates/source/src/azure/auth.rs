//! Secrets of an account and the signature made with them. Nothing here may ever be printed.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
};
use zeroize::Zeroizing;

/// A text that is wiped after use and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// By what right requests are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Credential {
    /// The account's key: everything.
    AccountKey {
        /// The account's name.
        account: String,
        /// The key, in base64 as Azure shows it.
        key: Secret,
    },
    /// A shared access signature: the query string without its question mark.
    Sas(Secret),
    /// None: containers that are public.
    Anonymous,
}

/// Signs requests with an account key (SharedKey, version 2015-02-21 and later).
pub(crate) struct Signer {
    account: String,
    key: hmac::Key,
}

impl Signer {
    /// `None` if the key is no base64.
    pub(crate) fn new(account: &str, key: &Secret) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(key.reveal().trim()).ok()?);
        Some(Self { account: account.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// The value of `Authorization`. `path` is the encoded path of the request line, which for path-style endpoints
    /// starts with the account once more; `query` holds decoded pairs.
    pub(crate) fn authorization(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        headers: &HeaderMap,
    ) -> Vec<u8> {
        let text = self.string_to_sign(method, path, query, headers);
        let signature = STANDARD.encode(hmac::sign(&self.key, &text));
        format!("SharedKey {}:{signature}", self.account).into_bytes()
    }

    fn string_to_sign(&self, method: &str, path: &str, query: &[(&str, String)], headers: &HeaderMap) -> Vec<u8> {
        let mut text = method.as_bytes().to_vec();
        let content_md5 = HeaderName::from_static("content-md5");
        for name in [
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
            CONTENT_LENGTH,
            content_md5,
            CONTENT_TYPE,
            DATE,
            IF_MODIFIED_SINCE,
            IF_MATCH,
            IF_NONE_MATCH,
            IF_UNMODIFIED_SINCE,
            RANGE,
        ] {
            text.push(b'\n');
            let value = headers.get(&name).map(|value| value.as_bytes()).unwrap_or_default();
            // Zero counts as no length.
            if !(name == CONTENT_LENGTH && value == b"0") {
                text.extend_from_slice(value);
            }
        }
        let mut own: Vec<(&str, &[u8])> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        own.sort_unstable();
        text.push(b'\n');
        for (name, value) in own {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value.trim_ascii());
            text.push(b'\n');
        }
        text.extend_from_slice(format!("/{}{path}", self.account).as_bytes());
        let mut pairs: Vec<(String, &str)> =
            query.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
        pairs.sort_unstable();
        for (name, value) in pairs {
            text.extend_from_slice(format!("\n{name}:{value}").as_bytes());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_documented_example_is_signed_as_documented() {
        // "Authorize with Shared Key", example of Get Container Metadata.
        let signer = Signer::new("myaccount", &Secret::new("AAAA")).unwrap();
        let sent = headers(&[("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"), ("x-ms-version", "2015-02-21")]);
        let query =
            [("comp", "metadata".to_owned()), ("restype", "container".to_owned()), ("timeout", "20".to_owned())];
        let text = signer.string_to_sign("GET", "/mycontainer", &query, &sent);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_length_of_zero_is_left_out_and_others_are_not() {
        let signer = Signer::new("a", &Secret::new("AAAA")).unwrap();
        let text = |length: &str| {
            let sent = headers(&[("content-length", length), ("x-ms-blob-type", "BlockBlob")]);
            String::from_utf8(signer.string_to_sign("PUT", "/a/c/b", &[], &sent)).unwrap()
        };
        assert!(text("0").starts_with("PUT\n\n\n\n\n"));
        assert!(text("11").starts_with("PUT\n\n\n11\n\n"));
        assert!(text("0").ends_with("x-ms-blob-type:BlockBlob\n/a/a/c/b"));
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_that_text() {
        // Computed with Python's `hmac` over the text of a List Containers request to the well-known account.
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        let signer = Signer::new("devstoreaccount1", &Secret::new(key)).unwrap();
        let sent = headers(&[("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"), ("x-ms-version", "2021-12-02")]);
        let value = signer.authorization("GET", "/devstoreaccount1/", &[("comp", "list".to_owned())], &sent);
        assert_eq!(
            String::from_utf8(value).unwrap(),
            "SharedKey devstoreaccount1:0jjBWc4D7pv/kYtzcpyMqbX/Wgl5EAdwzqdww0Q4V4w="
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let credential = Credential::AccountKey { account: "a".into(), key: Secret::new("c2VjcmV0") };
        assert!(!format!("{credential:?}").contains("c2VjcmV0"));
        assert!(!format!("{:?}", Credential::Sas(Secret::new("sig=abc"))).contains("abc"));
    }
}

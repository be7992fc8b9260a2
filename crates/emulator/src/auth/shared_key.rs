//! SharedKey authorization of the Blob service ("Authorize with Shared Key"). The path has the account in it, so the
//! canonicalized resource names it twice: `/account/account/container/blob`.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::clock;
use crate::error::AzureError;
use crate::model::SigningKey;
use crate::request::{Query, Request};

/// Verifies the `Authorization` header of a request.
pub(crate) fn verify(
    key: &SigningKey,
    request: &Request,
    authorization: &str,
    now_us: i64,
    max_age_seconds: Option<i64>,
) -> Result<(), AzureError> {
    let Some((account, signature)) = authorization.strip_prefix("SharedKey ").and_then(|rest| rest.split_once(':'))
    else {
        return Err(AzureError::authentication_failed("Only the SharedKey scheme is served."));
    };
    if account != request.account {
        return Err(AzureError::authentication_failed("The key is of another account."));
    }
    let Some(date) = request.filled_header("x-ms-date").or_else(|| request.filled_header("date")) else {
        return Err(AzureError::authentication_failed("The request has no date."));
    };
    let Some(date_seconds) = clock::parse_http_date(date) else {
        return Err(AzureError::authentication_failed("The date is not an RFC 1123 date."));
    };
    let age_seconds = now_us.div_euclid(1_000_000) - date_seconds;
    if max_age_seconds.is_some_and(|most| age_seconds.abs() > most) {
        return Err(AzureError::authentication_failed("Request date header too old."));
    }
    let text = string_to_sign(request.method.as_str(), &request.headers, account, &request.raw_path, &request.query);
    if !key.verify_base64(&text, signature.trim()) {
        return Err(AzureError::authentication_failed(&format!(
            "The MAC signature found in the HTTP request is not the same as any computed signature. Server used \
             following string to sign: '{text}'."
        )));
    }
    Ok(())
}

/// The text that a SharedKey signature covers.
pub(crate) fn string_to_sign(
    method: &str,
    headers: &HeaderMap,
    account: &str,
    raw_path: &str,
    query: &Query,
) -> String {
    let header =
        |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or("");
    // Since version 2015-02-21 an empty body has an empty length here.
    let old = !header("x-ms-version").is_empty() && header("x-ms-version") < "2015-02-21";
    let length = if header("content-length") == "0" && !old { "" } else { header("content-length") };
    let date = if header("x-ms-date").is_empty() { header("date") } else { "" };
    let mut lines = [
        method,
        header("content-encoding"),
        header("content-language"),
        length,
        header("content-md5"),
        header("content-type"),
        date,
        header("if-modified-since"),
        header("if-match"),
        header("if-none-match"),
        header("if-unmodified-since"),
        header("range"),
    ]
    .join("\n");
    lines.push('\n');
    lines.push_str(&canonicalized_headers(headers));
    lines.push_str(&canonicalized_resource(account, raw_path, query));
    lines
}

fn canonicalized_headers(headers: &HeaderMap) -> String {
    let mut sorted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        if name.as_str().starts_with("x-ms-") {
            let value = std::str::from_utf8(value.as_bytes()).unwrap_or("");
            sorted.entry(name.as_str()).or_default().push(value.trim());
        }
    }
    sorted.iter().map(|(name, values)| format!("{name}:{}\n", values.join(","))).collect()
}

fn canonicalized_resource(account: &str, raw_path: &str, query: &Query) -> String {
    let mut sorted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &query.0 {
        sorted.entry(name).or_default().push(value);
    }
    let mut resource = format!("/{account}{raw_path}");
    for (name, mut values) in sorted {
        values.sort_unstable();
        resource.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DEVELOPMENT_KEY;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_example_of_the_reference_is_signed_as_printed_there() {
        let headers = headers(&[("x-ms-version", "2015-02-21"), ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT")]);
        let query = Query::parse("comp=metadata&restype=container&timeout=20");
        let text = string_to_sign("GET", &headers, "myaccount", "/mycontainer", &query);
        assert_eq!(
            text,
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_known_request_has_the_signature_that_was_computed_elsewhere() {
        let headers = headers(&[
            ("content-length", "11"),
            ("content-type", "text/plain"),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"),
            ("x-ms-version", "2021-12-02"),
        ]);
        let path = "/devstoreaccount1/c/a%20b";
        let text = string_to_sign("PUT", &headers, "devstoreaccount1", path, &Query::default());
        let key = SigningKey::from_base64(DEVELOPMENT_KEY).unwrap();
        // Computed with the hmac module of Python.
        assert_eq!(key.sign_base64(&text), "H25w+APZRWQJ0hrdt13+y0XMnn/8AXTysONbeVQzf3U=");
        assert!(key.verify_base64(&text, "H25w+APZRWQJ0hrdt13+y0XMnn/8AXTysONbeVQzf3U="));
        assert!(!key.verify_base64(&text, "AAAA"));
    }
}

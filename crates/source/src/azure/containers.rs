//! Containers: what there is to know of one, and making one where another is still going.

use blobkeep_vault::{ContainerEntry, SourceError, SourceErrorKind};
use http::Method;

use super::http_client::Request;
use super::{AzureAccount, clock, fault, xml};

const DELETION_TRIES: u32 = 6;

impl AzureAccount {
    pub(super) async fn container_properties(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        let what = format!("look at container {name}");
        let request = Request::new(Method::GET, Some(name), None).query("restype", "container");
        let response = self.inner.http.expect(&what, &request, &[200, 404]).await?;
        if response.status.as_u16() == 404 {
            return Ok(None);
        }
        let flag = |header: &str| response.header(header) == Some("true");
        let mut metadata: Vec<(String, String)> = response
            .headers
            .iter()
            .filter_map(|(header, value)| {
                let name = header.as_str().strip_prefix("x-ms-meta-")?;
                Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            })
            .collect();
        metadata.sort();
        Ok(Some(ContainerEntry {
            name: name.to_owned(),
            etag: response.header("etag").map(xml::plain_etag).unwrap_or_default(),
            modified_at: response.header("last-modified").and_then(clock::parse_http_date).unwrap_or_default(),
            metadata,
            public_access: response.header("x-ms-blob-public-access").map(str::to_owned),
            has_legal_hold: flag("x-ms-has-legal-hold"),
            has_immutability_policy: flag("x-ms-has-immutability-policy"),
        }))
    }

    /// Whether a container holds nothing; `None` if there is none.
    pub(super) async fn is_empty(&self, name: &str) -> Result<Option<bool>, SourceError> {
        match self.first_entry(name, "").await {
            Ok(first) => Ok(Some(first.is_none())),
            Err(error) if error.kind == SourceErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a container; `false` if it is there already.
    pub(super) async fn make_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        let name = &container.name;
        let what = format!("make container {name}");
        let mut with_access = container.public_access.as_deref();
        let mut deletion_waits = 0;
        loop {
            let mut request = Request::new(Method::PUT, Some(name), None).query("restype", "container");
            for (key, value) in &container.metadata {
                if !request.try_header(&format!("x-ms-meta-{key}"), value) {
                    tracing::warn!(container = name, key, "metadata that the protocol cannot carry is left out");
                }
            }
            if let Some(access) = with_access {
                request.try_header("x-ms-blob-public-access", access);
            }
            let response = self.inner.http.send(&what, &request).await?;
            let code = fault::code_of(&response);
            match (response.status.as_u16(), code.as_str()) {
                (201, _) => return Ok(true),
                (409, "ContainerAlreadyExists") => {
                    // Our own first try may have made it before its answer was lost.
                    return Ok(response.tries > 1 && self.is_empty(name).await? == Some(true));
                }
                (409, "ContainerBeingDeleted") if deletion_waits < DELETION_TRIES => {
                    deletion_waits += 1;
                    tracing::info!(container = name, "a container of that name is being deleted: waiting");
                    tokio::time::sleep(self.inner.http.deletion_delay()).await;
                }
                (409, "PublicAccessNotPermitted") if with_access.is_some() => {
                    tracing::warn!(
                        container = name,
                        "the account allows no public access: the container is made private"
                    );
                    with_access = None;
                }
                _ => return Err(fault::error_of(&what, self.inner.http.shown(), &response)),
            }
        }
    }
}

/// Azure's rules for container names: 3 to 63 lower-case letters, digits and single hyphens, or one of the `$` names.
pub(super) fn is_container_name(name: &str) -> bool {
    if matches!(name, "$root" | "$web") {
        return true;
    }
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::is_container_name;

    #[test]
    fn container_names_follow_the_rules_of_azure() {
        for good in ["abc", "a-b-c", "123", "$web", "$root"] {
            assert!(is_container_name(good), "{good}");
        }
        for bad in ["", "ab", "Abc", "a--b", "-abc", "abc-", "a_bc", "$other", "My Photos", &"x".repeat(64)] {
            assert!(!is_container_name(bad), "{bad}");
        }
    }
}

//! How an account is addressed and with what right: connection strings, account URLs, container URLs. It must not connect.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use blobkeep_vault::{SourceError, SourceErrorKind};
use http::Uri;
use percent_encoding::percent_decode_str;

use super::address::AddressPolicy;
use super::auth::{Credential, Secret};

const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
/// The key of every development account, published by Microsoft; it opens emulators only.
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Where an account answers: `https://account.blob.core.windows.net` or `http://127.0.0.1:10000/account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https` rather than `http`.
    pub is_https: bool,
    /// Host and, if it is not the scheme's own, port.
    pub authority: String,
    /// The account's name.
    pub account: String,
    /// Empty, or `/account` where the account is part of the path.
    pub base_path: String,
}

impl Endpoint {
    /// The host, without port and brackets.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// The account is named in the path, as emulators have it, and not by the host, as Azure has it.
    pub fn is_path_style(&self) -> bool {
        !self.base_path.is_empty()
    }

    /// What arrives is what was sent: by TLS, or because it never leaves the machine.
    pub fn keeps_bytes(&self) -> bool {
        let host = self.host();
        self.is_https || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The address as text, without a secret.
    pub fn url(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.base_path)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// All that an [`super::AzureAccount`] needs to know.
#[derive(Debug, Clone)]
pub struct AzureOptions {
    /// Where the account answers.
    pub endpoint: Endpoint,
    /// By what right.
    pub credential: Credential,
    /// The only container that may be touched, for a container URL.
    pub container: Option<String>,
    /// Which addresses may be connected to.
    pub allowed: AddressPolicy,
    /// Further certificate authorities, PEM, beside those of the system.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Listings tell which version each blob is, where the account keeps versions. They then have a row for every version that is kept, so
    /// they take longer; it happens by itself once a change feed was found ([`blobkeep_vault::Source::feed`]).
    pub tells_versions: bool,
    /// Requests in flight at most.
    pub most_in_flight: usize,
    /// How often a request is tried in all.
    pub most_tries: u32,
    /// The first pause between tries; each further one is three times longer.
    pub first_delay: Duration,
    /// The longest pause between tries, whatever the endpoint asks for.
    pub longest_delay: Duration,
    /// How long one try may take.
    pub try_timeout: Duration,
}

impl AzureOptions {
    /// Options with the usual limits.
    pub fn new(endpoint: Endpoint, credential: Credential) -> Self {
        Self {
            endpoint,
            credential,
            container: None,
            allowed: AddressPolicy::default(),
            extra_ca_pem: None,
            tells_versions: false,
            most_in_flight: 16,
            most_tries: 8,
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(40),
            try_timeout: Duration::from_secs(180),
        }
    }

    /// From a connection string, as Azure and Azurite show it.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] naming the part that is wrong or missing.
    pub fn from_connection_string(text: &str) -> Result<Self, SourceError> {
        let mut parts: Vec<(String, &str)> = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| refused("a part of the connection string has no '='"))?;
            parts.push((name.trim().to_ascii_lowercase(), value.trim()));
        }
        let get = |name: &str| {
            parts.iter().find(|(found, _)| found == name).map(|(_, value)| *value).filter(|v| !v.is_empty())
        };
        if get("usedevelopmentstorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            if get("developmentstorageproxyuri").is_some() {
                return Err(refused("DevelopmentStorageProxyUri is not supported: give BlobEndpoint instead"));
            }
            let (endpoint, _, _) = parse_url(&format!("http://127.0.0.1:10000/{DEVELOPMENT_ACCOUNT}"))?;
            let key = Secret::new(DEVELOPMENT_KEY);
            return Ok(Self::new(endpoint, Credential::AccountKey { account: DEVELOPMENT_ACCOUNT.to_owned(), key }));
        }
        let endpoint = match (get("blobendpoint"), get("accountname")) {
            (Some(url), name) => parse_account_url(url, name)?,
            (None, Some(name)) => {
                let suffix = get("endpointsuffix").unwrap_or("core.windows.net");
                let protocol = get("defaultendpointsprotocol").unwrap_or("https");
                parse_account_url(&format!("{protocol}://{name}.blob.{suffix}"), Some(name))?
            }
            (None, None) => return Err(refused("the connection string has neither AccountName nor BlobEndpoint")),
        };
        let credential = match (get("accountkey"), get("sharedaccesssignature")) {
            (Some(key), _) => Credential::AccountKey { account: endpoint.account.clone(), key: Secret::new(key) },
            (None, Some(sas)) => Credential::Sas(Secret::new(sas.trim_start_matches('?'))),
            (None, None) => {
                return Err(refused("the connection string has neither AccountKey nor SharedAccessSignature"));
            }
        };
        Ok(Self::new(endpoint, credential))
    }

    /// From the URL of a whole account and the account's key. `account` is its name, where the URL does not tell it: behind a
    /// host name of one's own.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] saying what is wrong with the URL.
    pub fn of_account_by_key(url: &str, account: Option<&str>, key: Secret) -> Result<Self, SourceError> {
        let endpoint = parse_account_url(url, account)?;
        let account = endpoint.account.clone();
        Ok(Self::new(endpoint, Credential::AccountKey { account, key }))
    }

    /// From the URL of a whole account and a shared access signature.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] saying what is wrong with the URL.
    pub fn of_account_by_sas(url: &str, sas: &Secret) -> Result<Self, SourceError> {
        let sas = Secret::new(sas.reveal().trim_start_matches('?'));
        Ok(Self::new(parse_account_url(url, None)?, Credential::Sas(sas)))
    }

    /// From the URL of an account (or of one container) and a key or a SAS; a SAS may also be part of the URL.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] saying what is wrong with the URL.
    pub fn from_url(url: &str, key: Option<Secret>, sas: Option<Secret>) -> Result<Self, SourceError> {
        let (endpoint, container, query) = parse_url(url)?;
        let credential = match (key, sas, query) {
            (Some(key), _, _) => Credential::AccountKey { account: endpoint.account.clone(), key },
            (None, Some(sas), _) => Credential::Sas(Secret::new(sas.reveal().trim_start_matches('?'))),
            (None, None, Some(query)) => Credential::Sas(Secret::new(query)),
            (None, None, None) => Credential::Anonymous,
        };
        Ok(Self { container, ..Self::new(endpoint, credential) })
    }
}

/// A URL taken apart, before it is decided what its path means.
struct Parts {
    is_https: bool,
    authority: String,
    segments: Vec<String>,
    query: Option<String>,
}

/// Says that the URL cannot be used. It may carry a SAS or a password: it is shown without them.
fn wrong_url(url: &str, why: &str) -> SourceError {
    let shown = url.split('?').next().unwrap_or_default();
    let shown = shown.rsplit_once('@').map_or(shown, |(_, rest)| rest);
    refused(format!("{shown} is no address of a storage account or container: {why}"))
}

fn take_apart(url: &str) -> Result<Parts, SourceError> {
    let wrong = |why: &str| wrong_url(url, why);
    let parsed: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    let is_https = match parsed.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong("it must start with https:// or http://")),
    };
    let authority =
        parsed.authority().map(|authority| authority.as_str().to_owned()).ok_or_else(|| wrong("no host"))?;
    if authority.contains('@') {
        return Err(wrong("user names in it are not supported"));
    }
    let segments = parsed.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let query = parsed.query().filter(|query| !query.is_empty()).map(str::to_owned);
    Ok(Parts { is_https, authority, segments, query })
}

/// The host cannot name an account, so the path must.
fn is_path_style(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || !host.contains('.')
}

/// The account that a host name begins with.
fn account_of_host(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default();
    label.trim_end_matches("-secondary").to_owned()
}

/// Reads the URL of a whole account: `https://account.blob.core.windows.net`, `http://127.0.0.1:10000/account`, or any host name
/// with or without the account in the path. `name` is the account's name, where it was said beside the URL.
pub(crate) fn parse_account_url(url: &str, name: Option<&str>) -> Result<Endpoint, SourceError> {
    let Parts { is_https, authority, segments, .. } = take_apart(url)?;
    let host = host_of(&authority);
    let name = name.filter(|name| !name.is_empty());
    let (account, base_path) = match segments.as_slice() {
        [] => match name {
            Some(name) => (name.to_owned(), String::new()),
            None if is_path_style(host) => {
                return Err(wrong_url(url, "the account's name is missing after the host"));
            }
            None => (account_of_host(host), String::new()),
        },
        [account] if !is_azure_host(host) => {
            if let Some(name) = name.filter(|name| name != account) {
                return Err(wrong_url(
                    url,
                    &format!("it is of the account {account}, but the account's name is {name}"),
                ));
            }
            (account.clone(), format!("/{account}"))
        }
        _ => return Err(wrong_url(url, "it names more than an account: give that of the account alone")),
    };
    Ok(Endpoint { is_https, authority, account, base_path })
}

/// Splits the URL of an account or container into endpoint, container and query.
pub(crate) fn parse_url(url: &str) -> Result<(Endpoint, Option<String>, Option<String>), SourceError> {
    let Parts { is_https, authority, segments, query } = take_apart(url)?;
    let wrong = |why: &str| wrong_url(url, why);
    let host = host_of(&authority);
    let (account, container) = match (is_path_style(host), segments.as_slice()) {
        (true, []) => return Err(wrong("the account's name is missing after the host")),
        (true, [account]) => (Some(account), None),
        (is_path_style, [account, container]) if is_path_style || !is_azure_host(host) => {
            (Some(account), Some(container))
        }
        (false, []) => (None, None),
        (false, [container]) => (None, Some(container)),
        _ => return Err(wrong("it goes deeper than a container")),
    };
    let (account, base_path) = match account {
        Some(account) => (account.clone(), format!("/{account}")),
        None => (account_of_host(host), String::new()),
    };
    let container = container.map(|name| percent_decode_str(name.as_str()).decode_utf8_lossy().into_owned());
    Ok((Endpoint { is_https, authority, account, base_path }, container, query))
}

fn host_of(authority: &str) -> &str {
    if let Some(inner) = authority.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

fn is_azure_host(host: &str) -> bool {
    host.contains(".blob.")
}

fn refused(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> (String, String, Option<String>) {
        let (endpoint, container, _) = parse_url(url).unwrap();
        (endpoint.account.clone(), endpoint.url(), container)
    }

    #[test]
    fn urls_of_both_styles_are_understood() {
        let cases = [
            ("https://acc.blob.core.windows.net", "acc", "https://acc.blob.core.windows.net", None),
            ("https://acc.blob.core.windows.net/", "acc", "https://acc.blob.core.windows.net", None),
            (
                "https://acc.blob.core.windows.net/photos?sv=1&sig=x",
                "acc",
                "https://acc.blob.core.windows.net",
                Some("photos"),
            ),
            (
                "https://acc-secondary.blob.core.windows.net/%24web",
                "acc",
                "https://acc-secondary.blob.core.windows.net",
                Some("$web"),
            ),
            ("http://127.0.0.1:10000/dev", "dev", "http://127.0.0.1:10000/dev", None),
            ("http://127.0.0.1:10000/dev/photos", "dev", "http://127.0.0.1:10000/dev", Some("photos")),
            ("http://[::1]:10000/dev/photos", "dev", "http://[::1]:10000/dev", Some("photos")),
            ("http://azurite:10000/dev/photos", "dev", "http://azurite:10000/dev", Some("photos")),
            (
                "https://storage.example.org:10000/dev/photos",
                "dev",
                "https://storage.example.org:10000/dev",
                Some("photos"),
            ),
        ];
        for (url, account, base, container) in cases {
            assert_eq!(endpoint(url), (account.into(), base.into(), container.map(str::to_owned)), "{url}");
        }
        for bad in [
            "ftp://x/y",
            "http://127.0.0.1:10000",
            "https://acc.blob.core.windows.net/c/blob",
            "http://1.2.3.4/a/b/c",
            "not a url",
            "http://user:pw@1.2.3.4/a",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        let message = parse_url("https://acc.blob.core.windows.net/c/blob?sig=hidden").unwrap_err().message;
        assert!(!message.contains("hidden"), "{message}");
    }

    #[test]
    fn connection_strings_are_understood() {
        let key = AzureOptions::from_connection_string(
            "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;EndpointSuffix=core.chinacloudapi.cn",
        )
        .unwrap();
        assert_eq!(key.endpoint.url(), "https://acc.blob.core.chinacloudapi.cn");
        let Credential::AccountKey { account, key } = key.credential else { panic!("a key") };
        assert_eq!((account.as_str(), key.reveal()), ("acc", "a2V5=="));

        let azurite = AzureOptions::from_connection_string(
            "AccountName=dev;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/dev;QueueEndpoint=http://127.0.0.1:10001/dev;",
        )
        .unwrap();
        assert_eq!(azurite.endpoint.url(), "http://127.0.0.1:10000/dev");

        let own_name = AzureOptions::from_connection_string(
            "blobendpoint=https://blobs.example.org;accountname=acc;AccountKey=a2V5",
        );
        assert_eq!(own_name.unwrap().endpoint.account, "acc");

        let behind_a_name = AzureOptions::from_connection_string(
            "BlobEndpoint=https://azurite.corp.local:10000/devstoreaccount1;AccountName=devstoreaccount1;AccountKey=a2V5",
        );
        assert_eq!(behind_a_name.unwrap().endpoint.url(), "https://azurite.corp.local:10000/devstoreaccount1");

        let sas = "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=2021&sig=a%3D";
        let sas = AzureOptions::from_connection_string(sas).unwrap();
        let Credential::Sas(token) = &sas.credential else { panic!("a SAS") };
        assert_eq!(token.reveal(), "sv=2021&sig=a%3D");
        assert!(!format!("{sas:?}").contains("a%3D"));

        let development = AzureOptions::from_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(development.endpoint.url(), "http://127.0.0.1:10000/devstoreaccount1");
        for bad in ["", "AccountName=a", "AccountKey=x", "nonsense", "BlobEndpoint=http://1.1.1.1/a/b;AccountKey=x"] {
            let error = AzureOptions::from_connection_string(bad).unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Refused, "{bad}");
        }
    }

    #[test]
    fn bytes_may_change_on_the_way_from_another_machine_without_tls() {
        for (url, is_kept, is_path_style) in [
            ("https://acc.blob.core.windows.net", true, false),
            ("http://acc.blob.core.windows.net", false, false),
            ("https://azurite.corp.local:10000/dev", true, true),
            ("http://azurite.corp.local:10000/dev", false, true),
            ("http://10.0.0.7:10000/dev", false, true),
            ("http://127.0.0.1:10000/dev", true, true),
            ("http://[::1]:10000/dev", true, true),
            ("http://localhost:10000/dev", true, true),
            ("http://localhost.example.org:10000/dev", false, true),
        ] {
            let endpoint = parse_account_url(url, None).unwrap();
            assert_eq!((endpoint.keeps_bytes(), endpoint.is_path_style()), (is_kept, is_path_style), "{url}");
        }
    }

    #[test]
    fn urls_of_whole_accounts_may_have_any_host_name() {
        let read = |url: &str, name| {
            parse_account_url(url, name).map(|endpoint| (endpoint.account.clone(), endpoint.url(), endpoint.base_path))
        };
        for (url, name, account, base_path) in [
            ("https://acc.blob.core.windows.net/", None, "acc", ""),
            ("https://azurite.corp.local:10000/dev", None, "dev", "/dev"),
            ("https://azurite.corp.local:10000/dev/", Some("dev"), "dev", "/dev"),
            ("https://blobs.example.org", Some("acc"), "acc", ""),
            ("https://blobs.example.org", None, "blobs", ""),
            ("http://127.0.0.1:10000/dev", Some("dev"), "dev", "/dev"),
            ("http://azurite:10000/dev", Some(""), "dev", "/dev"),
        ] {
            let wanted = (account.to_owned(), url.trim_end_matches('/').to_owned(), base_path.to_owned());
            assert_eq!(read(url, name).unwrap(), wanted, "{url}");
        }
        for (url, name) in [
            ("http://127.0.0.1:10000", None),
            ("https://acc.blob.core.windows.net/photos", None),
            ("https://azurite.corp.local/dev/photos", None),
            ("https://azurite.corp.local/dev", Some("other")),
        ] {
            assert_eq!(read(url, name).unwrap_err().kind, SourceErrorKind::Refused, "{url}");
        }
        let message = read("https://me:hidden@1.2.3.4/a", None).unwrap_err().message;
        assert!(!message.contains("hidden"), "{message}");
    }

    #[test]
    fn a_container_url_limits_to_that_container() {
        let options =
            AzureOptions::from_url("https://acc.blob.core.windows.net/photos?sv=1&sig=x", None, None).unwrap();
        assert_eq!(options.container.as_deref(), Some("photos"));
        assert!(matches!(options.credential, Credential::Sas(token) if token.reveal() == "sv=1&sig=x"));
    }
}

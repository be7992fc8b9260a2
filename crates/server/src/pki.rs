//! The service's own certificates: an authority that clients are told to trust, and the server's certificate under it.
//!
//! Their form follows what strict verifiers ask for: key usages and key identifiers on both. No private key leaves the data folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::clock::MICROS_PER_SECOND;
use crate::files::{private_dir, read_if_there, remove_if_there, write_private};

const DAY_MICROS: i64 = 24 * 60 * 60 * MICROS_PER_SECOND;
const AUTHORITY_DAYS: i64 = 3_650;
/// Longer ones are refused by some platforms.
const SERVER_DAYS: i64 = 397;
/// A certificate with less time left is made anew at start.
const RENEW_DAYS: i64 = 30;

/// Where systems keep the roots that they trust; the first that is there goes into the bundle.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/opt/homebrew/etc/openssl@3/cert.pem",
];

/// Why the certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("cannot use {file}: {error}")]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A certificate or key cannot be made or read.
    #[error("cannot make or read the certificate {file}: {reason}")]
    Certificate {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS does not take the certificate.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The files of the folder `pki`.
#[derive(Debug, Clone)]
pub struct PkiFiles {
    dir: PathBuf,
}

impl PkiFiles {
    /// Those of a data folder.
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("pki") }
    }

    /// The authority's certificate: what clients trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The system's roots and ours: for clients whose setting replaces their own roots.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What was made, and until when it holds. Stands beside the certificate because nothing here parses certificates.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    names: Vec<String>,
    not_after_micros: i64,
}

/// Makes what is missing or about to expire, and returns the TLS configuration of the server.
///
/// # Errors
/// [`PkiError`] naming the file.
pub fn ensure(data_dir: &Path, hostnames: &[String], now: i64) -> Result<Arc<ServerConfig>, PkiError> {
    let files = PkiFiles::of(data_dir);
    at(&files.dir, private_dir(&files.dir))?;
    let ca_key_file = files.file("ca.key");
    if !ca_key_file.exists() {
        // A certificate of a key that is gone proves nothing any more.
        let stale = files.file("ca.json");
        at(&stale, remove_if_there(&stale))?;
    }
    let ca_key = ensure_key(&ca_key_file)?;
    let ca_params = authority_params(&ca_key, now);
    if !is_current(&files.file("ca.json"), &files.ca(), &[], now)? {
        let certificate = ca_params.self_signed(&ca_key).map_err(|e| bad(&files.ca(), e))?;
        put(&files.ca(), certificate.pem().as_bytes())?;
        put_made(&files.file("ca.json"), &[], now + AUTHORITY_DAYS * DAY_MICROS)?;
        // A certificate under the old authority would no longer be trusted by who trusts only the new one.
        let stale = files.file("server.json");
        at(&stale, remove_if_there(&stale))?;
    }
    write_bundle(&files)?;
    let names = server_names(hostnames);
    let server_pem = files.file("server.pem");
    let has_key = files.file("server.key").exists();
    if !has_key || !is_current(&files.file("server.json"), &server_pem, &names, now)? {
        let made = files.file("server.json");
        // Without this file a crash between key and certificate is repaired by the next start.
        at(&made, remove_if_there(&made))?;
        let key = KeyPair::generate().map_err(|e| bad(&server_pem, e))?;
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let params = server_params(&names, now).map_err(|e| bad(&server_pem, e))?;
        let certificate = params.signed_by(&key, &issuer).map_err(|e| bad(&server_pem, e))?;
        put(&files.file("server.key"), key.serialize_pem().as_bytes())?;
        put(&server_pem, certificate.pem().as_bytes())?;
        put_made(&made, &names, now + SERVER_DAYS * DAY_MICROS)?;
    }
    server_config(&files)
}

/// An EC P-256 key in a file, made if it is missing. The tokens' signing key is one, too.
///
/// # Errors
/// [`PkiError`] naming the file.
pub fn ensure_key(file: &Path) -> Result<KeyPair, PkiError> {
    if let Some(pem) = at(file, read_if_there(file))? {
        return KeyPair::from_pem(&pem).map_err(|e| bad(file, e));
    }
    let key = KeyPair::generate().map_err(|e| bad(file, e))?;
    put(file, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn at<T>(file: &Path, result: io::Result<T>) -> Result<T, PkiError> {
    result.map_err(|error| PkiError::File { file: file.to_owned(), error })
}

fn bad(file: &Path, reason: impl std::fmt::Display) -> PkiError {
    PkiError::Certificate { file: file.to_owned(), reason: reason.to_string() }
}

fn put(file: &Path, content: &[u8]) -> Result<(), PkiError> {
    at(file, write_private(file, content))
}

fn put_made(file: &Path, names: &[String], not_after_micros: i64) -> Result<(), PkiError> {
    let made = Made { names: names.to_vec(), not_after_micros };
    let text = serde_json::to_string(&made).map_err(|e| bad(file, e))?;
    put(file, text.as_bytes())
}

/// The certificate is there, was made for these names and holds long enough.
fn is_current(made: &Path, certificate: &Path, names: &[String], now: i64) -> Result<bool, PkiError> {
    let Some(text) = at(made, read_if_there(made))? else { return Ok(false) };
    let Ok(made) = serde_json::from_str::<Made>(&text) else { return Ok(false) };
    Ok(certificate.exists() && made.names == names && made.not_after_micros - now >= RENEW_DAYS * DAY_MICROS)
}

/// Local names and the configured ones, without repetition.
fn server_names(hostnames: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for name in hostnames {
        let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The authority's name holds the beginning of its key's hash, so that two installations are never taken for one.
fn authority_params(key: &KeyPair, now: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let mark = hex::encode(&hash.as_ref()[..4]);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Blobkeep authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_DAYS);
    params
}

fn server_params(names: &[String], now: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Blobkeep");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, SERVER_DAYS);
    Ok(params)
}

/// From yesterday on: clocks of clients differ.
fn set_validity(params: &mut CertificateParams, now: i64, days: i64) {
    let date = |micros: i64| {
        let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        instant.to_zoned(jiff::tz::TimeZone::UTC).date()
    };
    let (first, last) = (date(now - DAY_MICROS), date(now + days * DAY_MICROS));
    params.not_before =
        rcgen::date_time_ymd(first.year().into(), first.month().unsigned_abs(), first.day().unsigned_abs());
    params.not_after = rcgen::date_time_ymd(last.year().into(), last.month().unsigned_abs(), last.day().unsigned_abs());
}

fn write_bundle(files: &PkiFiles) -> Result<(), PkiError> {
    let mut bundle = SYSTEM_ROOTS.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    let ca = files.ca();
    bundle.push_str(&at(&ca, std::fs::read_to_string(&ca))?);
    put(&files.bundle(), bundle.as_bytes())
}

fn server_config(files: &PkiFiles) -> Result<Arc<ServerConfig>, PkiError> {
    let pem = files.file("server.pem");
    let key_file = files.file("server.key");
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&pem)
        .map_err(|e| bad(&pem, e))?
        .collect::<Result<_, _>>()
        .map_err(|e| bad(&pem, e))?;
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|e| bad(&key_file, e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{DAY_MICROS, PkiFiles, ensure};

    const NOW: i64 = 1_700_000_000_000_000;

    fn contents(files: &PkiFiles) -> (String, String) {
        let read = |name: &str| std::fs::read_to_string(files.file(name)).unwrap();
        (read("ca.pem"), read("server.pem"))
    }

    #[test]
    fn certificates_stay_until_they_are_about_to_expire() {
        let dir = tempfile::tempdir().unwrap();
        let files = PkiFiles::of(dir.path());
        ensure(dir.path(), &[], NOW).unwrap();
        let first = contents(&files);
        ensure(dir.path(), &[], NOW + 300 * DAY_MICROS).unwrap();
        assert_eq!(contents(&files), first);
        ensure(dir.path(), &[], NOW + 380 * DAY_MICROS).unwrap();
        let later = contents(&files);
        assert_eq!(later.0, first.0);
        assert_ne!(later.1, first.1);
    }

    #[test]
    fn a_new_name_makes_a_new_server_certificate_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let files = PkiFiles::of(dir.path());
        ensure(dir.path(), &[], NOW).unwrap();
        let first = contents(&files);
        ensure(dir.path(), &["backup.example.org".to_owned(), "localhost".to_owned()], NOW).unwrap();
        let second = contents(&files);
        assert_eq!(second.0, first.0);
        assert_ne!(second.1, first.1);
    }

    #[test]
    fn any_missing_file_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = PkiFiles::of(dir.path());
        ensure(dir.path(), &[], NOW).unwrap();
        for name in ["server.json", "server.key", "server.pem", "ca.json", "ca.key", "ca.pem", "bundle.pem"] {
            std::fs::remove_file(files.file(name)).unwrap();
            ensure(dir.path(), &[], NOW).unwrap();
            assert!(files.file(name).exists(), "{name}");
        }
    }

    #[test]
    fn keys_are_private_and_the_bundle_ends_with_our_authority() {
        let dir = tempfile::tempdir().unwrap();
        let files = PkiFiles::of(dir.path());
        ensure(dir.path(), &[], NOW).unwrap();
        for name in ["ca.key", "server.key"] {
            assert_eq!(files.file(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let bundle = std::fs::read_to_string(files.bundle()).unwrap();
        assert!(bundle.ends_with(&std::fs::read_to_string(files.ca()).unwrap()));
    }
}

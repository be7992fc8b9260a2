//! Secrets on the command line: `env:NAME`, `file:PATH`, `-` for standard input, or the secret itself with a warning. What is read here
//! must never be printed.

use std::io::Read as _;

use anyhow::{Context as _, bail};

use crate::output;

/// Reads a value that is itself a secret (a key, a SAS, a connection string). `what` names it in messages.
///
/// # Errors
/// A variable or file that is not there, or an empty secret.
pub(crate) fn read(given: &str, what: &str) -> anyhow::Result<String> {
    if let Some(found) = read_reference(given, what)? {
        return Ok(found);
    }
    if given.is_empty() {
        bail!("{what} is empty");
    }
    warn_literal(what);
    Ok(given.to_owned())
}

/// Reads a value that may hold a secret (the address of a container with its SAS, of a database with its password) or be harmless (a path).
///
/// # Errors
/// As [`read`].
pub(crate) fn read_place(given: &str, what: &str) -> anyhow::Result<String> {
    // `file:///…` is an address; `file:PATH` names a file that holds one.
    if given.starts_with("file://") {
        return Ok(given.to_owned());
    }
    if let Some(found) = read_reference(given, what)? {
        return Ok(found);
    }
    let folded = given.to_ascii_lowercase();
    let marks = ["sig=", "accountkey=", "sharedaccesssignature=", "password="];
    if marks.iter().any(|mark| folded.contains(mark)) || has_password(given) {
        warn_literal(what);
    }
    Ok(given.to_owned())
}

/// `scheme://user:password@host`.
fn has_password(address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn read_reference(given: &str, what: &str) -> anyhow::Result<Option<String>> {
    let text = if given == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {what} from standard input"))?;
        text
    } else if let Some(name) = given.strip_prefix("env:") {
        match std::env::var(name) {
            Ok(text) => text,
            Err(_) => bail!("{what}: the environment has no variable {name} (or it is not UTF-8)"),
        }
    } else if let Some(path) = given.strip_prefix("file:") {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {what} from the file {path}"))?
    } else {
        return Ok(None);
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("{what} ({given}) is empty");
    }
    Ok(Some(text.to_owned()))
}

fn warn_literal(what: &str) {
    output::note(&format!(
        "warning: {what} stands on the command line, where other users and the shell's history can see it: use env:NAME, file:PATH or -"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_lie_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "c2VjcmV0\n").unwrap();
        assert_eq!(read(&format!("file:{}", path.display()), "--key").unwrap(), "c2VjcmV0");
        assert!(read("file:/no/such/file", "--key").unwrap_err().to_string().contains("/no/such/file"));
        std::fs::write(&path, "\n").unwrap();
        assert!(read(&format!("file:{}", path.display()), "--key").is_err(), "an empty file is no secret");
    }

    #[test]
    fn a_secret_may_lie_in_the_environment() {
        assert_eq!(read("env:CARGO_PKG_NAME", "--key").unwrap(), "blobkeep");
        let error = read("env:BLOBKEEP_NO_SUCH_VARIABLE", "--key").unwrap_err().to_string();
        assert!(error.contains("BLOBKEEP_NO_SUCH_VARIABLE") && error.contains("--key"), "{error}");
    }

    #[test]
    fn a_literal_is_taken_as_it_is_unless_it_is_empty() {
        assert_eq!(read("c2VjcmV0", "--key").unwrap(), "c2VjcmV0");
        assert!(read("", "--key").is_err());
    }

    #[test]
    fn an_address_with_a_password_is_known() {
        assert!(has_password("postgres://keeper:secret@host:5432/database"));
        for harmless in ["postgres://keeper@host:5432/database", "https://host:10000/account/a:b@c", "/data", "sqlite"]
        {
            assert!(!has_password(harmless), "{harmless}");
        }
    }

    #[test]
    fn an_address_of_a_file_is_not_a_file_with_an_address() {
        assert_eq!(read_place("file:///data", "--source").unwrap(), "file:///data");
        assert_eq!(read_place("/data", "--source").unwrap(), "/data");
        assert!(read_place("file:/no/such/file", "--source").is_err());
    }
}

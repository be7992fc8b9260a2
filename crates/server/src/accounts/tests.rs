//! Which connections are taken, which are refused and with what reason, and that no secret shows.

use serde_json::{Value, json};

use super::{Connection, Credential, check_address, check_connection};
use crate::config::{Config, IpRange};

const KEY: &str = "c2VjcmV0";

fn config() -> Config {
    Config::new("/nonexistent/blobkeep")
}

fn refused(body: &Value) -> String {
    Connection::from_body(body, &config()).unwrap_err().to_string()
}

fn azure(url: &str) -> Value {
    json!({ "kind": "azureblob", "URL": url, "accountKey": KEY })
}

#[test]
fn an_endpoint_with_a_key_is_taken() {
    let connection = Connection::from_body(&azure("https://acc.blob.core.windows.net/"), &config()).unwrap();
    let Connection::AzureBlob { url, credential: Credential::AccountKey { account_name, key } } = connection else {
        panic!("not an Azure connection");
    };
    assert_eq!((url.as_str(), account_name.as_str(), key.as_str()), ("https://acc.blob.core.windows.net", "acc", KEY));
}

#[test]
fn connection_strings_are_read() {
    for (string, url, name) in [
        (
            format!("DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={KEY};EndpointSuffix=core.windows.net"),
            "https://acc.blob.core.windows.net",
            "acc",
        ),
        (
            format!(
                "AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
            ),
            "http://127.0.0.1:10000/devstoreaccount1",
            "devstoreaccount1",
        ),
        ("UseDevelopmentStorage=true".to_owned(), "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
    ] {
        let body = json!({ "kind": "AzureBlob", "connectionString": string });
        let Connection::AzureBlob { url: read, credential: Credential::AccountKey { account_name, .. } } =
            Connection::from_body(&body, &config()).unwrap()
        else {
            panic!("not an account key");
        };
        assert_eq!((read.as_str(), account_name.as_str()), (url, name));
    }
    let sas = json!({ "kind": "AzureBlob", "connectionString": "BlobEndpoint=https://a.example.org;SharedAccessSignature=?sv=1&sig=abc" });
    let Connection::AzureBlob { credential: Credential::SasToken { token }, .. } =
        Connection::from_body(&sas, &config()).unwrap()
    else {
        panic!("not a SAS");
    };
    assert_eq!(token, "sv=1&sig=abc");
}

#[test]
fn what_is_not_allowed_is_refused_with_the_reason() {
    let cases = [
        (json!({}), "kind"),
        (json!({ "kind": "Ftp" }), "Ftp"),
        (json!({ "kind": "S3", "url": "s3://b" }), "not offered yet"),
        (json!({ "kind": "AzureBlob", "url": "https://x", "managedIdentity": true }), "managedIdentity"),
        (json!({ "kind": "AzureBlob", "url": "https://x" }), "exactly one"),
        (json!({ "kind": "AzureBlob", "url": "https://x", "accountKey": KEY, "sasToken": "sig=1" }), "exactly one"),
        (json!({ "kind": "AzureBlob", "url": "https://x", "accountKey": "%%%" }), "base64"),
        (json!({ "kind": "AzureBlob", "url": "https://x", "sasToken": "sv=1" }), "sig="),
        (azure("ftp://x"), "https://"),
        (azure("https://x/?sv=1&sig=2"), "sasToken"),
        (azure("https://user@x"), "endpoint alone"),
        (azure("http://acc.blob.core.windows.net"), "https://"),
        (azure("https://169.254.169.254"), "link-local"),
        (azure("https://[fe80::1]"), "link-local"),
        (azure("https://[::ffff:169.254.169.254]"), "link-local"),
        (azure("https://10.0.0.1"), "allowed_endpoint_ranges"),
        (azure("https://0.0.0.0"), "allowed_endpoint_ranges"),
        (azure("https://[fd00::1]:10000/acc"), "allowed_endpoint_ranges"),
        (json!({ "kind": "LocalFolder", "url": "file:///tmp" }), "local_roots"),
        (json!({ "kind": "LocalFolder", "url": "relative" }), "absolute"),
        (json!({ "kind": "LocalFolder" }), "missing"),
    ];
    for (body, wanted) in cases {
        let reason = refused(&body);
        assert!(reason.contains(wanted), "{body}: {reason}");
        assert!(!reason.contains(KEY), "{reason}");
    }
}

#[test]
fn loopback_is_allowed_and_private_ranges_by_configuration() {
    for url in ["http://127.0.0.1:10000/devstoreaccount1", "http://localhost:10000/a", "http://[::1]:10000/a"] {
        assert!(Connection::from_body(&azure(url), &config()).is_ok(), "{url}");
    }
    let mut allowed = config();
    allowed.allowed_endpoint_ranges =
        vec![IpRange::parse("10.0.0.0/8").unwrap(), IpRange::parse("169.254.0.0/16").unwrap()];
    assert!(Connection::from_body(&azure("http://10.1.2.3:10000/acc"), &allowed).is_ok());
    assert!(
        check_address("169.254.1.1".parse().unwrap(), &allowed.allowed_endpoint_ranges).is_err(),
        "link-local never"
    );
}

#[test]
fn folders_must_lie_below_a_root_and_be_reached_without_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("root");
    let data = root.join("data");
    for folder in [&root.join("acc"), &data, &dir.path().join("outside")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::create_dir_all(dir.path().join("outside/outside-sub")).unwrap();
    std::fs::create_dir_all(dir.path().join("outside-sub")).unwrap();
    std::fs::write(root.join("acc/file"), "x").unwrap();
    std::os::unix::fs::symlink(root.join("acc"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), root.join("escape")).unwrap();
    let mut config = Config::new(&data);
    config.local_roots = vec![root.clone()];
    let connect = |folder: &std::path::Path| {
        let body = json!({ "kind": "LocalFolder", "url": format!("file://{}", folder.display()) });
        Connection::from_body(&body, &config).map_err(|error| error.to_string())
    };
    assert!(connect(&root.join("acc")).is_ok());
    assert!(connect(&root.join("link")).unwrap_err().contains("symbolic link"));
    assert!(connect(&root.join("escape")).is_err());
    assert!(connect(&root.join("acc/../acc")).unwrap_err().contains("'..'"));
    assert!(connect(&dir.path().join("outside")).unwrap_err().contains("local_roots"));
    assert!(connect(&root.join("missing")).unwrap_err().contains("cannot be opened"));
    assert!(connect(&root.join("acc/file")).unwrap_err().contains("not a folder"));
    for way in [dir.path().to_owned(), root.join("escape"), root.join("..")] {
        let told = |name: &str| connect(&way.join(name)).unwrap_err().replace(name, "");
        assert_eq!(told("outside-sub"), told("nothing-at-all"), "what lies outside of the roots is not told");
    }
    assert!(connect(&data).unwrap_err().contains("data folder"));
    assert!(
        connect(&root).unwrap_err().contains("data folder"),
        "a folder that holds the data folder would show its keys"
    );
}

#[test]
fn a_stored_connection_is_checked_again_where_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("srv/acc")).unwrap();
    std::fs::create_dir_all(root.join("secret")).unwrap();
    let mut config = Config::new(root.join("data"));
    config.local_roots = vec![root.join("srv")];
    let body = json!({ "kind": "LocalFolder", "url": format!("file://{}/srv/acc", root.display()) });
    let folder = Connection::from_body(&body, &config).unwrap();
    assert_eq!(check_connection(&config, &folder), Ok(()));
    std::fs::remove_dir(root.join("srv/acc")).unwrap();
    std::os::unix::fs::symlink(root.join("secret"), root.join("srv/acc")).unwrap();
    assert!(check_connection(&config, &folder).unwrap_err().to_string().contains("symbolic link"));
    config.local_roots.clear();
    assert!(check_connection(&config, &folder).unwrap_err().to_string().contains("local_roots"));

    config.allowed_endpoint_ranges = vec![IpRange::parse("10.0.0.0/8").unwrap()];
    let private = Connection::from_body(&azure("http://10.1.2.3:10000/acc"), &config).unwrap();
    assert_eq!(check_connection(&config, &private), Ok(()));
    config.allowed_endpoint_ranges.clear();
    assert!(check_connection(&config, &private).is_err(), "the configuration was narrowed since");
}

#[test]
fn hosts_of_ones_own_are_taken_with_the_account_in_the_path_or_beside_it() {
    let taken = |body: &Value| match Connection::from_body(body, &config()).unwrap() {
        Connection::AzureBlob { url, credential: Credential::AccountKey { account_name, .. } } => (url, account_name),
        other => panic!("{other:?}"),
    };
    let key =
        |url: &str, name: Value| json!({ "kind": "AzureBlob", "url": url, "accountKey": KEY, "accountName": name });
    let string = |url: &str| {
        let string = format!("BlobEndpoint={url};AccountName=devstoreaccount1;AccountKey={KEY}");
        json!({ "kind": "AzureBlob", "connectionString": string })
    };
    for (body, url, name) in [
        (
            key("https://azurite.corp.local:10000/devstoreaccount1/", json!(null)),
            "/devstoreaccount1",
            "devstoreaccount1",
        ),
        (string("https://azurite.corp.local:10000/devstoreaccount1"), "/devstoreaccount1", "devstoreaccount1"),
        (key("https://azurite.corp.local:10000", json!("acc")), "", "acc"),
        (string("https://azurite.corp.local:10000"), "", "devstoreaccount1"),
    ] {
        let (kept, account) = taken(&body);
        assert_eq!((kept, account.as_str()), (format!("https://azurite.corp.local:10000{url}"), name));
        // What is kept opens later, too.
        let opened = blobkeep_source::Connection::by_key(
            &format!("https://azurite.corp.local:10000{url}"),
            Some(name),
            blobkeep_source::Secret::new(KEY),
        );
        assert!(opened.unwrap().open_source().is_ok());
    }
    for (body, wanted) in [
        (key("https://azurite.corp.local/one", json!("other")), "other"),
        (key("https://acc.blob.core.windows.net/photos", json!(null)), "more than an account"),
        (key("http://127.0.0.1:10000", json!(null)), "missing"),
        (key("https://168.63.129.16/acc", json!(null)), "never connected"),
    ] {
        assert!(refused(&body).contains(wanted), "{body}: {}", refused(&body));
    }
}

#[test]
fn no_secret_is_printed() {
    let connection = Connection::from_body(&azure("https://acc.blob.core.windows.net"), &config()).unwrap();
    assert_eq!(format!("{connection:?}"), "AzureBlob(https://acc.blob.core.windows.net)");
}

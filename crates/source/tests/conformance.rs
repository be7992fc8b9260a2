//! The suite of sources and targets, on folders, on the emulator and, where `BLOBKEEP_AZURITE` holds a connection string, on
//! Azurite (over https with the authority in the file `BLOBKEEP_AZURITE_CA`, if that is set).

// Helpers of tests, where a failure should stop the test at once.
#![allow(clippy::unwrap_used)]

mod suite;

use blobkeep_emulator::{Emulator, EmulatorOptions};
use blobkeep_source::{AzureAccount, AzureOptions, LocalFolder};
use blobkeep_vault::{BlobEntry, OnConflict, Source, Target, Written};
use bytes::Bytes;
use suite::{Limits, conforms};

#[tokio::test]
async fn folders_conform() {
    let root = tempfile::tempdir().unwrap();
    let folder = LocalFolder::account(root.path()).unwrap();
    conforms(&folder, &folder, "photos", Limits::default()).await;
}

#[tokio::test]
async fn the_emulator_conforms_by_key_and_by_sas() {
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), EmulatorOptions::default()).await.unwrap();
    let name = "devstoreaccount1";
    let by_key = AzureOptions::from_connection_string(&emulator.connection_string(name)).unwrap();
    let by_key = AzureAccount::new(by_key).unwrap();
    conforms(&by_key, &by_key, "photos", Limits { adds_properties: true, ..Limits::default() }).await;
    let url = format!("{}?{}", emulator.account_url(name), emulator.sas(name, "rwdlactx").trim_start_matches('?'));
    let by_sas = AzureAccount::new(AzureOptions::from_url(&url, None, None).unwrap()).unwrap();
    conforms(&by_sas, &by_sas, "videos", Limits { adds_properties: true, ..Limits::default() }).await;
    assert_eq!(by_sas.describe_limits(), Vec::<String>::new());
    emulator.stop().await;
}

#[tokio::test]
async fn azurite_conforms() {
    let Ok(connection) = std::env::var("BLOBKEEP_AZURITE") else { return };
    let mut options = AzureOptions::from_connection_string(&connection).unwrap();
    options.extra_ca_pem = std::env::var("BLOBKEEP_AZURITE_CA").ok().map(|file| std::fs::read(file).unwrap());
    let account = AzureAccount::new(options).unwrap();
    let container = format!("conformance-{}", std::process::id());
    conforms(&account, &account, &container, Limits { no_control_characters: true, adds_properties: true }).await;
    let metadata = vec![("Zeta".to_owned(), "1".to_owned()), ("alphaBeta".to_owned(), "2".to_owned())];
    let capitals =
        BlobEntry { container: container.clone(), name: "capitals".into(), metadata, ..BlobEntry::default() };
    account.write_whole(&capitals, Bytes::new(), OnConflict::Fail).await.unwrap();
    let listed = account.entry(&container, "capitals").await.unwrap().unwrap();
    assert_eq!(listed.metadata, capitals.metadata, "names keep their capital letters");
    // Azurite knows no legal holds: the blob must come all the same, and the report must say so if it was refused.
    let mut held = BlobEntry { container, name: "held".into(), size_bytes: 1, ..BlobEntry::default() };
    held.immutability.legal_hold = true;
    held.encryption_scope = Some("scope".into());
    let done = account.write_whole(&held, Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap();
    assert!(matches!(done, Written::Written { .. }), "{done:?}");
}

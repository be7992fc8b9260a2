//! What a PostgreSQL server may refuse, and what is said then.

use std::time::Duration;

use blobkeep_server::db::{Db, PostgresUrl, meta};

use crate::database::{OwnDatabase, server};

/// What is said where a database cannot be opened.
async fn refusal(address: &str) -> String {
    let url = PostgresUrl::parse(address).unwrap();
    let error = Db::open_postgres(&url).await.err().unwrap_or_else(|| panic!("{url} was opened")).to_string();
    assert!(!error.contains("topsecret"), "{error}");
    error
}

#[tokio::test]
async fn a_server_that_is_not_reached_is_named() {
    let said = refusal("postgres://keeper:topsecret@localhost:1/backup").await;
    for part in ["the PostgreSQL database backup at localhost:1 (user keeper)", "cannot be reached", "server runs"] {
        assert!(said.contains(part), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let said = refusal(&format!("postgres:///backup?host={}&user=keeper", folder.path().display())).await;
    assert!(said.contains("there is no such socket"), "{said}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let said = refusal(&own.address("_not")).await;
    assert!(said.contains("does not exist") && said.contains("CREATE DATABASE"), "{said}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let name = own.name();
    own.command(&format!("DROP DATABASE {name}")).await;
    let locale = "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    own.command(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' {locale}")).await;
    let said = refusal(&own.address("")).await;
    assert!(said.contains("LATIN1") && said.contains("ENCODING 'UTF8'"), "{said}");
}

#[tokio::test]
async fn a_user_that_may_not_make_tables_is_told_so() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let role = own.role("right").await;
    let said =
        refusal(&own.address(&format!("&user={role}&password=right&options=-c%20search_path%3Dpg_catalog"))).await;
    assert!(said.contains("permission denied") && said.contains("owner of the database"), "{said}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let role = own.role("right").await;
    own.command(&format!("ALTER DATABASE {} OWNER TO {role}", own.name())).await;
    let url = PostgresUrl::parse(&own.address(&format!("&user={role}&password=right"))).unwrap();
    Db::open_postgres(&url).await.unwrap().close().await;
    // A server that lets everybody in is no fault of ours; that of `scripts/test` does not.
    if std::env::var_os("BLOBKEEP_TEST_POSTGRES_PASSWORDS").is_some() {
        for user in [role.as_str(), "nobody_at_all"] {
            let said = refusal(&own.address(&format!("&user={user}&password=topsecret"))).await;
            assert!(said.contains("password authentication failed") && said.contains("PGPASSWORD"), "{said}");
            assert!(said.contains(user), "{said}");
        }
    }
}

#[tokio::test]
async fn a_writer_that_gives_up_waiting_lets_the_lock_go() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let (one, two) = (Db::open_postgres(&own.url()).await.unwrap(), Db::open_postgres(&own.url()).await.unwrap());
    let held = one.write().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), two.write()).await;
    assert!(waiting.is_err(), "there is one writer at a time");
    held.commit().await.unwrap();
    // Had the one that gave up got the lock by now, nobody would get it any more.
    for db in [&one, &two, &one] {
        let mut tx = db.write().await.unwrap();
        meta::set(&mut tx, "one", "1").await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn connections_that_were_cut_are_made_anew() {
    let Some(server) = server() else { return };
    let own = OwnDatabase::new(&server).await;
    let db = Db::open_postgres(&own.url()).await.unwrap();
    for round in ["1", "2"] {
        let mut tx = db.write().await.unwrap();
        meta::set(&mut tx, "round", round).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(meta::get(&mut db.read().await.unwrap(), "round").await.unwrap().as_deref(), Some(round));
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname";
        own.command(&format!("{cut} = '{}'", own.name())).await;
    }
    assert_eq!(meta::get(&mut db.read().await.unwrap(), "round").await.unwrap().as_deref(), Some("2"));
}

//! What holds for the database as a whole: transactions, migrations, leases.

use blobkeep_server::db::{DbError, leases, meta, query};

use crate::stage::{NOW, Stage};

pub(crate) async fn what_is_not_committed_leaves_no_trace(stage: &Stage) {
    let mut tx = stage.write().await;
    meta::set(&mut tx, "one", "1").await.unwrap();
    assert_eq!(meta::get(&mut tx, "one").await.unwrap().as_deref(), Some("1"));
    assert_eq!(meta::get(&mut *stage.read().await, "one").await.unwrap(), None, "nobody else sees it");
    drop(tx);
    let mut tx = stage.write().await;
    assert_eq!(meta::get(&mut tx, "one").await.unwrap(), None);
    meta::set(&mut tx, "two", "2").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(meta::get(&mut *stage.read().await, "two").await.unwrap().as_deref(), Some("2"));
}

pub(crate) async fn of_writers_at_once_none_sees_what_another_is_at(stage: &Stage) {
    const TIMES: usize = 25;
    // As two services on one database: each has connections of its own.
    let others = [stage.open_again().await.unwrap(), stage.open_again().await.unwrap()];
    let count = async |db: &blobkeep_server::db::Db| {
        for _ in 0..TIMES {
            let mut tx = db.write().await.unwrap();
            let found = meta::get(&mut tx, "count").await.unwrap().map_or(0, |text| text.parse::<usize>().unwrap());
            tokio::task::yield_now().await;
            meta::set(&mut tx, "count", &(found + 1).to_string()).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    tokio::join!(count(&others[0]), count(&others[1]), count(&stage.db));
    let counted = meta::get(&mut *stage.read().await, "count").await.unwrap();
    assert_eq!(counted, Some((3 * TIMES).to_string()));
    for other in others {
        other.close().await;
    }
}

pub(crate) async fn a_reader_cannot_write(stage: &Stage) {
    let mut reader = stage.read().await;
    meta::set(&mut reader, "one", "1").await.unwrap_err();
    assert_eq!(meta::get(&mut reader, "one").await.unwrap(), None);
}

pub(crate) async fn tables_that_are_up_to_date_stay_as_they_are(stage: &Stage) {
    let tenant = meta::get(&mut *stage.read().await, meta::TENANT_ID).await.unwrap();
    for _ in 0..2 {
        let again = stage.open_again().await.unwrap();
        assert_eq!(meta::get(&mut again.read().await.unwrap(), meta::TENANT_ID).await.unwrap(), tenant);
        again.close().await;
    }
}

pub(crate) async fn tables_of_a_newer_version_are_refused(stage: &Stage) {
    let mut tx = stage.write().await;
    let later = "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1";
    query(later).execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let error = stage.open_again().await.unwrap_err();
    assert!(matches!(error, DbError::Newer { found: 9999, .. }), "{error}");
    assert!(error.to_string().contains("start that version"), "{error}");
}

pub(crate) async fn a_lease_is_held_by_one(stage: &Stage) {
    let mut tx = stage.write().await;
    assert!(leases::hold(&mut tx, "work", "one", NOW, NOW + 10).await.unwrap());
    assert!(!leases::hold(&mut tx, "work", "two", NOW + 9, NOW + 19).await.unwrap());
    assert!(leases::hold(&mut tx, "work", "one", NOW + 9, NOW + 19).await.unwrap(), "its holder prolongs it");
    assert!(leases::hold(&mut tx, "work", "two", NOW + 19, NOW + 29).await.unwrap(), "it ran out");
    leases::let_go(&mut tx, "work", "one").await.unwrap();
    assert!(!leases::hold(&mut tx, "work", "one", NOW + 20, NOW + 30).await.unwrap(), "who lost it gives nothing back");
    leases::let_go(&mut tx, "work", "two").await.unwrap();
    assert!(leases::hold(&mut tx, "work", "one", NOW + 20, NOW + 30).await.unwrap());
}

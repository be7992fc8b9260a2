//! The master key: the file that opens every vault and every sealed secret. It is made once, with the database, and never again.

use std::path::Path;

use zeroize::Zeroizing;

use super::{SetupError, at, names};
use crate::db::{self, Db};
use crate::files::{read_if_there, write_private};
use crate::identity::Identity;
use crate::seal::SealError;

/// `meta`: what tells whether a master key is the one that the database was made with; tells nothing of the key itself.
const CHECK: &str = "master_key_check";

/// Reads the key, or makes it where nothing was made with another one: the database must not be in use.
pub(super) fn ensure(data_dir: &Path, database_is_in_use: bool) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    let file = data_dir.join(names::MASTER_KEY);
    let mut key = Zeroizing::new([0u8; 32]);
    if let Some(text) = at(&file, read_if_there(&file))? {
        let text = Zeroizing::new(text);
        let invalid = |_| SetupError::MasterKeyInvalid { file: file.clone() };
        hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(invalid)?;
        return Ok(key);
    }
    if database_is_in_use {
        return Err(SetupError::MasterKeyMissing { file });
    }
    aws_lc_rs::rand::fill(key.as_mut_slice()).map_err(|_| SealError::Sealing)?;
    let mut text = Zeroizing::new(hex::encode(key.as_slice()));
    text.push('\n');
    at(&file, write_private(&file, text.as_bytes()))?;
    Ok(key)
}

/// Looks whether the key belongs to the database, which a data folder and a database that come from different places may not. A database
/// that was made before there was a check takes the key that comes with it.
pub(super) async fn check(data_dir: &Path, db: &Db, identity: &Identity) -> Result<(), SetupError> {
    let mut tx = db.write().await?;
    let known = db::meta::get(&mut tx, CHECK).await?;
    let Some(known) = known else {
        db::meta::set(&mut tx, CHECK, &identity.secret_hash(CHECK)).await?;
        return Ok(tx.commit().await?);
    };
    if identity.secret_matches(CHECK, &known) {
        return Ok(());
    }
    drop(tx);
    db.close().await;
    Err(SetupError::MasterKeyOfAnother { file: data_dir.join(names::MASTER_KEY) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::setup::open;

    const NOW: i64 = 1_700_000_000_000_000;

    #[tokio::test]
    async fn the_key_of_another_data_folder_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            open(dir.path(), &Database::Sqlite, NOW).await.unwrap().db.close().await;
        }
        std::fs::copy(other.path().join(names::MASTER_KEY), one.path().join(names::MASTER_KEY)).unwrap();
        let error = open(one.path(), &Database::Sqlite, NOW).await.unwrap_err();
        assert!(matches!(error, SetupError::MasterKeyOfAnother { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_database_of_before_takes_the_key_that_comes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let installation = open(dir.path(), &Database::Sqlite, NOW).await.unwrap();
        let mut tx = installation.db.write().await.unwrap();
        db::meta::remove(&mut tx, CHECK).await.unwrap();
        tx.commit().await.unwrap();
        installation.db.close().await;
        drop(installation);
        let installation = open(dir.path(), &Database::Sqlite, NOW).await.unwrap();
        assert!(db::meta::get(&mut installation.db.read().await.unwrap(), CHECK).await.unwrap().is_some());
    }
}

//! What is particular to each of the two databases behind [`super::Db`]: what tables are made of, how writing begins, and the few words that
//! differ.
//!
//! No statement about resources belongs here. How each is opened: `sqlite`, `postgres`.

use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// Takes the write lock at once, so that a transaction never fails half-way because another one wrote meanwhile.
pub(super) const SQLITE_BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Each statement sees what was committed before it, whatever the server's default is: what was read before the lock was given counts for
/// nothing.
pub(super) const POSTGRES_BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// What follows it: one writer at a time, as with SQLite, also among several services. The lock ends with the transaction. Its name is a
/// number of ours and that of the table, so that installations in different schemas of one database do not wait for each other.
pub(super) const POSTGRES_LOCK: &str =
    "SELECT pg_advisory_xact_lock(1651273570, ('meta'::regclass::oid::bigint & 2147483647)::integer)";

/// [`super::Conn::defer_foreign_keys`] on SQLite.
pub(super) const SQLITE_DEFER_FOREIGN_KEYS: &str = "PRAGMA defer_foreign_keys = ON";
/// The same on PostgreSQL, for the constraints that [`for_postgres`] makes deferrable.
pub(super) const POSTGRES_DEFER_FOREIGN_KEYS: &str = "SET CONSTRAINTS ALL DEFERRED";

/// Number, name and text of each migration, ascending. A released one is never changed: add another.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "foundation", include_str!("../../migrations/0001_foundation.sql")),
    (2, "dataprotection", include_str!("../../migrations/0002_dataprotection.sql")),
    (3, "instance_tags", include_str!("../../migrations/0003_instance_tags.sql")),
    (4, "exports", include_str!("../../migrations/0004_exports.sql")),
    (5, "guards", include_str!("../../migrations/0005_guards.sql")),
    (6, "deleted_vaults", include_str!("../../migrations/0006_deleted_vaults.sql")),
    (7, "stamps", include_str!("../../migrations/0007_stamps.sql")),
    (8, "role_definitions", include_str!("../../migrations/0008_role_definitions.sql")),
    (9, "management_locks", include_str!("../../migrations/0009_management_locks.sql")),
    (10, "operational_looks", include_str!("../../migrations/0010_operational_looks.sql")),
    (11, "prune", include_str!("../../migrations/0011_prune.sql")),
    (12, "operational_tier", include_str!("../../migrations/0012_operational_tier.sql")),
    (13, "operational_memory", include_str!("../../migrations/0013_operational_memory.sql")),
];

/// The number of the last migration that this version knows.
pub(super) fn last_migration() -> i64 {
    MIGRATIONS.last().map_or(0, |(number, _, _)| *number)
}

/// The migrations for SQLite: the texts as they are.
pub(super) fn sqlite_migrations() -> Vec<Migration> {
    let migrations = MIGRATIONS.iter().map(|(number, name, sql)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    migrations.collect()
}

/// The same for PostgreSQL. Their checksums are those of the texts as they are, so that it may change how they are put into its words.
pub(super) fn postgres_migrations() -> Vec<Migration> {
    let mut migrations = sqlite_migrations();
    for migration in &mut migrations {
        migration.sql = AssertSqlSafe(for_postgres(migration.sql.as_str())).into_sql_str();
    }
    migrations
}

/// Puts the text of a migration into PostgreSQL's words: integers of 64 bits, texts that sort by their bytes, and references that may be looked
/// at when the transaction ends. Comments go.
fn for_postgres(migration: &str) -> String {
    let mut text = String::with_capacity(migration.len() * 2);
    for line in migration.lines() {
        let code = line.split("--").next().unwrap_or_default();
        let code = code.replace(" INTEGER", " BIGINT").replace(" TEXT", " TEXT COLLATE \"C\"");
        text.push_str(&with_deferrable_references(&code));
        text.push('\n');
    }
    text
}

/// `REFERENCES table (column)` gets the word that makes the constraint deferrable.
fn with_deferrable_references(code: &str) -> String {
    let Some((before, rest)) = code.split_once("REFERENCES") else { return code.to_owned() };
    let Some((target, after)) = rest.split_once(')') else { return code.to_owned() };
    format!("{before}REFERENCES{target}) DEFERRABLE INITIALLY IMMEDIATE{}", with_deferrable_references(after))
}

/// A text as PostgreSQL can hold it: there a text has no NUL. Nothing that has a meaning here holds one.
pub(super) fn postgres_text(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_gets_the_same_tables_in_its_own_words() {
        let text = "-- A comment with TEXT.\nCREATE TABLE t (\n    key TEXT PRIMARY KEY NOT NULL,   -- INTEGER\n    at INTEGER,\n\
                    other TEXT NOT NULL UNIQUE REFERENCES other (key),   -- one\n    note TEXT\n);";
        let expected = "\nCREATE TABLE t (\n    key TEXT COLLATE \"C\" PRIMARY KEY NOT NULL,   \n    at BIGINT,\n\
                        other TEXT COLLATE \"C\" NOT NULL UNIQUE REFERENCES other (key) DEFERRABLE INITIALLY IMMEDIATE,   \n    \
                        note TEXT COLLATE \"C\"\n);\n";
        assert_eq!(for_postgres(text), expected);
    }

    #[test]
    fn a_migration_has_the_same_checksum_on_both_databases() {
        let pairs = sqlite_migrations().into_iter().zip(postgres_migrations());
        for (sqlite, postgres) in pairs {
            assert_eq!((sqlite.version, sqlite.checksum), (postgres.version, postgres.checksum));
        }
        assert_eq!(last_migration(), i64::try_from(MIGRATIONS.len()).unwrap());
    }

    #[test]
    fn postgres_never_gets_a_nul() {
        assert_eq!(postgres_text("a\0b".to_owned()), "a\u{fffd}b");
        assert_eq!(postgres_text("ab".to_owned()), "ab");
    }
}

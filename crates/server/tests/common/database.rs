//! The database of a test: SQLite in the data folder, or a database of its own on a PostgreSQL server.
//!
//! `BLOBKEEP_TEST_POSTGRES` is the address of a server in which databases may be made: tests about the database itself then run on both.
//! `BLOBKEEP_TEST_SERVICES=postgres` says that every service that a test starts uses that server, too.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use blobkeep_server::db::{Database, Db, PostgresUrl, query};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};

/// The address of the server, if there is one.
pub fn server() -> Option<String> {
    std::env::var("BLOBKEEP_TEST_POSTGRES").ok().filter(|text| !text.is_empty())
}

/// A database that goes when this is dropped.
pub struct OwnDatabase {
    server: String,
    name: String,
}

async fn connect(server: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    options.connect().await.unwrap()
}

impl OwnDatabase {
    /// An empty one.
    pub async fn new(server: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let made = Self { server: server.to_owned(), name };
        made.command(&format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", made.name)).await;
        made
    }

    /// The one of the service with that data folder, if services are to use PostgreSQL: a service that comes back finds what it left.
    pub async fn for_service(data_dir: &Path) -> Option<Arc<Self>> {
        static ALL: Mutex<Vec<(PathBuf, Weak<OwnDatabase>)>> = Mutex::new(Vec::new());
        std::env::var("BLOBKEEP_TEST_SERVICES").ok().filter(|text| text == "postgres")?;
        let known = ALL.lock().unwrap().iter().find(|(dir, _)| dir == data_dir).and_then(|(_, known)| known.upgrade());
        if known.is_some() {
            return known;
        }
        let server = server().unwrap_or_else(|| panic!("BLOBKEEP_TEST_SERVICES=postgres needs BLOBKEEP_TEST_POSTGRES"));
        let made = Arc::new(Self::new(&server).await);
        ALL.lock().unwrap().push((data_dir.to_owned(), Arc::downgrade(&made)));
        Some(made)
    }

    /// Does something to the server.
    pub async fn command(&self, sql: &str) {
        let mut conn = connect(&self.server).await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A role with that password, which goes with the database.
    pub async fn role(&self, password: &str) -> String {
        let role = format!("{}_role", self.name);
        self.command(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await;
        role
    }

    /// Its address with these further parameters.
    pub fn address(&self, parameters: &str) -> String {
        let joint = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{joint}dbname={}{parameters}", self.server, self.name)
    }

    pub fn url(&self) -> PostgresUrl {
        PostgresUrl::parse(&self.address("")).unwrap()
    }

    pub fn database(&self) -> Database {
        Database::Postgres(self.url())
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: that of the test may be ending.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = connect(&server).await;
                for sql in [format!("DROP DATABASE {name} WITH (FORCE)"), format!("DROP ROLE IF EXISTS {name}_role")] {
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
                }
            });
        });
        let is_removed = removed.join().is_ok();
        assert!(is_removed || std::thread::panicking(), "the database {} is left", self.name);
    }
}

/// From now on jobs are stored and stay where they are.
pub async fn hold_the_queue(db: &Db) {
    let statements: &[&'static str] = if db.is_shared() {
        &[
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN NEW.not_before := 9000000000000000000; RETURN NEW; END $$",
            "CREATE TRIGGER hold BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION hold()",
        ]
    } else {
        &[
            "CREATE TRIGGER hold AFTER INSERT ON jobs BEGIN UPDATE jobs SET not_before = 9000000000000000000 WHERE id = NEW.id; END",
        ]
    };
    let mut tx = db.write().await.unwrap();
    for statement in statements {
        query(*statement).execute(&mut tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

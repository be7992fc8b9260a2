//! Where the database is: a file in the data folder, or a PostgreSQL server. An address may hold a password, so nothing here prints one, not
//! even where it is wrong.

use std::fmt;
use std::path::Path;

use sqlx::postgres::PgConnectOptions;

/// The database's file in the data folder.
pub const SQLITE_FILE: &str = "blobkeep.db";

/// Where the database is.
#[derive(Debug, Clone, Default)]
pub enum Database {
    /// The SQLite file in the data folder.
    #[default]
    Sqlite,
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
}

impl Database {
    /// Reads what stands on the command line, in the environment or in the configuration: `sqlite`, the path or URL of the file in the data
    /// folder, or `postgres://…`.
    ///
    /// # Errors
    /// A sentence that says what does not fit, without any password.
    pub fn parse(text: &str, data_dir: &Path) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(Self::Postgres);
        }
        let path =
            ["sqlite://", "sqlite:", "file://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let own = data_dir.join(SQLITE_FILE);
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if matches!(path, "sqlite" | "") || absolute(path.as_ref()) == absolute(&own) {
            return Ok(Self::Sqlite);
        }
        if path.contains("://") || path.contains('@') {
            return Err(
                "it must be sqlite, or the address of a PostgreSQL database: postgres://user@host/database".to_owned()
            );
        }
        let own = own.display();
        Err(format!(
            "{path}: the SQLite database lies in the data folder ({own}): leave it out, or use another data folder"
        ))
    }
}

/// The address of a PostgreSQL database. It may hold a password and is never printed; `Display` names server, database and user.
#[derive(Clone)]
pub struct PostgresUrl(Box<PgConnectOptions>);

/// What may stand behind the question mark; what means nothing to us is refused, for it was meant to mean something.
const PARAMETERS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
];

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?…`. What it does not say comes from PostgreSQL's own variables (`PGPASSWORD` and the
    /// others) and from `~/.pgpass`.
    ///
    /// # Errors
    /// A sentence that says what does not fit, without any password.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_signs(text)?;
        let options: PgConnectOptions = text.parse().map_err(|error: sqlx::Error| match error {
            // The reason of the reader of addresses, which does not repeat them.
            sqlx::Error::Configuration(reason) => format!("it is not the address of a PostgreSQL database: {reason}"),
            _ => "it is not the address of a PostgreSQL database".to_owned(),
        })?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("blobkeep"),
        };
        Ok(Self(Box::new(options)))
    }

    /// What connections are made from.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.0
    }

    /// The user that signs in.
    pub(super) fn user(&self) -> &str {
        self.0.get_username()
    }

    /// The database; PostgreSQL takes the user's name where none is said.
    pub(super) fn name(&self) -> &str {
        self.0.get_database().unwrap_or_else(|| self.user())
    }
}

/// Signs of a password that are not written as an address wants them would make parts of it a host, a database or a parameter, which are
/// printed.
fn check_signs(text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let path = place.split_once('/').map_or("", |(_, path)| path);
    if path.contains('@') || place.matches('@').count() > 1 || text.contains('#') || parameters.contains('@') {
        return Err(
            "signs such as @ : / ? # in a user's name or password must be written as %40 %3A %2F %3F %23".to_owned()
        );
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
            let known = PARAMETERS.join(", ");
            return Err(format!("the address has a parameter behind the question mark that is none of {known}"));
        }
    }
    Ok(())
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.0.get_host(), self.0.get_port());
        write!(f, "the PostgreSQL database {} ", self.name())?;
        match self.0.get_socket() {
            Some(socket) => write!(f, "on the socket in {}", socket.display())?,
            None if host.starts_with('/') => write!(f, "on the socket in {host}")?,
            None => write!(f, "at {host}:{port}")?,
        }
        write!(f, " (user {})", self.user())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Database, String> {
        Database::parse(text, Path::new("/data"))
    }

    #[test]
    fn sqlite_lies_in_the_data_folder() {
        for good in ["sqlite", "", "/data/blobkeep.db", "sqlite:///data/blobkeep.db", "sqlite:/data/blobkeep.db"] {
            assert!(matches!(parse(good), Ok(Database::Sqlite)), "{good}");
        }
        assert!(parse("/elsewhere/blobkeep.db").unwrap_err().contains("/data/blobkeep.db"));
        assert!(parse("mysql://user:secret@host/db").unwrap_err().contains("postgres://"));
    }

    #[test]
    fn an_address_of_postgres_names_server_database_and_user() {
        for (text, shown) in [
            ("postgres://keeper:secret@db.example.org/backup", "database backup at db.example.org:5432 (user keeper)"),
            ("postgresql://keeper@db.example.org:5433/backup?sslmode=require", "backup at db.example.org:5433"),
            ("postgres:///backup?host=/run/postgresql&user=keeper&password=secret", "on the socket in /run/postgresql"),
            ("postgres://keeper@db.example.org", "database keeper at"),
            ("postgres://keeper:s%40c%2Fr%23t@db.example.org/backup", "backup at db.example.org"),
        ] {
            let Ok(Database::Postgres(url)) = parse(text) else { panic!("{text} is refused") };
            assert!(url.to_string().contains(shown), "{text}: {url}");
            assert!(!format!("{url} {url:?}").contains("secret"), "{url:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_its_password() {
        for (text, said) in [
            ("postgres://keeper:12/secret@host/db", "%40"),
            ("postgres://keeper:secret@secret@host/db", "%40"),
            ("postgres://keeper:12?secret@host/db", "%40"),
            ("postgres://keeper:12#secret@host/db", "%40"),
            ("postgres://keeper:secret@host:port/db", "port"),
            ("postgres://host/db?pasword=secret", "sslmode"),
            ("postgres://host/db?sslmode=always", "always"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret"), "{text}: {error}");
        }
    }
}

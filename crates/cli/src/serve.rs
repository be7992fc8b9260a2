//! `blobkeep serve`: the service, all roles in one process. Prints one line on standard output once it answers; everything else is log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blobkeep_server::db::Database;
use blobkeep_server::{Config, Parts};
use clap::Args;

use crate::client::default_data_dir;
use crate::progress::wait_for_signal;
use crate::{Outcome, UsageError, output, secret};

/// The longest that an orderly stop may take.
const STOP_SECONDS: u64 = 25;
/// Where the database is, if no flag says it.
const DATABASE_VARIABLE: &str = "BLOBKEEP_DATABASE";

/// Runs the service: API, identity, jobs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep serve
  blobkeep serve --data-dir /var/lib/blobkeep --listen 0.0.0.0:8443 --hostname backup.example.org --store /backup/vaults
  BLOBKEEP_DATABASE='postgres://keeper:PASSWORD@db.example.org/backup?sslmode=verify-full' blobkeep serve

What the service makes at its first start (keys, certificates, database) lies in the data folder: keep a copy of
DIR/master.key elsewhere, and of every [[encryption_key]] of the configuration: without it no vault of that key can be
read. RUST_LOG sets how much is logged.")]
pub(crate) struct ServeArgs {
    /// Where keys, certificates and the database lie [default: $XDG_DATA_HOME/blobkeep or ~/.local/share/blobkeep]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database: `sqlite` for the file in the data folder, or postgres://USER@HOST/DATABASE. It may hold a password: env:NAME, file:PATH
    /// or - hide it [env: BLOBKEEP_DATABASE] [default: sqlite]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Where vaults are kept: a folder, file:///…, or the address of an Azure container with its SAS [default: DIR/vaults]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A name by which the service is reached; goes into its certificate (again for more)
    #[arg(long, value_name = "NAME")]
    hostname: Vec<String>,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// Why it cannot start or go on.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<Outcome> {
    let mut running = blobkeep_server::serve(config(args)?, Parts::default()).await?;
    output::line(format!("listening on {}", running.base_url()))?;
    tokio::select! {
        ended = running.wait() => {
            ended?;
            anyhow::bail!("the server ended by itself: its log says why");
        }
        () = wait_for_signal() => {}
    }
    tracing::info!("stopping");
    if tokio::time::timeout(Duration::from_secs(STOP_SECONDS), running.shutdown()).await.is_err() {
        // Jobs are rows with leases: the next start takes over what was cut off.
        tracing::warn!(seconds = STOP_SECONDS, "work did not end in time; the next start goes on with it");
    }
    Ok(Outcome::Done)
}

fn config(args: ServeArgs) -> anyhow::Result<Config> {
    let data_dir = match args.data_dir {
        Some(data_dir) => data_dir,
        None => default_data_dir()?,
    };
    let mut config = match &args.config {
        Some(file) => Config::from_file(&data_dir, file)?,
        None => Config::new(&data_dir),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(database) = database(args.database.as_deref(), std::env::var(DATABASE_VARIABLE).ok(), &data_dir)? {
        config.database = database;
    }
    if let Some(store) = &args.store {
        config.store = Some(secret::read_place(store, "--store")?);
    }
    config.hostnames.extend(args.hostname);
    Ok(config)
}

/// What the flag says, or else the variable; none if both are silent.
fn database(flag: Option<&str>, variable: Option<String>, data_dir: &Path) -> anyhow::Result<Option<Database>> {
    let (what, text) = match (flag, variable.filter(|text| !text.is_empty())) {
        (Some(given), _) => ("--database", secret::read_place(given, "--database")?),
        (None, Some(text)) => (DATABASE_VARIABLE, text),
        (None, None) => return Ok(None),
    };
    let parsed = Database::parse(&text, data_dir);
    Ok(Some(parsed.map_err(|reason| UsageError(format!("{what}: {reason}")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(flag: Option<&str>, variable: Option<&str>) -> Result<String, String> {
        let found = database(flag, variable.map(str::to_owned), Path::new("/data"));
        found.map(|found| format!("{found:?}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_database_is_the_one_in_the_data_folder_if_nothing_else_is_said() {
        assert_eq!(found(None, None).unwrap(), "None");
        assert_eq!(found(None, Some("")).unwrap(), "None");
        for good in ["sqlite", "/data/blobkeep.db", "sqlite:///data/blobkeep.db"] {
            assert_eq!(found(Some(good), None).unwrap(), "Some(Sqlite)", "{good}");
        }
        assert!(found(Some("/elsewhere/blobkeep.db"), None).unwrap_err().contains("/data/blobkeep.db"));
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_neither_tells_a_password() {
        let address = "postgres://keeper:topsecret@db.example.org/backup";
        for (flag, variable) in [(None, Some(address)), (Some(address), Some("sqlite"))] {
            let found = found(flag, variable).unwrap();
            assert!(found.contains("backup at db.example.org:5432") && !found.contains("topsecret"), "{found}");
        }
        assert_eq!(found(Some("sqlite"), Some(address)).unwrap(), "Some(Sqlite)");
        let wrong = found(None, Some("postgres://keeper:top/secret@db.example.org/backup")).unwrap_err();
        assert!(wrong.starts_with("BLOBKEEP_DATABASE: ") && !wrong.contains("secret"), "{wrong}");
    }
}

//! `blobkeep serve`: the service, all roles in one process. Prints one line on standard output once it answers; everything else is log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use blobkeep_server::{Config, Parts};
use clap::Args;

use crate::client::default_data_dir;
use crate::progress::wait_for_signal;
use crate::{Outcome, UsageError, output, secret};

/// The longest that an orderly stop may take.
const STOP_SECONDS: u64 = 25;
/// The database's file in the data folder.
const DATABASE: &str = "blobkeep.db";

/// Runs the service: API, identity, jobs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep serve
  blobkeep serve --data-dir /var/lib/blobkeep --listen 0.0.0.0:8443 --hostname backup.example.org --store /backup/vaults

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
    /// The database: `sqlite`, or the path or URL of the SQLite file in the data folder [default: DIR/blobkeep.db]
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
    check_database(args.database.as_deref(), &data_dir)?;
    let mut config = match &args.config {
        Some(file) => Config::from_file(&data_dir, file)?,
        None => Config::new(&data_dir),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(store) = &args.store {
        config.store = Some(secret::read_place(store, "--store")?);
    }
    config.hostnames.extend(args.hostname);
    Ok(config)
}

fn check_database(given: Option<&str>, data_dir: &std::path::Path) -> Result<(), UsageError> {
    let Some(given) = given else { return Ok(()) };
    if given.starts_with("postgres://") || given.starts_with("postgresql://") {
        let text = "--database: PostgreSQL is not supported yet: leave the flag out to use SQLite in the data folder";
        return Err(UsageError(text.to_owned()));
    }
    let path =
        ["sqlite://", "sqlite:", "file://"].iter().find_map(|scheme| given.strip_prefix(scheme)).unwrap_or(given);
    let own = data_dir.join(DATABASE);
    let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if matches!(path, "sqlite" | "") || absolute(path.as_ref()) == absolute(&own) {
        return Ok(());
    }
    let own = own.display();
    Err(UsageError(format!(
        "--database {path}: the SQLite database lies in the data folder ({own}): leave the flag out, or give another --data-dir"
    )))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_database_is_the_one_in_the_data_folder() {
        let check = |given: &str| check_database(Some(given), Path::new("/data")).map_err(|error| error.to_string());
        for good in ["sqlite", "/data/blobkeep.db", "sqlite:///data/blobkeep.db"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert!(check("postgres://host/db").unwrap_err().contains("not supported yet"));
        assert!(check("/elsewhere/blobkeep.db").unwrap_err().contains("/data/blobkeep.db"));
    }
}

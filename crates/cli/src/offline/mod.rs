//! `blobkeep offline`: the engine as a command, on one vault, with no service and no database. Each verb has its file; what they share
//! (the store, the key, the choice of a point) is here and in `point` and `key`.

mod backup;
mod blob;
mod diff;
mod init;
mod key;
mod list;
mod point;
mod prune;
mod rebuild;
mod restore;
mod search;
mod verify;

use std::path::PathBuf;

use blobkeep_vault::Vault;
use clap::{Args, Subcommand};

use crate::Outcome;
use crate::output::Format;
use crate::place::StorePlace;

/// Works on one vault directly: no service, no database
#[derive(Debug, Args)]
#[command(after_help = OVERVIEW)]
pub(crate) struct OfflineArgs {
    #[command(subcommand)]
    verb: Verb,
}

const OVERVIEW: &str = "\
A store is a folder, file:///…, or the address of an Azure container (and a folder in it) with its SAS.
A source or target is a folder (one container), file:///…, the address of an Azure container with its SAS, or without
--source/--target the account of the connection string in BLOBKEEP_CONNECTION_STRING.
Addresses with a SAS may be given as env:NAME, file:PATH or - (standard input).

Examples:
  blobkeep offline init    --store /backup/vault --key-file vault.key
  blobkeep offline backup  --store /backup/vault --key-file vault.key --source /home/me/documents
  blobkeep offline list    --store /backup/vault --key-file vault.key
  blobkeep offline diff    --store /backup/vault --key-file vault.key
  blobkeep offline search  --store /backup/vault --key-file vault.key '**/report*.pdf'
  blobkeep offline restore --store /backup/vault --key-file vault.key --target /tmp/restored
  blobkeep offline verify  --store /backup/vault --key-file vault.key";

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    List(list::ListArgs),
    Diff(diff::DiffArgs),
    Search(search::SearchArgs),
    Restore(restore::RestoreArgs),
    Prune(prune::PruneArgs),
    Verify(verify::VerifyArgs),
    RebuildIndex(rebuild::RebuildArgs),
}

/// Which vault, by which key.
#[derive(Debug, Args)]
struct VaultArgs {
    /// Where the vault lies: a folder, file:///…, or the address of an Azure container with its SAS
    #[arg(long, value_name = "URL")]
    store: String,
    /// The file with the vault's key: without it nothing in the vault can be read
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

/// How results are printed.
#[derive(Debug, Args)]
struct OutputArgs {
    /// How the result is printed
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
}

impl VaultArgs {
    fn place(&self) -> anyhow::Result<StorePlace> {
        StorePlace::parse(&self.store)
    }

    async fn open(&self, place: &StorePlace) -> anyhow::Result<Vault> {
        let master = key::read(&self.key_file)?;
        Ok(Vault::open(place.open(false)?, &master).await?)
    }
}

/// Runs one verb.
///
/// # Errors
/// What went wrong, to which thing, and what to do.
pub(crate) async fn run(args: OfflineArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Init(args) => init::run(args).await,
        Verb::Backup(args) => backup::run(args).await,
        Verb::List(args) => list::run(args).await,
        Verb::Diff(args) => diff::run(args).await,
        Verb::Search(args) => search::run(args).await,
        Verb::Restore(args) => restore::run(args).await,
        Verb::Prune(args) => prune::run(args).await,
        Verb::Verify(args) => verify::run(args).await,
        Verb::RebuildIndex(args) => rebuild::run(args).await,
    }
}

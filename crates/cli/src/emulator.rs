//! `blobkeep emulator`: the built-in Azure Blob emulator as a process, for trying things out. Its blobs are in memory only.

use std::net::SocketAddr;

use blobkeep_emulator::{Account, Emulator, EmulatorOptions, SyntheticSpec};
use clap::Args;

use crate::progress::wait_for_signal;
use crate::{Outcome, output};

/// Serves a small Azure Blob emulator, its blobs in memory only
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blobkeep emulator
  blobkeep emulator --listen 127.0.0.1:10000 --account devstoreaccount1 --account second
  blobkeep emulator --synthetic devstoreaccount1/small=100000:4096:65536
  blobkeep emulator --versioning --change-feed")]
pub(crate) struct EmulatorArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// An account and its key in base64; without a key one is derived from the name (again for more) [default: devstoreaccount1]
    #[arg(long, value_name = "NAME[:KEY]")]
    account: Vec<String>,
    /// A container of generated blobs, which take no memory: how many, and their least and greatest size in bytes (again for more)
    #[arg(long, value_name = "ACCOUNT/CONTAINER=COUNT:MIN:MAX", value_parser = synthetic)]
    synthetic: Vec<Synthetic>,
    /// Keep every state of a blob that is overwritten or deleted as an earlier version
    #[arg(long)]
    versioning: bool,
    /// Write a change feed of each account, in its container $blobchangefeed
    #[arg(long)]
    change_feed: bool,
    /// After how many milliseconds a change is in the feed at the latest
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000, requires = "change_feed")]
    change_feed_delay: u64,
}

/// A container of generated blobs.
#[derive(Debug, Clone)]
struct Synthetic {
    account: String,
    container: String,
    count: u64,
    min_bytes: u64,
    max_bytes: u64,
}

fn synthetic(text: &str) -> Result<Synthetic, String> {
    let parse = || {
        let (place, numbers) = text.split_once('=')?;
        let (account, container) = place.split_once('/')?;
        let mut numbers = numbers.split(':').map(|number| number.parse::<u64>().ok());
        let (count, min_bytes, max_bytes) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let is_whole = numbers.next().is_none() && min_bytes <= max_bytes;
        is_whole.then(|| Synthetic {
            account: account.into(),
            container: container.into(),
            count,
            min_bytes,
            max_bytes,
        })
    };
    parse()
        .ok_or_else(|| "give ACCOUNT/CONTAINER=COUNT:MIN:MAX, such as devstoreaccount1/small=1000:0:65536".to_owned())
}

/// Serves until it is told to stop.
///
/// # Errors
/// What the system says about the address.
pub(crate) async fn run(args: EmulatorArgs) -> anyhow::Result<Outcome> {
    let mut options = EmulatorOptions {
        versioning: args.versioning,
        change_feed: args.change_feed,
        change_feed_delay_ms: args.change_feed_delay,
        ..EmulatorOptions::default()
    };
    if !args.account.is_empty() {
        options.accounts = args.account.iter().map(|given| account(given)).collect();
    }
    let names: Vec<String> = options.accounts.iter().map(|account| account.name.clone()).collect();
    let emulator = Emulator::start(args.listen, options).await?;
    for synthetic in &args.synthetic {
        let spec = SyntheticSpec {
            count: synthetic.count,
            min_bytes: synthetic.min_bytes,
            max_bytes: synthetic.max_bytes,
            ..SyntheticSpec::default()
        };
        emulator.create_container(&synthetic.account, &synthetic.container)?;
        emulator.add_synthetic(&synthetic.account, &synthetic.container, spec)?;
    }
    output::line(format!("listening on http://{}", emulator.address()))?;
    for name in names {
        output::line(emulator.connection_string(&name))?;
    }
    wait_for_signal().await;
    emulator.stop().await;
    Ok(Outcome::Done)
}

fn account(given: &str) -> Account {
    match given.split_once(':') {
        Some((name, key)) => Account { name: name.to_owned(), key_base64: key.to_owned() },
        None if given == blobkeep_emulator::DEVELOPMENT_ACCOUNT => {
            Account { name: given.to_owned(), key_base64: blobkeep_emulator::DEVELOPMENT_KEY.to_owned() }
        }
        None => Account::with_derived_key(given),
    }
}

//! `offline init`: makes a vault in an empty place, and its key file if there is none. A vault that is there already is left as it is.

use anyhow::bail;
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::{Clock as _, Store, StoreErrorKind, Vault};
use clap::Args;
use serde_json::json;

use super::{OutputArgs, VaultArgs, key};
use crate::Outcome;
use crate::clock::SystemClock;
use crate::output::{self, Format};

/// Makes a vault, and its key file if there is none
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blobkeep offline init --store /backup/vault --key-file vault.key")]
pub(super) struct InitArgs {
    #[command(flatten)]
    vault: VaultArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: InitArgs) -> anyhow::Result<Outcome> {
    let key_file = &args.vault.key_file;
    let store = args.vault.place()?.open(true)?;
    let existing_key = key::find(key_file)?;
    if holds_vault(store.as_ref()).await? {
        let Some(master) = existing_key else {
            bail!(
                "there is a vault in {} already, and no key file {}: give the key file that was made with it, or another --store",
                store.describe(),
                key_file.display()
            );
        };
        let vault = Vault::open(store, &master).await?;
        report(&args, &vault, false, false)?;
        return Ok(Outcome::Done);
    }
    // The key comes first and is durable before anything is sealed with it.
    let makes_key = existing_key.is_none();
    let master = match existing_key {
        Some(master) => master,
        None => key::make(key_file)?,
    };
    let vault = Vault::init(store, &master, ChunkSizes::default(), SystemClock.now()).await?;
    report(&args, &vault, true, makes_key)?;
    Ok(Outcome::Done)
}

async fn holds_vault(store: &dyn Store) -> anyhow::Result<bool> {
    match store.size("vault.json").await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn report(args: &InitArgs, vault: &Vault, is_new_vault: bool, is_new_key: bool) -> anyhow::Result<()> {
    let (id, place, key_file) = (&vault.header.vault_id, vault.store.describe(), args.vault.key_file.display());
    if args.output.output == Format::Json {
        return output::json(&json!({
            "vaultId": id,
            "format": vault.header.format,
            "store": place,
            "keyFile": key_file.to_string(),
            "createdVault": is_new_vault,
            "createdKey": is_new_key,
        }));
    }
    if !is_new_vault {
        return output::line(format!("vault {id} is in {place} already, and {key_file} opens it: nothing was changed"));
    }
    output::line(format!("made vault {id} in {place}"))?;
    if is_new_key {
        output::line(format!(
            "made its key in {key_file}: keep a copy elsewhere; without it nothing in the vault can ever be read"
        ))?;
    }
    Ok(())
}

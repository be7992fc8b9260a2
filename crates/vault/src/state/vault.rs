//! The chain of the vault itself: immutability, and the packs that a prune has condemned.

use serde::{Deserialize, Serialize};

use super::chain::{At, Chain, Chained};
use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::vault::Vault;

/// Name of the chain; no instance may have it.
pub(super) const VAULT_CHAIN: &str = "vault";

/// Whether points can be removed before they expire, as in Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Immutability {
    /// They can.
    #[default]
    Disabled,
    /// They cannot, but this setting can be taken back.
    Unlocked,
    /// They cannot, and this setting can never be taken back.
    Locked,
}

/// One change of the vault's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum VaultChange {
    /// The vault was made; always the first.
    VaultMade,
    /// Immutability was set.
    ImmutabilitySet {
        /// From now on.
        mode: Immutability,
    },
    /// A prune has condemned packs: writers that begin from now on treat them as absent. All packs that were condemned before and not
    /// pruned yet are among them.
    PacksCondemned {
        /// The prune; its list is the file `condemned/<prune>`.
        prune: String,
        /// BLAKE3 of that file, in hexadecimal digits.
        list_hash: String,
        /// How many they are.
        packs: u64,
    },
    /// The condemned packs are gone, and no index run names them.
    PacksPruned {
        /// The prune that condemned them.
        prune: String,
    },
}

/// The packs that are condemned at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condemned {
    /// Number of the record that condemned them.
    pub number: u64,
    /// The prune.
    pub prune: String,
    /// BLAKE3 of the list's file, in hexadecimal digits.
    pub list_hash: String,
    /// How many they are.
    pub packs: u64,
}

/// What the chain of the vault adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultState {
    /// Whether points can be removed before they expire.
    pub immutability: Immutability,
    /// Packs that a prune has condemned and not removed yet.
    pub condemned: Option<Condemned>,
    /// Number of the record that condemned the packs which were removed last; 0 if none ever were.
    pub pruned: u64,
}

impl VaultState {
    /// Work of a writer that registered before this number may need packs that are condemned or gone.
    pub fn unsafe_before(&self) -> u64 {
        self.condemned.as_ref().map_or(self.pruned, |condemned| condemned.number)
    }
}

impl Chained for VaultState {
    type Change = VaultChange;

    fn apply(&mut self, change: &VaultChange, number: u64) -> Result<()> {
        match change {
            VaultChange::VaultMade => {}
            VaultChange::ImmutabilitySet { mode } => {
                if self.immutability == Immutability::Locked && *mode != Immutability::Locked {
                    return Err(Error::Conflict("the vault's immutability is locked: nobody can take it back".into()));
                }
                self.immutability = *mode;
            }
            VaultChange::PacksCondemned { prune, list_hash, packs } => {
                self.condemned =
                    Some(Condemned { number, prune: prune.clone(), list_hash: list_hash.clone(), packs: *packs });
            }
            VaultChange::PacksPruned { prune } => match self.condemned.take() {
                Some(condemned) if condemned.prune == *prune => self.pruned = condemned.number,
                other => {
                    self.condemned = other;
                    return Err(Error::Conflict(format!("prune {prune} was overtaken by another")));
                }
            },
        }
        Ok(())
    }
}

impl<'a> Chain<'a, VaultState> {
    /// The chain of the vault.
    pub fn vault(vault: &'a Vault) -> Self {
        Self::named(vault, VAULT_CHAIN)
    }

    /// Adds a record after the state `at`. `None` if the chain has gone on since that was read.
    pub async fn append_after(
        &self,
        at: &At<VaultState>,
        change: &VaultChange,
        now: Timestamp,
    ) -> Result<Option<At<VaultState>>> {
        self.add(at, change, now).await
    }

    /// Adds a record. If another writer was faster, the change is checked against the newer state and tried again.
    pub async fn append(&self, change: VaultChange, now: Timestamp) -> Result<At<VaultState>> {
        loop {
            let at = self.load().await?;
            if let Some(added) = self.add(&at, &change, now).await? {
                return Ok(added);
            }
        }
    }
}

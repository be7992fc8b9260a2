//! A chain of records: numbered, sealed, each holding the hash of the one before. The next number is taken by put-if-absent, which is a
//! compare-and-swap; what the records add up to is folded into every [`FOLD`]th, so that a chain need not be read from its start.

use std::ops::Deref;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::seal::{open_record, seal_record};
use crate::store::{Put, StoreErrorKind};
use crate::vault::Vault;

/// Every record of a number divisible by this carries the whole state.
const FOLD: u64 = 32;
/// A chain of more records than one listing holds is searched for its end instead of listed.
const LISTED: usize = 1000;

/// What a chain adds up to.
pub trait Chained: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// One record's change.
    type Change: Clone + Serialize + DeserializeOwned + Send + Sync;

    /// Applies the change of record `number`; an error if it contradicts what is there.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::NotFound`] with what stands in the way.
    fn apply(&mut self, change: &Self::Change, number: u64) -> Result<()>;
}

/// A state, and the place in its chain that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At<S> {
    /// Number of the last record; 0 if there is none.
    pub number: u64,
    last_hash: String,
    state: S,
}

impl<S> Deref for At<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

/// The plaintext of `state/<chain>/<n>`, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<C, S> {
    number: u64,
    /// BLAKE3 of the file before, in hexadecimal digits; empty for the first.
    previous: String,
    time: Timestamp,
    #[serde(flatten)]
    change: C,
    /// The state after this record, in every [`FOLD`]th one.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<S>,
}

/// One chain of a vault.
pub struct Chain<'a, S = super::State> {
    pub(super) vault: &'a Vault,
    pub(super) name: String,
    state: std::marker::PhantomData<S>,
}

impl<'a, S: Chained> Chain<'a, S> {
    pub(super) fn named(vault: &'a Vault, name: impl Into<String>) -> Self {
        Self { vault, name: name.into(), state: std::marker::PhantomData }
    }

    fn file_name(&self, number: u64) -> String {
        format!("state/{}/{number:010}", self.name)
    }

    /// The state after the last record, read from the last fold on.
    pub async fn load(&self) -> Result<At<S>> {
        let last = self.last_number().await?;
        let from = (last / FOLD * FOLD).max(1);
        self.replay(from, last).await
    }

    /// The state, with every record of the chain read and checked.
    pub async fn load_and_check_all(&self) -> Result<At<S>> {
        self.replay(1, self.last_number().await?).await
    }

    async fn last_number(&self) -> Result<u64> {
        let folder = format!("state/{}/", self.name);
        let files = self.vault.store.list(&folder, None).await?;
        let Some(last) = files.last() else { return Ok(0) };
        // A name that is a number in another form, such as `1`, comes last in a listing and would hide all records after it.
        let number = |name: &str| {
            let number = name[folder.len()..].parse::<u64>().ok().filter(|number| self.file_name(*number) == name);
            number.ok_or_else(|| Error::damaged(name, "it is no record of this chain by its name: move it away"))
        };
        let mut last = number(&last.name)?;
        if files.len() < LISTED {
            return Ok(last);
        }
        // A long chain: its end is found by asking for ever later records, then listing from the last one found.
        let mut step = LISTED as u64;
        while self.has(last + step).await? {
            last += step;
            step *= 2;
        }
        loop {
            let files = self.vault.store.list(&folder, Some(&self.file_name(last))).await?;
            match files.last() {
                Some(file) => last = number(&file.name)?,
                None => return Ok(last),
            }
        }
    }

    async fn has(&self, number: u64) -> Result<bool> {
        match self.vault.store.size(&self.file_name(number)).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    async fn replay(&self, from: u64, last: u64) -> Result<At<S>> {
        let mut at = At::<S>::default();
        for number in from..=last {
            let name = self.file_name(number);
            let file = self.vault.store.get(&name).await.map_err(|e| match e.kind {
                StoreErrorKind::NotFound => Error::damaged(&name, "the record is missing from its chain"),
                _ => Error::Store(e),
            })?;
            let text = open_record(&self.vault.keys.meta_key, &name, &file)?;
            let record: Record<S::Change, S> =
                serde_json::from_slice(&text).map_err(|e| Error::damaged(&name, e.to_string()))?;
            let follows = number == from || record.previous == at.last_hash;
            let is_first = number != 1 || record.previous.is_empty();
            if record.number != number || !follows || !is_first {
                return Err(Error::damaged(&name, "it does not follow the record before it"));
            }
            match record.folded {
                Some(folded) if number == from => at.state = folded,
                folded => {
                    at.state.apply(&record.change, number).map_err(|e| Error::damaged(&name, e.to_string()))?;
                    if folded.is_some_and(|folded| folded != at.state) {
                        let reason = "the state folded into it is not what the records before add up to";
                        return Err(Error::damaged(&name, reason));
                    }
                }
            }
            at.number = number;
            at.last_hash = blake3::hash(&file).to_hex().to_string();
        }
        Ok(at)
    }

    /// Adds a record after `at`. `None` if another writer has taken its number.
    pub(super) async fn add(&self, at: &At<S>, change: &S::Change, now: Timestamp) -> Result<Option<At<S>>> {
        let number = at.number + 1;
        let mut state = at.state.clone();
        state.apply(change, number)?;
        let folded = number.is_multiple_of(FOLD).then(|| state.clone());
        let record = Record { number, previous: at.last_hash.clone(), time: now, change: change.clone(), folded };
        let name = self.file_name(number);
        let text = serde_json::to_vec(&record).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
        let file = seal_record(&self.vault.keys.meta_key, &name, &text)?;
        let last_hash = blake3::hash(&file).to_hex().to_string();
        match self.vault.store.put_if_absent(&name, Bytes::from(file)).await? {
            Put::Stored => Ok(Some(At { number, last_hash, state })),
            Put::Exists => Ok(None),
        }
    }
}

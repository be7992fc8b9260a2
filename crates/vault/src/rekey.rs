//! Another key for a vault: its secrets are wrapped under the new one, and what the old one opened goes.
//!
//! Nothing but the key slots is touched: the secrets stay what they are, so nothing has to be sealed anew. The new slot and its copy are
//! durable, and were read back, before anything goes. So a vault that was left at any step opens with the old key or with the new one, and
//! doing it again brings it to its end.

use std::collections::BTreeSet;

use bytes::Bytes;
use hex::encode as to_text;

use crate::error::{Error, Result};
use crate::key::{MasterKey, VaultKeys};
use crate::seal::random_bytes;
use crate::store::StoreErrorKind;
use crate::vault::{Vault, slot_names};

/// What a key is given as, in the store.
const SLOTS: &str = "keys/";

impl Vault {
    /// Puts the secrets of the vault under `master` and under no other key. Whoever is at work with the vault goes on.
    ///
    /// What the old key opened before it still opens: copies of the store that were taken until now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a vault that was opened by a writer's key; what the store reports. The vault still opens then, with the old
    /// key or with the new one.
    pub async fn change_key(&self, master: &MasterKey) -> Result<()> {
        if !self.keys.can_read() {
            return Err(Error::Invalid(
                "this key can write to the vault but not read from it, so it cannot give it another key".into(),
            ));
        }
        let kept = match self.whole_pair(master).await? {
            Some(pair) => pair,
            None => self.add_pair(master).await?,
        };
        for slot in self.store.list(SLOTS, None).await? {
            if !kept.contains(&slot.name) {
                self.store.delete(&slot.name).await?;
            }
        }
        Ok(())
    }

    /// A slot and its copy that both open with `master` to what they should hold.
    async fn whole_pair(&self, master: &MasterKey) -> Result<Option<[String; 2]>> {
        let mut whole = BTreeSet::new();
        for slot in self.store.list(SLOTS, None).await? {
            if self.is_opened(&slot.name, master).await? {
                whole.insert(slot.name);
            }
        }
        let ids = whole.iter().filter_map(|name| name.strip_prefix(SLOTS));
        let mut pairs = ids.map(slot_names);
        Ok(pairs.find(|pair| pair.iter().all(|name| whole.contains(name))))
    }

    async fn add_pair(&self, master: &MasterKey) -> Result<[String; 2]> {
        let pair = slot_names(&to_text(random_bytes::<8>()?));
        for name in &pair {
            self.store.put_if_absent(name, Bytes::from(self.keys.wrap(master, &self.header_text)?)).await?;
        }
        // What replaces the only way into the vault is tried before that goes.
        for name in &pair {
            if !self.is_opened(name, master).await? {
                return Err(Error::damaged(name, "it was just written, and does not open"));
            }
        }
        Ok(pair)
    }

    async fn is_opened(&self, name: &str, master: &MasterKey) -> Result<bool> {
        let file = match self.store.get(name).await {
            Ok(file) => file,
            Err(e) if e.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let opened = VaultKeys::unwrap(master, &self.header_text, &file)?;
        Ok(opened.is_some_and(|keys| keys.is_same(&self.keys)))
    }
}

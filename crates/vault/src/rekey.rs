//! Another key for a vault: its secrets are wrapped under the new one, and what the old one opened goes.
//!
//! Nothing but the key slots is touched: the secrets stay what they are, so nothing has to be sealed anew. The new slot and its copy are
//! durable, and were read back, before anything goes. So a vault that was left at any step opens with the old key or with the new one, and
//! doing it again brings it to its end.
//!
//! Several may do it at once, also in several processes and with several keys: each adds a slot of its own and removes only those that it
//! had seen before. So of two none removes the other's unless it stood there first, and the slot of whoever looked last stays.

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
    /// `is_wanted` is asked when the vault opens with `master` and before it stops to open with any other key. If it is no longer so,
    /// the answer is false, and the vault opens with both until it is given the key that is wanted by then.
    ///
    /// What the old key opened before it still opens: copies of the store that were taken until now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a vault that was opened by a writer's key; what the store reports. The vault still opens then, with the old
    /// key or with the new one.
    pub async fn change_key(&self, master: &MasterKey, is_wanted: impl Future<Output = Result<bool>>) -> Result<bool> {
        if !self.keys.can_read() {
            return Err(Error::Invalid(
                "this key can write to the vault but not read from it, so it cannot give it another key".into(),
            ));
        }
        let before: Vec<String> = self.store.list(SLOTS, None).await?.into_iter().map(|slot| slot.name).collect();
        if self.is_one_pair(&before, master).await? {
            return Ok(true);
        }
        // Never one that is there already: somebody else may be about to remove it.
        self.add_pair(master).await?;
        if !is_wanted.await? {
            return Ok(false);
        }
        for name in before {
            self.store.delete(&name).await?;
        }
        Ok(true)
    }

    /// These are one slot and its copy, and both open with `master` to what they should hold.
    async fn is_one_pair(&self, names: &[String], master: &MasterKey) -> Result<bool> {
        let id = names.first().and_then(|name| name.strip_prefix(SLOTS)).unwrap_or_default();
        if names != slot_names(id) {
            return Ok(false);
        }
        for name in names {
            if !self.is_opened(name, master).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn add_pair(&self, master: &MasterKey) -> Result<()> {
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
        Ok(())
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

//! Making and opening a vault: `vault.json`, the key slots, and what an open vault offers to the rest of the engine.

use std::sync::Arc;

use bytes::Bytes;
use hex::encode as to_text;
use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkSizes, Cutter};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::Timestamp;
use crate::key::{MasterKey, VaultKeys};
use crate::read::ChunkReader;
use crate::seal::random_bytes;
use crate::state::{Chain, VaultChange};
use crate::store::{Put, Store, StoreErrorKind};

/// The format that this version writes, and every later one reads.
pub const FORMAT: &str = "1";
const HEADER: &str = "vault.json";
/// The header once more: one damaged file must not cost the vault.
pub(crate) const HEADER_COPY: &str = "vault.json.copy";

/// `vault.json`: readable by eye, never rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Format version of everything in the vault.
    pub format: String,
    /// 32 hexadecimal digits.
    pub vault_id: String,
    /// How large blobs are cut.
    pub chunk_sizes: ChunkSizes,
    /// Content is sealed to this X25519 public key, in hexadecimal digits.
    pub data_key: String,
}

/// An open vault.
pub struct Vault {
    /// Where its files lie.
    pub store: Arc<dyn Store>,
    /// Its header.
    pub header: Header,
    /// Its secrets.
    pub keys: Arc<VaultKeys>,
    /// Tables for cutting.
    pub cutter: Arc<Cutter>,
    /// Chunk id → location.
    pub index: Arc<Index>,
    /// Opens chunks.
    pub reader: Arc<ChunkReader>,
    /// The bytes of the header that the key slots authenticate.
    pub(crate) header_text: Bytes,
    /// Key slots that did not open although their copy did.
    pub damaged_slots: Vec<String>,
    /// What is wrong with the header or its copy, of which one is whole.
    pub damaged_header: Option<String>,
}

impl Vault {
    /// Makes a vault in an empty store.
    pub async fn init(store: Arc<dyn Store>, master: &MasterKey, sizes: ChunkSizes, now: Timestamp) -> Result<Self> {
        // Key slots without a header are what an interrupted `init` leaves behind: they open nothing and are in nobody's way.
        if store.list("", None).await?.iter().any(|file| !file.name.starts_with("keys/")) {
            let place = store.describe();
            return Err(Error::Conflict(format!("{place} is not empty: a new vault needs a place of its own")));
        }
        let keys = VaultKeys::generate()?;
        let header = Header {
            format: FORMAT.to_owned(),
            vault_id: to_text(random_bytes::<16>()?),
            chunk_sizes: sizes.check()?,
            data_key: to_text(keys.data_public),
        };
        let mut text = serde_json::to_vec_pretty(&header).map_err(|e| Error::Internal(format!("{HEADER}: {e}")))?;
        text.push(b'\n');
        let slot_id = to_text(random_bytes::<8>()?);
        for copy in slot_names(&slot_id) {
            store.put_if_absent(&copy, Bytes::from(keys.wrap(master, &text)?)).await?;
        }
        // The header comes last: without it there is no vault, with it the vault is whole.
        let text = Bytes::from(text);
        if store.put_if_absent(HEADER, text.clone()).await? == Put::Exists {
            return Err(Error::Conflict(format!("another vault was made in {} just now", store.describe())));
        }
        store.put_if_absent(HEADER_COPY, text).await?;
        let vault = Self::open(store, master).await?;
        Chain::vault(&vault).append(VaultChange::VaultMade, now).await?;
        Ok(vault)
    }

    /// Opens a vault with its owner's key.
    pub async fn open(store: Arc<dyn Store>, master: &MasterKey) -> Result<Self> {
        let text = get_header(&store, HEADER).await?;
        let copy = get_header(&store, HEADER_COPY).await?;
        if text.is_none() && copy.is_none() {
            let place = store.describe();
            return Err(Error::NotFound(format!("there is no vault in {place}: make one with `init`")));
        }
        let (good, bad) = (HEADER, HEADER_COPY);
        let first = match &text {
            Some(text) => Self::open_by(&store, master, text).await,
            None => Err(Error::damaged(HEADER, "the file is missing")),
        };
        let (mut vault, good, bad) = match (first, &copy) {
            (Ok(vault), _) => (vault, good, bad),
            // Only another text is worth another try.
            (Err(_), Some(copy)) if text.as_ref() != Some(copy) => {
                (Self::open_by(&store, master, copy).await?, bad, good)
            }
            (Err(e), _) => return Err(e),
        };
        if text != copy {
            vault.damaged_header = Some(format!("{bad} is damaged or missing: put a copy of {good} in its place"));
        }
        Ok(vault)
    }

    async fn open_by(store: &Arc<dyn Store>, master: &MasterKey, text: &[u8]) -> Result<Self> {
        let header: Header = serde_json::from_slice(text).map_err(|e| Error::damaged(HEADER, e.to_string()))?;
        if header.format != FORMAT {
            let format = &header.format;
            return Err(Error::Invalid(format!("the vault has format {format:?}; this version reads {FORMAT:?}")));
        }
        let (keys, damaged_slots) = Self::open_slots(store, master, text, &header).await?;
        let keys = Arc::new(keys);
        if to_text(keys.data_public) != header.data_key {
            return Err(Error::damaged(HEADER, "its data key is not the vault's"));
        }
        let index = Arc::new(Index::open(store.clone(), keys.clone()).await?);
        Ok(Self {
            reader: Arc::new(ChunkReader::new(store.clone(), keys.clone(), index.clone())),
            cutter: Arc::new(Cutter::new(header.chunk_sizes.check()?, keys.cut_seed)),
            store: store.clone(),
            header,
            header_text: Bytes::copy_from_slice(text),
            keys,
            index,
            damaged_slots,
            damaged_header: None,
        })
    }

    /// The secrets, and the names of slots that do not open although their copies do.
    async fn open_slots(
        store: &Arc<dyn Store>,
        master: &MasterKey,
        text: &[u8],
        header: &Header,
    ) -> Result<(VaultKeys, Vec<String>)> {
        let mut opened = None;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for slot in store.list("keys/", None).await? {
            let opened_slot = match store.get(&slot.name).await {
                Ok(file) => VaultKeys::unwrap(master, text, &file)?,
                Err(e) => {
                    tracing::warn!(error = %e, "a key slot cannot be read; its copy may do");
                    None
                }
            };
            match opened_slot {
                Some(keys) => {
                    opened = Some(keys);
                    good.push(slot.name);
                }
                None => bad.push(slot.name),
            }
        }
        let keys = opened.ok_or_else(|| Error::WrongKey { vault: header.vault_id.clone() })?;
        let slot_of = |name: &str| name.trim_end_matches(".copy").to_owned();
        bad.retain(|bad| good.iter().any(|good| slot_of(good) == slot_of(bad)));
        Ok((keys, bad))
    }
}

async fn get_header(store: &Arc<dyn Store>, name: &str) -> Result<Option<Bytes>> {
    match store.get(name).await {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A key slot lies in the store twice, so that one damaged file does not cost the vault.
pub(crate) fn slot_names(id: &str) -> [String; 2] {
    [format!("keys/{id}"), format!("keys/{id}.copy")]
}

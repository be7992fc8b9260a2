//! Packs: files of sealed chunks. This file knows their bytes (`docs/format.md`, "Packs") and nothing of stores.
//!
//! A pack is `header | frames | sealed footer | trailer`. A frame holds one chunk, or several small ones, compressed together.
//! Every byte is authenticated: frames by their position and pack, the header by the footer, the trailer by what it points to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::chunk_id;
use crate::compress::compress;
use crate::error::{Error, Result};
use crate::item::ChunkId;
use crate::key::{VaultKeys, WRAPPED_KEY_BYTES};
use crate::seal::{Sealer, SecretKey, TAG_BYTES};

const MAGIC: &[u8; 8] = b"BKPACK01";
const END_MAGIC: &[u8; 4] = b"BKPE";
/// Length of the header: magic, kind, wrapped key.
pub const HEADER_BYTES: usize = 8 + 1 + WRAPPED_KEY_BYTES;
/// Length of the trailer: length of the sealed footer, magic.
pub const TRAILER_BYTES: usize = 4 + 4;
/// A pack is complete from this size on.
pub const TARGET_BYTES: usize = 16 << 20;
/// Chunks below this share frames.
pub const SMALL_CHUNK_BYTES: usize = 64 << 10;
/// A shared frame is complete from this plaintext size on.
pub const SHARED_FRAME_BYTES: usize = 128 << 10;
/// No frame opens to more than this: the largest chunk of the format, or a shared frame.
pub const FRAME_BYTES_AT_MOST: usize = 17 << 20;

/// Whoever writes packs: random, new for each run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub [u8; 8]);

impl std::fmt::Display for WriterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The name of a pack: 8 random bytes, so that no two attempts ever write one file, and the writer's id, so that a prune can tell the packs
/// of those who are at work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackId(pub [u8; 16]);

impl PackId {
    /// A new name.
    pub fn random(writer: WriterId) -> Result<Self> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&crate::seal::random_bytes::<8>()?);
        id[8..].copy_from_slice(&writer.0);
        Ok(Self(id))
    }

    /// Who wrote it.
    pub fn writer(&self) -> WriterId {
        let mut writer = [0; 8];
        writer.copy_from_slice(&self.0[8..]);
        WriterId(writer)
    }

    /// The file's name in the store.
    pub fn file_name(&self) -> String {
        let name = hex::encode(self.0);
        format!("packs/{}/{name}", &name[..2])
    }

    /// The id that a file name stands for.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (_, last) = name.rsplit_once('/')?;
        let mut id = [0; 16];
        hex::decode_to_slice(last, &mut id).ok()?;
        Some(Self(id)).filter(|id| id.file_name() == name)
    }
}

impl std::fmt::Debug for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a pack holds: it decides who can open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// Content of blobs: opened by the private data key only.
    Content,
    /// Pages and lists: opened by the metadata key.
    Metadata,
}

impl PackKind {
    fn code(self) -> u8 {
        match self {
            Self::Content => 0,
            Self::Metadata => 1,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Content),
            1 => Some(Self::Metadata),
            _ => None,
        }
    }
}

/// One frame in a pack's footer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameEntry {
    /// Where the sealed frame begins in the file.
    pub offset: u32,
    /// Its sealed length in bytes.
    pub sealed_bytes: u32,
    /// The chunks inside, in order, with their plaintext lengths.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where its frame begins.
    pub frame_offset: u32,
    /// The sealed length of the frame.
    pub frame_bytes: u32,
    /// Where the chunk begins in the opened frame.
    pub inner_offset: u32,
    /// The chunk's length.
    pub plain_bytes: u32,
}

impl FrameEntry {
    /// The locations of the chunks of this frame.
    pub fn locations(&self, pack: PackId) -> impl Iterator<Item = (ChunkId, Location)> + '_ {
        let mut inner_offset: u32 = 0;
        self.chunks.iter().map(move |(id, plain_bytes)| {
            let location = Location {
                pack,
                frame_offset: self.offset,
                frame_bytes: self.sealed_bytes,
                inner_offset,
                plain_bytes: *plain_bytes,
            };
            // Lengths that no frame has lead to a place that no frame has; whoever looks there finds nothing.
            inner_offset = inner_offset.saturating_add(*plain_bytes);
            (*id, location)
        })
    }
}

/// The plaintext of a frame, ready to be sealed: a codec byte, then the chunks, compressed where that helps.
pub struct PreparedFrame {
    codec: u8,
    encoded: Bytes,
    chunks: Vec<(ChunkId, u32)>,
}

const RAW: u8 = 0;
const ZSTD: u8 = 1;

impl PreparedFrame {
    /// Compresses `plaintext`, the concatenation of `chunks`. This is the costly part and needs no lock.
    pub fn new(plaintext: Bytes, chunks: Vec<(ChunkId, u32)>) -> Result<Self> {
        Ok(match compress(&plaintext)? {
            Some(encoded) => Self { codec: ZSTD, encoded: Bytes::from(encoded), chunks },
            None => Self { codec: RAW, encoded: plaintext, chunks },
        })
    }
}

/// A pack that is being filled, in memory.
pub struct PackBuilder {
    id: PackId,
    sealer: Sealer,
    footer_key: SecretKey,
    file: Vec<u8>,
    frames: Vec<FrameEntry>,
}

impl PackBuilder {
    /// An empty pack with a fresh key.
    pub fn new(keys: &VaultKeys, kind: PackKind, writer: WriterId) -> Result<Self> {
        let id = PackId::random(writer)?;
        let (pack_key, wrapped) = match kind {
            PackKind::Content => keys.new_content_key()?,
            PackKind::Metadata => keys.new_metadata_key()?,
        };
        let mut file = Vec::with_capacity(match kind {
            PackKind::Content => TARGET_BYTES + TARGET_BYTES / 8,
            PackKind::Metadata => TARGET_BYTES / 4,
        });
        file.extend_from_slice(MAGIC);
        file.push(kind.code());
        file.extend_from_slice(&wrapped);
        Ok(Self { id, sealer: Sealer::new(&pack_key)?, footer_key: footer_key(keys, id), file, frames: Vec::new() })
    }

    /// The pack's id.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The pack has reached its size.
    pub fn is_full(&self) -> bool {
        self.file.len() >= TARGET_BYTES
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.file.len()
    }

    /// Holds no frame yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Seals a frame at the end of the pack.
    pub fn add(&mut self, frame: PreparedFrame) -> Result<()> {
        let offset = u32::try_from(self.file.len()).map_err(|_| Error::Internal("a pack grew beyond 4 GiB".into()))?;
        let start = self.file.len();
        self.file.push(frame.codec);
        self.file.extend_from_slice(&frame.encoded);
        let tag = self.sealer.seal_detached(u64::from(offset), &self.id.0, &mut self.file[start..])?;
        self.file.extend_from_slice(&tag);
        let sealed_bytes =
            u32::try_from(self.file.len() - start).map_err(|_| Error::Internal("a frame grew beyond 4 GiB".into()))?;
        self.frames.push(FrameEntry { offset, sealed_bytes, chunks: frame.chunks });
        Ok(())
    }

    /// The whole file, and what it holds.
    pub fn finish(mut self) -> Result<(PackId, Bytes, Vec<FrameEntry>)> {
        let mut footer = postcard::to_stdvec(&self.frames).map_err(|e| Error::Internal(format!("pack footer: {e}")))?;
        let offset = self.file.len() as u64;
        Sealer::new(&self.footer_key)?.seal(offset, &self.file[..HEADER_BYTES], &mut footer)?;
        let length =
            u32::try_from(footer.len()).map_err(|_| Error::Internal("a pack footer grew beyond 4 GiB".into()))?;
        self.file.extend_from_slice(&footer);
        self.file.extend_from_slice(&length.to_le_bytes());
        self.file.extend_from_slice(END_MAGIC);
        Ok((self.id, Bytes::from(self.file), self.frames))
    }
}

fn footer_key(keys: &VaultKeys, id: PackId) -> SecretKey {
    keys.meta_key.derive("blobkeep 1 pack footer", &id.0)
}

/// Opens the frames of one pack.
pub struct FrameOpener {
    id: PackId,
    kind: PackKind,
    sealer: Sealer,
}

impl FrameOpener {
    /// Reads a pack's header (its first [`HEADER_BYTES`]).
    pub fn new(keys: &VaultKeys, id: PackId, header: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| Error::damaged(id.file_name(), reason);
        let rest = header.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it does not begin like a pack"))?;
        let (kind, wrapped) = rest.split_first().ok_or_else(|| damaged("its header is cut off"))?;
        let kind = PackKind::from_code(*kind).ok_or_else(|| damaged("it is of no known kind"))?;
        let wrapped: &[u8; WRAPPED_KEY_BYTES] = wrapped
            .get(..WRAPPED_KEY_BYTES)
            .and_then(|wrapped| wrapped.try_into().ok())
            .ok_or_else(|| damaged("its header is cut off"))?;
        let key = match kind {
            PackKind::Content => keys.open_content_key(wrapped)?,
            PackKind::Metadata => keys.open_metadata_key(wrapped)?,
        };
        let key = key.ok_or_else(|| damaged("its key does not open"))?;
        Ok(Self { id, kind, sealer: Sealer::new(&key)? })
    }

    /// What the pack holds.
    pub fn kind(&self) -> PackKind {
        self.kind
    }

    /// The plaintext of the frame at `offset`: its chunks, one after the other.
    pub fn open(&self, offset: u32, mut sealed: Vec<u8>, plain_bytes_at_most: usize) -> Result<Bytes> {
        let damaged = |reason: &str| Error::damaged(self.id.file_name(), format!("frame at {offset}: {reason}"));
        let length = self
            .sealer
            .open(u64::from(offset), &self.id.0, &mut sealed)
            .ok_or_else(|| damaged("its seal does not fit"))?
            .len();
        sealed.truncate(length);
        match sealed.first() {
            Some(&RAW) => Ok(Bytes::from(sealed).slice(1..)),
            Some(&ZSTD) => {
                // The frame says how long its plaintext is, so no more than that is set aside.
                let announced = zstd::zstd_safe::get_frame_content_size(&sealed[1..]).ok().flatten();
                let announced =
                    announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(plain_bytes_at_most);
                zstd::bulk::decompress(&sealed[1..], announced.min(plain_bytes_at_most))
                    .map(Bytes::from)
                    .map_err(|e| damaged(&format!("it does not decompress: {e}")))
            }
            _ => Err(damaged("it has no known codec")),
        }
    }
}

/// The footer of a whole pack file, or of its tail. `tail` ends where the file ends; `file_bytes` is the file's length. `Ok(Err(n))` says
/// that the last `n` bytes of the file are needed.
pub fn read_footer(
    keys: &VaultKeys,
    id: PackId,
    header: &[u8],
    tail: &[u8],
    file_bytes: u64,
) -> Result<std::result::Result<Vec<FrameEntry>, usize>> {
    let damaged = |reason: &str| Error::damaged(id.file_name(), reason);
    let (rest, trailer) =
        tail.split_at_checked(tail.len().wrapping_sub(TRAILER_BYTES)).ok_or_else(|| damaged("it is too short"))?;
    if &trailer[4..] != END_MAGIC {
        return Err(damaged("it does not end like a pack: it is cut off or overwritten"));
    }
    let length = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]) as usize;
    let least = HEADER_BYTES + length + TRAILER_BYTES;
    if (least as u64) > file_bytes || length < TAG_BYTES {
        return Err(damaged("its trailer points outside of it"));
    }
    if rest.len() < length {
        return Ok(Err(length + TRAILER_BYTES));
    }
    let mut footer = rest[rest.len() - length..].to_vec();
    let offset = file_bytes - (length + TRAILER_BYTES) as u64;
    let header = header.get(..HEADER_BYTES).ok_or_else(|| damaged("its header is cut off"))?;
    let plaintext = Sealer::new(&footer_key(keys, id))?
        .open(offset, header, &mut footer)
        .ok_or_else(|| damaged("the seal of its footer does not fit"))?
        .to_vec();
    postcard::from_bytes(&plaintext).map(Ok).map_err(|e| damaged(&format!("its footer does not parse: {e}")))
}

/// Checks every byte of a whole pack file: header, frames, the name of every chunk, footer. Returns the footer.
pub fn check_file(keys: &VaultKeys, id: PackId, file: &[u8]) -> Result<Vec<FrameEntry>> {
    let opener = FrameOpener::new(keys, id, file)?;
    let damaged = |reason: String| Error::damaged(id.file_name(), reason);
    let frames = read_footer(keys, id, file, file, file.len() as u64)?
        .map_err(|_| damaged("its trailer points outside of it".into()))?;
    let mut expected = HEADER_BYTES;
    for frame in &frames {
        let (start, end) = (frame.offset as usize, frame.offset as usize + frame.sealed_bytes as usize);
        if start != expected || end > file.len() {
            return Err(damaged(format!("its footer has a frame at {start} where {expected} was expected")));
        }
        expected = end;
        let plain_bytes: usize = frame.chunks.iter().map(|(_, length)| *length as usize).sum();
        let plaintext = opener.open(frame.offset, file[start..end].to_vec(), plain_bytes.min(FRAME_BYTES_AT_MOST))?;
        for (id_of_chunk, location) in frame.locations(id) {
            check_chunk(keys, &plaintext, id_of_chunk, &location)?;
        }
    }
    Ok(frames)
}

/// Takes a chunk out of its opened frame and checks that it is what its name says.
pub fn check_chunk(keys: &VaultKeys, frame: &Bytes, id: ChunkId, location: &Location) -> Result<Bytes> {
    let start = location.inner_offset as usize;
    let end = start + location.plain_bytes as usize;
    if end > frame.len() {
        return Err(Error::damaged(location.pack.file_name(), format!("chunk {id} reaches beyond its frame")));
    }
    let chunk = frame.slice(start..end);
    if chunk_id(&keys.id_key, &chunk) != id {
        return Err(Error::damaged(location.pack.file_name(), format!("chunk {id} is not what its name says")));
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack_of(keys: &VaultKeys, kind: PackKind, frames: &[&[&[u8]]]) -> (PackId, Vec<u8>, Vec<FrameEntry>) {
        let mut builder = PackBuilder::new(keys, kind, WriterId([9; 8])).unwrap();
        for chunks in frames {
            let named = chunks.iter().map(|c| (chunk_id(&keys.id_key, c), c.len() as u32)).collect();
            builder.add(PreparedFrame::new(chunks.concat().into(), named).unwrap()).unwrap();
        }
        let (id, file, entries) = builder.finish().unwrap();
        (id, file.to_vec(), entries)
    }

    #[test]
    fn a_pack_gives_back_what_was_put_in() {
        let keys = VaultKeys::generate().unwrap();
        let text = b"to be or not to be, ".repeat(400);
        for kind in [PackKind::Content, PackKind::Metadata] {
            let (id, file, entries) = pack_of(&keys, kind, &[&[b"one", b"", b"three"], &[&text]]);
            assert_eq!(check_file(&keys, id, &file).unwrap(), entries);
            assert!(file.len() < text.len(), "text is compressed");
            let opener = FrameOpener::new(&keys, id, &file).unwrap();
            let frame = &entries[0];
            let sealed = file[frame.offset as usize..][..frame.sealed_bytes as usize].to_vec();
            let opened = opener.open(frame.offset, sealed, 1 << 20).unwrap();
            let found: Vec<Bytes> =
                frame.locations(id).map(|(chunk, at)| check_chunk(&keys, &opened, chunk, &at).unwrap()).collect();
            assert_eq!(found, [&b"one"[..], b"", b"three"]);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let keys = VaultKeys::generate().unwrap();
        let (id, file, _) = pack_of(&keys, PackKind::Content, &[&[b"first"], &[b"second", b"third"]]);
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 1 << (position % 8);
            assert!(check_file(&keys, id, &damaged).is_err(), "byte {position} of {}", file.len());
        }
    }

    #[test]
    fn a_pack_cut_short_or_under_another_name_is_found() {
        let keys = VaultKeys::generate().unwrap();
        let (id, file, _) = pack_of(&keys, PackKind::Content, &[&[b"first"]]);
        for length in 0..file.len() {
            assert!(check_file(&keys, id, &file[..length]).is_err(), "cut to {length}");
        }
        assert!(check_file(&keys, PackId([7; 16]), &file).is_err());
    }

    #[test]
    fn the_footer_opens_without_the_private_key() {
        let keys = VaultKeys::generate().unwrap();
        let (id, file, entries) = pack_of(&keys, PackKind::Content, &[&[b"first"]]);
        let writer = keys.for_writing_only();
        assert_eq!(
            read_footer(&writer, id, &file, &file[file.len() - 8..], file.len() as u64).unwrap(),
            Err(file.len() - HEADER_BYTES - entries[0].sealed_bytes as usize)
        );
        assert_eq!(read_footer(&writer, id, &file, &file, file.len() as u64).unwrap().unwrap(), entries);
    }

    #[test]
    fn names_of_packs_are_read_back() {
        let id = PackId([0xab; 16]);
        assert_eq!(PackId::from_file_name(&id.file_name()), Some(id));
        assert_eq!(PackId::from_file_name("packs/00/abababababababababababababababab"), None);
    }
}

//! What is done to a file.

use bytes::Bytes;

use crate::sample::{Files, Kind, Sample};

/// A kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// One bit of the first byte.
    FlipFirst,
    /// One bit behind the magic: keys and salts.
    FlipHeader,
    /// One bit of the body.
    FlipQuarter,
    /// One bit in the middle.
    FlipMiddle,
    /// One bit near the end: seals of footers and tables.
    FlipFooter,
    /// One bit of the last byte.
    FlipLast,
    /// Nothing is left of it but its name.
    CutAll,
    CutHalf,
    CutLast,
    Delete,
    /// Exchanged with another file of its kind in this vault.
    Swap,
    /// The file of its kind from another vault of the same owner.
    Foreign,
    /// Something that the vault had removed or left behind is put back; of a chain: its last records are taken away.
    Replay,
}

pub const HARMS: [Harm; 13] = [
    Harm::FlipFirst,
    Harm::FlipHeader,
    Harm::FlipQuarter,
    Harm::FlipMiddle,
    Harm::FlipFooter,
    Harm::FlipLast,
    Harm::CutAll,
    Harm::CutHalf,
    Harm::CutLast,
    Harm::Delete,
    Harm::Swap,
    Harm::Foreign,
    Harm::Replay,
];

/// What else an evildoer has: another vault of the same owner, and files that backups leave behind.
pub struct Arsenal {
    pub other: Sample,
    pub leftovers: Files,
}

/// The damaged store; `None` if there is no such damage to this kind (a file that is never removed cannot be put back, say).
pub fn damaged(sample: &Sample, arsenal: &Arsenal, kind: Kind, harm: Harm) -> Option<Files> {
    let mut files = sample.files.clone();
    let name = sample.file_of(kind);
    let content = files[&name].clone();
    let replaced = match harm {
        Harm::Delete => {
            files.remove(&name);
            if let Some(second) = second_of(kind, &name) {
                files.remove(&second);
            }
            return Some(files);
        }
        Harm::Swap => {
            let other = swapped_with(sample, kind, &name)?;
            files.insert(name, files[&other].clone());
            files.insert(other, content);
            return Some(files);
        }
        Harm::Foreign => arsenal.other.files[&arsenal.other.file_of(kind)].clone(),
        Harm::Replay => return replayed(sample, arsenal, kind, files),
        harm => changed(&content, harm)?,
    };
    if let Some(second) = second_of(kind, &name) {
        files.insert(second, replaced.clone());
    }
    assert_ne!(replaced, content, "{kind:?} {harm:?} changes something");
    files.insert(name, replaced);
    Some(files)
}

/// A file in which bits are flipped, or that is cut; `None` if the harm is of another kind.
pub fn changed(content: &Bytes, harm: Harm) -> Option<Bytes> {
    let length = content.len();
    Some(match harm {
        Harm::FlipFirst => flipped(content, 0),
        Harm::FlipHeader => flipped(content, 40),
        Harm::FlipQuarter => flipped(content, length / 4),
        Harm::FlipMiddle => flipped(content, length / 2),
        Harm::FlipFooter => flipped(content, length - 20),
        Harm::FlipLast => flipped(content, length - 1),
        Harm::CutAll => Bytes::new(),
        Harm::CutHalf => content.slice(..length / 2),
        Harm::CutLast => content.slice(..length - 1),
        Harm::Delete | Harm::Swap | Harm::Foreign | Harm::Replay => return None,
    })
}

fn flipped(content: &Bytes, position: usize) -> Bytes {
    let mut bytes = content.to_vec();
    bytes[position] ^= 0x04;
    Bytes::from(bytes)
}

/// The second file of the kinds that mean both.
fn second_of(kind: Kind, name: &str) -> Option<String> {
    matches!(kind, Kind::BothSlots | Kind::BothHeaders).then(|| format!("{name}.copy"))
}

fn swapped_with(sample: &Sample, kind: Kind, name: &str) -> Option<String> {
    let folder = match kind {
        Kind::Header | Kind::HeaderCopy | Kind::BothHeaders | Kind::BothSlots => return None,
        Kind::VaultState | Kind::Ledger | Kind::JournalSegment => return None,
        Kind::Slot => return Some(format!("{name}.copy")),
        Kind::SlotCopy => return name.strip_suffix(".copy").map(ToOwned::to_owned),
        Kind::ContentPack | Kind::MetadataPack => "packs/",
        Kind::IndexRun => "index/",
        Kind::Point => "points/",
        Kind::StateFirst | Kind::StateMiddle | Kind::StateFold | Kind::StateLast => "state/a/",
        Kind::Progress => "progress/b/",
    };
    let is_like = |other: &&String| {
        let is_pack = folder == "packs/";
        **other != *name && other.starts_with(folder) && (!is_pack || sample.files[*other][8] == sample.files[name][8])
    };
    let other = sample.files.keys().find(is_like);
    Some(other.unwrap_or_else(|| panic!("there is another {kind:?}")).clone())
}

fn replayed(sample: &Sample, arsenal: &Arsenal, kind: Kind, mut files: Files) -> Option<Files> {
    let put_back = |from: &Files, prefix: &str| -> Files {
        from.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, c)| (n.clone(), c.clone())).collect()
    };
    let back = match kind {
        Kind::ContentPack | Kind::MetadataPack => put_back(&arsenal.leftovers, "packs/"),
        Kind::IndexRun => arsenal.leftovers.clone(),
        Kind::Point => put_back(&sample.removed, "points/"),
        Kind::Progress => put_back(&sample.removed, "progress/"),
        Kind::Ledger => put_back(&sample.removed, "ledger/"),
        Kind::StateLast => {
            for number in sample.seen["a"] - 1..=sample.seen["a"] {
                files.remove(&format!("state/a/{number:010}"));
            }
            return Some(files);
        }
        _ => return None,
    };
    assert!(!back.is_empty(), "there is something of {kind:?} to put back");
    files.extend(back);
    Some(files)
}

//! What must come of each cell, and why. Which blobs are lost, and that no wrong byte is ever restored, is checked for every cell beside this.

use crate::harm::Harm;
use crate::outcome::{Action, Outcome};
use crate::sample::Kind;

/// Outcomes of verify, restore, restore after a rebuild of the index, backup, and backup after verify.
type Row = [Outcome; 5];

use Outcome::{Lost, Named, Noted, Part, Refused, Silent, Whole};

/// Two copies: one is enough for everything, and the damaged one is named.
const COPIED: Row = [Named, Whole, Whole, Whole, Whole];
/// Without header or key nothing can be opened, whatever else is whole.
const CLOSED: Row = [Refused, Refused, Refused, Refused, Refused];
/// Nothing reads it, or it is made anew when it is missed.
const HARMLESS: Row = [Silent, Whole, Whole, Whole, Whole];
const NOTED: Row = [Noted, Whole, Whole, Whole, Whole];
/// Something is wrong that no restore and no backup stumbles over.
const NAMED: Row = [Named, Whole, Whole, Whole, Whole];
/// Points lose blobs. A backup that meets the damage, or was told of it, reads anew what the source still has.
const MENDED: Row = [Lost, Part, Part, Whole, Whole];
/// Points lose blobs, and a backup that was not told takes the lost ones over from the point before.
const MENDED_WHEN_TOLD: Row = [Lost, Part, Part, Part, Whole];
/// What points there are is not sure, so nothing is added; every point can be restored.
const HALTED: Row = [Named, Whole, Whole, Refused, Refused];

pub fn of(kind: Kind, harm: Harm, action: Action) -> Outcome {
    let row = row(kind, harm);
    // Whatever the index lost, the packs still tell.
    if kind == Kind::IndexRun && action == Action::Rebuild {
        return Whole;
    }
    match action {
        Action::Verify => row[0],
        Action::Restore => row[1],
        Action::Rebuild => row[2],
        Action::Backup => row[3],
        Action::Mend => row[4],
        Action::Prune => prune(kind, harm),
    }
}

fn row(kind: Kind, harm: Harm) -> Row {
    match kind {
        Kind::Header | Kind::HeaderCopy => COPIED,
        // Both copies are the same key, sealed twice: either may stand under either name.
        Kind::Slot | Kind::SlotCopy if harm == Harm::Swap => HARMLESS,
        Kind::Slot | Kind::SlotCopy => COPIED,
        Kind::BothHeaders | Kind::BothSlots => CLOSED,
        Kind::ContentPack | Kind::MetadataPack => pack(kind, harm),
        Kind::IndexRun => index_run(harm),
        // A point that was removed and put back is a file that no chain names.
        Kind::Point if harm == Harm::Replay => NOTED,
        Kind::Point => MENDED,
        // Before the fold: read by verify alone.
        Kind::StateFirst => NAMED,
        Kind::StateMiddle | Kind::StateFold => HALTED,
        // A cut tail looks like a younger chain: only a number that somebody saw tells, and the next backup goes on from there.
        Kind::StateLast if matches!(harm, Harm::Delete | Harm::Replay) => NAMED,
        Kind::StateLast => HALTED,
        // Which packs are condemned cannot be told, so nothing is added. A chain that has gone looks like one that never was.
        Kind::VaultState if matches!(harm, Harm::Delete | Harm::Replay | Harm::Swap) => NAMED,
        Kind::VaultState => HALTED,
        // An interrupted backup starts anew.
        Kind::Progress if harm == Harm::Delete => HARMLESS,
        Kind::Progress => NOTED,
        // The next verification starts without memory. An old ledger has a lower number than the newest.
        Kind::Ledger if matches!(harm, Harm::Delete | Harm::Replay) => HARMLESS,
        Kind::Ledger => NOTED,
        // The journal of a base point that has gone.
        Kind::JournalSegment if harm == Harm::Replay => NOTED,
        // Instants before it can be restored; the next base point makes an end of the loss.
        Kind::JournalSegment => MENDED,
    }
}

fn prune(kind: Kind, harm: Harm) -> Outcome {
    match kind {
        Kind::BothHeaders | Kind::BothSlots => Refused,
        // What a footer tells is needed for making an index only, and a pack that nothing needs goes.
        Kind::ContentPack | Kind::MetadataPack
            if matches!(harm, Harm::FlipFooter | Harm::FlipLast | Harm::CutLast | Harm::Replay) =>
        {
            Whole
        }
        // A pack that has gone is no longer asked for its content, only for pages.
        Kind::ContentPack if harm == Harm::Delete => Part,
        Kind::ContentPack | Kind::MetadataPack => Refused,
        Kind::IndexRun if harm == Harm::Replay => Whole,
        Kind::IndexRun => Refused,
        // What a point needs cannot be told without it.
        Kind::Point if harm == Harm::Replay => Whole,
        Kind::Point => Refused,
        Kind::StateMiddle | Kind::StateFold | Kind::StateLast => Refused,
        Kind::VaultState if harm == Harm::Swap => Whole,
        Kind::VaultState => Refused,
        // It is not read for that.
        Kind::JournalSegment if harm != Harm::Replay => Part,
        _ => Whole,
    }
}

fn pack(kind: Kind, harm: Harm) -> Row {
    match harm {
        // The footer serves the making of an index only.
        Harm::FlipFooter | Harm::FlipLast | Harm::CutLast => NAMED,
        // A pack that nothing refers to, as an interrupted backup leaves it.
        Harm::Replay => HARMLESS,
        // Two packs are not what they were: pages in one may have been shared before the other was met. Where none was, the new point is whole.
        Harm::Swap => MENDED_WHEN_TOLD,
        // The pages of the point before are read by every backup, its content is not.
        _ if kind == Kind::MetadataPack => MENDED,
        _ => MENDED_WHEN_TOLD,
    }
}

fn index_run(harm: Harm) -> Row {
    match harm {
        // Runs that say true things of what is there.
        Harm::Replay => HARMLESS,
        // A block inside is met by chance only, and nobody misses a run that has gone.
        Harm::FlipHeader | Harm::FlipQuarter | Harm::FlipMiddle | Harm::Delete => MENDED_WHEN_TOLD,
        // It does not open: what it alone named is missed.
        _ => MENDED,
    }
}

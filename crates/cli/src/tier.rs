//! Access tiers of block blobs, as a flag.

use clap::ValueEnum;

/// Where an account keeps a block blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessTier {
    /// Read often
    Hot,
    /// Read now and then
    Cool,
    /// Read rarely
    Cold,
    /// Not to be read before it was brought back
    Archive,
}

impl AccessTier {
    /// The word that endpoints know.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hot => "Hot",
            Self::Cool => "Cool",
            Self::Cold => "Cold",
            Self::Archive => "Archive",
        }
    }
}

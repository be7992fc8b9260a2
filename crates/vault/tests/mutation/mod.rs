//! Changes of bytes, for tests of formats.

#![allow(dead_code, unreachable_pub)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A change of some bytes.
#[derive(Debug, Clone)]
pub enum Mutation {
    Flip(Index, u8),
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    CutOff(Index),
    CutOut(Index, usize),
    Replace(Vec<u8>),
}

impl Mutation {
    pub fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            6 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            3 => (any::<Index>(), vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Self::Overwrite(at, bytes)),
            1 => (any::<Index>(), vec(any::<u8>(), 1..64)).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            2 => any::<Index>().prop_map(Self::CutOff),
            1 => (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Self::CutOut(at, length)),
            1 => vec(any::<u8>(), 0..400).prop_map(Self::Replace),
        ]
    }

    pub fn apply(&self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        let place = |at: &Index| at.index(original.len() + 1);
        match self {
            Self::Flip(..) if bytes.is_empty() => {}
            Self::Flip(at, bit) => bytes[at.index(original.len())] ^= 1 << bit,
            Self::Overwrite(at, with) => {
                let start = place(at);
                let end = (start + with.len()).min(bytes.len());
                bytes.splice(start..end, with.iter().copied());
            }
            Self::Insert(at, with) => drop(bytes.splice(place(at)..place(at), with.iter().copied())),
            Self::CutOff(at) => bytes.truncate(place(at)),
            Self::CutOut(at, length) => drop(bytes.drain(place(at)..(place(at) + length).min(original.len()))),
            Self::Replace(with) => bytes.clone_from(with),
        }
        bytes
    }
}

/// Arbitrary bytes, or valid ones changed a little.
pub fn near(valid: impl Into<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let valid = valid.into();
    vec(Mutation::any(), 1..4)
        .prop_map(move |mutations| mutations.iter().fold(valid.clone(), |bytes, mutation| mutation.apply(&bytes)))
}

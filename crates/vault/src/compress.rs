//! Compressing frames: only what gains by it, and with compressors that are kept for the next frame.

use std::sync::{Mutex, PoisonError};

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::error::{Error, Result};

/// From this size on frames have the longer reach that makes up for what a faster search misses.
const LARGE_FRAME_BYTES: usize = 512 << 10;

/// How hard to look for what repeats.
#[derive(Clone, Copy)]
struct Effort {
    level: i32,
    /// As in zstd; 0 is what the level says.
    hash_log: u32,
    min_match: u32,
}

const SAMPLE: Effort = Effort { level: 1, hash_log: 0, min_match: 0 };
/// Level 3 would gain 3 % on log text and take a third longer.
const SMALL: Effort = Effort { level: 2, hash_log: 0, min_match: 0 };
/// Level 2, which takes about a fifth less time than 3, with matches of 7 bytes at least: with one place looked at for each, short ones mostly hide
/// longer ones. Log text of 1 MiB comes to 2.98 : 1 (level 2 alone: 2.87), programs to 2.57 (2.63), JSON to 7.4 (7.3), all at the same speed.
const LARGE: Effort = Effort { level: 2, hash_log: 17, min_match: 7 };

/// Content that cannot be told from noise by its bytes alone; compressing it gains nothing. Looks at 4 KiB at most.
pub(crate) fn looks_random(content: &[u8]) -> bool {
    const SAMPLE_BYTES: usize = 4 << 10;
    let start = content.len().saturating_sub(SAMPLE_BYTES) / 2;
    let sample = &content[start..content.len().min(start + SAMPLE_BYTES)];
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    // Of all pairs of bytes one in 256 is equal in noise, and many more in anything else.
    let equal_pairs: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(count.saturating_sub(1))).sum();
    let pairs = (sample.len() * sample.len().saturating_sub(1)) as u64;
    equal_pairs * 128 < pairs
}

/// `None` if compressing gains less than one part in 32. Samples decide for large incompressible content.
pub(crate) fn compress(plaintext: &[u8]) -> Result<Option<Vec<u8>>> {
    const SAMPLE_BYTES: usize = 16 << 10;
    let worthwhile = |length: usize, of: usize| length < of - of / 32;
    if plaintext.len() >= 8 * SAMPLE_BYTES {
        let middle = plaintext.len() / 2;
        let samples = [&plaintext[middle..middle + SAMPLE_BYTES], &plaintext[..SAMPLE_BYTES]];
        let gains =
            |sample: &[u8]| -> Result<bool> { Ok(worthwhile(compress_at(SAMPLE, sample)?.len(), sample.len())) };
        if !gains(samples[0])? && !gains(samples[1])? {
            return Ok(None);
        }
    }
    let effort = if plaintext.len() >= LARGE_FRAME_BYTES { LARGE } else { SMALL };
    let encoded = compress_at(effort, plaintext)?;
    Ok(worthwhile(encoded.len(), plaintext.len()).then_some(encoded))
}

/// A compressor with room for what it makes: both cost more to make anew than a small frame to compress.
struct Workplace {
    compressor: Compressor<'static>,
    room: Vec<u8>,
}

/// Workplaces that nobody uses at the moment.
static IDLE: Mutex<Vec<Workplace>> = Mutex::new(Vec::new());
/// More than this are not kept.
const IDLE_AT_MOST: usize = 4;

fn compress_at(effort: Effort, plaintext: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::Internal(format!("zstd: {e}"));
    let lock = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = lock().pop();
    let mut workplace = match kept {
        Some(workplace) => workplace,
        None => Workplace { compressor: Compressor::new(effort.level).map_err(failed)?, room: Vec::new() },
    };
    let Workplace { compressor, room } = &mut workplace;
    room.clear();
    room.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
    compressor.set_compression_level(effort.level).map_err(failed)?;
    compressor.set_parameter(CParameter::HashLog(effort.hash_log)).map_err(failed)?;
    compressor.set_parameter(CParameter::MinMatch(effort.min_match)).map_err(failed)?;
    compressor.compress_to_buffer(plaintext, room).map_err(failed)?;
    let encoded = room.as_slice().to_vec();
    let mut idle = lock();
    if idle.len() < IDLE_AT_MOST {
        idle.push(workplace);
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_everything_that_can_be_compressed() {
        let mut noise = vec![0; 64 << 10];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for length in [64, 500, 4096, 64 << 10] {
            assert!(looks_random(&noise[..length]), "{length} bytes of noise");
            let text: Vec<u8> = b"ts=17 INFO the quick brown fox ".iter().copied().cycle().take(length).collect();
            assert!(!looks_random(&text), "{length} bytes of text");
            let digits: Vec<u8> = hex::encode(&noise[..length]).into_bytes();
            assert!(!looks_random(&digits), "{length} bytes in hexadecimal digits");
        }
        assert!(!looks_random(&[]) && !looks_random(&[7]), "nothing says that it is noise");
    }
}

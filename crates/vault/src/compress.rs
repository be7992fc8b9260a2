//! Compressing frames: only what gains by it, and with compressors that are kept for the next frame.

use std::sync::{Mutex, PoisonError};

use zstd::bulk::Compressor;

use crate::error::{Error, Result};

/// From this size on the next lower level takes about a fifth less time, and the longer reach makes up for what it misses: log text of 1 MiB comes
/// to 2.87 : 1 in frames of 1 MiB at level 2, to 2.92 : 1 in frames of 512 KiB at level 3.
const LARGE_FRAME_BYTES: usize = 512 << 10;
const LARGE_LEVEL: i32 = 2;
const LEVEL: i32 = 3;

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
        let gains = |sample: &[u8]| -> Result<bool> { Ok(worthwhile(compress_at(1, sample)?.len(), sample.len())) };
        if !gains(samples[0])? && !gains(samples[1])? {
            return Ok(None);
        }
    }
    let level = if plaintext.len() >= LARGE_FRAME_BYTES { LARGE_LEVEL } else { LEVEL };
    let encoded = compress_at(level, plaintext)?;
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

fn compress_at(level: i32, plaintext: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::Internal(format!("zstd: {e}"));
    let lock = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = lock().pop();
    let mut workplace = match kept {
        Some(workplace) => workplace,
        None => Workplace { compressor: Compressor::new(level).map_err(failed)?, room: Vec::new() },
    };
    let Workplace { compressor, room } = &mut workplace;
    room.clear();
    room.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
    compressor.set_compression_level(level).map_err(failed)?;
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

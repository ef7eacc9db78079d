//! Making a dictionary from samples, and finding out whether it pays.

use bytes::Bytes;
use zstd::zstd_safe;

use super::{Dictionary, HEAD_BYTES, id_of};
use crate::limits::{DICTIONARY_BYTES_MAX, DICTIONARY_BYTES_MIN};
use crate::stored::{self, Compression};

/// Fewest samples that a dictionary is made from.
pub const SAMPLE_COUNT_MIN: usize = 64;
/// Of the samples, one in so many is kept back to measure what the dictionary does to values that
/// it has not seen.
const MEASURED_SHARE: usize = 4;
/// Bytes of samples for one byte of dictionary: one as long as its samples would only repeat them.
const SAMPLE_SHARE: usize = 8;
/// A dictionary has to make values shorter by one part in so many.
const GAIN_SHARE: u64 = 10;

/// A dictionary for values like these, if it makes values like these at least a tenth shorter than
/// `present` does, or than no dictionary where there is none.
///
/// Cost: some 200 ms for each MiB of samples, in the calling thread.
#[must_use]
pub fn train(samples: &[Bytes], level: i32, present: Option<&Dictionary>) -> Option<Dictionary> {
    if samples.len() < SAMPLE_COUNT_MIN {
        return None;
    }
    let is_measured = |index: &usize| index.is_multiple_of(MEASURED_SHARE);
    let indices = 0..samples.len();
    let (measured, learned): (Vec<_>, Vec<_>) = indices.partition(is_measured);
    let learned: Vec<&Bytes> = learned.into_iter().map(|index| &samples[index]).collect();
    let measured: Vec<&Bytes> = measured.into_iter().map(|index| &samples[index]).collect();
    let dictionary = make(&learned)?;
    let before = packed_bytes(&measured, level, present);
    let after = packed_bytes(&measured, level, Some(&dictionary));
    (after <= before - before / GAIN_SHARE).then_some(dictionary)
}

/// Bytes that these take once they are packed.
fn packed_bytes(samples: &[&Bytes], level: i32, dictionary: Option<&Dictionary>) -> u64 {
    let packed = |sample: &&Bytes| {
        let sealed = stored::seal_with(sample, Compression::Zstd(level), dictionary);
        sealed.map_or(sample.len(), |sealed| sealed.len()) as u64
    };
    samples.iter().map(packed).sum()
}

fn make(samples: &[&Bytes]) -> Option<Dictionary> {
    let sizes: Vec<usize> = samples.iter().map(|sample| sample.len()).collect();
    let mut all = Vec::with_capacity(sizes.iter().sum());
    samples
        .iter()
        .for_each(|sample| all.extend_from_slice(sample));
    let bytes_max = (all.len() / SAMPLE_SHARE).clamp(DICTIONARY_BYTES_MIN, DICTIONARY_BYTES_MAX);
    let mut bytes = Vec::with_capacity(bytes_max);
    // zstd finds nothing in samples that have nothing in common, or are too short.
    zstd_safe::train_from_buffer(&mut bytes, &all, &sizes).ok()?;
    let id = id_of(bytes.get(HEAD_BYTES..)?);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&id.0.to_le_bytes());
    Dictionary::new(bytes.into()).ok()
}

//! Where a large value is cut into chunks.
//!
//! The cuts decide which chunks two values share, on disk and on the wire, so they are a format: each
//! value's root says how it was cut, and the sizes here and the version of `fastcdc` stay as they are.
//!
//! | chunking | a chunk is | what two versions of a value share |
//! |---|---|---|
//! | fixed | 64 KiB from the start of the value | all before the first byte that moved |
//! | content | 16 to 256 KiB, cut where the bytes say so | all but what is near a change |

use std::fmt;
use std::str::FromStr;

use fastcdc::v2020::FastCDC;

use crate::chunk::Cutter;
use crate::limits::CHUNK_BYTES;

/// Least bytes of a chunk that is cut by its content, unless it is the last.
const CUT_BYTES_MIN: usize = 16 << 10;
/// Most bytes of a chunk that is cut by its content.
const CUT_BYTES_MAX: usize = 256 << 10;
/// The variant of the algorithm: `v2020` of `fastcdc`, normalization 1.
const VARIANT: u8 = 1;

/// How a large value is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Chunking {
    /// Every 64 KiB.
    #[default]
    Fixed,
    /// Where the content says so: an insertion moves no cut but those near it. Every byte is looked
    /// at for it.
    Content,
}

impl Chunking {
    /// How it is called in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Content => "content",
        }
    }

    /// How a root says it.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "all are below 1 MiB")]
    pub fn cutter(self) -> Cutter {
        match self {
            Self::Fixed => Cutter::Fixed {
                bytes: CHUNK_BYTES as u32,
            },
            Self::Content => Cutter::FastCdc {
                variant: VARIANT,
                bytes_min: CUT_BYTES_MIN as u32,
                bytes_average: CHUNK_BYTES as u32,
                bytes_max: CUT_BYTES_MAX as u32,
            },
        }
    }

    /// What a root says was cut so; none for a cut that this program does not make.
    #[must_use]
    pub fn of(cutter: Cutter) -> Option<Self> {
        [Self::Fixed, Self::Content]
            .into_iter()
            .find(|chunking| chunking.cutter() == cutter)
    }

    /// Most bytes of one chunk.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Fixed => CHUNK_BYTES,
            Self::Content => CUT_BYTES_MAX,
        }
    }

    /// Bytes of the first chunk of what follows in a value; none when more bytes are needed to tell,
    /// or when there are none. `is_all` says that nothing comes after `bytes`.
    #[must_use]
    pub fn cut(self, bytes: &[u8], is_all: bool) -> Option<usize> {
        if bytes.is_empty() || (bytes.len() < self.bytes_max() && !is_all) {
            return None;
        }
        let window = &bytes[..bytes.len().min(self.bytes_max())];
        Some(match self {
            Self::Fixed => window.len(),
            Self::Content => FastCDC::new(window, CUT_BYTES_MIN, CHUNK_BYTES, CUT_BYTES_MAX)
                .next()
                .map_or(window.len(), |chunk| chunk.length),
        })
    }
}

impl fmt::Display for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no chunking has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunking {0:?}: it is \"fixed\" or \"content\"")]
pub struct UnknownChunking(String);

impl FromStr for Chunking {
    type Err = UnknownChunking;

    fn from_str(name: &str) -> Result<Self, UnknownChunking> {
        [Self::Fixed, Self::Content]
            .into_iter()
            .find(|chunking| chunking.name() == name)
            .ok_or_else(|| UnknownChunking(name.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Bytes that do not repeat, the same for every run.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..count).map(|_| next()).collect()
    }

    fn lengths(chunking: Chunking, bytes: &[u8]) -> Vec<usize> {
        let mut rest = bytes;
        let mut lengths = Vec::new();
        while let Some(length) = chunking.cut(rest, true) {
            lengths.push(length);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        lengths
    }

    fn chunks(bytes: &[u8]) -> HashSet<&[u8]> {
        let mut at = 0;
        let mut names = HashSet::new();
        for length in lengths(Chunking::Content, bytes) {
            names.insert(&bytes[at..at + length]);
            at += length;
        }
        names
    }

    #[test]
    fn fixed_cuts_are_every_64_kib_from_the_start() {
        assert_eq!(
            lengths(Chunking::Fixed, &noise(150_000)),
            [65_536, 65_536, 18_928]
        );
        assert_eq!(lengths(Chunking::Fixed, &noise(65_536)), [65_536]);
        assert_eq!(lengths(Chunking::Fixed, &[]), [0; 0]);
    }

    const GOLDEN: [usize; 7] = [96_993, 169_265, 45_787, 64_402, 66_790, 88_956, 67_807];

    /// The cuts are a disk format: another version of the cutter that moves them is found here.
    #[test]
    fn cuts_by_content_are_the_golden_ones() {
        assert_eq!(lengths(Chunking::Content, &noise(600_000)), GOLDEN);
        assert_eq!(
            lengths(Chunking::Content, &vec![0; 600_000]),
            [262_144, 262_144, 75_712]
        );
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_bytes_arrive() {
        let bytes = noise(900_000);
        for chunking in [Chunking::Fixed, Chunking::Content] {
            let mut arrived = 0;
            let mut at = 0;
            let mut cut = Vec::new();
            while at < bytes.len() {
                match chunking.cut(&bytes[at..arrived], arrived == bytes.len()) {
                    Some(length) => {
                        cut.push(length);
                        at += length;
                    }
                    None => arrived = (arrived + 7_919).min(bytes.len()),
                }
            }
            assert_eq!(cut, lengths(chunking, &bytes), "{chunking}");
        }
    }

    #[test]
    fn insertion_changes_only_chunks_that_are_near() {
        let before = noise(4 << 20);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, *b"a few bytes more");
        let (before, after) = (chunks(&before), chunks(&after));
        let new = after.difference(&before).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn names_are_read_back_and_another_is_refused_by_name() {
        for chunking in [Chunking::Fixed, Chunking::Content] {
            assert_eq!(chunking.to_string().parse(), Ok(chunking));
        }
        let refused = "rabin".parse::<Chunking>().unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("\"rabin\": it is \"fixed\" or \"content\"")
        );
    }
}

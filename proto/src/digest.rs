//! The hash over a block of entries, by which two sides find out whether they hold the same.

use sha2::{Digest as _, Sha256};

use crate::ids::Revision;
use crate::wire::DIGEST_HASH_BYTES;

/// Takes in the entries of a block in key order; gives how many they are, and a hash over them.
///
/// The hash is the first 16 bytes of the SHA-256 over, for each entry: the length of the key as
/// u32, the key, the revision as u64, the length of the stored value as u32, the stored value;
/// numbers big-endian. The value is part of it because another history may have given the same
/// revision to another value.
#[derive(Debug, Clone, Default)]
pub struct BlockHasher {
    hash: Sha256,
    count: u64,
}

impl BlockHasher {
    /// Takes in the next entry. Keys and values are shorter than 4 GiB.
    pub fn add(&mut self, key: &[u8], revision: Revision, value: &[u8]) {
        self.hash.update(length(key));
        self.hash.update(key);
        self.hash.update(revision.0.to_be_bytes());
        self.hash.update(length(value));
        self.hash.update(value);
        self.count += 1;
    }

    /// Entries taken in so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of entries, and the hash over them.
    #[must_use]
    pub fn finish(self) -> (u64, [u8; DIGEST_HASH_BYTES]) {
        let whole = self.hash.finalize();
        let mut hash = [0; DIGEST_HASH_BYTES];
        hash.copy_from_slice(&whole[..DIGEST_HASH_BYTES]);
        (self.count, hash)
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // Keys and values are bounded far below.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(entries: &[(&[u8], u64, &[u8])]) -> (u64, [u8; DIGEST_HASH_BYTES]) {
        let mut hasher = BlockHasher::default();
        for (key, revision, value) in entries {
            hasher.add(key, Revision(*revision), value);
        }
        hasher.finish()
    }

    #[test]
    fn hash_of_a_known_block_is_what_the_protocol_says() {
        let empty = hash(&[]);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(empty.0, 0);
        assert_eq!(hex(&empty.1), "e3b0c44298fc1c149afbf4c8996fb924");
        let one = hash(&[(b"k", 9, b"v")]);
        assert_eq!(one.0, 1);
        let by_hand = Sha256::digest(b"\0\0\0\x01k\0\0\0\0\0\0\0\x09\0\0\0\x01v");
        assert_eq!(one.1, by_hand[..DIGEST_HASH_BYTES]);
    }

    #[test]
    fn every_part_of_an_entry_counts_and_so_does_where_it_ends() {
        let wanted = hash(&[(b"ab", 1, b"cd")]);
        for other in [
            hash(&[(b"aB", 1, b"cd")]),
            hash(&[(b"ab", 2, b"cd")]),
            hash(&[(b"ab", 1, b"cD")]),
            hash(&[(b"a", 1, b"bcd")]),
            hash(&[(b"abc", 1, b"d")]),
            hash(&[(b"ab", 1, b"cd"), (b"b", 1, b"")]),
        ] {
            assert_ne!(wanted.1, other.1);
        }
    }
}

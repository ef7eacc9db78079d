//! Whether a value is the one that a compare-and-set expects, however each of the two is kept.
//!
//! Both are either in one piece or in chunks: a value as it is stored, and what is expected as a
//! payload, or as the byte 0xC1 and a stored value in chunks. Where only one is in chunks, the other
//! is cut in the same way, and the roots are compared.

use bytes::Bytes;

use super::{REFERENCE, StoredChunks, open};
use crate::chunk::tree::root_of;
use crate::cut::Chunking;

/// Whether a value in chunks is the one expected. Of two values in chunks, those whose equal content
/// was cut differently are different ones.
///
/// Cost: where `expected` is in one piece and as long, a SHA-256 over it.
#[must_use]
pub fn is_expected(stored: &Bytes, expected: &Bytes) -> bool {
    match of_reference(expected) {
        Some(expected) => expected == *stored,
        None => is_content(stored, expected),
    }
}

/// Whether the payload of a value in one piece is the one expected.
///
/// Cost: where `expected` is in chunks and as long, a SHA-256 over the payload.
#[must_use]
pub fn is_payload_expected(payload: &Bytes, expected: &Bytes) -> bool {
    match of_reference(expected) {
        Some(expected) => is_content(&expected, payload),
        None => payload == expected,
    }
}

/// The stored value behind 0xC1.
fn of_reference(expected: &Bytes) -> Option<Bytes> {
    (expected.first() == Some(&REFERENCE)).then(|| expected.slice(1..))
}

/// Whether a stored value in chunks has this payload.
fn is_content(stored: &Bytes, payload: &[u8]) -> bool {
    let Ok(Some(StoredChunks { root, head })) = open(stored) else {
        return false;
    };
    let Some(content) = payload.strip_prefix(&head[..]) else {
        return false;
    };
    // Any other cutter is none of ours: one of single bytes would cost a hash for each of them.
    let Some(chunking) = Chunking::of(root.cutter()) else {
        return false;
    };
    content.len() as u64 == root.bytes()
        && root_of(chunking, content).is_ok_and(|found| found == root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Child, Cutter, Root, chunk_id};
    use crate::limits::CHUNK_BYTES;
    use crate::stored_chunks::seal;

    fn content() -> Vec<u8> {
        (0..CHUNK_BYTES * 5)
            .map(|at| (at % 251 + at / 7_919).to_le_bytes()[0])
            .collect()
    }

    fn head(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [&[0xC6][..], &length.to_be_bytes()].concat()
    }

    fn payload(content: &[u8]) -> Bytes {
        [head(content), content.to_vec()].concat().into()
    }

    fn chunked(root: Root, content: &[u8]) -> Bytes {
        let head = head(content).into();
        seal(&StoredChunks { root, head }).unwrap()
    }

    fn reference(stored: &Bytes) -> Bytes {
        [&[REFERENCE], &stored[..]].concat().into()
    }

    #[test]
    fn equal_values_are_equal_whichever_of_them_is_in_chunks() {
        let content = content();
        let mut other = content.clone();
        other[CHUNK_BYTES + 1] ^= 1;
        for chunking in [Chunking::Fixed, Chunking::Content] {
            let stored = chunked(root_of(chunking, &content).unwrap(), &content);
            let whole = payload(&content);
            assert!(is_expected(&stored, &reference(&stored)), "{chunking}");
            assert!(is_expected(&stored, &whole), "{chunking}");
            assert!(
                is_payload_expected(&whole, &reference(&stored)),
                "{chunking}"
            );
            assert!(is_payload_expected(&whole, &whole), "{chunking}");
            for unlike in [&other[..], &content[1..], &[]] {
                let unlike = payload(unlike);
                assert!(!is_expected(&stored, &unlike), "{chunking}");
                assert!(!is_payload_expected(&unlike, &reference(&stored)));
                assert!(!is_payload_expected(&whole, &unlike), "{chunking}");
            }
        }
        let fixed = chunked(root_of(Chunking::Fixed, &content).unwrap(), &content);
        let cut = chunked(root_of(Chunking::Content, &content).unwrap(), &content);
        assert!(!is_expected(&fixed, &reference(&cut)), "another cut");
    }

    #[test]
    fn what_is_no_value_in_chunks_or_is_cut_as_nobody_cuts_equals_nothing() {
        let whole = payload(b"abc");
        for garbage in [
            &[REFERENCE][..],
            &[REFERENCE, 0, 0, 1],
            &[REFERENCE, 0, 0, 0, 1],
        ] {
            assert!(!is_payload_expected(
                &whole,
                &Bytes::copy_from_slice(garbage)
            ));
        }
        let bytes = 1;
        let child = |byte: &u8| Child {
            id: chunk_id(&[*byte]),
            bytes: 1,
        };
        let children = b"abc".iter().map(child).collect();
        let root = Root::new(Cutter::Fixed { bytes }, 0, children).unwrap();
        let stored = chunked(root, b"abc");
        assert!(!is_payload_expected(&whole, &reference(&stored)));
        assert!(!is_expected(&stored, &whole));
    }
}

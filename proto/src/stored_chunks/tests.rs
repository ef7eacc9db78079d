use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::chunk::{Child, chunk_id};

fn root(cutter: Cutter, sizes: &[u64]) -> Root {
    let child = |(number, bytes): (u64, &u64)| Child {
        id: chunk_id(&number.to_le_bytes()),
        bytes: *bytes,
    };
    Root::new(cutter, 0, (0..).zip(sizes).map(child).collect()).unwrap()
}

/// The head of `bytes` with so much content.
fn head(content_bytes: u32) -> Bytes {
    let mut head = vec![0xC6];
    head.extend_from_slice(&content_bytes.to_be_bytes());
    head.into()
}

fn value() -> StoredChunks {
    StoredChunks {
        root: root(Cutter::default(), &[65_536, 10]),
        head: head(65_546),
    }
}

#[test]
fn value_comes_back_with_either_cutter() {
    let cdc = Cutter::FastCdc {
        variant: 1,
        bytes_min: 16 << 10,
        bytes_average: 64 << 10,
        bytes_max: 256 << 10,
    };
    for cutter in [Cutter::default(), cdc] {
        let value = StoredChunks {
            root: root(cutter, &[65_536, 10]),
            head: head(65_546),
        };
        let stored = seal(&value).unwrap();
        assert!(is_chunked(&stored));
        check(&stored).unwrap();
        assert_eq!(ids(&stored).len(), 2);
        assert_eq!(open(&stored).unwrap(), Some(value));
    }
}

#[test]
fn bytes_are_the_golden_ones() {
    let stored = seal(&value()).unwrap();
    assert_eq!(stored[..9], [0, 0, 2, 0, 0, 0, 0, 1, 0]);
    assert_eq!(stored[9..41], chunk_id(&0_u64.to_le_bytes()).0);
    assert_eq!(stored[41..49], [0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(stored[89..], [0xC6, 0, 1, 0, 10]);
}

#[test]
fn value_that_holds_its_content_itself_is_told_apart() {
    let inline = stored::seal(&[0x2A], stored::Compression::None).unwrap();
    assert!(!is_chunked(&inline));
    assert_eq!(open(&inline).unwrap(), None);
    check(&inline).unwrap();
    assert!(ids(&inline).is_empty());
    assert!(check(b"\0").is_err());
    // What knows of no chunks says so.
    let chunked = seal(&value()).unwrap();
    let error = stored::open(&chunked).unwrap_err().to_string();
    assert!(error.contains("chunk count 2"), "{error}");
}

#[test]
fn head_that_states_another_length_is_refused() {
    let refused = |head: &[u8]| {
        let head = Bytes::copy_from_slice(head);
        let root = value().root;
        seal(&StoredChunks { root, head }).unwrap_err().to_string()
    };
    assert!(refused(&head(65_545)).contains("another length"));
    assert!(refused(&head(65_547)).contains("another length"));
    assert!(refused(&[0x2A]).contains("not that of"));
    assert!(refused(&[]).contains("not that of"));
    assert!(refused(&[0xC6, 0, 1]).contains("not that of"));
    assert!(refused(&[0xC6; CHUNK_HEAD_BYTES_MAX + 1]).contains("too long"));
    // An extension whose own fields stand between its header and the content.
    let mut extension = vec![0xC9];
    extension.extend_from_slice(&(65_546_u32 + 3).to_be_bytes());
    extension.extend_from_slice(&[16, 7, 7, 7]);
    let head = Bytes::from(extension);
    let root = value().root;
    assert!(seal(&StoredChunks { root, head }).is_ok());
}

#[test]
fn content_over_four_gib_states_the_largest_length() {
    let root = Root::new(
        Cutter::default(),
        2,
        vec![Child {
            id: chunk_id(b""),
            bytes: 5 << 30,
        }],
    );
    let root = root.unwrap();
    let head = head(u32::MAX);
    assert!(seal(&StoredChunks { root, head }).is_ok());
}

#[test]
fn header_that_cannot_be_is_refused() {
    let good = seal(&value()).unwrap().to_vec();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut stored = good.clone();
        change(&mut stored);
        let one = check(&stored).unwrap_err().to_string();
        let other = open(&stored.into()).unwrap_err().to_string();
        assert_eq!(one, other);
        one
    };
    assert!(refused(&|stored| stored[0] = 1).contains("suite 1"));
    assert!(refused(&|stored| stored[1] = 1).contains("codec of a head 1"));
    assert!(refused(&|stored| stored[2] = 65).contains("65 entries"));
    assert!(refused(&|stored| stored[2] = 3).contains("cut off"));
    assert!(refused(&|stored| stored[3] = 4).contains("depth 4"));
    assert!(refused(&|stored| stored[4] = 2).contains("cutter 2"));
    assert!(refused(&|stored| stored[5..9].fill(0)).contains("cutter"));
    assert!(refused(&|stored| stored[5..9].fill(0xFF)).contains("cutter"));
    assert!(refused(&|stored| stored[41..49].fill(0)).contains("0 bytes"));
    assert!(refused(&|stored| stored[42] = 1).contains("another length"));
    assert!(refused(&|stored| stored.truncate(4)).contains("cut off"));
    assert!(refused(&|stored| stored.truncate(7)).contains("cut off"));
}

proptest! {
    #[test]
    fn garbage_is_an_error_or_a_value_but_no_panic(
        mut garbage in vec(any::<u8>(), 0..300), count in 1..4_u8,
    ) {
        if garbage.len() > 9 {
            garbage[..9].copy_from_slice(&[0, 0, count, 0, 0, 0, 0, 1, 0]);
        }
        let stored = Bytes::from(garbage);
        if is_chunked(&stored) {
            prop_assert_eq!(check(&stored).is_ok(), open(&stored).is_ok());
        }
        let _ = ids(&stored);
    }
}

use objsync_proto::chunk::chunk_id;
use objsync_proto::chunk::record::{CODEC_RAW, CODEC_ZSTD};
use objsync_proto::ids::{ChunkId, StoreId};

use super::index::{Entry, PackIndex};
use super::layout::{
    PackId, RECORD_HEADER_BYTES, RecordHeader, check_trailer, footer, footer_entries,
};
use super::pins::{ChunkHold, ChunkPins, PinTable};

const PACK: PackId = PackId {
    number: 7,
    salt: 0x0123_4567_89ab_cdef,
};

fn header(content: &[u8]) -> RecordHeader {
    RecordHeader {
        id: chunk_id(content),
        level: 0,
        codec: CODEC_RAW,
        stored_bytes: content.len() as u64,
        plain_bytes: content.len() as u64,
        content_bytes: content.len() as u64,
        payload_crc: crc32c::crc32c(content),
    }
}

#[test]
fn name_tells_number_and_salt_and_other_names_are_no_packs() {
    assert_eq!(PACK.name(), "0000000000000007-0123456789abcdef.pack");
    assert_eq!(PackId::of_name(&PACK.name()), Some(PACK));
    for name in [
        "7-0123456789abcdef.pack",
        "x.pack",
        "0000000000000007.pack",
        "",
    ] {
        assert_eq!(PackId::of_name(name), None, "{name}");
    }
}

#[test]
fn header_of_a_pack_is_known_again_and_a_turned_bit_is_found() {
    let good = PACK.header(StoreId([3; 16]));
    assert_eq!(&good[..8], b"objspack");
    assert_eq!(PACK.check_header(&good), Ok(StoreId([3; 16])));
    for bit in 0..good.len() * 8 {
        let mut turned = good;
        turned[bit / 8] ^= 1 << (bit % 8);
        assert!(PACK.check_header(&turned).is_err(), "bit {bit}");
    }
    let other = PackId { salt: 1, ..PACK };
    assert!(other.check_header(&good).is_err(), "renamed");
}

#[test]
fn header_of_a_record_comes_back_and_a_turned_bit_is_found() {
    let record = header(b"content");
    let good = record.encode(PACK);
    assert_eq!(good[..8], *b"chnk\0\0\0\0");
    assert_eq!(good[8..40], chunk_id(b"content").0);
    assert_eq!(good[40..48], [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(RecordHeader::decode(&good, PACK), Ok(record));
    for bit in 0..RECORD_HEADER_BYTES * 8 {
        let mut turned = good;
        turned[bit / 8] ^= 1 << (bit % 8);
        assert!(RecordHeader::decode(&turned, PACK).is_err(), "bit {bit}");
    }
    let other = PackId { salt: 1, ..PACK };
    assert!(
        RecordHeader::decode(&good, other).is_err(),
        "content of another pack"
    );
}

#[test]
fn record_with_lengths_that_cannot_be_is_refused_before_memory_is_taken() {
    let good = header(b"content");
    for bad in [
        RecordHeader {
            stored_bytes: u64::MAX,
            ..good
        },
        RecordHeader {
            stored_bytes: 8,
            ..good
        },
        RecordHeader {
            stored_bytes: 0,
            ..good
        },
        RecordHeader {
            plain_bytes: 1 << 40,
            stored_bytes: 1 << 39,
            ..good
        },
        RecordHeader {
            content_bytes: u64::MAX,
            ..good
        },
        RecordHeader { level: 4, ..good },
        RecordHeader {
            codec: CODEC_ZSTD + 1,
            ..good
        },
    ] {
        assert!(
            RecordHeader::decode(&bad.encode(PACK), PACK).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn footer_comes_back_and_a_turned_bit_is_found() {
    let records = vec![(64, header(b"one")), (152, header(b"two"))];
    let good = footer(PACK, 240, &records);
    let (entries, trailer) = good.split_at(good.len() - 32);
    let check =
        |trailer: &[u8]| check_trailer(PACK, trailer.try_into().unwrap(), 240 + good.len() as u64);
    assert_eq!(check(trailer), Some((240, crc32c::crc32c(entries))));
    assert_eq!(footer_entries(entries, 240), Ok(records));
    assert!(
        footer_entries(entries, 239).is_err(),
        "a record past the end"
    );
    for bit in 0..trailer.len() * 8 {
        let mut turned = trailer.to_vec();
        turned[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(check(&turned), None, "bit {bit}");
    }
}

#[test]
fn index_takes_little_memory_for_a_chunk() {
    assert_eq!(size_of::<(ChunkId, Entry)>(), 56);
}

#[test]
fn what_is_condemned_is_found_by_those_who_held_before_and_not_counted_as_there() {
    let pins = std::sync::Arc::new(PinTable::default());
    let mut index = PackIndex::default();
    let slot = index.add_pack(PACK, 64, true);
    let (live, dead) = (header(b"live"), header(b"dead"));
    for (offset, header) in [(64, &live), (152, &dead)] {
        index.insert(header.id, Entry::new(slot, offset, header));
    }
    index.begin_marking();
    assert_eq!(index.mark_alive(&live.id), Some(0));
    assert_eq!(index.mark_alive(&live.id), None, "marked before");
    let before = ChunkHold::new(&pins);
    assert_eq!(index.condemn(pins.next_hold()), (1, dead.whole_bytes()));
    let after = ChunkHold::new(&pins);
    assert!(index.has(&live.id) && !index.has(&dead.id));
    index.forget_condemned(pins.oldest_hold());
    assert!(index.find(&dead.id).is_some(), "somebody may look for it");
    assert!(index.read_packs().contains(&slot));
    drop(before);
    index.forget_condemned(pins.oldest_hold());
    assert!(index.find(&dead.id).is_none());
    assert!(index.read_packs().is_empty());
    drop(after);
    assert_eq!(pins.oldest_hold(), u64::MAX);
}

#[test]
fn chunk_is_pinned_until_the_last_who_pinned_it_lets_go() {
    let table = std::sync::Arc::new(PinTable::default());
    let (one, other) = (ChunkPins::new(&table), ChunkPins::new(&table));
    let id = chunk_id(b"a");
    one.add([id, id]);
    other.add([id]);
    assert!(one.holds(&id));
    one.release([id]);
    one.release([id]);
    assert_eq!((one.count(), table.pinned().len()), (0, 1));
    drop(other);
    assert_eq!(table.pinned(), []);
    one.add([id]);
    one.keep_to_the_end();
    assert_eq!(table.pinned(), [id]);
}

/// An index with a chunk that a node lists, and a node above it that lives and cannot be read.
fn with_a_chunk_below() -> (PackIndex, RecordHeader, RecordHeader) {
    let mut index = PackIndex::default();
    let slot = index.add_pack(PACK, 64, true);
    let (chunk, mut node) = (header(b"chunk"), header(b"node"));
    node.level = 1;
    for (offset, header) in [(64, &chunk), (152, &node)] {
        index.insert(header.id, Entry::new(slot, offset, header));
    }
    (index, chunk, node)
}

fn mark_unread(index: &mut PackIndex, node: &RecordHeader) {
    index.begin_marking();
    assert_eq!(index.mark_alive(&node.id), Some(1));
    index.note_unread(node.id, 1);
}

#[test]
fn what_may_lie_below_an_unread_node_is_kept_also_after_a_collection_that_broke_off() {
    let (mut index, chunk, node) = with_a_chunk_below();
    mark_unread(&mut index, &node);
    // It ends there: nothing was condemned, and nothing noted but the node.
    mark_unread(&mut index, &node);
    assert_eq!(index.condemn(1), (0, 0));
    assert!(index.has(&chunk.id));
    assert_eq!(index.unread_count(), 1);
}

#[test]
fn node_that_was_stored_anew_and_cannot_be_read_again_hides_what_came_with_it() {
    let (mut index, _, node) = with_a_chunk_below();
    mark_unread(&mut index, &node);
    index.condemn(1);
    let late = header(b"late");
    for (offset, header) in [(240, &late), (328, &node)] {
        index.insert(header.id, Entry::new(0, offset, header));
    }
    mark_unread(&mut index, &node);
    assert_eq!(index.condemn(2), (0, 0));
    assert!(index.has(&late.id));
    // What comes from now on cannot be below it.
    let later = header(b"later");
    index.insert(later.id, Entry::new(0, 416, &later));
    mark_unread(&mut index, &node);
    assert_eq!(index.condemn(3).0, 1);
    assert!(!index.has(&later.id));
}

//! A closed segment with given transactions, for tests of what reads the log.

use std::path::Path;

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change};
use objsync_proto::ids::{FrameIndex, NamespaceId, Revision, StoreId, SurfaceId};
use objsync_proto::operation::Outcome;

use crate::dict::{change_bytes, encode_change};
use crate::disk::RealDisk;
use crate::frame::{BatchBuilder, FrameHeader, FrameKind, TransactionHead};
use crate::log::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo};
use crate::state::Changes;

pub(crate) const STORE: StoreId = StoreId([5; 16]);

/// Writes segment `id` with one frame per group of transactions; revisions follow `before`.
pub(crate) fn write_segment(
    directory: &Path,
    id: u64,
    before: u64,
    frames: &[Vec<Changes>],
) -> SegmentInfo {
    let header = SegmentHeader {
        store: STORE,
        id: SegmentId(id),
        salt: [3; 16],
        previous_bytes: 0,
        previous_chunk_bytes: 0,
        first_index: FrameIndex(0),
        before: Revision(before),
        time_ms: 0,
    };
    let mut content = Vec::new();
    let mut last = before;
    for (index, transactions) in frames.iter().enumerate() {
        let mut builder = BatchBuilder::default();
        for changes in transactions {
            add(&mut builder, changes);
        }
        let frame = FrameHeader {
            kind: FrameKind::Transactions,
            skippable: false,
            index: FrameIndex(index as u64),
            epoch: 1,
            first: Revision(last + 1),
            count: 0,
            time_ms: 0,
            synced_to: 0,
            body_bytes: 0,
            body_crc: 0,
        };
        content.extend_from_slice(builder.seal(frame, header.seed()));
        last += transactions.len() as u64;
    }
    std::fs::create_dir_all(directory.join("log")).unwrap();
    header.create(&RealDisk, directory, &content).unwrap();
    SegmentInfo {
        id: header.id,
        first_index: header.first_index,
        before: header.before,
        last: Revision(last),
        bytes: SEGMENT_HEADER_BYTES + content.len() as u64,
        last_time_ms: 0,
        chunk_bytes: 0,
    }
}

fn add(builder: &mut BatchBuilder, changes: &Changes) {
    builder.begin(&TransactionHead {
        origin: None,
        cause: Cause::Write,
        result: &Ok(Outcome::Done),
        effect_count: changes.len() as u64,
    });
    for (namespace, change) in changes {
        builder.effect(
            SurfaceId::DICT,
            *namespace,
            &crate::dict::chunks(change),
            change_bytes(change, None),
            |buffer| {
                encode_change(change, None, buffer);
            },
        );
    }
}

pub(crate) fn change(namespace: u32, key: &[u8], value: Option<&[u8]>) -> (NamespaceId, Change) {
    let change = Change {
        key: Bytes::copy_from_slice(key),
        value: value.map(Bytes::copy_from_slice),
    };
    (NamespaceId(namespace), change)
}

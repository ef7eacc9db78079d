//! Which payloads go into chunks, and where their content begins.

use bytes::Bytes;
use objsync_proto::limits::{CHUNK_BYTES, CHUNK_HEAD_BYTES_MAX};
use objsync_proto::value::content_start;

use super::reference::LargeValue;
use crate::config::Config;
use crate::options::OfflineMode;

/// A payload in two parts: what stands before the raw content, and the content.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) head: Bytes,
    pub(crate) content: Bytes,
}

/// A payload in two parts, if it is bytes, text or an array whose content is above 64 KiB, and the
/// handle puts those into chunks.
pub(crate) fn split(config: &Config, payload: &Bytes) -> Option<Split> {
    if payload.len() <= CHUNK_BYTES || LargeValue::is_reference(payload) || !is_wanted(config) {
        return None;
    }
    let start = content_start(payload).filter(|start| *start <= CHUNK_HEAD_BYTES_MAX)?;
    (payload.len() - start > CHUNK_BYTES).then(|| Split {
        head: payload.slice(..start),
        content: payload.slice(start..),
    })
}

/// A handle that queues on disk keeps its values whole: what is queued must be complete there.
pub(super) fn is_wanted(config: &Config) -> bool {
    config.options.offline == OfflineMode::Wait
}

/// The header of bytes of this length. Above what MessagePack can say the length is that of the longest.
pub(crate) fn bytes_head(length: u64) -> Bytes {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [first, second, third, fourth] = length.to_be_bytes();
    match length {
        0..=0xFF => Bytes::copy_from_slice(&[0xC4, fourth]),
        0x100..=0xFFFF => Bytes::copy_from_slice(&[0xC5, third, fourth]),
        _ => Bytes::copy_from_slice(&[0xC6, first, second, third, fourth]),
    }
}

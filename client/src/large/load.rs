//! The whole of a large value: one payload, or its content in a buffer of the caller's.

use std::sync::Arc;

use bytes::Bytes;

use super::reference::LargeValue;
use super::walk::Walk;
use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::pending::Pending;
use crate::wait::block_on;

/// The payload itself, where it is the reference of a large value; any other as it is.
pub(crate) async fn whole(core: &Arc<Core>, payload: Bytes) -> Result<Bytes> {
    let Some(value) = LargeValue::of(&payload)? else {
        return Ok(payload);
    };
    let head = value.head().clone();
    content(core, value, &head).await
}

/// The content of a large value behind what stands before it in memory.
///
/// Nobody but who wrote a value chose its size, and whether its chunks are there is not known yet. So
/// memory is asked for once the first came, and is touched as they come.
async fn content(core: &Arc<Core>, value: LargeValue, before: &[u8]) -> Result<Bytes> {
    value.payload_bytes()?;
    let end = value.content_bytes();
    let value = Arc::new(value);
    let mut walk = Walk::new(core, &value, (0, end), true);
    let mut whole = Vec::new();
    while let Some((_, chunk)) = walk.next().await? {
        if whole.is_empty() {
            whole = room(&value, before.len())?;
            whole.extend_from_slice(before);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// Empty memory for all of a value behind so many bytes.
fn room(value: &LargeValue, before_bytes: usize) -> Result<Vec<u8>> {
    let bytes = value.content_bytes();
    let mut room = Vec::new();
    let reserved = usize::try_from(bytes)
        .ok()
        .and_then(|count| count.checked_add(before_bytes))
        .is_some_and(|count| room.try_reserve_exact(count).is_ok());
    match reserved {
        true => Ok(room),
        false => Err(ObjectError::NoMemory {
            key: value.key.clone(),
            bytes,
        }),
    }
}

/// What was read as the caller is to see it: whole.
pub(crate) fn unfolded(core: &Arc<Core>, read: Pending<Option<Bytes>>) -> Pending<Option<Bytes>> {
    let is_reference = |payload: &Option<Bytes>| {
        payload
            .as_ref()
            .is_some_and(|payload| LargeValue::is_reference(payload))
    };
    if matches!(read.known(), Some(known) if !known.as_ref().is_ok_and(is_reference)) {
        return read;
    }
    let core = Arc::clone(core);
    Pending::call("a value", async move {
        match read.await? {
            Some(payload) => whole(&core, payload).await.map(Some),
            None => Ok(None),
        }
    })
}

impl Dict {
    /// The payload that a payload stands for: of a large value all of it, of any other itself.
    ///
    /// Cost: one allocation of its size. An owner reads its disk; a peer fetches what it does not hold.
    ///
    /// # Errors
    /// `Invalid` for a value that is too long to be one payload (4 GiB): see [`Dict::read_large`];
    /// [`ObjectError::NoMemory`]; `Conflict` when it was replaced and is no longer kept; `Corrupt` when a chunk is not what its
    /// id says; as [`Dict::get`].
    pub fn load(&self, payload: Bytes) -> Pending<Bytes> {
        if !LargeValue::is_reference(&payload) {
            return Pending::ready(Ok(payload));
        }
        self.call("a large value", |core| async move {
            whole(&core, payload).await
        })
    }

    /// The content of a large value, without what stands before it in its payload.
    ///
    /// Cost and errors: as [`Dict::load`].
    pub fn load_content(&self, value: &LargeValue) -> Pending<Bytes> {
        let value = value.clone();
        self.call("a large value", |core| async move {
            content(&core, value, &[]).await
        })
    }

    /// Fills a buffer with the content of a large value, from an offset on. Blocks.
    ///
    /// Bytes of the buffer that lie past the end of the content stay as they are.
    ///
    /// # Errors
    /// As [`Dict::load`], without the limit. Then the buffer may be filled in part.
    pub fn read_large(&self, value: &LargeValue, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let core = self.core()?;
        let value = Arc::new(value.clone());
        let end = offset.saturating_add(buffer.len() as u64);
        let mut walk = Walk::new(core, &value, (offset, end), true);
        let filled = async {
            while let Some((at, chunk)) = walk.next().await? {
                let skipped = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
                let start = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
                let part = chunk.get(skipped..).unwrap_or_default();
                let room = buffer.get_mut(start..).unwrap_or_default();
                let count = part.len().min(room.len());
                room[..count].copy_from_slice(&part[..count]);
            }
            Ok(())
        };
        block_on(&core.config.what, filled)?
    }
}

//! A value written in pieces.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use objsync_proto::chunk::Root;
use objsync_proto::cut::Chunking;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Ack;
use objsync_proto::limits::CHUNK_BYTES;
use objsync_proto::operation::Outcome;
use objsync_proto::stored_chunks::{self, StoredChunks};

use super::own::Hold;
use super::reader::io_error;
use super::reference::reference;
use super::split::bytes_head;
use super::upload::Upload;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::pending::{Pending, Step, unexpected};
use crate::wait::block_on;
use objsync_proto::ids::Revision;

/// Bytes on their way under a key: see [`Dict::open_write`].
///
/// Chunks leave as they become full. The key changes with [`LargeWriter::commit`], all at once;
/// dropped before that, it stays as it was, and what was sent is collected. Memory: some 16 MiB at
/// most, however long the value is.
pub struct LargeWriter {
    dict: Dict,
    key: Bytes,
    hold: Arc<Hold>,
    upload: Upload,
    failed: Option<ObjectError>,
}

impl LargeWriter {
    pub(crate) fn new(dict: &Dict, key: &[u8], chunking: Chunking) -> Result<Self> {
        let core = dict.core()?;
        core.check_open()?;
        core.config.check_large()?;
        let key = core.config.key(key)?;
        let hold = Arc::new(Hold::new(core));
        let upload = Upload::new(core, &hold, key.clone(), chunking);
        Ok(Self {
            dict: dict.clone(),
            key,
            hold,
            upload,
            failed: None,
        })
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.upload.bytes()
    }

    /// Takes the next bytes; waits while as much is on its way as may be.
    ///
    /// # Cancel safety
    /// None: dropped half way, the writer cannot be gone on with, and refuses to commit.
    ///
    /// # Errors
    /// `Invalid` over the limit of a value; as [`Dict::set`]. After an error nothing can be committed.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let text = "a write of this value was broken off: begin the value anew";
        self.failed = Some(ObjectError::new(ErrorKind::Invalid, text));
        let pushed = self.upload.push(bytes).await;
        self.failed = pushed.as_ref().err().cloned();
        pushed
    }

    /// As [`LargeWriter::push`]. Blocks.
    ///
    /// # Errors
    /// As [`LargeWriter::push`].
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let what = self.dict.what().to_owned();
        block_on(&what, self.push(bytes))?
    }

    /// Puts what was written under the key: on disk, at the handle's level, when it is answered.
    ///
    /// # Errors
    /// As [`Dict::set`]; `Unavailable` when the owner lost chunks that it had taken, as it was
    /// replaced meanwhile: write the value anew.
    pub fn commit(self) -> Pending<Ack> {
        let Self {
            dict,
            key,
            hold,
            upload,
            failed,
        } = self;
        if let Some(error) = failed {
            return Pending::ready(Err(error));
        }
        if let Some(content) = upload.small(CHUNK_BYTES) {
            let head = bytes_head(content.len() as u64);
            let mut payload = BytesMut::with_capacity(head.len() + content.len());
            payload.put_slice(&head);
            payload.put_slice(content);
            return dict.set(&key, payload.freeze());
        }
        Pending::call("a large value", async move {
            let root = upload.finish().await?;
            let value = reference(&key, Revision::default(), &stored(root)?);
            let written = put(&dict, &key, &value).await;
            drop(hold);
            written
        })
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

fn stored(root: Root) -> Result<Bytes> {
    let head = bytes_head(root.bytes());
    Ok(stored_chunks::seal(&StoredChunks { root, head })?)
}

async fn put(dict: &Dict, key: &Bytes, value: &Bytes) -> Result<Ack> {
    let step = |outcome, ack| match outcome {
        Outcome::Done => Ok(Step::Done(ack)),
        other => Err(unexpected(&other)),
    };
    dict.write(|config| config.put(key, value), step).await
}

impl Write for LargeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push_bytes(bytes).map_err(io_error)?;
        Ok(bytes.len())
    }

    /// Does nothing: a value is there whole, by [`LargeWriter::commit`], or not at all.
    fn flush(&mut self) -> io::Result<()> {
        self.check().map_err(io_error)
    }
}

impl std::fmt::Debug for LargeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeWriter")
            .field("content_bytes", &self.content_bytes())
            .finish_non_exhaustive()
    }
}

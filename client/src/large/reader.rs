//! A large value read in pieces.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use objsync_proto::error::ErrorKind;
use objsync_proto::value;

use super::reference::LargeValue;
use super::walk::Walk;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::wait::block_on;

/// The content of one value, read from any place on: see [`Dict::open_read`].
///
/// It reads the value that was there when it was opened, also after that was replaced, for as long
/// as the store keeps it. Memory: some 10 MiB at most, however long the value is.
///
/// [`Read`] and [`Seek`] block, and give the error of the object inside an [`io::Error`].
pub struct LargeReader {
    dict: Dict,
    content: Content,
    type_name: &'static str,
    position: u64,
}

enum Content {
    /// The value was in one piece.
    Whole(Bytes),
    /// It lies in chunks.
    Chunks {
        value: Arc<LargeValue>,
        /// Where the walk goes on, once what is in `rest` was read.
        walk: Option<Walk>,
        rest: Bytes,
    },
}

impl LargeReader {
    pub(crate) fn whole(dict: Dict, payload: &Bytes, start: usize) -> Self {
        let content = Content::Whole(payload.slice(start..));
        Self {
            type_name: value::type_name(payload),
            dict,
            content,
            position: 0,
        }
    }

    pub(crate) fn chunks(dict: Dict, value: LargeValue) -> Self {
        let type_name = value.type_name();
        let content = Content::Chunks {
            value: Arc::new(value),
            walk: None,
            rest: Bytes::new(),
        };
        Self {
            type_name,
            dict,
            content,
            position: 0,
        }
    }

    /// Bytes of the whole content.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        match &self.content {
            Content::Whole(content) => content.len() as u64,
            Content::Chunks { value, .. } => value.content_bytes(),
        }
    }

    /// What Python calls the type of the value.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Where the next read begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to a place of the content; behind its end there is nothing to read.
    pub fn set_position(&mut self, position: u64) {
        if position != self.position
            && let Content::Chunks { walk, rest, .. } = &mut self.content
        {
            let ahead = position.checked_sub(self.position);
            match ahead.and_then(|ahead| usize::try_from(ahead).ok()) {
                Some(ahead) if ahead < rest.len() => rest.advance(ahead),
                _ => {
                    *walk = None;
                    rest.clear();
                }
            }
        }
        self.position = position;
    }

    /// The next bytes, at most `bytes_max`; empty at the end. They share memory with what was
    /// fetched.
    ///
    /// # Cancel safety
    /// Nothing is passed over.
    ///
    /// # Errors
    /// `Conflict` when the value was replaced and is no longer kept; as [`Dict::get`].
    pub async fn next_bytes(&mut self, bytes_max: usize) -> Result<Bytes> {
        let position = self.position;
        let piece = match &mut self.content {
            Content::Whole(content) => {
                let start = usize::try_from(position)
                    .unwrap_or(usize::MAX)
                    .min(content.len());
                let end = start.saturating_add(bytes_max).min(content.len());
                content.slice(start..end)
            }
            Content::Chunks { value, walk, rest } => {
                let end = value.content_bytes();
                if rest.is_empty() && position < end && bytes_max > 0 {
                    let core = self.dict.core()?;
                    // Away while it is polled: dropped half way, it cannot be gone on with.
                    let mut going = match walk.take() {
                        Some(walk) => walk,
                        None => Walk::new(core, value, (position, end), false),
                    };
                    if let Some((at, chunk)) = going.next().await? {
                        let skipped =
                            usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
                        *rest = chunk.slice(skipped.min(chunk.len())..);
                        *walk = Some(going);
                    }
                }
                rest.split_to(bytes_max.min(rest.len()))
            }
        };
        self.position += piece.len() as u64;
        Ok(piece)
    }
}

impl LargeReader {
    /// Fills a buffer with what comes next. Blocks.
    ///
    /// # Errors
    /// `Invalid` when less is left; as [`LargeReader::next_bytes`].
    pub fn read_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<()> {
        let what = self.dict.what().to_owned();
        let wanted = buffer.len();
        let filled = async {
            let mut filled = 0;
            while filled < wanted {
                let piece = self.next_bytes(wanted - filled).await?;
                if piece.is_empty() {
                    let text = format!("value ends after {filled} of {wanted} bytes");
                    return Err(ObjectError::new(ErrorKind::Invalid, text));
                }
                buffer[filled..filled + piece.len()].copy_from_slice(&piece);
                filled += piece.len();
            }
            Ok(())
        };
        block_on(&what, filled)?
    }
}

impl Read for LargeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let what = self.dict.what().to_owned();
        let piece = block_on(&what, self.next_bytes(buffer.len())).and_then(|piece| piece);
        let piece = piece.map_err(io_error)?;
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Seek for LargeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.content_bytes().checked_add_signed(by),
        };
        let Some(place) = place else {
            let text = "seek to before the start of the value";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        self.set_position(place);
        Ok(place)
    }
}

pub(super) fn io_error(error: ObjectError) -> io::Error {
    io::Error::other(error)
}

impl std::fmt::Debug for LargeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeReader")
            .field("content_bytes", &self.content_bytes())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

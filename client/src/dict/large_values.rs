//! Large values in pieces: read from any place, written as they come.

use bytes::Bytes;
use objsync_proto::cut::Chunking;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Ack;
use objsync_proto::key;
use objsync_proto::operation::Operation;
use objsync_proto::value::{content_start, type_name};

use super::Dict;
use super::writes::acknowledged;
use crate::config::Config;
use crate::error::{ObjectError, Result};
use crate::large::{LargeReader, LargeValue, LargeWriter, Packed};
use crate::options::OfflineMode;
use crate::pending::Pending;

impl Dict {
    /// Puts a value whose payload is in two parts, one after the other: the head, which is a
    /// MessagePack header and for an array what is needed to read its elements, at most 4 KiB; and the
    /// raw content, which is not copied. Content above 64 KiB goes into chunks: what the owner has is
    /// not sent again, so a repeat after a broken connection sends what was missing.
    ///
    /// # Cancel safety
    /// The key changes at once or not at all; dropped half way, it may still change.
    ///
    /// # Errors
    /// `Invalid` when head and content are no payload; as [`Dict::set`].
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options, key, value};
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let photo = key::encode(&"photo".into())?;
    /// let content = vec![7; 1 << 20];
    /// let head = [0xC6, 0x00, 0x10, 0x00, 0x00]; // bytes of that length
    /// dict.set_parts(photo.as_bytes(), &head, content.clone()).wait()?;
    /// let payload = dict.get(photo.as_bytes())?.expect("it was set just now");
    /// assert_eq!(payload[5..], content);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_parts(&self, key: &[u8], head: &[u8], content: impl Into<Bytes>) -> Pending<Ack> {
        let (head, content) = (Bytes::copy_from_slice(head), content.into());
        let packed =
            |config: &Config| Ok((config.key(key)?, vec![config.pack_parts(head, content)?]));
        let key = Bytes::copy_from_slice(key);
        let build = move |_: &Config, stored: Vec<Bytes>| {
            let (key, value) = (key.clone(), stored.into_iter().next().unwrap_or_default());
            Ok(Operation::Put { key, value })
        };
        self.write_packed(packed, build, acknowledged)
    }

    /// Opens the bytes, the text (as UTF-8) or the elements of the array under a key, to read them in
    /// pieces, from any place on; none where there is no such key. The value that is there now is
    /// read to its end, whatever is put under the key meanwhile.
    ///
    /// # Errors
    /// `Invalid` when the value is of another type, which is named; as [`Dict::get`].
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options, key, value};
    /// use std::io::{Read, Seek, SeekFrom, Write};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let film = key::encode(&"film".into())?;
    /// let mut writer = dict.open_write(film.as_bytes())?;
    /// for _ in 0..100 {
    ///     writer.write_all(&[7; 10_000])?;
    /// }
    /// writer.commit().wait()?;
    /// let mut reader = dict.open_read(film.as_bytes()).wait()?.expect("it was put just now");
    /// assert_eq!(reader.content_bytes(), 1_000_000);
    /// reader.seek(SeekFrom::End(-2))?;
    /// let mut end = Vec::new();
    /// reader.read_to_end(&mut end)?;
    /// assert_eq!(end, [7, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read(&self, key: &[u8]) -> Pending<Option<LargeReader>> {
        let (dict, name) = (self.clone(), Bytes::copy_from_slice(key));
        self.call("a value", |core| async move {
            match crate::read::get(core, name.clone()).await? {
                Some(payload) => dict.reader_of(&name, &payload).map(Some),
                None => Ok(None),
            }
        })
    }

    /// A reader of the content of a payload that was read under a key, such as at a revision of the
    /// past.
    ///
    /// # Errors
    /// As [`Dict::open_read`].
    pub fn reader_of(&self, key: &[u8], payload: &Bytes) -> Result<LargeReader> {
        if let Some(value) = LargeValue::of(payload)? {
            return Ok(LargeReader::chunks(self.clone(), value));
        }
        match content_start(payload) {
            Some(start) => Ok(LargeReader::whole(self.clone(), payload, start)),
            None => {
                let text = format!(
                    "value of key {} is of type {}: only bytes, str and arrays are read in pieces",
                    key::describe(key),
                    type_name(payload)
                );
                Err(ObjectError::new(ErrorKind::Invalid, text))
            }
        }
    }

    /// How this handle cuts what it puts into chunks.
    ///
    /// # Errors
    /// As [`Dict::get`], in a forked child that cannot reach the store.
    pub fn chunking(&self) -> Result<Chunking> {
        Ok(self.core()?.config.chunking())
    }

    /// Cuts otherwise what is put from now on, through this handle and its clones.
    ///
    /// # Errors
    /// As [`Dict::chunking`].
    pub fn set_chunking(&self, chunking: Chunking) -> Result<()> {
        self.core()?.config.set_chunking(chunking);
        Ok(())
    }

    /// Begins to write bytes under a key, in pieces. Nothing changes before
    /// [`LargeWriter::commit`]. Cut as the handle says ([`crate::Options::chunking`]).
    ///
    /// # Errors
    /// `Unsupported` through a handle that queues its writes on disk; as [`Dict::set`].
    pub fn open_write(&self, key: &[u8]) -> Result<LargeWriter> {
        let chunking = self.core()?.config.chunking();
        self.open_write_cut(key, chunking)
    }

    /// As [`Dict::open_write`], cut as told.
    ///
    /// # Errors
    /// As [`Dict::open_write`].
    pub fn open_write_cut(&self, key: &[u8], chunking: Chunking) -> Result<LargeWriter> {
        LargeWriter::new(self, key, chunking)
    }
}

impl Config {
    /// A payload in two parts as it is to be written.
    fn pack_parts(&self, head: Bytes, content: Bytes) -> Result<Packed> {
        match Packed::large(self, head, content) {
            Ok(large) => Ok(large),
            Err((head, content)) => self.pack(&[&head[..], &content].concat().into()),
        }
    }

    /// Refuses to write in pieces where values have to be whole.
    pub(crate) fn check_large(&self) -> Result<()> {
        if self.options.offline == OfflineMode::Wait {
            return Ok(());
        }
        let text = format!(
            "{} queues its writes on disk, where values are whole: write in pieces through a handle \
             without a queue",
            self.what
        );
        Err(ObjectError::new(ErrorKind::Unsupported, text))
    }
}

//! How a handle packs values, and opens those of others: zstd, and dictionaries for it.
//!
//! Trail of a dictionary: [`Packer::seal`] shows values to [`samples`] -> [`training`] makes one in
//! a thread of its own -> `Operation::AddDictionary`, made durable -> only then is it used.
//!
//! | file | what |
//! |---|---|
//! | `bulk.rs` | large updates |
//! | `counters.rs` | what packing came to, for `Status` |
//! | `learn.rs` | dictionaries of others, before what needs them is looked at |
//! | `samples.rs` | values to train from, and when it is time to |
//! | `training.rs` | training, and making the result the present one |
//!
//! Invariants
//! * A value is packed only with a dictionary that the owner has made durable.
//! * No write waits for a training, but the first large update of a namespace for its own.
//! * A peer has the dictionary of each value that it holds: it asks before it takes the value.

mod bulk;
mod counters;
mod learn;
mod samples;
mod training;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::{Buf, Bytes};
use objsync_proto::chunk::ChunkError;
use objsync_proto::dictionary::{Dictionary, DictionaryId};
use objsync_proto::ids::Revision;
use objsync_proto::key;
use objsync_proto::limits::{COMPRESSION_LEVEL_MAX, COMPRESSION_LEVEL_MIN};
use objsync_proto::stored::{self, Codec, Compression, HEADER_BYTES, StoredError};
use objsync_proto::stored_chunks::{self, StoredChunksError};

pub use self::counters::CompressionStatus;
use self::counters::Counters;
use self::samples::Samples;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::large::reference;
use crate::options::{OfflineMode, Options};
use objsync_proto::error::ErrorKind;

/// Dictionaries that a handle knows at most: an owner that has more of them is none of ours.
const KNOWN_MAX: usize = 64;

/// How a handle packs values, and opens those of others.
pub(crate) struct Packer {
    /// None for a handle that stores values as they are.
    level: Option<i32>,
    /// Whether it packs with dictionaries.
    uses_dictionary: bool,
    /// Whether it trains them.
    trains: bool,
    core: Mutex<Weak<Core>>,
    known: RwLock<HashMap<DictionaryId, Arc<Dictionary>>>,
    present: RwLock<Option<Present>>,
    samples: Mutex<Samples>,
    counters: Counters,
}

/// The dictionary that new values are packed with.
#[derive(Clone)]
struct Present {
    dictionary: Arc<Dictionary>,
    trained_ms: u64,
}

impl Packer {
    /// # Errors
    /// When the level is none of zstd's.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        if let Some(level) = options.compression
            && !(COMPRESSION_LEVEL_MIN..=COMPRESSION_LEVEL_MAX).contains(&level)
        {
            let text = format!(
                "compression level {level}: it is {COMPRESSION_LEVEL_MIN} to \
                 {COMPRESSION_LEVEL_MAX}"
            );
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        // What waits in a queue on disk must be readable where there is no owner to ask.
        let queues = options.offline == OfflineMode::Queue;
        let uses_dictionary = options.compression.is_some() && options.dictionary && !queues;
        Ok(Self {
            level: options.compression,
            uses_dictionary,
            trains: uses_dictionary && !options.readonly,
            core: Mutex::default(),
            known: RwLock::default(),
            present: RwLock::default(),
            samples: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Lets it ask what it does not know.
    pub(crate) fn attach(&self, core: &Weak<Core>) {
        *lock(&self.core) = Weak::clone(core);
    }

    fn core(&self) -> Option<Arc<Core>> {
        lock(&self.core).upgrade()
    }

    /// The stored value of a payload.
    pub(crate) fn seal(&self, payload: &[u8]) -> Result<Bytes> {
        let Some(level) = self.level else {
            return Ok(stored::seal(payload, Compression::None)?);
        };
        let present = self.present();
        let dictionary = present.as_ref().map(|present| &*present.dictionary);
        let started = self.counters.start();
        let sealed = stored::seal_with(payload, Compression::Zstd(level), dictionary)?;
        self.counters.packed(payload.len(), sealed.len(), started);
        if self.trains && self.show(payload, true) {
            training::begin(self);
        }
        Ok(sealed)
    }

    /// How chunks of large values are packed.
    pub(crate) fn compression(&self) -> Compression {
        self.level.map_or(Compression::None, Compression::Zstd)
    }

    /// As [`Packer::seal`], of what a dictionary of keys and values begins with: it has no
    /// dictionary for zstd yet.
    pub(crate) fn seal_first(&self, payload: &[u8]) -> Result<Bytes> {
        Ok(stored::seal(payload, self.compression())?)
    }

    /// The plain payload of the stored value that a revision put under a key: the same memory, where
    /// it is not compressed; a reference, where it lies in chunks.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported`, with the key: what it holds cannot be opened.
    pub(crate) fn open(&self, key: &[u8], revision: Revision, value: Bytes) -> Result<Bytes> {
        self.open_any(key, revision, value)
            .map_err(|error| unreadable(key, &error))
    }

    fn open_any(
        &self,
        key: &[u8],
        revision: Revision,
        mut value: Bytes,
    ) -> std::result::Result<Bytes, StoredChunksError> {
        if stored_chunks::is_chunked(&value) {
            stored_chunks::check(&value)?;
            return Ok(reference(key, revision, &value));
        }
        if let Codec::Raw = stored::check(&value)? {
            value.advance(HEADER_BYTES);
            self.opened(&value, value.len() + HEADER_BYTES, None);
            return Ok(value);
        }
        let started = self.counters.start();
        let payload = stored::open_with(&value, |id| self.find(id))?;
        self.opened(&payload, value.len(), started);
        Ok(payload)
    }

    fn opened(&self, payload: &Bytes, stored_bytes: usize, started: counters::Started) {
        if self.level.is_none() {
            return;
        }
        self.counters.unpacked(payload.len(), stored_bytes, started);
        if self.trains {
            self.show(payload, false);
        }
    }

    /// Shows a value to the samples, unless they are busy. Tells whether it is time to train.
    fn show(&self, payload: &[u8], may_train: bool) -> bool {
        let Ok(mut samples) = self.samples.try_lock() else {
            return false;
        };
        samples.show(payload);
        may_train && samples.begin()
    }

    fn present(&self) -> Option<Present> {
        let present = self.present.read();
        present.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_present(&self, present: Option<Present>) {
        if let Some(present) = &present {
            self.know(Arc::clone(&present.dictionary));
        }
        *(self.present.write()).unwrap_or_else(PoisonError::into_inner) = present;
    }

    /// A dictionary: one that is known, or one of the store of this process.
    pub(crate) fn find(&self, id: DictionaryId) -> Option<Arc<Dictionary>> {
        if let Some(known) = self.known(id) {
            return Some(known);
        }
        let core = self.core()?;
        let owner = core.owner()?;
        let found = owner.store().dictionary(owner.namespace(), id).ok()??;
        self.know(Arc::clone(&found));
        Some(found)
    }

    fn known(&self, id: DictionaryId) -> Option<Arc<Dictionary>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned()
    }

    fn know(&self, dictionary: Arc<Dictionary>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(dictionary.id(), dictionary);
    }

    /// What packing has come to so far; none for a handle that stores values as they are.
    pub(crate) fn status(&self) -> Option<CompressionStatus> {
        let present = self.present();
        let mut status = self.counters.status();
        status.level = self.level?;
        status.dictionary = present.as_ref().map(|present| present.dictionary.id().0);
        status.trained_ms = present.as_ref().map(|present| present.trained_ms);
        status.trainings = lock(&self.samples).trainings();
        Some(status)
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("level", &self.level)
            .field("trains", &self.trains)
            .finish_non_exhaustive()
    }
}

/// A value that cannot be opened ends whatever read it, so the error says where it lies.
fn unreadable(key: &[u8], error: &StoredChunksError) -> ObjectError {
    let kind = match error {
        StoredChunksError::Stored(StoredError::Unsupported { .. })
        | StoredChunksError::Chunks(ChunkError::Unknown { .. }) => ErrorKind::Unsupported,
        _ => ErrorKind::Corrupt,
    };
    let text = format!("value of key {}: {error}", key::describe(key));
    ObjectError::new(kind, text)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

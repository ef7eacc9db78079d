//! zstd dictionaries of the values: entries of `NamespaceId::DICTIONARIES`, opened once and shared
//! by all who need them in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use objsync_proto::dictionary::{Dictionary, DictionaryId, EntryKey, Trained};
use objsync_proto::ids::NamespaceId;

use crate::error::StoreError;
use crate::store::{Store, Stored};

/// Dictionaries that are kept open; each takes up to 1.5 MiB, and more if it packs at a high level.
const OPEN_MAX: usize = 64;

/// Dictionaries that have been opened.
#[derive(Default)]
pub(crate) struct OpenDictionaries {
    open: Mutex<HashMap<(NamespaceId, DictionaryId), Arc<Dictionary>>>,
}

impl OpenDictionaries {
    /// The dictionary of an entry; none if it is damaged, or was written by a later version. `get`
    /// reads what is committed, so that nothing stays here which was not.
    pub(crate) fn find(
        &self,
        namespace: NamespaceId,
        id: DictionaryId,
        get: impl FnOnce(&[u8]) -> Result<Option<Stored>, StoreError>,
    ) -> Result<Option<Arc<Dictionary>>, StoreError> {
        let name = (namespace, id);
        if let Some(dictionary) = self.lock().get(&name) {
            return Ok(Some(Arc::clone(dictionary)));
        }
        let stored = get(&EntryKey::Dictionary(namespace, id).encode())?;
        let trained = stored.and_then(|stored| Trained::decode(&stored.value));
        let Some(Ok(dictionary)) = trained.map(|trained| trained.open(id)) else {
            return Ok(None);
        };
        let dictionary = Arc::new(dictionary);
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            // Whoever uses one has it; opening another again costs a read.
            open.clear();
        }
        open.insert(name, Arc::clone(&dictionary));
        Ok(Some(dictionary))
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<(NamespaceId, DictionaryId), Arc<Dictionary>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// A zstd dictionary of a namespace; none if there is none of that name, or it is damaged. The
    /// first time it costs a read, and some 100 us.
    pub fn dictionary(
        &self,
        namespace: NamespaceId,
        id: DictionaryId,
    ) -> Result<Option<Arc<Dictionary>>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.dictionaries.find(namespace, id, |key| {
            core.state.get(NamespaceId::DICTIONARIES, key)
        })
    }

    /// The entry of a zstd dictionary of a namespace as it is stored (see `proto::dictionary`), or
    /// of the one that new values are packed with.
    pub fn dictionary_entry(
        &self,
        namespace: NamespaceId,
        id: Option<DictionaryId>,
    ) -> Result<Option<Stored>, StoreError> {
        let present = EntryKey::Present(namespace).encode();
        let id = match id {
            Some(id) => Some(id),
            None => (self.get(NamespaceId::DICTIONARIES, &present)?)
                .and_then(|stored| DictionaryId::decode_present(&stored.value)),
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let entry = EntryKey::Dictionary(namespace, id).encode();
        self.get(NamespaceId::DICTIONARIES, &entry)
    }
}

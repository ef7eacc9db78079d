//! Dictionaries, and values that need one.
//!
//! A value that names a dictionary is only taken where that is: so whoever holds the value, or a
//! copy of the store that has it, has the dictionary too.

use std::sync::Arc;

use bytes::Bytes;

use super::{Decision, Place, Present, decided, invalid};
use crate::dictionary::{Dictionary, DictionaryId, EntryKey, Trained};
use crate::effect::Change;
use crate::error::{ErrorKind, Failure};
use crate::ids::NamespaceId;
use crate::key;
use crate::limits::DICTIONARIES_MAX;
use crate::operation::{Operation, Outcome};
use crate::stored;

impl<E> Place<'_, E> {
    /// The dictionary that a stored value needs, if it needs one and it is there.
    pub(super) fn dictionary_of(
        &self,
        stored: Option<&Bytes>,
    ) -> Result<Option<Arc<Dictionary>>, E> {
        match stored.and_then(|stored| stored::dictionary_of(stored)) {
            Some(id) => self.view.dictionary(self.namespace, id),
            None => Ok(None),
        }
    }
}

/// Looks a dictionary up by `get`, which reads an entry.
pub(super) fn find<E>(
    namespace: NamespaceId,
    id: DictionaryId,
    get: impl FnOnce(&[u8]) -> Result<Option<Present>, E>,
) -> Result<Option<Arc<Dictionary>>, E> {
    let entry = get(&EntryKey::Dictionary(namespace, id).encode())?;
    let trained = entry.and_then(|entry| Trained::decode(&entry.value));
    let dictionary = trained.and_then(|trained| trained.open(id).ok());
    Ok(dictionary.map(Arc::new))
}

/// Why an operation cannot be taken, if it has a value that needs a dictionary which is not there.
pub(super) fn refuse<E>(operation: &Operation, place: &Place<'_, E>) -> Result<Option<Failure>, E> {
    let one = |key: &Bytes, value: &Bytes| -> Result<Option<Failure>, E> {
        let Some(id) = stored::dictionary_of(value) else {
            return Ok(None);
        };
        let found = place.view.dictionary(place.namespace, id)?;
        Ok(found.is_none().then(|| unknown(key, id)))
    };
    let all = |changes: &[Change]| -> Result<Option<Failure>, E> {
        for change in changes {
            if let Some(value) = &change.value
                && let Some(failure) = one(&change.key, value)?
            {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    };
    match operation {
        Operation::Put { key, value } | Operation::PutLeased { key, value, .. } => one(key, value),
        Operation::CompareAndSet { key, new, .. } => {
            new.as_ref().map_or(Ok(None), |new| one(key, new))
        }
        Operation::Batch { changes } | Operation::Transact { changes, .. } => all(changes),
        Operation::Delete { .. }
        | Operation::DeleteRange { .. }
        | Operation::Increment { .. }
        | Operation::Patch { .. }
        | Operation::GrantLease { .. }
        | Operation::RevokeLease { .. }
        | Operation::Lock { .. }
        | Operation::Unlock { .. }
        | Operation::Settle
        | Operation::AddDictionary { .. } => Ok(None),
    }
}

/// The owner that took the dictionary may have lost it with its disk: then the write is to be
/// packed anew.
fn unknown(key: &[u8], id: DictionaryId) -> Failure {
    let text = format!(
        "value of key {} needs dictionary {id}, which this dictionary does not have: write it again",
        key::describe(key)
    );
    Failure::new(ErrorKind::Unavailable, text)
}

/// Adds a dictionary for the values of the namespace, or says again that it is the present one.
pub(super) fn add<E>(bytes: &Bytes, place: &Place<'_, E>) -> Result<Decision, E> {
    let dictionary = match Dictionary::new(bytes.clone()) {
        Ok(dictionary) => dictionary,
        Err(error) => return Ok(Err(invalid(error.to_string()))),
    };
    let (namespace, id) = (place.namespace, dictionary.id());
    let entry = EntryKey::Dictionary(namespace, id).encode();
    let there = place.view.get(NamespaceId::DICTIONARIES, &entry)?;
    let mut changes = Vec::new();
    let put = |key: Bytes, value: Bytes| {
        let value = Some(value);
        (NamespaceId::DICTIONARIES, Change { key, value })
    };
    match there.map(|there| Trained::decode(&there.value)) {
        Some(Some(there)) if there.bytes == *bytes => {}
        Some(_) => {
            let text = format!("there is another dictionary {id}: train a new one");
            return Ok(Err(Failure::new(ErrorKind::Conflict, text)));
        }
        None => {
            let all = EntryKey::all_of(namespace);
            let view = place.view;
            let held = view.keys(NamespaceId::DICTIONARIES, &all, DICTIONARIES_MAX)?;
            if held.len() >= DICTIONARIES_MAX as usize {
                let count = held.len();
                let text = format!(
                    "namespace has {count} dictionaries; the limit is {DICTIONARIES_MAX} \
                     dictionaries, as values may need each of them"
                );
                return Ok(Err(Failure::new(ErrorKind::Full, text)));
            }
            let (at_ms, bytes) = (view.now_ms(), bytes.clone());
            changes.push(put(entry, Trained { at_ms, bytes }.encode()));
        }
    }
    changes.push(put(
        EntryKey::Present(namespace).encode(),
        id.encode_present(),
    ));
    Ok(decided(Outcome::Number(i64::from(id.0)), changes))
}

//! The names of the dictionaries: namespace 0 maps each name to a number.
//!
//! The catalog is itself a dictionary, written by the same transactions; this is its content in
//! memory, where each write looks.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::NamespaceId;
use objsync_proto::key::{self, Key};
use objsync_proto::limits::{NAMESPACE_BYTES_MAX, NAMESPACES_MAX};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::int_payload;

/// The name of the namespace that has a number of its own.
const DEFAULT_NAME: &str = "default";

/// Dictionaries by name.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    by_name: BTreeMap<String, NamespaceId>,
    numbers: HashSet<NamespaceId>,
}

impl Catalog {
    /// The number of a dictionary.
    pub(crate) fn get(&self, name: &str) -> Option<NamespaceId> {
        self.by_name.get(name).copied()
    }

    /// Whether a dictionary has this number.
    pub(crate) fn holds(&self, namespace: NamespaceId) -> bool {
        self.numbers.contains(&namespace)
    }

    /// Every dictionary, by name.
    pub(crate) fn list(&self) -> Vec<(String, NamespaceId)> {
        let all = self.by_name.iter();
        all.map(|(name, number)| (name.clone(), *number)).collect()
    }

    /// A number for a new name, and the change of the catalog that gives it.
    pub(crate) fn plan(&self, name: &str) -> Result<(NamespaceId, Change), Failure> {
        let bytes = name.len();
        if bytes == 0 || bytes > NAMESPACE_BYTES_MAX {
            return Err(invalid(format!(
                "namespace name is {bytes} bytes; the limits are 1 and {NAMESPACE_BYTES_MAX} bytes"
            )));
        }
        if self.by_name.len() >= NAMESPACES_MAX {
            let count = self.by_name.len();
            let message =
                format!("store has {count} namespaces; the limit is {NAMESPACES_MAX} namespaces");
            return Err(Failure::new(ErrorKind::Full, message));
        }
        let namespace = match name {
            DEFAULT_NAME => NamespaceId::DEFAULT,
            _ => self.first_free(),
        };
        Ok((namespace, entry(name, namespace)?))
    }

    /// A name for a dictionary whose own is lost, and the change of the catalog that gives it.
    pub(crate) fn name_for(&mut self, namespace: NamespaceId) -> Result<Change, Failure> {
        let wished = match namespace {
            NamespaceId::DEFAULT => DEFAULT_NAME.to_owned(),
            other => format!("salvaged-{}", other.0),
        };
        let mut name = wished.clone();
        for number in 2.. {
            if !self.by_name.contains_key(&name) {
                break;
            }
            name = format!("{wished}-{number}");
        }
        let change = entry(&name, namespace)?;
        self.apply(&change);
        Ok(change)
    }

    /// Learns of a change of the catalog. What this program cannot read names no dictionary.
    pub(crate) fn apply(&mut self, change: &Change) {
        let Ok(Key::Str(name)) = key::decode(&change.key) else {
            return;
        };
        match change.value.as_ref().and_then(number_of) {
            Some(namespace) => {
                self.numbers.insert(namespace);
                self.by_name.insert(name, namespace);
            }
            None => {
                if let Some(namespace) = self.by_name.remove(&name) {
                    self.numbers.remove(&namespace);
                }
            }
        }
    }

    fn first_free(&self) -> NamespaceId {
        let highest = self.numbers.iter().copied().max();
        match highest.filter(|highest| *highest >= NamespaceId::FIRST_NAMED) {
            Some(highest) => NamespaceId(highest.0 + 1),
            None => NamespaceId::FIRST_NAMED,
        }
    }
}

fn number_of(stored: &Bytes) -> Option<NamespaceId> {
    let payload = stored::open(stored).ok()?;
    rmp_serde::from_slice(&payload).ok().map(NamespaceId)
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorKind::Invalid, message)
}

/// The change of the catalog that gives a name to a number.
fn entry(name: &str, namespace: NamespaceId) -> Result<Change, Failure> {
    let key = key::encode(&Key::from(name)).map_err(|e| invalid(e.to_string()))?;
    let payload = int_payload(i64::from(namespace.0));
    let value = stored::seal(&payload, Compression::None);
    Ok(Change {
        key: key.into_bytes(),
        value: Some(value.map_err(|e| invalid(e.to_string()))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(catalog: &mut Catalog, name: &str) -> NamespaceId {
        let (namespace, change) = catalog.plan(name).unwrap();
        catalog.apply(&change);
        assert_eq!(catalog.get(name), Some(namespace));
        assert!(catalog.holds(namespace));
        namespace
    }

    #[test]
    fn names_get_numbers_from_16_on_and_default_gets_1() {
        let mut catalog = Catalog::default();
        assert_eq!(add(&mut catalog, "prices"), NamespaceId(16));
        assert_eq!(add(&mut catalog, "default"), NamespaceId(1));
        assert_eq!(add(&mut catalog, "users"), NamespaceId(17));
        assert_eq!(catalog.list().len(), 3);
        assert!(!catalog.holds(NamespaceId(2)));
        assert!(
            !catalog.holds(NamespaceId::CATALOG),
            "it is written by this store alone"
        );
    }

    #[test]
    fn empty_name_and_long_name_are_refused() {
        let catalog = Catalog::default();
        for name in [String::new(), "x".repeat(NAMESPACE_BYTES_MAX + 1)] {
            assert_eq!(catalog.plan(&name).unwrap_err().kind, ErrorKind::Invalid);
        }
        assert!(catalog.plan(&"x".repeat(NAMESPACE_BYTES_MAX)).is_ok());
    }
}

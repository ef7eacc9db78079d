//! The typed, blocking face of a transaction.

use std::marker::PhantomData;

use objsync_proto::ids::Revision;
use objsync_proto::key::{self, Key};
use objsync_proto::value::{from_payload, to_payload};
use objsync_proto::wire::KeyRange;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Object, encoded};
use crate::error::{ObjectError, Result};
use crate::lock::Lock;
use crate::transaction::{Transaction, TransactionScan};

/// An object as it was at one moment, with changes on top: see [`Object::transact`].
#[derive(Debug, Clone)]
pub struct TypedTransaction {
    transaction: Transaction,
}

/// Entries in key order as a transaction sees them, decoded as they are read.
#[derive(Debug)]
pub struct TransactionEntries<V> {
    scan: TransactionScan,
    value: PhantomData<fn() -> V>,
}

impl Object {
    /// Runs a function on one moment of the object and makes what it changes, all of it or nothing,
    /// if nothing that it read has changed by then, ranges with their missing keys included; else
    /// the function is run again. See [`crate::Dict::transact`].
    ///
    /// # Errors
    /// As [`crate::Dict::transact`].
    ///
    /// # Examples
    /// ```
    /// use objsync::ObjectError;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let accounts = objsync::DiskObject::open(folder.path().join("accounts"))?;
    /// accounts.set("ann", &100)?;
    /// let left = accounts.transact(|t| {
    ///     let ann = t.get::<i64>("ann")?.unwrap_or(0);
    ///     let bob = t.get::<i64>("bob")?.unwrap_or(0);
    ///     t.set("ann", &(ann - 30))?;
    ///     t.set("bob", &(bob + 30))?;
    ///     Ok::<_, ObjectError>(ann - 30)
    /// })?;
    /// assert_eq!((left, accounts.get::<i64>("bob")?), (70, Some(30)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transact<T, E: From<ObjectError>>(
        &self,
        mut run: impl FnMut(&TypedTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.dict.transact(|transaction| {
            let transaction = transaction.clone();
            run(&TypedTransaction { transaction })
        })
    }
}

impl TypedTransaction {
    /// As of when it reads.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.transaction.revision()
    }

    /// The value under a key: what this transaction put there, else what was there at its moment.
    ///
    /// # Errors
    /// As [`Transaction::get`]; `Invalid` when the value is of another type.
    pub fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.transaction.get(encoded(key)?.as_bytes()).wait()?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        self.transaction.contains(encoded(key)?.as_bytes()).wait()
    }

    /// Puts a value, when the transaction happens; its later reads see it.
    ///
    /// # Errors
    /// As [`Transaction::set`].
    pub fn set(&self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let payload = to_payload(value)?;
        self.transaction.set(encoded(key)?.as_bytes(), payload)
    }

    /// Removes a key, when the transaction happens.
    ///
    /// # Errors
    /// As [`Transaction::delete`].
    pub fn delete(&self, key: impl Into<Key>) -> Result<()> {
        self.transaction.delete(encoded(key)?.as_bytes())
    }

    /// How many keys there are: reads all of them.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn len(&self) -> Result<u64> {
        self.transaction.count().wait()
    }

    /// Whether there is no key. Reads up to the first.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn is_empty(&self) -> Result<bool> {
        let first = self.transaction.keys(KeyRange::default(), false).next();
        Ok(first.transpose()?.is_none())
    }

    /// All entries in key order. Checked is what was read of them: no key there may come, go or
    /// change.
    ///
    /// # Errors
    /// Each entry can fail, as [`TypedTransaction::get`].
    #[must_use]
    pub fn iter<V>(&self) -> TransactionEntries<V> {
        self.scan(KeyRange::default())
    }

    /// The entries from `start` on, up to but without `stop`; none for no bound.
    ///
    /// # Errors
    /// `Invalid` for a key that cannot be stored.
    pub fn range<V>(
        &self,
        start: Option<&Key>,
        stop: Option<&Key>,
    ) -> Result<TransactionEntries<V>> {
        Ok(self.scan(key::between(start, stop)?))
    }

    /// The entries whose keys are texts that start with `prefix`.
    #[must_use]
    pub fn prefix<V>(&self, prefix: &str) -> TransactionEntries<V> {
        self.scan(key::str_prefix(prefix))
    }

    /// Demands that a lock is held, by this very holder, when the transaction happens.
    ///
    /// # Errors
    /// As [`Transaction::require`].
    pub fn require(&self, lock: &Lock) -> Result<()> {
        self.transaction.require(lock)
    }

    fn scan<V>(&self, range: KeyRange) -> TransactionEntries<V> {
        TransactionEntries {
            scan: self.transaction.scan(range, false),
            value: PhantomData,
        }
    }
}

impl<V: DeserializeOwned> Iterator for TransactionEntries<V> {
    type Item = Result<(Key, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.scan.next()?;
        Some(entry.and_then(|(key, payload)| Ok((key::decode(&key)?, from_payload(&payload)?))))
    }
}

//! The typed, awaitable face of a transaction.

use objsync_proto::ids::Revision;
use objsync_proto::key::{self, Key};
use objsync_proto::value::{from_payload, to_payload};
use objsync_proto::wire::KeyRange;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Object;
use crate::error::{ObjectError, Result};
use crate::lock::Lock;
use crate::objects::encoded;
use crate::transaction::Transaction;

/// As [`crate::TypedTransaction`].
#[derive(Debug, Clone)]
pub struct TypedTransaction {
    transaction: Transaction,
}

impl Object {
    /// As [`crate::Object::transact`].
    ///
    /// # Cancel safety
    /// As [`crate::Dict::transact_async`].
    ///
    /// # Errors
    /// As [`crate::Dict::transact`].
    ///
    /// # Examples
    /// ```
    /// # async fn example() -> objsync::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder for the example");
    /// let counters = objsync::aio::DiskObject::open(folder.path().join("counters")).await?;
    /// counters
    ///     .transact(async |t| {
    ///         let visits = t.get::<u64>("visits").await?.unwrap_or(0);
    ///         t.set("visits", &(visits + 1))
    ///     })
    ///     .await?;
    /// assert_eq!(counters.get::<u64>("visits").await?, Some(1));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    /// #     .block_on(example()).expect("the example runs");
    /// ```
    pub async fn transact<T, E: From<ObjectError>, F>(
        &self,
        mut run: impl FnMut(TypedTransaction) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let run = |transaction| run(TypedTransaction { transaction });
        self.dict.transact_async(run).await
    }
}

impl TypedTransaction {
    /// As of when it reads.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.transaction.revision()
    }

    /// As [`crate::TypedTransaction::get`].
    ///
    /// # Errors
    /// As [`crate::TypedTransaction::get`].
    pub async fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.transaction.get(encoded(key)?.as_bytes()).await?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// As [`crate::TypedTransaction::contains`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        self.transaction.contains(encoded(key)?.as_bytes()).await
    }

    /// As [`crate::TypedTransaction::set`]: asks nobody.
    ///
    /// # Errors
    /// As [`Transaction::set`].
    pub fn set(&self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let payload = to_payload(value)?;
        self.transaction.set(encoded(key)?.as_bytes(), payload)
    }

    /// As [`crate::TypedTransaction::delete`]: asks nobody.
    ///
    /// # Errors
    /// As [`Transaction::delete`].
    pub fn delete(&self, key: impl Into<Key>) -> Result<()> {
        self.transaction.delete(encoded(key)?.as_bytes())
    }

    /// As [`crate::TypedTransaction::len`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn len(&self) -> Result<u64> {
        self.transaction.count().await
    }

    /// As [`crate::TypedTransaction::is_empty`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn is_empty(&self) -> Result<bool> {
        let mut keys = self.transaction.keys(KeyRange::default(), false);
        Ok(keys.next_page_async().await?.is_empty())
    }

    /// As [`crate::TypedTransaction::iter`].
    ///
    /// # Errors
    /// As [`crate::TypedTransaction::get`].
    pub async fn items<V: DeserializeOwned>(&self) -> Result<Vec<(Key, V)>> {
        self.collect(KeyRange::default()).await
    }

    /// As [`crate::TypedTransaction::range`].
    ///
    /// # Errors
    /// As [`crate::TypedTransaction::get`].
    pub async fn range<V: DeserializeOwned>(
        &self,
        start: Option<&Key>,
        stop: Option<&Key>,
    ) -> Result<Vec<(Key, V)>> {
        self.collect(key::between(start, stop)?).await
    }

    /// As [`crate::TypedTransaction::prefix`].
    ///
    /// # Errors
    /// As [`crate::TypedTransaction::get`].
    pub async fn prefix<V: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(Key, V)>> {
        self.collect(key::str_prefix(prefix)).await
    }

    /// As [`crate::TypedTransaction::require`].
    ///
    /// # Errors
    /// As [`Transaction::require`].
    pub fn require(&self, lock: &Lock) -> Result<()> {
        self.transaction.require(lock)
    }

    async fn collect<V: DeserializeOwned>(&self, range: KeyRange) -> Result<Vec<(Key, V)>> {
        let mut scan = self.transaction.scan(range, false);
        let mut entries = Vec::new();
        loop {
            let page = scan.next_page_async().await?;
            if page.is_empty() {
                return Ok(entries);
            }
            for (key, payload) in page {
                entries.push((key::decode(&key)?, from_payload(&payload)?));
            }
        }
    }
}

//! Changing a dictionary: each call is one decision of the owner.

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::Ack;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::KeyRange;

use super::Dict;
use crate::config::Config;
use crate::error::Result;
use crate::large;
use crate::parts::{Parts, Put};
use crate::pending::{Pending, Step, unexpected};
use crate::pipeline::Pipeline;

impl Dict {
    /// Puts a payload under a key. Bytes, str and arrays above 64 KiB go into chunks: see
    /// [`Dict::set_parts`].
    pub fn set(&self, key: &[u8], value: impl Into<Bytes>) -> Pending<Ack> {
        let value = value.into();
        let packed = |config: &Config| Ok((config.key(key)?, vec![config.pack(&value)?]));
        let key = Bytes::copy_from_slice(key);
        let build = move |_: &Config, stored: Vec<Bytes>| {
            let key = key.clone();
            let value = stored.into_iter().next().unwrap_or_default();
            Ok(Operation::Put { key, value })
        };
        self.write_packed(packed, build, acknowledged)
    }

    /// Removes a key; tells whether it was there.
    pub fn delete(&self, key: &[u8]) -> Pending<(bool, Ack)> {
        let step = |outcome, ack| match outcome {
            Outcome::Deleted(count) => Ok(Step::Done((count > 0, ack))),
            other => Err(unexpected(&other)),
        };
        self.write(|config| config.remove(key), step)
    }

    /// Removes every key of a range, in several transactions when there are many; tells how many.
    pub fn delete_range(&self, range: KeyRange) -> Pending<u64> {
        let operation = match self.core().and_then(|core| core.config.remove_range(range)) {
            Ok(operation) => operation,
            Err(error) => return Pending::ready(Err(error)),
        };
        let (again, mut total) = (operation.clone(), 0);
        let step = move |outcome, _ack| match (outcome, &again) {
            (Outcome::Deleted(count), Operation::DeleteRange { count_max, .. }) => {
                total += count;
                let is_all = count < u64::from(*count_max);
                Ok(if is_all {
                    Step::Done(total)
                } else {
                    Step::Next(again.clone())
                })
            }
            (other, _) => Err(unexpected(&other)),
        };
        self.write(|_| Ok(operation), step)
    }

    /// Puts `new` (or removes the key) if its payload is `expected` (or it is missing); tells
    /// whether it was.
    ///
    /// A large value is compared by its chunks: equal content that was cut otherwise is another value,
    /// and so is the other of what was put with a head of its own ([`Dict::set_parts`]). The reference
    /// that [`Dict::find`] gives is always that of what is there. Cost, of a large `expected` that is no
    /// reference: it is cut and hashed by the calling thread.
    pub fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Pending<bool> {
        let step = |outcome, _ack| match outcome {
            Outcome::Swapped(swapped) => Ok(Step::Done(swapped)),
            other => Err(unexpected(&other)),
        };
        let packed = |config: &Config| {
            let new = new.as_ref().map(|new| config.pack(new)).transpose()?;
            Ok((config.key(key)?, new.into_iter().collect()))
        };
        let key = Bytes::copy_from_slice(key);
        let build = move |config: &Config, stored: Vec<Bytes>| {
            let expected = expected.clone();
            Ok(Operation::CompareAndSet {
                key: key.clone(),
                expected: expected
                    .map(|expected| large::expected(config, expected))
                    .transpose()?,
                new: stored.into_iter().next(),
            })
        };
        self.write_packed(packed, build, step)
    }

    /// Adds to an integer, a missing one counting as 0; returns its new value.
    pub fn incr(&self, key: &[u8], by: i64) -> Pending<i64> {
        let step = |outcome, _ack| match outcome {
            Outcome::Number(number) => Ok(Step::Done(number)),
            other => Err(unexpected(&other)),
        };
        self.write(|config| config.increment(key, by), step)
    }

    /// Makes all changes in one transaction; values are plain payloads. More than 16 MiB is
    /// `Invalid`.
    pub fn batch(&self, changes: Vec<Change>) -> Pending<Ack> {
        let packed = |config: &Config| {
            config.check_writable()?;
            let mut packed = Vec::with_capacity(changes.len());
            for change in &changes {
                config.key(&change.key)?;
                packed.extend(
                    change
                        .value
                        .as_ref()
                        .map(|value| config.pack(value))
                        .transpose()?,
                );
            }
            let first = changes.first().map(|change| change.key.clone());
            Ok((first.unwrap_or_default(), packed))
        };
        let keys: Vec<(Bytes, bool)> = changes
            .iter()
            .map(|change| (change.key.clone(), change.value.is_some()))
            .collect();
        self.write_packed(packed, batch_of(keys), acknowledged)
    }

    /// Puts many pairs: one transaction up to 16 MiB, above that several in order. Returns the last
    /// acknowledgement; none when there were no pairs. A handle that compresses trains its first
    /// dictionary from them, if they are 1,000 or more, which takes up to a second.
    ///
    /// # Errors
    /// Of the first transaction that failed: those before it are done, those after it are not.
    pub fn update<K, V>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<Option<Ack>>
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let core = self.core()?;
        let mut last = None;
        let pairs = core.config.packer.teach(core, pairs);
        for part in Parts::new(&core.config, pairs) {
            last = Some(self.put_all(part?).wait()?);
        }
        Ok(last)
    }

    /// As [`Dict::update`], awaitable. A dictionary is trained meanwhile, for later values.
    ///
    /// # Cancel safety
    /// Dropped half way, the transactions that were begun may still happen.
    ///
    /// # Errors
    /// As [`Dict::update`].
    pub async fn update_async<K, V>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Option<Ack>>
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let core = self.core()?;
        let mut last = None;
        for part in Parts::new(&core.config, pairs.into_iter()) {
            last = Some(self.put_all(part?).await?);
        }
        Ok(last)
    }

    fn put_all(&self, puts: Vec<Put>) -> Pending<Ack> {
        let (keys, values): (Vec<_>, Vec<_>) = puts
            .into_iter()
            .map(|(key, value)| ((key, true), value))
            .unzip();
        let first = keys.first().map(|(key, _)| key.clone()).unwrap_or_default();
        self.write_packed(|_| Ok((first, values)), batch_of(keys), acknowledged)
    }

    /// Many acknowledged writes in flight, in order.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self)
    }
}

/// A batch of these keys, those with a value and those that are removed.
fn batch_of(keys: Vec<(Bytes, bool)>) -> impl Fn(&Config, Vec<Bytes>) -> Result<Operation> {
    move |config, stored| {
        let mut stored = stored.into_iter();
        let mut change = |(key, is_put): &(Bytes, bool)| Change {
            key: key.clone(),
            value: is_put.then(|| stored.next()).flatten(),
        };
        config.batch(keys.iter().map(&mut change).collect())
    }
}

pub(super) fn acknowledged(outcome: Outcome, ack: Ack) -> Result<Step<Ack>> {
    match outcome {
        Outcome::Done => Ok(Step::Done(ack)),
        other => Err(unexpected(&other)),
    }
}

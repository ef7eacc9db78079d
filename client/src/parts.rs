//! Many pairs as few transactions: each as large as a transaction may be.

use bytes::Bytes;
use objsync_proto::evaluate::change_bytes;
use objsync_proto::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_EFFECTS_MAX};

use crate::config::Config;
use crate::error::Result;
use crate::large::Packed;

/// A key, and the value that is to be put under it.
pub(crate) type Put = (Bytes, Packed);

/// The puts of one transaction after another; ends after the first error.
pub(crate) struct Parts<'a, I: Iterator> {
    config: &'a Config,
    pairs: I,
    /// The change that did not fit into the part before.
    next: Option<Put>,
}

impl<'a, I: Iterator> Parts<'a, I> {
    pub(crate) fn new(config: &'a Config, pairs: I) -> Self {
        Self {
            config,
            pairs,
            next: None,
        }
    }
}

impl<K, V, I> Iterator for Parts<'_, I>
where
    K: Into<Bytes>,
    V: Into<Bytes>,
    I: Iterator<Item = (K, V)>,
{
    type Item = Result<Vec<Put>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut part: Vec<Put> = self.next.take().into_iter().collect();
        let size = |(key, value): &Put| change_bytes(key, None) + value.bytes();
        let mut bytes: usize = part.iter().map(size).sum();
        while part.len() < TRANSACTION_EFFECTS_MAX {
            let Some((key, value)) = self.pairs.next() else {
                break;
            };
            let put = || {
                Ok((
                    self.config.key(&key.into())?,
                    self.config.pack(&value.into())?,
                ))
            };
            let put = match put() {
                Ok(put) => put,
                Err(error) => return Some(Err(error)),
            };
            bytes += size(&put);
            if bytes > TRANSACTION_BYTES_MAX && !part.is_empty() {
                self.next = Some(put);
                break;
            }
            part.push(put);
        }
        (!part.is_empty()).then_some(Ok(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn split(pairs: impl Iterator<Item = (Bytes, Bytes)>) -> Vec<usize> {
        let config = Config::directory("x".as_ref(), None, Options::default()).unwrap();
        Parts::new(&config, pairs)
            .map(|part| part.unwrap().len())
            .collect()
    }

    fn pair(number: u32, bytes: usize) -> (Bytes, Bytes) {
        let key = objsync_proto::key::encode(&number.into())
            .unwrap()
            .into_bytes();
        (key, Bytes::from(vec![0xc0; bytes]))
    }

    #[test]
    fn pairs_below_the_limit_are_one_part_and_none_are_none() {
        assert_eq!(split((0..1000).map(|number| pair(number, 100))), [1000]);
        assert_eq!(split(std::iter::empty()), [0; 0]);
    }

    #[test]
    fn part_that_would_pass_the_limit_goes_as_several_without_loss() {
        // Seven values of 2 MiB and their keys are below 16 MiB, eight are not.
        assert_eq!(
            split((0..20).map(|number| pair(number, 2 << 20))),
            [7, 7, 6]
        );
    }
}

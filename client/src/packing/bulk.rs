//! A large update trains the first dictionary from its own pairs, before it packs them.
//!
//! In the background it would come too late: most of the pairs would be packed without it. So such a
//! call takes up to a second longer, once for a namespace.

use std::sync::Arc;

use bytes::Bytes;

use super::{Packer, lock, training};
use crate::core::Core;

/// Bytes of pairs that are looked at before the first is written.
const LOOK_BYTES_MAX: usize = 16 << 20;

impl Packer {
    /// The same pairs; the first dictionary has been trained from them if they are enough for one.
    pub(crate) fn teach<K, V>(
        &self,
        core: &Arc<Core>,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> impl Iterator<Item = (Bytes, Bytes)>
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let mut rest = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        let mut looked_at: Vec<(Bytes, Bytes)> = Vec::new();
        if self.trains && self.present().is_none() && lock(&self.samples).trainings() == 0 {
            let mut bytes = 0;
            while bytes < LOOK_BYTES_MAX
                && let Some((key, value)) = rest.next()
            {
                bytes += key.len() + value.len();
                looked_at.push((key, value));
            }
            let begins = {
                let mut samples = lock(&self.samples);
                looked_at.iter().for_each(|(_, value)| samples.show(value));
                samples.begin()
            };
            if begins {
                training::train_now(self, core);
            }
        }
        looked_at.into_iter().chain(rest)
    }
}

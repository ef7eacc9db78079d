//! How long the chains of patches are that the log has of each value, so that none grows without end.
//!
//! Only memory knows it: a chain that is forgotten, or that an earlier owner began, counts from
//! nothing again, and ends at the next snapshot in any case. Bounded memory: what was not patched while
//! very many others were is forgotten.

use std::collections::HashMap;

use bytes::Bytes;
use objsync_proto::effect::{Change, KeyPatch};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::patched::Chain;

/// Keys that are known for sure; as many older ones may be.
const KEYS_KEPT: usize = 4_096;

/// The chains of keys that were patched lately.
#[derive(Default)]
pub(crate) struct Chains {
    newer: HashMap<(NamespaceId, Bytes), Known>,
    /// What was newer until there were too many.
    older: HashMap<(NamespaceId, Bytes), Known>,
}

/// A chain, and the entry with which it ends.
#[derive(Clone, Copy)]
struct Known {
    end: Revision,
    chain: Chain,
}

impl Chains {
    /// The patch by which the log tells a change, if it does: not where the chain up to it would cost
    /// its readers too much. Then it tells the value; the feed tells the part nevertheless, for who
    /// follows that has the value before. To be asked of each patch, in order.
    pub(crate) fn logged<'a>(
        &mut self,
        namespace: NamespaceId,
        patch: Option<&'a KeyPatch>,
        (revision, change): (Revision, &Change),
    ) -> Option<&'a KeyPatch> {
        let (patch, value) = patch.zip(change.value.as_ref())?;
        // A copy: a key can be a piece of a large buffer.
        let key = (namespace, Bytes::copy_from_slice(&patch.key));
        let older = self.older.remove(&key);
        let known = self.newer.remove(&key).or(older);
        // On another entry than the one that it ended with, it begins: that one was put.
        let known = known.filter(|known| known.end == patch.base);
        let mut chain = known.map(|known| known.chain).unwrap_or_default();
        if chain.add(&patch.edit).is_err() || chain.is_long(value) {
            return None;
        }
        let end = revision;
        self.newer.insert(key, Known { end, chain });
        if self.newer.len() > KEYS_KEPT {
            self.older = std::mem::take(&mut self.newer);
        }
        Some(patch)
    }
}

#[cfg(test)]
mod tests {
    use objsync_proto::operation::{Edit, Patch};
    use objsync_proto::stored::{self, Compression};
    use objsync_proto::wire::edit;

    use super::*;

    #[test]
    fn keys_that_are_patched_go_on_being_known_and_memory_is_bounded() {
        let mut chains = Chains::default();
        let value = stored::seal(&vec![0xC0; 7 << 20], Compression::None).unwrap();
        let edit = edit::encode(&Patch::from(Edit::Clear));
        let mut revision = Revision(1);
        let mut patch = |chains: &mut Chains, number: u32, base: Revision| {
            revision = revision.next();
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            let patch = KeyPatch {
                key,
                base,
                edit: edit.clone(),
            };
            let change = Change {
                key: patch.key.clone(),
                value: Some(value.clone()),
            };
            let logged = chains.logged(NamespaceId(1), Some(&patch), (revision, &change));
            (logged.is_none(), revision)
        };
        let (mut base, mut dues) = (Revision(1), 0);
        for number in 0..4 * KEYS_KEPT as u32 {
            if number % 200 == 0 {
                let (due, at) = patch(&mut chains, u32::MAX, base);
                base = at;
                dues += u32::from(due);
            }
            let (due, _) = patch(&mut chains, number, Revision(1));
            assert!(!due, "the first of a chain");
        }
        assert_eq!(dues, 4, "each 17th of 82");
        assert!(chains.newer.len() + chains.older.len() <= 2 * KEYS_KEPT + 1);
    }
}

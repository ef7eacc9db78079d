//! How long a chain of edits of one value has grown, in what it costs to apply.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::PatchedError;
use crate::limits::{
    PATCH_CHAIN_BYTES_MAX, PATCH_CHAIN_COUNT_MAX, PATCH_CHAIN_EDITS_BYTES_MIN,
    PATCH_CHAIN_STEPS_MIN,
};
use crate::operation::{Edit, Step};
use crate::stored::{self, Codec};
use crate::wire::edit;

/// Numbers added are taken for one step below this: no sum of a chain then leaves 64 bits.
const ADDED_MAX: u64 = 1 << 46;

/// The edits of one value since it was told whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain {
    count: u32,
    step_count: u32,
    edit_bytes: u64,
    /// Which part the last of them changed, and how; none if nothing is one step with it.
    last: Option<u64>,
}

impl Chain {
    /// Adds the next edit.
    ///
    /// # Errors
    /// As [`super::apply`], if its bytes are no edit.
    pub fn add(&mut self, edit: &Bytes) -> Result<(), PatchedError> {
        let patch = edit::decode(edit)?;
        let last = run_of(&patch.path, &patch.edit);
        self.count = self.count.saturating_add(1);
        if last.is_none() || last != self.last {
            self.step_count = self.step_count.saturating_add(1);
        }
        self.edit_bytes = self.edit_bytes.saturating_add(edit.len() as u64);
        self.last = last;
        Ok(())
    }

    /// Whether reading a value of this length by the chain costs too much: it has more steps than
    /// `PATCH_CHAIN_BYTES_MAX` allows for its plain length, or its edits are many, or longer
    /// than the value.
    #[must_use]
    pub fn is_long(&self, value: &Bytes) -> bool {
        let plain_bytes = match stored::check(value) {
            Ok(Codec::Zstd { plain_bytes } | Codec::Dictionary { plain_bytes, .. }) => plain_bytes,
            _ => value.len(),
        };
        let steps_max = PATCH_CHAIN_BYTES_MAX / (plain_bytes as u64).max(1);
        let edits_max = PATCH_CHAIN_EDITS_BYTES_MIN.max(value.len() as u64);
        u64::from(self.step_count) > steps_max.max(PATCH_CHAIN_STEPS_MIN.into())
            || self.count > PATCH_CHAIN_COUNT_MAX
            || self.edit_bytes > edits_max
    }
}

/// Equal for edits that are applied as one step; none for one that is a step of its own. That two others
/// meet by chance makes a chain a step longer than it counts.
fn run_of(path: &[Step], edit: &Edit) -> Option<u64> {
    let kind = match edit {
        Edit::Append { .. } => 0,
        Edit::Add { .. } => 1,
        Edit::Discard { .. } => 2,
        Edit::SetField { .. } | Edit::Merge { .. } => 3,
        Edit::AddNumber { by } if by.unsigned_abs() < ADDED_MAX => 4,
        _ => return None,
    };
    let mut hasher = DefaultHasher::new();
    (kind, path.len()).hash(&mut hasher);
    for step in path {
        match step {
            Step::Field { key } => (0, &key[..]).hash(&mut hasher),
            Step::Index { index } => (1, index).hash(&mut hasher),
        }
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Patch;
    use crate::stored::Compression;

    fn text(text: &str) -> Bytes {
        crate::value::to_payload(text).unwrap()
    }

    fn value(bytes: usize) -> Bytes {
        let payload = crate::value::to_payload(&"x".repeat(bytes)).unwrap();
        stored::seal(&payload, Compression::None).unwrap()
    }

    /// How many edits of a value the log has before it has the value again.
    fn length(value: &Bytes, edit_of: impl Fn(u32) -> Edit) -> u32 {
        let mut chain = Chain::default();
        for number in 0.. {
            let patch = Patch::from(edit_of(number));
            chain.add(&edit::encode(&patch)).unwrap();
            if chain.is_long(value) {
                return number;
            }
        }
        unreachable!("every chain ends")
    }

    #[test]
    fn chain_is_as_long_as_applying_it_costs_and_a_run_is_one_step() {
        let clear = |_| Edit::Clear;
        let small = value(8 << 10);
        let allowed = PATCH_CHAIN_BYTES_MAX / small.len() as u64;
        assert_eq!(u64::from(length(&small, clear)), allowed);
        assert_eq!(length(&value(1 << 20), clear), 63, "a little over 1 MiB");
        assert_eq!(length(&value(7 << 20), clear), PATCH_CHAIN_STEPS_MIN);
        let cleared = edit::encode(&Patch::from(Edit::Clear)).len() as u64;
        let allowed = PATCH_CHAIN_EDITS_BYTES_MIN / cleared;
        let allowed = allowed.min(PATCH_CHAIN_COUNT_MAX.into());
        assert_eq!(u64::from(length(&value(10), clear)), allowed);
        let append = |_| Edit::Append {
            items: vec![text("item")],
        };
        let appended = edit::encode(&Patch::from(append(0))).len();
        assert_eq!(
            length(&value(1 << 20), append) as usize,
            (value(1 << 20).len() / appended).min(PATCH_CHAIN_COUNT_MAX as usize),
            "as many bytes as the value, or as many as are allowed"
        );
        let turns = |number| match number % 2 {
            0 => append(0),
            _ => Edit::Add { items: Vec::new() },
        };
        assert_eq!(length(&value(1 << 20), turns), 63);
    }

    #[test]
    fn packed_value_counts_as_long_as_it_is_when_it_is_opened() {
        let payload = crate::value::to_payload(&"x".repeat(1 << 20)).unwrap();
        let packed = stored::seal(&payload, Compression::Zstd(3)).unwrap();
        assert!(packed.len() < 1000);
        assert_eq!(length(&packed, |_| Edit::Clear), 63);
    }
}

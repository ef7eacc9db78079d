//! What can be refused of an operation without looking into the dictionary.

use bytes::Bytes;

use super::invalid;
use crate::dictionary::Dictionary;
use crate::effect::Change;
use crate::error::Failure;
use crate::ids::NamespaceId;
use crate::key;
use crate::limits::{
    LEASED_KEY_BYTES_MAX, PATCH_ITEMS_MAX, PATCH_STEPS_MAX, TRANSACTION_BYTES_MAX,
    TRANSACTION_EFFECTS_MAX, TRANSACTION_FENCES_MAX, TRANSACTION_RANGES_MAX, TRANSACTION_READS_MAX,
    TTL_MS_MAX,
};
use crate::operation::{Edit, Fence, KeyRead, Operation, Patch, Step};
use crate::stored_chunks;
use crate::value;
use crate::wire::KeyRange;

/// Bytes that a change takes beside its key and value, at most, on the wire and in the log.
pub const CHANGE_OVERHEAD_BYTES: usize = 32;

/// Checks what can be checked of an operation without looking into the dictionary: keys, stored
/// values and sizes. [`evaluate`](super::evaluate()) does so first; a client does so to refuse
/// early.
pub fn check(operation: &Operation) -> Result<(), Failure> {
    match operation {
        Operation::Put { key, value } => check_change(key, Some(value)),
        Operation::Delete { key } | Operation::Increment { key, .. } => check_change(key, None),
        // Bounds of a range need not be keys, only comparable with them.
        Operation::DeleteRange { .. } => Ok(()),
        Operation::CompareAndSet { key, new, .. } => check_change(key, new.as_ref()),
        Operation::Batch { changes } => check_batch(changes),
        Operation::Transact {
            reads,
            ranges,
            fences,
            changes,
            ..
        } => check_reads(reads, ranges, fences).and_then(|()| check_batch(changes)),
        Operation::Patch { key, patch } => {
            check_change(key, None).and_then(|()| check_patch(key, patch))
        }
        Operation::PutLeased {
            key,
            value,
            ttl_ms,
            lease,
        } => {
            if ttl_ms.is_none() && lease.is_none() {
                let name = key::describe(key);
                let text =
                    format!("key {name} is to end, and neither a time nor a lease says when");
                return Err(invalid(text));
            }
            check_leased("key", key)?;
            ttl_ms.map_or(Ok(()), check_ttl)?;
            check_change(key, Some(value))
        }
        Operation::GrantLease { ttl_ms, .. } => check_ttl(*ttl_ms),
        Operation::Lock { name, .. } | Operation::Unlock { name, .. } => check_name(name),
        Operation::RevokeLease { .. } | Operation::Settle => Ok(()),
        Operation::AddDictionary { bytes } => Dictionary::new(bytes.clone())
            .map(drop)
            .map_err(|error| invalid(error.to_string())),
    }
}

/// What a change counts towards [`TRANSACTION_BYTES_MAX`].
#[must_use]
pub fn change_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + CHANGE_OVERHEAD_BYTES
}

/// Bytes that the removal of an entry takes in the log beside its key, at most.
const ENDED_OVERHEAD_BYTES: usize = 8;

/// That what ends with the changes of a transaction fits into the log beside them. The caller
/// knows nothing of it, so it takes nothing of the caller's own limit.
pub(super) fn ended_fits(ended: &[(NamespaceId, Change)]) -> Result<(), Failure> {
    let bytes = |(_, change): &(NamespaceId, Change)| change.key.len() + ENDED_OVERHEAD_BYTES;
    let bytes: usize = ended.iter().map(bytes).sum();
    if bytes <= TRANSACTION_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!(
        "times to live and leases that end with a batch are {bytes} bytes; the limit is \
         {TRANSACTION_BYTES_MAX} bytes: write it in smaller ones"
    )))
}

fn check_change(key: &[u8], value: Option<&Bytes>) -> Result<(), Failure> {
    key::check(key).map_err(|error| invalid(error.to_string()))?;
    let Some(value) = value else { return Ok(()) };
    stored_chunks::check(value)
        .map_err(|error| invalid(format!("value of key {}: {error}", key::describe(key))))
}

fn check_batch(changes: &[Change]) -> Result<(), Failure> {
    bounded("batch", "changes", changes.len(), TRANSACTION_EFFECTS_MAX)?;
    let bytes: usize = changes
        .iter()
        .map(|change| change_bytes(&change.key, change.value.as_deref()))
        .sum();
    if bytes > TRANSACTION_BYTES_MAX {
        return Err(invalid(format!(
            "batch is {bytes} bytes; the limit of a transaction is {TRANSACTION_BYTES_MAX} bytes"
        )));
    }
    changes
        .iter()
        .try_for_each(|change| check_change(&change.key, change.value.as_ref()))
}

fn check_reads(reads: &[KeyRead], ranges: &[KeyRange], fences: &[Fence]) -> Result<(), Failure> {
    let what = "transaction";
    bounded(what, "keys read", reads.len(), TRANSACTION_READS_MAX)?;
    bounded(what, "ranges read", ranges.len(), TRANSACTION_RANGES_MAX)?;
    bounded(what, "locks", fences.len(), TRANSACTION_FENCES_MAX)?;
    reads
        .iter()
        .try_for_each(|read| check_change(&read.key, None))?;
    fences.iter().try_for_each(|fence| check_name(&fence.name))
}

fn check_patch(key: &[u8], patch: &Patch) -> Result<(), Failure> {
    bounded("patch", "steps", patch.path.len(), PATCH_STEPS_MAX)?;
    if patch.needs_revision() && patch.revision.is_none() {
        let name = key::describe(key);
        return Err(invalid(format!(
            "patch of key {name} names an index or an order, and no revision that it is meant for"
        )));
    }
    for step in &patch.path {
        if let Step::Field { key: field } = step {
            check_field(key, field)?;
        }
    }
    let depth = patch.path.len();
    match &patch.edit {
        Edit::Append { items } | Edit::Splice { items, .. } => {
            bounded("patch", "items", items.len(), PATCH_ITEMS_MAX)?;
            items
                .iter()
                .try_for_each(|item| check_item(key, item, depth + 1))
        }
        Edit::Add { items } | Edit::Discard { items } => {
            bounded("patch", "items", items.len(), PATCH_ITEMS_MAX)?;
            items
                .iter()
                .try_for_each(|item| check_member(key, item, depth + 1))
        }
        Edit::SetField { field, value } => {
            check_field(key, field)?;
            check_item(key, value, depth + 1)
        }
        Edit::Merge { fields } => {
            bounded("patch", "items", fields.len(), PATCH_ITEMS_MAX)?;
            fields.iter().try_for_each(|(field, value)| {
                check_field(key, field)?;
                check_item(key, value, depth + 1)
            })
        }
        Edit::DeleteField { field } => check_field(key, field),
        Edit::Remove { item } => check_item(key, item, depth + 1),
        Edit::Replace { value } => check_item(key, value, depth),
        Edit::AddNumber { .. } | Edit::Clear => Ok(()),
    }
}

fn check_item(key: &[u8], item: &[u8], depth: usize) -> Result<(), Failure> {
    value::check_element(item, depth)
        .map_err(|error| invalid(format!("item for key {}: {error}", key::describe(key))))
}

/// An item of a set.
fn check_member(key: &[u8], item: &[u8], depth: usize) -> Result<(), Failure> {
    check_item(key, item, depth)?;
    if value::elements::is_hashable(item) {
        return Ok(());
    }
    let (name, of) = (key::describe(key), value::type_name(item));
    Err(invalid(format!(
        "item for key {name} is a {of}, which no set holds"
    )))
}

/// A key of a dict.
fn check_field(key: &[u8], field: &[u8]) -> Result<(), Failure> {
    check_item(key, field, 1)?;
    if value::elements::is_hashable(field) {
        return Ok(());
    }
    let (name, of) = (key::describe(key), value::type_name(field));
    Err(invalid(format!(
        "field for key {name} is a {of}, which no dict has as a key"
    )))
}

fn check_name(name: &[u8]) -> Result<(), Failure> {
    check_leased("lock", name)?;
    check_change(name, None)
}

/// That there is room to write something about a key.
fn check_leased(what: &str, key: &[u8]) -> Result<(), Failure> {
    if key.len() <= LEASED_KEY_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!(
        "{what} is {} bytes when encoded; the limit with a time to live or a lease is \
         {LEASED_KEY_BYTES_MAX} bytes",
        key.len()
    )))
}

fn check_ttl(ttl_ms: u64) -> Result<(), Failure> {
    if (1..=TTL_MS_MAX).contains(&ttl_ms) {
        return Ok(());
    }
    Err(invalid(format!(
        "time to live is {ttl_ms} ms; the limits are 1 and {TTL_MS_MAX} ms"
    )))
}

fn bounded(whole: &str, parts: &str, count: usize, count_max: usize) -> Result<(), Failure> {
    if count <= count_max {
        return Ok(());
    }
    Err(invalid(format!(
        "{whole} has {count} {parts}; the limit is {count_max} {parts}"
    )))
}

//! Locks: fences strictly grow, two never hold one at once, and an old fence writes nothing.
//!
//! A hold ends when its process gives it back, when it knows by its own clock that its lease may
//! have run out, or when the process is killed; who records says so.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Hold};
use super::{Verdict, fault};

/// Checks the holds of each lock, and the writes that demanded a fence.
///
/// # Errors
/// "fences grow", "one holder", or "fenced writes".
pub fn check(history: &History) -> Verdict {
    let mut locks: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in &history.holds {
        locks.entry(&hold.lock).or_default().push(hold);
    }
    for (lock, holds) in &mut locks {
        holds.sort_by_key(|hold| hold.from_ns);
        for two in holds.windows(2) {
            check_two(lock, two[0], two[1])?;
        }
    }
    for write in &history.fenced {
        let Some(revision) = write.revision else {
            continue;
        };
        let holds = locks.get(write.lock.as_str());
        let fences: BTreeSet<u64> = holds.into_iter().flatten().map(|it| it.fence).collect();
        let newer = fences.range(write.fence + 1..).next();
        if let Some(newer) = newer.filter(|newer| **newer < revision) {
            let what = format!("{}: {revision} came with fence {}", write.lock, write.fence);
            return fault("fenced writes", format!("{what}, after {newer} was given"));
        }
    }
    Ok(())
}

fn check_two(lock: &str, first: &Hold, second: &Hold) -> Verdict {
    if second.fence <= first.fence {
        let what = format!("{lock}: {} after {}", second.fence, first.fence);
        return fault("fences grow", what);
    }
    if first.until_ns.is_none_or(|until| until > second.from_ns) {
        let what = format!("{lock}: {second:?} while {first:?}");
        return fault("one holder", what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::rejected;
    use super::*;

    #[test]
    fn fence_that_does_not_grow_is_rejected() {
        rejected("fences grow", |it| it.holds[1].fence = 3, check);
    }

    #[test]
    fn two_holders_at_once_are_rejected() {
        rejected("one holder", |it| it.holds[0].until_ns = Some(120), check);
        rejected("one holder", |it| it.holds[0].until_ns = None, check);
    }

    #[test]
    fn write_with_an_old_fence_that_is_done_is_rejected() {
        rejected("fenced writes", |it| it.fenced[0].revision = Some(8), check);
    }
}

//! Replicas when nothing happens any more: all equal, and equal to what the order gives.

use super::history::{History, State};
use super::{Verdict, fault, model};

/// Compares every replica with the transactions applied in their order.
///
/// # Errors
/// The first key in which one differs.
pub fn check(history: &History) -> Verdict {
    let mut commits: Vec<_> = history.commits.iter().collect();
    commits.sort_by_key(|commit| commit.revision);
    let mut expected = State::new();
    for commit in commits {
        model::apply(&mut expected, &commit.changes);
    }
    for replica in &history.replicas {
        let mut keys = expected.keys().chain(replica.content.keys());
        let differs = keys.find(|key| expected.get(*key) != replica.content.get(*key));
        if let Some(key) = differs {
            let (held, wanted) = (replica.content.get(key), expected.get(key));
            let what = format!("{} holds {key} = {held:?}, not {wanted:?}", replica.name);
            return fault("replicas equal", what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::rejected;
    use super::*;

    #[test]
    fn replica_that_misses_keeps_or_changes_a_key_is_rejected() {
        let spoil: [fn(&mut State); 3] = [
            |content| _ = content.remove("a"),
            |content| _ = content.insert("b".into(), 21),
            |content| _ = content.insert("a".into(), 11),
        ];
        for spoil in spoil {
            let spoil = |history: &mut History| spoil(&mut history.replicas[1].content);
            rejected("two holds", spoil, check);
        }
    }
}

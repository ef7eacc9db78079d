//! The guarantees of a watch, one by one: ordered, unique, reliable, atomic, resumable, bookmarkable.
//!
//! What a watch tells is compared with the transactions of the history, as far as they lie in its
//! range. [`Seen::Resumed`] begins a new part, which must go on where it was asked to.

use std::collections::{BTreeMap, HashSet};

use super::history::{Changes, History, Seen, Stream};
use super::{Verdict, fault};

/// Checks each guarantee for each watch.
///
/// # Errors
/// The first that is broken.
pub fn check(history: &History) -> Verdict {
    for stream in &history.streams {
        let view = View::new(history, stream);
        check_ordered(&view)?;
        check_unique(&view)?;
        check_atomic(&view)?;
        check_reliable(&view)?;
        check_bookmarkable(&view)?;
        check_resumable(&view)?;
    }
    Ok(())
}

/// A watch, and what it should have told.
#[derive(Debug)]
pub struct View<'a> {
    stream: &'a Stream,
    /// Each part: after which revision it was asked to begin, and what it told.
    parts: Vec<(u64, &'a [Seen])>,
    /// Transactions by revision, as far as they lie in the range.
    expected: BTreeMap<u64, Changes>,
    newest: u64,
}

impl<'a> View<'a> {
    /// A watch of a history.
    #[must_use]
    pub fn new(history: &History, stream: &'a Stream) -> Self {
        let mut parts = Vec::new();
        let mut since = stream.since;
        let mut rest = &stream.seen[..];
        loop {
            let end = rest
                .iter()
                .position(|seen| matches!(seen, Seen::Resumed { .. }));
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push((since, part));
            let Some((Seen::Resumed { since: next }, after)) = after.split_first() else {
                break;
            };
            (since, rest) = (*next, after);
        }
        let mut expected = BTreeMap::new();
        for commit in &history.commits {
            let mut changes = commit.changes.clone();
            changes.retain(|key, _| stream.range.contains(key));
            if !changes.is_empty() {
                expected.insert(commit.revision, changes);
            }
        }
        let newest = history.commits.iter().map(|commit| commit.revision).max();
        Self {
            stream,
            parts,
            expected,
            newest: newest.unwrap_or(0),
        }
    }

    fn fault(&self, guarantee: &'static str, what: &str) -> Verdict {
        fault(guarantee, format!("watch {}: {what}", self.stream.stream))
    }
}

/// Events come in the order of their revisions.
///
/// # Errors
/// When one comes after one of a later revision.
pub fn check_ordered(view: &View<'_>) -> Verdict {
    for (since, part) in &view.parts {
        let mut last = *since;
        for seen in *part {
            if let Seen::Event { revision, key, .. } = seen {
                if *revision < last {
                    let what = format!("{revision} {key} came after {last}");
                    return view.fault("ordered", &what);
                }
                last = *revision;
            }
        }
    }
    Ok(())
}

/// No event comes twice.
///
/// # Errors
/// When one does within one part.
pub fn check_unique(view: &View<'_>) -> Verdict {
    for (_, part) in &view.parts {
        let mut told = HashSet::new();
        for seen in *part {
            if let Seen::Event { revision, key, .. } = seen
                && !told.insert((revision, key))
            {
                return view.fault("unique", &format!("{revision} {key} came twice"));
            }
        }
    }
    Ok(())
}

/// A transaction comes whole: its events side by side, all of them before anything else.
///
/// # Errors
/// When something comes between them, or one is missing. The last one of a part may be cut.
pub fn check_atomic(view: &View<'_>) -> Verdict {
    for (_, part) in &view.parts {
        let mut open: Option<(u64, Changes)> = None;
        let mut finished = HashSet::new();
        for seen in *part {
            let revision = match seen {
                Seen::Event { revision, .. } => Some(*revision),
                _ => None,
            };
            if open.as_ref().map(|(revision, _)| *revision) != revision
                && let Some((before, told)) = open.take()
            {
                let whole = view.expected.get(&before).map_or(0, Changes::len);
                if told.len() < whole || !finished.insert(before) {
                    let what = format!("{before} came in pieces: {told:?}, then {seen:?}");
                    return view.fault("atomic", &what);
                }
            }
            if let Seen::Event {
                revision,
                key,
                value,
            } = seen
            {
                let (_, told) = open.get_or_insert_with(|| (*revision, Changes::new()));
                told.insert(key.clone(), *value);
            }
        }
    }
    Ok(())
}

/// Nothing is missing that is not told to be, nothing is wrong, and nothing is made up.
///
/// # Errors
/// When an event differs from the transaction, or one up to the last that was told was left out.
pub fn check_reliable(view: &View<'_>) -> Verdict {
    for (since, part) in &view.parts {
        // Up to here all was told, or told to be missing.
        let mut reached = *since;
        let mut told = HashSet::new();
        for seen in *part {
            let (first, last) = match seen {
                Seen::Event {
                    revision,
                    key,
                    value,
                } => {
                    let known = view.expected.get(revision);
                    if known.and_then(|changes| changes.get(key)) != Some(value) {
                        let what = format!("{revision} {key} = {value:?} was not so");
                        return view.fault("reliable", &what);
                    }
                    told.insert(*revision);
                    (reached, revision.saturating_sub(1).max(reached))
                }
                Seen::Bookmark { revision } => (reached, (*revision).max(reached)),
                Seen::Gap { after, until } => {
                    let (after, until) = (*after, (*until).max(reached));
                    missing(view, &told, reached, after)?;
                    (until, until)
                }
                Seen::Settled => (reached, view.newest.max(reached)),
                Seen::Resumed { .. } => continue,
            };
            missing(view, &told, first, last)?;
            reached = last;
        }
    }
    Ok(())
}

/// Whether all after one revision and up to another was told.
fn missing(view: &View<'_>, told: &HashSet<u64>, after: u64, until: u64) -> Verdict {
    if after >= until {
        return Ok(());
    }
    let mut between = view.expected.range(after + 1..=until);
    match between.find(|(revision, _)| !told.contains(revision)) {
        Some((revision, changes)) => {
            let what = format!("{revision} {changes:?} was left out before {until}");
            view.fault("reliable", &what)
        }
        None => Ok(()),
    }
}

/// What a bookmark promises: all up to it came before it, and nothing of that comes after it.
///
/// # Errors
/// When an event of a revision up to it comes later.
pub fn check_bookmarkable(view: &View<'_>) -> Verdict {
    for (_, part) in &view.parts {
        let mut mark = None;
        for seen in *part {
            match seen {
                Seen::Bookmark { revision } if mark.is_some_and(|mark| mark > *revision) => {
                    let what = format!("bookmark {revision} came after {mark:?}");
                    return view.fault("bookmarkable", &what);
                }
                Seen::Bookmark { revision } => mark = Some(*revision),
                Seen::Event { revision, key, .. } if mark.is_some_and(|mark| mark >= *revision) => {
                    let what = format!("{revision} {key} came after bookmark {mark:?}");
                    return view.fault("bookmarkable", &what);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A part that was asked to begin after a revision begins right after it.
///
/// # Errors
/// When it repeats something, or leaves out the next without telling.
pub fn check_resumable(view: &View<'_>) -> Verdict {
    for (since, part) in &view.parts {
        let mut from = *since;
        let next = part.iter().find_map(|seen| match seen {
            Seen::Gap { until, .. } => {
                from = from.max(*until);
                None
            }
            Seen::Event { revision, .. } => Some(*revision),
            _ => None,
        });
        let Some(next) = next else { continue };
        if next <= *since {
            let what = format!("{next} came again after it was resumed at {since}");
            return view.fault("resumable", &what);
        }
        let expected = view.expected.range(from + 1..).next();
        if expected.is_some_and(|(revision, _)| *revision < next) {
            let what = format!("resumed at {since} it went on with {next}, not {expected:?}");
            return view.fault("resumable", &what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, rejected};
    use super::*;

    fn by(judge: fn(&View<'_>) -> Verdict) -> impl Fn(&History) -> Verdict {
        move |history| {
            let mut streams = history.streams.iter();
            streams.try_for_each(|stream| judge(&View::new(history, stream)))
        }
    }

    fn seen(history: &mut History) -> &mut Vec<Seen> {
        &mut history.streams[0].seen
    }

    #[test]
    fn watch_that_tells_all_is_accepted() {
        check(&samples::good()).unwrap();
    }

    #[test]
    fn event_after_a_later_one_is_rejected() {
        rejected("ordered", |it| seen(it).swap(5, 6), by(check_ordered));
    }

    #[test]
    fn event_that_comes_twice_is_rejected() {
        let again = |it: &mut History| {
            let event = seen(it)[5].clone();
            seen(it).insert(6, event);
        };
        rejected("unique", again, by(check_unique));
    }

    #[test]
    fn event_that_is_left_out_wrong_or_made_up_is_rejected() {
        let spoil: [fn(&mut History); 5] = [
            |it| _ = seen(it).remove(5),
            |it| _ = seen(it).remove(4),
            |it| {
                seen(it)[5] = Seen::Event {
                    revision: 5,
                    key: "b".into(),
                    value: Some(22),
                };
            },
            |it| {
                seen(it)[5] = Seen::Event {
                    revision: 6,
                    key: "b".into(),
                    value: Some(21),
                };
            },
            // A watch that stops without a word.
            |it| {
                seen(it).drain(6..9);
            },
        ];
        for spoil in spoil {
            rejected("reliable", spoil, by(check_reliable));
        }
    }

    #[test]
    fn gap_that_begins_too_late_or_ends_too_early_is_rejected() {
        let late = |it: &mut History| seen(it)[4] = Seen::Gap { after: 3, until: 3 };
        rejected("reliable", late, by(check_reliable));
        let early = |it: &mut History| seen(it)[4] = Seen::Gap { after: 2, until: 2 };
        rejected("reliable", early, by(check_reliable));
    }

    #[test]
    fn transaction_in_pieces_is_rejected() {
        let between = |it: &mut History| seen(it).swap(5, 6);
        rejected("atomic", between, by(check_atomic));
        let half = |it: &mut History| _ = seen(it).remove(7);
        rejected("atomic", half, by(check_atomic));
    }

    #[test]
    fn event_after_the_bookmark_that_covers_it_is_rejected() {
        let spoil = |it: &mut History| seen(it).insert(6, Seen::Bookmark { revision: 7 });
        rejected("bookmarkable", spoil, by(check_bookmarkable));
        // A bookmark that runs ahead of what was told.
        rejected("reliable", spoil, by(check_reliable));
    }

    #[test]
    fn watch_that_repeats_or_leaves_out_when_it_is_resumed_is_rejected() {
        let repeat = |it: &mut History| seen(it)[3] = Seen::Resumed { since: 5 };
        rejected("resumable", repeat, by(check_resumable));
        let skip = |it: &mut History| _ = seen(it).remove(4);
        rejected("resumable", skip, by(check_resumable));
    }
}

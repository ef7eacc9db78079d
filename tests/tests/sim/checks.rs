//! Judges a history: nothing acknowledged is lost, each call is done at most once and as its caller
//! was told, in an order that fits what everybody saw; watches tell everything once, whole, in order.
//!
//! The owners' log is the one order. That it explains every answer is linearizability: each call
//! has one place in it, results follow from the calls before, and no call stands before one that
//! had been answered when it began.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use objsync_proto::ids::{Revision, SessionId};

use crate::history::{Call, History, Logged, Read, Returned, Watched, apply, effect};
use crate::work::{Seen, State};

/// One change that a watch was told: when, of which key, and what it is since.
type Told = (Revision, Bytes, Option<i64>);

/// What a run may have lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    /// The end of what was not synced, with a power cut.
    Unsynced,
}

/// Judges everything; gives the state at the end.
pub fn check(history: &History, loss: Loss) -> State {
    let explained = explain(history);
    check_answers(history, &explained.places, loss);
    check_order(history, &explained.places);
    check_sessions(history, &explained.places);
    if loss == Loss::Nothing {
        assert!(history.lost.is_empty(), "lost: {:?}", history.lost);
        check_reads(history, &explained);
    }
    history
        .watches
        .iter()
        .for_each(|watched| check_watch(history, watched, loss));
    explained.state
}

/// Which call each transaction came from, and what every key was when.
struct Explained {
    /// Whose session each is, as far as answers tell.
    handles: BTreeMap<SessionId, usize>,
    /// Places in the log, by call.
    places: BTreeMap<usize, usize>,
    state: State,
    /// The values of each key, with the revision that brought them.
    values: BTreeMap<Bytes, Vec<(Revision, Option<i64>)>>,
}

fn explain(history: &History) -> Explained {
    let answered: BTreeMap<Revision, usize> = (history.calls.iter().enumerate())
        .filter_map(|(place, call)| match call.result {
            Returned::Answered(_, Some(revision)) => Some((revision, place)),
            _ => None,
        })
        .collect();
    let of_session = |logged: &Logged| {
        let call = answered.get(&logged.revision)?;
        let session = logged.origin?.session;
        Some((session, history.calls[*call].handle))
    };
    let mut explained = Explained {
        handles: history.log.iter().filter_map(of_session).collect(),
        places: BTreeMap::new(),
        state: State::new(),
        values: BTreeMap::new(),
    };
    let nexts = next_answered(history, &answered);
    let mut lasts: BTreeMap<SessionId, usize> = BTreeMap::new();
    for (at, logged) in history.log.iter().enumerate() {
        let session = logged.origin.map(|origin| origin.session);
        let call = match answered.get(&logged.revision) {
            Some(call) => {
                lasts.extend(session.map(|session| (session, *call)));
                *call
            }
            // Whose it was nobody can tell, nor does it matter; sessions ask for such too, to settle
            // what came of a write.
            None if effect(&explained.state, &logged.changes).is_empty() => continue,
            None => {
                let last = session.and_then(|session| lasts.get(&session)).copied();
                find_call(history, &explained, logged, (last, nexts[at]))
            }
        };
        let asked = &history.calls[call];
        let (seen, expected) = asked.work.apply(asked.number, &explained.state);
        assert_eq!(
            effect(&explained.state, &logged.changes),
            effect(&explained.state, &expected),
            "{asked:?} did {logged:?}"
        );
        if let Returned::Answered(told, _) = asked.result {
            assert_eq!(told, seen, "{asked:?} came to {logged:?}");
        }
        // A removal bears no number: which of several without an answer it was is a guess.
        let is_guess = logged.changes.iter().all(|(_, value)| value.is_none());
        if !is_guess || asked.result != Returned::Unknown {
            let again = explained.places.insert(call, at);
            assert!(again.is_none(), "{asked:?} was done twice: {logged:?}");
        }
        for (key, value) in &logged.changes {
            let values = explained.values.entry(key.clone()).or_default();
            values.push((logged.revision, *value));
        }
        apply(&mut explained.state, &logged.changes);
    }
    explained
}

/// For each transaction the call that an answer names next in the same session: writes of a session
/// are decided in the order in which they were asked for.
fn next_answered(history: &History, answered: &BTreeMap<Revision, usize>) -> Vec<Option<usize>> {
    let mut next: BTreeMap<SessionId, usize> = BTreeMap::new();
    let backwards = history.log.iter().rev().map(|logged| {
        let session = logged.origin?.session;
        let after = next.get(&session).copied();
        next.extend(answered.get(&logged.revision).map(|call| (session, *call)));
        after
    });
    let mut nexts: Vec<_> = backwards.collect();
    nexts.reverse();
    nexts
}

/// The call behind a transaction that no answer names: one whose caller was told nothing, or no
/// revision, that was under way just then, in the order of its session, and that would have done this. Of several it is one
/// of the handle whose session it is, or else of one whose session nobody knows.
fn find_call(
    history: &History,
    explained: &Explained,
    logged: &Logged,
    (last, next): (Option<usize>, Option<usize>),
) -> usize {
    let state = &explained.state;
    let did = effect(state, &logged.changes);
    let (after, before) = logged.moments;
    let owner = (logged.origin).and_then(|origin| explained.handles.get(&origin.session));
    let is_it = |(place, call): &(usize, &Call)| {
        let (seen, changes) = call.work.apply(call.number, state);
        let fits = match call.result {
            Returned::Unknown => true,
            Returned::NotDone => false,
            Returned::Answered(told, revision) => {
                let is_over = call.returned.is_some_and(|returned| returned < after);
                revision.is_none() && told == seen && !is_over
            }
        };
        let is_own = owner.is_none_or(|owner| call.handle == *owner);
        let is_between =
            last.is_none_or(|last| last < *place) && next.is_none_or(|next| *place < next);
        fits && is_own
            && is_between
            && call.invoked <= before
            && !explained.places.contains_key(place)
            && effect(state, &changes) == did
    };
    let is_known = |call: &Call| explained.handles.values().any(|one| *one == call.handle);
    let found = history.calls.iter().enumerate().filter(is_it);
    match found.min_by_key(|(_, call)| owner.is_none() && is_known(call)) {
        Some((place, _)) => place,
        None => {
            let could = |(_, call): &(usize, &Call)| {
                effect(state, &call.work.apply(call.number, state).1) == did
            };
            let done = |(place, call)| (explained.places.get(&place), place, call);
            let all = history.calls.iter().enumerate();
            let similar: Vec<_> = all.filter(could).map(done).collect();
            panic!(
                "nobody asked for {logged:?} of handle {owner:?} between {last:?} and {next:?}, or it \
                 was done again; what does the same, with its place in the log: {similar:?}"
            )
        }
    }
}

/// What was answered is in the log, under the revision that was told.
fn check_answers(history: &History, places: &BTreeMap<usize, usize>, loss: Loss) {
    for (place, call) in history.calls.iter().enumerate() {
        let Returned::Answered(seen, revision) = call.result else {
            continue;
        };
        let may_be_lost = loss == Loss::Unsynced && !call.is_synced;
        let is_there = match revision {
            Some(revision) => {
                let at = places.get(&place);
                at.is_some_and(|at| history.log[*at].revision == revision)
            }
            // A refusal, or what changed nothing and can never be repeated, need not be there.
            None => places.contains_key(&place) || seen != Seen::Flag(true),
        };
        assert!(is_there || may_be_lost, "{call:?} is not in the log");
    }
}

/// A call that began after another had been answered comes after it.
fn check_order(history: &History, places: &BTreeMap<usize, usize>) {
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let mut starts: Vec<(u64, usize, usize)> = Vec::new();
    for (place, call) in history.calls.iter().enumerate() {
        // Without a revision, which of several transactions was this call's is a guess.
        let Returned::Answered(_, Some(_)) = call.result else {
            continue;
        };
        let (Some(at), Some(returned)) = (places.get(&place), call.returned) else {
            continue;
        };
        starts.push((call.invoked, *at, place));
        ends.push((returned, *at));
    }
    ends.sort_unstable();
    starts.sort_unstable();
    let mut ended = ends.into_iter().peekable();
    let mut last = None;
    for (invoked, at, place) in starts {
        while let Some((_, end)) = ended.next_if(|(returned, _)| *returned < invoked) {
            last = last.max(Some(end));
        }
        assert!(
            last.is_none_or(|last| last < at),
            "{:?} is {:?}, and began after {:?} had been answered",
            history.calls[place],
            history.log[at],
            last.map(|last| &history.log[last])
        );
    }
}

/// No session's write is done twice, and none before an earlier one.
fn check_sessions(history: &History, places: &BTreeMap<usize, usize>) {
    let mut last_of_session = BTreeMap::new();
    for logged in &history.log {
        let Some(origin) = logged.origin else {
            continue;
        };
        let last = last_of_session.insert(origin.session, origin.sequence);
        assert!(
            last.is_none_or(|last| last < origin.sequence),
            "{logged:?} comes after {last:?}"
        );
    }
    let mut last_of_handle: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, call) in history.calls.iter().enumerate() {
        let (Some(at), Returned::Answered(_, Some(_))) = (places.get(&place), call.result) else {
            continue;
        };
        let last = last_of_handle.insert(call.handle, *at);
        assert!(last.is_none_or(|last| last < *at), "{call:?} is too early");
    }
}

/// Each read is true of a moment at or after everything that its handle knew, or that anybody was
/// told before its barrier; moments of one handle never go back.
fn check_reads(history: &History, explained: &Explained) {
    let mut floors: BTreeMap<(usize, Option<&Bytes>), Revision> = BTreeMap::new();
    for read in &history.reads {
        let known = |call: &Call| match (call.returned, call.result) {
            (Some(returned), Returned::Answered(_, Some(revision))) => {
                let own = call.handle == read.handle && returned < read.invoked;
                let before = read.barrier.is_some_and(|barrier| returned < barrier);
                (own || before).then_some(revision)
            }
            _ => None,
        };
        let told = history.calls.iter().filter_map(known).max();
        let floor = floors
            .entry((read.handle, read.is_partial.then_some(&read.key)))
            .or_default();
        *floor = (*floor).max(told.unwrap_or_default());
        *floor = moment_of(read, *floor, explained);
    }
}

/// The first moment from `floor` on of which a read is true.
fn moment_of(read: &Read, floor: Revision, explained: &Explained) -> Revision {
    let none = Vec::new();
    let values = explained.values.get(&read.key).unwrap_or(&none);
    let start = [(Revision(0), None)];
    let all: Vec<_> = start.iter().chain(values).collect();
    for (place, (from, value)) in all.iter().enumerate() {
        let until = all.get(place + 1).map(|(next, _)| *next);
        if *value == read.found && until.is_none_or(|until| until > floor) {
            return floor.max(*from);
        }
    }
    panic!("{read:?} is true of no moment from {floor:?} on; it was {all:?}");
}

/// Everything from its beginning on, once, in order, each transaction whole, nothing else; and where
/// something is missing, what exactly, and what it came to.
fn check_watch(history: &History, watched: &Watched, loss: Loss) {
    if watched.events.is_empty() {
        assert!(!watched.is_whole, "{watched:?} saw not even the mark");
    }
    let mut begin = match watched.since {
        Some(since) => since,
        None => beginning(history, watched),
    };
    // What was taken back was told before the gap that says so.
    let is_rolled_back = loss == Loss::Unsynced && !history.lost.is_empty();
    let mut rest = &watched.events[..];
    let mut told = 0;
    for (place, gap) in &watched.gaps {
        let (before, behind) = rest.split_at(place - told);
        (rest, told) = (behind, *place);
        assert!(
            !before.iter().any(|(revision, ..)| *revision > gap.after),
            "{watched:?}"
        );
        if !is_rolled_back {
            assert!(gap.same_history, "nothing was lost: {gap:?}");
            assert!(
                begin <= gap.after && gap.after <= gap.oldest,
                "{gap:?} behind {begin:?}"
            );
            check_step(history, watched, before, (begin, Some(gap.after)));
        }
        begin = gap.oldest;
    }
    assert!(
        rest.iter().is_sorted_by_key(|(revision, ..)| *revision),
        "{watched:?}"
    );
    // One that was cut off may not have been told yet of what was taken back.
    if !is_rolled_back || watched.is_whole {
        check_step(history, watched, rest, (begin, None));
    }
}

/// What a watch was told from one place on, up to another, or to where it was cut off: how the state
/// there differs from the one before, where changes are missing, and then each transaction.
fn check_step(
    history: &History,
    watched: &Watched,
    told: &[Told],
    (begin, end): (Revision, Option<Revision>),
) {
    let is_step = |told: &&Told| told.0 <= begin;
    let (step, told) = told.split_at(told.iter().take_while(is_step).count());
    let is_behind_gap = watched.gaps.iter().any(|(_, gap)| gap.oldest == begin);
    assert!(
        step.is_empty() || is_behind_gap,
        "too early: {step:?} since {begin:?}"
    );
    let state = state_at(history, begin);
    let mut keys = BTreeSet::new();
    for (revision, key, value) in step {
        assert_eq!(*revision, begin, "{key:?} of the state behind a gap");
        assert!(keys.insert(key), "{key:?} is told twice: {step:?}");
        assert_eq!(state.get(key), value.as_ref(), "{key:?} is so at {begin:?}");
    }
    if !step.is_empty() && history.lost.is_empty() {
        let gap = watched.gaps.iter().find(|(_, gap)| gap.oldest == begin);
        let before = gap
            .map(|(_, gap)| state_at(history, gap.after))
            .unwrap_or_default();
        for key in before.keys().chain(state.keys()) {
            let is_due = watched.range.contains(key) && before.get(key) != state.get(key);
            assert!(
                !is_due || keys.contains(key),
                "{key:?} is not told: {step:?}"
            );
        }
    }
    let is_removal = |told: &Told| told.2.is_none();
    assert!(
        step.is_sorted_by_key(is_removal),
        "removals are last: {step:?}"
    );
    let last = end.or(told.last().map(|last| last.0)).unwrap_or(begin);
    let expected = expected(history, watched, (begin, last));
    // One that was cut off may have been told a part of its last transaction only.
    let count = match watched.is_whole || end.is_some() {
        true => expected.len(),
        false => told.len().min(expected.len()),
    };
    assert_eq!(
        told,
        &expected[..count],
        "since {begin:?} by handle {}, with gaps {:?}",
        watched.handle,
        watched.gaps
    );
}

/// How everything was at a revision.
fn state_at(history: &History, revision: Revision) -> State {
    let mut state = State::new();
    for logged in &history.log {
        if logged.revision <= revision {
            apply(&mut state, &logged.changes);
        }
    }
    state
}

/// What a watch is to be told of the transactions between two revisions.
fn expected(
    history: &History,
    watched: &Watched,
    (begin, last): (Revision, Revision),
) -> Vec<Told> {
    (history.log.iter())
        .filter(|logged| logged.revision > begin && logged.revision <= last)
        .flat_map(|logged| {
            let changes = logged.changes.iter();
            changes.map(|(key, value)| (logged.revision, key.clone(), *value))
        })
        .filter(|(_, key, _)| watched.range.contains(key))
        .collect()
}

/// Where everything is kept, no watch ends before it is closed, nor misses anything.
pub fn check_watches_go_on(history: &History) {
    for watched in &history.watches {
        assert_eq!(watched.failed, None, "{watched:?}");
        assert!(watched.gaps.is_empty(), "{watched:?}");
    }
}

/// The revision after which a watch without one began: before its first event, and not after
/// anything that began after it was there.
fn beginning(history: &History, watched: &Watched) -> Revision {
    let first = watched.events.first().map_or(Revision(0), |first| first.0);
    let begun_later = |call: &&Call| call.invoked > watched.begun;
    let answered = |call: &Call| match call.result {
        Returned::Answered(_, revision) => revision,
        _ => None,
    };
    let later = history
        .calls
        .iter()
        .filter(begun_later)
        .filter_map(answered);
    let start = later.min().map_or(first, |later| first.min(later));
    Revision(start.0.saturating_sub(1))
}

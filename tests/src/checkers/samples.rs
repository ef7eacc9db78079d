//! A history without a fault, for the tests of the checkers to spoil.

use super::Verdict;
use super::history::{
    Call, Changes, Commit, Fenced, History, Hold, Op, Outcome, Range, Replica, Seen, State, Stream,
};

struct Maker {
    history: History,
    now_ns: u64,
}

impl Maker {
    fn call(&mut self, process: u64, op: Op, outcome: Outcome, revision: Option<u64>) {
        let earlier = self.history.calls.iter();
        let number = 1 + earlier.filter(|call| call.process == process).count() as u64;
        let is_open = outcome == Outcome::Unknown;
        self.history.calls.push(Call {
            process,
            number,
            op,
            invoke_ns: self.now_ns,
            return_ns: (!is_open).then_some(self.now_ns + 5),
            outcome,
            revision: revision.filter(|_| !is_open),
        });
        self.now_ns += 10;
    }

    fn commit(&mut self, revision: u64, changes: &[(&str, Option<i64>)]) {
        self.history.commits.push(Commit {
            revision,
            changes: changes_of(changes),
            call: None,
        });
    }
}

fn changes_of(changes: &[(&str, Option<i64>)]) -> Changes {
    changes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), *value))
        .collect()
}

/// Two processes, one after the other at each call: puts, a counter, a swap, transactions, reads,
/// and a put that is never answered but done, at revision 9.
pub(crate) fn good() -> History {
    let mut maker = Maker {
        history: History::default(),
        now_ns: 100,
    };
    let put = |key: &str, value| Op::Put {
        key: key.into(),
        value,
    };
    let get = |key: &str, fresh| Op::Get {
        key: key.into(),
        fresh,
    };
    maker.call(1, put("a", 10), Outcome::Done, Some(1));
    maker.commit(1, &[("a", Some(10))]);
    maker.call(2, put("b", 20), Outcome::Done, Some(2));
    maker.commit(2, &[("b", Some(20))]);
    maker.call(1, put("a", 11), Outcome::Done, Some(3));
    maker.commit(3, &[("a", Some(11))]);
    let add = Op::Add {
        key: "n".into(),
        by: 1,
    };
    maker.call(2, add, Outcome::Number(1), Some(4));
    maker.commit(4, &[("n", Some(1))]);
    let swap = |expected, new| Op::Swap {
        key: "b".into(),
        expected: Some(expected),
        new: Some(new),
    };
    maker.call(1, swap(20, 21), Outcome::Swapped(true), Some(5));
    maker.commit(5, &[("b", Some(21))]);
    maker.call(2, swap(20, 22), Outcome::Swapped(false), Some(6));
    let range = Range {
        start: Some("m".into()),
        end: None,
    };
    let transact = Op::Transact {
        reads: changes_of(&[("a", Some(11)), ("x", None)]),
        ranges: vec![(range, State::from([("n".into(), 1)]))],
        writes: changes_of(&[("a", Some(12)), ("b", None), ("gone", None)]),
    };
    maker.call(1, transact, Outcome::Done, Some(7));
    maker.commit(7, &[("a", Some(12)), ("b", None)]);
    // Behind: it has not heard of revision 7 yet.
    maker.call(2, get("a", false), Outcome::Value(Some(11)), None);
    maker.call(2, get("a", true), Outcome::Value(Some(12)), None);
    maker.call(1, Op::Sync, Outcome::Done, Some(7));
    maker.call(1, get("b", false), Outcome::Value(None), None);
    maker.call(3, put("c", 30), Outcome::Unknown, None);
    maker.commit(9, &[("c", Some(30))]);
    let all = State::from([("a".into(), 12), ("c".into(), 30), ("n".into(), 1)]);
    let scan = Op::Scan {
        range: Range::default(),
        fresh: false,
    };
    maker.call(2, scan, Outcome::Entries(all.clone()), None);
    let mut history = maker.history;
    history.streams = vec![stream()];
    history.replicas = ["one", "two"]
        .map(|name| Replica {
            name: name.into(),
            content: all.clone(),
        })
        .into();
    history.holds = vec![hold(1, 1, 3, Some(110)), hold(2, 115, 7, None)];
    history.fenced = vec![fenced(3, Some(5)), fenced(7, Some(9)), fenced(3, None)];
    history
}

/// Of keys before "c", with a gap that is told, and a new beginning.
fn stream() -> Stream {
    let event = |revision, key: &str, value| Seen::Event {
        revision,
        key: key.into(),
        value,
    };
    Stream {
        stream: 1,
        range: Range {
            start: None,
            end: Some("c".into()),
        },
        since: 0,
        seen: vec![
            event(1, "a", Some(10)),
            Seen::Bookmark { revision: 1 },
            event(2, "b", Some(20)),
            Seen::Resumed { since: 2 },
            Seen::Gap { after: 2, until: 3 },
            event(5, "b", Some(21)),
            event(7, "a", Some(12)),
            event(7, "b", None),
            Seen::Bookmark { revision: 8 },
            Seen::Settled,
        ],
    }
}

fn hold(process: u64, from_ns: u64, fence: u64, until_ns: Option<u64>) -> Hold {
    Hold {
        lock: "l".into(),
        process,
        fence,
        from_ns,
        until_ns,
    }
}

fn fenced(fence: u64, revision: Option<u64>) -> Fenced {
    Fenced {
        lock: "l".into(),
        fence,
        revision,
    }
}

/// The first call of a kind.
pub(crate) fn call_of(history: &History, kind: impl Fn(&Op) -> bool) -> usize {
    let mut calls = history.calls.iter();
    calls.position(|call| kind(&call.op)).unwrap()
}

/// Sees a checker accept the good history and reject it once it is spoiled, for a reason.
pub(crate) fn rejected(
    reason: &str,
    spoil: impl FnOnce(&mut History),
    judge: impl Fn(&History) -> Verdict,
) {
    let mut history = good();
    judge(&history).unwrap();
    spoil(&mut history);
    let fault = judge(&history).expect_err(reason);
    assert!(
        fault.to_string().contains(reason),
        "{fault} is not {reason}"
    );
}

//! What callers are told, and what is kept on disk, step by step: the tests take the place of the
//! thread of the queue, of the I/O thread and of the owner.

use std::sync::mpsc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use objsync_proto::error::Failure;
use objsync_proto::ids::FrameIndex;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::stored::{Compression, seal};
use objsync_proto::wire::ToOwner;
use objsync_proto::wire::codec;
use tokio::sync::oneshot::error::TryRecvError;

use super::answer::contradiction;
use super::*;
use crate::calls::Calls;
use crate::core::Asker;
use crate::core::alone::alone;
use crate::offline::Resume;
use crate::offline::reload::Loaded;
use crate::options::{Options, ReplicaMode};

const STORE: StoreId = StoreId([7; 16]);
const OTHER: StoreId = StoreId([8; 16]);
const SESSION: SessionId = SessionId {
    epoch: 3,
    frame: FrameIndex(9),
};
const OTHER_SESSION: SessionId = SessionId {
    epoch: 4,
    frame: FrameIndex(9),
};

type Answer = oneshot::Receiver<Answered>;

/// A handle with a queue in a folder.
struct Desk {
    core: Arc<Core>,
    worker: Worker,
    jobs: Receiver<Job>,
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let (jobs, todo) = mpsc::channel();
        let offline = Arc::new(Offline::new(jobs));
        let core = alone(options, |_| Some(Arc::clone(&offline)));
        let mut worker = Worker::new(Arc::downgrade(&core), offline);
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open_in(folder.path(), STORE, "default").unwrap().0;
        worker.journal = Some((STORE, journal));
        Self {
            core,
            worker,
            jobs: todo,
            folder,
        }
    }

    /// A write by a caller, put on disk.
    fn write(&mut self, operation: Operation) -> Answer {
        let answered = self.core.submit(operation).unwrap();
        self.work();
        answered
    }

    /// What the thread has to do.
    fn work(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Write(operation, answer) => self.worker.take(&self.core, operation, answer),
                other => self.worker.do_one(&self.core, other),
            }
            self.worker.write_fresh(&self.core);
        }
    }

    fn online(&mut self, is_online: bool) {
        self.worker.do_one(&self.core, Job::Online(is_online));
    }

    /// Calls in an open session of an owner, whose numbers go to this queue.
    fn open_session(&self) -> Calls {
        let mut calls = Calls::new(None);
        let session = Some((SESSION, Sequence(1), Sequence(0)));
        calls.resume(
            &self.core,
            Resume {
                session,
                ..Resume::default()
            },
        );
        calls.session.connected(true);
        calls
    }

    /// What the handle sees of the key.
    fn sees(&self, text: &str) {
        let (key, value) = (key(), Some(value(text)));
        let seen = [Change { key, value }];
        self.worker.offline.state().overlay.add(0, &seen);
    }

    /// The numbers of writes, on disk.
    fn number(&mut self, first: u64, entries: &[u64]) {
        let job = Job::Number(SESSION, Sequence(first), entries.to_vec());
        self.worker.do_one(&self.core, job);
    }

    /// Entries on disk as the next process finds them.
    fn on_disk(self) -> Vec<u64> {
        drop(self.worker);
        let (_, records) = Journal::open_in(self.folder.path(), STORE, "default").unwrap();
        let loaded = Loaded::of(records);
        loaded.entries.keys().copied().collect()
    }
}

/// A write that does not wait on disk.
fn caller(core: &Core, operation: Operation) -> Answer {
    let (answer, answered) = oneshot::channel();
    core.push(Command::Write {
        operation,
        answer: Asker::Caller(answer),
        deadline: tokio::time::Instant::now() + core.config.options.timeout,
    });
    answered
}

fn key() -> Bytes {
    objsync_proto::key::encode(&"k".into())
        .unwrap()
        .as_bytes()
        .to_vec()
        .into()
}

fn value(text: &str) -> Bytes {
    let payload = objsync_proto::value::to_payload(text).unwrap();
    seal(&payload, Compression::default()).unwrap()
}

fn put(text: &str) -> Operation {
    let (key, value) = (key(), value(text));
    Operation::Put { key, value }
}

fn swap(old: &str, new: &str) -> Operation {
    Operation::CompareAndSet {
        key: key(),
        expected: Some(objsync_proto::value::to_payload(old).unwrap()),
        new: Some(value(new)),
    }
}

/// A swap was sent, and its answer is lost with the owner; its key is seen as swapped. Closed then,
/// its caller must not hear that the swap failed: that it found what it had put itself.
#[test]
fn closing_tells_no_made_up_answer_of_a_write_that_was_sent() {
    let mut desk = Desk::new();
    desk.online(true);
    let mut swapped = desk.write(swap("a", "b"));
    desk.number(1, &[1]);
    desk.online(false);
    assert_eq!(swapped.try_recv().unwrap_err(), TryRecvError::Empty);
    desk.sees("b");
    desk.worker.tell_all(&desk.core);
    let error = swapped.try_recv().unwrap().unwrap_err();
    let op = Origin {
        session: SESSION,
        sequence: Sequence(1),
    };
    assert!(
        matches!(error, ObjectError::Unanswered { op: named, .. } if named == op),
        "{error:?}"
    );
    assert_eq!(desk.on_disk(), [1]);
}

/// A swap was taken with an owner there, which is lost before the swap has a number. Here the key has
/// another value: who is told so must not find it swapped when the next owner sees it otherwise.
#[test]
fn write_that_was_told_to_come_to_nothing_is_not_sent_later() {
    let mut desk = Desk::new();
    let mut calls = desk.open_session();
    desk.online(true);
    let mut swapped = desk.write(swap("a", "b"));
    calls.take_queued(&desk.core);
    desk.sees("c");
    desk.online(false);
    let (outcome, _) = swapped.try_recv().unwrap().unwrap();
    assert_eq!(outcome, Outcome::Swapped(false));
    // The number was on its way to the disk meanwhile.
    desk.work();
    let mut sent = BytesMut::new();
    calls.take_queued(&desk.core);
    calls.transmit(&desk.core.replica, &mut sent, usize::MAX);
    assert!(sent.is_empty() && calls.is_settled());
    assert_eq!(desk.on_disk(), [] as [u64; 0]);
}

#[test]
fn answer_that_says_something_else_than_was_told_is_a_conflict() {
    let says = |told: Outcome, outcome: Outcome| {
        contradiction(&Caller::WasTold(told), &Ok((outcome, queued_ack()))).is_some()
    };
    assert!(says(Outcome::Swapped(true), Outcome::Swapped(false)));
    assert!(says(Outcome::Swapped(false), Outcome::Swapped(true)));
    assert!(says(Outcome::Deleted(0), Outcome::Deleted(2)));
    assert!(!says(Outcome::Swapped(true), Outcome::Swapped(true)));
    assert!(!says(Outcome::Swapped(false), Outcome::Swapped(false)));
    assert!(!says(Outcome::Deleted(2), Outcome::Deleted(1)));
}

/// The writes that would be sent now, each by its value.
fn sent(desk: &mut Desk, calls: &mut Calls) -> Vec<Bytes> {
    let mut out = BytesMut::new();
    for _ in 0..3 {
        calls.take_queued(&desk.core);
        desk.work();
    }
    calls.transmit(&desk.core.replica, &mut out, usize::MAX);
    let mut values = Vec::new();
    while let Some(message) = codec::decode::<ToOwner>(&mut out, FRAME_BYTES_MAX).unwrap() {
        if let ToOwner::Write(write) = message
            && let Operation::Put { value, .. } = write.operation
        {
            values.push(value);
        }
    }
    values
}

/// Three writes are told. The owner refuses a session for the first two, while the third is on its
/// way: the owner is left alone for a moment, and then gets all three in their order.
#[test]
fn writes_of_a_refused_session_wait_and_go_out_in_their_order() {
    let mut desk = Desk::new();
    desk.sees("0");
    let mut calls = Calls::new(None);
    calls.resume(&desk.core, Resume::default());
    desk.write(put("1"));
    desk.write(put("2"));
    calls.session.connected(false);
    assert!(sent(&mut desk, &mut calls).is_empty(), "a session first");
    let third = desk.write(put("3"));
    let full = Failure::new(ErrorKind::Full, "the disk is full");
    assert!(calls.refused(&desk.core, &full));
    calls.disconnected(&desk.core.replica);
    calls.session.connected(false);
    // Before the queue has given anything back, and after.
    calls.take_queued(&desk.core);
    assert!(calls.session.is_settled());
    desk.work();
    calls.take_queued(&desk.core);
    assert!(calls.session.is_settled(), "held back");
    calls.end_pause();
    assert!(sent(&mut desk, &mut calls).is_empty(), "a session first");
    calls.opened(SESSION);
    let expected = [value("1"), value("2"), value("3")];
    assert_eq!(sent(&mut desk, &mut calls), expected);
    drop(third);
    assert_eq!(desk.on_disk(), [1, 2, 3]);
}

/// A link that may only read: what was told offline is a conflict, what is asked online is refused,
/// and the owner is not asked for a session, which would end the connection each time.
#[test]
fn owner_that_takes_no_writes_of_this_link_is_asked_for_nothing() {
    let mut desk = Desk::new();
    desk.sees("0");
    let mut calls = Calls::new(None);
    calls.resume(&desk.core, Resume::default());
    desk.write(put("1"));
    calls.may_write = false;
    calls.session.connected(false);
    desk.online(true);
    let mut asked = desk.write(put("2"));
    assert!(sent(&mut desk, &mut calls).is_empty());
    let error = asked.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let state = desk.worker.offline.state();
    assert_eq!((state.entries.len(), state.conflicts.len()), (0, 1));
    assert_eq!(state.conflicts[0].reason, "this link may not write");
    drop(state);
    assert!(calls.is_settled());
    assert_eq!(desk.on_disk(), [] as [u64; 0]);
}

/// A store is replaced, and the handle was asked to accept that. What was told is a conflict in the
/// new store's queue, nothing of it is sent to the new store, and who waited hears so.
#[test]
fn queue_of_a_replaced_store_becomes_conflicts_and_is_not_sent_to_the_next_one() {
    let mut desk = Desk::new();
    desk.sees("0");
    let mut calls = desk.open_session();
    let mut locked = caller(&desk.core, Operation::Settle);
    desk.write(put("1"));
    calls.take_queued(&desk.core);
    desk.write(put("2"));
    desk.online(true);
    let mut waits = desk.write(put("3"));
    assert_eq!(desk.core.unanswered(), 1);
    let other = tempfile::tempdir().unwrap();
    let (mut journal, mut records) = Journal::open_in(other.path(), OTHER, "default").unwrap();
    // A write of an earlier process, by chance with the number of one that goes.
    let earlier = Record::Queued(2, 1, put("earlier"));
    journal
        .append(std::slice::from_ref(&earlier), true)
        .unwrap();
    records.push(earlier);
    let opened = (journal, records);
    let left = desk.worker.leave_store(&desk.core);
    let resume = (desk.worker)
        .enter(&desk.core, OTHER, opened, left)
        .unwrap();
    calls.resume(&desk.core, resume);
    desk.write(put("4"));
    calls.session.connected(false);
    assert!(sent(&mut desk, &mut calls).is_empty(), "a session first");
    calls.opened(SESSION);
    assert_eq!(sent(&mut desk, &mut calls), [value("earlier"), value("4")]);
    assert_eq!(desk.core.unanswered(), 0);
    for answer in [&mut waits, &mut locked] {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(desk.worker.offline.conflict_count(), 2);
    assert_eq!(desk.on_disk(), [] as [u64; 0]);
    let (_, records) = Journal::open_in(other.path(), OTHER, "default").unwrap();
    assert_eq!(Loaded::of(records).conflicts.len(), 2);
}

/// The same, but the new file takes nothing: the old one keeps what was told.
#[test]
fn queue_of_a_replaced_store_is_erased_only_when_its_conflicts_are_on_disk() {
    let mut desk = Desk::new();
    desk.sees("0");
    desk.write(put("1"));
    let other = tempfile::tempdir().unwrap();
    let (mut journal, records) = Journal::open_in(other.path(), OTHER, "default").unwrap();
    journal.break_down();
    let left = desk.worker.leave_store(&desk.core);
    let entered = (desk.worker).enter(&desk.core, OTHER, (journal, records), left);
    assert_eq!(entered.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(desk.on_disk(), [1]);
}

/// An owner that is there, and never opens a session: a write has a time to wait all the same.
#[test]
fn write_without_a_number_ends_its_wait_when_its_time_is_over() {
    let mut desk = Desk::new();
    let later = Instant::now() + Duration::from_secs(3600);
    desk.online(true);
    // What it comes to cannot be told: this handle holds nothing.
    let mut swapped = desk.write(swap("a", "b"));
    desk.worker.give_up_late(&desk.core, later);
    let error = swapped.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // What it comes to can be told.
    desk.sees("a");
    let mut swapped = desk.write(swap("a", "b"));
    desk.worker.give_up_late(&desk.core, later);
    let (outcome, ack) = swapped.try_recv().unwrap().unwrap();
    assert_eq!(outcome, Outcome::Swapped(true));
    assert_eq!(ack.durability, Durability::Queued);
    assert_eq!(desk.on_disk(), [2]);
}

/// Neither told nor taken back: the disk is full too.
#[test]
fn write_that_cannot_be_taken_back_is_told_as_unknown() {
    let mut desk = Desk::new();
    desk.online(true);
    let mut swapped = desk.write(swap("a", "b"));
    desk.worker.journal.as_mut().unwrap().1.break_down();
    desk.worker.tell_all(&desk.core);
    let error = swapped.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(desk.on_disk(), [1]);
}

/// A caller has given up, and was told that its write will be done. The session of its number ends,
/// and the next one is refused: the promise holds.
#[test]
fn write_whose_caller_gave_up_is_sent_again_after_a_refusal() {
    let mut desk = Desk::new();
    let mut calls = desk.open_session();
    desk.online(true);
    let mut asked = desk.write(put("1"));
    calls.take_queued(&desk.core);
    desk.work();
    let later = Instant::now() + Duration::from_secs(3600);
    desk.worker.give_up_late(&desk.core, later);
    let error = asked.try_recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("will be done once"), "{error}");
    // It was not sent: the next owner does not know the session, and has no room for another one.
    calls.disconnected(&desk.core.replica);
    calls.session.connected(false);
    assert!(sent(&mut desk, &mut calls).is_empty(), "a session first");
    let full = Failure::new(ErrorKind::Full, "the disk is full");
    assert!(calls.refused(&desk.core, &full));
    calls.disconnected(&desk.core.replica);
    calls.session.connected(false);
    desk.work();
    calls.end_pause();
    assert!(sent(&mut desk, &mut calls).is_empty(), "a session first");
    calls.opened(OTHER_SESSION);
    assert_eq!(sent(&mut desk, &mut calls), [value("1")]);
    assert_eq!(desk.on_disk(), [1]);
}

/// A handle without a replica asks the owner for what is no older than now; its own write is newer.
#[test]
fn read_with_a_bound_on_its_age_sees_what_is_queued() {
    let mut desk = Desk::with(Options {
        replica: ReplicaMode::None,
        ..Options::default()
    });
    desk.sees("0");
    desk.write(put("1"));
    let read = crate::read::get_within(Arc::clone(&desk.core), key(), Duration::ZERO);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let read = std::pin::pin!(read).poll(&mut context);
    let seen = objsync_proto::value::to_payload("1").unwrap();
    match read {
        Poll::Ready(read) => assert_eq!(read.unwrap(), Some(seen)),
        Poll::Pending => panic!("it asks the owner"),
    }
}

/// A told swap of which the owner says otherwise.
fn contradicted(desk: &mut Desk) -> Calls {
    desk.sees("a");
    let mut calls = desk.open_session();
    desk.write(swap("a", "b"));
    assert!(sent(desk, &mut calls).is_empty());
    let said = Ok((Outcome::Swapped(false), queued_ack()));
    calls.session.answered(Sequence(1), said);
    calls.deliver(&desk.core);
    assert!(calls.is_settled());
    calls
}

#[test]
fn owner_keeps_an_answer_until_its_note_is_synced() {
    let mut desk = Desk::new();
    desk.online(true);
    let mut calls = desk.open_session();
    let mut asked = desk.write(put("1"));
    assert_eq!(sent(&mut desk, &mut calls), [value("1")]);
    let said = Ok((Outcome::Done, queued_ack()));
    calls.session.answered(Sequence(1), said);
    calls.deliver(&desk.core);
    desk.work();
    assert!(
        asked.try_recv().unwrap().is_ok(),
        "its caller need not wait"
    );
    desk.worker.finish(&desk.core, false);
    calls.take_queued(&desk.core);
    assert!(calls.session.has_unfinished() && calls.has_queued());
    // The next write is synced, and with it what was written before.
    desk.write(put("2"));
    desk.worker.finish(&desk.core, false);
    calls.take_queued(&desk.core);
    assert!(!calls.session.has_unfinished());
}

#[test]
fn owner_keeps_an_answer_that_the_disk_does_not_take() {
    let mut desk = Desk::new();
    let mut calls = contradicted(&mut desk);
    desk.worker.journal.as_mut().unwrap().1.break_down();
    desk.work();
    desk.worker.finish(&desk.core, true);
    calls.take_queued(&desk.core);
    assert!(calls.session.has_unfinished() && calls.has_queued());
    assert_eq!(desk.worker.offline.conflict_count(), 1);
    // A file that takes it.
    let folder = std::mem::replace(&mut desk.folder, tempfile::tempdir().unwrap());
    let journal = Journal::open_in(desk.folder.path(), STORE, "default")
        .unwrap()
        .0;
    desk.worker.journal = Some((STORE, journal));
    desk.worker.finish(&desk.core, true);
    calls.take_queued(&desk.core);
    assert!(!calls.session.has_unfinished());
    drop(folder);
}

/// The last record of an answer is torn off: the conflict is there, once, and the write has ended.
#[test]
fn torn_note_of_a_conflict_keeps_the_conflict() {
    let mut desk = Desk::new();
    contradicted(&mut desk);
    desk.work();
    let file = desk.folder.path().join("0/queue");
    let whole = std::fs::read(&file).unwrap();
    let Desk { folder, worker, .. } = desk;
    drop(worker);
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let (_, records) = Journal::open_in(folder.path(), STORE, "default").unwrap();
    let loaded = Loaded::of(records);
    assert_eq!((loaded.conflicts.len(), loaded.entries.len()), (1, 0));
}

//! An operation is decided once, whatever is repeated.

use objsync_proto::limits::SESSION_IDLE_MS;
use objsync_proto::operation::Outcome;

use super::*;

const PEER: PeerKey = PeerKey([1; 32]);
const ID: SessionId = SessionId {
    epoch: 2,
    frame: FrameIndex(40),
};

fn asked(sequence: u64, floor: u64) -> SubmissionOrigin {
    SubmissionOrigin {
        origin: Origin {
            session: ID,
            sequence: Sequence(sequence),
        },
        floor: Sequence(floor),
        peer: PEER,
    }
}

fn kept(number: i64) -> Recorded {
    Recorded {
        result: Ok(Outcome::Number(number)),
        revision: Revision(number.unsigned_abs()),
        epoch: Epoch {
            number: 2,
            name: EpochName([9; 16]),
        },
    }
}

fn open() -> Sessions {
    let mut sessions = Sessions::default();
    sessions.open(ID, PEER, 0);
    sessions
}

fn decide(sessions: &mut Sessions, sequence: u64, floor: u64, number: i64) {
    let asked = asked(sequence, floor);
    assert_eq!(sessions.begin(&asked, 0), Ok(Seen::New));
    assert_eq!(sessions.begin(&asked, 0), Ok(Seen::Pending));
    sessions.finish(asked.origin, asked.floor, kept(number), 0);
}

#[test]
fn repeat_gets_the_first_answer_until_the_floor_passes_it() {
    let mut sessions = open();
    decide(&mut sessions, 1, 1, 10);
    assert_eq!(sessions.begin(&asked(1, 1), 0), Ok(Seen::Decided(kept(10))));
    decide(&mut sessions, 2, 2, 20);
    let gone = sessions.begin(&asked(1, 2), 0).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::OutcomeUnknown);
    assert_eq!(sessions.begin(&asked(2, 2), 0), Ok(Seen::Decided(kept(20))));
}

#[test]
fn operation_of_which_nothing_came_can_be_asked_again() {
    let mut sessions = open();
    assert_eq!(sessions.begin(&asked(1, 1), 0), Ok(Seen::New));
    sessions.cancel(asked(1, 1).origin);
    assert_eq!(sessions.begin(&asked(1, 1), 0), Ok(Seen::New));
    sessions.finish(asked(1, 1).origin, Sequence(1), kept(5), 0);
    sessions.cancel(asked(1, 1).origin);
    assert_eq!(sessions.begin(&asked(1, 1), 0), Ok(Seen::Decided(kept(5))));
}

#[test]
fn operation_that_comes_after_a_later_one_is_never_run() {
    let mut sessions = open();
    assert_eq!(sessions.begin(&asked(3, 1), 0), Ok(Seen::New));
    let late = sessions.begin(&asked(2, 1), 0).unwrap_err();
    assert_eq!(late.kind, ErrorKind::OutcomeUnknown);
    assert_eq!(sessions.begin(&asked(4, 1), 0), Ok(Seen::New));
    sessions.finish(asked(3, 1).origin, Sequence(1), kept(5), 0);
    sessions.cancel(asked(4, 1).origin);
    assert!(sessions.begin(&asked(2, 1), 0).is_err());
    assert_eq!(sessions.begin(&asked(4, 1), 0), Ok(Seen::New));
}

#[test]
fn unknown_session_and_foreign_peer_are_never_run() {
    let mut sessions = open();
    let mut foreign = asked(1, 1);
    foreign.peer = PeerKey([2; 32]);
    assert!(sessions.begin(&foreign, 0).is_err());
    assert!(!sessions.is_known(ID, foreign.peer));
    assert!(sessions.is_known(ID, PEER));
    assert!(sessions.close(ID));
    assert!(sessions.begin(&asked(1, 1), 0).is_err());
}

#[test]
fn idle_session_ends() {
    let mut sessions = open();
    sessions.end_idle(SESSION_IDLE_MS - 1);
    assert_eq!(sessions.count(), 1);
    sessions.end_idle(SESSION_IDLE_MS);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn session_idle_for_longest_makes_room_for_one_more() {
    let mut sessions = Sessions::default();
    let id = |frame| SessionId {
        epoch: 1,
        frame: FrameIndex(frame),
    };
    let limit = SESSIONS_MAX as u64;
    for frame in 0..=limit {
        sessions.open(id(frame), PEER, frame);
    }
    assert_eq!(sessions.count(), SESSIONS_MAX);
    assert!(!sessions.is_known(id(0), PEER));
    assert!(sessions.is_known(id(limit), PEER));
}

#[test]
fn sessions_come_back_from_a_snapshot() {
    let mut sessions = open();
    for sequence in 1..=5 {
        decide(&mut sessions, sequence, 3.min(sequence), 7);
    }
    let refused = Recorded {
        result: Err(Failure::new(ErrorKind::Invalid, "no")),
        ..kept(8)
    };
    sessions.finish(asked(6, 3).origin, Sequence(3), refused.clone(), 0);
    let mut bytes = Vec::new();
    sessions.encode(&mut bytes);
    let bytes = bytes.into();
    let mut read = Sessions::take(&mut BytesReader::new(&bytes)).unwrap();
    assert_eq!(read.count(), 1);
    assert_eq!(read.begin(&asked(6, 3), 0), Ok(Seen::Decided(refused)));
    assert_eq!(read.begin(&asked(3, 3), 0), Ok(Seen::Decided(kept(7))));
    assert!(read.begin(&asked(2, 3), 0).is_err());
}

#[test]
fn event_comes_back_from_its_frame() {
    for event in [SessionEvent::Opened(PEER), SessionEvent::Closed(ID)] {
        let mut body = Vec::new();
        event.encode(&mut body);
        let body = body.into();
        assert_eq!(SessionEvent::take(&mut BytesReader::new(&body)), Ok(event));
    }
}

//! A copy that follows a source: equal in all that a client can ask, whatever breaks in between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use harness::disk::SimDisk;
use harness::follow::{
    append_all, assert_equal, busy, carried, catch_up, follow_options, made, write_many,
};
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence, SessionId};
use objsync_proto::limits::PROMOTED_REVISION_STEP;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Grant, LogFrame, PartialSnapshot};
use objsync_store::{
    Answer, Ship, Shipped, Stage, Step, Store, StoreError, StoreOptions, Submission,
    SubmissionOrigin, partial_snapshot, promote,
};

const PEER: PeerKey = PeerKey([9; 32]);

fn increment(store: &Store, session: SessionId, sequence: u64) -> Answer {
    store
        .execute(Submission {
            namespace: NS,
            operation: Operation::Increment {
                key: key_of("count"),
                by: 1,
            },
            origin: Some(SubmissionOrigin {
                origin: Origin {
                    session,
                    sequence: Sequence(sequence),
                },
                floor: Sequence(1),
                peer: PEER,
            }),
            durability: Some(Durability::Sync),
        })
        .unwrap()
}

fn grant(label: &str) -> Grant {
    Grant {
        peer: PEER,
        scope: "*".into(),
        rights: vec!["read".into()],
        expires_ms: None,
        label: label.into(),
    }
}

fn shipped(source: &Store, copy: &Store) -> Vec<Shipped> {
    let place = copy.copy_place().unwrap();
    let mut cursor = source.ship_after(&place).unwrap().unwrap();
    match source.ship(&mut cursor, usize::MAX).unwrap() {
        Ship::Frames(frames) => frames,
        other => panic!("{other:?}"),
    }
}

struct Pair {
    _folder: tempfile::TempDir,
    source: Store,
    copy: Option<Store>,
    path: std::path::PathBuf,
    options: StoreOptions,
}

impl Pair {
    fn new(options: StoreOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = open(&made(folder.path(), "source"), options.clone());
        Self {
            path: made(folder.path(), "copy"),
            _folder: folder,
            source,
            copy: None,
            options,
        }
    }

    fn catch_up(&mut self) -> bool {
        catch_up(&self.source, &self.path, &self.options, &mut self.copy).unwrap()
    }

    fn copy(&self) -> &Store {
        self.copy.as_ref().unwrap()
    }

    fn reopen_source(&mut self, clean: bool) {
        let path = self.source.directory().to_owned();
        match clean {
            true => self.source.close().unwrap(),
            false => self.source.kill(),
        }
        self.source = Store::open(&path, self.options.clone()).unwrap();
    }
}

#[test]
fn copy_equals_its_source_through_the_ends_of_both() {
    let mut pair = Pair::new(options_on(&SimDisk::new()));
    for round in 0..12 {
        set(&pair.source, &format!("a{round}"), "1");
        execute(&pair.source, put("b", "2"), Durability::Buffered).unwrap();
        pair.source.flush(pair.source.position().revision).unwrap();
        pair.source.grant(grant(&round.to_string())).unwrap();
        assert_eq!(pair.catch_up(), round == 0, "round {round}");
        assert_equal(pair.copy(), &pair.source);
        match round % 4 {
            0 => pair.copy.take().unwrap().close().unwrap(),
            1 => pair.copy.take().unwrap().kill(),
            2 => pair.reopen_source(true),
            _ => pair.reopen_source(false),
        }
    }
    pair.catch_up();
    let (copy, source) = (pair.copy(), &pair.source);
    assert_equal(copy, source);
    let key = key_of("b");
    let history = |store: &Store| store.history(NS, &key, None, 100).unwrap();
    assert_eq!(history(copy).versions.len(), 12);
    assert_eq!(history(copy), history(source));
    for revision in [3, 9, 14] {
        let then = |store: &Store| store.at(Revision(revision)).unwrap().get(NS, &key).unwrap();
        assert_eq!(then(copy), then(source), "at {revision}");
    }
}

#[test]
fn repeat_of_a_write_gets_the_first_answer_from_a_promoted_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (made(folder.path(), "source"), made(folder.path(), "copy"));
    let source = open(&from, StoreOptions::default());
    let session = source.open_session(PEER).unwrap();
    let first = increment(&source, session, 1);
    let mut copy = None;
    catch_up(&source, &to, &StoreOptions::default(), &mut copy).unwrap();
    let copy = copy.unwrap();
    assert!(copy.session_known(session, PEER));
    // The source goes on, and never tells.
    let lost = increment(&source, session, 2);
    let (seen, behind) = (source.position(), copy.position());
    copy.close().unwrap();

    promote(&to, false).unwrap();
    let promoted = Store::open(&to, StoreOptions::default()).unwrap();
    assert_eq!(increment(&promoted, session, 1), first);
    let again = increment(&promoted, session, 2);
    assert_eq!(
        again.outcome,
        Ok(Outcome::Number(2)),
        "done once on each history"
    );
    assert!(again.ack.epoch.number > lost.ack.epoch.number);
    assert!(promoted.is_on_history(&behind));
    assert!(
        !promoted.is_on_history(&seen),
        "the source's last write is of another history"
    );
    let ours = promoted.position();
    assert!(!source.is_on_history(&ours));
    let refused = promote(&to, false).unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::Unavailable,
        "it is open: {refused}"
    );
    promoted.close().unwrap();
    let refused = promote(&to, false).unwrap_err();
    assert!(matches!(refused, StoreError::NotACopy { .. }), "{refused}");
}

#[test]
fn promoted_copy_gives_no_revision_or_epoch_that_its_source_gives() {
    for ends_with_mark in [false, true] {
        let mut pair = Pair::new(StoreOptions::default());
        set(&pair.source, "a", "1");
        pair.catch_up();
        if ends_with_mark {
            pair.reopen_source(true);
            let mut frames = shipped(&pair.source, pair.copy());
            frames.pop().unwrap();
            append_all(pair.copy(), frames).unwrap();
        }
        let shared = pair.copy().position();
        pair.copy.take().unwrap().close().unwrap();
        promote(&pair.path, false).unwrap();
        for round in 0..3 {
            let promoted = Store::open(&pair.path, StoreOptions::default()).unwrap();
            set(&promoted, "a", "mine");
            pair.reopen_source(round == 1);
            set(&pair.source, "a", "theirs");
            let (ours, theirs) = (promoted.position(), pair.source.position());
            let is_apart = ours.revision.0 > theirs.revision.0 + PROMOTED_REVISION_STEP / 2;
            assert!(is_apart, "{ends_with_mark} {round}: {ours:?} {theirs:?}");
            assert!(ours.epoch.number > shared.epoch.number + 1, "{ours:?}");
            assert!(promoted.is_on_history(&shared));
            promoted.close().unwrap();
        }
    }
}

#[test]
fn epoch_that_was_cut_short_elsewhere_is_told_by_its_frames() {
    let disk = SimDisk::new();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (made(folder.path(), "source"), made(folder.path(), "copy"));
    let source = open(&from, options_on(&disk));
    set(&source, "a", "kept");
    // The files as they are in the middle of an epoch.
    let backup = disk.copy();
    for text in ["lost", "lost too", "and this"] {
        set(&source, "a", text);
    }
    let on_copy = options_on(&SimDisk::new());
    let mut copy = None;
    catch_up(&source, &to, &on_copy, &mut copy).unwrap();
    source.kill();
    drop(source);
    let source = Store::open(&from, options_on(&backup)).unwrap();
    for text in ["1", "2", "3", "4", "5"] {
        set(&source, "b", text);
    }
    assert!(
        catch_up(&source, &to, &on_copy, &mut copy).unwrap(),
        "replaced"
    );
    let copy = copy.unwrap();
    assert_equal(&copy, &source);
    assert_eq!(get(&copy, "a").as_deref(), Some("kept"));
}

#[test]
fn what_its_source_could_still_lose_is_not_shipped() {
    let mut pair = Pair::new(busy(options_on(&SimDisk::new())));
    set(&pair.source, "a", "1");
    pair.catch_up();
    let durable = pair.copy().position();
    execute(&pair.source, put("a", "2"), Durability::Buffered).unwrap();
    pair.source.open_session(PEER).unwrap();
    assert!(!pair.catch_up());
    assert_eq!(pair.copy().position(), durable);
    assert_eq!(get(pair.copy(), "a").as_deref(), Some("1"));
    pair.source.flush(pair.source.position().revision).unwrap();
    pair.catch_up();
    assert_equal(pair.copy(), &pair.source);
    assert_eq!(get(pair.copy(), "a").as_deref(), Some("2"));
}

#[test]
fn copy_is_never_written_or_owned_by_anybody_else() {
    let mut pair = Pair::new(options_on(&SimDisk::new()));
    set(&pair.source, "a", "1");
    pair.catch_up();
    let copy = pair.copy();
    let refused = [
        execute(copy, put("a", "2"), Durability::Sync).unwrap_err(),
        copy.create_namespace("other", Vec::new()).unwrap_err(),
        copy.open_session(PEER).unwrap_err(),
        copy.grant(grant("x")).unwrap_err(),
        copy.revoke(PEER).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, StoreError::Follows { .. }), "{error}");
        assert!(error.to_string().contains("objsync promote"), "{error}");
    }
    assert_equal(copy, &pair.source);
    pair.copy.take().unwrap().close().unwrap();
    let opened = Store::open(&pair.path, pair.options.clone());
    let refused = opened.map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Follows { .. }), "{refused}");
    let options = follow_options(&pair.options);
    let path = pair.source.directory().to_owned();
    pair.source.close().unwrap();
    let refused = Store::open(&path, options).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::NotACopy { .. }), "{refused}");
}

#[test]
fn log_that_was_trimmed_is_replaced_by_a_snapshot_with_sessions_and_grants() {
    let mut pair = Pair::new(busy(options_on(&SimDisk::new())));
    pair.source.grant(grant("early")).unwrap();
    let session = pair.source.open_session(PEER).unwrap();
    let first = increment(&pair.source, session, 1);
    pair.catch_up();
    for round in 0..4 {
        write_many(&pair.source, 200, &round.to_string());
        pair.source.step(Step::Keep).unwrap();
    }
    assert!(pair.catch_up(), "the log no longer reaches back");
    assert_equal(pair.copy(), &pair.source);
    write_many(&pair.source, 100, "more");
    assert!(!pair.catch_up());
    assert_equal(pair.copy(), &pair.source);
    assert!(pair.copy().session_known(session, PEER));
    // A copy of the copy, which has segments and snapshots of its own.
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "second");
    let mut second = None;
    pair.copy().step(Step::Keep).unwrap();
    catch_up(pair.copy(), &path, &pair.options, &mut second).unwrap();
    let second = second.unwrap();
    assert_equal(&second, &pair.source);
    assert!(second.session_known(session, PEER));
    assert_eq!(increment(&pair.source, session, 1), first);
}

#[test]
fn copy_of_one_store_takes_no_other_in_its_place() {
    let mut pair = Pair::new(options_on(&SimDisk::new()));
    set(&pair.source, "a", "1");
    pair.catch_up();
    let folder = tempfile::tempdir().unwrap();
    let other = open(folder.path(), options_on(&SimDisk::new()));
    let refused = catch_up(&other, &pair.path, &pair.options, &mut pair.copy).unwrap_err();
    assert!(matches!(refused, StoreError::NotACopy { .. }), "{refused}");
    assert_equal(pair.copy(), &pair.source);
    let whole = pair.source.ship_all(None).unwrap();
    let options = options_on(&SimDisk::new());
    let own = tempfile::tempdir().unwrap();
    open(own.path(), options.clone()).close().unwrap();
    let refused = Stage::begin(own.path(), &options, whole.start, false);
    assert!(matches!(
        refused.map(drop),
        Err(StoreError::NotACopy { .. })
    ));
}

#[test]
fn source_that_lost_its_future_takes_the_copy_back_with_it() {
    let disk = SimDisk::new();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (made(folder.path(), "source"), made(folder.path(), "copy"));
    let source = open(&from, options_on(&disk));
    set(&source, "a", "kept");
    source.close().unwrap();
    let backup = disk.copy();
    let source = Store::open(&from, options_on(&disk)).unwrap();
    set(&source, "a", "lost");
    let on_copy = options_on(&SimDisk::new());
    let mut copy = None;
    catch_up(&source, &to, &on_copy, &mut copy).unwrap();
    let gone = copy.as_ref().unwrap().position();
    source.close().unwrap();
    let source = Store::open(&from, options_on(&backup)).unwrap();
    set(&source, "b", "new");
    assert!(
        catch_up(&source, &to, &on_copy, &mut copy).unwrap(),
        "replaced"
    );
    let copy = copy.unwrap();
    assert_equal(&copy, &source);
    assert_eq!(get(&copy, "a").as_deref(), Some("kept"));
    assert!(!copy.is_on_history(&gone));
}

/// What a hostile source makes of a frame.
type Change<'a> = &'a dyn Fn(&mut LogFrame);

#[test]
fn frames_that_make_no_sense_are_refused_and_change_nothing() {
    let mut pair = Pair::new(options_on(&SimDisk::new()));
    set(&pair.source, "a", "1");
    pair.catch_up();
    set(&pair.source, "a", "2");
    pair.source.grant(grant("x")).unwrap();
    set(&pair.source, "a", "3");
    let frames = shipped(&pair.source, pair.copy());
    assert_eq!(frames.len(), 3);
    let copy = pair.copy();
    let before = copy.copy_place();
    let remade = |frame: &Shipped, change: &dyn Fn(&mut LogFrame)| {
        let mut head = frame.head(0);
        change(&mut head);
        Shipped::new(&head, frame.body().clone())
    };
    let hostile: [(&str, Change<'_>); 9] = [
        ("index", &|head| head.index.0 += 1),
        ("epoch", &|head| head.epoch += 1),
        ("old epoch", &|head| head.epoch = 0),
        ("revision", &|head| head.first.0 -= 1),
        ("no count", &|head| head.count = 0),
        ("count", &|head| head.count = u32::MAX),
        ("end of revisions", &|head| head.first.0 = u64::MAX),
        ("kind", &|head| head.kind = 77),
        ("epoch without a body", &|head| head.kind = 2),
    ];
    for (what, change) in hostile {
        let bad = remade(&frames[0], change).unwrap();
        assert!(copy.append_shipped(vec![bad]).is_err(), "{what}");
        assert_eq!(copy.copy_place(), before, "{what}");
    }
    for change in [
        (&|head: &mut LogFrame| head.body_crc ^= 1) as &dyn Fn(&mut LogFrame),
        &|head| head.body_bytes += 1,
    ] {
        assert!(remade(&frames[0], change).is_err());
    }
    let gap = vec![carried(&frames[0]), carried(&frames[2])];
    assert!(copy.append_shipped(gap).is_err());
    assert_eq!(copy.copy_place(), before, "all of it or nothing");
    pair.catch_up();
    assert_equal(pair.copy(), &pair.source);
}

#[test]
fn transfer_that_broke_off_goes_on_where_it_was() {
    let mut pair = Pair::new(busy(options_on(&SimDisk::new())));
    write_many(&pair.source, 300, "a");
    pair.source.step(Step::Keep).unwrap();
    let options = follow_options(&pair.options);
    let whole = pair.source.ship_all(None).unwrap();
    let (start, file) = (whole.start, whole.file.unwrap());
    assert!(start.total_bytes > 5000, "{start:?}");
    let mut stage = Stage::begin(&pair.path, &options, start, false).unwrap();
    let mut piece = vec![0; 5000];
    file.read_exact_at(&mut piece, 0).unwrap();
    stage.write(&piece).unwrap();
    drop(stage);
    let partial = partial_snapshot(&pair.path, &*options.disk).unwrap();
    assert_eq!(partial.held_bytes, 5000);
    let again = pair.source.ship_all(Some(&partial)).unwrap();
    assert_eq!(again.start.start, 5000);
    let other = PartialSnapshot {
        head_crc: partial.head_crc ^ 1,
        ..partial
    };
    assert_eq!(pair.source.ship_all(Some(&other)).unwrap().start.start, 0);
    assert!(pair.catch_up());
    assert_equal(pair.copy(), &pair.source);
    assert!(partial_snapshot(&pair.path, &*options.disk).is_none());
    // A part that is not needed in the end goes, and nothing else.
    let mut stage = Stage::begin(&pair.path, &options, start, true).unwrap();
    stage.write(&piece).unwrap();
    assert!(partial_snapshot(&pair.path, &*options.disk).is_some());
    objsync_store::discard_partial(&pair.path, &*options.disk).unwrap();
    assert!(partial_snapshot(&pair.path, &*options.disk).is_none());
    pair.copy.take().unwrap().close().unwrap();
    assert!(!pair.catch_up());
    assert_equal(pair.copy(), &pair.source);
}

#[test]
fn snapshot_that_is_damaged_on_its_way_is_thrown_away() {
    let mut pair = Pair::new(busy(options_on(&SimDisk::new())));
    set(&pair.source, "first", "1");
    pair.catch_up();
    let held = content(pair.copy());
    write_many(&pair.source, 300, "a");
    pair.source.step(Step::Keep).unwrap();
    let options = follow_options(&pair.options);
    let whole = pair.source.ship_all(None).unwrap();
    let file = whole.file.unwrap();
    let mut good = vec![0; usize::try_from(whole.start.total_bytes).unwrap()];
    file.read_exact_at(&mut good, 0).unwrap();
    for place in (0..good.len()).step_by(701) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        let mut stage = Stage::begin(&pair.path, &options, whole.start, true).unwrap();
        stage.write(&bad).unwrap();
        assert!(stage.write(b"x").is_err(), "more than was announced");
        let refused = stage.finish(None).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::Corrupt,
            "byte {place}: {refused}"
        );
    }
    let short = Stage::begin(&pair.path, &options, whole.start, true).unwrap();
    assert_eq!(short.finish(None).unwrap_err().kind(), ErrorKind::Corrupt);
    pair.copy.take().unwrap().close().unwrap();
    let copy = Store::open(&pair.path, options).unwrap();
    assert_eq!(content(&copy), held);
}

#[test]
fn source_that_is_a_copy_and_behind_takes_nothing_back() {
    let mut pair = Pair::new(options_on(&SimDisk::new()));
    set(&pair.source, "a", "1");
    pair.catch_up();
    set(&pair.source, "a", "2");
    let folder = tempfile::tempdir().unwrap();
    let mut ahead = None;
    let options = options_on(&SimDisk::new());
    catch_up(&pair.source, folder.path(), &options, &mut ahead).unwrap();
    let error = catch_up(pair.copy(), folder.path(), &options, &mut ahead).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    pair.catch_up();
    assert!(!catch_up(pair.copy(), folder.path(), &options, &mut ahead).unwrap());
    assert_equal(ahead.as_ref().unwrap(), &pair.source);
}

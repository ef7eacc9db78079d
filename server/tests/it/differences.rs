//! Where the log does not lead on: who holds everything gets the difference, who holds a part
//! drops it, who wants every change hears which ones are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::BytesMut;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Position;
use objsync_proto::key;
use objsync_proto::limits::STATES_IN_FLIGHT_MAX;
use objsync_proto::operation::Operation;
use objsync_proto::replica::{Applied, Exchanged, Mode, Replica, Sink, State};
use objsync_proto::wire::{Digest, Feed, Gap, Held, KeyRange, Reply, Request, ToOwner, codec};
use objsync_store::{StoreLimits, Submission};

use crate::memory::{in_own_process, resident_bytes};
use crate::peer::{
    Client, Owner, PATIENCE, Subscriber, change, changes, encoded, key_text, put, text, trim,
    within,
};
use crate::random::Random;

/// So little log that it is soon trimmed.
fn short() -> StoreLimits {
    StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 40 << 10,
        retention_bytes: 64 << 10,
        recent_bytes_max: 64 << 10,
        ring_bytes_max: 8 << 10,
        ..StoreLimits::default()
    }
}

/// What a replica told, and what it was sent.
#[derive(Default)]
struct Told {
    changed: Vec<String>,
    kinds: Vec<&'static str>,
    /// Bytes of the frames of the difference, both ways.
    difference_bytes: usize,
}

impl Sink for Told {
    fn applied(&mut self, change: Applied) {
        self.changed.push(key_text(&change.key));
    }

    fn barrier(&mut self, _id: u64, _position: Position) {}

    fn exchanged(&mut self, _exchanged: Exchanged) {}
}

/// The replica that ships, driven by hand.
struct Follower {
    replica: Replica,
    told: Told,
}

impl Follower {
    fn new() -> Self {
        Self::of(KeyRange::default())
    }

    fn of(range: KeyRange) -> Self {
        Self {
            replica: Replica::new(range, Mode::Full),
            told: Told::default(),
        }
    }

    /// Follows from where it stands until everything that is committed now has come.
    async fn follow(&mut self, client: &mut Client, range: &KeyRange) {
        self.told = Told::default();
        self.replica.connected(client.welcome.position);
        let mut events = match self.replica.position() {
            Some(since) => client.follow(range.clone(), since, Held::Whole).await,
            None => client.subscribe_range(range.clone(), None).await,
        };
        let subscription = events.subscription;
        self.take(Feed::Start { subscription });
        self.until_barrier(client, &mut events).await;
        let stop = Request::Unsubscribe { subscription };
        client.request(stop).await.unwrap();
        self.replica.disconnected();
    }

    async fn until_barrier(&mut self, client: &mut Client, events: &mut Subscriber) {
        let asked = client.request(Request::Barrier).await.unwrap();
        assert!(matches!(asked, Reply::Position(_)));
        loop {
            let message = events.next().await;
            let is_over = matches!(message, Feed::Barrier { .. });
            let is_asked = matches!(message, Feed::Compare { .. });
            self.take(message);
            if is_asked {
                self.send_digests(client, events.subscription).await;
            }
            if is_over {
                return;
            }
        }
    }

    fn take(&mut self, message: Feed) {
        let kind = match &message {
            Feed::Resume => "resume",
            Feed::Reset => "reset",
            Feed::Compare { .. } => "compare",
            Feed::Replace { .. } => "replace",
            _ => "",
        };
        if !kind.is_empty() {
            self.told.kinds.push(kind);
        }
        if kind == "replace" {
            let mut out = BytesMut::new();
            codec::encode(&message, &mut out);
            self.told.difference_bytes += out.len();
        }
        self.replica.feed(message, &mut self.told).unwrap();
    }

    async fn send_digests(&mut self, client: &mut Client, subscription: u64) {
        let mut cursor = self.replica.comparison().unwrap();
        while let Some(digests) = self.replica.digests(&mut cursor) {
            let keys = digests.iter().filter_map(|digest| digest.through.as_ref());
            self.told.difference_bytes += keys.map(|key| key.len() + 20).sum::<usize>();
            let round = cursor.round();
            let sent = digests_request(subscription, round, digests);
            assert_eq!(client.request(sent).await, Ok(Reply::Done));
        }
    }

    fn content(&self) -> BTreeMap<String, String> {
        assert_eq!(self.replica.state(), State::Live);
        let page = self.replica.page(&KeyRange::default(), false, usize::MAX);
        let entries = page.unwrap().entries.into_iter();
        entries
            .map(|entry| (key_text(&entry.key), text(&entry.value)))
            .collect()
    }

    fn has(&self, kind: &str) -> bool {
        self.told.kinds.contains(&kind)
    }
}

fn digests_request(subscription: u64, round: u32, digests: Vec<Digest>) -> Request {
    Request::Digests {
        subscription,
        round,
        digests,
    }
}

async fn writer(owner: &Owner) -> Client {
    let mut client = owner.client().await;
    client.open_session().await;
    client
}

/// The store's own view of a range.
async fn fetched(client: &mut Client, range: &KeyRange) -> BTreeMap<String, String> {
    let request = Request::Fetch {
        subscription: 1,
        range: range.clone(),
        reverse: false,
    };
    assert_eq!(client.request(request).await, Ok(Reply::Done));
    let (entries, _) = client.accept(1).await.entries().await;
    entries.into_iter().collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn follower_from_before_the_log_gets_the_difference_and_nothing_else() {
    let all = KeyRange::default();
    let owner = Owner::start_with(short());
    let mut writer = writer(&owner).await;
    for number in 0..400 {
        writer.put(&format!("{number:03}"), &"v".repeat(500)).await;
    }
    let mut follower = Follower::new();
    follower.follow(&mut writer, &all).await;
    assert_eq!(follower.told.kinds, ["reset"], "it held nothing");
    let before = follower.replica.position().unwrap();
    writer.put("017", "changed").await;
    let gone = Operation::Delete {
        key: encoded("300"),
    };
    writer.run(gone).await.unwrap();
    // Whole blocks of them.
    let gone = Operation::DeleteRange {
        start: encoded("200"),
        end: Some(encoded("280")),
        count_max: 80,
    };
    writer.run(gone).await.unwrap();
    let held = follower.content();
    trim(&owner, &mut writer, &before).await;
    follower.follow(&mut writer, &all).await;
    assert!(follower.has("compare") && !follower.has("reset"));
    let mut changed = follower.told.changed.clone();
    changed.sort();
    let there = fetched(&mut writer, &all).await;
    assert_eq!(follower.content(), there);
    let names: BTreeSet<_> = held.keys().chain(there.keys()).cloned().collect();
    let differs = |name: &String| held.get(name) != there.get(name);
    let wanted: Vec<_> = names.into_iter().filter(differs).collect();
    assert_eq!(changed, wanted, "each once");
    assert_eq!(wanted.len(), 1 + 1 + 80 + 5);
    let state = 400 * 500;
    let sent = follower.told.difference_bytes;
    assert!(sent < state / 4, "{sent} bytes where the state has {state}");
}

#[tokio::test]
async fn follower_that_sleeps_while_the_log_is_trimmed_gets_the_difference_in_the_middle() {
    let all = KeyRange::default();
    let owner = Owner::start_with(short());
    let mut writer = writer(&owner).await;
    let mut sleeper = owner.client().await;
    let mut follower = Follower::new();
    follower.follow(&mut sleeper, &all).await;
    follower.told = Told::default();
    follower.replica.connected(sleeper.welcome.position);
    let since = follower.replica.position().unwrap();
    let mut events = sleeper.follow(all.clone(), since, Held::Whole).await;
    follower.take(Feed::Start {
        subscription: events.subscription,
    });
    // More than the wire holds, so that the owner stands still in the middle of the log.
    for round in 0_u32..300 {
        let name = format!("{:03}", round % 10);
        writer.put(&name, &"v".repeat(60_000)).await;
    }
    let written = owner.store.position();
    trim(&owner, &mut writer, &written).await;
    follower.until_barrier(&mut sleeper, &mut events).await;
    assert!(follower.has("resume") && follower.has("compare") && !follower.has("reset"));
    assert_eq!(follower.content(), fetched(&mut writer, &all).await);
}

#[tokio::test]
async fn followers_of_ranges_that_come_and_go_end_equal_to_the_store() {
    const SEED: u64 = 0x6469_6666_6572_0001;
    println!("seed {SEED:#x}");
    let owner = Owner::start_with(short());
    let mut random = Random::new(SEED);
    let mut writer = writer(&owner).await;
    let ranges = [
        KeyRange::default(),
        key::str_prefix("b"),
        key::str_prefix("none"),
    ];
    let mut followers: Vec<_> = ranges.iter().cloned().map(Follower::of).collect();
    let mut compared = [0; 3];
    for _ in 0..60 {
        for _ in 0..random.below(120) {
            let name = format!("{}{:02}", ["a", "b"][random.below(2)], random.below(40));
            let operation = match random.below(5) {
                0 => Operation::Delete {
                    key: encoded(&name),
                },
                1 => Operation::Batch {
                    changes: vec![change(&name, "x"), change("b00", &name)],
                },
                _ => put(&name, &"v".repeat(random.below(600))),
            };
            writer.run(operation).await.unwrap();
        }
        for ((follower, range), compared) in followers.iter_mut().zip(&ranges).zip(&mut compared) {
            if random.below(4) > 0 {
                continue;
            }
            let mut client = owner.client().await;
            follower.follow(&mut client, range).await;
            *compared += u32::from(follower.has("compare"));
            assert_eq!(follower.content(), fetched(&mut client, range).await);
        }
    }
    assert!(
        compared.iter().all(|count| *count > 0),
        "{compared:?} compared"
    );
}

/// The machine lost power: what was not synced is gone, and another history goes on.
#[tokio::test]
async fn follower_of_writes_that_a_power_cut_took_rolls_back_exactly() {
    let all = KeyRange::default();
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    for name in ["kept", "changed", "removed"] {
        writer.put(name, "synced").await;
    }
    owner.store.flush(owner.store.position().revision).unwrap();
    let image = tempfile::tempdir().unwrap();
    copy(owner.directory.path(), image.path());
    writer.put("changed", "lost").await;
    writer.put("added", "lost").await;
    let key = encoded("removed");
    writer.run(Operation::Delete { key }).await.unwrap();
    let mut follower = Follower::new();
    follower.follow(&mut writer, &all).await;
    drop(owner.stop().await);
    let owner = Owner::start_in(image, StoreLimits::default());
    let mut client = owner.client().await;
    follower.follow(&mut client, &all).await;
    assert_eq!(follower.told.kinds, ["compare", "replace"]);
    assert_eq!(
        follower.told.changed,
        ["added", "changed", "removed"],
        "each once"
    );
    let wanted = ["kept", "changed", "removed"].map(|name| (name.into(), "synced".into()));
    assert_eq!(follower.content(), BTreeMap::from(wanted));
    let position = follower.replica.position().unwrap();
    assert!(owner.store.is_on_history(&position));
}

/// A backup was restored and written to: the same revisions, other values.
#[tokio::test]
async fn follower_of_the_original_rolls_back_to_what_a_restored_copy_holds() {
    let all = KeyRange::default();
    let owner = Owner::start();
    let mut first = writer(&owner).await;
    first.put("a", "both").await;
    first.put("b", "both").await;
    let directory = owner.stop().await;
    let backup = tempfile::tempdir().unwrap();
    copy(directory.path(), backup.path());
    let owner = Owner::start_in(directory, StoreLimits::default());
    let mut original = writer(&owner).await;
    original.put("a", "original").await;
    original.put("c", "original").await;
    let mut follower = Follower::new();
    follower.follow(&mut original, &all).await;
    let there = follower.replica.position().unwrap();
    drop(owner.stop().await);
    let owner = Owner::start_in(backup, StoreLimits::default());
    let mut copied = writer(&owner).await;
    copied.put("a", "restored").await;
    copied.put("d", "restored").await;
    copied.put("b", "restored").await;
    assert!(!owner.store.is_on_history(&there));
    follower.follow(&mut copied, &all).await;
    assert!(follower.has("compare"));
    assert_eq!(follower.content(), fetched(&mut copied, &all).await);
    assert_eq!(follower.told.changed, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn watcher_of_every_change_hears_which_are_gone_and_goes_on_behind_them() {
    let owner = Owner::start_with(short());
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let since = owner.store.position();
    trim(&owner, &mut writer, &since).await;
    let all = KeyRange::default();
    let mut watch = writer.follow(all.clone(), since, Held::Nothing).await;
    assert_eq!(watch.next().await, Feed::Resume);
    let Feed::Gap(gap) = watch.next().await else {
        panic!("a gap was expected")
    };
    assert_eq!(
        within(watch.inbox.next::<Feed>()).await,
        Ok(None),
        "the end"
    );
    assert_eq!((gap.after, gap.same_history), (since.revision, true));
    // What was the last revision that is gone is known by what comes after it, unless more of the
    // log went meanwhile.
    let mut oldest = Position {
        revision: gap.oldest,
        ..since
    };
    let mut watch = writer.follow(all.clone(), oldest, Held::Nothing).await;
    assert_eq!(watch.next().await, Feed::Resume);
    let last = owner.store.position().revision;
    while oldest.revision < last {
        match watch.next_told().await {
            Feed::Events(events) => {
                for event in events {
                    oldest.revision = oldest.revision.next();
                    assert_eq!(event.revision, oldest.revision, "every one, in order");
                }
            }
            Feed::Gap(gap) => {
                assert_eq!(gap.after, oldest.revision);
                assert!(gap.oldest > gap.after && gap.same_history, "{gap:?}");
                oldest.revision = gap.oldest;
                watch = writer.follow(all.clone(), oldest, Held::Nothing).await;
                assert_eq!(watch.next().await, Feed::Resume);
            }
            other => panic!("events were expected, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn watcher_of_another_history_hears_how_far_it_was_the_same() {
    let owner = Owner::start();
    let mut first = writer(&owner).await;
    first.put("a", "synced").await;
    let common = owner.store.position();
    owner.store.flush(common.revision).unwrap();
    let image = tempfile::tempdir().unwrap();
    copy(owner.directory.path(), image.path());
    first.put("b", "lost").await;
    let since = owner.store.position();
    drop(owner.stop().await);
    let owner = Owner::start_in(image, StoreLimits::default());
    let mut client = writer(&owner).await;
    let ack = client.put("c", "new").await;
    let all = KeyRange::default();
    let mut watch = client.follow(all.clone(), since, Held::Nothing).await;
    let wanted = Gap {
        after: since.revision,
        oldest: common.revision,
        same_history: false,
    };
    assert_eq!(watch.next().await, Feed::Gap(wanted));
    let again = Position {
        revision: wanted.oldest,
        ..client.welcome.position
    };
    let mut watch = client.follow(all, again, Held::Nothing).await;
    assert_eq!(watch.next().await, Feed::Resume);
    let events = watch.events(1).await;
    assert_eq!(events[0].revision, ack.revision);
    assert_eq!(changes(&events[0]), [("c".into(), Some("new".into()))]);
}

#[tokio::test]
async fn holder_of_a_part_is_told_to_drop_it_and_is_sent_nothing() {
    let owner = Owner::start_with(short());
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let since = owner.store.position();
    trim(&owner, &mut writer, &since).await;
    let mut events = writer.follow(KeyRange::default(), since, Held::Part).await;
    assert_eq!(events.next().await, Feed::Resume);
    let position = owner.store.position();
    assert_eq!(events.next().await, Feed::Skip { position });
    let ack = writer.put("b", "2").await;
    assert_eq!(events.events(1).await[0].revision, ack.revision);
}

#[tokio::test]
async fn comparison_whose_moment_has_expired_is_begun_anew() {
    let all = KeyRange::default();
    let owner = Owner::start_with(short());
    let mut writer = writer(&owner).await;
    let mut follower = Follower::new();
    follower.follow(&mut writer, &all).await;
    let before = follower.replica.position().unwrap();
    trim(&owner, &mut writer, &before).await;
    follower.replica.connected(writer.welcome.position);
    let mut events = writer.follow(all.clone(), before, Held::Whole).await;
    let subscription = events.subscription;
    follower.take(Feed::Start { subscription });
    assert_eq!(events.next().await, Feed::Resume);
    follower.take(Feed::Resume);
    let first = events.next().await;
    assert!(matches!(first, Feed::Compare { round: 1, .. }), "{first:?}");
    follower.take(first);
    // Writers need the memory that the comparison holds.
    for round in 0..200 {
        writer.put(&format!("{round:03}"), &"v".repeat(2_000)).await;
    }
    follower.send_digests(&mut writer, subscription).await;
    follower.until_barrier(&mut writer, &mut events).await;
    assert!(follower.has("compare"), "a second one");
    assert_eq!(follower.content(), fetched(&mut writer, &all).await);
}

/// A subscription that waits for the digests of a client that says it holds everything.
async fn compared(owner: &Owner, client: &mut Client) -> (Subscriber, u32) {
    let elsewhere = Position {
        store: objsync_proto::ids::StoreId([0xee; 16]),
        ..owner.store.position()
    };
    let mut events = client
        .follow(KeyRange::default(), elsewhere, Held::Whole)
        .await;
    match events.next().await {
        Feed::Compare { round, .. } => (events, round),
        other => panic!("{other:?}"),
    }
}

fn digest(through: Option<&str>) -> Digest {
    Digest {
        through: through.map(encoded),
        count: 1,
        hash: [7; 16],
    }
}

#[tokio::test]
async fn digests_out_of_order_end_their_subscription_and_nothing_else() {
    let owner = Owner::start();
    let mut client = writer(&owner).await;
    client.put("m", "1").await;
    for digests in [
        vec![digest(Some("b")), digest(Some("a"))],
        vec![digest(Some("b")), digest(Some("b"))],
        vec![digest(None), digest(Some("b"))],
        vec![digest(None), digest(None)],
    ] {
        let (mut events, round) = compared(&owner, &mut client).await;
        let sent = digests_request(events.subscription, round, digests);
        assert_eq!(client.request(sent).await, Ok(Reply::Done));
        match events.next().await {
            Feed::Failed(failure) => assert_eq!(failure.kind, ErrorKind::Invalid, "{failure}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.get("m").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn more_digests_than_a_request_may_have_are_refused() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let (events, round) = compared(&owner, &mut client).await;
    let many: Vec<Digest> = (0..1_025)
        .map(|n| digest(Some(&format!("{n:05}"))))
        .collect();
    let mut long = many[..100].to_vec();
    for (place, digest) in long.iter_mut().enumerate() {
        digest.through = Some(encoded(&format!("{place:05}{}", "x".repeat(4_000))));
    }
    let mut longer = many[..1].to_vec();
    longer[0].through = Some(vec![b'k'; 5_000].into());
    for digests in [many, long, longer] {
        let sent = digests_request(events.subscription, round, digests);
        let refused = client.request(sent).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
    }
}

#[tokio::test]
async fn digests_that_nobody_waits_for_are_answered_and_do_nothing() {
    let owner = Owner::start();
    let mut client = writer(&owner).await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    let early = digests_request(events.subscription, 1, vec![digest(None)]);
    assert_eq!(client.request(early).await, Ok(Reply::Done));
    let nobody = digests_request(77, 1, vec![digest(None)]);
    let refused = client.request(nobody).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    let (mut events, round) = compared(&owner, &mut client).await;
    let stale = digests_request(events.subscription, round + 1, vec![digest(Some("a"))]);
    assert_eq!(client.request(stale).await, Ok(Reply::Done));
    let sent = digests_request(events.subscription, round, vec![digest(None)]);
    assert_eq!(client.request(sent).await, Ok(Reply::Done));
    assert!(matches!(events.next().await, Feed::Replace { .. }));
    assert!(matches!(events.next().await, Feed::Complete { .. }));
}

/// One digest for more than memory should hold, again and again: each costs pages, not the whole.
#[tokio::test]
async fn wrong_digest_of_everything_is_answered_in_pages() {
    let name = "differences::wrong_digest_of_everything_is_answered_in_pages";
    if !in_own_process(name) {
        return;
    }
    let owner = Owner::start_with(StoreLimits {
        ring_bytes_max: 1 << 20,
        ..StoreLimits::default()
    });
    let mut writer = writer(&owner).await;
    for number in 0..100 {
        let submission = Submission {
            namespace: writer.welcome.namespace.unwrap(),
            operation: put(&format!("{number:03}"), &"v".repeat(500_000)),
            origin: None,
            durability: None,
        };
        owner.store.execute(submission).unwrap().outcome.unwrap();
    }
    let (before, mut kept) = (resident_bytes(), Vec::new());
    for _ in 0..20 {
        let mut client = owner.client().await;
        let (events, round) = compared(&owner, &mut client).await;
        let everything = Digest {
            count: u64::MAX,
            ..digest(None)
        };
        let sent = digests_request(events.subscription, round, vec![everything]);
        // Not read: the owner may hold what the wire does not, and no more.
        client.send(&ToOwner::Request(99, sent)).await;
        kept.push((client, events));
    }
    for number in 0..20 {
        writer.put("alive", &number.to_string()).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    // Both ends of the wire are in this process: 20 times 2 MiB of window on each.
    assert!(grown < 400 << 20, "{grown} bytes for 20 times 50 MB");
}

#[tokio::test]
async fn client_that_never_sends_its_digests_holds_up_nobody() {
    let owner = Owner::start_with(short());
    let mut silent = owner.client().await;
    let (_events, _) = compared(&owner, &mut silent).await;
    let mut writer = writer(&owner).await;
    for round in 0..400 {
        writer
            .put(&format!("{}", round % 9), &"v".repeat(2_000))
            .await;
    }
    assert_eq!(writer.get("1").await.map(|value| value.len()), Some(2_000));
    let shut = tokio::time::timeout(PATIENCE, owner.stop()).await;
    assert!(shut.is_ok(), "and the owner can go");
}

/// Long after an answer should have come, and before a comparison would end.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test]
async fn digests_for_a_comparison_that_waits_for_its_turn_are_not_kept() {
    let owner = Owner::start_with(short());
    let mut client = writer(&owner).await;
    let mut silent = Vec::new();
    for _ in 0..STATES_IN_FLIGHT_MAX {
        silent.push(compared(&owner, &mut client).await);
    }
    let elsewhere = Position {
        store: objsync_proto::ids::StoreId([0xee; 16]),
        ..owner.store.position()
    };
    // Its stream begins with its turn.
    let waits = 99;
    let follow = Request::Follow {
        subscription: waits,
        range: KeyRange::default(),
        since: elsewhere,
        held: Held::Whole,
    };
    assert_eq!(client.request(follow).await, Ok(Reply::Done));
    for _ in 0..3 {
        let sent = digests_request(waits, 1, vec![digest(None)]);
        let answered = tokio::time::timeout(ANSWER, client.request(sent)).await;
        assert_eq!(answered.expect("it is answered at once"), Ok(Reply::Done));
    }
}

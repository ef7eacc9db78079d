//! Random work: what callers ask of a store, and the work of its own threads, in any order.

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{Durability, NamespaceId, Origin, PeerKey, Sequence};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::int_payload;
use objsync_proto::wire::Grant;
use objsync_store::{Step, StoreError, Submission, SubmissionOrigin};

use crate::checks;
use crate::harness::random::Random;
use crate::harness::{change, key_of, payload_of, value_of};
use crate::model::{Entry, What};
use crate::world::World;
use crate::{newer, time};

/// Keys of each dictionary.
const KEY_COUNT: u64 = 9;
/// Of these, the ones that hold numbers.
const COUNTER_COUNT: u64 = 2;

/// One thing that happens.
pub fn act(world: &mut World) {
    match world.random.below(108) {
        0..=29 => submit_some(world),
        30..=49 => drain(world),
        50..=56 => step(world, Step::Flush),
        57..=59 => step(world, Step::Grow),
        60..=66 => step(world, Step::Index),
        67..=68 => step(world, Step::BuildIndex),
        69..=72 => step(world, Step::Keep),
        73..=76 => time::pass(world),
        77..=90 => checks::look(world),
        91..=92 => flush(world),
        93..=94 => open_or_close_session(world),
        95..=96 => grant_or_revoke(world),
        97 => create_namespace(world),
        98..=102 => time::expire(world),
        103..=104 => time::keep_or_leave(world),
        _ => send_again(world),
    }
    world.collect();
    if !world.disk.is_off() {
        let durable = world.store().marks().durable;
        world.history.is_durable_to(durable);
    }
}

/// Runs what is queued, batch by batch; sometimes not to the end.
pub fn drain(world: &mut World) {
    while world.waiting_count() > 0 && !world.random.chance(8) {
        step(world, Step::Queue);
    }
}

/// Runs all that is queued: what follows would wait for it.
pub fn drain_all(world: &mut World) {
    for _ in 0..1_000 {
        if world.waiting_count() == 0 {
            return;
        }
        step(world, Step::Queue);
    }
    panic!("what is queued is never answered");
}

fn step(world: &mut World, step: Step) {
    let done = world.store().step(step);
    world.note(step as u64);
    world.say(|| format!("{step:?} gives {done:?}"));
    world.collect();
    match done {
        Ok(_) => {}
        Err(error) if world.disk.is_off() => drop(error),
        Err(error) => world.expect_read_error(&error),
    }
}

fn submit_some(world: &mut World) {
    for _ in 0..=world.random.below(5) {
        let submission = match world.random.chance(2) {
            true => {
                let client = world.random.below(world.clients.len() as u64) as usize;
                next_of_client(world, client)
            }
            false => Some(submission(world, None)),
        };
        if let Some(submission) = submission {
            world.submit(submission);
        }
    }
}

/// The next write of a client; none if it has no session.
fn next_of_client(world: &mut World, place: usize) -> Option<Submission> {
    let client = &mut world.clients[place];
    let session = client.session?;
    let sequence = client.next;
    client.next = Sequence(sequence.0 + 1);
    let floor = client.floor();
    let floor = floor.min(sequence);
    let asked = SubmissionOrigin {
        origin: Origin { session, sequence },
        floor,
        peer: client.peer,
    };
    let submission = submission(world, Some(asked));
    let client = &mut world.clients[place];
    client.open.insert(sequence, submission.clone());
    client.past.push_back(submission.clone());
    if client.past.len() > 8 {
        client.past.pop_front();
    }
    Some(submission)
}

/// A client sends again what was not answered, or what it should not.
fn send_again(world: &mut World) {
    let place = world.random.below(world.clients.len() as u64) as usize;
    let level = level(&mut world.random);
    let client = &mut world.clients[place];
    let again: Vec<Submission> = match world.random.below(8) {
        0 => client.past.iter().cloned().collect(),
        1 => client.past.back().cloned().into_iter().collect(),
        2 => {
            // It gives up the oldest, and never sends it again but for what is left over.
            client.open.pop_first();
            Vec::new()
        }
        _ => client.open.values().cloned().collect(),
    };
    for submission in again {
        world.submit(Submission {
            durability: Some(level),
            ..submission
        });
    }
}

fn submission(world: &mut World, origin: Option<SubmissionOrigin>) -> Submission {
    let there: Vec<_> = world.history.tip().namespaces().into_values().collect();
    let random = &mut world.random;
    let namespace = match there.is_empty() || random.chance(40) {
        true => NamespaceId(99),
        false => there[random.below(there.len() as u64) as usize],
    };
    Submission {
        namespace,
        operation: match random.chance(2) {
            true => newer::operation(random, world.history.tip(), namespace),
            false => operation(random),
        },
        origin,
        durability: Some(level(random)),
    }
}

fn level(random: &mut Random) -> Durability {
    match random.chance(4) {
        true => Durability::Sync,
        false => Durability::Buffered,
    }
}

pub fn key(random: &mut Random) -> Bytes {
    key_of(&format!("k{}", random.below(KEY_COUNT)))
}

/// Text that no other write has.
pub fn text(random: &mut Random) -> String {
    let length = match random.below(12) {
        0 => random.below(2500),
        _ => random.below(90),
    };
    let start = random.next();
    format!("{start:x}{}", "x".repeat(length as usize))
}

fn operation(random: &mut Random) -> Operation {
    match random.below(20) {
        0..=7 => Operation::Put {
            key: key(random),
            value: value_of(&text(random)),
        },
        8 | 9 => Operation::Delete { key: key(random) },
        10 => Operation::DeleteRange {
            start: key(random),
            end: random.chance(2).then(|| key(random)),
            count_max: random.below(4) as u32,
        },
        11..=13 => Operation::Increment {
            key: counter(random),
            by: match random.chance(10) {
                true => i64::MAX,
                false => random.below(100) as i64 - 50,
            },
        },
        14 | 15 => compare_and_set(random),
        _ => Operation::Batch {
            changes: changes(random),
        },
    }
}

fn counter(random: &mut Random) -> Bytes {
    match random.chance(10) {
        true => key(random),
        false => key_of(&format!("n{}", random.below(COUNTER_COUNT))),
    }
}

fn compare_and_set(random: &mut Random) -> Operation {
    let number = |random: &mut Random| int_payload(random.below(3) as i64);
    let expected = match random.below(3) {
        0 => None,
        1 => Some(number(random).into()),
        _ => Some(payload_of("other")),
    };
    let new = match random.below(3) {
        0 => None,
        _ => Some(stored::seal(&number(random), Compression::None).unwrap()),
    };
    Operation::CompareAndSet {
        key: counter(random),
        expected,
        new,
    }
}

pub fn changes(random: &mut Random) -> Vec<Change> {
    let one = |random: &mut Random| {
        let name = format!("k{}", random.below(KEY_COUNT));
        let text = (!random.chance(3)).then(|| text(random));
        change(&name, text.as_deref())
    };
    (0..random.below(6)).map(|_| one(random)).collect()
}

fn flush(world: &mut World) {
    let revision = world.committed();
    let flushed = world.store().flush(revision);
    world.note(60);
    match flushed {
        Err(error) if !world.disk.is_off() => world.expect_read_error(&error),
        Ok(position) if !world.disk.is_off() => {
            assert!(position.revision >= revision);
            world.history.is_durable_to(revision);
        }
        _ => {}
    }
}

fn open_or_close_session(world: &mut World) {
    drain_all(world);
    let place = world.random.below(world.clients.len() as u64) as usize;
    let (peer, session) = (world.clients[place].peer, world.clients[place].session);
    let known = session.filter(|id| world.store().session_known(*id, peer));
    match known {
        Some(id) if world.random.chance(3) => {
            let closed = world.store().close_session(id);
            event(world, closed, |()| What::Closed(id), || What::Closed(id));
        }
        Some(_) => {}
        None => {
            let opened = world.store().open_session(peer);
            let is_heard = !world.disk.is_off();
            let id = opened.as_ref().ok().copied();
            event(
                world,
                opened,
                |id| What::Opened(Some(id), peer),
                || What::Opened(None, peer),
            );
            let client = &mut world.clients[place];
            client.session = id.filter(|_| is_heard);
            client.next = Sequence(1);
            client.open.clear();
            client.past.clear();
            client.floor_max = Sequence(0);
            client.sent_max = Sequence(0);
        }
    }
}

fn grant_or_revoke(world: &mut World) {
    drain_all(world);
    let peer = PeerKey([100 + world.random.below(3) as u8; 32]);
    if world.random.chance(3) {
        let is_there = world.history.tip().grants.contains_key(&peer);
        let revoked = world.store().revoke(peer);
        if let Ok(was_there) = revoked {
            assert!(world.disk.is_off() || was_there == is_there);
            if !was_there {
                return;
            }
        }
        if is_there {
            let what = || What::Revoked(peer);
            let done = event(world, revoked, |_| what(), what);
            synced(world, done);
        }
        return;
    }
    let grant = Grant {
        peer,
        scope: "dict/default".to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: Some(world.random.below(1 << 40)),
        label: format!("{:x}", world.random.next()),
    };
    let granted = world.store().grant(grant.clone());
    let known = grant.clone();
    let done = event(
        world,
        granted,
        |()| What::Granted(known),
        || What::Granted(grant),
    );
    synced(world, done);
}

fn create_namespace(world: &mut World) {
    drain_all(world);
    let name = ["default", "prices", "users"][world.random.below(3) as usize];
    let content = changes(&mut world.random);
    make_namespace(world, name, content);
}

/// Makes a dictionary unless there is one of that name.
pub fn make_namespace(world: &mut World, name: &str, content: Vec<Change>) {
    let there = world.history.tip().namespaces();
    let first_free = there.values().map(|id| id.0 + 1).max().unwrap_or(0).max(16);
    let number = match (there.get(name), name) {
        (Some(number), _) => *number,
        (None, "default") => NamespaceId::DEFAULT,
        (None, _) => NamespaceId(first_free),
    };
    let is_new = !there.contains_key(name);
    let made = world.store().create_namespace(name, content.clone());
    world.say(|| format!("making {name} gives {made:?}"));
    if world.disk.is_off() || made.is_err() {
        if is_new {
            let what = catalog_entry(world, (name, number), content);
            event(
                world,
                made.map(|_| ()),
                |()| unreachable!("it failed"),
                || what,
            );
        }
        return;
    }
    assert_eq!(made.unwrap(), (number, is_new));
    if is_new {
        let revision = world.store().position().revision;
        let what = catalog_entry(world, (name, number), content);
        let entry = world.entry(what);
        world.history.done(Entry {
            revision: Some(revision),
            ..entry
        });
    }
    // One that was there is answered with what is durable of it.
    let committed = world.committed();
    world.history.is_durable_to(committed);
}

fn catalog_entry(world: &World, (name, number): (&str, NamespaceId), content: Vec<Change>) -> What {
    let value = stored::seal(&int_payload(i64::from(number.0)), Compression::None).unwrap();
    let entry = Change {
        key: key_of(name),
        value: Some(value),
    };
    let content = world.history.tip().last_changes(number, &content);
    let changes = [(NamespaceId::CATALOG, entry)].into_iter().chain(content);
    What::Wrote {
        changes: crate::leases::in_order(changes.collect()),
        asked: None,
        outcome: Ok(Outcome::Done),
    }
}

/// Keeps what came of a request that is no write; tells whether it was done.
fn event<T>(
    world: &mut World,
    result: Result<T, StoreError>,
    known: impl FnOnce(T) -> What,
    open: impl FnOnce() -> What,
) -> bool {
    world.say(|| {
        format!(
            "an event ends well: {}, {:?}",
            result.is_ok(),
            result.as_ref().err()
        )
    });
    match result {
        _ if world.disk.is_off() => {
            let entry = world.entry(open());
            world.history.maybe_done(entry);
        }
        Ok(given) => {
            let entry = world.entry(known(given));
            world.history.done(entry);
            return true;
        }
        Err(StoreError::OutcomeUnknown { .. }) => {
            let entry = world.entry(open());
            world.history.maybe_done(entry);
        }
        Err(error) => world.expect_read_error(&error),
    }
    false
}

/// What was answered last was synced, if somebody heard the answer.
fn synced(world: &mut World, is_done: bool) {
    if is_done {
        world.history.is_durable();
    }
}

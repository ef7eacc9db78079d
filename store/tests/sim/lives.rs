//! The lives of a store: opened, used, and ended in every way there is.

use std::path::{Path, PathBuf};

use objsync_proto::ids::Sequence;
use objsync_store::{Store, StoreError};

use crate::checks;
use crate::harness::disk::{Call, Fault, Planned};
use crate::harness::random::Random;
use crate::history::Loss;
use crate::work;
use crate::world::World;

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    Killed,
    Closed,
}

/// Runs everything that a seed says; gives a checksum of it.
pub fn run(seed: u64, directory: &Path) -> u64 {
    let mut world = World::new(seed, directory);
    let life_count = 2 + world.random.below(5);
    for _ in 0..life_count {
        live(&mut world);
        if world.is_over {
            return world.trace();
        }
    }
    open(&mut world);
    if !world.is_over {
        checks::look_at_everything(&mut world);
    }
    let _ = end(&mut world, End::Closed);
    world.trace()
}

fn live(world: &mut World) {
    if world.random.chance(3) {
        plan_faults(world);
    }
    if world.random.chance(8) {
        turn_a_bit(world);
    }
    open(world);
    if world.is_over {
        return;
    }
    if world.random.chance(2) {
        plan_faults(world);
    }
    let act_count = world.random.below(70);
    for _ in 0..act_count {
        if world.disk.is_off() {
            break;
        }
        work::act(world);
    }
    let chosen = match world.random.below(10) {
        0..=3 => End::Cut,
        4..=6 => End::Killed,
        _ => End::Closed,
    };
    let end = end(world, chosen);
    if end == End::Closed && world.random.chance(2) {
        let random = &mut world.random;
        world.disk.cut_power(random);
    }
}

/// Ends a life, as chosen or as the power says.
fn end(world: &mut World, chosen: End) -> End {
    let mut end = chosen;
    if end == End::Closed && !world.disk.is_off() {
        work::drain_all(world);
    }
    if end == End::Closed && !world.disk.is_off() && !close(world) {
        end = End::Killed;
    }
    if world.disk.is_off() {
        end = End::Cut;
    }
    world.say(|| format!("it ends: {end:?}, where {chosen:?} was chosen"));
    world.store().kill();
    world.forget_store();
    world.loss = loss(world, end);
    world.is_closed = end == End::Closed;
    world.home.crash(&mut world.random);
    if end == End::Cut {
        let random = &mut world.random;
        world.disk.cut_power(random);
    }
    recover(world);
    world.note(end as u64);
    end
}

/// Closes the store; tells whether it said so.
fn close(world: &mut World) -> bool {
    match world.store().close() {
        Ok(()) => {
            if !world.disk.is_off() {
                world.history.is_durable();
            }
            true
        }
        Err(error) => {
            if !world.disk.is_off() {
                world.expect_read_error(&error);
            }
            false
        }
    }
}

fn loss(world: &World, end: End) -> Loss {
    match end {
        End::Cut => Loss::Unsynced,
        // What a failed sync would have synced, the system may have forgotten.
        _ if world.disk.lost_sync_count() > 0 => Loss::Unsynced,
        _ => Loss::Nothing,
    }
}

/// Opens the store, through faults that may still be there.
fn open(world: &mut World) {
    if world.reads_are_wrong && !world.is_closed {
        world.loss = Loss::Tail;
    }
    for attempt in 0.. {
        assert!(attempt < 5, "the store does not open");
        let opened = Store::open(&world.directory, world.options());
        world.say(|| format!("opening gives {:?}", opened.as_ref().map(Store::position)));
        match opened {
            Ok(store) if !world.disk.is_off() => {
                world.store = Some(store);
                break;
            }
            Ok(store) => {
                store.kill();
            }
            Err(error) => expect_open_error(world, &error),
        }
        if world.disk.is_off() || world.random.chance(3) {
            if world.loss == Loss::Nothing {
                world.loss = Loss::Unsynced;
            }
            let random = &mut world.random;
            world.disk.cut_power(random);
        }
        if attempt > 0 {
            recover(world);
        }
    }
    recover(world);
    let committed = world.store().position().revision;
    world.is_over = world.history.is_beyond(committed, world.loss);
    if world.is_over {
        return;
    }
    settle(world);
    if world.is_over {
        return;
    }
    if world.history.visible().namespaces().is_empty() {
        work::make_namespace(world, "default", Vec::new());
    }
}

/// The disk does what it should again.
fn recover(world: &mut World) {
    world.disk.recover();
    world.is_faulty = false;
    world.reads_are_wrong = false;
}

fn settle(world: &mut World) {
    let position = world.store().position();
    assert!(
        position.epoch.number > world.epoch,
        "an epoch is used twice"
    );
    world.epoch = position.epoch.number;
    let store = world.store.take().expect("it was opened");
    let loss = std::mem::replace(&mut world.loss, Loss::Nothing);
    world.is_over = !world.history.settle(&store, loss);
    world.store = Some(store);
    if world.is_over {
        return;
    }
    world.begin_leases();
    world.disk.forget_lost_syncs();
    checks::settle_positions(world, position.revision, loss);
    checks::look_at_everything(world);
    for client in &mut world.clients {
        client.sent_max = Sequence(0);
    }
}

fn expect_open_error(world: &World, error: &StoreError) {
    if world.disk.is_off() {
        return;
    }
    match error {
        StoreError::Corrupt { .. } if world.reads_are_wrong => {}
        other => world.expect_error(other),
    }
}

/// Chooses what will go wrong.
fn plan_faults(world: &mut World) {
    world.is_faulty = true;
    if world.random.chance(2) {
        let calls = world.random.of_bits(3, 10);
        world.say(|| format!("the power goes after {calls} calls"));
        world.disk.stop_after(calls);
    }
    for _ in 0..world.random.below(3) {
        let planned = planned(&mut world.random);
        world.say(|| format!("{planned:?}"));
        world.reads_are_wrong |= planned.fault == Fault::FlippedBit;
        world.disk.plan(planned);
    }
    if world.random.chance(5) {
        let bytes = world.disk.bytes() + world.random.below(12_000);
        world.say(|| format!("the disk holds {bytes} bytes"));
        world.disk.limit(Some(bytes));
    }
}

fn planned(random: &mut Random) -> Planned {
    let call = match random.below(16) {
        0..=3 => Call::Sync,
        4..=7 => Call::Write,
        8 | 9 => Call::SyncDirectory,
        10 | 11 => Call::Read,
        12 => Call::Open,
        13 => Call::Rename,
        14 => Call::Remove,
        _ => Call::List,
    };
    Planned {
        call,
        after: random.of_bits(1, 7),
        stays: random.chance(3),
        then_off: random.chance(3).then(|| random.of_bits(0, 5)),
        fault: match call == Call::Read && random.chance(2) {
            true => Fault::FlippedBit,
            false => Fault::Error,
        },
    }
}

/// Turns a bit of one file while the store is not open. Whoever opens it then is told which file
/// is damaged, or reads what is right.
fn turn_a_bit(world: &mut World) {
    let files = world.disk.files("");
    if files.is_empty() || world.is_faulty {
        return;
    }
    let random = &mut world.random;
    let path = &files[random.below(files.len() as u64) as usize];
    let bytes = world.disk.read(path).expect("it was listed").len() as u64;
    if bytes == 0 {
        return;
    }
    let bit = random.below(8 * bytes);
    let turned = world.disk.turn_bit(path, bit);
    // Where the log was not closed, a bit that is wrong looks as a write that was torn.
    let may_be_torn = is_last_segment(&files, path) && !world.is_closed;
    world.say(|| format!("bit {bit} of {} is turned", path.display()));
    match Store::open(&world.directory, world.options()) {
        Ok(store) => {
            world.history.compare_damaged(&store, may_be_torn);
            store.kill();
            if may_be_torn {
                world.loss = Loss::Tail;
            }
        }
        Err(StoreError::Corrupt { path: found, .. }) => assert_eq!(found, *path),
        Err(error) => panic!("a turned bit of {} answers {error}", path.display()),
    }
    world.home.crash(&mut world.random);
    world.disk.turn_back(turned);
    world.is_closed = false;
}

fn is_last_segment(files: &[PathBuf], path: &Path) -> bool {
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|of| of == "seg");
    files
        .iter()
        .rfind(is_segment)
        .is_some_and(|last| last == path)
}

//! Time, and what ends by it: keys, leases, presence.

use objsync_proto::ids::{LeaseId, NamespaceId};
use objsync_proto::limits::IDLE_TIMEOUT_MS;
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::clock::Clock;
use objsync_store::{Answer, Keeper, Step, StoreError, Submission};

use crate::model::What;
use crate::work::drain_all;
use crate::world::World;

/// Time passes, or somebody sets a clock back.
pub fn pass(world: &mut World) {
    let ms = 1 << world.random.below(14);
    match world.random.chance(12) {
        true => world.clock.set_back(ms),
        false => world.clock.pass(ms),
    }
    world.look_at_clock();
}

/// Ends what has had its time: all of it, and nothing else.
pub fn expire(world: &mut World) {
    drain_all(world);
    if world.random.chance(2) {
        pass(world);
    }
    let monotonic_ms = world.clock.monotonic_ms();
    let is_due = |of: &(NamespaceId, LeaseId)| {
        let ends_ms = world.patience.get(of).copied();
        ends_ms.is_some_and(|ends_ms| ends_ms <= monotonic_ms)
    };
    let visible = world.history.visible();
    let lasting = visible
        .leases()
        .map(|(namespace, lease, _)| (namespace, lease));
    let leases: Vec<_> = lasting.filter(is_due).collect();
    let changes = visible.ended(world.owner_ms, &leases);
    world.ending.extend(leases);
    let ended = world.store().step(Step::Expire);
    world.note(Step::Expire as u64);
    world.say(|| format!("of {} changes, the end gives {ended:?}", changes.len()));
    let outcome = Ok(Outcome::Deleted(crate::leases::removed(&changes)));
    let what = What::Wrote {
        changes,
        asked: None,
        outcome,
    };
    let mut entry = world.entry(what);
    let is_something = entry.is_logged();
    match ended {
        _ if world.disk.is_off() => {
            if is_something {
                world.history.maybe_done(entry);
            }
        }
        Ok(has_ended) => {
            assert_eq!(has_ended, is_something, "{entry:?}");
            if is_something {
                entry.revision = Some(world.store().position().revision);
                world.history.done(entry);
            }
        }
        Err(StoreError::OutcomeUnknown { .. }) if is_something => world.history.maybe_done(entry),
        Err(error) => world.expect_read_error(&error),
    }
}

/// Somebody keeps a lease, or goes.
pub fn keep_or_leave(world: &mut World) {
    if world.random.chance(4) {
        world.leave();
        return;
    }
    let leases: Vec<_> = world.history.visible().leases().collect();
    if leases.is_empty() {
        return;
    }
    let place = world.random.below(leases.len() as u64) as usize;
    let (namespace, id, lease) = leases[place];
    let kept = world.keeper().keep(namespace, id);
    world.note(70);
    // Whose end was being decided when something failed is not kept any more.
    if world.disk.is_off() || world.ending.contains(&(namespace, id)) {
        return;
    }
    kept.expect("a lease that lasts can be kept");
    let ends_ms = match lease.presence {
        true => u64::MAX,
        false => world.clock.monotonic_ms() + lease.ttl_ms,
    };
    world.patience.insert((namespace, id), ends_ms);
}

impl World {
    /// A lease that is granted lasts from here on.
    pub fn granted(&mut self, submission: &Submission, answer: &Answer) {
        if let (Ok(Outcome::Lease(lease)), Operation::GrantLease { ttl_ms, presence }) =
            (&answer.outcome, &submission.operation)
        {
            let lasts_ms = lasts_ms(*ttl_ms, *presence);
            let ends_ms = self.clock.monotonic_ms() + lasts_ms;
            self.patience
                .insert((submission.namespace, *lease), ends_ms);
        }
    }

    /// The store was opened: every lease begins anew.
    pub fn begin_leases(&mut self) {
        let now_ms = self.clock.monotonic_ms();
        let lasting = self.history.visible().leases();
        self.patience = lasting
            .map(|(namespace, id, lease)| {
                let lasts_ms = lasts_ms(lease.ttl_ms, lease.presence);
                ((namespace, id), now_ms + lasts_ms)
            })
            .collect();
        self.ending.clear();
        self.owner_ms = self.store().time_ms();
    }

    /// The owner's time never runs backwards.
    pub fn look_at_clock(&mut self) {
        let now_ms = self.store().time_ms();
        assert!(now_ms >= self.owner_ms.max(self.clock.now_ms()));
        self.owner_ms = now_ms;
    }

    /// Who keeps leases of presence.
    pub fn keeper(&mut self) -> &Keeper {
        let store = self.store.as_ref().expect("the store is open");
        self.keeper.get_or_insert_with(|| store.keeper())
    }

    /// Whoever kept leases of presence goes.
    pub fn leave(&mut self) {
        self.keeper = None;
        let now_ms = self.clock.monotonic_ms();
        let kept = self.patience.values_mut();
        kept.filter(|ends_ms| **ends_ms == u64::MAX)
            .for_each(|ends_ms| *ends_ms = now_ms);
    }
}

/// How long a lease lasts that nobody keeps.
fn lasts_ms(ttl_ms: u64, presence: bool) -> u64 {
    match presence {
        true => IDLE_TIMEOUT_MS,
        false => ttl_ms,
    }
}

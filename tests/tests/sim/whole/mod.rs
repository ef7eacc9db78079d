//! The whole stack: clients and an owner as they ship, on one thread and on virtual time.

mod clock;
mod network;
mod peer;
mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::ids::NamespaceId;
use objsync_proto::key;
use objsync_proto::wire::KeyRange;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::network::Weather;
use self::peer::{Peer, Signals};
use self::site::{End, OWNER, Site};
use crate::checks::{self, Loss};
use crate::harness::disk::{Call, Fault, Planned};
use crate::harness::random::Random;
use crate::trace::Trace;
use crate::work::{State, number_in};

/// Long after everything should have come to rest.
const REST: Duration = Duration::from_secs(600);

/// What a seed is about.
#[derive(Debug, Clone, Copy)]
struct Plan {
    peers: usize,
    /// Some writes are answered before they are synced.
    buffered: bool,
    /// The power may go.
    cuts: bool,
    /// The disk may refuse.
    faults: bool,
    /// Sessions may be lost.
    forgetful: bool,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let buffered = random.chance(3);
        Self {
            peers: 2 + random.below(3) as usize,
            buffered,
            cuts: !buffered || random.chance(3),
            faults: random.chance(3),
            forgetful: random.chance(4),
        }
    }

    fn loss(self) -> Loss {
        match self.buffered && (self.cuts || self.faults) {
            true => Loss::Unsynced,
            false => Loss::Nothing,
        }
    }
}

/// Runs everything that a seed says, and judges it; gives a checksum of it.
pub fn run(seed: u64, directory: &Path) -> u64 {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let trace = Trace::new();
    runtime.block_on(async {
        clock::begin();
        let site = Site::new(seed, directory, &trace);
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        site.note(format_args!("{plan:?}"));
        let lived = timeout(REST, live(&site, plan, &mut random)).await;
        assert!(lived.is_ok(), "the world does not come to rest");
    });
    trace.hash()
}

async fn live(site: &Arc<Site>, plan: Plan, random: &mut Random) {
    site.open();
    tokio::spawn(site.network.clone().carry());
    tokio::spawn(Arc::clone(site).work());
    let signals = Arc::new(Signals::default());
    let peers: Vec<JoinHandle<State>> = (0..plan.peers)
        .map(|number| {
            site.grant(peer::secret(number));
            let peer = Peer::new(site, number, plan.buffered, random.next());
            tokio::spawn(peer.live(Arc::clone(&signals), plan.peers))
        })
        .collect();
    disturb(site, plan, random).await;
    signals.calm();
    let mut replicas = Vec::new();
    for peer in peers {
        replicas.push(peer.await.expect("a peer's task does not panic"));
    }
    let content = content(site);
    site.end(End::Closed).await;
    let state = checks::check(&site.history(), plan.loss());
    if site.keeps_all && plan.loss() == Loss::Nothing {
        checks::check_watches_go_on(&site.history());
    }
    assert_eq!(content, state, "what the owner holds");
    for replica in replicas {
        assert_eq!(replica, state, "what a replica holds");
    }
}

/// Breaks things until every peer has done its work, then mends everything.
async fn disturb(site: &Arc<Site>, plan: Plan, random: &mut Random) {
    let acts = 5 + random.below(25);
    for _ in 0..acts {
        sleep(Duration::from_millis(random.below(600))).await;
        match random.below(10) {
            0..4 => site.network.set_weather(Weather::draw(random)),
            4..6 => {
                let peer = peer::host(random.below(plan.peers as u64) as usize);
                let (from, to) = match random.chance(2) {
                    true => (peer, OWNER),
                    false => (OWNER, peer),
                };
                let is_cut = random.chance(2);
                site.note(format_args!("from {from} to {to} is cut: {is_cut}"));
                site.network.set_cut(from, to, is_cut);
                if random.chance(2) {
                    site.network.set_cut(to, from, is_cut);
                }
            }
            6 if plan.forgetful => site.forget(),
            6 => site.network.mend(),
            7 if plan.faults => plan_fault(site, plan, random),
            _ => restart(site, plan, random).await,
        }
    }
    site.network.mend();
    restart(site, plan, random).await;
}

async fn restart(site: &Arc<Site>, plan: Plan, random: &mut Random) {
    let end = match random.below(3) {
        0 => End::Closed,
        1 if plan.cuts => End::Cut,
        _ => End::Killed,
    };
    let end = if site.disk.is_off() { End::Cut } else { end };
    site.end(end).await;
    sleep(Duration::from_millis(random.below(1_500))).await;
    site.open();
}

fn plan_fault(site: &Arc<Site>, plan: Plan, random: &mut Random) {
    if plan.cuts && random.chance(2) {
        site.disk.stop_after(random.below(60));
        return;
    }
    let call = match random.chance(2) {
        true => Call::Sync,
        false => Call::Write,
    };
    let planned = Planned {
        after: random.below(10),
        stays: random.chance(3),
        ..Planned::next(call)
    };
    debug_assert_eq!(planned.fault, Fault::Error);
    site.note(format_args!("{planned:?}"));
    site.disk.plan(planned);
}

/// Everything that the owner holds.
fn content(site: &Site) -> State {
    let reader = site.store().expect("the owner is there").reader();
    let mut rest = KeyRange::default();
    let mut state = State::new();
    loop {
        let page = reader
            .page(NamespaceId::DEFAULT, &rest, false, 4 << 10)
            .unwrap();
        let Some(last) = page.last() else {
            return state;
        };
        rest.start = key::successor(&last.key);
        let numbers = page
            .iter()
            .map(|entry| (entry.key.clone(), number_in(&entry.value)));
        state.extend(numbers);
    }
}

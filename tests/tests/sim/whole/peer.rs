//! A program with a handle: it writes, reads and watches, is closed and opened again, and goes on.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use objsync::{Dict, Durability, ObjectError, Options, ReplicaMode, Surroundings, Target, Watch};
use objsync_proto::ids::Revision;
use objsync_proto::wire::KeyRange;
use objsync_proto::{key, value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::site::Site;
use crate::harness::random::Random;
use crate::history::{Read, Watched};
use crate::work::{Heard, State, Work, any_key, mark, told};

/// Handles of all peers, counted.
const HANDLES_PER_PEER: usize = 1_000;

/// The host of a peer.
pub fn host(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, number as u8 + 1))
}

/// The secret by which a peer proves itself.
pub fn secret(number: usize) -> [u8; 32] {
    [number as u8 + 1; 32]
}

/// One program.
pub struct Peer {
    site: Arc<Site>,
    number: usize,
    random: Random,
    durability: Option<Durability>,
    timeout: Duration,
    replica: ReplicaMode,
    /// What its watches follow.
    range: KeyRange,
    handle_count: usize,
    known: State,
    /// Where the next watch goes on.
    since: Option<Revision>,
    /// The number of the next call.
    next: i64,
}

/// A handle, which is closed before it is dropped: to drop it open would wait for virtual time.
struct Open {
    dict: ManuallyDrop<Dict>,
    number: usize,
    watching: Option<JoinHandle<Option<Revision>>>,
}

/// What the peers of a world wait for: that all is mended, and then for one another. All of it wakes
/// them in one order, which tokio's `watch` and `Barrier` do not.
#[derive(Default)]
pub struct Signals {
    is_calm: AtomicBool,
    arrived: AtomicUsize,
    moved: Notify,
}

impl Signals {
    /// All is mended, and stays so.
    pub fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// Waits until `count` peers have come here, in all.
    async fn gather(&self, count: usize) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_waiters();
        while self.arrived.load(Ordering::Relaxed) < count {
            self.moved.notified().await;
        }
    }
}

impl Peer {
    pub fn new(site: &Arc<Site>, number: usize, buffered: bool, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_buffered = buffered && random.chance(2);
        Self {
            site: Arc::clone(site),
            number,
            durability: is_buffered.then_some(Durability::Buffered),
            timeout: Duration::from_millis(300 + random.below(6_000)),
            replica: match random.chance(4) {
                true => ReplicaMode::None,
                false => ReplicaMode::Auto,
            },
            range: match random.below(3) {
                0 => key::str_prefix("a"),
                _ => KeyRange::default(),
            },
            handle_count: 0,
            known: State::new(),
            since: None,
            next: 1 + number as i64,
            random,
        }
    }

    /// Works until the world is calm, then looks at everything; gives what it holds.
    pub async fn live(mut self, signals: Arc<Signals>, peers: usize) -> State {
        let mut open = self.open().await;
        while !signals.is_calm.load(Ordering::Relaxed) {
            let pause = self.random.below(60);
            sleep(Duration::from_millis(pause)).await;
            match self.random.below(100) {
                0..45 => {
                    let work = match self.random.chance(8) {
                        true => Work::draw_move(&mut self.random),
                        false => Work::draw(&mut self.random, &self.known),
                    };
                    self.write(&open, work).await;
                }
                45..80 => self.read(&open, false).await,
                80..95 => self.read(&open, true).await,
                95 | 96 => {
                    self.close(open).await;
                    open = self.open().await;
                }
                97 => {
                    // The process dies: nobody hears of it from its host any more.
                    self.site.network.unplug(host(self.number));
                    self.note(format_args!("handle {} is dead", open.number));
                    self.close(open).await;
                    open = self.open().await;
                }
                _ => self.burst(&open).await,
            }
        }
        // Whatever happened, a write goes through now, and the watch ends with it; or with the next,
        // where it was told what a difference came to, which does not say whose it was.
        while !self.write(&open, Work::Mark).await || is_following(&open) {
            sleep(Duration::from_millis(100)).await;
        }
        signals.gather(peers).await;
        let state = self.hold(&open).await;
        if let Some(watching) = open.watching.take() {
            let _ = watching.await;
        }
        signals.gather(2 * peers).await;
        self.close(open).await;
        state
    }

    /// Everything that it holds, once it holds all there is.
    async fn hold(&mut self, open: &Open) -> State {
        let position = open.dict.sync().await;
        self.note(format_args!("{} is at {position:?}", open.number));
        let mut state = State::new();
        let mut scan = open
            .dict
            .scan_async(KeyRange::default(), false)
            .await
            .expect("nothing is in the way any more");
        loop {
            let page = scan.next_page_async().await.expect("the owner is there");
            if page.is_empty() {
                return state;
            }
            let numbers = page
                .into_iter()
                .map(|(key, payload)| (key, value::from_payload(&payload).unwrap()));
            state.extend(numbers);
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) -> u64 {
        self.site.note(what)
    }
}

impl Peer {
    async fn open(&mut self) -> Open {
        self.handle_count += 1;
        let number = self.number * HANDLES_PER_PEER + self.handle_count;
        let target = Target::Link(self.site.link(secret(self.number)));
        let options = Options {
            durability: self.durability,
            timeout: self.timeout,
            replica: self.replica,
            surroundings: Some(Surroundings {
                runtime: Handle::current(),
                network: self.site.network.host(host(self.number)),
            }),
            ..Options::default()
        };
        let dict = loop {
            match Dict::connect_async(&target, options.clone()).await {
                Ok(dict) => break ManuallyDrop::new(dict),
                Err(error) => self.note(format_args!("handle {number} is not opened: {error}")),
            };
        };
        self.note(format_args!("handle {number} is open"));
        self.known.clear();
        let watching = self.watch(&dict, number).await;
        Open {
            dict,
            number,
            watching,
        }
    }

    async fn close(&mut self, open: Open) {
        let closed = open.dict.close_async().await;
        self.note(format_args!("handle {} is closed: {closed:?}", open.number));
        if let Some(watching) = open.watching {
            // It may have been told a part of the last transaction: the next one is told it again.
            let last = watching.await.expect("a watch's task does not panic");
            self.since = last.map(|last| Revision(last.0 - 1));
        }
        drop(ManuallyDrop::into_inner(open.dict));
    }

    /// Asks for something; tells whether it was answered.
    async fn write(&mut self, open: &Open, work: Work) -> bool {
        let (number, place) = self.invoke(open, &work);
        let heard = work.call(number, &open.dict).await;
        self.returns(open, number, place, heard);
        heard.is_ok()
    }

    /// Starts several writes at once: they happen in the order in which they were started.
    async fn burst(&mut self, open: &Open) {
        let mut started = Vec::new();
        for _ in 0..2 + self.random.below(8) {
            let work = match self.random.chance(3) {
                true => Work::Delete(any_key(&mut self.random)),
                false => Work::Set(any_key(&mut self.random)),
            };
            let (number, place) = self.invoke(open, &work);
            started.push((number, place, work.begin(number, &open.dict).start()));
        }
        for (number, place, call) in started {
            let heard = told(call.await);
            self.returns(open, number, place, heard);
        }
    }

    fn invoke(&mut self, open: &Open, work: &Work) -> (i64, usize) {
        let number = self.next;
        // Apart from those of the other peers, and no step of a counter is like another.
        self.next += 10;
        let handle = open.number;
        let at = self.note(format_args!("{handle} asks {number}: {work:?}"));
        let is_synced = self.durability.is_none();
        let mut history = self.site.history();
        (
            number,
            history.invoke(handle, work.clone(), number, at, is_synced),
        )
    }

    fn returns(&self, open: &Open, number: i64, place: usize, heard: Heard) {
        let at = self.note(format_args!("{} hears of {number}: {heard:?}", open.number));
        self.site.history().returns(place, heard, at);
    }

    async fn read(&mut self, open: &Open, is_fresh: bool) {
        let handle = open.number;
        let barrier = match is_fresh {
            true => {
                let at = self.note(format_args!("{handle} asks for a barrier"));
                if open.dict.sync().await.is_err() {
                    return;
                }
                Some(at)
            }
            false => None,
        };
        for _ in 0..1 + self.random.below(4) {
            let key = any_key(&mut self.random);
            let invoked = self.note(format_args!("{handle} reads {key:?}"));
            let Ok(found) = open.dict.fetch(&key).await else {
                return;
            };
            let found: Option<i64> = found.map(|payload| value::from_payload(&payload).unwrap());
            self.note(format_args!("{handle} has read {found:?}"));
            match found {
                Some(number) => self.known.insert(key.clone(), number),
                None => self.known.remove(&key),
            };
            let read = Read {
                handle,
                key,
                invoked,
                found,
                barrier,
                is_partial: false,
            };
            self.site.history().reads.push(read);
        }
    }

    /// Begins to follow a family of keys, or all; goes on after what a watch before it was told.
    async fn watch(&mut self, dict: &Dict, handle: usize) -> Option<JoinHandle<Option<Revision>>> {
        let since = self.since.take();
        let watch = match dict.watch_async(self.range.clone(), since).await {
            Ok(watch) => watch,
            Err(error) => {
                self.note(format_args!(
                    "{handle} cannot watch since {since:?}: {error}"
                ));
                return None;
            }
        };
        let begun = self.note(format_args!("{handle} watches since {since:?}"));
        let watched = Watched {
            handle,
            range: self.range.clone(),
            since,
            begun,
            events: Vec::new(),
            gaps: Vec::new(),
            is_whole: false,
            failed: None,
        };
        let place = {
            let mut history = self.site.history();
            history.watches.push(watched);
            history.watches.len() - 1
        };
        Some(tokio::spawn(follow(Arc::clone(&self.site), watch, place)))
    }
}

fn is_following(open: &Open) -> bool {
    let watching = open.watching.as_ref();
    watching.is_some_and(|watching| !watching.is_finished())
}

/// Takes down what a watch tells, until it is closed, fails, or is told the mark of its own peer.
async fn follow(site: Arc<Site>, watch: Watch, place: usize) -> Option<Revision> {
    let mut last = None;
    loop {
        let event = match watch.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return last,
            Err(ObjectError::Gap(gap)) => {
                site.note(format_args!("watch {place}: {gap:?}"));
                let watched = &mut site.history().watches[place];
                watched.gaps.push((watched.events.len(), gap));
                continue;
            }
            Err(error) => {
                site.note(format_args!("watch {place} ends: {error}"));
                site.history().watches[place].failed = Some(error.kind());
                return None;
            }
        };
        let number: Option<i64> = event
            .value
            .map(|value| value::from_payload(&value).unwrap());
        let (revision, key) = (event.revision, event.key);
        let is_own = event.origin_is_self;
        site.note(format_args!(
            "watch {place}: {revision:?} {key:?} {number:?}, own: {is_own}"
        ));
        last = Some(revision);
        let is_mark = key == mark() && is_own;
        let watched = &mut site.history().watches[place];
        watched.events.push((revision, key, number));
        if is_mark {
            watched.is_whole = true;
            return last;
        }
    }
}

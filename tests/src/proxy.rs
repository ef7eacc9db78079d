//! A network that fails as told: a UDP proxy between real processes.
//!
//! Whoever sends to [`Proxy::address`] is carried to the target and back, each sender through a
//! socket of its own. What happens to each datagram is drawn from a seed, in the order in which they
//! come; how fast they come is up to the processes, so a run is like another, never the same.

use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// How often a thread that reads looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// Datagrams that wait for their time; more are dropped, as a router does.
const WAITING_MAX: usize = 10_000;
/// How long a datagram waits for room on a slow way.
const ROOM_WAIT_MAX: Duration = Duration::from_millis(200);

/// What the network does to datagrams, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How many of 1000 are lost.
    pub drop_permille: u32,
    /// How many of 1000 come twice.
    pub duplicate_permille: u32,
    /// How many of 1000 are held back for [`Faults::late`] more, so that later ones overtake them.
    pub late_permille: u32,
    /// For how long.
    pub late: Duration,
    /// How long each takes.
    pub delay: Duration,
    /// Longer ones are lost.
    pub datagram_bytes_max: usize,
    /// All are lost.
    pub is_cut: bool,
    /// All that the target answers are lost.
    pub is_mute: bool,
    /// How many bytes pass in a second, each way; those that would wait for longer than a router lets
    /// them are lost. None for as many as come.
    pub bytes_per_second: Option<u32>,
}

impl Faults {
    /// A network that does nothing wrong.
    pub const NONE: Self = Self {
        drop_permille: 0,
        duplicate_permille: 0,
        late_permille: 0,
        late: Duration::ZERO,
        delay: Duration::ZERO,
        datagram_bytes_max: DATAGRAM_BYTES_MAX,
        is_cut: false,
        is_mute: false,
        bytes_per_second: None,
    };
}

impl Faults {
    fn loses_all(&self, is_going_there: bool) -> bool {
        self.is_cut || (self.is_mute && !is_going_there)
    }
}

/// A proxy; its end cuts everybody off.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    target: SocketAddr,
    state: Mutex<State>,
    /// Told when a datagram begins to wait, and at the end.
    waiting_changed: Condvar,
    is_over: AtomicBool,
    lost: AtomicU64,
    carried_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    random: u64,
    count: u64,
    waiting: BinaryHeap<Waiting>,
    /// Until when a slow way to the target, and one from it, is taken.
    taken_until: [Instant; 2],
}

/// A datagram on its way.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// Among those due at once, the first to come goes first.
    number: u64,
    bytes: Vec<u8>,
    through: Arc<UdpSocket>,
    to: SocketAddr,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// The one due first is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl Proxy {
    /// Carries datagrams to `target`, without faults at first.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub fn start(target: SocketAddr, seed: u64) -> io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        front.set_read_timeout(Some(LOOK))?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            front,
            target,
            state: Mutex::new(State {
                faults: Faults::NONE,
                random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                count: 0,
                waiting: BinaryHeap::new(),
                taken_until: [Instant::now(); 2],
            }),
            waiting_changed: Condvar::new(),
            is_over: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            carried_bytes: AtomicU64::new(0),
        });
        let (reader, sender) = (Arc::clone(&shared), Arc::clone(&shared));
        std::thread::spawn(move || reader.carry_there());
        std::thread::spawn(move || sender.send_when_due());
        Ok(Self { shared, address })
    }

    /// Where to send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network does this.
    pub fn set(&self, faults: Faults) {
        self.shared.state().faults = faults;
    }

    /// How many datagrams were lost, by any fault.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Bytes of all datagrams that were not lost, in both directions.
    #[must_use]
    pub fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.waiting_changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Reads what clients send, and opens a way to the target for each.
    fn carry_there(self: Arc<Self>) {
        let Ok(front) = self.front.try_clone().map(Arc::new) else {
            return;
        };
        let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.is_over() {
            let Ok((count, client)) = self.front.recv_from(&mut buffer) else {
                continue;
            };
            let way = match ways.get(&client) {
                Some(way) => Arc::clone(way),
                None => {
                    let Ok(way) = self.open_way(client, Arc::clone(&front)) else {
                        continue;
                    };
                    ways.insert(client, Arc::clone(&way));
                    way
                }
            };
            self.take(&buffer[..count], &way, self.target);
        }
    }

    fn open_way(
        self: &Arc<Self>,
        client: SocketAddr,
        front: Arc<UdpSocket>,
    ) -> io::Result<Arc<UdpSocket>> {
        let way = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        way.set_read_timeout(Some(LOOK))?;
        let (shared, back) = (Arc::clone(self), Arc::clone(&way));
        std::thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while !shared.is_over() {
                if let Ok(count) = back.recv(&mut buffer) {
                    shared.take(&buffer[..count], &front, client);
                }
            }
        });
        Ok(way)
    }

    /// Decides what becomes of a datagram.
    fn take(&self, bytes: &[u8], through: &Arc<UdpSocket>, to: SocketAddr) {
        let mut state = self.state();
        let faults = state.faults;
        let is_lost = state.chance(faults.drop_permille) || faults.loses_all(to == self.target);
        let copies = 1 + u32::from(state.chance(faults.duplicate_permille));
        let is_full = state.waiting.len() >= WAITING_MAX;
        let passes = state.passes(bytes.len(), usize::from(to == self.target));
        let (Some(passes), false) = (passes, is_lost || is_full) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.carried_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        for _ in 0..copies {
            let late = state.chance(faults.late_permille);
            let delay = faults.delay + if late { faults.late } else { Duration::ZERO };
            state.count += 1;
            let waiting = Waiting {
                due: passes + delay,
                number: state.count,
                bytes: bytes.to_vec(),
                through: Arc::clone(through),
                to,
            };
            state.waiting.push(waiting);
        }
        self.waiting_changed.notify_one();
    }

    fn send_when_due(&self) {
        let mut state = self.state();
        while !self.is_over() {
            let now = Instant::now();
            let due = state.waiting.peek().map(|next| next.due);
            if due.is_some_and(|due| due <= now)
                && let Some(next) = state.waiting.pop()
            {
                drop(state);
                // One that the kernel refuses is lost, as on any network.
                if next.through.send_to(&next.bytes, next.to).is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                state = self.state();
                continue;
            }
            let wait = due.map_or(LOOK, |due| due - now).min(LOOK);
            let waited = self.waiting_changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// When a datagram has passed one of the ways; none if it is too long or finds no room.
    fn passes(&mut self, bytes: usize, way: usize) -> Option<Instant> {
        if bytes > self.faults.datagram_bytes_max {
            return None;
        }
        let now = Instant::now();
        let Some(bytes_per_second) = self.faults.bytes_per_second else {
            return Some(now);
        };
        let from = self.taken_until[way].max(now);
        if from > now + ROOM_WAIT_MAX {
            return None;
        }
        let takes = Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second));
        self.taken_until[way] = from + takes;
        Some(self.taken_until[way])
    }

    /// Whether something happens that happens so often of 1000 times (xorshift64*).
    fn chance(&mut self, permille: u32) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        drawn % 1000 < u64::from(permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Sends numbers through a proxy with faults to a target that sends them back, and after them,
    /// without faults, one that ends it; tells what came back before that.
    fn returned(faults: Faults, count: u8) -> (Vec<u8>, u64) {
        let target = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap(), 7).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for socket in [&target, &client] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        proxy.set(faults);
        for number in 0..count {
            let mut datagram = vec![0; 1 + usize::from(number)];
            datagram[0] = number;
            client.send_to(&datagram, proxy.address()).unwrap();
        }
        // Each was taken or lost before the network heals.
        let taken = || proxy.shared.state().count + proxy.lost();
        let deadline = Instant::now() + DEADLINE;
        while taken() < count.into() || !proxy.shared.state().waiting.is_empty() {
            assert!(Instant::now() < deadline, "the proxy hangs");
            std::thread::yield_now();
        }
        proxy.set(Faults::NONE);
        let lost = proxy.lost();
        client.send_to(&[u8::MAX], proxy.address()).unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            loop {
                let (count, from) = target.recv_from(&mut buffer).unwrap();
                target.send_to(&buffer[..count], from).unwrap();
                if buffer[0] == u8::MAX {
                    return;
                }
            }
        });
        let mut back = Vec::new();
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            client.recv(&mut buffer).unwrap();
            if buffer[0] == u8::MAX {
                echo.join().unwrap();
                return (back, lost);
            }
            back.push(buffer[0]);
        }
    }

    #[test]
    fn datagrams_without_faults_come_back_in_order() {
        let (back, lost) = returned(Faults::NONE, 100);
        assert_eq!(back, (0..100).collect::<Vec<u8>>());
        assert_eq!(lost, 0);
    }

    #[test]
    fn datagrams_are_lost_and_come_twice_as_often_as_told() {
        let faults = Faults {
            drop_permille: 300,
            ..Faults::NONE
        };
        let (back, lost) = returned(faults, 120);
        assert_eq!(back.len() as u64 + lost, 120);
        assert!((10..90).contains(&lost), "{lost}");
        let faults = Faults {
            duplicate_permille: 300,
            ..Faults::NONE
        };
        let (back, _) = returned(faults, 120);
        assert!((130..200).contains(&back.len()), "{}", back.len());
    }

    #[test]
    fn late_datagrams_are_overtaken() {
        let faults = Faults {
            late_permille: 300,
            late: Duration::from_millis(20),
            ..Faults::NONE
        };
        let (mut back, lost) = returned(faults, 100);
        assert_eq!((back.len(), lost), (100, 0));
        assert!(!back.is_sorted());
        back.sort_unstable();
        assert_eq!(back, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn long_datagrams_are_lost_and_a_cut_loses_all() {
        let faults = Faults {
            datagram_bytes_max: 50,
            ..Faults::NONE
        };
        assert_eq!(returned(faults, 100).0.len(), 50);
        let faults = Faults {
            is_cut: true,
            ..Faults::NONE
        };
        assert_eq!(returned(faults, 100), (Vec::new(), 100));
    }

    #[test]
    fn slow_way_holds_datagrams_back_and_loses_those_without_room() {
        let faults = Faults {
            bytes_per_second: Some(20_000),
            ..Faults::NONE
        };
        let (back, lost) = returned(faults, 120);
        assert!(lost > 0 && back.is_sorted(), "{lost}");
        assert_eq!(back.len() as u64 + lost, 120);
    }

    #[test]
    fn answers_of_a_mute_target_are_lost_and_nothing_else() {
        let faults = Faults {
            is_mute: true,
            ..Faults::NONE
        };
        assert!(faults.loses_all(false) && !faults.loses_all(true));
        assert!(!Faults::NONE.loses_all(false));
    }
}

//! A network between the hosts of one world: it loses, doubles, delays, reorders and swallows
//! packets, and can be cut between any two hosts, one way too, all as one seed says.
//!
//! It carries datagrams for QUIC as a kernel would; time is the runtime's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use objsync_server::Network;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::clock;
use crate::harness::disk::SimDisk;
use crate::harness::random::Random;
use crate::trace::Trace;

/// What packets meet.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of a thousand packets, so many are lost.
    pub lost: u64,
    /// Of a thousand, so many come twice.
    pub doubled: u64,
    pub delay_ms: u64,
    /// Each is late by up to so much more, so that later ones overtake it.
    pub jitter_ms: u64,
    /// Longer ones are swallowed.
    pub bytes_max: usize,
}

impl Weather {
    pub const FAIR: Self = Self {
        lost: 0,
        doubled: 0,
        delay_ms: 1,
        jitter_ms: 0,
        bytes_max: 1500,
    };

    pub fn draw(random: &mut Random) -> Self {
        Self {
            lost: [0, 10, 50, 200][random.below(4) as usize],
            doubled: [0, 20, 200][random.below(3) as usize],
            delay_ms: 1 + random.below(20),
            jitter_ms: [0, 2, 30][random.below(3) as usize],
            // No path of QUIC's may carry less than 1,200 bytes.
            bytes_max: 1_200 + random.below(300) as usize,
        }
    }
}

/// The network; clones are the same one.
#[derive(Clone)]
pub struct SimNetwork {
    wires: Arc<Mutex<Wires>>,
    sent: Arc<Notify>,
}

struct Wires {
    random: Random,
    trace: Trace,
    weather: Weather,
    /// From the one host to the other nothing comes.
    cut: BTreeSet<(IpAddr, IpAddr)>,
    sockets: BTreeMap<SocketAddr, Arc<Mailbox>>,
    flying: BTreeMap<(Instant, u64), Packet>,
    /// A host whose power goes with a disk's.
    powered: Option<(IpAddr, SimDisk)>,
    packet_count: u64,
    port_count: u16,
    seed_count: u64,
}

#[derive(Clone)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Mailbox(Mutex<(VecDeque<Packet>, Option<Waker>)>);

impl SimNetwork {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let wires = Wires {
            random: Random::new(seed ^ 0x0e7),
            trace,
            weather: Weather::FAIR,
            cut: BTreeSet::new(),
            sockets: BTreeMap::new(),
            flying: BTreeMap::new(),
            powered: None,
            packet_count: 0,
            port_count: 40_000,
            seed_count: 0,
        };
        Self {
            wires: Arc::new(Mutex::new(wires)),
            sent: Arc::new(Notify::new()),
        }
    }

    /// The network as one host has it.
    pub fn host(&self, host: IpAddr) -> Arc<dyn Network> {
        let network = self.clone();
        Arc::new(SimHost { host, network })
    }

    /// From a host without power nothing comes, and it has as much as its disk.
    pub fn set_power(&self, host: IpAddr, disk: SimDisk) {
        self.wires().powered = Some((host, disk));
    }

    pub fn set_weather(&self, weather: Weather) {
        self.wires().weather = weather;
    }

    /// Cuts or mends the way from one host to another, not the way back.
    pub fn set_cut(&self, from: IpAddr, to: IpAddr, is_cut: bool) {
        let mut wires = self.wires();
        match is_cut {
            true => wires.cut.insert((from, to)),
            false => wires.cut.remove(&(from, to)),
        };
    }

    /// Everything is mended, and nothing is lost from here on.
    pub fn mend(&self) {
        let mut wires = self.wires();
        wires.cut.clear();
        wires.weather = Weather::FAIR;
    }

    /// The host is gone: its sockets neither send nor receive, and their ports are free.
    pub fn unplug(&self, host: IpAddr) {
        self.wires()
            .sockets
            .retain(|address, _| address.ip() != host);
    }

    /// Delivers packets when they are due, for ever.
    pub async fn carry(self) {
        loop {
            let due = self.wires().flying.keys().next().map(|(due, _)| *due);
            let arrival = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                () = arrival => self.deliver(),
                () = self.sent.notified() => {}
            }
        }
    }

    fn deliver(&self) {
        let mut wires = self.wires();
        let now = Instant::now();
        while let Some(first) = wires.flying.first_entry()
            && first.key().0 <= now
        {
            let packet = first.remove();
            if let Some(mailbox) = wires.sockets.get(&packet.to) {
                let mut held = mailbox.0.lock().unwrap();
                held.0.push_back(packet);
                if let Some(waker) = held.1.take() {
                    waker.wake();
                }
            }
        }
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap()
    }
}

impl Wires {
    fn send(&mut self, packet: Packet) {
        let Weather {
            lost,
            doubled,
            delay_ms,
            jitter_ms,
            bytes_max,
        } = self.weather;
        let bytes = packet.bytes.len();
        let is_cut = self.cut.contains(&(packet.from.ip(), packet.to.ip()));
        let is_off = |(host, disk): &(IpAddr, SimDisk)| packet.from.ip() == *host && disk.is_off();
        let is_off = self.powered.as_ref().is_some_and(is_off);
        let is_lost = self.random.below(1000) < lost || is_cut || is_off || bytes > bytes_max;
        let copies = match is_lost {
            true => 0,
            false => 1 + u64::from(self.random.below(1000) < doubled),
        };
        self.trace.note(
            clock::now_ms(),
            format_args!(
                "{} to {}: {bytes} bytes, {copies} arrive",
                packet.from, packet.to
            ),
        );
        for _ in 0..copies {
            let late_ms = delay_ms + self.random.below(jitter_ms + 1);
            let due = Instant::now() + Duration::from_millis(late_ms);
            self.packet_count += 1;
            self.flying.insert((due, self.packet_count), packet.clone());
        }
    }
}

struct SimHost {
    host: IpAddr,
    network: SimNetwork,
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.host)
    }
}

impl Network for SimHost {
    fn bind(&self, mut address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let mut wires = self.network.wires();
        address.set_ip(self.host);
        if address.port() == 0 {
            wires.port_count += 1;
            address.set_port(wires.port_count);
        }
        if wires.sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mailbox = Arc::new(Mailbox::default());
        wires.sockets.insert(address, Arc::clone(&mailbox));
        Ok(Arc::new(SimSocket {
            address,
            mailbox,
            network: self.network.clone(),
        }))
    }

    fn seed(&self) -> Option<[u8; 32]> {
        let mut wires = self.network.wires();
        wires.seed_count += 1;
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&wires.seed_count.to_le_bytes());
        seed[8..16].copy_from_slice(&wires.random.next().to_le_bytes());
        Some(seed)
    }
}

struct SimSocket {
    address: SocketAddr,
    mailbox: Arc<Mailbox>,
    network: SimNetwork,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.address)
    }
}

impl SimSocket {
    /// Whether this is still the socket of its address.
    fn is_plugged(&self, wires: &Wires) -> bool {
        let there = wires.sockets.get(&self.address);
        there.is_some_and(|there| Arc::ptr_eq(there, &self.mailbox))
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut wires = self.network.wires();
        if self.is_plugged(&wires) {
            wires.sockets.remove(&self.address);
        }
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut wires = self.network.wires();
        if self.is_plugged(&wires) {
            let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
            for bytes in transmit.contents.chunks(segment.max(1)) {
                wires.send(Packet {
                    from: self.address,
                    to: transmit.destination,
                    ecn: transmit.ecn,
                    bytes: bytes.to_vec(),
                });
            }
        }
        drop(wires);
        self.network.sent.notify_one();
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.mailbox.0.lock().unwrap();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(packet) = held.0.pop_front() else {
                break;
            };
            let bytes = packet.bytes.len();
            buffer[..bytes].copy_from_slice(&packet.bytes);
            *meta = RecvMeta {
                addr: packet.from,
                len: bytes,
                stride: bytes,
                ecn: packet.ecn,
                dst_ip: None,
            };
            count += 1;
        }
        if count == 0 {
            held.1 = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The network takes every packet at once, if only to lose it.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

//! Serves an objsync store to its peers: a QUIC endpoint, sessions, the feed, links, and the Unix
//! socket by which processes on the same machine find the owner.
//!
//! A write arrives in `connection`, goes to `Store::submit`, and its answer goes back on the
//! same stream; the store's feed wakes each subscription, which reads on from its own cursor and
//! sends what is new. Nothing here decides a write, and nothing blocks the I/O thread on a disk.
//!
//! | module | what it knows |
//! |---|---|
//! | [`server`] | starting, asking, and shutting down |
//! | `listen`, `connection`, `peer` | the door, one connection, who is at its other end |
//! | `write`, `session`, `request` | what a peer can ask, one function each |
//! | `past`, `pasts` | what a peer can ask of the past, and which revisions of it are held open |
//! | `feed`, `fetch`, `streams`, `barriers` | what a peer is sent without asking again |
//! | `digests`, `comparison` | what a peer that was away too long holds, and what of it differs |
//! | `commits` | word to all subscriptions that there is something new |
//! | `replicate` | the log, as it is sent to a follower |
//! | [`follow`] | the follower: its copy, and what it passes on to its source |
//! | `rights`, `refusals` | who may do what, and log lines about who may not |
//! | [`closing`] | why a connection was closed |
//! | [`identity`] | the key in the store's directory |
//! | [`tls`], [`certificate`], [`transport`] | how two peers know each other, and QUIC's settings |
//! | [`dial`](mod@dial) | the client's end of a connection |
//! | [`network`] | where QUIC's packets go |
//! | [`local`] | the Unix socket |
//! | [`inherited`] | what a forked child must close |
//! | [`error`] | why a call failed |

mod answers;
mod barriers;
pub mod certificate;
mod chunks;
pub mod closing;
mod commits;
mod comparison;
mod connection;
pub mod dial;
mod digests;
pub mod error;
mod feed;
mod feed_stream;
mod fetch;
pub mod follow;
mod frames;
pub mod identity;
pub mod inherited;
mod known;
mod leases;
mod letting;
mod listen;
pub mod local;
mod named;
pub mod network;
mod pages;
mod past;
mod pasts;
mod peer;
mod refusals;
mod replicate;
mod request;
mod rights;
pub mod server;
mod serving;
mod session;
mod streams;
pub mod tls;
pub mod transport;
mod uploads;
mod write;

pub use dial::dial;
pub use error::ServerError;
pub use follow::{FollowOptions, Follower, Upstream};
pub use identity::Identity;
pub use leases::Unlocks;
pub use network::{Network, Udp};
pub use server::{ServeOptions, Server};
pub use tls::SeenServer;
pub use transport::{client_config, server_config};

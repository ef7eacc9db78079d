//! Serves an objsync store to its peers: a QUIC endpoint, sessions, the feed, links, and the Unix
//! socket by which processes on the same machine find the owner.
//!
//! A write arrives in [`connection`], goes to `Store::submit`, and its answer goes back on the
//! same stream; the store's feed wakes each subscription, which reads on from its own cursor and
//! sends what is new. Nothing here decides a write, and nothing blocks the I/O thread on a disk.
//!
//! | module | what it knows |
//! |---|---|
//! | [`server`] | starting, asking, and shutting down |
//! | [`identity`] | the key in the store's directory |
//! | [`tls`], [`certificate`], [`transport`] | how two peers know each other, and QUIC's settings |
//! | [`local`] | the Unix socket |
//! | [`spin`] | staying awake for a moment after traffic |
//! | [`inherited`] | what a forked child must close |
//! | [`error`] | why a call failed |

pub mod certificate;
pub mod error;
pub mod identity;
pub mod inherited;
pub mod local;
pub mod server;
pub mod spin;
pub mod tls;
pub mod transport;

pub use error::ServerError;
pub use identity::Identity;
pub use server::{ServeOptions, Server};
pub use tls::SeenServer;
pub use transport::{client_config, client_endpoint_config, server_config};

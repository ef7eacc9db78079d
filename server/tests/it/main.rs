//! A served store and peers that talk to it over loopback, frame by frame.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chunks;
mod dictionaries;
mod differences;
mod doors;
mod follow;
mod follow_disk;
mod follow_rights;
mod follow_sources;
mod followers;
mod hostile;
mod leases;
mod lifecycle;
mod memory;
mod parts;
mod past;
mod peer;
mod piped;
mod random;
mod replicas;
mod requests;
mod stalled;
mod subscriptions;
mod writes;

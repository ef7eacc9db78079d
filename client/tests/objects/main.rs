//! Objects as programs use them: through one process, two, or eight that race.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that cannot go on stops"
)]

mod children;
mod compressed;
mod copies;
mod following;
mod fork;
mod fresh;
mod gaps;
mod giant;
mod handover;
mod held_up;
mod large;
mod large_peer;
mod large_scan;
mod large_stored;
mod large_watch;
mod leases;
mod locks;
mod model;
mod offline;
mod open;
mod outcome;
mod past;
mod peer;
mod promotion;
mod roles;
mod sharing;
mod snapshots;
mod told;
mod transactions;
mod watching;

//! Objects as programs use them: through one process, two, or eight that race.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that cannot go on stops"
)]

mod children;
mod following;
mod fork;
mod model;
mod open;
mod past;
mod peer;
mod promotion;
mod sharing;
mod watching;

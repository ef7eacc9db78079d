//! Stores that earlier builds wrote, opened by this one.
//!
//! Goal: what lies on somebody's disk is read by every later build. Method: `tests/compat/` holds
//! stores as files, each beside a listing of what is in it; a copy of each is checked, read,
//! asked again, written to and reopened. `make compat-store` writes them anew with this build,
//! which is right only before the format is frozen, or for a new format beside the old ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod golden;
mod listing;
mod open;
mod settings;
mod write;

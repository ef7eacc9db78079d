//! Surroundings that fail: full disks, file systems that turn read-only, limits, missing folders.
//!
//! Goal: in each of them a write answers a typed error or is done, what was acknowledged is there
//! afterwards, and reads go on. Method: the program itself, on file systems that a test mounts in
//! a mount namespace of its own. What a test needs and does not get, it names and fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod full;
mod limit;
mod missing;
mod mounts;
#[path = "../program/mod.rs"]
mod program;
mod readonly;
mod writing;

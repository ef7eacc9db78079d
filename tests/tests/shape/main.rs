//! The project's own files keep the rules that CONTRIBUTING.md states.

// What these tests share is part of the tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod arrows;
mod limits;
mod promises;
mod readme;
mod style;
mod trails;

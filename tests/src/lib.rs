//! Tests that need more than one crate: real processes, faults, and the shape of the project.
//!
//! `tests/shape` reads the project's own files: arrows between crates, trails in the docs, limits,
//! style. `tests/python` is run by pytest. This library holds what they share about the tree, the
//! [`checkers`] of recorded histories, a [`proxy`] that is a bad network, and the README's Rust,
//! which `cargo test` runs as a documentation test.

pub mod checkers;
pub mod clock;
pub mod proxy;
pub mod tree;

/// The README's Rust code blocks, run as documentation tests.
#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
pub struct Readme;

/// The Rust of the page on Rust, run as documentation tests.
#[doc = include_str!("../../docs/how-to/rust.md")]
#[cfg(doctest)]
pub struct HowToRust;

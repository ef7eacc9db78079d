//! The project's own files keep the rules that CONTRIBUTING.md states.

mod arrows;
mod limits;
mod readme;
mod style;
mod trails;

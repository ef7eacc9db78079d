//! Judges of what was recorded: whatever ran, simulated or in real processes, the same checkers look
//! at its history.
//!
//! A [`History`] is what each process asked and was answered, what each watch was told, what each
//! replica held at the end, and, read from the store afterwards, the transactions in the order of
//! their revisions. That order is given, so nothing is searched for: [`Order`] says which call made
//! which transaction, and the checkers replay it.
//!
//! | checker | rejects |
//! |---|---|
//! | [`once::check`] | an effect that nobody asked for or that came twice; an answered one that is missing |
//! | [`linear::check`] | an answer that the order does not give; an order against real time or a session's own |
//! | [`reads::check`] | a value that was never there, is older than its reader may see, or from the future |
//! | [`watch::check_ordered`] and its kin | what one of the six guarantees of a watch excludes |
//! | [`replicas::check`] | replicas that differ from each other or from the order |
//! | [`locks::check`] | fences that do not grow, two holders at once, a write with an old fence accepted |
//!
//! A fault is an error with the name of the guarantee; the caller adds the seed.

pub mod history;
pub mod linear;
pub mod locks;
pub mod model;
pub mod once;
pub mod reads;
pub mod replicas;
pub mod watch;

#[cfg(test)]
mod samples;

use std::fmt;

pub use history::{
    Call, Commit, Fenced, History, Hold, Op, Outcome, Range, Record, Replica, Seen, State, Stream,
};
pub use once::Order;

/// A guarantee that a history breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which guarantee.
    pub guarantee: &'static str,
    /// What breaks it.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.what)
    }
}

impl std::error::Error for Fault {}

/// What a checker says: nothing, or the first fault it found.
pub type Verdict<T = ()> = Result<T, Fault>;

pub(crate) fn fault<T>(guarantee: &'static str, what: impl Into<String>) -> Verdict<T> {
    Err(Fault {
        guarantee,
        what: what.into(),
    })
}

/// Runs every checker.
///
/// # Errors
/// The first fault that one of them finds.
pub fn check(history: &History) -> Verdict {
    let order = once::check(history)?;
    linear::check(history, &order)?;
    reads::check(history, &order)?;
    watch::check(history)?;
    replicas::check(history)?;
    locks::check(history)
}

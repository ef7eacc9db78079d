//! Exactly once: the client's side of a session, and the results that an owner keeps of it.
//!
//! A session numbers its writes. The client repeats what was not answered, after a cut, a restart
//! or a change of owner, under the same number; the owner runs a number once and answers a repeat
//! with the first result. Both sides are pure: events and time in, frames and completions out.
//!
//! Trail: `client::Dict::set` -> [`ClientSession::submit`] -> [`ClientSession::transmit`] -> wire ->
//! `store` -> [`Results::check`], [`Results::record`] -> wire -> [`ClientSession::answered`].

mod client;
mod results;

pub use client::{CallId, ClientSession, Completion, Late, TakeOver, Unanswered};
pub use results::{Check, Recorded, Results};

use crate::limits::SESSION_IDLE_MS;

/// Whether a session that was last used then has ended by now.
#[must_use]
pub fn is_idle(last_used_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(last_used_ms) >= SESSION_IDLE_MS
}

#[cfg(test)]
mod tests;

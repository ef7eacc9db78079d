//! Log lines about peers that are turned away, few enough that a flood of them is no attack on
//! the log.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use objsync_proto::ids::PeerKey;
use tokio::time::Instant;
use tracing::warn;

const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Writes at most [`LINES_MAX`] lines in each [`WINDOW`], and says how many it left out.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Window>);

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Window {
            start: now,
            lines: 0,
            left_out: 0,
        }))
    }

    /// Logs that a peer was turned away, and why. The key is what it proved to hold, if it got
    /// that far.
    pub(crate) fn note(&self, address: SocketAddr, key: Option<PeerKey>, reason: &str) {
        if let Some(left_out) = self.admit(Instant::now()) {
            let key = key.map_or_else(|| "none".to_owned(), |key| key.to_string());
            warn!(%address, %key, %reason, left_out, "peer turned away");
        }
    }

    /// How many lines were left out before this one; none when this one is to be left out too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.start) >= WINDOW {
            window.start = now;
            window.lines = 0;
        }
        if window.lines == LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_cut_and_counted() {
        let start = Instant::now();
        let refusals = Refusals::new(start);
        let written = (0..100).filter(|_| refusals.admit(start).is_some()).count();
        assert_eq!(written, LINES_MAX as usize);
        let later = start + WINDOW;
        assert_eq!(refusals.admit(later), Some(100 - u64::from(LINES_MAX)));
        assert_eq!(refusals.admit(later), Some(0));
    }
}

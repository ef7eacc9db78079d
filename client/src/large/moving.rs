//! Whether chunks move, and for how long somebody waits for them.
//!
//! A window of chunks takes a moment on one link and a minute on another, so no fixed time says that it
//! will not come. Who waits goes on for as long as bytes move, those of other windows too, behind which
//! its own stand in line; and it gives up in the end on a peer that sends just enough to be waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use objsync_proto::limits::LINK_BYTES_PER_SECOND_MIN;

use crate::core::Core;

/// Bytes that have moved in one direction, for all large values of a handle.
#[derive(Debug, Default)]
pub(crate) struct Moved(AtomicU64);

impl Moved {
    /// So many more have.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a future gives, as long as bytes move: none once fewer than the slowest link carries have in
/// the handle's timeout, or so many bytes as are waited for would have come over such a link.
pub(super) async fn while_moving<T>(
    core: &Core,
    moved: &Moved,
    bytes: u64,
    future: impl Future<Output = T>,
) -> Option<T> {
    let timeout = core.config.options.timeout;
    let moving = async {
        let mut future = std::pin::pin!(future);
        let mut before = moved.bytes();
        loop {
            if let Some(value) = core.within(timeout, future.as_mut()).await {
                return Some(value);
            }
            let now = moved.bytes();
            if now.saturating_sub(before) < least_bytes(timeout) {
                return None;
            }
            before = now;
        }
    };
    core.within(longest(timeout, bytes), moving).await.flatten()
}

/// The longest that so many bytes may take.
pub(super) fn longest(timeout: Duration, bytes: u64) -> Duration {
    timeout.saturating_add(Duration::from_secs(bytes / LINK_BYTES_PER_SECOND_MIN))
}

/// Bytes that have to move in such a time.
fn least_bytes(timeout: Duration) -> u64 {
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    (millis.saturating_mul(LINK_BYTES_PER_SECOND_MIN) / 1000).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::alone::alone;
    use crate::options::Options;
    use crate::wait::block_on;

    /// What who waits is told while so many bytes a step move, at 20 steps within the timeout.
    fn told(step_bytes: u64, steps: u32, bytes: u64) -> Option<()> {
        let timeout = Duration::from_secs(1);
        let options = Options {
            timeout,
            ..Options::default()
        };
        let core = alone(options, |_| None);
        let moved = Moved::default();
        let work = async {
            for _ in 0..steps {
                core.within(timeout / 20, std::future::pending::<()>())
                    .await;
                moved.add(step_bytes);
            }
        };
        let core = Arc::clone(&core);
        block_on("test", while_moving(&core, &moved, bytes, work)).unwrap()
    }

    #[test]
    fn what_moves_is_waited_for_and_what_stands_still_or_crawls_is_not() {
        assert_eq!(
            told(1 << 10, 50, 1 << 20),
            Some(()),
            "longer than the timeout"
        );
        assert_eq!(told(0, 50, 1 << 20), None, "nothing moves");
        assert_eq!(told(10, 50, 1 << 20), None, "200 bytes a second");
        assert_eq!(told(1 << 10, 90, 1 << 10), None, "too much for what it is");
    }
}

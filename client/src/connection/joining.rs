//! The subscription that the replica follows.
//!
//! It is told of changes of parts of values by the part, as long as it can apply them. One that it
//! cannot (it holds not all, and a watch wants to know what it does not hold) has it ask again,
//! from where it stands, for whole values.

use objsync_proto::ids::Position;
use objsync_proto::wire::{Held, Request};

use super::Connection;
use crate::replica::Extent;

/// The number of a subscription that no stream has.
const NO_STREAM: u64 = 0;

impl Connection<'_> {
    /// Subscribes for the replica, from where it stands.
    pub(super) fn join(&mut self) {
        let owner = self.welcome.position;
        let acked = self.core.found_owner(owner);
        if self.core.replica.extent() == Extent::None {
            return;
        }
        let since = self.core.replica.connected(owner, acked);
        self.subscribe(since);
    }

    /// Subscribes for the replica again: with whole values it can go on.
    pub(super) fn join_again(&mut self) {
        if let Some(subscription) = self.main {
            self.ask(subscription, Request::Unsubscribe { subscription });
        }
        self.comparing.cursor = None;
        let since = self.core.replica.again();
        self.subscribe(since);
    }

    fn subscribe(&mut self, since: Option<(Position, Held)>) {
        let by_part = !self.core.replica.wants_whole();
        // An owner that does not know of it tells whole values.
        self.ask(NO_STREAM, Request::TakePatches { by_part });
        let range = self.core.config.options.range.clone().unwrap_or_default();
        self.feed_count += 1;
        let subscription = self.feed_count;
        self.main = Some(subscription);
        let request = match since {
            Some((since, held)) => Request::Follow {
                subscription,
                range,
                since,
                held,
            },
            None => Request::Subscribe {
                subscription,
                range,
                since: None,
            },
        };
        self.ask(subscription, request);
    }
}

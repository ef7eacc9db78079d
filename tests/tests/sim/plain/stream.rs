//! Bytes on their way, which arrive in pieces, or not at all.

use bytes::BytesMut;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::wire::codec::{self, Message};

use crate::harness::random::Random;

#[derive(Default)]
pub struct Stream {
    pub flying: BytesMut,
    landed: BytesMut,
}

impl Stream {
    pub fn send<M: Message>(&mut self, message: &M) {
        codec::encode(message, &mut self.flying);
    }

    pub fn is_empty(&self) -> bool {
        self.flying.is_empty() && self.landed.is_empty()
    }

    /// Some of the bytes arrive; gives the messages that are whole now.
    pub fn land<M: Message>(&mut self, random: &mut Random) -> Vec<M> {
        let all = self.flying.len() as u64;
        let count = match random.chance(2) {
            true => all,
            false => random.below(all + 1),
        };
        let arrived = self.flying.split_to(count as usize);
        self.landed.extend_from_slice(&arrived);
        let next = || codec::decode(&mut self.landed, FRAME_BYTES_MAX).unwrap();
        std::iter::from_fn(next).collect()
    }
}

//! What happened, as a number that two runs can compare, and as lines for somebody who looks.

use std::sync::{Arc, Mutex};

/// Everything that happened so far; clones are the same trace.
#[derive(Clone)]
pub struct Trace {
    state: Arc<Mutex<State>>,
    is_loud: bool,
}

struct State {
    hash: u64,
    /// Counts what happens: what has a smaller number happened before.
    count: u64,
}

impl Trace {
    /// An empty one; it prints when one seed was asked for.
    pub fn new() -> Self {
        let state = State {
            hash: 0xCBF2_9CE4_8422_2325,
            count: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            is_loud: std::env::var_os("OBJSYNC_SEED").is_some(),
        }
    }

    /// Something happened; gives its number.
    pub fn note(&self, at_ms: u64, what: std::fmt::Arguments<'_>) -> u64 {
        let text = format!("{at_ms:6} {what}\n");
        if self.is_loud {
            print!("{text}");
        }
        let mut state = self.state.lock().unwrap();
        for byte in text.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        state.count += 1;
        state.count
    }

    /// The number of what happened last.
    pub fn count(&self) -> u64 {
        self.state.lock().unwrap().count
    }

    /// A checksum of it all.
    pub fn hash(&self) -> u64 {
        self.state.lock().unwrap().hash
    }
}

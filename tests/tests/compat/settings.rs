//! How the stores are written and opened: at a fixed time, with the same numbers each time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use objsync_proto::ids::PeerKey;
use objsync_store::clock::{Clock, Entropy};
use objsync_store::{IndexKind, StoreLimits, StoreOptions};

/// When the stores were written: 2024-01-01.
pub(crate) const WRITTEN_MS: u64 = 1_704_067_200_000;
/// Who holds the session whose results are kept.
pub(crate) const PEER: PeerKey = PeerKey([7; 32]);
/// The secret of the stores' key. It opens nothing else.
pub(crate) const SECRET: [u8; 32] = [42; 32];

/// Where the stores of a format lie.
pub(crate) fn folder() -> PathBuf {
    objsync_tests::tree::root().join("tests/compat/format-0")
}

/// Small segments, so that there are many.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            segment_bytes: 8 << 10,
            snapshot_log_bytes: 16 << 10,
            retention_bytes: 32 << 10,
            ..StoreLimits::default()
        },
        index: IndexKind::Memory,
        clock: Arc::new(Fixed),
        entropy: Arc::new(Repeating(Mutex::new(1))),
        ..StoreOptions::default()
    }
}

/// A clock that stands still: no sync and no end of a session comes by itself.
struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> u64 {
        WRITTEN_MS
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }
}

/// Numbers that are the same each time (xorshift64*).
struct Repeating(Mutex<u64>);

impl Entropy for Repeating {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap();
        for byte in bytes {
            *state ^= *state >> 12;
            *state ^= *state << 25;
            *state ^= *state >> 27;
            *byte = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0];
        }
        Ok(())
    }
}

/// Copies a store. Its key is for its user alone, which git does not keep.
pub(crate) fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

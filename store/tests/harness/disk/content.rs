//! One file: what is in memory, what is on the platter, and the changes between the two.
//!
//! The model. A change is with the system at once and on the platter after a sync. Until then a
//! power cut decides for each sector how many of the changes to it had arrived, in their order; a
//! sector may be torn, so that only its first bytes are of the last change. The length is decided
//! by itself, so a file can be longer than what arrived of it, and is zeros there.

use super::super::random::Random;

/// What survives a power cut, or does not, is decided per sector.
const SECTOR_BYTES: usize = 512;

/// A file that has a name, or had one.
#[derive(Default, Clone)]
pub(super) struct FileState {
    now: Vec<u8>,
    kept: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

impl FileState {
    /// A file with this content, synced.
    pub(super) fn synced(content: Vec<u8>) -> Self {
        Self {
            kept: content.clone(),
            now: content,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let change = Change::Write {
            offset,
            bytes: bytes.to_vec(),
        };
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(super) fn truncate(&mut self, bytes: usize) {
        let change = Change::Truncate { bytes };
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.kept);
        }
    }

    /// A sync that fails: some of what was to be synced arrived, and the system forgets the rest,
    /// so that no later sync writes it. It may also drop its own copy, and read what is there.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.kept = self.after_cut(random);
        self.unsynced.clear();
        if random.chance(3) {
            self.now.clone_from(&self.kept);
        }
    }

    pub(super) fn cut(&mut self, random: &mut Random) {
        if !self.unsynced.is_empty() {
            self.kept = self.after_cut(random);
            self.unsynced.clear();
        }
        self.now.clone_from(&self.kept);
    }

    /// Makes everything that was written survive.
    pub(super) fn keep_all(&mut self) {
        self.unsynced.clear();
        self.kept.clone_from(&self.now);
    }

    /// Turns one bit, on the platter and in memory.
    pub(super) fn flip(&mut self, byte: usize, mask: u8) {
        for content in [&mut self.now, &mut self.kept] {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= mask;
            }
        }
    }

    /// What a cut leaves: some changes whole, and of those after them any sectors.
    fn after_cut(&self, random: &mut Random) -> Vec<u8> {
        let count = self.unsynced.len();
        let whole = match random.below(4) {
            0 => 0,
            1 => count,
            _ => random.below(count as u64 + 1) as usize,
        };
        let mut content = self.kept.clone();
        for change in &self.unsynced[..whole] {
            change.apply(&mut content);
        }
        let rest = &self.unsynced[whole..];
        if !rest.is_empty() && random.chance(2) {
            tear(&mut content, rest, random);
        }
        content
    }
}

/// Applies to each sector some of the changes, in their order, and perhaps a part of one more.
fn tear(content: &mut Vec<u8>, changes: &[Change], random: &mut Random) {
    let mut bytes = content.len();
    let mut bytes_max = content.len();
    let known = random.below(changes.len() as u64 + 1) as usize;
    for (place, change) in changes.iter().enumerate() {
        let after = change.length_after(bytes_max);
        bytes_max = bytes_max.max(after);
        if place < known {
            bytes = change.length_after(bytes);
        }
    }
    content.resize(bytes_max, 0);
    // One chance for all: else of many sectors some would always be gone.
    let one_in = 2 + random.below(6);
    for start in (0..bytes_max).step_by(SECTOR_BYTES) {
        let end = (start + SECTOR_BYTES).min(bytes_max);
        for change in changes.iter().filter(|change| change.touches(start, end)) {
            if random.chance(one_in) {
                if random.chance(3) {
                    let torn_at = start + random.below((end - start) as u64) as usize;
                    change.apply_within(content, start, torn_at);
                }
                break;
            }
            change.apply_within(content, start, end);
        }
    }
    content.resize(bytes, 0);
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        content.resize(self.length_after(content.len()), 0);
        let end = content.len();
        self.apply_within(content, 0, end);
    }

    /// Applies it to the bytes from `start` to `end`, which are there.
    fn apply_within(&self, content: &mut [u8], start: usize, end: usize) {
        match self {
            Self::Write { offset, bytes } => {
                let from = start.max(*offset);
                let to = end.min(offset + bytes.len());
                if from < to {
                    content[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
                }
            }
            Self::Truncate { bytes } => {
                let from = start.max(*bytes);
                if from < end {
                    content[from..end].fill(0);
                }
            }
        }
    }

    fn touches(&self, start: usize, end: usize) -> bool {
        match self {
            Self::Write { offset, bytes } => *offset < end && start < offset + bytes.len(),
            Self::Truncate { bytes } => *bytes < end,
        }
    }

    fn length_after(&self, length: usize) -> usize {
        match self {
            Self::Write { offset, bytes } => length.max(offset + bytes.len()),
            Self::Truncate { bytes } => *bytes,
        }
    }
}

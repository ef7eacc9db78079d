//! An open file of the disk in memory.

use std::io;

use objsync_store::disk::DiskFile;

use super::faults::{Call, Fault};
use super::{SimDisk, State};

pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) file: usize,
    pub(super) generation: u64,
}

impl SimFile {
    /// Runs a call, with the fault that meets it.
    fn with<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = &mut *self.disk.lock();
        state.note(call as u64, &(self.file as u64).to_le_bytes());
        let fault = state.faults.meet(call)?;
        if state.generation != self.generation {
            return Err(io::Error::other("the power was cut"));
        }
        act(state, fault)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Call::Read, |state, fault| {
            if fault == Some(Fault::Error) {
                return Err(io::Error::other("the read failed"));
            }
            let content = state.files[self.file].now();
            let start = usize::try_from(offset).unwrap().min(content.len());
            let end = (start + buffer.len()).min(content.len());
            buffer[..end - start].copy_from_slice(&content[start..end]);
            if fault == Some(Fault::FlippedBit) && end > start {
                let place = state.random.below((end - start) as u64) as usize;
                buffer[place] ^= 1 << state.random.below(8);
            }
            Ok(end - start)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(Call::Write, |state, fault| {
            state.write_count += 1;
            assert!(!state.faults.panics, "as the test asked for");
            state.note(offset, bytes);
            let offset = usize::try_from(offset).unwrap();
            let (count, result) = state.written(self.file, bytes.len(), offset, fault);
            if count > 0 {
                state.files[self.file].write(&bytes[..count], offset);
            }
            result
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.with(Call::Write, |state, fault| {
            state.note(bytes, b"truncate");
            if fault.is_some() {
                return Err(io::Error::other("the file cannot be cut"));
            }
            state.files[self.file].truncate(usize::try_from(bytes).unwrap());
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Call::Sync, |state, fault| {
            state.sync_count += 1;
            if state.faults.syncs {
                return Err(io::Error::other("the sync failed"));
            }
            if fault.is_some() {
                state.files[self.file].fail_sync(&mut state.random);
                state.lost_sync_count += u64::from(state.is_segment(self.file));
                return Err(io::Error::other("the sync failed, and the system forgot"));
            }
            state.files[self.file].sync();
            Ok(())
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(Call::Open, |state, fault| match fault {
            Some(_) => Err(io::Error::other("the length cannot be read")),
            None => Ok(state.files[self.file].now().len() as u64),
        })
    }
}

impl State {
    fn is_segment(&self, file: usize) -> bool {
        let mut files = self.names.files();
        files.any(|(path, of)| of == file && path.extension().is_some_and(|end| end == "seg"))
    }

    /// How many bytes of a write arrive, and what the writer is told.
    fn written(
        &mut self,
        file: usize,
        count: usize,
        offset: usize,
        fault: Option<Fault>,
    ) -> (usize, io::Result<()>) {
        if self.faults.writes {
            let error = io::Error::other("the write failed half way");
            return (count / 2, Err(error));
        }
        if fault.is_some() {
            let part = match self.random.below(4) {
                0 => 0,
                1 => count,
                _ => self.random.below(count as u64 + 1) as usize,
            };
            return (
                part,
                Err(io::Error::other("the write failed, part of it is there")),
            );
        }
        let Some(bytes_max) = self.faults.bytes_max else {
            return (count, Ok(()));
        };
        let length = self.files[file].now().len();
        let grown = (offset + count).saturating_sub(length);
        let room = usize::try_from(bytes_max.saturating_sub(self.bytes())).unwrap();
        match grown > room {
            true => {
                let part = count.saturating_sub(grown - room);
                (part, Err(io::ErrorKind::StorageFull.into()))
            }
            false => (count, Ok(())),
        }
    }
}

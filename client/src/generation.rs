//! One value for each fork generation of a process.

use std::mem::ManuallyDrop;
use std::sync::OnceLock;

use crate::fork;

/// Holds a value that belongs to one process, and another one in each process forked from it.
///
/// A value of an older generation is leaked, never dropped or used: its threads are gone, and its
/// descriptors are the parent's.
pub(crate) struct PerGeneration<T> {
    first: OnceLock<Slot<T>>,
}

struct Slot<T> {
    generation: u32,
    value: ManuallyDrop<T>,
    next: OnceLock<Box<Slot<T>>>,
}

impl<T> Slot<T> {
    fn new(value: T) -> Self {
        Self {
            generation: fork::generation(),
            value: ManuallyDrop::new(value),
            next: OnceLock::new(),
        }
    }
}

impl<T> PerGeneration<T> {
    /// Without a value yet.
    pub(crate) const fn empty() -> Self {
        Self {
            first: OnceLock::new(),
        }
    }

    /// With the value of this generation.
    pub(crate) fn new(value: T) -> Self {
        Self {
            first: OnceLock::from(Slot::new(value)),
        }
    }

    /// The value of this generation, if it was made.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        let generation = fork::generation();
        let mut slot = self.first.get()?;
        while slot.generation != generation {
            slot = slot.next.get()?;
        }
        Some(&slot.value)
    }

    /// The value of this generation, made by `make` if need be. Two threads may both make one; the
    /// second is dropped. (A thread that waited for another's would hang in a child that was
    /// forked meanwhile.)
    pub(crate) fn get_or_try_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let made = Slot::new(make()?);
        let generation = made.generation;
        let Err(made) = self.first.set(made) else {
            return Ok(self.present());
        };
        let mut last = self.first.get();
        let mut made = Some(Box::new(made));
        while let Some(slot) = last.filter(|slot| slot.generation != generation) {
            if let Some(new) = made.take() {
                made = slot.next.set(new).err();
            }
            last = slot.next.get().map(Box::as_ref);
        }
        if let Some(mut unused) = made.map(|unused| *unused) {
            drop_value(&mut unused.value);
        }
        Ok(self.present())
    }

    fn present(&self) -> &T {
        self.get()
            .expect("this generation's value was set just now and is never removed")
    }
}

impl<T> Drop for PerGeneration<T> {
    fn drop(&mut self) {
        let generation = fork::generation();
        let mut slot = self.first.get_mut();
        while let Some(held) = slot {
            if held.generation == generation {
                drop_value(&mut held.value);
            }
            slot = held.next.get_mut().map(Box::as_mut);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "a value is dropped or leaked, depending on the process"
)]
fn drop_value<T>(value: &mut ManuallyDrop<T>) {
    // SAFETY: called once per slot, by whoever owns the slot and is about to let it go.
    unsafe { ManuallyDrop::drop(value) }
}

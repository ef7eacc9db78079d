//! What a fork does to a process that holds stores: the child must not keep a dead owner alive.
//!
//! A forked child inherits the lock, the port and the sockets of its parent, so that the kernel
//! would not free them when the parent dies. Before a fork the descriptors are written down, in
//! the parent, where locks may be taken; in the child they are closed and the generation is
//! raised, and nothing else: handles of an older generation are leaked, never used or dropped, and
//! connect as new clients.
//!
//! Invariants
//! * The handler in the child calls only `fstat` and `close`, and takes no lock: other threads,
//!   which may have held locks, are gone. (The one lock it frees was taken by its own thread.)
//! * No socket is opened or closed between the writing down and the fork, so a number written
//!   down is still the same file; the files of stores are compared by inode.
//!
//! On an `exec` nothing is needed: all descriptors are close-on-exec.

#![expect(
    unsafe_code,
    reason = "pthread_atfork, fstat and close are C functions"
)]

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use objsync_server::inherited::{self, Held};

/// Most descriptors closed in a child. One owner has a lock, a port, a listener and a connection
/// for each local peer.
const INHERITED_MAX: usize = 8_192;

struct Inherited {
    fd: AtomicI32,
    inode: AtomicU64,
}

static GENERATION: AtomicU32 = AtomicU32::new(0);
static INHERITED: [Inherited; INHERITED_MAX] = [const {
    Inherited {
        fd: AtomicI32::new(-1),
        inode: AtomicU64::new(0),
    }
}; INHERITED_MAX];
static INHERITED_COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Stops the opening and closing of sockets while this thread forks.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// How many forks lie between the first process and this one.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes forks from here on close what [`crate::process::inherited`] lists.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the handlers are functions that live as long as the program, and an `extern "C"`
        // function does not unwind.
        let refused =
            unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        if refused != 0 {
            tracing::warn!(
                error = refused,
                "a forked child will keep this process's stores busy"
            );
        }
    });
}

extern "C" fn before() {
    let stores = crate::process::inherited();
    let held = inherited::hold();
    let mut count = 0;
    for &fd in stores.iter().chain(held.fds()).take(INHERITED_MAX) {
        if let Some(inode) = inode(fd) {
            INHERITED[count].inode.store(inode, Ordering::Relaxed);
            INHERITED[count].fd.store(fd, Ordering::Relaxed);
            count += 1;
        }
    }
    INHERITED_COUNT.store(count, Ordering::Release);
    let _ = HELD.try_with(|slot| slot.replace(Some(held)));
}

extern "C" fn in_parent() {
    let _ = HELD.try_with(|slot| slot.take());
}

extern "C" fn in_child() {
    let count = INHERITED_COUNT
        .swap(0, Ordering::Acquire)
        .min(INHERITED_MAX);
    for inherited in &INHERITED[..count] {
        let fd = inherited.fd.load(Ordering::Relaxed);
        if inode(fd) == Some(inherited.inode.load(Ordering::Relaxed)) {
            // SAFETY: the descriptor is open and is the one written down before the fork; what
            // owns it belongs to the older generation, which is never used or dropped again.
            unsafe { libc::close(fd) };
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let _ = HELD.try_with(|slot| slot.take().map(|mut held| held.forget()));
}

fn inode(fd: RawFd) -> Option<u64> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fstat` writes a whole `stat` when it returns 0, and takes any number as descriptor.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_ino) }
}

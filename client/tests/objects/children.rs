//! Forked children: what the standard library does not offer, because it is rarely wise.

#![allow(unsafe_code, reason = "fork and its kin are C functions")]

/// Forks this process; 0 in the child.
pub(crate) fn fork() -> i32 {
    // SAFETY: the child only parks, or uses its handle as the test wants and then ends.
    unsafe { libc::fork() }
}

/// Ends this process without running anything of its parent's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Waits for a child of this process; 0 when it ended well.
pub(crate) fn wait_for(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a place for one number.
    unsafe {
        libc::waitpid(child, &raw mut status, 0);
    }
    status
}

/// Stops a process, so that it hangs with all that it holds. On a busy machine its threads go on for
/// a moment, which is waited for.
pub(crate) fn stop(process: u32) {
    // SAFETY: takes any numbers.
    unsafe {
        libc::kill(process.cast_signed(), libc::SIGSTOP);
    }
    crate::peer::until("each thread has stopped", || is_stopped(process));
}

/// Whether each thread of a process stands still, as the kernel tells it.
fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses.
        stat.rsplit(") ")
            .next()
            .is_none_or(|rest| rest.starts_with('T'))
    })
}

/// Lets a process go on that was stopped.
pub(crate) fn go_on(process: u32) {
    // SAFETY: takes any numbers.
    unsafe {
        libc::kill(process.cast_signed(), libc::SIGCONT);
    }
}

/// Ends a process, which need not be a child of this one.
pub(crate) fn end(process: i32) {
    // SAFETY: takes any numbers.
    unsafe {
        libc::kill(process, libc::SIGKILL);
    }
}

/// Lets no file of this process grow beyond so many bytes: a write there fails, as on a full disk.
pub(crate) fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: takes a limit to read, and a signal to ignore.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

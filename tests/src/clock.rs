//! The time that all processes of a machine share, for histories that several of them write.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine was started; never goes back, and is the same in each process.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::now_ns;

    #[test]
    fn time_goes_on() {
        let before = now_ns();
        while now_ns() == before {}
        assert!(now_ns() > before);
    }
}

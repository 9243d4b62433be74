//! One system call, one look: what a file system learned of a file in this call need not be asked again in it.
use std::cell::Cell;

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(1) };
}

/// Number of the current system call.
pub fn epoch() -> u64 {
    EPOCH.get()
}

/// A new system call begins, or something was changed.
pub fn next_epoch() {
    EPOCH.set(EPOCH.get() + 1);
}

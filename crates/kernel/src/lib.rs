//! The kernel's things: waiting, timers, tasks, signals, credentials, memory maps. No system call numbers.
#![forbid(unsafe_code)]

pub mod cred;
pub mod elf;
pub mod futex;
pub mod helper;
pub mod itimer;
pub mod keys;
pub mod mm;
pub mod pages;
pub mod reactor;
pub mod sched;
pub mod seccomp;
pub mod signal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timer;
pub mod userns;
pub mod wait;

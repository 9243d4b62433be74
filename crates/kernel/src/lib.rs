//! The kernel's things: waiting, timers, tasks, signals, credentials, memory maps. No system call numbers.
#![forbid(unsafe_code)]

pub mod cred;
pub mod reactor;
pub mod sched;
pub mod timer;
pub mod wait;

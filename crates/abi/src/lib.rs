//! The Linux ABI as data: error numbers, and the structures guests pass in memory.
//!
//! Flag and number constants come from the `libc` crate, which knows the architecture; structures are
//! written here, because they cross into guest memory as bytes (`zerocopy`).
#![forbid(unsafe_code)]

pub mod block;
pub mod errno;
pub mod fs;
pub mod inet;
pub mod ipc;
pub mod keys;
pub mod poll;
pub mod regs;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod sys;

pub use errno::{Errno, Result};
pub use libc as c;

/// The guest's page.
pub const PAGE_SIZE: u64 = 4096;

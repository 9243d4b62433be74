//! The system calls: the table, and one module per family of man pages.
#![forbid(unsafe_code)]

pub mod args;
pub mod clone;
pub mod events;
pub mod exec;
pub mod exit;
pub mod fd;
pub mod ids;
pub mod io;
pub mod memory;
pub mod misc;
pub mod path;
pub mod privileges;
pub mod ptrace;
pub mod row;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod strace;
pub mod table;
pub mod time;

//! The system calls: the table, and one module per family of man pages.
#![forbid(unsafe_code)]

pub mod aio;
pub mod args;
pub mod clone;
pub mod cmsg;
pub mod events;
pub mod exec;
pub mod exit;
pub mod fd;
pub mod futex;
pub mod ids;
pub mod inotify;
pub mod io;
pub mod keys;
mod lease;
pub mod lsm;
pub mod memory;
pub mod message;
pub mod misc;
mod mount;
pub mod mq;
pub mod ns;
pub mod numa;
pub mod pages;
pub mod path;
pub mod pidfd;
pub mod privileges;
pub mod ptrace;
pub mod refused;
pub mod row;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod sites;
pub mod sockaddr;
pub mod socket;
pub mod splice;
pub mod strace;
pub mod sysv;
pub mod table;
pub mod time;
pub mod timer;
mod tty;
pub mod vm;
pub mod xattr;

use sysv::{msg, sem, shm};

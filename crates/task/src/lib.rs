//! The task tree: what joins the kernel's things and the file system's into processes and threads.
//!
//! A [`Process`] is a thread group, a [`Task`] one thread; [`Kernel`] is the sandbox they live in.
#![forbid(unsafe_code)]

mod access;
mod aio;
mod answers;
mod debug;
pub mod dnotify;
mod exit;
mod flight;
mod futexes;
mod jobs;
mod kernel;
pub mod ns;
pub mod pidfd;
mod process;
pub mod sigio;
mod signal;
pub mod signalfd;
mod task;
pub mod timers;
mod trace;
mod wait;

pub use aio::Aio;
pub use exit::ExitStatus;
pub use kernel::{Config, Kernel, PID_MAX};
pub use process::{Mm, NO_LOGIN, Process, RLIM_INFINITY, Rlimits};
pub use signal::may_signal;
pub use task::{Ask, Exec, Outcome, Parked, Task, caller, set_caller};
pub use trace::{At, Coming, Errand, How, Stop, Trace};
pub use wait::{Change, WaitFor, Waited};

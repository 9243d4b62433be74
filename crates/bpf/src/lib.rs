//! Rules about system calls, compiled to a seccomp filter. Pure: nothing here calls the host.
//!
//! A [`Policy`] says what happens to each call; [`compile`] turns it into classic BPF, [`Policy::decide`]
//! gives the same answer without a program and is what the compiler is tested against.
#![forbid(unsafe_code)]

mod compile;
pub mod interp;
mod monitor_policy;
mod policy;
mod sentry_policy;
mod stub_policy;
mod surface;

pub use abi::seccomp::{CallData, Insn};
pub use compile::{Error, MAX_INSNS, compile};
pub use monitor_policy::{monitor_permissions, monitor_policy};
pub use policy::{Action, ArgTest, Policy, Rule, Test, arg};
pub use sentry_policy::{Platform, sentry_permissions, sentry_policy};
pub use stub_policy::{DOORBELL_NR, SOCKET_FD, doorbell_policy, stub_permissions, stub_policy};
pub use surface::{Permission, Surface, surface};

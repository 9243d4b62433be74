//! Sockets: what every family does, socket(7). Unix sockets are ours; the others are host sockets inside the
//! sandbox's network namespace. Things, no system call numbers.
#![forbid(unsafe_code)]

mod address;
mod file;
pub mod inet;
pub mod netlink;
pub mod policy;
pub mod route;
mod socket;

pub use address::{Address, SocketName};
pub use file::SocketFile;
pub use socket::{Accepted, Caller, Control, Incoming, Outgoing, Socket, Ucred};

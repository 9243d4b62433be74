//! Sockets: what every family does, socket(7). Unix sockets are ours, and so are TCP connections between two guests;
//! the others are host sockets inside the sandbox's network namespace. Things, no system call numbers.
#![forbid(unsafe_code)]

mod address;
mod bytes;
pub mod diag;
mod file;
pub mod inet;
mod make;
pub mod netlink;
mod options;
pub mod policy;
pub mod route;
mod socket;
pub mod unix;

pub use abi::socket::Ucred;
pub use address::{Address, SocketName};
pub use file::SocketFile;
pub use make::{make, make_pair};
pub use options::Options;
pub use socket::{Accepted, Caller, Control, Incoming, Outgoing, Socket};

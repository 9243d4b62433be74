//! Block devices: loop devices over files of the guest's, loop(4). Things, no system call numbers.
#![forbid(unsafe_code)]

mod device;
mod file;
mod loops;
mod part;
#[cfg(test)]
mod tests;

pub use device::{Counts, Device, Status};
pub use file::BlockFile;
pub use loops::{Control, Loops};

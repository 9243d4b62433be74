//! The virtual file system: path walk, mounts, dentries, descriptors, and the traits a file system keeps.
#![forbid(unsafe_code)]

pub mod file;

pub use file::{Backing, DirEntry, FileOps, OpenFile, Ready};

/// A place in the tree: a dentry on a mount.
#[derive(Debug, Clone)]
pub struct Path;

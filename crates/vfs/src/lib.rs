//! The virtual file system: path walk, mounts, dentries, descriptors, and the traits a file system keeps.
#![forbid(unsafe_code)]

pub mod busy;
mod calls;
mod epoch;
pub mod fdtable;
pub mod file;
mod inode;
pub mod inotify;
mod kept;
pub mod lease;
pub mod locks;
pub mod mount;
pub mod names;
mod path;
mod walk;

pub use calls::{Caller, Opened};
pub use epoch::{epoch, next_epoch};
pub use fdtable::FdTable;
pub use file::{Backing, DirEntry, FileOps, OpenFile, PathOnly, Ready};
pub use inode::{APPEND, Attr, Follow, IMMUTABLE, Inode, New, SetAttr, StatFs};
pub use mount::{Mount, MountOptions, MountTable, Super};
pub use path::{Dentry, Path, name_of};
pub use walk::{
    Found, FsContext, Last, MAY_EXEC, MAY_READ, MAY_WRITE, RESOLVE_BENEATH, RESOLVE_CACHED, RESOLVE_IN_ROOT, Scope,
    Walk, permission,
};

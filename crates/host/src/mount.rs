//! Restricting detached mount trees.
use abi::Result;
pub use rustix::mount::MountAttrFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A private copy of the mounts at and below `path`, attached nowhere, that do not let through what `attributes` say:
/// open_tree(2), mount_setattr(2). It lives as long as descriptors to it. EPERM without CAP_SYS_ADMIN over the mount
/// namespace; ENOSYS before Linux 5.12.
pub fn clone_tree(path: &CStr, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, path, flags).map_err(crate::errno)?;
    set_attributes(&tree, attributes)?;
    Ok(tree)
}

/// A private copy of one mount, of the file or directory that `at` is, attached nowhere. As [`clone_tree`], without the
/// mounts below; `attributes`: what it does not let through.
pub fn clone_file(at: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(at, c"", flags).map_err(crate::errno)?;
    set_attributes(&tree, attributes)?;
    Ok(tree)
}

/// Attaches a tree over the file or directory `at`.
pub fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", at, c"", flags).map_err(crate::errno)
}

/// Restricts the mount that `at` is in, which must be its root.
pub fn restrict(at: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result {
    set_attributes_here(at, libc::AT_EMPTY_PATH, attributes)
}

fn set_attributes(tree: &OwnedFd, set: MountAttrFlags) -> Result {
    set_attributes_here(tree.as_fd(), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, set)
}

fn set_attributes_here(at: BorrowedFd<'_>, flags: i32, set: MountAttrFlags) -> Result {
    let attr = MountAttr { set: set.bits().into(), clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string and `attr` has the size given; both are only read.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if r < 0 { Err(crate::process::last()) } else { Ok(()) }
}

/// An empty tmpfs attached nowhere, without a limit of its own. It lives as long as descriptors to it.
pub fn memory_store() -> Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    new("tmpfs", &[("mode", "0700"), ("size", "0"), ("nr_inodes", "0")], flags)
}

/// A new file system, attached nowhere: fsopen(2), fsmount(2). Options without a value are flags. `attributes`: of the mount.
pub fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let make = || {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for &(key, value) in options {
            match value {
                "" => fsconfig_set_flag(&fs, key)?,
                _ => fsconfig_set_string(&fs, key, value)?,
            }
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(crate::errno)
}

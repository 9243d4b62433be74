//! Restricting detached mount trees.
use abi::Result;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    open_tree,
};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;

/// A private copy of the mounts at and below `path`, attached nowhere, through which no device can be
/// opened and, with `read_only`, nothing written: open_tree(2), mount_setattr(2). It lives as long as
/// descriptors to it. EPERM without CAP_SYS_ADMIN over the mount namespace; ENOSYS before Linux 5.12.
pub fn clone_tree(path: &CStr, read_only: bool) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, path, flags).map_err(crate::errno)?;
    let read_only = if read_only { MOUNT_ATTR_RDONLY } else { 0 };
    let attr =
        MountAttr { set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | read_only, clear: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string and `attr` has the size given; both are only read.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if r < 0 { Err(crate::process::last()) } else { Ok(tree) }
}

/// An empty tmpfs attached nowhere, without a limit of its own. It lives as long as descriptors to it.
pub fn memory_store() -> Result<OwnedFd> {
    let make = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in [("mode", "0700"), ("size", "0"), ("nr_inodes", "0")] {
            fsconfig_set_string(&fs, key, value)?;
        }
        fsconfig_create(&fs)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().map_err(crate::errno)
}

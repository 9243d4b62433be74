//! Files in memory that never had a name: memfd_create(2), and what is made like it.
use super::data::Data;
use super::{Body, TmpFs, TmpInode, dir_body};
use abi::{Result, c};
use std::cell::OnceCell;
use std::rc::Rc;
use vfs::{Inode, Mount, New, OpenFile, Path};

/// The device number of the mount nobody sees.
const DEV: u64 = 1;

thread_local! {
    static HIDDEN: OnceCell<(Rc<TmpFs>, Rc<Mount>)> = const { OnceCell::new() };
}

/// A new file, open for reading and writing. `name`: what /proc shows, without the slash before it.
pub fn memfd(name: &[u8], new: New, seals: i32) -> Result<Rc<OpenFile>> {
    let (fs, mount) = HIDDEN.with(|h| {
        h.get_or_init(|| {
            let fs = TmpFs::new(DEV, u64::MAX, u64::MAX);
            let root = TmpInode::new(&fs, New { mode: c::S_IFDIR | 0o777, uid: 0, gid: 0 }, 0, dir_body());
            let root: Rc<dyn Inode> = root;
            (fs, Mount::hidden(root, "tmpfs"))
        })
        .clone()
    });
    let inode =
        TmpInode::new(&fs, New { mode: c::S_IFREG | new.mode, ..new }, 0, Body::File(Data::new(fs.clone(), seals)));
    inode.bump(|a| a.nlink = 0);
    let ops = inode.open(c::O_RDWR)?;
    let dentry = mount.root.nameless(name, inode);
    Ok(OpenFile::new(ops, c::O_RDWR, Some(Path { mount, dentry })))
}

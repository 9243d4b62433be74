//! Copying a file from the lower layer to the upper.
use abi::{Result, c};
use guest::io::{SliceSink, SliceSource};
use std::rc::Rc;
use vfs::{Inode, New, OpenFile, SetAttr};

const CHUNK: usize = 1 << 18;

/// Makes `name` in `dir` the same as `lower`: data, owner, mode, times, attributes. Directories come empty.
pub fn up(lower: &Rc<dyn Inode>, dir: &Rc<dyn Inode>, name: &[u8]) -> Result<Rc<dyn Inode>> {
    let a = lower.attr()?;
    let new = New { mode: a.mode, uid: a.uid, gid: a.gid };
    let made = match a.kind() {
        c::S_IFDIR => dir.mkdir(name, new)?,
        c::S_IFLNK => dir.symlink(name, &lower.readlink()?, new)?,
        c::S_IFREG => {
            let made = dir.create(name, new, 0)?;
            if let Err(e) = data(lower, &made) {
                let _ = dir.unlink(name);
                return Err(e);
            }
            made
        }
        _ => dir.create(name, new, a.rdev)?,
    };
    if a.kind() != c::S_IFLNK {
        for n in lower.xattr_list()?.split(|b| *b == 0).filter(|n| n.starts_with(b"user.")) {
            if let Ok(v) = lower.xattr_get(n) {
                let _ = made.xattr_set(n, &v, 0);
            }
        }
        let mode = (a.mode & 0o7000 != 0).then_some(a.mode & 0o7777);
        made.set_attr(&SetAttr { mode, atime: Some(a.atime), mtime: Some(a.mtime), ..SetAttr::default() })?;
    }
    Ok(made)
}

fn data(from: &Rc<dyn Inode>, to: &Rc<dyn Inode>) -> Result {
    let from = OpenFile::new(from.open(c::O_RDONLY)?, c::O_RDONLY, None);
    let to = OpenFile::new(to.open(c::O_WRONLY)?, c::O_WRONLY, None);
    let mut buf = vec![0u8; CHUNK];
    let mut at = 0;
    loop {
        let n = from.ops().read(&from, &mut SliceSink::new(&mut buf), at)?;
        if n == 0 {
            return Ok(());
        }
        let mut src = SliceSource(&buf[..n]);
        let mut done = 0;
        while done < n {
            done += to.ops().write(&to, &mut src, at + done as u64)?;
        }
        at += n as u64;
    }
}

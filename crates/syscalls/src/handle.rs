//! File handles: name_to_handle_at(2), open_by_handle_at(2). No file system here opens files by them; what a handle names can be
//! compared (AT_HANDLE_FID, Linux 6.5), as fanotify(7) does.
use crate::args::{Addr, Fd, Flags, PathArg};
use crate::path::file_at;
use abi::{Errno, Result, c};
use guest::{Memory, UserIn, UserOut};
use kernel::cred::CAP_DAC_READ_SEARCH;
use std::rc::Rc;
use task::Task;

const AT_HANDLE_FID: i32 = 0x200;
const AT_HANDLE_CONNECTABLE: i32 = 2;
const MAX_HANDLE_SZ: u32 = 128;
/// FILEID_INO64_GEN: the inode's number, and a generation.
const INO64_GEN: u32 = 0x81;
const INO64_GEN_SIZE: u32 = 12;

/// How many bytes there are for a handle, of `struct file_handle`.
fn room(mem: &dyn Memory, handle: Addr) -> Result<u32> {
    let [bytes, _kind]: [u32; 2] = UserIn::new(handle.0).get(mem)?;
    if bytes > MAX_HANDLE_SZ { Err(Errno::EINVAL) } else { Ok(bytes) }
}

/// EOPNOTSUPP, if the handle is to be one that open_by_handle_at(2) takes; EOVERFLOW: there is no room, and how much is needed is told.
pub fn name_to_handle_at(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    handle: Addr,
    mount: UserOut<i32>,
    flags: Flags,
) -> Result {
    const KINDS: i32 = AT_HANDLE_FID | AT_HANDLE_CONNECTABLE;
    let flags = flags.only(c::AT_SYMLINK_FOLLOW | c::AT_EMPTY_PATH | KINDS)?;
    if flags & KINDS == KINDS {
        return Err(Errno::EINVAL);
    }
    let nofollow = if flags & c::AT_SYMLINK_FOLLOW != 0 { 0 } else { c::AT_SYMLINK_NOFOLLOW };
    let p = file_at(t, dir, path, nofollow | (flags & c::AT_EMPTY_PATH))?;
    if flags & AT_HANDLE_FID == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mem = t.mem();
    let fits = room(&*mem, handle)? >= INO64_GEN_SIZE;
    mount.put(&*mem, &(p.mount.id as i32))?;
    let mut told = [INO64_GEN_SIZE.to_ne_bytes(), INO64_GEN.to_ne_bytes()].concat();
    if fits {
        told.extend(p.inode().attr()?.ino.to_ne_bytes());
        told.extend([0; 4]);
    }
    mem.write(handle.0, &told)?;
    if fits { Ok(()) } else { Err(Errno::EOVERFLOW) }
}

/// ESTALE: no handle is of a file.
pub fn open_by_handle_at(t: &Rc<Task>, mount: Fd, handle: Addr, _flags: Flags) -> Result<i32> {
    if room(&*t.mem(), handle)? == 0 {
        return Err(Errno::EINVAL);
    }
    if mount != crate::path::CWD {
        t.files()?.get(mount.0)?;
    }
    Err(if t.cred().has(CAP_DAC_READ_SEARCH) { Errno::ESTALE } else { Errno::EPERM })
}

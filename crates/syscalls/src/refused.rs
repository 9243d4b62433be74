//! What a container without privileges is refused: mount(2), reboot(2), init_module(2) and the like, unshare(2), setns(2).
use crate::args::{Fd, Flags};
use abi::{Errno, Result, c};
use std::rc::Rc;
use task::Task;

/// As to a caller without the capability, which is the first thing these calls look at.
pub fn not_permitted(_t: &Rc<Task>) -> Result {
    Err(Errno::EPERM)
}

const CLONE_NEWTIME: i32 = 0x80;
const NAMESPACES: i32 = c::CLONE_NEWNS
    | c::CLONE_NEWUTS
    | c::CLONE_NEWIPC
    | c::CLONE_NEWNET
    | c::CLONE_NEWUSER
    | c::CLONE_NEWPID
    | c::CLONE_NEWCGROUP
    | CLONE_NEWTIME;
/// What only a thread without siblings may ask for; it has it then.
const ALONE: i32 = c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM;

/// unshare(2): directories and descriptors become the caller's own. Namespaces are refused.
pub fn unshare(t: &Rc<Task>, flags: Flags) -> Result {
    let flags = flags.only(NAMESPACES | ALONE | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SYSVSEM)?;
    if flags & ALONE != 0 && t.process.threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    if flags & c::CLONE_FS != 0 {
        let own = t.fs().fork();
        t.fs.replace(own);
    }
    if flags & c::CLONE_FILES != 0 {
        let own = t.files()?.fork()?;
        t.files.replace(Some(own));
    }
    Ok(())
}

/// setns(2): nothing that can be opened here is a namespace.
pub fn setns(t: &Rc<Task>, fd: Fd, _kind: i32) -> Result {
    t.files()?.get(fd.0)?;
    Err(Errno::EINVAL)
}

//! File systems made step by step: fsopen(2), fspick(2), fsconfig(2), fsmount(2).
use super::types::{Context, Value};
use super::{attr, is_mounted, may_mount, text, tree};
use crate::args::{Addr, Fd, Flags, PathArg};
use crate::fd::install;
use crate::path::file_at;
use abi::{Errno, Result, c};
use guest::Sink;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use task::Task;
use vfs::mount::Tree;
use vfs::{FileOps, Mount, OpenFile, Super};

/// What a context is good for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Parameters of a new file system.
    Create,
    /// fsmount(2).
    Mount,
    /// Parameters for changing one.
    Change,
    Failed,
}

/// What fsopen(2) and fspick(2) open; its messages are read from it.
pub struct FsFile {
    context: RefCell<Context>,
    phase: Cell<Phase>,
    /// The file system, once there is one.
    made: RefCell<Option<Rc<Super>>>,
}

impl FsFile {
    fn open(context: Context, made: Option<Rc<Super>>) -> Rc<OpenFile> {
        let phase = Cell::new(if made.is_some() { Phase::Change } else { Phase::Create });
        let file = FsFile { context: RefCell::new(context), phase, made: RefCell::new(made) };
        OpenFile::new(Rc::new(file), c::O_RDWR, None)
    }

    fn set(&self, t: &Task, key: &str, value: &Value) -> Result {
        match self.phase.get() {
            Phase::Create | Phase::Change => self.context.borrow_mut().set(t, key, value),
            Phase::Mount | Phase::Failed => Err(Errno::EBUSY),
        }
    }

    /// FSCONFIG_CMD_CREATE. `fresh`: EBUSY if there is such a file system already.
    fn create(&self, t: &Task, fresh: bool) -> Result {
        if self.phase.get() != Phase::Create {
            return Err(Errno::EBUSY);
        }
        let mut context = self.context.borrow_mut();
        context.may_create(t)?;
        self.phase.set(Phase::Failed);
        self.made.replace(Some(context.create(t, fresh)?));
        self.phase.set(Phase::Mount);
        Ok(())
    }

    /// FSCONFIG_CMD_RECONFIGURE.
    fn change(&self, t: &Task) -> Result {
        let made = self.made.borrow();
        let sb = made.as_ref().filter(|_| self.phase.get() == Phase::Change).ok_or(Errno::EBUSY)?;
        let mut context = self.context.borrow_mut();
        self.phase.set(Phase::Failed);
        context.may_create(t)?;
        context.change(t, sb, false)?;
        self.start_anew(t, &mut context, sb);
        Ok(())
    }

    /// What was set has been used: from here on, changes are collected. Messages stay.
    fn start_anew(&self, t: &Task, context: &mut Context, sb: &Super) {
        context.renew(t, sb);
        self.phase.set(Phase::Change);
    }
}

impl FileOps for FsFile {
    /// One message a call. ENODATA: there is none. EMSGSIZE: it is longer.
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let mut context = self.context.borrow_mut();
        let message = context.message().ok_or(Errno::ENODATA)?;
        if message.len() > dst.remaining() {
            return Err(Errno::EMSGSIZE);
        }
        let n = dst.put(message.as_bytes())?;
        context.forget_message();
        Ok(n)
    }
    fn seekable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub fn fsopen(t: &Rc<Task>, name: Addr, flags: Flags) -> Result<i32> {
    const FSOPEN_CLOEXEC: i32 = 1;
    may_mount(t)?;
    let flags = flags.only(FSOPEN_CLOEXEC)?;
    let name = text(t, name, 4096)?.ok_or(Errno::EFAULT)?;
    let f = FsFile::open(Context::new(t, &name)?, None);
    install(t, f, if flags != 0 { c::O_CLOEXEC } else { 0 })
}

pub fn fspick(t: &Rc<Task>, dir: Fd, path: PathArg, flags: Flags) -> Result<i32> {
    const CLOEXEC: i32 = 1;
    const SYMLINK_NOFOLLOW: i32 = 2;
    const NO_AUTOMOUNT: i32 = 4;
    const EMPTY_PATH: i32 = 8;
    may_mount(t)?;
    let flags = flags.only(CLOEXEC | SYMLINK_NOFOLLOW | NO_AUTOMOUNT | EMPTY_PATH)?;
    let pairs = [(SYMLINK_NOFOLLOW, c::AT_SYMLINK_NOFOLLOW), (EMPTY_PATH, c::AT_EMPTY_PATH)];
    let at = pairs.iter().filter(|(f, _)| flags & f != 0).fold(0, |all, (_, at)| all | at);
    let p = file_at(t, dir, path, at)?;
    if !is_mounted(&p) {
        return Err(Errno::EINVAL);
    }
    let sb = p.mount.sb.clone();
    let f = FsFile::open(Context::of(t, &sb), Some(sb));
    install(t, f, if flags & CLOEXEC != 0 { c::O_CLOEXEC } else { 0 })
}

const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const SET_BINARY: u32 = 2;
const SET_PATH: u32 = 3;
const SET_PATH_EMPTY: u32 = 4;
const SET_FD: u32 = 5;
const CREATE: u32 = 6;
const RECONFIGURE: u32 = 7;
const CREATE_EXCL: u32 = 8;
const KEY_MAX: usize = 256;
const BINARY_MAX: i32 = 1 << 20;

pub fn fsconfig(t: &Rc<Task>, fd: Fd, cmd: u32, key: Addr, value: Addr, aux: i32) -> Result {
    if fd.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let (has_key, has_value) = (key.0 != 0, value.0 != 0);
    let fits = match cmd {
        SET_FLAG => has_key && !has_value && aux == 0,
        SET_STRING => has_key && has_value && aux == 0,
        SET_BINARY => has_key && has_value && (1..=BINARY_MAX).contains(&aux),
        SET_PATH | SET_PATH_EMPTY => has_key && has_value && (aux == c::AT_FDCWD || aux >= 0),
        SET_FD => has_key && !has_value && aux >= 0,
        CREATE | RECONFIGURE | CREATE_EXCL => !has_key && !has_value && aux == 0,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if !fits {
        return Err(Errno::EINVAL);
    }
    let f = t.files()?.get(fd.0)?;
    let fs = f.downcast::<FsFile>().ok_or(Errno::EINVAL)?;
    match cmd {
        CREATE | CREATE_EXCL => fs.create(t, cmd == CREATE_EXCL),
        RECONFIGURE => fs.change(t),
        _ => {
            let key = text(t, key, KEY_MAX)?.ok_or(Errno::EINVAL)?;
            fs.set(t, &key, &read_value(t, cmd, value, aux)?)
        }
    }
}

fn read_value(t: &Task, cmd: u32, value: Addr, aux: i32) -> Result<Value> {
    Ok(match cmd {
        SET_STRING => Value::Text(text(t, value, KEY_MAX)?.ok_or(Errno::EINVAL)?),
        SET_BINARY => {
            t.mem().read(value.0, &mut vec![0u8; aux as usize])?;
            Value::Other
        }
        SET_PATH | SET_PATH_EMPTY => match PathArg(value.0).get(&*t.mem())? {
            name if name.is_empty() && cmd == SET_PATH => return Err(Errno::ENOENT),
            _ => Value::Other,
        },
        SET_FD => t.files()?.get(aux)?.path().cloned().map_or(Value::Other, Value::File),
        _ => Value::Flag,
    })
}

pub fn fsmount(t: &Rc<Task>, fd: Fd, flags: Flags, attrs: u32) -> Result<i32> {
    const FSMOUNT_CLOEXEC: i32 = 1;
    may_mount(t)?;
    let flags = flags.only(FSMOUNT_CLOEXEC)?;
    let restrictions = attr::of_new(u64::from(attrs))?;
    let f = t.files()?.get(fd.0)?;
    let fs = f.downcast::<FsFile>().ok_or(Errno::EINVAL)?;
    let sb = fs.made.borrow().clone().ok_or(Errno::EINVAL)?;
    if fs.phase.get() != Phase::Mount {
        return Err(Errno::EBUSY);
    }
    let mut context = fs.context.borrow_mut();
    let source = context.source.take().unwrap_or_else(|| "none".into());
    let m = Mount::new(sb.clone(), source, restrictions);
    fs.start_anew(t, &mut context, &sb);
    let f = tree::open_detached(t, &Tree::of(m), None);
    install(t, f, if flags != 0 { c::O_CLOEXEC } else { 0 })
}

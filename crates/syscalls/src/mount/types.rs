//! The file systems that can be mounted, and what a context keeps of one until it is made: fsopen(2), mount(2).
use super::{overlay, tmpfs};
use abi::{Errno, Result};
use fs::tmp::Options;
use kernel::cred::CAP_SYS_ADMIN;
use kernel::userns::UserNs;
use std::collections::VecDeque;
use std::rc::Rc;
use task::Task;
use vfs::mount::{SB_DIRSYNC, SB_LAZYTIME, SB_MANDLOCK, SB_RDONLY, SB_SYNCHRONOUS};
use vfs::{Path, Super};

/// What a parameter is set to.
pub enum Value {
    Flag,
    Text(String),
    File(Path),
    /// Bytes, or a name: nothing here takes them.
    Other,
}

/// What is wrong with a parameter.
pub enum Wrong {
    /// There is none of that name.
    Unknown,
    /// EINVAL, and a message about it.
    Told(String),
    Errno(Errno),
}

impl From<Errno> for Wrong {
    fn from(e: Errno) -> Wrong {
        Wrong::Errno(e)
    }
}

pub fn bad_value(key: &str) -> Wrong {
    Wrong::Told(format!("Bad value for '{key}'"))
}

impl Value {
    /// A text that is not empty.
    pub fn text(&self, key: &str) -> std::result::Result<&str, Wrong> {
        match self {
            Value::Text(s) if !s.is_empty() => Ok(s),
            _ => Err(bad_value(key)),
        }
    }
    pub fn flag(&self, key: &str) -> std::result::Result<(), Wrong> {
        match self {
            Value::Flag => Ok(()),
            _ => Err(Wrong::Told(format!("Unexpected value for '{key}'"))),
        }
    }
    /// `radix` 0: as C writes numbers.
    pub fn number(&self, key: &str, radix: u32) -> std::result::Result<u32, Wrong> {
        let text = self.text(key)?;
        let (digits, radix) = match text {
            t if radix != 0 => (t, radix),
            t if let Some(t) = t.strip_prefix("0x") => (t, 16),
            t if t.len() > 1 && t.starts_with('0') => (&t[1..], 8),
            t => (t, 10),
        };
        u32::from_str_radix(digits, radix).map_err(|_| bad_value(key))
    }
    /// One of these words.
    pub fn one_of(&self, key: &str, words: &[&str]) -> std::result::Result<(), Wrong> {
        if words.contains(&self.text(key)?) { Ok(()) } else { Err(bad_value(key)) }
    }
}

/// The parameters of a file system that differ from kind to kind.
enum Of {
    Tmpfs(Options),
    Ramfs(Options),
    Overlay(overlay::Layers),
    Proc,
    Sysfs,
    Devpts,
    Mqueue,
    Cgroup,
    /// Mounted when the sandbox started, by whom it was started: nothing of it can be set.
    Given,
}

/// Parameters of a file system that will be made, or changed. What comes from mount(2) and from fsconfig(2) goes through
/// [`set`](Self::set).
pub struct Context {
    pub name: String,
    of: Of,
    /// Who wants it has to be able to administrate this.
    pub user_ns: Rc<UserNs>,
    pub source: Option<String>,
    /// SB_ flags, and which of them were set or cleared.
    flags: u32,
    mask: u32,
    log: VecDeque<String>,
}

impl Context {
    /// For a new one. ENODEV: there is no such kind.
    pub fn new(t: &Task, name: &str) -> Result<Context> {
        let own = t.cred().user_ns.clone();
        let (of, user_ns) = match name {
            "tmpfs" => (Of::Tmpfs(tmpfs::defaults(t)), own),
            "ramfs" => (Of::Ramfs(tmpfs::ramfs_defaults(t)), own),
            "overlay" => (Of::Overlay(overlay::Layers::default()), own),
            "devpts" => (Of::Devpts, own),
            // What they show is the sandbox's, not a namespace's.
            "proc" => (Of::Proc, UserNs::first()),
            "sysfs" => (Of::Sysfs, UserNs::first()),
            "mqueue" => (Of::Mqueue, t.ipc().user_ns.clone()),
            "cgroup2" => (Of::Cgroup, t.namespaces().cgroup.user_ns.clone()),
            _ => return Err(Errno::ENODEV),
        };
        Ok(Context { name: name.into(), of, user_ns, source: None, flags: 0, mask: 0, log: VecDeque::new() })
    }

    /// For changing one.
    pub fn of(t: &Task, sb: &Super) -> Context {
        let of = match sb.kind.as_str() {
            "tmpfs" if let Some(o) = tmpfs::now(sb) => Of::Tmpfs(o),
            "ramfs" if let Some(o) = tmpfs::now(sb) => Of::Ramfs(o),
            kind => Context::new(t, kind).map_or(Of::Given, |c| match c.of {
                Of::Tmpfs(_) | Of::Ramfs(_) => Of::Given,
                of => of,
            }),
        };
        let (name, user_ns) = (sb.kind.clone(), sb.user_ns.clone());
        Context { name, of, user_ns, source: None, flags: 0, mask: 0, log: VecDeque::new() }
    }

    /// For changing one, after what was set has been used. Messages stay, and as on Linux what flags were set or cleared,
    /// so that the next change clears those that it does not set.
    pub fn renew(&mut self, t: &Task, sb: &Super) {
        let (log, mask) = (std::mem::take(&mut self.log), self.mask);
        *self = Context { log, mask, ..Context::of(t, sb) };
    }

    /// SB_ flags that mount(2) gives as a number.
    pub fn set_flags(&mut self, flags: u32, mask: u32) {
        (self.flags, self.mask) = (flags & mask, mask);
    }

    /// The oldest message that was not read.
    pub fn message(&self) -> Option<&str> {
        self.log.front().map(String::as_str)
    }
    pub fn forget_message(&mut self) {
        self.log.pop_front();
    }

    /// Leaves a message, and answers EINVAL.
    pub fn complain(&mut self, text: &str) -> Errno {
        const MESSAGES: usize = 8;
        if self.log.len() == MESSAGES {
            self.log.pop_front();
        }
        self.log.push_back(format!("e {text}\n"));
        Errno::EINVAL
    }

    /// Sets a parameter. EINVAL: there is no such one, or the value is not for it.
    pub fn set(&mut self, t: &Task, key: &str, value: &Value) -> Result {
        if self.set_flag(key) {
            return Ok(());
        }
        let done = match &mut self.of {
            Of::Tmpfs(o) => tmpfs::set(t, o, key, value),
            Of::Ramfs(o) => tmpfs::set_ramfs(o, key, value),
            Of::Overlay(l) => l.set(t, key, value),
            Of::Proc => set_proc(key, value),
            Of::Devpts => set_devpts(key, value),
            Of::Cgroup => match key {
                "nsdelegate" | "memory_recursiveprot" => value.flag(key),
                _ => Err(Wrong::Unknown),
            },
            Of::Sysfs | Of::Mqueue | Of::Given => Err(Wrong::Unknown),
        };
        match done {
            Ok(()) => Ok(()),
            Err(Wrong::Errno(e)) => Err(e),
            Err(Wrong::Told(text)) => Err(self.complain(&format!("{}: {text}", self.name))),
            Err(Wrong::Unknown) if key == "source" => self.set_source(value),
            Err(Wrong::Unknown) if matches!(self.of, Of::Ramfs(_)) => Ok(()),
            Err(Wrong::Unknown) => Err(self.complain(&format!("{}: Unknown parameter '{key}'", self.name))),
        }
    }

    /// Those that every file system has, whatever they are set to.
    fn set_flag(&mut self, key: &str) -> bool {
        let (flag, on) = match key {
            "ro" => (SB_RDONLY, true),
            "rw" => (SB_RDONLY, false),
            "sync" => (SB_SYNCHRONOUS, true),
            "async" => (SB_SYNCHRONOUS, false),
            "dirsync" => (SB_DIRSYNC, true),
            "mand" => (SB_MANDLOCK, true),
            "nomand" => (SB_MANDLOCK, false),
            "lazytime" => (SB_LAZYTIME, true),
            "nolazytime" => (SB_LAZYTIME, false),
            _ => return false,
        };
        self.mask |= flag;
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        true
    }

    fn set_source(&mut self, value: &Value) -> Result {
        let Value::Text(s) = value else { return Err(self.complain("Non-string source")) };
        if self.source.is_some() {
            return Err(self.complain("Multiple sources"));
        }
        self.source = Some(s.clone());
        Ok(())
    }

    /// Sets what mount(2) has in one string.
    pub fn set_all(&mut self, t: &Task, data: &str) -> Result {
        for part in data.split(',').filter(|p| !p.is_empty() && !p.starts_with('=')) {
            match part.split_once('=') {
                Some((key, value)) => self.set(t, key, &Value::Text(value.into()))?,
                None => self.set(t, part, &Value::Flag)?,
            }
        }
        Ok(())
    }

    /// EPERM unless the caller may have one.
    pub fn may_create(&self, t: &Task) -> Result {
        if t.cred().has_in(&self.user_ns, CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Makes it, or finds the one there is. `fresh`: EBUSY in this case.
    pub fn create(&mut self, t: &Task, fresh: bool) -> Result<Rc<Super>> {
        let k = &t.kernel;
        let there = |sb: Option<Rc<Super>>| {
            let sb = sb.ok_or(Errno::ENODEV)?;
            if fresh { Err(Errno::EBUSY) } else { Ok(sb) }
        };
        // Another tree of names over what there is once.
        let view = |sb: Option<Rc<Super>>| {
            let sb = sb.ok_or(Errno::ENODEV)?;
            Ok(Super::new(sb.root.inode.clone(), &sb.kind, self.user_ns.clone()))
        };
        let sb = match &self.of {
            Of::Tmpfs(o) | Of::Ramfs(o) => tmpfs::make(t, o, &self.name, &self.user_ns),
            Of::Overlay(l) => match l.join(t, self.flags & SB_RDONLY != 0, &self.user_ns) {
                Err(Wrong::Told(text)) => return Err(self.complain(&format!("{}: {text}", self.name))),
                Err(Wrong::Errno(e)) => return Err(e),
                Err(Wrong::Unknown) => return Err(Errno::EINVAL),
                Ok(sb) => sb,
            },
            Of::Proc => view(k.proc_fs.get().cloned())?,
            Of::Devpts => view(k.terminals.file_system())?,
            Of::Sysfs => return there(k.sys_fs.get().cloned()),
            Of::Cgroup => return there(k.cgroup_fs.get().cloned()),
            Of::Mqueue => return there(Some(k.queues.place().mount.sb.clone())),
            Of::Given => return Err(Errno::ENODEV),
        };
        sb.set_flags(self.flags, self.mask & self.flags)?;
        Ok(sb)
    }

    /// Changes one to what was set. `old`: remount of mount(2), which leaves alone what cannot be changed.
    pub fn change(&mut self, t: &Task, sb: &Super, old: bool) -> Result {
        match &self.of {
            Of::Tmpfs(o) | Of::Ramfs(o) => {
                if let Err(text) = tmpfs::change(t, sb, o) {
                    return Err(self.complain(&format!("{}: {text}", self.name)));
                }
            }
            Of::Overlay(l) if !old && l.any() => {
                return Err(self.complain("overlay: No changes allowed in reconfigure"));
            }
            _ => {}
        }
        sb.set_flags(self.flags, self.mask)
    }
}

/// Everybody's processes are seen by all, which is the default.
fn set_proc(key: &str, value: &Value) -> std::result::Result<(), Wrong> {
    match key {
        "gid" => value.number(key, 0).map(|_| ()),
        "hidepid" => match value.text(key)? {
            "0" | "off" => Ok(()),
            other => Err(Wrong::Told(format!("unknown value of hidepid - {other}\n"))),
        },
        _ => Err(Wrong::Unknown),
    }
}

/// There is one, whose terminals belong to whom they do.
fn set_devpts(key: &str, value: &Value) -> std::result::Result<(), Wrong> {
    match key {
        "newinstance" => value.flag(key),
        "mode" | "ptmxmode" => value.number(key, 8).map(|_| ()),
        "uid" | "gid" | "max" => value.number(key, 0).map(|_| ()),
        _ => Err(Wrong::Unknown),
    }
}

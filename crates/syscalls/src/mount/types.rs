//! The file systems that mount(2) makes: tmpfs, overlay, devpts, and for the sandbox's own root proc and sysfs.
use super::place;
use abi::{Errno, PAGE_SIZE, Result, c};
use fs::tmp::Options;
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use vfs::Super;

/// `name=value`, or a name alone, for each option.
fn options(data: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let parts = data.split(',').filter(|p| !p.is_empty());
    parts.map(|p| p.split_once('=').map_or((p, None), |(n, v)| (n, Some(v))))
}

/// A fresh file system. ENODEV: there is no such kind. EPERM: the caller's user namespace may not have one.
pub fn make(t: &Rc<Task>, kind: &str, data: &str, flags: u64) -> Result<Rc<Super>> {
    let user_ns = t.fs().mounts.user_ns.clone();
    let k = &t.kernel;
    let first = |what: &std::cell::OnceCell<Rc<Super>>| {
        // What they show is the sandbox's, not the namespace's.
        if !t.cred().has(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        what.get().cloned().ok_or(Errno::ENODEV)
    };
    match kind {
        "tmpfs" | "ramfs" => {
            let cred = t.cred();
            let mut o = Options { uid: cred.fsuid, gid: cred.fsgid, ..tmp_defaults(t) };
            if kind == "ramfs" {
                (o.bytes, o.inodes) = (u64::MAX, u64::MAX);
            }
            if cred.user_ns != user_ns {
                return Err(Errno::EPERM);
            }
            parse_tmp(t, &mut o, data, kind == "ramfs")?;
            let sb = Super::new(fs::tmp::mount_with(k.new_dev(), &o), kind, user_ns);
            sb.options.replace(tmp_text(t, &o));
            Ok(sb)
        }
        "proc" => first(&k.proc_fs),
        "sysfs" => first(&k.sys_fs),
        "devpts" => k.terminals.file_system().ok_or(Errno::ENODEV),
        "overlay" => overlay(t, data, flags),
        _ => Err(Errno::ENODEV),
    }
}

/// Half of the container's memory, and as many files as that is pages.
fn tmp_defaults(t: &Task) -> Options {
    let bytes = (t.kernel.memory().0 / 2) & !(PAGE_SIZE - 1);
    Options { mode: 0o1777, uid: 0, gid: 0, bytes, inodes: bytes / PAGE_SIZE, said: Default::default() }
}

/// A number with a unit.
fn size(v: &str) -> Result<u64> {
    let (digits, shift) = match v.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&v[..v.len() - 1], 10),
        Some(b'm') => (&v[..v.len() - 1], 20),
        Some(b'g') => (&v[..v.len() - 1], 30),
        _ => (v, 0),
    };
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn parse_tmp(t: &Task, o: &mut Options, data: &str, any: bool) -> Result {
    let cred = t.cred();
    let unlimited = |n: u64| if n == 0 { u64::MAX } else { n };
    for (name, value) in options(data) {
        let v = value.unwrap_or("");
        let number = || v.parse::<u32>().map_err(|_| Errno::EINVAL);
        match name {
            "size" if v.ends_with('%') => {
                let percent: u64 = v[..v.len() - 1].parse().map_err(|_| Errno::EINVAL)?;
                let bytes = (t.kernel.memory().0 / 100).checked_mul(percent).ok_or(Errno::EINVAL)?;
                o.bytes = unlimited(bytes.next_multiple_of(PAGE_SIZE));
                o.said.size = true;
            }
            "size" => {
                o.bytes = unlimited(size(v)?.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?);
                o.said.size = true;
            }
            "nr_blocks" => {
                o.bytes = unlimited(size(v)?.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?);
                o.said.size = true;
            }
            "nr_inodes" => {
                o.inodes = unlimited(size(v)?);
                o.said.inodes = true;
            }
            "mode" => {
                o.mode = u32::from_str_radix(v, 8).map_err(|_| Errno::EINVAL)? & 0o7777;
                o.said.mode = true;
            }
            "uid" => o.uid = cred.user_ns.user(number()?).ok_or(Errno::EINVAL)?,
            "gid" => o.gid = cred.user_ns.group(number()?).ok_or(Errno::EINVAL)?,
            "inode64" | "inode32" | "noswap" if value.is_none() => {}
            "huge" if v == "never" => {}
            _ if any => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

/// As Linux shows them: what was said, in its order.
fn tmp_text(t: &Task, o: &Options) -> String {
    let mut s = String::new();
    if o.said.size && o.bytes != u64::MAX {
        s += &format!(",size={}k", o.bytes / 1024);
    }
    if o.said.inodes && o.inodes != u64::MAX {
        s += &format!(",nr_inodes={}", o.inodes);
    }
    if o.mode != 0o1777 {
        s += &format!(",mode={:03o}", o.mode);
    }
    let ns = &t.cred().user_ns;
    for (name, id) in [("uid", o.uid), ("gid", o.gid)] {
        if id != 0 {
            s += &format!(",{name}={}", if name == "uid" { ns.show_user(id) } else { ns.show_group(id) });
        }
    }
    s
}

/// remount with options: only those of tmpfs mean anything.
pub fn change(t: &Task, sb: &Super, data: &str) -> Result {
    let Some(mut o) = fs::tmp::options(&sb.root.inode) else { return Ok(()) };
    let before = (o.mode, o.uid, o.gid);
    o.said.size = sb.options.borrow().contains(",size=");
    o.said.inodes = sb.options.borrow().contains(",nr_inodes=");
    parse_tmp(t, &mut o, data, sb.kind == "ramfs")?;
    fs::tmp::change(&sb.root.inode, &o)?;
    (o.mode, o.uid, o.gid) = before;
    sb.options.replace(tmp_text(t, &o));
    Ok(())
}

fn overlay(t: &Rc<Task>, data: &str, flags: u64) -> Result<Rc<Super>> {
    let (mut lower, mut upper, mut work) = (None, None, None);
    for (name, value) in options(data) {
        match name {
            "lowerdir" => lower = value,
            "upperdir" => upper = value,
            "workdir" => work = value,
            "userxattr" | "volatile" if value.is_none() => {}
            "index" | "nfs_export" | "xino" | "redirect_dir" | "metacopy"
                if matches!(value, Some("off" | "nofollow")) => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    let directory = |name: &str| {
        let p = place(t, name.as_bytes(), true)?;
        if p.inode().kind()? == c::S_IFDIR { Ok(p) } else { Err(Errno::ENOTDIR) }
    };
    let lowers = lower.ok_or(Errno::EINVAL)?.split(':').map(directory).collect::<Result<Vec<_>>>()?;
    let top = match (upper, work) {
        (None, _) => None,
        (Some(_), None) => return Err(Errno::EINVAL),
        (Some(upper), Some(work)) => {
            let (upper, work) = (directory(upper)?, directory(work)?);
            let apart = !vfs::mount::is_below(&upper.dentry, &work.dentry)
                && !vfs::mount::is_below(&work.dentry, &upper.dentry);
            if !Rc::ptr_eq(&upper.mount, &work.mount) || !apart || upper.mount.sb.kind == "overlay" {
                return Err(Errno::EINVAL);
            }
            if upper.mount.read_only() && flags & c::MS_RDONLY == 0 {
                return Err(Errno::EROFS);
            }
            Some(upper.inode().clone())
        }
    };
    if top.is_none() && lowers.len() < 2 {
        return Err(Errno::EINVAL);
    }
    let read_only = top.is_none();
    let lowers = lowers.into_iter().map(|p| p.inode().clone()).collect();
    let root = fs::overlay::join(t.kernel.new_dev(), lowers, top);
    let sb = Super::new(root, "overlay", t.fs().mounts.user_ns.clone());
    sb.read_only.set(read_only);
    let show = |name: &str, v: Option<&str>| v.map_or(String::new(), |v| format!(",{name}={v}"));
    sb.options.replace(show("lowerdir", lower) + &show("upperdir", upper) + &show("workdir", work));
    Ok(sb)
}

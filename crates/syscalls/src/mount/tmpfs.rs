//! tmpfs and ramfs as they are mounted: tmpfs(5).
use super::types::{Value, Wrong, bad_value};
use abi::PAGE_SIZE;
use fs::tmp::Options;
use kernel::userns::UserNs;
use std::rc::Rc;
use task::Task;
use vfs::Super;

const MODE: u32 = 0o1777;
const RAMFS_MODE: u32 = 0o755;

/// Half of the container's memory, and as many files as that is pages.
pub fn defaults(t: &Task) -> Options {
    let bytes = (t.kernel.memory().0 / 2) & !(PAGE_SIZE - 1);
    let cred = t.cred();
    let (uid, gid) = (cred.fsuid, cred.fsgid);
    Options { mode: MODE, uid, gid, bytes, inodes: bytes / PAGE_SIZE, said: Default::default() }
}

pub fn ramfs_defaults(t: &Task) -> Options {
    Options { mode: RAMFS_MODE, bytes: u64::MAX, inodes: u64::MAX, ..defaults(t) }
}

/// Those of one that is mounted.
pub fn now(sb: &Super) -> Option<Options> {
    let mut o = fs::tmp::options(&sb.root.inode)?;
    o.said.size = sb.options.borrow().contains(",size=");
    o.said.inodes = sb.options.borrow().contains(",nr_inodes=");
    Some(o)
}

pub fn make(t: &Task, o: &Options, kind: &str, user_ns: &Rc<UserNs>) -> Rc<Super> {
    let sb = Super::new(fs::tmp::mount_with(t.kernel.new_dev(), o), kind, user_ns.clone());
    sb.options.replace(text(t, o, kind));
    sb
}

/// Gives it other limits.
pub fn change(t: &Task, sb: &Super, o: &Options) -> Result<(), &'static str> {
    fs::tmp::change(&sb.root.inode, o)?;
    // Its root stays what it is.
    let root = fs::tmp::options(&sb.root.inode).unwrap_or(*o);
    sb.options.replace(text(t, &Options { mode: root.mode, uid: root.uid, gid: root.gid, ..*o }, &sb.kind));
    Ok(())
}

/// A number with a unit, as C writes numbers, and what follows.
fn size<'a>(key: &str, text: &'a str) -> Result<(u64, &'a str), Wrong> {
    let (digits, radix) = match text {
        t if let Some(t) = t.strip_prefix("0x") => (t, 16),
        t if t.starts_with('0') => (t, 8),
        t => (t, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    let n = u64::from_str_radix(digits, radix).map_err(|_| bad_value(key))?;
    let unit = rest.as_bytes().first().map(u8::to_ascii_lowercase);
    let power = unit.and_then(|u| b"kmgtpe".iter().position(|k| *k == u));
    let Some(power) = power else { return Ok((n, rest)) };
    let n = n.checked_mul(1 << (10 * (power + 1))).ok_or_else(|| bad_value(key))?;
    Ok((n, &rest[1..]))
}

fn whole(key: &str, text: &str) -> Result<u64, Wrong> {
    match size(key, text)? {
        (n, "") => Ok(n),
        _ => Err(bad_value(key)),
    }
}

pub fn set(t: &Task, o: &mut Options, key: &str, v: &Value) -> Result<(), Wrong> {
    let unlimited = |n: u64| if n == 0 { u64::MAX } else { n };
    let bad = || bad_value(key);
    let ns = t.cred().user_ns.clone();
    let invalid = || Wrong::Told(format!("Invalid {key} '{}'", v.text(key).unwrap_or_default()));
    match key {
        "size" => {
            let bytes = match size(key, v.text(key)?)? {
                (n, "") => n,
                (n, "%") => (t.kernel.memory().0 / 100).checked_mul(n).ok_or_else(bad)?,
                _ => return Err(bad()),
            };
            o.bytes = unlimited(bytes.checked_next_multiple_of(PAGE_SIZE).ok_or_else(bad)?);
            o.said.size = true;
        }
        "nr_blocks" => {
            o.bytes = unlimited(whole(key, v.text(key)?)?.checked_mul(PAGE_SIZE).ok_or_else(bad)?);
            o.said.size = true;
        }
        "nr_inodes" => {
            o.inodes = unlimited(whole(key, v.text(key)?)?);
            o.said.inodes = true;
        }
        "mode" => o.mode = v.number(key, 8)? & 0o7777,
        "uid" => o.uid = ns.user(v.number(key, 0)?).ok_or_else(invalid)?,
        "gid" => o.gid = ns.group(v.number(key, 0)?).ok_or_else(invalid)?,
        "inode64" | "inode32" | "noswap" => v.flag(key)?,
        "huge" => v.one_of(key, &["never"])?,
        _ => return Err(Wrong::Unknown),
    }
    Ok(())
}

pub fn set_ramfs(o: &mut Options, key: &str, v: &Value) -> Result<(), Wrong> {
    match key {
        "mode" => o.mode = v.number(key, 8)? & 0o7777,
        _ => return Err(Wrong::Unknown),
    }
    Ok(())
}

/// As Linux shows them: what was said, in its order.
fn text(t: &Task, o: &Options, kind: &str) -> String {
    if kind == "ramfs" {
        return if o.mode == RAMFS_MODE { String::new() } else { format!(",mode={:o}", o.mode) };
    }
    let mut s = String::new();
    if o.said.size && o.bytes != u64::MAX {
        s += &format!(",size={}k", o.bytes / 1024);
    }
    if o.said.inodes && o.inodes != u64::MAX {
        s += &format!(",nr_inodes={}", o.inodes);
    }
    if o.mode != MODE {
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

//! /proc/PID/uid_map, gid_map and setgroups: user_namespaces(7).
use abi::{Errno, Result};
use kernel::cred::{CAP_SETFCAP, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, Cred};
use kernel::userns::{Extent, Kind, UserNs};
use std::fmt::Write;
use std::rc::Rc;
use task::{Kernel, Task};

/// Is it the path of one that takes writes?
pub fn is(path: &str) -> bool {
    matches!(path.rsplit_once('/'), Some((_, "uid_map" | "gid_map" | "setgroups")))
}

/// The user namespace of who asks.
pub fn callers(k: &Kernel) -> Rc<UserNs> {
    k.task(task::caller().1).map_or_else(UserNs::first, |t| t.cred().user_ns.clone())
}

pub fn text(k: &Kernel, t: &Task, name: &str) -> String {
    let ns = t.cred().user_ns.clone();
    if name == "setgroups" {
        return if ns.setgroups.get() { "allow\n" } else { "deny\n" }.into();
    }
    let kind = if name == "uid_map" { Kind::User } else { Kind::Group };
    let line = |first: u32, outer: u32, count: u32| format!("{first:10} {outer:10} {count:10}\n");
    if ns.is_first() {
        return match &k.config.id_ranges {
            None => line(0, 0, u32::MAX),
            Some(ranges) => ranges[kind as usize].iter().map(|e| line(e.first, e.outer, e.count)).collect(),
        };
    }
    // What is above is named as the reader names it; to those inside as the namespace above does.
    let mine = callers(k);
    let reader = if mine == ns { ns.parent.clone().unwrap_or(mine) } else { mine };
    let mut s = String::new();
    for e in ns.extents(kind) {
        let _ = s.write_str(&line(e.first, reader.outward(kind, e.kernel).unwrap_or(u32::MAX), e.count));
    }
    s
}

/// Writes one of them, for thread `by`.
pub fn write(t: &Task, by: &Task, name: &str, data: &[u8]) -> Result {
    let ns = t.cred().user_ns.clone();
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let who = by.cred();
    if name == "setgroups" {
        return set_groups(&ns, &who, text.trim_end());
    }
    let kind = if name == "uid_map" { Kind::User } else { Kind::Group };
    let parent = ns.parent.clone().ok_or(Errno::EPERM)?;
    if who.user_ns != ns && who.user_ns != parent {
        return Err(Errno::EPERM);
    }
    if !ns.extents(kind).is_empty() || !who.has_in(&ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let extents = UserNs::parse(text)?;
    if !may_map(&ns, &parent, &who, kind, &extents) {
        return Err(Errno::EPERM);
    }
    ns.set_map(kind, extents)
}

/// "Defining user and group ID mappings: writing to uid_map and gid_map".
fn may_map(ns: &Rc<UserNs>, parent: &Rc<UserNs>, who: &Cred, kind: Kind, extents: &[Extent]) -> bool {
    let with_root = kind == Kind::User && extents.iter().any(|e| e.outer == 0);
    let may_root = if who.user_ns == *ns { ns.setfcap } else { who.has_in(parent, CAP_SETFCAP) };
    if with_root && !may_root {
        return false;
    }
    if let [Extent { outer, count: 1, .. }] = extents
        && ns.owner == who.euid
    {
        let own = match kind {
            Kind::User => parent.user(*outer) == Some(who.euid),
            Kind::Group => !ns.setgroups.get() && parent.group(*outer) == Some(who.egid),
        };
        if own {
            return true;
        }
    }
    who.has_in(parent, if kind == Kind::User { CAP_SETUID } else { CAP_SETGID })
}

fn set_groups(ns: &Rc<UserNs>, who: &Cred, word: &str) -> Result {
    if !who.has_in(ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    match word {
        "allow" if ns.setgroups.get() => Ok(()),
        "allow" => Err(Errno::EPERM),
        "deny" if ns.is_first() || !ns.extents(Kind::Group).is_empty() => Err(Errno::EPERM),
        "deny" => {
            ns.setgroups.set(false);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

//! Which users and groups exist in the sandbox's two user namespaces.
use crate::error::{Context, Failure};
use crate::proc::Proc;
use host::caps::CapabilitySet;
use rustix::fs::{Gid, Uid};
use rustix::process::DumpableBehavior;
use wire::{IdMap, IdRange, IdRanges};

/// What the stubs run as, where there is a choice: the host's nobody owns nothing.
const NOBODY: u32 = 65534;

/// The lines for the sentry's namespace and for the one of the stubs below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Maps {
    pub kind: IdMap,
    /// What is written to the sentry's `uid_map` and `gid_map`.
    pub sentry: [String; 2],
    /// What is written to the stubs' `uid_map` and `gid_map`.
    pub stubs: [String; 2],
    /// Its root is not the caller: it has to be taken on.
    moved: bool,
}

/// The kernel's own limit of lines.
const MOST_RANGES: usize = 340;

/// A range of ids that exist in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    count: u64,
}

/// Root maps every id it has to itself, so that files keep their owners, and gives the stubs nobody's id.
/// Anybody else has one id only: the sandbox's root is the caller. `given`: what root wants otherwise.
pub fn maps(proc: &Proc, given: Option<&IdRanges>) -> Result<Maps, Failure> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SYS_ADMIN;
    let privileged = uid == 0 && host::caps::effective().is_ok_and(|c| c.contains(needed));
    if let Some(given) = given {
        if !privileged {
            return Err(Failure::new("mapping ids: this needs root, with its capabilities"));
        }
        return moved(given);
    }
    if privileged {
        let uids = ranges(&proc.read("self/uid_map")?);
        let gids = ranges(&proc.read("self/gid_map")?);
        if let (Some(u), Some(g)) = (stub_id(&uids), stub_id(&gids)) {
            return Ok(Maps {
                kind: IdMap::Identity,
                sentry: [identity(&uids), identity(&gids)],
                stubs: [format!("0 {u} 1\n"), format!("0 {g} 1\n")],
                moved: false,
            });
        }
    }
    Ok(Maps {
        kind: IdMap::Single,
        sentry: [format!("0 {uid} 1\n"), format!("0 {gid} 1\n")],
        stubs: ["0 0 1\n".into(), "0 0 1\n".into()],
        moved: false,
    })
}

/// The sandbox's ids are others of the host's. Its own root has to be among them, as what the sentry itself is.
fn moved(given: &IdRanges) -> Result<Maps, Failure> {
    let mut lines = [String::new(), String::new()];
    let mut stubs = lines.clone();
    for (n, (what, list)) in [("users", &given.uids), ("groups", &given.gids)].into_iter().enumerate() {
        check(what, list)?;
        lines[n] = list.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect();
        let inside: Vec<_> = list.iter().map(|r| Range { first: r.inside.into(), count: r.count.into() }).collect();
        let id = stub_id(&inside).ok_or_else(|| Failure::new(format!("mapping {what}: more than one is needed")))?;
        stubs[n] = format!("0 {id} 1\n");
    }
    Ok(Maps { kind: IdMap::Identity, sentry: lines, stubs, moved: true })
}

fn check(what: &str, list: &[IdRange]) -> Result<(), Failure> {
    let refuse = |why: &str| Err(Failure::new(format!("mapping {what}: {why}")));
    if list.is_empty() || list.len() > MOST_RANGES {
        return refuse("from 1 to 340 ranges are possible");
    }
    let fits = |first: u32, count: u32| count > 0 && u64::from(first) + u64::from(count) < 1 << 32;
    if !list.iter().all(|r| fits(r.inside, r.count) && fits(r.outside, r.count)) {
        return refuse("a range is empty, or goes beyond the last id");
    }
    if !list.iter().any(|r| r.inside == 0) {
        return refuse("0 must be among those inside");
    }
    Ok(())
}

/// In the new process, once it has its map: it becomes the namespace's root, if it is not so already.
pub fn take_on(maps: &Maps) -> Result<(), Failure> {
    if !maps.moved {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[]).context("setgroups")?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).context("setresgid")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).context("setresuid")?;
    // Otherwise what is below /proc/self, and what a child of it writes its map to, would be the host's root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).context("PR_SET_DUMPABLE")
}

/// Gives the process with this number its ids: what it is in its new user namespace.
pub fn write(proc: &Proc, number: i32, maps: &Maps) -> Result<(), Failure> {
    if maps.kind == IdMap::Single {
        // The kernel's condition for mapping a group without privilege.
        proc.write(&format!("{number}/setgroups"), "deny")?;
    }
    proc.write(&format!("{number}/uid_map"), &maps.sentry[0])?;
    proc.write(&format!("{number}/gid_map"), &maps.sentry[1])
}

/// Lines of `/proc/self/uid_map`: first id here, first id in the parent, count.
fn ranges(map: &str) -> Vec<Range> {
    let line = |l: &str| {
        let mut numbers = l.split_whitespace().map(|n| n.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Range { first, count })
    };
    map.lines().filter_map(line).collect()
}

fn identity(ranges: &[Range]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.first, r.first, r.count)).collect()
}

/// Nobody's id if it exists, otherwise the last one; `None` if there is only root's.
fn stub_id(ranges: &[Range]) -> Option<u64> {
    let nobody = u64::from(NOBODY);
    if ranges.iter().any(|r| r.first <= nobody && nobody < r.first + r.count) {
        return Some(nobody);
    }
    ranges.iter().map(|r| r.first + r.count.saturating_sub(1)).max().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_host() {
        let r = ranges("         0          0 4294967295\n");
        assert_eq!(identity(&r), "0 0 4294967295\n");
        assert_eq!(stub_id(&r), Some(65534));
    }

    #[test]
    fn inside_another_container() {
        let r = ranges("0 1000 1\n1 100000 60000\n");
        assert_eq!(identity(&r), "0 0 1\n1 1 60000\n");
        assert_eq!(stub_id(&r), Some(60000));
    }

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn moved_ids() {
        let uids = vec![range(0, 100_000, 1000), range(2000, 300_000, 5)];
        let maps = moved(&IdRanges { uids, gids: vec![range(0, 7, 65536)] }).expect("valid");
        assert_eq!(maps.sentry, ["0 100000 1000\n2000 300000 5\n".to_owned(), "0 7 65536\n".into()]);
        assert_eq!(maps.stubs, ["0 2004 1\n".to_owned(), "0 65534 1\n".into()]);
    }

    #[test]
    fn ids_that_cannot_be_moved() {
        let good = vec![range(0, 1, 2)];
        for bad in
            [vec![], vec![range(1, 1, 9)], vec![range(0, 1, 0)], vec![range(0, u32::MAX - 1, 2)], vec![range(0, 5, 1)]]
        {
            assert!(moved(&IdRanges { uids: bad.clone(), gids: good.clone() }).is_err(), "{bad:?}");
            assert!(moved(&IdRanges { uids: good.clone(), gids: bad }).is_err());
        }
    }

    #[test]
    fn one_id_is_not_enough() {
        assert_eq!(stub_id(&ranges("0 1000 1\n")), None);
        assert_eq!(stub_id(&[]), None);
    }
}

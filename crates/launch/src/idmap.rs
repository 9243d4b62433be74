//! Which users and groups exist in the sandbox's two user namespaces.
use crate::error::Failure;
use crate::proc::Proc;
use host::caps::CapabilitySet;
use wire::IdMap;

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
}

/// A range of ids that exist in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    count: u64,
}

/// Root maps every id it has to itself, so that files keep their owners, and gives the stubs nobody's id.
/// Anybody else has one id only: the sandbox's root is the caller.
pub fn maps(proc: &Proc) -> Result<Maps, Failure> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SYS_ADMIN;
    let privileged = uid == 0 && host::caps::effective().is_ok_and(|c| c.contains(needed));
    if privileged {
        let uids = ranges(&proc.read("self/uid_map")?);
        let gids = ranges(&proc.read("self/gid_map")?);
        if let (Some(u), Some(g)) = (stub_id(&uids), stub_id(&gids)) {
            return Ok(Maps {
                kind: IdMap::Identity,
                sentry: [identity(&uids), identity(&gids)],
                stubs: [format!("0 {u} 1\n"), format!("0 {g} 1\n")],
            });
        }
    }
    Ok(Maps {
        kind: IdMap::Single,
        sentry: [format!("0 {uid} 1\n"), format!("0 {gid} 1\n")],
        stubs: ["0 0 1\n".into(), "0 0 1\n".into()],
    })
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

    #[test]
    fn one_id_is_not_enough() {
        assert_eq!(stub_id(&ranges("0 1000 1\n")), None);
        assert_eq!(stub_id(&[]), None);
    }
}

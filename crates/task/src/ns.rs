//! Namespaces of a thread, besides the mounts (they go with its directories) and the users (with its credentials):
//! namespaces(7).
use crate::{Kernel, Task};
use abi::fs::MntNsInfo;
use abi::{Errno, Result, c};
use kernel::userns::*;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use vfs::{FileOps, MountTable, OpenFile};

pub const CLONE_NEWTIME: i32 = 0x80;

/// Host and domain name: uts_namespaces(7).
pub struct UtsNs {
    pub ino: u64,
    pub user_ns: Rc<UserNs>,
    pub hostname: RefCell<Vec<u8>>,
    pub domainname: RefCell<Vec<u8>>,
}

/// System V IPC: ipc_namespaces(7).
pub struct IpcNs {
    pub ino: u64,
    pub user_ns: Rc<UserNs>,
    pub sysv: ipc::sysv::Sysv,
}

/// cgroup_namespaces(7). There is one cgroup, which is the root of each.
pub struct CgroupNs {
    pub ino: u64,
    pub user_ns: Rc<UserNs>,
}

#[derive(Clone)]
pub struct Namespaces {
    pub uts: Rc<UtsNs>,
    pub ipc: Rc<IpcNs>,
    pub cgroup: Rc<CgroupNs>,
}

impl Namespaces {
    pub(crate) fn first(hostname: &str) -> Rc<Namespaces> {
        let user_ns = UserNs::first();
        let uts = UtsNs {
            ino: FIRST_UTS_INO,
            user_ns: user_ns.clone(),
            hostname: RefCell::new(hostname.as_bytes().to_vec()),
            domainname: RefCell::new(b"(none)".to_vec()),
        };
        let ipc = IpcNs { ino: FIRST_IPC_INO, user_ns: user_ns.clone(), sysv: Default::default() };
        let cgroup = CgroupNs { ino: FIRST_CGROUP_INO, user_ns };
        Rc::new(Namespaces { uts: Rc::new(uts), ipc: Rc::new(ipc), cgroup: Rc::new(cgroup) })
    }

    /// With fresh ones of the kinds in `flags` (CLONE_NEW…), that belong to `user_ns`.
    pub fn with_new(&self, flags: i32, user_ns: &Rc<UserNs>) -> Rc<Namespaces> {
        let mut n = self.clone();
        let user_ns = user_ns.clone();
        if flags & c::CLONE_NEWUTS != 0 {
            let (hostname, domainname) = (self.uts.hostname.clone(), self.uts.domainname.clone());
            n.uts = Rc::new(UtsNs { ino: new_ino(), user_ns: user_ns.clone(), hostname, domainname });
        }
        if flags & c::CLONE_NEWIPC != 0 {
            n.ipc = Rc::new(IpcNs { ino: new_ino(), user_ns: user_ns.clone(), sysv: Default::default() });
        }
        if flags & c::CLONE_NEWCGROUP != 0 {
            n.cgroup = Rc::new(CgroupNs { ino: new_ino(), user_ns });
        }
        Rc::new(n)
    }
}

/// A namespace, as a descriptor holds it.
#[derive(Clone)]
pub enum Namespace {
    Mount(Rc<MountTable>),
    User(Rc<UserNs>),
    Uts(Rc<UtsNs>),
    Ipc(Rc<IpcNs>),
    Cgroup(Rc<CgroupNs>),
    /// Of these there is one each.
    Net,
    Pid,
    Time,
}

impl Namespace {
    /// The names in /proc/PID/ns.
    pub const NAMES: [&'static str; 10] =
        ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

    /// That of a thread, by its name in /proc/PID/ns.
    pub fn of(t: &Task, name: &str) -> Option<Namespace> {
        let ns = t.namespaces();
        Some(match name {
            "cgroup" => Namespace::Cgroup(ns.cgroup.clone()),
            "ipc" => Namespace::Ipc(ns.ipc.clone()),
            "mnt" => Namespace::Mount(t.fs().mounts.clone()),
            "net" => Namespace::Net,
            "pid" | "pid_for_children" => Namespace::Pid,
            "time" | "time_for_children" => Namespace::Time,
            "user" => Namespace::User(t.cred().user_ns.clone()),
            "uts" => Namespace::Uts(ns.uts.clone()),
            _ => return None,
        })
    }

    pub fn kind(&self) -> i32 {
        match self {
            Namespace::Mount(_) => c::CLONE_NEWNS,
            Namespace::User(_) => c::CLONE_NEWUSER,
            Namespace::Uts(_) => c::CLONE_NEWUTS,
            Namespace::Ipc(_) => c::CLONE_NEWIPC,
            Namespace::Cgroup(_) => c::CLONE_NEWCGROUP,
            Namespace::Net => c::CLONE_NEWNET,
            Namespace::Pid => c::CLONE_NEWPID,
            Namespace::Time => CLONE_NEWTIME,
        }
    }

    pub fn ino(&self) -> u64 {
        match self {
            Namespace::Mount(n) => n.ino,
            Namespace::User(n) => n.ino,
            Namespace::Uts(n) => n.ino,
            Namespace::Ipc(n) => n.ino,
            Namespace::Cgroup(n) => n.ino,
            Namespace::Net => FIRST_NET_INO,
            Namespace::Pid => FIRST_PID_INO,
            Namespace::Time => FIRST_TIME_INO,
        }
    }

    /// The user namespace it belongs to; of a user namespace the one above. `None`: the first has none.
    pub fn owner(&self) -> Option<Rc<UserNs>> {
        match self {
            Namespace::Mount(n) => Some(n.user_ns.clone()),
            Namespace::User(n) => n.parent.clone(),
            Namespace::Uts(n) => Some(n.user_ns.clone()),
            Namespace::Ipc(n) => Some(n.user_ns.clone()),
            Namespace::Cgroup(n) => Some(n.user_ns.clone()),
            Namespace::Net | Namespace::Pid | Namespace::Time => Some(UserNs::first()),
        }
    }

    /// Where its link leads in words.
    pub fn text(&self) -> String {
        let name = match self.kind() {
            c::CLONE_NEWNS => "mnt",
            c::CLONE_NEWUSER => "user",
            c::CLONE_NEWUTS => "uts",
            c::CLONE_NEWIPC => "ipc",
            c::CLONE_NEWCGROUP => "cgroup",
            c::CLONE_NEWNET => "net",
            c::CLONE_NEWPID => "pid",
            _ => "time",
        };
        format!("{name}:[{}]", self.ino())
    }
}

/// What opening /proc/PID/ns/NAME gives.
pub struct NsFile(pub Namespace);

impl NsFile {
    pub fn open(ns: Namespace) -> Rc<OpenFile> {
        OpenFile::new(Rc::new(NsFile(ns)), c::O_RDONLY, None)
    }

    /// ioctl_nsfs(2): another file, or a number.
    pub fn ioctl(&self, by: &Task, cmd: u32) -> Result<NsAnswer> {
        const NS_GET_USERNS: u32 = 0xb701;
        const NS_GET_PARENT: u32 = 0xb702;
        const NS_GET_NSTYPE: u32 = 0xb703;
        const NS_GET_OWNER_UID: u32 = 0xb704;
        const NS_GET_MNTNS_ID: u32 = 0x8008_b705;
        const NS_MNT_GET_INFO: u32 = 0x8010_b70a;
        const NS_MNT_GET_NEXT: u32 = 0x8010_b70b;
        const NS_MNT_GET_PREV: u32 = 0x8010_b70c;
        let mine = by.cred().user_ns.clone();
        let info = |ns: &MountTable| MntNsInfo {
            size: size_of::<MntNsInfo>() as u32,
            mounts: ns.all().len() as u32,
            id: ns.id(),
        };
        let seen = |ns: Option<Rc<UserNs>>| {
            let ns = ns.filter(|ns| ns.is_within(&mine)).ok_or(Errno::EPERM)?;
            Ok(NsAnswer::File(NsFile::open(Namespace::User(ns))))
        };
        match (cmd, &self.0) {
            (NS_GET_USERNS, ns) => seen(ns.owner()),
            (NS_GET_PARENT, Namespace::User(ns)) => seen(ns.parent.clone()),
            (NS_GET_PARENT, Namespace::Pid) => Err(Errno::EPERM),
            (NS_GET_PARENT, _) => Err(Errno::EINVAL),
            (NS_GET_NSTYPE, ns) => Ok(NsAnswer::Number(ns.kind())),
            (NS_GET_OWNER_UID, Namespace::User(ns)) => Ok(NsAnswer::Uid(mine.show_user(ns.owner))),
            (NS_GET_OWNER_UID, _) => Err(Errno::EINVAL),
            (NS_GET_MNTNS_ID, Namespace::Mount(ns)) => Ok(NsAnswer::Id(ns.id())),
            (NS_MNT_GET_INFO, Namespace::Mount(ns)) => Ok(NsAnswer::Mounts(None, info(ns))),
            (NS_MNT_GET_NEXT | NS_MNT_GET_PREV, Namespace::Mount(ns)) => {
                if !by.cred().has(kernel::cred::CAP_SYS_ADMIN) {
                    return Err(Errno::EPERM);
                }
                let all = ns.family();
                let found = match cmd {
                    NS_MNT_GET_NEXT => all.iter().find(|o| o.id() > ns.id()),
                    _ => all.iter().rfind(|o| o.id() < ns.id()),
                };
                let ns = found.ok_or(Errno::ENOENT)?;
                Ok(NsAnswer::Mounts(Some(NsFile::open(Namespace::Mount(ns.clone()))), info(ns)))
            }
            (NS_GET_MNTNS_ID | NS_MNT_GET_INFO | NS_MNT_GET_NEXT | NS_MNT_GET_PREV, _) => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }
}

pub enum NsAnswer {
    File(Rc<OpenFile>),
    Number(i32),
    /// To be written where the argument points.
    Uid(u32),
    Id(u64),
    /// The same, of a mount namespace that the file is of.
    Mounts(Option<Rc<OpenFile>>, MntNsInfo),
}

impl FileOps for NsFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Task {
    pub fn namespaces(&self) -> Rc<Namespaces> {
        self.ns.borrow().clone()
    }
    pub fn set_namespaces(&self, to: Rc<Namespaces>) {
        self.ns.replace(to);
    }
    pub fn ipc(&self) -> Rc<IpcNs> {
        self.ns.borrow().ipc.clone()
    }
}

impl Kernel {
    /// The namespaces of the caller of the call that is served, or the first ones.
    pub fn callers_namespaces(&self) -> Rc<Namespaces> {
        self.task(crate::caller().1).map_or_else(|| self.first.clone(), |t| t.namespaces())
    }
}

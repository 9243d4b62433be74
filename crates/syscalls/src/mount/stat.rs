//! What there is to know of mounts: statmount(2), listmount(2).
use super::attr;
use crate::args::{Flags, OutBuf};
use abi::fs::{MntIdReq, Statmount};
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use task::ns::{Namespace, NsFile};
use vfs::mount::{SB_DIRSYNC, SB_LAZYTIME, SB_RDONLY, SB_SYNCHRONOUS, UNIQUE_ID_OFFSET};
use vfs::{Mount, MountTable, Path};
use zerocopy::{FromZeros, IntoBytes};

const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const PROPAGATE_FROM: u64 = 0x4;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_NS_ID: u64 = 0x40;
const MNT_OPTS: u64 = 0x80;
const FS_SUBTYPE: u64 = 0x100;
const SB_SOURCE: u64 = 0x200;
const OPT_ARRAY: u64 = 0x400;
const OPT_SEC_ARRAY: u64 = 0x800;
const SUPPORTED_MASK: u64 = 0x1000;
const MNT_UIDMAP: u64 = 0x2000;
const MNT_GIDMAP: u64 = 0x4000;
/// What is told in strings.
const STRINGS: u64 = MNT_ROOT
    | MNT_POINT
    | FS_TYPE
    | MNT_OPTS
    | FS_SUBTYPE
    | SB_SOURCE
    | OPT_ARRAY
    | OPT_SEC_ARRAY
    | MNT_UIDMAP
    | MNT_GIDMAP;

/// The mounts that may be asked for: a namespace, and where it is seen from.
struct View {
    ns: Rc<MountTable>,
    root: Path,
    /// Who asks may know of what is not below that.
    all: bool,
}

impl View {
    fn find(&self, id: u64) -> Result<Rc<Mount>> {
        self.ns.all().into_iter().find(|m| m.unique == id).ok_or(Errno::ENOENT)
    }
    /// EPERM unless that may be known.
    fn may_see(&self, m: &Rc<Mount>) -> Result {
        if self.all || m.reachable(&self.root) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

fn request(t: &Task, req: UserIn<MntIdReq>) -> Result<MntIdReq> {
    const FIRST: usize = 24;
    let mem = t.mem();
    let size: u32 = UserIn::new(req.addr()).get(&*mem)?;
    let req = req.get_sized(&*mem, size as usize, FIRST)?;
    if req.mnt_id <= UNIQUE_ID_OFFSET { Err(Errno::EINVAL) } else { Ok(req) }
}

/// The namespace that is asked about. ENOENT: there is none, or it is not the caller's to know.
fn view(t: &Task, req: &MntIdReq) -> Result<View> {
    let (mine, cred) = (t.fs().mounts.clone(), t.cred());
    let ns = match (req.mnt_ns_id, req.mnt_ns_fd) {
        (0, 0) => mine.clone(),
        (0, fd) => match t.files()?.get(fd as i32)?.downcast::<NsFile>() {
            Some(NsFile(Namespace::Mount(ns))) => ns.clone(),
            _ => return Err(Errno::EINVAL),
        },
        (_, fd) if fd != 0 => return Err(Errno::EINVAL),
        (id, _) => mine.family().into_iter().find(|ns| ns.id() == id).ok_or(Errno::ENOENT)?,
    };
    let all = cred.has_in(&ns.user_ns, CAP_SYS_ADMIN);
    let own = Rc::ptr_eq(&ns, &mine);
    if !own && !all {
        return Err(Errno::ENOENT);
    }
    let root = if own { t.fs().root.borrow().clone() } else { ns.root().ok_or(Errno::ENOENT)? };
    Ok(View { ns, root, all })
}

/// The answer as it grows.
struct Answer {
    head: Statmount,
    /// An empty one stands first, for those that are not there.
    strings: Vec<u8>,
    room: usize,
}

impl Answer {
    /// Adds a string and tells where it begins, unless it is empty. EOVERFLOW: there is no room for it.
    fn string(&mut self, what: u64, text: &[u8]) -> Result<u32> {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return Ok(0);
        }
        let at = self.strings.len();
        if size_of::<Statmount>() + at + text.len() >= self.room {
            return Err(Errno::EOVERFLOW);
        }
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        self.head.mask |= what;
        Ok(at as u32)
    }

    fn numbers(&mut self, t: &Task, mask: u64, m: &Rc<Mount>, v: &View) -> Result {
        let h = &mut self.head;
        h.mask = mask & (SB_BASIC | MNT_BASIC | PROPAGATE_FROM | MNT_NS_ID | SUPPORTED_MASK);
        if mask & SB_BASIC != 0 {
            let dev = m.sb.dev();
            (h.sb_dev_major, h.sb_dev_minor) = (c::major(dev), c::minor(dev));
            h.sb_magic = m.statfs(&m.root)?.magic as u64;
            h.sb_flags = m.sb.flags() & (SB_RDONLY | SB_SYNCHRONOUS | SB_DIRSYNC | SB_LAZYTIME);
        }
        if mask & MNT_BASIC != 0 {
            let parent = m.on().map_or_else(|| m.clone(), |on| on.mount);
            (h.mnt_id, h.mnt_parent_id) = (m.unique, parent.unique);
            (h.mnt_id_old, h.mnt_parent_id_old) = (m.id as u32, parent.id as u32);
            h.mnt_attr = attr::of(m);
            (h.mnt_peer_group, h.mnt_master) = (u64::from(m.group()), u64::from(m.master()));
            let kinds =
                [(m.group() != 0, c::MS_SHARED), (m.master() != 0, c::MS_SLAVE), (m.unbindable(), c::MS_UNBINDABLE)];
            let kinds = kinds.iter().filter(|(is, _)| *is).fold(0, |all, (_, k)| all | k);
            h.mnt_propagation = if kinds == 0 { c::MS_PRIVATE } else { kinds };
        }
        if mask & PROPAGATE_FROM != 0 {
            h.propagate_from = u64::from(m.dominating(&t.fs().root.borrow()));
        }
        if mask & MNT_NS_ID != 0 {
            h.mnt_ns_id = v.ns.id();
        }
        if mask & SUPPORTED_MASK != 0 {
            h.supported_mask = (SUPPORTED_MASK << 3) - 1;
        }
        Ok(())
    }

    fn texts(&mut self, mask: u64, m: &Rc<Mount>, v: &View) -> Result {
        if mask & FS_TYPE != 0 {
            self.head.fs_type = self.string(FS_TYPE, m.sb.kind.as_bytes())?;
        }
        if mask & MNT_ROOT != 0 {
            self.head.mnt_root = self.string(MNT_ROOT, &m.root_name())?;
        }
        if mask & MNT_POINT != 0 {
            let place = Path { mount: m.clone(), dentry: m.root.clone() };
            let name = vfs::name_of(&place, &v.root).unwrap_or_default();
            self.head.mnt_point = self.string(MNT_POINT, &name)?;
        }
        let options = m.sb.options.borrow().trim_start_matches(',').to_owned();
        if mask & MNT_OPTS != 0 {
            self.head.mnt_opts = self.string(MNT_OPTS, options.as_bytes())?;
        }
        if mask & OPT_ARRAY != 0 && !options.is_empty() {
            self.head.opt_num = options.split(',').count() as u32;
            self.head.opt_array = self.string(OPT_ARRAY, options.replace(',', "\0").as_bytes())?;
        }
        if mask & SB_SOURCE != 0 {
            self.head.sb_source = self.string(SB_SOURCE, m.source.as_bytes())?;
        }
        Ok(())
    }
}

pub fn statmount(t: &Rc<Task>, req: UserIn<MntIdReq>, buf: OutBuf<2>, size: usize, flags: Flags) -> Result {
    flags.only(0)?;
    let req = request(t, req)?;
    let v = view(t, &req)?;
    let mask = req.param;
    if mask & STRINGS != 0 && size == size_of::<Statmount>() {
        return Err(Errno::EOVERFLOW);
    }
    let m = v.find(req.mnt_id)?;
    v.may_see(&m)?;
    let mut answer = Answer { head: Statmount::new_zeroed(), strings: Vec::new(), room: size };
    answer.numbers(t, mask, &m, &v)?;
    answer.texts(mask, &m, &v)?;
    let head = size.min(size_of::<Statmount>());
    answer.head.size = (head + answer.strings.len()) as u32;
    let mut bytes = answer.head.as_bytes()[..head].to_vec();
    bytes.extend_from_slice(&answer.strings);
    t.mem().write(buf.0, &bytes)
}

pub fn listmount(t: &Rc<Task>, req: UserIn<MntIdReq>, ids: UserOut<u64>, n: usize, flags: Flags) -> Result<usize> {
    const REVERSE: i32 = 1;
    const LSMT_ROOT: u64 = u64::MAX;
    const MOST: usize = 1_000_000;
    let reverse = flags.only(REVERSE)? != 0;
    if n > MOST {
        return Err(Errno::EOVERFLOW);
    }
    let req = request(t, req)?;
    let last = req.param;
    if last != 0 && last <= UNIQUE_ID_OFFSET {
        return Err(Errno::EINVAL);
    }
    let v = view(t, &req)?;
    let top = match req.mnt_id {
        LSMT_ROOT => v.root.clone(),
        id => {
            let mount = v.find(id)?;
            Path { dentry: mount.root.clone(), mount }
        }
    };
    v.may_see(&top.mount)?;
    let mut all = v.ns.all();
    if reverse {
        all.reverse();
    }
    let comes = |m: &&Rc<Mount>| match last {
        0 => true,
        last if reverse => m.unique < last,
        last => m.unique > last,
    };
    let below = all.iter().filter(comes).filter(|m| m.unique != req.mnt_id && m.reachable(&top));
    let found: Vec<u64> = below.take(n).map(|m| m.unique).collect();
    if !found.is_empty() {
        t.mem().write(ids.addr(), found.as_bytes())?;
    }
    Ok(found.len())
}

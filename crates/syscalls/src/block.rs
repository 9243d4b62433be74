//! Block devices: what depends on who asks, and ioctl(2). loop(4), and the BLK commands of ioctl_list(2).
use abi::block::*;
use abi::{Errno, PAGE_SIZE, Result, c};
use block::{BlockFile, Control, Device, Status};
use guest::{Memory, UserIn, UserOut};
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use vfs::{FileOps, OpenFile};

/// Sectors that one transfer has at most.
const TRANSFER_MAX: u16 = 2560;

/// Opens a loop device, or `None`: /dev/loop-control. ENXIO: the container has none.
pub(crate) fn open(t: &Rc<Task>, place: vfs::Path, number: Option<u32>, flags: i32) -> Result<Rc<OpenFile>> {
    let first = t.kernel.process(t.process.container);
    if !first.is_some_and(|p| p.block_devices.get()) {
        return Err(Errno::ENXIO);
    }
    let ops: Rc<dyn FileOps> = match number {
        Some(n) => Rc::new(t.kernel.loops.get(n)?.open(flags & c::O_EXCL != 0)?),
        None => Rc::new(Control),
    };
    vfs::inotify::happened(&place.dentry, c::IN_OPEN);
    Ok(OpenFile::new(ops, flags & crate::tty::KEPT, Some(place)))
}

/// ioctl(2) on a block device or /dev/loop-control. `None`: it is neither.
pub(crate) fn ioctl(t: &Rc<Task>, f: &Rc<OpenFile>, cmd: u32, arg: u64) -> Option<Result<i64>> {
    if f.downcast::<Control>().is_some() {
        return Some(control(t, cmd, arg as i32));
    }
    let b = f.downcast::<BlockFile>()?;
    Some(match cmd {
        LOOP_SET_FD..=LOOP_CONFIGURE => loop_command(t, f, b, cmd, arg).map(|()| 0),
        _ => command(t, f, b, cmd, arg).map(|()| 0),
    })
}

/// ENOSYS: it is no command of this device.
fn control(t: &Task, cmd: u32, number: i32) -> Result<i64> {
    let loops = &t.kernel.loops;
    let n = u32::try_from(number);
    match cmd {
        LOOP_CTL_ADD => loops.add(n.ok()).map(i64::from),
        LOOP_CTL_REMOVE => loops.remove(n.map_err(|_| Errno::EINVAL)?).map(|()| 0),
        LOOP_CTL_GET_FREE => loops.free().map(i64::from),
        _ => Err(Errno::ENOSYS),
    }
}

/// The file that is to be stood on.
fn file(t: &Task, fd: i32) -> Result<Rc<OpenFile>> {
    t.files()?.get(fd).and_then(|f| if f.flags() & c::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(f) })
}

fn configure(t: &Task, f: &OpenFile, b: &BlockFile, config: &LoopConfig) -> Result {
    let on = file(t, config.fd as i32)?;
    b.device.configure(b, f.writable(), &on, config.block_size, Status::of(&config.info)?)
}

fn loop_command(t: &Rc<Task>, f: &OpenFile, b: &BlockFile, cmd: u32, arg: u64) -> Result {
    let (d, mem) = (&b.device, t.mem());
    let trusted = f.writable() || t.cred().has(CAP_SYS_ADMIN);
    match cmd {
        LOOP_SET_FD => {
            let config = LoopConfig { fd: arg as u32, block_size: 0, info: blank(), reserved: [0; 8] };
            configure(t, f, b, &config)
        }
        LOOP_CONFIGURE => configure(t, f, b, &UserIn::new(arg).get(&*mem)?),
        LOOP_CHANGE_FD => d.change(&*file(t, arg as i32)?),
        LOOP_CLR_FD => d.clear(),
        LOOP_GET_STATUS => UserOut::new(arg).put(&*mem, &old(&info(d)?)?),
        LOOP_GET_STATUS64 => UserOut::new(arg).put(&*mem, &info(d)?),
        _ if !trusted => Err(Errno::EPERM),
        LOOP_SET_STATUS => d.set_status(b, Status::of(&new(&UserIn::new(arg).get(&*mem)?))?),
        LOOP_SET_STATUS64 => d.set_status(b, Status::of(&UserIn::new(arg).get(&*mem)?)?),
        LOOP_SET_CAPACITY => d.set_capacity(),
        LOOP_SET_DIRECT_IO => d.set_direct(arg != 0),
        _ => d.set_logical(b, arg),
    }
}

fn blank() -> LoopInfo64 {
    LoopInfo64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; LO_NAME_SIZE],
        crypt_name: [0; LO_NAME_SIZE],
        encrypt_key: [0; LO_KEY_SIZE],
        init: [0; 2],
    }
}

fn info(d: &Device) -> Result<LoopInfo64> {
    let (s, a) = d.status()?;
    Ok(LoopInfo64 {
        device: a.dev,
        inode: a.ino,
        rdevice: a.rdev,
        offset: s.offset,
        sizelimit: s.limit,
        number: d.number,
        flags: s.flags,
        file_name: s.name,
        ..blank()
    })
}

/// As LOOP_GET_STATUS tells it. EOVERFLOW: the offset is too large for that.
fn old(n: &LoopInfo64) -> Result<LoopInfo> {
    Ok(LoopInfo {
        number: n.number as i32,
        pad: 0,
        device: n.device,
        inode: n.inode,
        rdevice: n.rdevice,
        offset: i32::try_from(n.offset).map_err(|_| Errno::EOVERFLOW)?,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: n.flags as i32,
        name: n.file_name,
        encrypt_key: [0; LO_KEY_SIZE],
        init: [0; 2],
        reserved: [0; 4],
        pad2: 0,
    })
}

fn new(o: &LoopInfo) -> LoopInfo64 {
    LoopInfo64 {
        offset: o.offset as u64,
        encrypt_type: o.encrypt_type as u32,
        encrypt_key_size: o.encrypt_key_size as u32,
        flags: o.flags as u32,
        file_name: o.name,
        ..blank()
    }
}

/// EACCES: only for who administers the system.
fn admin(t: &Task) -> Result {
    if t.cred().has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EACCES) }
}

/// What every block device is asked. EINVAL: nothing of this one.
fn command(t: &Rc<Task>, f: &OpenFile, b: &BlockFile, cmd: u32, arg: u64) -> Result {
    let (d, mem) = (&b.device, t.mem());
    let int = |n: u64| UserOut::new(arg).put(&*mem, &(n as i32));
    let short = |n: u16| UserOut::new(arg).put(&*mem, &n);
    let long = |n: u64| UserOut::new(arg).put(&*mem, &n);
    match cmd {
        BLKGETSIZE => long(d.size() / SECTOR),
        BLKGETSIZE64 => long(d.size()),
        BLKSSZGET | BLKPBSZGET | BLKIOMIN => int(d.logical()),
        BLKBSZGET => int(d.block_size()),
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES => int(0),
        BLKROGET => int(d.read_only().into()),
        BLKSECTGET => short(TRANSFER_MAX),
        BLKROTATIONAL => short(0),
        BLKGETDISKSEQ => long(d.sequence()),
        BLKRAGET | BLKFRAGET if arg == 0 => Err(Errno::EINVAL),
        BLKRAGET | BLKFRAGET => long(d.read_ahead()),
        BLKRASET | BLKFRASET => admin(t).map(|()| d.set_read_ahead(arg)),
        BLKROSET => {
            admin(t)?;
            d.set_read_only(UserIn::<i32>::new(arg).get(&*mem)? != 0);
            Ok(())
        }
        BLKBSZSET => {
            admin(t)?;
            if arg == 0 {
                return Err(Errno::EINVAL);
            }
            d.set_block_size(b, UserIn::new(arg).get(&*mem)?)
        }
        // Nothing is kept back from the file.
        BLKFLSBUF => admin(t),
        BLKRRPART => admin(t).and_then(|()| reread(d)),
        BLKDISCARD => {
            let range = range(&*mem, arg)?;
            may_write(f)?;
            b.discard(range[0], range[1])
        }
        BLKSECDISCARD => Err(Errno::EOPNOTSUPP),
        BLKZEROOUT => {
            may_write(f)?;
            let range = range(&*mem, arg)?;
            b.zero(range[0], range[1])
        }
        HDIO_GETGEO => Err(Errno::ENOTTY),
        FIGETBSZ => int(PAGE_SIZE),
        _ => Err(Errno::EINVAL),
    }
}

fn may_write(f: &OpenFile) -> Result {
    if f.writable() { Ok(()) } else { Err(Errno::EBADF) }
}

/// Offset and length, in bytes.
fn range(mem: &dyn Memory, arg: u64) -> Result<[u64; 2]> {
    UserIn::new(arg).get(mem)
}

/// There are no tables of partitions that this kernel knows.
fn reread(d: &Device) -> Result {
    let (_, s) = d.backing().ok_or(Errno::EINVAL)?;
    if s.flags & LO_FLAGS_PARTSCAN != 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

//! Programs attached to control groups: bpf(2).
use abi::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
/// Others may attach theirs as well; all have to allow.
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;
/// More than anybody attaches to one group for one purpose.
const MOST: usize = 64;

/// What a program is for: `bpf_prog_type` and `bpf_attach_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    pub kind: u32,
    pub attach: u32,
}

/// `union bpf_attr` of BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// Of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    group: u32,
    program: u32,
    attach: u32,
    flags: u32,
    replaced: u32,
}

/// Of BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    group: u32,
    attach: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
}

/// Of BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

fn call<T>(command: i32, attr: &mut T) -> Result<i64> {
    // SAFETY: every caller passes the structure of its command, whose pointers are to memory that outlives the call and
    // has the size said beside them.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if r < 0 { Err(crate::last()) } else { Ok(r) }
}

/// Checks a program and makes it ready. EPERM: no CAP_BPF or what the purpose needs; EINVAL, EACCES: the host's kernel does
/// not take it.
pub fn load(purpose: Purpose, code: &[u64]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = Load {
        kind: purpose.kind,
        count: u32::try_from(code.len()).map_err(|_| Errno::E2BIG)?,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
        name: *b"rvisor\0\0\0\0\0\0\0\0\0\0",
        interface: 0,
        attach: purpose.attach,
    };
    let fd = call(PROG_LOAD, &mut attr)?;
    // SAFETY: the call has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Has the program asked for all in the group; in the place of `replaced` if there is one.
pub fn attach(
    group: BorrowedFd<'_>,
    purpose: Purpose,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result {
    let mut attr = Attach {
        group: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach: purpose.attach,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    call(PROG_ATTACH, &mut attr).map(drop)
}

/// The program is asked no more.
pub fn detach(group: BorrowedFd<'_>, purpose: Purpose, program: BorrowedFd<'_>) -> Result {
    let (group, program) = (group.as_raw_fd() as u32, program.as_raw_fd() as u32);
    call(PROG_DETACH, &mut Attach { group, program, attach: purpose.attach, flags: 0, replaced: 0 }).map(drop)
}

/// The first of the programs that the group itself has for this purpose.
pub fn attached(group: BorrowedFd<'_>, purpose: Purpose) -> Result<Option<OwnedFd>> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        group: group.as_raw_fd() as u32,
        attach: purpose.attach,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        pad: 0,
    };
    call(PROG_QUERY, &mut query)?;
    if query.count == 0 {
        return Ok(None);
    }
    let fd = call(PROG_GET_FD_BY_ID, &mut ById { id: ids[0], next: 0, flags: 0 })?;
    // SAFETY: the call has just made this descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

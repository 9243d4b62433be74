//! What only the guest's own context can do, told as data: the platform has it done before the thread goes on.
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// One step, in the context of one guest thread. Steps are done in order; a host call that fails ends them.
pub enum Op {
    /// Write bytes to guest memory (a stack, a signal frame).
    Write {
        addr: u64,
        bytes: Vec<u8>,
    },
    /// Zero guest memory.
    Zero {
        addr: u64,
        len: u64,
    },
    /// mmap(2) with MAP_FIXED at an address the kernel chose. `result`: the call returns what the host returns.
    Map {
        addr: u64,
        len: u64,
        prot: i32,
        flags: i32,
        file: Option<(Rc<OwnedFd>, u64)>,
    },
    Unmap {
        addr: u64,
        len: u64,
    },
    Protect {
        addr: u64,
        len: u64,
        prot: i32,
    },
    /// mremap(2) with all four arguments and the new address.
    Remap {
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: i32,
        new_addr: u64,
    },
    Advise {
        addr: u64,
        len: u64,
        advice: i32,
    },
    /// Set the thread's fs base.
    SetFs(u64),
    /// Start a host thread of this process for the guest thread `tag`.
    Thread {
        tag: u64,
    },
    /// Fork this process; the child's thread is guest thread `tag`.
    Fork {
        tag: u64,
    },
    /// Rewrite a call site: the `bytes` at `addr`, in a mapping of protection `prot`. At most 8 bytes, one aligned word.
    Patch {
        addr: u64,
        word: u64,
        prot: i32,
    },
    /// Rewrite call sites in a mapping where nothing has run yet. `words`, for each: the address of two aligned words, those as
    /// they must be, and as they become; others stay.
    Rewrite {
        addr: u64,
        len: u64,
        prot: i32,
        words: Vec<u8>,
    },
    /// Copy the thread's floating point state (XSAVE format, as in a host signal frame) to guest memory.
    SaveFp {
        addr: u64,
        len: u64,
    },
    /// Replace it.
    LoadFp(Vec<u8>),
}

/// How a thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The call returns this.
    Return(i64),
    /// With these registers.
    Regs,
    /// The call returns this, with these registers otherwise.
    ReturnAt(i64),
    /// As it was (after a kick or a fault).
    Unchanged,
    /// The call returns this, and the thread comes again at once with its whole context.
    Context(i64),
    /// The host answers the call: a private futex.
    Natively,
    /// The call, readlink(2), returns EINVAL, and will as long as the number is the last of [`Memory::tell_names`](crate::Memory::tell_names).
    NoLink(u64),
    /// The operations are done, then the thread asks again (`Done`) and waits.
    Pause,
    /// The host thread ends.
    Exit,
}

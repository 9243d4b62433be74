//! The shared memory between a stub and the sentry: its layout, and the switch between hot and cold.
//!
//! Both sides compile this file. Everything shared is an atomic, so a reference to it is sound whatever
//! the other side does; the sentry treats each value it loads as hostile.
//! `docs/design/slot-protocol.md` tells the story.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

pub mod handshake;

use core::sync::atomic::{AtomicU32, AtomicU64};

/// The addresses a stub is built for. The guest lives below `GUEST_END`.
pub mod layout {
    /// End of the guest's addresses; the stub's begin.
    pub const GUEST_END: u64 = 0x7ff0_0000_0000;
    /// The stub's text and data (its executable is linked there).
    pub const STUB_BASE: u64 = 0x7ff0_0000_0000;
    /// Its size at most; system calls from elsewhere are the guest's.
    pub const STUB_SIZE: u64 = 0x10_0000;
    /// Private per-thread memory: one `THREAD_STRIDE` a slot.
    pub const THREADS_BASE: u64 = 0x7ff1_0000_0000;
    pub const THREAD_STRIDE: u64 = 0x1_0000;
    /// Where the shared region is mapped in the stub.
    pub const REGION_BASE: u64 = 0x7ff2_0000_0000;
    /// Threads a process may have.
    pub const SLOTS: usize = 1024;
    /// Bytes from one slot to the next; the first slot follows one stride of control data.
    pub const SLOT_STRIDE: u64 = 0x2_0000;
    pub const REGION_SIZE: u64 = SLOT_STRIDE * (SLOTS as u64 + 1);
    /// Bytes of a slot's data area, which starts `DATA_OFFSET` into the slot.
    pub const DATA_OFFSET: u64 = 0x1000;
    pub const DATA_SIZE: usize = (SLOT_STRIDE - DATA_OFFSET) as usize;
    /// Offset of slot `i` in the region.
    pub const fn slot_offset(i: usize) -> u64 {
        SLOT_STRIDE * (i as u64 + 1)
    }
    /// The jump table of patched call sites, and the code it points to.
    pub const SITES_TABLE: u64 = 0x050f_0000;
    pub const SITES_CODE: u64 = 0x0510_0000;
    pub const SITES_MAX: usize = 8192;
    pub const SITE_CODE_SIZE: u64 = 64;
    pub const SITES_SIZE: u64 = 0x1_0000 + SITES_MAX as u64 * SITE_CODE_SIZE;
    /// The stub's one descriptor.
    pub const SOCKET_FD: u64 = 3;
}

/// The futex commands that threads of one process may give the host (`docs/design/slot-protocol.md`, Futexes).
pub mod futex {
    const WAIT: u32 = 0x80;
    const WAKE: u32 = 0x81;
    const WAIT_BITSET: u32 = 0x89;
    const WAKE_BITSET: u32 = 0x8a;
    const CLOCK_REALTIME: u32 = 0x100;
    /// With their flags; futex(2) says what they do.
    pub const OPS: [u32; 5] = [WAIT, WAKE, WAIT_BITSET, WAKE_BITSET, WAIT_BITSET | CLOCK_REALTIME];
    /// Is it a call that the host may answer? Not a wait for an interval: begun again after a kick, it would be too long.
    pub fn at_host(op: u32, timeout: u64) -> bool {
        OPS.contains(&op) && (op != WAIT || timeout == 0)
    }
    /// Does it wait, of those that the host may answer?
    pub fn waits(op: u32) -> bool {
        !matches!(op, WAKE | WAKE_BITSET)
    }
}

/// Offsets in a thread's private page, which its gs base points to. The entry code names them.
pub mod tls {
    pub const ENTRY: u64 = 0x00;
    pub const SELF: u64 = 0x08;
    pub const STACK: u64 = 0x10;
    pub const KICK: u64 = 0x18;
    pub const SLOT: u64 = 0x20;
    pub const INDEX: u64 = 0x28;
    pub const SEEN: u64 = 0x40;
    /// Registers of a patched entry, as `abi::regs::Regs`.
    pub const REGS: u64 = 0x80;
    /// xmm0 to xmm15.
    pub const XMM: u64 = 0x180;
}

/// At the start of a region.
#[repr(C)]
pub struct Control {
    /// The process's secret: who rings with it is this process.
    pub cookie: AtomicU64,
    /// The number under which the process was told of names that are no links; 0: it holds no longer.
    pub names: AtomicU64,
    /// Nonzero while the process's private futexes are the host's.
    pub futexes: AtomicU32,
    pub pad: AtomicU32,
    /// The address that calls of the site which is being rewritten return to; 0: none is.
    pub covering: AtomicU64,
    pub pad2: [AtomicU32; 8],
    /// Threads that wait for one: they need no CPU.
    pub waiting: AtomicU32,
}

/// Why the stub asks.
pub mod ask {
    /// A system call from a patched site: arguments only.
    pub const CALL: u32 = 1;
    /// A system call that trapped: `regs` is the whole context.
    pub const TRAP: u32 = 2;
    /// A synchronous fault in guest code: `regs`, and `fault`.
    pub const FAULT: u32 = 3;
    /// The thread was kicked: `regs` is the context it was interrupted in.
    pub const KICKED: u32 = 4;
    /// A new thread or process stands ready: no registers.
    pub const READY: u32 = 5;
    /// A host call of the last answer's actions failed: `nr` its index, `args[0]` its result.
    pub const FAILED: u32 = 6;
    /// The actions of an answer with `more` are done.
    pub const DONE: u32 = 7;
    /// Set beside CALL and TRAP: something was copied ahead. Else the sentry leaves that line alone, which it would have to fetch.
    pub const AHEAD: u32 = 0x100;
}

/// Line-sized so that the two sides do not write to one cache line.
#[repr(C, align(64))]
pub struct Request {
    /// Number of the request; written last.
    pub seq: AtomicU32,
    pub kind: AtomicU32,
    pub nr: AtomicU64,
    pub args: [AtomicU64; 6],
}

/// Guest memory that was copied ahead.
#[repr(C)]
pub struct Segment {
    pub addr: AtomicU64,
    pub len: AtomicU32,
    pub offset: AtomicU32,
}

#[repr(C, align(64))]
pub struct Ahead {
    pub segments: [Segment; SEGMENTS],
    /// Bytes of the data area in use by them.
    pub used: AtomicU32,
    /// The low half of the address that the thread's call returns to; or its last one, when it is not calling.
    pub back: AtomicU32,
    /// The guest's stack pointer.
    pub sp: AtomicU64,
}

/// What the thread does after the actions.
pub mod then {
    /// Return `ret` to the guest.
    pub const RETURN: u32 = 0;
    /// Load `regs`.
    pub const REGS: u32 = 1;
    /// A patched call must come again with its whole context: as `ask::KICKED`, with `ret` in rax.
    pub const CONTEXT: u32 = 2;
    /// Ask again with `ask::DONE`.
    pub const MORE: u32 = 3;
    /// End this host thread.
    pub const EXIT: u32 = 4;
    /// Go on as interrupted (answers a kick or a fault).
    pub const RESUME: u32 = 5;
    /// Load `regs`, with `ret` in rax: a call that returns elsewhere.
    pub const RETURN_AT: u32 = 6;
    /// The host is to answer the call: a private futex.
    pub const NATIVELY: u32 = 7;
    /// Return EINVAL: the name is no link, as long as `Control::names` is `ret`.
    pub const NO_LINK: u32 = 8;
}

#[repr(C, align(64))]
pub struct Answer {
    /// Number of the request answered; written last.
    pub seq: AtomicU32,
    pub then: AtomicU32,
    pub ret: AtomicU64,
    pub actions: AtomicU32,
    /// The request of this number is parked: do not spin for it.
    pub parked: AtomicU32,
    /// One copy to guest memory before the actions, so that a small result costs no other line; length 0: none.
    pub copy: Segment,
    pub pad: [AtomicU64; 2],
}

#[repr(C, align(64))]
pub struct Mode {
    /// Nonzero while the sentry looks at this slot without being called.
    pub hot: AtomicU32,
    /// A host thread uses the slot, and the stub memory that goes with it: set by the sentry, cleared by the thread as the
    /// last thing it does.
    pub busy: AtomicU32,
    /// Nonzero while the thread may be waiting for a futex at the host.
    pub waits: AtomicU32,
    pub pad: [AtomicU32; 13],
}

/// One step for the stub, in the guest's own context.
#[repr(C, align(64))]
pub struct Action {
    pub op: AtomicU32,
    /// For HOST: which argument is replaced by a received descriptor (7: none), and which descriptor.
    pub fd_arg: AtomicU32,
    pub args: [AtomicU64; 7],
}

/// What an action does.
pub mod op {
    /// Copy `args[2]` bytes from data offset `args[1]` to guest address `args[0]`. A fault makes the result EFAULT.
    pub const COPY: u32 = 1;
    /// Host call `args[0]` with `args[1..7]`; a result in -4095..0 ends the list (`ask::FAILED`).
    pub const HOST: u32 = 2;
    /// As HOST, and its result becomes `ret`.
    pub const HOST_RET: u32 = 3;
    /// Receive `args[0]` descriptors from the socket.
    pub const RECEIVE: u32 = 4;
    /// Close them.
    pub const CLOSE: u32 = 5;
    /// Zero `args[1]` bytes at `args[0]`.
    pub const ZERO: u32 = 6;
    /// Store the 8 bytes `args[1]` at the aligned address `args[0]`, at once.
    pub const POKE: u32 = 7;
    /// Start a host thread on slot `args[0]` with fs base `args[1]`.
    pub const THREAD: u32 = 8;
    /// Fork; descriptor 0 is the child's socket, 1 its region.
    pub const FORK: u32 = 9;
    /// Copy the interrupted floating point state (`args[1]` bytes) to guest address `args[0]`.
    pub const SAVE_FP: u32 = 10;
    /// Replace it by `args[1]` bytes at data offset `args[0]`.
    pub const LOAD_FP: u32 = 11;
    /// Rewrite words: `args[1]` bytes at data offset `args[0]`, [`REWRITE`](super::REWRITE) for each pair: its address, the pair as it must
    /// be, and as it becomes. Others stay as they are.
    pub const REWRITE: u32 = 12;
}

pub const ACTIONS: usize = 40;
/// Bytes of one entry of [`op::REWRITE`].
pub const REWRITE: usize = 40;

/// A fault, from siginfo.
#[repr(C)]
pub struct Fault {
    pub signo: AtomicU32,
    pub code: AtomicU32,
    pub addr: AtomicU64,
}

/// One guest thread's meeting place with the sentry. The data area follows at `layout::DATA_OFFSET`.
#[repr(C)]
pub struct Slot {
    pub request: Request,
    pub ahead: Ahead,
    pub answer: Answer,
    pub mode: Mode,
    pub fault: Fault,
    /// Bytes of floating point state in a host signal frame.
    pub fp_size: AtomicU64,
    /// Where it is in the stub.
    pub fp_addr: AtomicU64,
    /// `abi::regs::Regs`.
    pub regs: [AtomicU64; 23],
    pub action: [Action; ACTIONS],
}

const _: () = assert!(size_of::<Slot>() <= layout::DATA_OFFSET as usize);
const _: () = assert!(size_of::<Request>() == 64 && size_of::<Ahead>() == 64 && size_of::<Answer>() == 64);

/// What the stub copies ahead for one system call: at most two arguments.
///
/// Packed in 32 bits: per argument 16 bits: bits 0-2 argument + 1 (0: none; 7: see [`Hint::FULL`]),
/// bits 3-4 what it points to ([`Hint::STRING`] …; 0: so many bytes as bits 8-15 say, in units of 8), bits 5-7 which other
/// argument is the length of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hint(pub u32);

impl Hint {
    pub const NONE: Hint = Hint(0);
    /// The call always arrives by a trap, with the whole context.
    pub const FULL: Hint = Hint(7 << 16);

    pub const STRING: u32 = 8;
    pub const BUFFER: u32 = 16;
    /// `struct iovec`s to be read; what the first of them name comes with them.
    pub const VECTOR: u32 = 24;
    /// The bits that tell these.
    pub const WHAT: u32 = 24;
    pub const fn string(arg: u32) -> u32 {
        (arg + 1) | Hint::STRING
    }
    pub const fn buffer(arg: u32, len_arg: u32) -> u32 {
        (arg + 1) | Hint::BUFFER | (len_arg << 5)
    }
    pub const fn vector(arg: u32, len_arg: u32) -> u32 {
        (arg + 1) | Hint::VECTOR | (len_arg << 5)
    }
    pub const fn fixed(arg: u32, size: usize) -> u32 {
        (arg + 1) | ((size.div_ceil(8) as u32) << 8)
    }
    pub const fn pair(a: u32, b: u32) -> Hint {
        Hint(a | (b << 16))
    }
}

/// System call numbers the stub knows hints for.
pub const HINTS: usize = 512;
/// Longest string, and longest buffer, copied ahead.
pub const STRING_MAX: usize = 4096;
pub const BUFFER_MAX: usize = 0x1_0000;
/// The most entries of a vector copied ahead.
pub const VECTOR_MAX: usize = 16;
/// Pieces of guest memory that are copied ahead for one call, at most.
pub const SEGMENTS: usize = 3;

/// Who does what the guest's own context must do.
pub mod mode {
    /// The stub, as its slot says.
    pub const SLOTS: u32 = 0;
    /// The sentry, by ptrace(2): the stub only holds the instruction that makes host calls.
    pub const PTRACE: u32 = 1;
}

/// The first message on the init socket, from the sentry: this header, `filters[0]` and `filters[1]` BPF
/// instructions (8 bytes each), and descriptors: the template's socket and, with slots, its region.
#[repr(C)]
pub struct InitMessage {
    /// One of [`mode`].
    pub mode: u32,
    pub filters: [u32; 2],
    pub hints: [u32; HINTS],
}

/// The reply. With slots it is the template's, and the listener is its descriptor. With ptrace it is init's, which then
/// waits for one more message before it makes the template.
#[repr(C)]
pub struct InitReply {
    /// Address of the vDSO, 0 if none, and its length in bytes.
    pub vdso: u64,
    pub vdso_len: u64,
    pub hwcap: u64,
    pub hwcap2: u64,
    /// With ptrace: where the instructions `syscall; int3` are, and memory of [`SCRATCH_SIZE`] bytes to pass arguments in.
    pub inject: u64,
    pub scratch: u64,
}

pub const SCRATCH_SIZE: u64 = 0x4000;

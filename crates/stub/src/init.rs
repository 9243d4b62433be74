//! How a stub comes to be: the init process, the template, new threads, forked children.
use crate::{HINTS, Tls, entry, signals, sys};
use core::sync::atomic::Ordering::Relaxed;
use slots::{InitMessage, InitReply, layout};

const PROT_RW: u64 = 3;
const MAP_SHARED_FIXED: u64 = 0x1 | 0x10;
/// MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
const MAP_OWN: u64 = 0x2 | 0x20 | 0x10 | 0x4000;
const SIGCHLD: u64 = 17;
const SIG_SETMASK: u64 = 2;
const ARCH_SET_GS: u64 = 0x1001;
const STUB_STACK: u64 = 0x6000;
const ALT_STACK: u64 = 0x8000;
const FILTERS_MAX: usize = 16384;
const MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: u64 = 4;

#[repr(C)]
struct Iovec {
    base: u64,
    len: u64,
}

#[repr(C)]
struct Msghdr {
    name: u64,
    namelen: u64,
    iov: u64,
    iovlen: u64,
    control: u64,
    controllen: u64,
    flags: u64,
}

#[repr(C)]
struct Control8 {
    len: u64,
    /// SOL_SOCKET, SCM_RIGHTS
    kind: [i32; 2],
    fds: [i32; 8],
}

fn fail(code: u64) -> ! {
    sys::exit_group(code)
}

fn must(r: i64, code: u64) -> i64 {
    if r < 0 { fail(code) } else { r }
}

fn receive(socket: u64, buf: &mut [u8], fds: &mut [i32; 8]) -> i64 {
    let iov = Iovec { base: buf.as_mut_ptr() as u64, len: buf.len() as u64 };
    let mut c = Control8 { len: 0, kind: [0; 2], fds: [-1; 8] };
    let mut m = Msghdr {
        name: 0,
        namelen: 0,
        iov: &raw const iov as u64,
        iovlen: 1,
        control: &raw mut c as u64,
        controllen: size_of::<Control8>() as u64,
        flags: 0,
    };
    let r = loop {
        let r = sys::call3(sys::RECVMSG, socket, &raw mut m as u64, 0);
        if r != -4 {
            break r;
        }
    };
    let n = if c.len > 16 { ((c.len - 16) / 4) as usize } else { 0 };
    for (i, fd) in fds.iter_mut().enumerate() {
        *fd = if i < n { c.fds[i] } else { -1 };
    }
    r
}

/// Takes the descriptors of the next message on the stub's socket.
pub fn receive_fds(socket: u64, fds: &mut [i32; 8]) {
    let mut byte = [0u8; 8];
    receive(socket, &mut byte, fds);
}

fn map_region(fd: i32) {
    let r = sys::call6(sys::MMAP, layout::REGION_BASE, layout::REGION_SIZE, PROT_RW, MAP_SHARED_FIXED, fd as u64, 0);
    must(r, 110);
}

/// Lays out the private memory of the thread on slot `index`.
pub fn prepare_tls(index: usize, cookie: u64) -> *mut Tls {
    let base = layout::THREADS_BASE + index as u64 * layout::THREAD_STRIDE;
    let t = base as *mut Tls;
    let slot = (layout::REGION_BASE + layout::slot_offset(index)) as *const slots::Slot;
    // SAFETY: the page is this slot's own, mapped by the template, and no thread runs on the slot yet.
    unsafe {
        (*t).entry = entry::at(entry::stub_entry);
        (*t).this = t;
        (*t).stack = base + STUB_STACK;
        (*t).kick = 0;
        (*t).slot = slot;
        (*t).index = index as u64;
        (*t).seq = (*slot).answer.seq.load(Relaxed);
        (*t).cookie = cookie;
        (*t).names.number = 0;
    }
    t
}

/// The first thing a new thread does, on its stub stack.
pub extern "C" fn thread_main(t: &mut Tls) {
    must(sys::call3(sys::ARCH_PRCTL, ARCH_SET_GS, t as *mut Tls as u64, 0), 111);
    let base = layout::THREADS_BASE + t.index * layout::THREAD_STRIDE;
    let stack: [u64; 3] = [base + ALT_STACK, 0, layout::THREAD_STRIDE - ALT_STACK];
    must(sys::call3(sys::SIGALTSTACK, stack.as_ptr() as u64, 0, 0), 112);
    // The thread was made in a handler, where kicks are blocked.
    let none = 0u64;
    must(sys::call6(sys::RT_SIGPROCMASK, SIG_SETMASK, &raw const none as u64, 0, 8, 0, 0), 108);
}

/// In a forked child: takes the region and the socket that were passed for it.
pub fn become_child(t: &mut Tls, fds: &[i32; 8]) {
    map_region(fds[1]);
    must(sys::call3(sys::DUP3, fds[0] as u64, layout::SOCKET_FD, 0), 113);
    for fd in &fds[..2] {
        sys::call3(sys::CLOSE, *fd as u64, 0, 0);
    }
    t.kick = 0;
    // The child may be in another mount namespace.
    t.names.number = 0;
    t.cookie = crate::control().cookie.load(Relaxed);
    t.seq = t.slot().answer.seq.load(Relaxed);
}

const _: () = assert!(size_of::<Message>() as u64 >= slots::SCRATCH_SIZE);

#[repr(C, align(64))]
struct Message {
    head: InitMessage,
    filters: [u8; FILTERS_MAX],
}

static mut MESSAGE: Message =
    Message { head: InitMessage { mode: 0, filters: [0; 2], hints: [0; slots::HINTS] }, filters: [0; FILTERS_MAX] };

/// The init process of the stubs' pid namespace. `sp`: the initial stack.
pub extern "C" fn start(sp: *const u64) -> ! {
    let mut reply = read_auxv(sp);
    let mut fds = [-1; 8];
    // SAFETY: one thread; nobody else refers to MESSAGE.
    let message = unsafe { &mut *(&raw mut MESSAGE).cast::<Message>() };
    // SAFETY: Message is plain bytes.
    let bytes = unsafe { core::slice::from_raw_parts_mut(message as *mut Message as *mut u8, size_of::<Message>()) };
    if receive(layout::SOCKET_FD, bytes, &mut fds) < size_of::<InitMessage>() as i64 {
        fail(114);
    }
    // Children are reaped by the host: nobody waits for them here.
    let ignore: [u64; 4] = [1, 0x0400_0000, entry::at(entry::stub_restore), 0];
    must(sys::call6(sys::RT_SIGACTION, SIGCHLD, ignore.as_ptr() as u64, 0, 8, 0, 0), 115);
    // All stubs inherit it: the guests' membarrier(2) reaches them. A host without it is seen by the sentry.
    sys::call3(sys::MEMBARRIER, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
    let traced = message.head.mode == slots::mode::PTRACE;
    if traced {
        reply.inject = entry::at(entry::stub_inject);
        reply.scratch = message as *mut Message as u64;
        send_reply(&reply, None);
        // By the next message the sentry is the tracer.
        receive_fds(layout::SOCKET_FD, &mut [-1; 8]);
    }
    if must(sys::call6(sys::CLONE, SIGCHLD, 0, 0, 0, 0, 0), 116) != 0 {
        for fd in 3..=(fds[0].max(fds[1]) as u64) {
            sys::call3(sys::CLOSE, fd, 0, 0);
        }
        loop {
            sys::call3(sys::PAUSE, 0, 0, 0);
        }
    }
    if traced {
        traced_template(message, &fds);
    }
    template(message, &reply, &fds)
}

/// With ptrace: all that is needed is the filter and the socket. From here on the sentry moves every register.
fn traced_template(message: &Message, fds: &[i32; 8]) -> ! {
    must(sys::call3(sys::DUP3, fds[0] as u64, layout::SOCKET_FD, 0), 119);
    sys::call3(sys::CLOSE, fds[0] as u64, 0, 0);
    signals::install_traps();
    must(install_filter(&message.filters, 0, message.head.filters[1], false), 118);
    // SAFETY: the trap behind the system call instruction: this code is never come back to.
    unsafe { core::arch::asm!("jmp {go}", go = sym entry::stub_injected, options(noreturn)) }
}

fn template(message: &Message, reply: &InitReply, fds: &[i32; 8]) -> ! {
    // SAFETY: one thread; read-only from here on.
    unsafe { HINTS = message.head.hints };
    map_region(fds[1]);
    let size = layout::THREAD_STRIDE * layout::SLOTS as u64;
    must(sys::call6(sys::MMAP, layout::THREADS_BASE, size, PROT_RW, MAP_OWN, u64::MAX, 0), 117);
    let t = prepare_tls(0, crate::control().cookie.load(Relaxed));
    signals::install();
    let [first, second] = message.head.filters;
    let listener = must(install_filter(&message.filters, 0, first, true), 118);
    send_reply(reply, Some(listener));
    must(sys::call3(sys::DUP3, fds[0] as u64, layout::SOCKET_FD, 0), 119);
    for fd in [fds[0] as u64, fds[1] as u64, listener as u64] {
        sys::call3(sys::CLOSE, fd, 0, 0);
    }
    must(install_filter(&message.filters, first, second, false), 118);
    // SAFETY: as a new thread on slot 0 would: its stack is laid out, and nothing is left of this one's frame.
    unsafe {
        core::arch::asm!("mov rsp, {stack}", "mov r12, {tls}", "jmp {go}",
            stack = in(reg) (*t).stack, tls = in(reg) t, go = sym entry::stub_thread, options(noreturn));
    }
}

fn install_filter(insns: &[u8], from: u32, n: u32, listener: bool) -> i64 {
    let at = from as usize * 8;
    if at + n as usize * 8 > insns.len() {
        fail(120);
    }
    #[repr(C)]
    struct Prog {
        len: u16,
        pad: [u16; 3],
        filter: u64,
    }
    let prog = Prog { len: n as u16, pad: [0; 3], filter: insns.as_ptr() as u64 + at as u64 };
    // SECCOMP_SET_MODE_FILTER; SECCOMP_FILTER_FLAG_NEW_LISTENER
    sys::call3(sys::SECCOMP, 1, if listener { 8 } else { 0 }, &raw const prog as u64)
}

fn send_reply(reply: &InitReply, listener: Option<i64>) {
    let iov = Iovec { base: reply as *const InitReply as u64, len: size_of::<InitReply>() as u64 };
    let c = Control8 { len: 20, kind: [1, 1], fds: [listener.unwrap_or(-1) as i32, 0, 0, 0, 0, 0, 0, 0] };
    let m = Msghdr {
        name: 0,
        namelen: 0,
        iov: &raw const iov as u64,
        iovlen: 1,
        control: &raw const c as u64,
        controllen: if listener.is_some() { 24 } else { 0 },
        flags: 0,
    };
    must(sys::call3(sys::SENDMSG, layout::SOCKET_FD, &raw const m as u64, 0), 109);
}

fn read_auxv(sp: *const u64) -> InitReply {
    let mut reply = InitReply { vdso: 0, vdso_len: 0, hwcap: 0, hwcap2: 0, inject: 0, scratch: 0 };
    // SAFETY: the host's exec wrote argc, argv, envp and auxv there, each with its terminator.
    unsafe {
        let mut p = sp.add(1 + *sp as usize + 1);
        while *p != 0 {
            p = p.add(1);
        }
        p = p.add(1);
        while *p != 0 {
            let (key, value) = (*p, *p.add(1));
            match key {
                33 => reply.vdso = value,
                16 => reply.hwcap = value,
                26 => reply.hwcap2 = value,
                _ => {}
            }
            p = p.add(2);
        }
        if reply.vdso != 0 {
            // The ELF header's program headers give the length of its one loaded segment.
            let phoff = *((reply.vdso + 32) as *const u64);
            let phnum = *((reply.vdso + 56) as *const u16);
            for i in 0..phnum as u64 {
                let ph = reply.vdso + phoff + i * 56;
                if *(ph as *const u32) == 1 {
                    reply.vdso_len = (*((ph + 40) as *const u64) + 4095) & !4095;
                }
            }
        }
    }
    reply
}

//! A new program: execve(2), execveat(2).
use crate::args::{Addr, Fd, Flags, PathArg};
use crate::memory::{Mapped, backing};
use crate::path::{as_caller, base};
use crate::privileges;
use crate::sites::Ahead;
use abi::regs::Regs;
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::Memory;
use guest::io::SliceSink;
use guest::ops::Op;
use kernel::cred::Cred;
use kernel::elf::{self, Elf, Piece, Refused, stack};
use kernel::mm::{AddressSpace, MappedFile, USER_END, Vma, anonymous};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use task::{Exec, Mm, Outcome, Task};
use vfs::busy::Running;
use vfs::{MAY_EXEC, MAY_READ, OpenFile, Path};

/// Interpreters of interpreters, at most.
const SCRIPTS_MAX: usize = 5;
const STRING_MAX: usize = 128 << 10;

pub fn execve(t: &Rc<Task>, path: PathArg, argv: Addr, envp: Addr) -> Result {
    execveat(t, Fd(c::AT_FDCWD), path, argv, envp, Flags(0))
}

pub fn execveat(t: &Rc<Task>, dir: Fd, path: PathArg, argv: Addr, envp: Addr, flags: Flags) -> Result {
    let flags = flags.only(c::AT_EMPTY_PATH | c::AT_SYMLINK_NOFOLLOW)?;
    let mem = t.mem();
    let name = path.get(&*mem)?;
    let limit = (t.process.rlimit(c::RLIMIT_STACK) / 4).clamp(128 << 10, 6 << 20) as usize;
    let (mut left, mut pages) = (limit, Pages { mem: &*mem, at: 0, bytes: Vec::new() });
    let args = strings(&mut pages, argv.0, &mut left)?;
    let env = strings(&mut pages, envp.0, &mut left)?;
    let p = if name.is_empty() && flags & c::AT_EMPTY_PATH != 0 {
        t.files()?.get(dir.0)?.path().cloned().ok_or(Errno::ENOENT)?
    } else {
        let from = base(t, dir, &name)?;
        let p = as_caller(t, |w| w.path(&from, &name, flags & c::AT_SYMLINK_NOFOLLOW == 0))?;
        if p.inode().attr()?.is_link() {
            return Err(Errno::ELOOP);
        }
        p
    };
    program(t, p, name, args, env)
}

/// Guest memory read a page at a time: arguments lie close together, and each read is a host call.
struct Pages<'a> {
    mem: &'a dyn Memory,
    at: u64,
    bytes: Vec<u8>,
}

impl Pages<'_> {
    /// What is there from `addr` to the end of its page. EFAULT if nothing is.
    fn from(&mut self, addr: u64) -> Result<&[u8]> {
        let known = addr.checked_sub(self.at).is_some_and(|skip| skip < self.bytes.len() as u64);
        if !known {
            self.bytes.resize((PAGE_SIZE - addr % PAGE_SIZE) as usize, 0);
            let n = self.mem.read_some(addr, &mut self.bytes).inspect_err(|_| self.bytes.clear())?;
            self.bytes.truncate(n);
            self.at = addr;
        }
        Ok(&self.bytes[(addr - self.at) as usize..])
    }

    /// A string without its NUL. E2BIG if it is longer than one may be.
    fn string(&mut self, addr: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < STRING_MAX {
            let at = addr.checked_add(out.len() as u64).ok_or(Errno::EFAULT)?;
            let piece = self.from(at)?;
            let end = piece.iter().position(|b| *b == 0);
            out.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            if end.is_some() {
                return if out.len() < STRING_MAX { Ok(out) } else { Err(Errno::E2BIG) };
            }
            if piece.is_empty() {
                return Err(Errno::EFAULT);
            }
        }
        Err(Errno::E2BIG)
    }

    fn word(&mut self, addr: u64) -> Result<u64> {
        let mut bytes = [0u8; 8];
        match self.from(addr)?.get(..8) {
            Some(all) => bytes.copy_from_slice(all),
            // Across the end of a page.
            None => self.mem.read(addr, &mut bytes)?,
        }
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// A NULL-terminated array of strings. E2BIG when they take more than `left` bytes together.
fn strings(pages: &mut Pages<'_>, addr: u64, left: &mut usize) -> Result<Vec<Vec<u8>>> {
    if addr == 0 {
        return Ok(Vec::new());
    }
    let mut list = Vec::new();
    // The words first: the strings lie elsewhere.
    for i in 0u64.. {
        let p = pages.word(addr.checked_add(i * 8).ok_or(Errno::EFAULT)?)?;
        if p == 0 {
            break;
        }
        // Its word, a NUL at least, and its place in the new image.
        *left = left.checked_sub(9).ok_or(Errno::E2BIG)?;
        list.push(p);
    }
    let mut out = Vec::with_capacity(list.len());
    for p in list {
        let s = pages.string(p)?;
        *left = left.checked_sub(s.len()).ok_or(Errno::E2BIG)?;
        out.push(s);
    }
    Ok(out)
}

/// Keeps a program file from being written to. ETXTBSY: it is.
fn running(p: &Path) -> Result<Running> {
    let a = p.inode().attr()?;
    Running::begin((a.dev, a.ino))
}

/// Opens a program file, checking that it may be executed.
fn open(t: &Task, p: &Path) -> Result<Rc<OpenFile>> {
    let a = p.inode().attr()?;
    if !a.is_file() || p.mount.has(vfs::mount::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    vfs::permission(&a, &t.cred(), MAY_EXEC)?;
    let ops = p.inode().open(c::O_RDONLY)?;
    Ok(OpenFile::new(ops, c::O_RDONLY, Some(p.clone())))
}

/// Fills `buf` as far as the file goes.
pub fn read_at(f: &Rc<OpenFile>, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        let mut sink = SliceSink::new(&mut buf[done..]);
        match f.ops().read(f, &mut sink, offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

fn parse(t: &Task, f: &Rc<OpenFile>) -> Result<Elf> {
    Elf::parse(&mut |at, buf| read_at(f, at, buf)).map_err(|Refused(e, why)| {
        t.kernel.note(&format!("exec refused: {why}"));
        e
    })
}

/// Starts the program at `p`. `name`: as it was called. Nothing of the old image is touched before success is certain.
pub fn program(t: &Rc<Task>, p: Path, name: Vec<u8>, mut args: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Result {
    if args.is_empty() {
        args.push(Vec::new());
    }
    let comm = name.rsplit(|b| *b == b'/').next().unwrap_or(&name).to_vec();
    let (mut at, mut file, mut execfn) = (p.clone(), open(t, &p)?, name);
    let mut busy = running(&p)?;
    for depth in 0.. {
        let mut head = [0u8; 256];
        let n = read_at(&file, 0, &mut head)?;
        let Some(script) = elf::script(&head[..n]) else { break };
        if depth >= SCRIPTS_MAX {
            return Err(Errno::ELOOP);
        }
        let (interp, arg) = script?;
        args.splice(0..1, [Some(interp.clone()), arg, Some(execfn)].into_iter().flatten());
        execfn = interp;
        at = find(t, &execfn)?;
        file = open(t, &at)?;
        busy = running(&at)?;
    }
    let main = parse(t, &file)?;
    let interp = match &main.interpreter {
        None => None,
        Some(path) => {
            let p = find(t, path)?;
            let f = open(t, &p)?;
            running(&p)?;
            let e = parse(t, &f).map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
            Some((e, f))
        }
    };
    let (cred, secure) = privileges::at_exec(t, &at)?;
    let readable = vfs::permission(&at.inode().attr()?, &t.cred(), MAY_READ).is_ok();
    let dumpable = privileges::dumpable(t, &cred, readable);
    let image = build(t, &main, &file, interp.as_ref(), &args, &env, &execfn, &cred, secure)?;
    image.exec.mm.running.replace(Some(Rc::new(busy)));
    let files = t.files()?;
    if Rc::strong_count(&files) > 2 {
        let own = files.fork()?;
        t.files.replace(Some(own));
    }
    commit(t, image, cred, secure, dumpable, at, comm);
    Ok(())
}

fn find(t: &Task, path: &[u8]) -> Result<Path> {
    let cwd = t.fs().cwd.borrow().clone();
    as_caller(t, |w| w.path(&cwd, path, true))
}

struct Image {
    exec: Exec,
}

/// A random number of pages below `1 << bits`; none where personality(2) or /proc/sys/kernel/randomize_va_space says so.
fn random_pages(t: &Task, bits: u32) -> u64 {
    if t.persona.get() & crate::misc::ADDR_NO_RANDOMIZE != 0 || t.kernel.randomize.get() == 0 {
        return 0;
    }
    (host::stub::random_u64() & ((1 << bits) - 1)) * PAGE_SIZE
}

const STACK_FLAGS: i32 = c::MAP_PRIVATE | c::MAP_ANONYMOUS | c::MAP_NORESERVE;

#[expect(clippy::too_many_arguments, reason = "one image has this many parts")]
fn build(
    t: &Task,
    main: &Elf,
    file: &Rc<OpenFile>,
    interp: Option<&(Elf, Rc<OpenFile>)>,
    args: &[Vec<u8>],
    env: &[Vec<u8>],
    execfn: &[u8],
    cred: &Cred,
    secure: bool,
) -> Result<Image> {
    let top = USER_END - PAGE_SIZE - random_pages(t, 18);
    let stack_size = t.process.rlimit(c::RLIMIT_STACK).clamp(128 << 10, 64 << 20) & !(PAGE_SIZE - 1);
    let gap = (stack_size + (1 << 20)).max(128 << 20);
    let mut space = AddressSpace::new((top - gap - random_pages(t, 12)) & !(PAGE_SIZE - 1));
    space.write_or_execute = t.mm().space.borrow().write_or_execute.filter(|inherited| *inherited);
    let mut ops = Vec::new();
    let bias = if main.relocatable { (0x5555_5555_4000 + random_pages(t, 20)) & !(main.align - 1) } else { 0 };
    place(t, &mut space, &mut ops, main, file, bias)?;
    let (mut entry, mut at_base) = (main.entry.wrapping_add(bias), 0);
    if let Some((e, f)) = interp {
        let r = e.range();
        let at = space.find_below(r.end - r.start, space.mmap_base).ok_or(Errno::ENOMEM)?;
        at_base = at - r.start;
        place(t, &mut space, &mut ops, e, f, at_base)?;
        entry = e.entry.wrapping_add(at_base);
    }
    let end = main.range().end + bias;
    let heap_follows = main.takes_sites() || t.kernel.randomize.get() == 1;
    space.brk_start = if heap_follows { end } else { end + random_pages(t, 10) };
    space.brk = space.brk_start;

    let k = &t.kernel.config;
    let mut auxv: stack::Auxv = vec![
        (c::AT_HWCAP, k.hwcap),
        (c::AT_PAGESZ, PAGE_SIZE),
        (c::AT_CLKTCK, 100),
        (c::AT_PHDR, main.phdr + bias),
        (c::AT_PHENT, main.phentsize as u64),
        (c::AT_PHNUM, main.phnum as u64),
        (c::AT_BASE, at_base),
        (c::AT_FLAGS, 0),
        (c::AT_ENTRY, main.entry.wrapping_add(bias)),
        (c::AT_UID, cred.user_ns.show_user(cred.ruid) as u64),
        (c::AT_EUID, cred.user_ns.show_user(cred.euid) as u64),
        (c::AT_GID, cred.user_ns.show_group(cred.rgid) as u64),
        (c::AT_EGID, cred.user_ns.show_group(cred.egid) as u64),
        (c::AT_SECURE, secure as u64),
        (c::AT_HWCAP2, k.hwcap2),
    ];
    if k.vdso != 0 {
        auxv.insert(0, (c::AT_SYSINFO_EHDR, k.vdso));
    }
    let mut random = [0u8; 16];
    host::stub::random(&mut random);
    let st = stack::build(
        top,
        args,
        env,
        execfn,
        random,
        &auxv,
        (stack_size / 4).max(128 << 10).max(6 << 20).min(stack_size - 65536),
    )?;
    let prot = c::PROT_READ | c::PROT_WRITE | if main.executable_stack { c::PROT_EXEC } else { 0 };
    let low = top - stack_size;
    space.may_execute(prot, prot)?;
    space.map(Vma { start: low, end: top, prot, label: "[stack]", ..anonymous() });
    ops.push(Op::Map { addr: low, len: stack_size, prot, flags: STACK_FLAGS, file: None });
    let sp = st.sp;
    ops.push(Op::Write { addr: sp, bytes: st.bytes });
    let mm = Mm::new(t.kernel.new_mm_id(), space);
    if !t.traced.get() {
        let images: Vec<Vma> = mm.space.borrow().iter().filter(|v| v.file.is_some()).cloned().collect();
        for Ahead { before, after } in images.iter().filter_map(|v| crate::sites::ahead(&mm, v)) {
            ops.extend(before);
            ops.push(after);
        }
    }
    mm.args.set(st.args);
    mm.env.set(st.env);
    mm.auxv.replace(st.auxv);
    let regs = Regs { rip: entry, rsp: sp, eflags: 0x202, segments: 0x002b_0000_0000_0033, ..Regs::default() };
    Ok(Image { exec: Exec { ops, regs, mm } })
}

/// Maps one executable's pieces.
fn place(t: &Task, space: &mut AddressSpace, ops: &mut Vec<Op>, e: &Elf, f: &Rc<OpenFile>, bias: u64) -> Result {
    let fd: Rc<OwnedFd> = backing(f, false)?.ok_or(Errno::ENOEXEC)?;
    let mapped: Rc<dyn MappedFile> = Mapped::new(t, f, false);
    for Piece { addr, len, prot, offset, zero_from } in e.pieces(bias) {
        if addr < kernel::mm::USER_START || addr + len > USER_END || !space.is_free(addr..addr + len) {
            return Err(Errno::ENOMEM);
        }
        let file = offset.map(|o| (mapped.clone(), o));
        space.may_execute(prot, prot)?;
        space.map(Vma { start: addr, end: addr + len, prot, file, ..anonymous() });
        let flags = c::MAP_PRIVATE | if offset.is_none() { c::MAP_ANONYMOUS } else { 0 };
        ops.push(Op::Map { addr, len, prot, flags, file: offset.map(|o| (fd.clone(), o)) });
        if let Some(z) = zero_from {
            ops.push(Op::Zero { addr: z, len: addr + len - z });
        }
    }
    Ok(())
}

/// The old program is gone.
fn commit(t: &Rc<Task>, image: Image, cred: Cred, secure: bool, dumpable: i32, exe: Path, mut comm: Vec<u8>) {
    let p = &t.process;
    for other in p.threads() {
        if !Rc::ptr_eq(&other, t) {
            other.exiting.set(true);
            other.finish_exit();
        }
    }
    comm.truncate(15);
    t.comm.replace(comm);
    p.drop_timers();
    if secure || dumpable == 0 {
        p.parent_death_signal.set(0);
    }
    p.dumpable.set(dumpable);
    t.set_cred(cred);
    let table = p.actions.borrow().borrow().clone();
    let mut table = table;
    table.exec();
    *p.actions.borrow_mut() = Rc::new(table.into());
    t.altstack.set(Default::default());
    if let Some(f) = &*t.files.borrow() {
        for closed in f.exec() {
            t.kernel.closed(closed, p.pid);
        }
    }
    image.exec.mm.exe.replace(Some(exe));
    p.has_execed.set(true);
    t.exec.replace(Some(image.exec));
    t.outcome.set(Outcome::Exec);
}

/// The first program of the sandbox, by its name: with a slash a path, otherwise looked for in `PATH`.
pub fn first(t: &Rc<Task>, args: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Result {
    let name = args.first().filter(|name| !name.is_empty()).cloned().ok_or(Errno::ENOENT)?;
    if name.contains(&b'/') {
        let p = find(t, &name)?;
        return program(t, p, name, args, env);
    }
    let path = env.iter().find_map(|e| e.strip_prefix(b"PATH=")).unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    let mut worst = Errno::ENOENT;
    for dir in path.split(|b| *b == b':') {
        let full = [dir, b"/", &name].concat();
        match find(t, &full).and_then(|p| program(t, p, full.clone(), args.clone(), env.clone())) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => worst = e,
        }
    }
    Err(worst)
}

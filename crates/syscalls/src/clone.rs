//! New threads and processes: clone(2), clone3(2), fork(2), vfork(2).
use abi::sys::CloneArgs;
use abi::{Errno, Result, c};
use guest::UserIn;
use guest::ops::Op;
use ipc::sysv::sem::UndoList;
use kernel::signal::ActionTable;
use std::cell::RefCell;
use std::rc::Rc;
use task::{Outcome, Process, Task};
use vfs::OpenFile;

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CSIGNAL: u64 = 0xff;

const fn bits(list: &[i32]) -> u64 {
    let (mut b, mut i) = (0u64, 0);
    while i < list.len() {
        b |= list[i] as u32 as u64;
        i += 1;
    }
    b
}

/// What is served.
const KNOWN: u64 = CLONE_CLEAR_SIGHAND
    | NAMESPACES
    | bits(&[
        c::CLONE_VM,
        c::CLONE_FS,
        c::CLONE_FILES,
        c::CLONE_SIGHAND,
        c::CLONE_VFORK,
        c::CLONE_PARENT,
        c::CLONE_THREAD,
        c::CLONE_SYSVSEM,
        c::CLONE_SETTLS,
        c::CLONE_PARENT_SETTID,
        c::CLONE_PIDFD,
        c::CLONE_CHILD_CLEARTID,
        c::CLONE_CHILD_SETTID,
        c::CLONE_DETACHED,
        c::CLONE_UNTRACED,
        c::CLONE_IO,
    ]);
const PIDFD: u64 = c::CLONE_PIDFD as u64;
const NAMESPACES: u64 = bits(&[
    c::CLONE_NEWNS,
    c::CLONE_NEWCGROUP,
    c::CLONE_NEWUTS,
    c::CLONE_NEWIPC,
    c::CLONE_NEWUSER,
    c::CLONE_NEWPID,
    c::CLONE_NEWNET,
]);

pub async fn clone(t: &Rc<Task>, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Result<i32> {
    if flags & PIDFD != 0 && flags & bits(&[c::CLONE_PARENT_SETTID]) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & c::CLONE_VM as u64 == 0 {
        crate::sites::settled(t).await;
    }
    make(
        t,
        CloneArgs {
            pidfd: parent_tid,
            flags: flags & !CSIGNAL,
            exit_signal: flags & CSIGNAL,
            stack,
            parent_tid,
            child_tid,
            tls,
            ..CloneArgs::default()
        },
    )
}

pub async fn fork(t: &Rc<Task>) -> Result<i32> {
    crate::sites::settled(t).await;
    make(t, CloneArgs { exit_signal: c::SIGCHLD as u64, ..CloneArgs::default() })
}

pub fn vfork(t: &Rc<Task>) -> Result<i32> {
    let flags = bits(&[c::CLONE_VFORK, c::CLONE_VM]);
    make(t, CloneArgs { flags, exit_signal: c::SIGCHLD as u64, ..CloneArgs::default() })
}

/// clone3(2): the structure may be shorter or longer than ours; what we do not know must be zero.
pub async fn clone3(t: &Rc<Task>, args: UserIn<CloneArgs>, size: usize) -> Result<i32> {
    const FIRST: usize = 64;
    let mut a = args.get_sized(&*t.mem(), size, FIRST)?;
    if a.flags & CSIGNAL != 0 || a.exit_signal > 64 || (a.stack == 0) != (a.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    if a.set_tid_size > 0 || a.set_tid != 0 {
        // As without CAP_CHECKPOINT_RESTORE. There is one namespace of pids.
        let one = a.set_tid_size == 1 && a.set_tid != 0;
        return Err(if one { Errno::EPERM } else { Errno::EINVAL });
    }
    a.stack = a.stack.checked_add(a.stack_size).ok_or(Errno::EINVAL)?;
    if a.flags & c::CLONE_VM as u64 == 0 {
        crate::sites::settled(t).await;
    }
    make(t, a)
}

fn make(t: &Rc<Task>, a: CloneArgs) -> Result<i32> {
    let has = |f: i32| a.flags & f as u32 as u64 != 0;
    if has(c::CLONE_NEWNS) && has(c::CLONE_FS) {
        return Err(Errno::EINVAL);
    }
    let thread = has(c::CLONE_THREAD);
    if a.flags & !KNOWN != 0
        || (thread && !has(c::CLONE_SIGHAND))
        || (has(c::CLONE_SIGHAND) && !has(c::CLONE_VM))
        || (has(c::CLONE_SIGHAND) && a.flags & CLONE_CLEAR_SIGHAND != 0)
        || (thread && has(c::CLONE_VFORK) && a.exit_signal != 0)
        || (has(c::CLONE_NEWUSER) && (thread || has(c::CLONE_FS)))
        || (a.flags & PIDFD != 0 && has(c::CLONE_DETACHED))
    {
        return Err(Errno::EINVAL);
    }
    let fresh = crate::ns::fresh(t, (a.flags & NAMESPACES) as i32)?;
    let k = &t.kernel;
    let cred = k.keys.at_clone(fresh.cred.map_or_else(|| t.cred(), Rc::new), thread)?;
    let pid = k.new_pid()?;
    let files = if has(c::CLONE_FILES) { t.files()? } else { t.files()?.fork()? };
    // The descriptor's number is taken before anything is made that would have to be unmade.
    let reserved = OpenFile::new(Rc::new(vfs::PathOnly), c::O_PATH, None);
    let pidfd = if a.flags & PIDFD != 0 { Some(crate::fd::install(t, reserved, c::O_CLOEXEC)?) } else { None };
    let give_back = move |t: &Task| {
        if let (Some(fd), Ok(files)) = (pidfd, t.files()) {
            drop(files.close(fd));
        }
    };
    let made = if thread { Ok(t.process.clone()) } else { new_process(t, pid, &a) };
    let process = made.inspect_err(|_| give_back(t))?;
    let mm = if has(c::CLONE_VM) { t.mm() } else { t.mm().fork(k.new_mm_id()) };
    let fs = fresh.fs.unwrap_or_else(|| if has(c::CLONE_FS) { t.fs() } else { t.fs().fork() });
    let child = Task::new(pid, &process, mm, cred, fs, files);
    if let Some(fd) = pidfd {
        let f = if thread { task::pidfd::of_thread(&child, 0) } else { task::pidfd::pidfd(&process, 0) };
        t.files()?.put(fd, f, true, crate::fd::limit(t))?;
        t.op(Op::Write { addr: a.pidfd, bytes: fd.to_ne_bytes().to_vec() });
    }
    child.ns.replace(fresh.ns.unwrap_or_else(|| t.namespaces()));
    if has(c::CLONE_SYSVSEM) {
        let list = t.sem_undo.borrow_mut().get_or_insert_with(UndoList::new).clone();
        child.sem_undo.replace(Some(list));
    }
    child.comm.replace(t.comm.borrow().clone());
    child.blocked.set(t.blocked.get());
    child.set_seccomp(t.seccomp.borrow().clone());
    child.persona.set(t.persona.get());
    child.timer_slack.set((t.timer_slack.get().0, t.timer_slack.get().0));
    child.policy.set(t.policy.get());
    child.nodes.set(t.nodes.get());
    child.affinity.set(t.affinity.get());
    if !has(c::CLONE_VM) || has(c::CLONE_VFORK) {
        child.altstack.set(t.altstack.get());
    }
    let mut regs = *t.regs.borrow();
    regs.rax = 0;
    if a.stack != 0 {
        regs.rsp = a.stack;
    }
    child.resume_with(regs);
    child.fs_base.set(if has(c::CLONE_SETTLS) { a.tls } else { t.fs_base.get() });
    if has(c::CLONE_SETTLS) {
        child.op(Op::SetFs(a.tls));
    }
    if has(c::CLONE_CHILD_SETTID) {
        child.op(Op::Write { addr: a.child_tid, bytes: pid.to_ne_bytes().to_vec() });
    }
    if has(c::CLONE_CHILD_CLEARTID) {
        child.clear_child_tid.set(a.child_tid);
    }
    if has(c::CLONE_PARENT_SETTID) {
        t.op(Op::Write { addr: a.parent_tid, bytes: pid.to_ne_bytes().to_vec() });
    }
    let tag = child.tag.get();
    t.op(if has(c::CLONE_VM) { Op::Thread { tag } } else { Op::Fork { tag } });
    if has(c::CLONE_VFORK) {
        child.vfork_parent.replace(Some(t.clone()));
        t.vforking.set(true);
        t.outcome.set(Outcome::Pause);
    }
    traced(t, &child, &a);
    let failed = child.clone();
    t.undo.replace(Some(Box::new(move |t: &Task| {
        t.vforking.set(false);
        give_back(t);
        if let Some(tr) = t.trace() {
            tr.event.set(None);
        }
        failed.untrace(0);
        failed.exiting.set(true);
        if thread {
            return failed.finish_exit();
        }
        failed.process.exit_signal.set(0);
        failed.finish_exit();
        failed.process.reap();
    })));
    Ok(pid)
}

/// The tracer of `t` hears of the child, and traces it too, if it asked for that.
fn traced(t: &Rc<Task>, child: &Rc<Task>, a: &CloneArgs) {
    let Some(tr) = t.trace().filter(|_| a.flags & c::CLONE_UNTRACED as u64 == 0) else { return };
    let (option, event) = if a.flags & c::CLONE_VFORK as u64 != 0 {
        (c::PTRACE_O_TRACEVFORK, c::PTRACE_EVENT_VFORK)
    } else if a.exit_signal == c::SIGCHLD as u64 {
        (c::PTRACE_O_TRACEFORK, c::PTRACE_EVENT_FORK)
    } else {
        (c::PTRACE_O_TRACECLONE, c::PTRACE_EVENT_CLONE)
    };
    if tr.has(option) {
        t.trace_too(child);
        tr.event.set(Some((event, child.tid as u64)));
    }
}

fn new_process(t: &Rc<Task>, pid: i32, a: &CloneArgs) -> Result<Rc<Process>> {
    let k = &t.kernel;
    let limit = t.process.rlimit(c::RLIMIT_NPROC);
    if k.task_count() as u64 >= limit && t.cred().ruid != 0 {
        return Err(Errno::EAGAIN);
    }
    let to_parent = a.flags & c::CLONE_PARENT as u64 != 0;
    let parent = if to_parent { t.process.parent() } else { Some(t.process.clone()) };
    let p = Process::new(k, pid, Some(&t.process));
    let signal = if to_parent { t.process.exit_signal.get() } else { a.exit_signal as i32 };
    p.exit_signal.set(signal);
    p.maker.replace(Rc::downgrade(t));
    p.dumpable.set(t.process.dumpable.get());
    p.io_priority.set(t.process.io_priority.get());
    if t.reset_on_fork.get() {
        p.nice.set(p.nice.get().max(0));
    }
    p.oom_score_adj.set(t.process.oom_score_adj.get());
    let actions = t.process.actions.borrow().clone();
    let actions = if a.flags & c::CLONE_SIGHAND as u64 != 0 {
        actions
    } else if a.flags & CLONE_CLEAR_SIGHAND != 0 {
        let mut fresh: ActionTable = actions.borrow().clone();
        fresh.exec();
        Rc::new(RefCell::new(fresh))
    } else {
        let copy = actions.borrow().clone();
        Rc::new(RefCell::new(copy))
    };
    *p.actions.borrow_mut() = actions;
    let parent = parent.ok_or(Errno::EINVAL)?;
    p.adopt(&parent);
    parent.children.borrow_mut().push(p.clone());
    k.add_process(&p);
    if a.flags & c::CLONE_VM as u64 != 0 {
        p.cpu_base.set(t.host_cpu_ns().wrapping_neg());
    }
    p.watch_cpu_limit();
    Ok(p)
}

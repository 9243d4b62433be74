//! Compiled policies on the real kernel: it must do what `Policy::decide` says.
use abi::Errno;
use bpf::{Action, Policy, Rule, arg, compile};
use host::process::{Cloned, clone_process};
use std::ops::Range;
use std::os::fd::AsFd;

const SYSCALL: libc::c_long = libc::SYS_getppid;
/// What the policies answer, told apart from success.
const ANSWER: Action = Action::Errno(libc::EXDEV as u16);

fn main() {
    arguments_of_64_bits();
    code_range();
    kill();
    all_threads();
    notify();
    refused_program();
    println!("filters: ok");
}

/// How a child that ran `work` ended: its exit status, or 128 + the signal.
fn child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: this test has one thread.
    match unsafe { clone_process(0) }.expect("clone") {
        // SAFETY: ends the process, without the parent's buffers.
        Cloned::Child => unsafe { libc::_exit(work()) },
        Cloned::Parent { pid, .. } => {
            let mut status = 0;
            // SAFETY: `status` is valid for writing.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
        }
    }
}

fn install(policy: &Policy) {
    host::seccomp::install(&compile(policy).expect("compiles")).expect("installs");
}

/// The call with one argument: 0, or the error number.
fn call(value: u64) -> i32 {
    // SAFETY: getppid(2) ignores its arguments.
    match unsafe { libc::syscall(SYSCALL, value) } {
        r if r >= 0 => 0,
        _ => std::io::Error::last_os_error().raw_os_error().expect("an error"),
    }
}

fn policy(rule: Rule, code: Option<Range<u64>>) -> Policy {
    Policy { rules: vec![rule], default: Action::Allow, foreign: Action::Kill, code }
}

fn arguments_of_64_bits() {
    let edges = [0, 1, 2, 5, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x1_0000_0002, u64::MAX];
    let tests = [
        arg(0).eq(0x1_0000_0001),
        arg(0).le(0x1_0000_0000),
        arg(0).masked(0x1_0000_0001, 0x1_0000_0000),
        arg(0).is_in([5, 0x1_0000_0002, u64::MAX]),
    ];
    for test in tests {
        let holds = |v| test.test.holds(v);
        let policy = policy(Rule { nr: SYSCALL as u32, args: vec![test.clone()], action: ANSWER }, None);
        let wrong = child(|| {
            install(&policy);
            edges.iter().filter(|&&v| (call(v) == libc::EXDEV) != holds(v)).count() as i32
        });
        assert_eq!(wrong, 0, "{test}");
    }
}

/// The mapping that the C library's `syscall` is in.
fn text() -> Range<u64> {
    let address = libc::syscall as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    };
    maps.lines().filter_map(range).find(|r| r.contains(&address)).expect("a mapping")
}

fn code_range() {
    let rule = Rule { nr: SYSCALL as u32, args: vec![], action: ANSWER };
    let here = text();
    let elsewhere = here.end..here.end + 0x1000;
    for (code, want) in [(here, libc::EXDEV), (elsewhere, 0)] {
        let policy = policy(rule.clone(), Some(code.clone()));
        let got = child(|| {
            install(&policy);
            call(0)
        });
        assert_eq!(got, want, "{code:x?}");
    }
}

fn kill() {
    for action in [Action::Kill, Action::Trap] {
        let policy = policy(Rule { nr: SYSCALL as u32, args: vec![], action }, None);
        let got = child(|| {
            install(&policy);
            call(0)
        });
        assert_eq!(got, 128 + libc::SIGSYS, "{action}");
    }
}

fn all_threads() {
    let policy = policy(Rule { nr: SYSCALL as u32, args: vec![], action: ANSWER }, None);
    let got = child(|| {
        let (go, wait) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            wait.recv().expect("go");
            call(0)
        });
        install(&policy);
        go.send(()).expect("go");
        other.join().expect("thread")
    });
    assert_eq!(got, libc::EXDEV, "a thread that was there before");
}

fn notify() {
    let (ours, theirs) = host::stub::socketpair().expect("socketpair");
    let program = compile(&bpf::doorbell_policy()).expect("compiles");
    // SAFETY: this test has one thread.
    match unsafe { clone_process(0) }.expect("clone") {
        Cloned::Child => {
            let listener = host::seccomp::install_with_listener(&program).expect("installs");
            host::stub::send_fds(theirs.as_fd(), b"l", &[listener.as_fd()]).expect("sends");
            // SAFETY: the listener answers; nothing is run. Then the process ends.
            unsafe {
                let r = libc::syscall(i64::from(bpf::DOORBELL_NR), 1, 2, 3);
                libc::_exit(if r == 0 { 0 } else { 1 })
            }
        }
        Cloned::Parent { pid, .. } => {
            let (_, listener) = host::stub::receive_fd(ours.as_fd(), &mut [0]).expect("message");
            let listener = listener.expect("a descriptor");
            let bell = host::notify::receive(listener.as_fd()).expect("a ring");
            assert_eq!((bell.tid, bell.nr as u32, &bell.args[..3]), (pid, bpf::DOORBELL_NR, &[1, 2, 3][..]));
            host::notify::reply(listener.as_fd(), bell.id).expect("answer");
            let mut status = 0;
            // SAFETY: `status` is valid for writing.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
            assert_eq!(host::notify::reply(listener.as_fd(), bell.id), Err(Errno::ENOENT));
        }
    }
}

fn refused_program() {
    let got = child(|| {
        let nonsense = [bpf::Insn { code: 0xb1, jt: 0, jf: 0, k: 0 }];
        i32::from(host::seccomp::install(&nonsense) == Err(Errno::EINVAL))
    });
    assert_eq!(got, 1);
}

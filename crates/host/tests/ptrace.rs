//! Tracing a real process: what it asks for is seen, and not done.
use host::ptrace::{self, Report};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

#[test]
fn calls_are_seen_and_not_made() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
    let pid = child.id() as i32;
    // It has said something, so it is past its exec and waits for more.
    let mut input = child.stdin.take().expect("piped");
    let mut output = child.stdout.take().expect("piped");
    input.write_all(b"a").expect("writes");
    output.read_exact(&mut [0]).expect("reads");

    ptrace::seize(pid).expect("seize");
    ptrace::interrupt(pid).expect("interrupt");
    assert_eq!(ptrace::wait_for(pid), Report::Paused);
    let mut state = vec![0u8; 0x4000];
    let n = ptrace::xstate(pid, &mut state).expect("xstate");
    assert!(n >= 576 && n < state.len());
    ptrace::set_xstate(pid, &state[..n]).expect("set_xstate");

    // The interrupted read(2) is made again: now we see it, and answer that the input has ended.
    ptrace::go_to_call(pid).expect("go_to_call");
    assert_eq!(ptrace::wait_for(pid), Report::Call);
    let mut regs = ptrace::registers(pid).expect("registers");
    assert_eq!((regs.orig_rax, regs.rdi), (libc::SYS_read as u64, 0));
    regs.rax = 0;
    regs.orig_rax = u64::MAX;
    ptrace::set_registers(pid, &regs).expect("set_registers");
    loop {
        ptrace::go_to_call(pid).expect("go_to_call");
        assert_eq!(ptrace::wait_for(pid), Report::Call);
        let mut regs = ptrace::registers(pid).expect("registers");
        if regs.orig_rax == libc::SYS_exit_group as u64 {
            break;
        }
        (regs.rax, regs.orig_rax) = (0, u64::MAX);
        ptrace::set_registers(pid, &regs).expect("set_registers");
    }
    // Its exit was not made either: it is still there to be killed.
    assert_eq!(ptrace::wait(Some(pid), false), Ok(None));
    ptrace::kill(pid);
    assert_eq!(ptrace::wait_for(pid), Report::Gone);
    assert!(child.wait().is_err(), "waited for already");
}

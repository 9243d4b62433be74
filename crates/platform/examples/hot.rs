//! The bet, alone: a guest of a few instructions that calls getppid in a loop, and a kernel that answers it.
//!
//! `cargo run --release -p platform --example hot -- target/…/release/rvisor-stub`
use abi::regs::Regs;
use guest::ops::{Op, Resume};
use platform::{Ask, Event, Platform, Slots};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

const CODE: u64 = 0x40_0000;
const LOOPS: u32 = 1_000_000;

fn program() -> Vec<u8> {
    let mut p = vec![0xbb];
    p.extend_from_slice(&LOOPS.to_le_bytes()); // mov ebx, LOOPS
    p.extend_from_slice(&[0xb8, 110, 0, 0, 0, 0x0f, 0x05]); // mov eax, getppid; syscall
    p.extend_from_slice(&[0xff, 0xcb, 0x75, 0xf5]); // dec ebx; jnz -11
    p.extend_from_slice(&[0xb8, 231, 0, 0, 0, 0x0f, 0x05]); // exit_group
    p
}

fn patch(site: u64, nr: u32) -> Vec<Op> {
    use slots::layout::*;
    let mut code = vec![0xb8];
    code.extend_from_slice(&nr.to_le_bytes());
    code.extend_from_slice(&[0x48, 0xb9]);
    code.extend_from_slice(&(site + 7).to_le_bytes());
    code.extend_from_slice(&[0x65, 0xff, 0x24, 0x25, 0, 0, 0, 0]);
    let mut site_bytes = vec![0xff, 0x24, 0x25];
    site_bytes.extend_from_slice(&(SITES_TABLE as u32).to_le_bytes());
    vec![
        Op::Map { addr: SITES_TABLE, len: SITES_SIZE, prot: 7, flags: 0x22, file: None },
        Op::Write { addr: SITES_TABLE, bytes: SITES_CODE.to_le_bytes().to_vec() },
        Op::Write { addr: SITES_CODE, bytes: code },
        Op::Protect { addr: CODE, len: 4096, prot: 7 },
        Op::Write { addr: site, bytes: site_bytes },
    ]
}

fn main() {
    let stub = std::env::args().nth(1).expect("path of the stub");
    let (ours, theirs) = host::stub::socketpair().unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec 3<&0 0</dev/null; exec setarch -R \"$0\"", &stub])
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    let hints = [slots::Hint::NONE; slots::HINTS];
    let mut p = Slots::new(ours.as_fd(), &hints, 2).unwrap();
    p.start().unwrap();
    let others = host::epoll::Epoll::new().unwrap();
    while !p.spawn(1) {
        if p.poll().is_none() {
            p.wait(None, others.as_fd());
        }
    }
    println!("warm stub taken; features {:?}", p.features());
    let (mut begun, mut n, mut first) = (0, 0u64, 0);
    loop {
        let Some(e) = p.poll() else {
            p.wait(None, others.as_fd());
            continue;
        };
        match e {
            Event::Ask { tag, ask: Ask::Ready } => {
                let code = [vec![0x90u8; 16], program()].concat();
                let ops = vec![
                    Op::Map { addr: CODE, len: 4096, prot: 7, flags: 0x22, file: None },
                    Op::Write { addr: CODE, bytes: code },
                ];
                let regs = Regs {
                    rip: CODE + 16,
                    rsp: CODE + 4096,
                    eflags: 0x202,
                    segments: 0x2b_0000_0000_0033,
                    ..Regs::default()
                };
                p.resume(tag, ops, Resume::Regs, Some(&regs));
            }
            Event::Ask { tag, ask: Ask::Call { nr: 110, full, .. } } => {
                n += 1;
                if full && first == 0 {
                    first = 1;
                    let ip = p.regs(tag).map_or(0, |r| r.rip);
                    p.resume(tag, patch(ip - 7, 110), Resume::Return(1), None);
                    begun = host::time::monotonic_ns();
                } else {
                    p.answer(tag, 1);
                }
            }
            Event::Ask { tag, ask: Ask::Call { nr: 231, .. } } => {
                let ns = host::time::monotonic_ns() - begun;
                println!("{n} calls, {} ns each; {:?} running {}", ns / n, p.counters, p.running());
                p.kill(tag);
                break;
            }
            other => {
                println!("{other:?} {:x?}", p.regs(1));
                break;
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

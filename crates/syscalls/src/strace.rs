//! One line a call, in the manner of strace(1), from the row and the registers.
use crate::args::Kind;
use crate::row::Row;
use abi::{Errno, Result};
use guest::{Memory, read_cstr};
use std::fmt::Write;

/// Bytes of a string or buffer that are shown.
const SHOWN: usize = 64;

/// `name(arguments) = result`.
pub fn line(row: Option<&Row>, nr: u64, args: [u64; 6], result: Result<i64>, mem: &dyn Memory) -> String {
    let mut s = String::new();
    match row {
        Some(r) => {
            s.push_str(r.name);
            s.push('(');
            for (i, (name, kind)) in r.args.iter().enumerate() {
                let sep = if i == 0 { "" } else { ", " };
                let _ = write!(s, "{sep}{name}=");
                arg(&mut s, *kind, args, i, result, mem);
            }
        }
        None => {
            let _ = write!(s, "syscall_{nr}(");
            for (i, a) in args.iter().enumerate() {
                let sep = if i == 0 { "" } else { ", " };
                let _ = write!(s, "{sep}{a:#x}");
            }
        }
    }
    match result {
        Ok(v) if !(-4096..=0xffff_ffff).contains(&v) => write!(s, ") = {v:#x}"),
        Ok(v) => write!(s, ") = {v}"),
        Err(e) => write!(s, ") = -1 {e}"),
    }
    .ok();
    s
}

fn arg(s: &mut String, kind: Kind, args: [u64; 6], i: usize, result: Result<i64>, mem: &dyn Memory) {
    let a = args[i];
    let _ = match kind {
        Kind::Int => write!(s, "{}", a as i64 as i32),
        Kind::Uint => write!(s, "{a}"),
        Kind::Fd if a as i32 == abi::c::AT_FDCWD => write!(s, "AT_FDCWD"),
        Kind::Fd => write!(s, "{}", a as i32),
        Kind::Str => match read_cstr(mem, a, 4096) {
            Ok(b) => quote(s, &b, b.len()),
            Err(_) => write!(s, "{a:#x}"),
        },
        Kind::InBuf(len) => bytes(s, mem, a, args[len] as usize),
        Kind::OutBuf(_) => match result {
            Ok(n) if n > 0 => bytes(s, mem, a, n as usize),
            _ => write!(s, "{a:#x}"),
        },
        Kind::Hex | Kind::In(_) | Kind::InVec(_) | Kind::Out | Kind::InOut(_) | Kind::Addr => write!(s, "{a:#x}"),
    };
}

fn bytes(s: &mut String, mem: &dyn Memory, addr: u64, len: usize) -> std::fmt::Result {
    let mut buf = vec![0u8; len.min(SHOWN)];
    match mem.read_some(addr, &mut buf) {
        Ok(n) => quote(s, &buf[..n], len),
        Err(_) => write!(s, "{addr:#x}"),
    }
}

fn quote(s: &mut String, b: &[u8], len: usize) -> std::fmt::Result {
    let shown = &b[..b.len().min(SHOWN)];
    write!(s, "\"{}\"{}", shown.escape_ascii(), if len > shown.len() { "…" } else { "" })
}

/// Whether a line shows the call failing in a way that the kernel, not the program, may be to blame for.
pub fn suspicious(result: Result<i64>) -> bool {
    matches!(result, Err(Errno::ENOSYS))
}

//! /proc/PID/fdinfo.
use abi::c;
use std::fmt::Write;
use task::signalfd::SignalFd;
use vfs::OpenFile;

/// What one descriptor's file shows: the lines every file has, then those of its kind.
pub fn text(f: &OpenFile, close_on_exec: bool) -> String {
    let flags = f.flags() | if close_on_exec { c::O_CLOEXEC } else { 0 };
    let mnt = f.path().map_or(1, |p| p.mount.id);
    let mut s = format!("pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{mnt}\n", f.pos());
    if let Some(x) = f.downcast::<SignalFd>() {
        let _ = writeln!(s, "sigmask:\t{:016x}", x.mask().0);
    }
    if let Some(p) = f.downcast::<task::pidfd::PidFd>() {
        let pid = p.number().unwrap_or(-1);
        let _ = writeln!(s, "Pid:\t{pid}\nNSpid:\t{pid}");
    }
    if let Some(e) = f.downcast::<ipc::eventfd::EventFd>() {
        let _ = writeln!(s, "eventfd-count: {:16x}", e.count());
    }
    if let Some(i) = f.downcast::<vfs::inotify::Inotify>() {
        for (wd, (dev, ino), mask) in i.list() {
            // The device as the kernel keeps it: twelve bits, then twenty.
            let dev = u64::from(c::major(dev)) << 20 | u64::from(c::minor(dev));
            let _ = writeln!(s, "inotify wd:{wd:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0 ");
        }
    }
    s
}

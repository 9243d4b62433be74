//! /proc, kept as a descriptor: it serves after the root has been emptied, too.
use crate::error::{Context, Failure};
use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    pub fn open() -> Result<Proc, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(rustix::fs::CWD, "/proc", flags, Mode::empty()).map(Proc).context("opening /proc")
    }

    fn file(&self, name: &str, flags: OFlags) -> Result<File, Failure> {
        openat(&self.0, name, flags | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .context(&format!("opening /proc/{name}"))
    }

    pub fn read(&self, name: &str) -> Result<String, Failure> {
        let mut text = String::new();
        self.file(name, OFlags::RDONLY)?.read_to_string(&mut text).context(&format!("reading /proc/{name}"))?;
        Ok(text)
    }

    pub fn write(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.file(name, OFlags::WRONLY)?
            .write_all(value.as_bytes())
            .context(&format!("writing {:?} to /proc/{name}", value.trim_end()))
    }

    pub fn link(&self, name: &str) -> Result<std::ffi::CString, Failure> {
        rustix::fs::readlinkat(&self.0, name, Vec::new()).context(&format!("reading /proc/{name}"))
    }

    /// A namespace, by the name it has there.
    pub fn namespace(&self, name: &str) -> Result<OwnedFd, Failure> {
        self.file(name, OFlags::RDONLY).map(OwnedFd::from)
    }

    /// The numbers among the names in a directory: processes, or the threads of one.
    pub fn numbers(&self, directory: &str) -> Result<Vec<i32>, Failure> {
        let opened =
            self.file(if directory.is_empty() { "." } else { directory }, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = rustix::fs::Dir::read_from(opened).context(&format!("reading /proc/{directory}"))?;
        Ok(names.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect())
    }

    /// This process's number there.
    pub fn own_number(&self) -> Result<i32, Failure> {
        self.link("self")?
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::new("/proc/self is no number"))
    }

    /// The process's number here, which may be another than in the caller's pid namespace.
    pub fn number_of(&self, pidfd: BorrowedFd<'_>) -> Result<i32, Failure> {
        let info = self.read(&format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
        info.lines()
            .find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok())
            .filter(|pid| *pid > 0)
            .ok_or_else(|| Failure::new("the new process has no number in /proc"))
    }
}

//! /dev/kmsg and /proc/kmsg of a container: two file systems of one file each, served by the monitor, fuse(4).
//!
//! A node of the host's device shows the host's log, and no ordinary file, fifo or socket has records, waits for the next one
//! and takes lines. The requests come from the host's kernel, which has checked who asks. When the monitor ends, whoever
//! reads gets an error.
use super::log::Log;
use super::root;
use crate::error::{Context, Failure};
use abi::Errno;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where they are mounted, and what ls(1) says of them.
const PLACES: [(&str, u32); 2] = [("/dev/kmsg", 0o100_644), ("/proc/kmsg", 0o100_400)];
const DEVICE: usize = 0;

/// The longest line that is taken; the host's own limit.
const LONGEST: usize = 1024;
const WRITE_MAX: u32 = 4096;
const REQUEST_MAX: usize = WRITE_MAX as usize + 8192;
/// Open files, and reads that wait: more than programs have use for.
const MOST: usize = 4096;
/// Where SEEK_END leads: no record is so far, so that a read there is known to follow one.
const END: u64 = 1 << 62;

const READABLE: u32 = (abi::c::POLLIN | abi::c::POLLRDNORM) as u32;
const WRITABLE: u32 = (abi::c::POLLOUT | abi::c::POLLWRNORM) as u32;

mod op {
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const POLL: u32 = 40;
    pub const BATCH_FORGET: u32 = 42;
    pub const LSEEK: u32 = 46;
}

/// Opens what the two file systems are made of, before this process is where devices are kept from it. Nothing where the host
/// has no fuse, or not for this user: then there is no /dev/kmsg, and nothing is in /proc/kmsg.
pub fn open(to: &OwnedFd) -> Result<Vec<OwnedFd>, Failure> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let one = || rustix::fs::open("/dev/fuse", flags, Mode::empty());
    let opened = match (one(), one()) {
        (Ok(device), Ok(proc)) => vec![device, proc],
        _ => vec![],
    };
    for fd in &opened {
        host::stub::send_fds(to.as_fd(), b"K", &[fd.as_fd()]).context("passing the kernel log's files on")?;
    }
    host::stub::send_fds(to.as_fd(), b".", &[]).context("passing the kernel log's files on")?;
    Ok(opened)
}

/// The other end of [`open`]: what the new process has opened.
pub fn receive(from: &OwnedFd) -> Vec<OwnedFd> {
    let mut byte = [0];
    std::iter::from_fn(|| match host::stub::receive_fd(from.as_fd(), &mut byte) {
        Ok((1, fd)) => fd,
        _ => None,
    })
    .collect()
}

/// Puts them over what is there. `own_dev`: /dev is the container's, and a name for the device can be made.
pub fn mount(files: &[OwnedFd], own_dev: bool, monitor: &OwnedFd) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    for (file, (path, mode)) in files.iter().zip(PLACES) {
        if path.starts_with("/dev/") && own_dev {
            root::empty_file(path).or_else(|failure| if root::is_there(path) { Ok(()) } else { Err(failure) })?;
        }
        let (fd, mode) = (file.as_raw_fd().to_string(), format!("{mode:o}"));
        let options = [
            ("fd", fd.as_str()),
            ("rootmode", mode.as_str()),
            ("user_id", "0"),
            ("group_id", "0"),
            ("allow_other", ""),
            ("default_permissions", ""),
        ];
        let tree = host::mount::new("fuse", &options, root::PLAIN).context(&format!("the kernel log's {path}"))?;
        // An image may have none of them, or a link in the place.
        if let Some(at) = root::without_links(path) {
            host::mount::attach(tree.as_fd(), at.as_fd()).context(path)?;
        }
    }
    rustix::io::write(monitor, b"k").context("telling the monitor").map(drop)
}

/// Where one who has the device open is.
#[derive(Debug, Default)]
struct Place {
    /// The next record's number.
    record: u64,
    /// Where the host's kernel takes the file to be, by which a seek is seen.
    offset: u64,
    /// The record that was next when SEEK_END was asked for.
    end: u64,
}

/// A read that waits.
#[derive(Debug, Clone, Copy)]
struct Read {
    file: usize,
    unique: u64,
    handle: u64,
    offset: u64,
    size: usize,
}

/// The serving side.
#[derive(Debug, Default)]
pub struct Kmsg {
    files: Vec<Option<OwnedFd>>,
    mounted: bool,
    places: HashMap<u64, Place>,
    next_handle: u64,
    waiting: Vec<Read>,
    /// Those who are to be told when there is something to read.
    polls: Vec<(usize, u64)>,
}

/// A line that the container writes: facility and level, and the text.
pub type Line = (u32, String);

impl Kmsg {
    pub fn new(files: Vec<OwnedFd>) -> Kmsg {
        Kmsg { files: files.into_iter().map(Some).collect(), ..Kmsg::default() }
    }

    pub fn mounted(&mut self) {
        self.mounted = true;
    }

    /// Whoever waits gets an error, so that it can end.
    pub fn end(&mut self) {
        self.files.clear();
    }

    /// What to wait for: a fixed number.
    pub fn wait_for(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [0, 1].map(|i| self.files.get(i).filter(|_| self.mounted).and_then(|f| f.as_ref()).map(AsFd::as_fd))
    }

    /// Serves one request.
    pub fn serve(&mut self, file: usize, log: &mut Log) -> Option<Line> {
        let mut buffer = vec![0; REQUEST_MAX];
        let fd = self.files.get(file)?.as_ref()?;
        let request = match rustix::io::read(fd, &mut buffer) {
            Ok(n) => Request::new(&buffer[..n])?,
            // Taken back just now.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::NOENT) => return None,
            // It is mounted nowhere any more.
            Err(_) => {
                self.files[file] = None;
                return None;
            }
        };
        let mut line = None;
        let answer = match request.opcode {
            op::FORGET | op::BATCH_FORGET | op::DESTROY => return None,
            op::INTERRUPT => {
                self.interrupt(file, request.u64(0));
                return None;
            }
            op::READ => {
                let read = Read {
                    file,
                    unique: request.unique,
                    handle: request.u64(0),
                    offset: request.u64(8),
                    size: request.u32(16) as usize,
                };
                let wait = request.u32(32) & OFlags::NONBLOCK.bits() == 0;
                match self.read(read, log) {
                    Err(Errno::EAGAIN) if wait && self.waiting.len() < MOST => {
                        self.waiting.push(read);
                        return None;
                    }
                    answer => answer,
                }
            }
            op::WRITE => match written(request.rest(40), file) {
                Ok(l) => {
                    line = Some(l);
                    Ok(words(&[request.u32(16), 0]))
                }
                Err(e) => Err(e),
            },
            _ => self.other(file, &request, log),
        };
        self.reply(file, request.unique, answer);
        line
    }

    fn other(&mut self, file: usize, request: &Request<'_>, log: &Log) -> Result<Vec<u8>, Errno> {
        let handle = request.u64(0);
        match request.opcode {
            op::INIT => Ok(init()),
            op::GETATTR => {
                // With a handle only SEEK_END asks, which needs a size: to all others there is none.
                let place = (request.u32(0) & 1 != 0).then(|| self.places.get_mut(&request.u64(8))).flatten();
                let size = place.map_or(0, |place| {
                    place.end = log.bounds().2;
                    END
                });
                Ok(attributes(file, size))
            }
            // Truncating is no error, as it is none for a device.
            op::SETATTR if request.u32(0) & 7 == 0 => Ok(attributes(file, 0)),
            op::SETATTR => Err(Errno::EPERM),
            op::OPEN => self.open(file, log),
            op::RELEASE => {
                self.places.remove(&handle);
                Ok(vec![])
            }
            op::FLUSH => Ok(vec![]),
            op::STATFS => Ok(vec![0; 80]),
            op::LSEEK => match (request.u32(16) as i32, self.places.get_mut(&handle)) {
                (abi::c::SEEK_DATA, Some(place)) if request.u64(8) == 0 => {
                    *place = Place { record: log.bounds().1, ..Place::default() };
                    Ok(0u64.to_ne_bytes().to_vec())
                }
                _ => Err(Errno::EINVAL),
            },
            op::POLL => {
                let ready = match file {
                    DEVICE => self.places.get(&handle).is_some_and(|p| p.record < log.bounds().2),
                    _ => log.unread_bytes() > 0,
                };
                let wanted = (file, request.u64(8));
                if request.u32(16) & 1 != 0 && !self.polls.contains(&wanted) && self.polls.len() < MOST {
                    self.polls.push(wanted);
                }
                let writable = if file == DEVICE { WRITABLE } else { 0 };
                Ok(words(&[if ready { READABLE } else { 0 } | writable, 0]))
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn open(&mut self, file: usize, log: &Log) -> Result<Vec<u8>, Errno> {
        const DIRECT_IO: u32 = 1;
        const STREAM: u32 = 1 << 4;
        if self.places.len() >= MOST {
            return Err(Errno::ENFILE);
        }
        self.next_handle += 1;
        self.places.insert(self.next_handle, Place { record: log.bounds().0, ..Place::default() });
        let mut out = self.next_handle.to_ne_bytes().to_vec();
        out.extend(words(&[DIRECT_IO | if file == DEVICE { 0 } else { STREAM }, 0]));
        Ok(out)
    }

    /// EAGAIN: there is nothing yet.
    fn read(&mut self, read: Read, log: &mut Log) -> Result<Vec<u8>, Errno> {
        if read.file != DEVICE {
            let bytes = log.read(read.size);
            return if bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(bytes) };
        }
        let place = self.places.get_mut(&read.handle).ok_or(Errno::EBADF)?;
        let (first, _, next) = log.bounds();
        if read.offset == 0 && place.offset != 0 {
            *place = Place { record: first, ..Place::default() };
        } else if read.offset >= END && place.offset < END {
            *place = Place { record: place.end, offset: read.offset, end: place.end };
        }
        if place.record < first {
            place.record = first;
            return Err(Errno::EPIPE);
        }
        if place.record >= next {
            return Err(Errno::EAGAIN);
        }
        let entry = log.record(place.record).map(super::log::Record::entry).unwrap_or_default();
        if entry.len() > read.size {
            return Err(Errno::EINVAL);
        }
        place.record += 1;
        place.offset = read.offset + entry.len() as u64;
        Ok(entry.into_bytes())
    }

    /// There is a new record.
    pub fn wake(&mut self, log: &mut Log) {
        for read in std::mem::take(&mut self.waiting) {
            match self.read(read, log) {
                Err(Errno::EAGAIN) => self.waiting.push(read),
                answer => self.reply(read.file, read.unique, answer),
            }
        }
        for (file, handle) in std::mem::take(&mut self.polls) {
            const NOTIFY_POLL: i32 = 1;
            self.send(file, 0, NOTIFY_POLL, &handle.to_ne_bytes());
        }
    }

    fn interrupt(&mut self, file: usize, unique: u64) {
        let before = self.waiting.len();
        self.waiting.retain(|r| (r.file, r.unique) != (file, unique));
        if self.waiting.len() < before {
            self.reply(file, unique, Err(Errno::EINTR));
        }
    }

    fn reply(&self, file: usize, unique: u64, answer: Result<Vec<u8>, Errno>) {
        match answer {
            Ok(bytes) => self.send(file, unique, 0, &bytes),
            Err(e) => self.send(file, unique, -e.raw(), &[]),
        }
    }

    /// Who has gone since needs no answer.
    fn send(&self, file: usize, unique: u64, error: i32, bytes: &[u8]) {
        let Some(Some(fd)) = self.files.get(file) else { return };
        let mut message = (16 + bytes.len() as u32).to_ne_bytes().to_vec();
        message.extend(error.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.extend(bytes);
        let _ = rustix::io::write(fd, &message);
    }
}

/// What the host's kernel asks: a header of 40 bytes, and what belongs to the kind of request.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn new(bytes: &'a [u8]) -> Option<Request<'a>> {
        let head = Request { opcode: 0, unique: 0, body: bytes };
        Some(Request { opcode: head.u32(4), unique: head.u64(8), body: bytes.get(40..)? })
    }

    /// 0 where older kernels have less.
    fn u32(&self, at: usize) -> u32 {
        self.body.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.body.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }

    fn rest(&self, at: usize) -> &'a [u8] {
        self.body.get(at..).unwrap_or(&[])
    }
}

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn init() -> Vec<u8> {
    const OPEN_TRUNCATES: u32 = 1 << 3;
    // Version, no reading ahead; then how many requests at once, and the size of one write.
    let mut out = words(&[7, 31, 0, OPEN_TRUNCATES, 0, WRITE_MAX, 1]);
    out.resize(64, 0);
    out
}

fn attributes(file: usize, size: u64) -> Vec<u8> {
    let mut out = vec![0; 16];
    for value in [1, size, 0, 0, 0, 0] {
        out.extend(u64::to_ne_bytes(value));
    }
    // Nanoseconds of the times, mode, links, owner, group, device, block size, flags.
    out.extend(words(&[0, 0, 0, PLACES[file].1, 1, 0, 0, 0, 4096, 0]));
    out
}

/// A line as the host's device takes it: `<N>` before it is facility and level. Nobody but the kernel is facility 0.
fn written(bytes: &[u8], file: usize) -> Result<Line, Errno> {
    const USER: u32 = 1 << 3;
    const USUAL: u32 = 4;
    if file != DEVICE || bytes.len() > LONGEST {
        return Err(Errno::EINVAL);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\0']);
    let prefix = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let prefix = prefix.and_then(|(number, rest)| Some((number.parse::<u16>().ok()?.into(), rest)));
    let (level, text): (u32, &str) = prefix.unwrap_or((USUAL, text));
    Ok((if level < USER { level | USER } else { level }, text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(written(b"plain\n", 0), Ok((12, "plain".into())));
        assert_eq!(written(b"<3>bad", 0), Ok((11, "bad".into())));
        assert_eq!(written(b"<30>daemon", 0), Ok((30, "daemon".into())));
        assert_eq!(written(b"<x>odd", 0), Ok((12, "<x>odd".into())));
        assert_eq!(written(&[b'a'; LONGEST + 1], 0), Err(Errno::EINVAL));
        assert_eq!(written(b"x", 1), Err(Errno::EINVAL));
    }

    fn device(log: &Log) -> (Kmsg, u64) {
        let mut kmsg = Kmsg::default();
        kmsg.open(DEVICE, log).expect("opened");
        (kmsg, 1)
    }

    #[test]
    fn records_and_seeks() {
        let mut log = Log::new(4096);
        log.add(6, 0, "one");
        log.add(6, 0, "two");
        let (mut kmsg, handle) = device(&log);
        let at = |offset, size| Read { file: DEVICE, unique: 0, handle, offset, size };
        assert_eq!(kmsg.read(at(0, 5), &mut log), Err(Errno::EINVAL));
        assert_eq!(kmsg.read(at(0, 100), &mut log), Ok(b"6,0,0,-;one\n".to_vec()));
        assert_eq!(kmsg.read(at(12, 100), &mut log), Ok(b"6,1,0,-;two\n".to_vec()));
        assert_eq!(kmsg.read(at(24, 100), &mut log), Err(Errno::EAGAIN));
        // SEEK_SET 0: from the oldest on.
        assert_eq!(kmsg.read(at(0, 100), &mut log), Ok(b"6,0,0,-;one\n".to_vec()));
        kmsg.places.get_mut(&handle).expect("open").end = 2;
        assert_eq!(kmsg.read(at(END, 100), &mut log), Err(Errno::EAGAIN));
        log.add(6, 0, "three");
        assert_eq!(kmsg.read(at(END, 100), &mut log), Ok(b"6,2,0,-;three\n".to_vec()));
        for _ in 0..1000 {
            log.add(6, 0, "more");
        }
        assert_eq!(kmsg.read(at(END + 14, 100), &mut log), Err(Errno::EPIPE));
        assert!(kmsg.read(at(END + 14, 100), &mut log).is_ok());
    }
}

//! The bytes of a tmpfs file.
use super::TmpFs;
use super::inline::{Inline, MAX};
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vfs::{Backing, OpenFile};

pub const PAGE: u64 = abi::PAGE_SIZE;
/// Bytes that are written to a host file in one step.
const STEP: usize = 1 << 18;

pub fn page_up(n: u64) -> u64 {
    n.saturating_add(PAGE - 1) & !(PAGE - 1)
}
pub fn page_floor(n: u64) -> u64 {
    n & !(PAGE - 1)
}

enum Bytes {
    Inline(Box<Inline>),
    Host(Stored, u64),
}

/// A file of the host's that is nowhere else, which can be sparse and mapped.
struct Stored {
    fd: OwnedFd,
    /// For guests that may not write: their stub maps with what it is given, and could be made to write.
    read_only: OwnedFd,
}

impl AsFd for Stored {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

thread_local! {
    static STORE: OnceCell<OwnedFd> = const { OnceCell::new() };
}

/// The directory in memory, ours alone, where the bytes of large and mapped files go.
pub fn set_store(dir: OwnedFd) {
    STORE.with(|s| s.set(dir).expect("set once"));
}

const WRITE_SEALS: i32 = c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE;

pub struct Data {
    fs: Rc<TmpFs>,
    bytes: RefCell<Bytes>,
    /// Bytes counted against the file system, in whole pages.
    charged: Cell<u64>,
    /// Of a host file: before this every page is there. If it is all that is charged, so is no page after it.
    dense: Cell<u64>,
    /// It was mapped: pages appear without our doing.
    mapped: Cell<bool>,
    modified: Cell<Option<i64>>,
    accessed: Cell<Option<i64>>,
    /// It may have been changed since it was last read.
    stale: Cell<bool>,
    seals: Cell<i32>,
    /// Cloned for every shared mapping that may write.
    writers: Rc<()>,
}

impl Data {
    pub fn new(fs: Rc<TmpFs>, seals: i32) -> Rc<Data> {
        Rc::new(Data {
            fs,
            bytes: RefCell::new(Bytes::Inline(Box::default())),
            charged: Cell::new(0),
            dense: Cell::new(0),
            mapped: Cell::new(false),
            modified: Cell::new(None),
            accessed: Cell::new(None),
            stale: Cell::new(true),
            seals: Cell::new(seals),
            writers: Rc::new(()),
        })
    }

    pub fn size(&self) -> u64 {
        match &*self.bytes.borrow() {
            Bytes::Inline(i) => i.bytes.len() as u64,
            Bytes::Host(_, len) => *len,
        }
    }

    /// Bytes counted against the file system.
    pub fn charged(&self) -> u64 {
        if self.mapped.get()
            && let Bytes::Host(fd, size) = &*self.bytes.borrow()
        {
            self.recount(fd, *size);
        }
        self.charged.get()
    }

    pub fn modified(&self) -> Option<i64> {
        self.modified.get()
    }

    pub fn forget_modified(&self) {
        self.modified.set(None);
    }

    fn modify(&self) {
        self.modified.set(Some(crate::now()));
        self.stale.set(true);
    }

    /// When it was read; `None`: as its inode says.
    pub fn accessed(&self) -> Option<i64> {
        self.accessed.get()
    }

    pub fn forget_accessed(&self) {
        self.accessed.set(None);
    }

    /// What its inode says of it is another.
    pub fn changed(&self) {
        self.stale.set(true);
    }

    /// It was read through that description.
    pub fn read_by(&self, file: &OpenFile) {
        if file.moves_atime(false, self.stale.get()) {
            self.accessed.set(Some(crate::now()));
            self.stale.set(false);
        }
    }

    fn charge(&self, bytes: u64) -> Result {
        self.fs.charge(self.charged.get(), bytes)?;
        self.charged.set(bytes);
        Ok(())
    }

    /// As [`charge`](Self::charge), for what has happened already.
    fn recharge(&self, bytes: u64) {
        self.fs.recharge(self.charged.get(), bytes);
        self.charged.set(bytes);
    }

    /// Asks the host how many pages there are.
    fn recount(&self, fd: &Stored, size: u64) {
        if let Ok(s) = ::host::fs::stat(fd.as_fd(), b"") {
            let held = s.blocks * 512;
            self.recharge(held);
            self.dense.set(if held == page_up(size) { held } else { 0 });
        }
    }

    fn store(&self) -> Result {
        let mut b = self.bytes.borrow_mut();
        if let Bytes::Inline(i) = &*b {
            let (fd, read_only) = STORE.with(|s| ::host::fs::nameless(s.get().ok_or(Errno::ENOSPC)?.as_fd()))?;
            for mut r in i.data() {
                while !r.is_empty() {
                    r.start += ::host::file::write(fd.as_fd(), &i.bytes[r.clone()], Some(r.start as u64))?;
                }
            }
            let len = i.bytes.len() as u64;
            ::host::fs::ftruncate(fd.as_fd(), len)?;
            let stored = Stored { fd, read_only };
            self.recount(&stored, len);
            *b = Bytes::Host(stored, len);
        }
        Ok(())
    }

    /// Moves the bytes to the host unless they may stay; they must if the host has no descriptors left, and can.
    fn store_unless(&self, inline: bool, end: u64) -> Result {
        if inline {
            return Ok(());
        }
        match self.store() {
            Err(Errno::EMFILE | Errno::ENFILE) if end <= MAX => Ok(()),
            r => r,
        }
    }

    pub fn truncate(&self, len: u64) -> Result {
        if len > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let old = self.size();
        let sealed = |seal: i32| self.seals.get() & seal != 0;
        if (len < old && sealed(c::F_SEAL_SHRINK)) || (len > old && sealed(c::F_SEAL_GROW)) {
            return Err(Errno::EPERM);
        }
        let inline = matches!(&*self.bytes.borrow(), Bytes::Inline(i) if len <= old || i.may_be(len, 0));
        self.store_unless(inline, len)?;
        self.modify();
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(i) => {
                i.set_len(len);
                self.recharge(i.held());
            }
            Bytes::Host(fd, size) => {
                ::host::fs::ftruncate(fd.as_fd(), len)?;
                *size = len;
                if len < old {
                    self.recount(fd, len);
                }
            }
        }
        Ok(())
    }

    pub fn read(&self, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        match &*self.bytes.borrow() {
            Bytes::Inline(i) => match i.bytes.get(offset.min(i.bytes.len() as u64) as usize..) {
                Some(rest) if !rest.is_empty() => dst.put(&rest[..rest.len().min(dst.remaining())]),
                _ => Ok(0),
            },
            Bytes::Host(fd, _) => {
                let mut done = 0;
                while dst.remaining() > 0 {
                    let want = dst.remaining();
                    match dst.put_from(fd.as_fd(), Some(offset + done as u64), want)? {
                        0 => break,
                        n => done += n,
                    }
                }
                Ok(done)
            }
        }
    }

    /// Where a write of `offset..end` must stop for the seals. EPERM if it may not begin.
    fn sealed_end(&self, offset: u64, end: u64) -> Result<u64> {
        let seals = self.seals.get();
        if seals & WRITE_SEALS != 0 {
            return Err(Errno::EPERM);
        }
        let size = self.size();
        if seals & c::F_SEAL_GROW == 0 || end <= size {
            return Ok(end);
        }
        // Linux writes page by page, and refuses the first that would grow the file.
        Some(page_floor(size)).filter(|cut| *cut > offset).ok_or(Errno::EPERM)
    }

    pub fn write(&self, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let end = offset.checked_add(src.remaining() as u64).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if end == offset {
            return Ok(0);
        }
        let end = self.sealed_end(offset, end)?;
        let inline = match &*self.bytes.borrow() {
            Bytes::Inline(i) => i.may_be(end.max(i.bytes.len() as u64), (page_up(end) - page_floor(offset)) / PAGE),
            Bytes::Host(..) => false,
        };
        self.store_unless(inline, end)?;
        self.modify();
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(i) => self.write_inline(i, src, offset, end),
            Bytes::Host(fd, size) => self.write_host(fd, size, src, offset, end),
        }
    }

    fn write_inline(&self, i: &mut Inline, src: &mut dyn Source, offset: u64, end: u64) -> Result<usize> {
        let end = i.reach(&(offset..end), self.fs.room());
        if end == offset {
            return Err(Errno::ENOSPC);
        }
        let old = i.bytes.len();
        if end as usize > old {
            i.bytes.resize(end as usize, 0);
        }
        let mut done = 0;
        let mut failed = Ok(());
        while (done as u64) < end - offset {
            match src.take(&mut i.bytes[offset as usize + done..end as usize]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) => {
                    failed = Err(e);
                    break;
                }
            }
        }
        let reached = offset + done as u64;
        if done > 0 {
            i.fill(&(offset..reached));
        }
        if (reached as usize) < i.bytes.len() && i.bytes.len() > old {
            i.set_len(reached.max(old as u64));
        }
        self.recharge(i.held());
        if done > 0 { Ok(done) } else { failed.map(|()| 0) }
    }

    /// How many bytes at `offset` there is room for. ENOSPC if none.
    fn admit(&self, fd: &Stored, offset: u64, len: usize) -> Result<usize> {
        let (end, dense, room) = (offset + len as u64, self.dense.get(), self.fs.room());
        if page_up(end).saturating_sub(page_floor(offset).max(dense)) <= room {
            return Ok(len);
        }
        let (mut at, mut left) = (offset, room / PAGE);
        while at < end {
            let page = page_floor(at);
            let there = page < dense || ::host::fs::seek_data_hole(fd.as_fd(), page, c::SEEK_DATA) == Ok(page);
            if !there && left == 0 {
                break;
            }
            left -= u64::from(!there);
            at = page + PAGE;
        }
        match at.min(end) - offset {
            0 => Err(Errno::ENOSPC),
            n => Ok(n as usize),
        }
    }

    fn write_host(&self, fd: &Stored, size: &mut u64, src: &mut dyn Source, offset: u64, end: u64) -> Result<usize> {
        let mut at = offset;
        let mut failed = Ok(());
        while at < end {
            let wrote = self
                .admit(fd, at, ((end - at) as usize).min(STEP))
                .and_then(|n| src.take_into(fd.as_fd(), Some(at), n));
            match wrote {
                Ok(0) => break,
                Ok(n) => {
                    at += n as u64;
                    *size = (*size).max(at);
                    if self.dense.get() == self.charged.get() && at - n as u64 <= self.dense.get() {
                        let dense = self.dense.get().max(page_up(at));
                        self.dense.set(dense);
                        self.recharge(dense);
                    } else {
                        self.recount(fd, *size);
                    }
                }
                Err(e) => {
                    failed = Err(e);
                    break;
                }
            }
        }
        if at > offset { Ok((at - offset) as usize) } else { failed.map(|()| 0) }
    }

    /// fallocate(2): reserves pages, or punches a hole. Nothing else, as Linux's tmpfs.
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result {
        const KEEP: i32 = c::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = c::FALLOC_FL_PUNCH_HOLE;
        if mode & !(KEEP | PUNCH) != 0 || mode == PUNCH {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(len).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if mode & PUNCH != 0 {
            return self.punch(offset, end, len);
        }
        let size = self.size();
        let grows = mode & KEEP == 0 && end > size;
        if grows && self.seals.get() & c::F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        let (r, pages) = (offset..end, page_up(end) - page_floor(offset));
        if pages > self.fs.limit() {
            return Err(Errno::ENOSPC);
        }
        let inline = match &*self.bytes.borrow() {
            Bytes::Inline(i) => (grows || end <= size) && i.may_be(end.max(size), pages / PAGE),
            Bytes::Host(..) => false,
        };
        self.store_unless(inline, end)?;
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(i) => {
                self.charge(i.held() + i.missing(&r) * PAGE)?;
                if grows {
                    i.bytes.resize(end as usize, 0);
                }
                i.fill(&r);
            }
            Bytes::Host(fd, at) => {
                if self.admit(fd, offset, len as usize)? < len as usize {
                    return Err(Errno::ENOSPC);
                }
                ::host::fs::fallocate(fd.as_fd(), mode, offset, len)?;
                if grows {
                    *at = end;
                }
                self.recount(fd, *at);
            }
        }
        self.modify();
        Ok(())
    }

    fn punch(&self, offset: u64, end: u64, len: u64) -> Result {
        if self.seals.get() & WRITE_SEALS != 0 {
            return Err(Errno::EPERM);
        }
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(i) => {
                i.punch(&(offset..end));
                self.recharge(i.held());
            }
            Bytes::Host(fd, size) => {
                let mode = c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE;
                ::host::fs::fallocate(fd.as_fd(), mode, offset, len)?;
                self.recount(fd, *size);
            }
        }
        self.modify();
        Ok(())
    }

    pub fn seek_data_hole(&self, offset: u64, whence: i32) -> Result<u64> {
        match &*self.bytes.borrow() {
            Bytes::Inline(i) => i.seek(offset, whence == c::SEEK_DATA).ok_or(Errno::ENXIO),
            Bytes::Host(fd, _) => ::host::fs::seek_data_hole(fd.as_fd(), offset, whence),
        }
    }

    /// How many pages of a range of bytes are there.
    pub fn cached(&self, r: Range<u64>) -> Result<u64> {
        let (mut at, end, mut pages) = (r.start, r.end.min(page_up(self.size())), 0);
        while at < end {
            let data = match self.seek_data_hole(at, c::SEEK_DATA) {
                Ok(data) => data.min(end),
                Err(Errno::ENXIO) => break,
                Err(e) => return Err(e),
            };
            at = page_up(self.seek_data_hole(data, c::SEEK_HOLE).unwrap_or(end)).min(end);
            pages += (page_up(at) - page_floor(data)) / PAGE;
        }
        Ok(pages)
    }

    pub fn mmap(&self, writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        self.store()?;
        self.mapped.set(true);
        match &*self.bytes.borrow() {
            Bytes::Host(stored, _) if writable_shared => f(Backing::Host(stored.as_fd())),
            Bytes::Host(stored, _) => f(Backing::Host(stored.read_only.as_fd())),
            Bytes::Inline(_) => Err(Errno::ENODEV),
        }
    }

    pub fn seals(&self) -> i32 {
        self.seals.get()
    }

    /// fcntl(2) F_ADD_SEALS. EPERM: sealed against it; EBUSY: a shared mapping may still write.
    pub fn add_seals(&self, mut seals: i32, executable: bool) -> Result {
        const ALL: i32 =
            c::F_SEAL_SEAL | c::F_SEAL_SHRINK | c::F_SEAL_GROW | c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE | SEAL_EXEC;
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        let old = self.seals.get();
        if old & c::F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & c::F_SEAL_WRITE & !old != 0 && Rc::strong_count(&self.writers) > 1 {
            return Err(Errno::EBUSY);
        }
        // A program that can never be made unexecutable must not be changed either.
        if seals & SEAL_EXEC != 0 && executable {
            seals |= c::F_SEAL_SHRINK | c::F_SEAL_GROW | WRITE_SEALS;
        }
        self.seals.set(old | seals);
        Ok(())
    }

    /// Counts a shared mapping that may write, for as long as it is held.
    pub fn write_mapping(&self) -> Rc<()> {
        self.writers.clone()
    }
}

/// F_SEAL_EXEC: the execute permission bits stay as they are.
pub const SEAL_EXEC: i32 = 0x20;

impl Drop for Data {
    fn drop(&mut self) {
        self.fs.recharge(self.charged.get(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::io::SliceSource;

    fn file(limit: u64) -> Rc<Data> {
        Data::new(TmpFs::new(1, limit, 10), 0)
    }

    #[test]
    fn bytes_are_charged_by_page_and_given_back() {
        let fs = TmpFs::new(1, 2 * PAGE, 10);
        let d = Data::new(fs.clone(), 0);
        assert_eq!(d.write(&mut SliceSource(&[1; 3 * PAGE as usize]), 10), Ok(2 * PAGE as usize - 10));
        assert_eq!(d.write(&mut SliceSource(b"x"), 2 * PAGE), Err(Errno::ENOSPC));
        assert_eq!(d.write(&mut SliceSource(b"x"), 5), Ok(1));
        d.truncate(3 * PAGE).unwrap();
        assert_eq!((fs.room(), d.size()), (0, 3 * PAGE));
        assert_eq!(d.allocate(c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE, 0, PAGE), Ok(()));
        assert_eq!((fs.room(), d.seek_data_hole(0, c::SEEK_DATA)), (PAGE, Ok(PAGE)));
        assert_eq!(d.allocate(0, 0, 3 * PAGE), Err(Errno::ENOSPC));
        drop(d);
        assert_eq!(fs.room(), 2 * PAGE);
    }

    #[test]
    fn seals_stop_what_they_name() {
        let d = file(1 << 20);
        d.write(&mut SliceSource(&[1; 5000]), 0).unwrap();
        let mapping = d.write_mapping();
        assert_eq!(d.add_seals(c::F_SEAL_WRITE, false), Err(Errno::EBUSY));
        assert_eq!(d.add_seals(c::F_SEAL_GROW | c::F_SEAL_SHRINK, false), Ok(()));
        assert_eq!(d.write(&mut SliceSource(&[2; 5000]), 10), Ok(4086));
        assert_eq!(d.write(&mut SliceSource(&[2; 10]), 4995), Err(Errno::EPERM));
        assert_eq!((d.truncate(1), d.truncate(6000), d.truncate(5000)), (Err(Errno::EPERM), Err(Errno::EPERM), Ok(())));
        drop(mapping);
        assert_eq!(d.add_seals(SEAL_EXEC | c::F_SEAL_SEAL, true), Ok(()));
        assert_eq!(d.write(&mut SliceSource(b"x"), 0), Err(Errno::EPERM));
        assert_eq!(d.add_seals(c::F_SEAL_GROW, false), Err(Errno::EPERM));
    }
}

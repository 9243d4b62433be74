//! Pipes and FIFOs, pipe(7).
mod end;
mod fifo;
mod ring;
mod splice;

#[cfg(test)]
mod tests;

pub use end::PipeEnd;
pub use fifo::{FifoId, fifo_open};
pub use splice::{splice, splice_from_pipe, splice_to_pipe, tee};

use abi::{Errno, PAGE_SIZE, Result, c};
use kernel::wait::WaitQueue;
use ring::Ring;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use vfs::OpenFile;

/// A new pipe's capacity, in pages.
const DEFAULT_SLOTS: usize = 16;
/// The largest capacity there is, in bytes.
const HARD_SIZE: usize = 1 << 31;
const SMALL_SLOTS: usize = 2;

thread_local! {
    /// The largest capacity without privilege, in bytes: /proc/sys/fs/pipe-max-size.
    pub static MAX_SIZE: Cell<usize> = const { Cell::new(1 << 20) };
    /// Beyond so many pages in all pipes, new pipes get two; 0: no limit. /proc/sys/fs/pipe-user-pages-soft.
    pub static SOFT_PAGES: Cell<usize> = const { Cell::new(16384) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    /// Capacity of all pipes, in pages.
    static PAGES: Cell<usize> = const { Cell::new(0) };
}

/// Sets [`MAX_SIZE`], rounded as a capacity is. EINVAL: more than there is.
pub fn set_max_size(bytes: usize) -> Result {
    MAX_SIZE.set(slots(bytes)? * PAGE_SIZE as usize);
    Ok(())
}

/// What a capacity becomes: a power of two of pages.
fn slots(bytes: usize) -> Result<usize> {
    let known = Some(bytes).filter(|n| *n <= HARD_SIZE).ok_or(Errno::EINVAL)?;
    Ok(known.max(1).div_ceil(PAGE_SIZE as usize).next_power_of_two())
}

/// Have all pipes together too many pages for who has no privilege?
fn too_many(pages: usize) -> bool {
    SOFT_PAGES.get() != 0 && pages > SOFT_PAGES.get()
}

/// A pipe, shared by its ends.
pub struct Pipe {
    ring: RefCell<Ring>,
    readers: Cell<u32>,
    writers: Cell<u32>,
    /// How often an end of each kind was opened: what a blocking open of a FIFO waits for.
    readers_ever: Cell<u64>,
    writers_ever: Cell<u64>,
    /// The wait queues of the ends that read, and of those that write.
    read_queues: RefCell<Vec<Rc<WaitQueue>>>,
    write_queues: RefCell<Vec<Rc<WaitQueue>>>,
    /// Blocking opens.
    opening: WaitQueue,
    id: u64,
    fifo: Option<FifoId>,
    me: Weak<Pipe>,
}

/// pipe2(2): the read end and the write end. `flags`: O_NONBLOCK, O_DIRECT; O_CLOEXEC is the caller's business.
/// EINVAL for others. `privileged`: see [`Pipe::set_capacity`].
pub fn pipe(flags: i32, privileged: bool) -> Result<(Rc<OpenFile>, Rc<OpenFile>)> {
    if flags & !(c::O_NONBLOCK | c::O_DIRECT | c::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let pipe = Pipe::new(None, privileged);
    let reader = PipeEnd::attach(&pipe, true, false);
    let writer = PipeEnd::attach(&pipe, false, true);
    let keep = flags & c::O_NONBLOCK;
    Ok((
        OpenFile::new(reader, c::O_RDONLY | keep, None),
        OpenFile::new(writer, c::O_WRONLY | keep | flags & c::O_DIRECT, None),
    ))
}

impl Pipe {
    fn new(fifo: Option<FifoId>, privileged: bool) -> Rc<Pipe> {
        let slots = match privileged {
            true => DEFAULT_SLOTS,
            false if too_many(PAGES.get() + DEFAULT_SLOTS) => SMALL_SLOTS,
            false => DEFAULT_SLOTS.min(MAX_SIZE.get() / PAGE_SIZE as usize),
        };
        PAGES.set(PAGES.get() + slots);
        let id = NEXT_ID.replace(NEXT_ID.get() + 1);
        Rc::new_cyclic(|me| Pipe {
            ring: RefCell::new(Ring::new(slots)),
            readers: Cell::new(0),
            writers: Cell::new(0),
            readers_ever: Cell::new(0),
            writers_ever: Cell::new(0),
            read_queues: RefCell::default(),
            write_queues: RefCell::default(),
            opening: WaitQueue::new(),
            id,
            fifo,
            me: me.clone(),
        })
    }

    /// A number of its own: the inode number of `pipe:[N]`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// True if it has a name in a file system.
    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    /// F_GETPIPE_SZ: bytes.
    pub fn capacity(&self) -> usize {
        self.ring.borrow().capacity_slots() * PAGE_SIZE as usize
    }

    /// F_SETPIPE_SZ: rounds up to a power of two of pages, at least one, and returns what it became.
    ///
    /// `privileged` (CAP_SYS_RESOURCE): the limits are not for it. Errors: EINVAL (above 2 GiB), EPERM (more than
    /// [`MAX_SIZE`], or all pipes together would have more than [`SOFT_PAGES`]), EBUSY (holds more than that now).
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> Result<usize> {
        let slots = slots(bytes)?;
        let mut ring = self.ring.borrow_mut();
        let old = ring.capacity_slots();
        let total = PAGES.get() - old + slots;
        let over = slots * PAGE_SIZE as usize > MAX_SIZE.get() || too_many(total);
        if slots > old && over && !privileged {
            return Err(Errno::EPERM);
        }
        if slots != old {
            let was_full = ring.is_full();
            if !ring.resize(slots) {
                return Err(Errno::EBUSY);
            }
            PAGES.set(total);
            drop(ring);
            if was_full {
                self.wake_writers();
            }
        }
        Ok(slots * PAGE_SIZE as usize)
    }

    /// FIONREAD: bytes to read.
    pub fn bytes(&self) -> usize {
        self.ring.borrow().bytes()
    }

    /// How many bytes of a write of `len` would go in now. A blocking writer for whom that is less than `len`
    /// will have to wait, and settles before it writes the first part.
    pub fn room_for(&self, len: usize) -> usize {
        self.ring.borrow().room_for(len)
    }

    fn wake_readers(&self) {
        self.read_queues.borrow().iter().for_each(|q| q.wake());
    }

    fn wake_writers(&self) {
        self.write_queues.borrow().iter().for_each(|q| q.wake());
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = PAGES.try_with(|p| p.set(p.get() - self.ring.get_mut().capacity_slots()));
        if let Some(id) = self.fifo {
            fifo::forget(id);
        }
    }
}

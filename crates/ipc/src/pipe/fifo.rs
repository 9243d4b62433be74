//! FIFOs: pipes with a name, fifo(7). Everyone who opens the same inode gets the same pipe, while it is open.
use super::{Pipe, PipeEnd};
use abi::{Errno, Result, c};
use kernel::wait::{settle, until};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// A FIFO's inode: device number and inode number.
pub type FifoId = (u64, u64);

thread_local! {
    static FIFOS: RefCell<HashMap<FifoId, Weak<Pipe>>> = RefCell::default();
}

pub(super) fn forget(id: FifoId) {
    let _ = FIFOS.try_with(|f| f.borrow_mut().remove(&id));
}

/// Opens the FIFO `id`: without O_NONBLOCK waits until there is someone at the other end. `flags`: open(2)'s;
/// `privileged`: see [`Pipe::set_capacity`].
///
/// Errors: ENXIO (O_WRONLY|O_NONBLOCK and no reader), EINVAL (access mode 3), ERESTARTSYS (a signal came first).
pub async fn fifo_open(id: FifoId, flags: i32, privileged: bool) -> Result<Rc<PipeEnd>> {
    let pipe = match FIFOS.with_borrow(|f| f.get(&id).and_then(Weak::upgrade)) {
        Some(pipe) => pipe,
        None => {
            let pipe = Pipe::new(Some(id), privileged);
            FIFOS.with_borrow_mut(|f| f.insert(id, Rc::downgrade(&pipe)));
            pipe
        }
    };
    pipe.open(flags).await
}

impl Pipe {
    /// Opens another end: a FIFO by its name, or any pipe through /proc/PID/fd. See [`fifo_open`]; pipes without a
    /// name never wait.
    pub async fn open(&self, flags: i32) -> Result<Rc<PipeEnd>> {
        let me = self.me.upgrade().ok_or(Errno::ENXIO)?;
        let nonblock = flags & c::O_NONBLOCK != 0;
        match flags & c::O_ACCMODE {
            c::O_RDONLY => {
                if !self.is_fifo() || self.writers.get() > 0 {
                    return Ok(PipeEnd::attach(&me, true, false));
                }
                if nonblock {
                    return Ok(PipeEnd::attach(&me, true, false).without_hup_yet());
                }
                settle().await;
                let before = self.writers_ever.get();
                let end = PipeEnd::attach(&me, true, false);
                self.partner(|| self.writers_ever.get() != before).await?;
                Ok(end)
            }
            c::O_WRONLY => {
                if !self.is_fifo() || self.readers.get() > 0 {
                    return Ok(PipeEnd::attach(&me, false, true));
                }
                if nonblock {
                    return Err(Errno::ENXIO);
                }
                settle().await;
                let before = self.readers_ever.get();
                let end = PipeEnd::attach(&me, false, true);
                self.partner(|| self.readers_ever.get() != before).await?;
                Ok(end)
            }
            c::O_RDWR => Ok(PipeEnd::attach(&me, true, true)),
            _ => Err(Errno::EINVAL),
        }
    }

    async fn partner(&self, came: impl Fn() -> bool + Unpin) -> Result {
        until(&[&self.opening], None, || came().then_some(())).await.map_err(|_| Errno::ERESTARTSYS)
    }
}

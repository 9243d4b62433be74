//! Message queues: msgget(2).
use super::{Object, Perm, Sysv, now};
use abi::ipc::{MSG_COPY, MSG_EXCEPT, MSG_NOERROR};
use abi::{Errno, Result};
use kernel::cred::Cred;
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: i64,
    pub text: Vec<u8>,
}

pub struct Queue {
    perm: Perm,
    messages: RefCell<VecDeque<Message>>,
    /// Bytes of text in it, and how many it takes.
    pub bytes: Cell<u64>,
    pub bytes_max: Cell<u64>,
    pub stime: Cell<i64>,
    pub rtime: Cell<i64>,
    pub ctime: Cell<i64>,
    pub lspid: Cell<i32>,
    pub lrpid: Cell<i32>,
    removed: Cell<bool>,
    /// Woken by every change.
    pub changed: WaitQueue,
}

impl Object for Queue {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl Queue {
    fn new(perm: Perm, bytes_max: u64) -> Queue {
        Queue {
            perm,
            messages: RefCell::default(),
            bytes: Cell::new(0),
            bytes_max: Cell::new(bytes_max),
            stime: Cell::new(0),
            rtime: Cell::new(0),
            ctime: Cell::new(now()),
            lspid: Cell::new(0),
            lrpid: Cell::new(0),
            removed: Cell::new(false),
            changed: WaitQueue::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.messages.borrow().len()
    }

    /// Puts a message at the end. `None`: there is no room. EIDRM: the queue is gone.
    pub fn send(&self, m: &Message, pid: i32) -> Option<Result> {
        if self.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        let bytes = self.bytes.get() + m.text.len() as u64;
        let mut all = self.messages.borrow_mut();
        if bytes > self.bytes_max.get() || all.len() as u64 >= self.bytes_max.get() {
            return None;
        }
        all.push_back(m.clone());
        drop(all);
        self.bytes.set(bytes);
        self.stime.set(now());
        self.lspid.set(pid);
        self.changed.wake();
        Some(Ok(()))
    }

    /// Takes the message that `kind` and `flags` (MSG_EXCEPT, MSG_NOERROR, MSG_COPY) ask for, of at most `room` bytes.
    /// `None`: there is none. E2BIG: it is longer. EIDRM: the queue is gone.
    pub fn receive(&self, kind: i64, room: usize, flags: i32, pid: i32) -> Option<Result<Message>> {
        if self.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        let mut all = self.messages.borrow_mut();
        let at = if flags & MSG_COPY != 0 {
            usize::try_from(kind).ok().filter(|i| *i < all.len())?
        } else {
            match kind {
                0 => (!all.is_empty()).then_some(0)?,
                k if k < 0 => {
                    // The first of the lowest type not above.
                    let most = k.checked_neg().unwrap_or(i64::MAX);
                    let lowest = all.iter().map(|m| m.kind).filter(|k| *k <= most).min()?;
                    all.iter().position(|m| m.kind == lowest)?
                }
                k if flags & MSG_EXCEPT != 0 => all.iter().position(|m| m.kind != k)?,
                k => all.iter().position(|m| m.kind == k)?,
            }
        };
        let long = all[at].text.len() > room;
        if long && flags & MSG_NOERROR == 0 {
            return Some(Err(Errno::E2BIG));
        }
        if flags & MSG_COPY != 0 {
            let mut copy = all[at].clone();
            copy.text.truncate(room);
            return Some(Ok(copy));
        }
        let mut m = all.remove(at)?;
        drop(all);
        self.bytes.set(self.bytes.get() - m.text.len() as u64);
        m.text.truncate(room);
        self.rtime.set(now());
        self.lrpid.set(pid);
        self.changed.wake();
        Some(Ok(m))
    }
}

impl Sysv {
    /// msgget(2).
    pub fn queue(&self, key: i32, flags: i32, cred: &Cred) -> Result<i32> {
        self.queues.open(key, flags, cred, |_| Ok(()), |perm| Ok(Queue::new(perm, self.limits.msgmnb.get())))
    }

    /// IPC_RMID: who waits learns of it.
    pub fn remove_queue(&self, q: &Rc<Queue>) {
        q.removed.set(true);
        self.queues.remove(q);
        q.changed.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_chosen_by_type() {
        let q = Queue::new(Perm::new(0, 0o600, &Cred::new(0, 0, &[])), 16384);
        for (kind, text) in [(5, "five"), (3, "three"), (7, "seven"), (3, "again")] {
            assert_eq!(q.send(&Message { kind, text: text.into() }, 1), Some(Ok(())));
        }
        let take = |kind, flags| q.receive(kind, 5, flags, 2).map(|r| r.map(|m| (m.kind, m.text)));
        assert_eq!(take(-4, 0), Some(Ok((3, b"three".to_vec()))));
        assert_eq!(take(1, MSG_COPY), Some(Ok((7, b"seven".to_vec()))));
        assert_eq!(take(5, MSG_EXCEPT), Some(Ok((7, b"seven".to_vec()))));
        assert_eq!(take(9, 0), None);
        assert_eq!(take(i64::MIN, 0), Some(Ok((3, b"again".to_vec()))));
        assert_eq!(take(0, 0), Some(Ok((5, b"five".to_vec()))));
        assert_eq!((q.bytes.get(), q.count()), (0, 0));
        q.send(&Message { kind: 1, text: b"too long".to_vec() }, 1);
        assert_eq!(q.receive(0, 3, 0, 1), Some(Err(Errno::E2BIG)));
        assert_eq!(q.receive(0, 3, MSG_NOERROR, 1).unwrap().unwrap().text, b"too");
        assert_eq!(q.bytes.get(), 0);
    }
}

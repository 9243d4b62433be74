//! The terminal a sandbox starts with: a master of ours, joined to a descriptor of the host's.
//!
//! The host's side is raw: bytes are only carried. Neither side is waited for; what one does not take stays with the
//! other, so that a reader that stops holds up the writer, and nobody else.
use super::{Terminals, Tty};
use crate::stdio::HostStream;
use abi::{Errno, Result, c};
use guest::io::{SliceSink, SliceSource};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vfs::{OpenFile, Ready};

const PIECE: usize = 4096;

pub struct Console {
    tty: Rc<Tty>,
    master: Rc<OpenFile>,
    host: Rc<OpenFile>,
    /// Taken from one side, not yet taken by the other.
    typed: RefCell<Vec<u8>>,
    shown: RefCell<Vec<u8>>,
    /// Something has happened at one of the ends.
    due: Rc<Cell<bool>>,
    /// Nobody is there any more who reads or types.
    gone: Cell<bool>,
}

impl Console {
    /// A new terminal of `uid`'s, carried to and from the host terminal `host`.
    pub fn new(terminals: &Rc<Terminals>, host: Rc<OpenFile>, uid: u32) -> Result<Console> {
        let master = terminals.create(uid)?;
        let tty = master.tty().clone();
        tty.prepare(uid);
        let due = Rc::new(Cell::new(true));
        let master = OpenFile::new(Rc::new(master), c::O_RDWR | c::O_NONBLOCK, None);
        for f in [&master, &host] {
            let due = due.clone();
            if let Some(q) = f.ops().waiters() {
                q.hook(Rc::new(move || due.set(true)));
            }
        }
        let (typed, shown) = (RefCell::default(), RefCell::default());
        let console = Console { tty, master, host, typed, shown, due, gone: Cell::default() };
        console.resize();
        Ok(console)
    }

    pub fn tty(&self) -> &Rc<Tty> {
        &self.tty
    }

    /// Takes over the size of the host's window.
    pub fn resize(&self) {
        let stream = self.host.downcast::<HostStream>();
        if let Some(Ok(window)) = stream.map(|s| host::term::window_size(s.fd())) {
            self.tty.resize(window);
        }
    }

    /// Is there something to carry?
    pub fn due(&self) -> bool {
        self.due.get()
    }

    /// Carries what can be carried now.
    pub fn carry(&self) {
        self.due.set(false);
        if self.gone.get() {
            // As good as shown: nobody can see it.
            let mut buf = [0; PIECE];
            while self.master.ops().read(&self.master, &mut SliceSink::new(&mut buf), 0).is_ok() {}
        }
        while !self.gone.get() && (self.step(&self.host, &self.master, &self.typed) | self.show()) {}
    }

    /// Is output left that the host has not taken?
    pub fn unfinished(&self) -> bool {
        let more = self.master.ops().ready().contains(Ready::IN);
        !self.gone.get() && (more || !self.shown.borrow().is_empty())
    }

    /// Carries output on. True: it moved.
    fn show(&self) -> bool {
        self.step(&self.master, &self.host, &self.shown)
    }

    fn step(&self, from: &Rc<OpenFile>, to: &Rc<OpenFile>, held: &RefCell<Vec<u8>>) -> bool {
        let mut held = held.borrow_mut();
        let mut moved = false;
        if held.is_empty() && to.ops().ready().contains(Ready::OUT) {
            let mut buf = [0; PIECE];
            match from.ops().read(from, &mut SliceSink::new(&mut buf), 0) {
                Ok(n) if n > 0 => {
                    held.extend_from_slice(&buf[..n]);
                    moved = true;
                }
                // No program has the slave open just now.
                Err(Errno::EIO) if Rc::ptr_eq(from, &self.master) => {}
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                _ => self.gone.set(true),
            }
        }
        if !held.is_empty() {
            match to.ops().write(to, &mut SliceSource(&held), 0) {
                Ok(n) => {
                    held.drain(..n);
                    moved |= n > 0;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.gone.set(true),
            }
        }
        moved
    }
}

impl Terminals {
    /// The slave of a console, as the first process's standard streams.
    pub fn open_console(&self, console: &Console) -> Result<Rc<OpenFile>> {
        self.open_slave(&console.tty, c::O_RDWR, true)
    }
}

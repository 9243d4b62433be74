//! Names, connections, and their end.
use super::{NOBODY, RECEIVE, SEND, State, UnixSocket, names, rights};
use crate::{Accepted, Address, Caller, Socket};
use abi::{Errno, Result, c};
use std::rc::Rc;

impl UnixSocket {
    /// bind(2): an abstract name, a path whose file was just made, or unnamed: one is chosen.
    ///
    /// Errors: EINVAL (it has a name), EADDRINUSE.
    pub(super) fn bind_to(&self, to: Address) -> Result {
        let auto = matches!(to, Address::UnixUnnamed);
        if self.name.borrow().is_some() {
            return if auto { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let to = if auto { names::auto()? } else { to };
        names::register(&self.me(), &to)?;
        self.name.replace(Some(to));
        Ok(())
    }

    /// A socket that passes credentials gets a name before it connects or sends.
    pub(super) fn auto_bind(&self) -> Result {
        if self.options.pass_cred.get() && self.name.borrow().is_none() {
            self.bind_to(Address::UnixUnnamed)?;
        }
        Ok(())
    }

    /// The socket of this name. EPROTOTYPE: of another kind.
    pub(super) fn find(&self, to: &Address) -> Result<Rc<UnixSocket>> {
        let other = names::find(to)?;
        if other.kind == self.kind { Ok(other) } else { Err(Errno::EPROTOTYPE) }
    }

    /// listen(2). EOPNOTSUPP (datagrams), EINVAL (no name, or connected).
    pub(super) fn start_listening(&self, caller: &Caller, backlog: i32) -> Result {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.name.borrow().is_none() || self.state.get() == State::Connected {
            return Err(Errno::EINVAL);
        }
        self.backlog_max.set(backlog as usize);
        self.state.set(State::Listening);
        self.peer_cred.set(caller.ucred());
        self.unblock();
        // It no longer counts as hung up.
        self.waiters.wake();
        Ok(())
    }

    /// connect(2) of a stream or packet socket.
    ///
    /// Errors: ECONNREFUSED, EPROTOTYPE, EAGAIN (the backlog is full), EISCONN, EINVAL.
    pub(super) fn connect_to(&self, caller: &Caller, to: &Address) -> Result {
        if matches!(to, Address::Unspecified) {
            return Err(Errno::EINVAL);
        }
        let other = self.find(to)?;
        if other.state.get() != State::Listening || other.shut_down(RECEIVE) {
            return Err(Errno::ECONNREFUSED);
        }
        match self.state.get() {
            State::Closed => {}
            State::Connected => return Err(Errno::EISCONN),
            State::Listening => return Err(Errno::EINVAL),
        }
        if other.backlog.borrow().len() > other.backlog_max.get() {
            other.block(&self.waiters);
            return Err(Errno::EAGAIN);
        }
        self.auto_bind()?;
        let new = UnixSocket::new(self.kind);
        new.state.set(State::Connected);
        new.peer.replace(Some(self.me()));
        new.peer_cred.set(caller.ucred());
        new.name.replace(other.name.borrow().clone());
        new.listener.replace(Rc::downgrade(&other));
        self.peer.replace(Some(new.clone()));
        self.peer_cred.set(other.peer_cred.get());
        self.state.set(State::Connected);
        other.backlog.borrow_mut().push_back(new);
        other.waiters.wake();
        self.waiters.wake();
        Ok(())
    }

    /// accept(2). EOPNOTSUPP (datagrams), EINVAL (not listening), EAGAIN.
    pub(super) fn take_connection(&self) -> Result<Accepted> {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.state.get() != State::Listening {
            return Err(Errno::EINVAL);
        }
        let was_full = self.backlog.borrow().len() > self.backlog_max.get();
        let Some(new) = self.backlog.borrow_mut().pop_front() else {
            return Err(if self.shut_down(RECEIVE) { Errno::EINVAL } else { Errno::EAGAIN });
        };
        new.listener.replace(std::rc::Weak::new());
        new.options.pass_cred.set(self.options.pass_cred.get());
        if was_full {
            self.unblock();
        }
        let peer = Socket::peer(&*new).unwrap_or(Address::UnixUnnamed);
        Ok(Accepted { socket: new, peer })
    }

    /// connect(2) of a datagram socket: whom it sends to and hears from.
    ///
    /// Errors: ECONNREFUSED, EPROTOTYPE, EPERM (the other is connected to a third).
    pub(super) fn associate(&self, to: &Address) -> Result {
        let other = if matches!(to, Address::Unspecified) {
            None
        } else {
            self.auto_bind()?;
            let other = self.find(to)?;
            if !self.may_send(&other) {
                return Err(Errno::EPERM);
            }
            other.state.set(State::Connected);
            Some(other)
        };
        self.state.set(if other.is_some() { State::Connected } else { State::Closed });
        let old = self.peer.replace(other);
        if let Some(old) = old
            && !self.is_peer(&old)
        {
            self.leave(&old);
        }
        self.waiters.wake();
        Ok(())
    }

    /// What the old peer sent is lost, and it is told, if it is connected to this one.
    fn leave(&self, old: &UnixSocket) {
        if self.lose() {
            self.unblock();
            if !old.dead.get() && old.is_peer(self) {
                old.error.set(Some(Errno::ECONNRESET));
                old.waiters.wake();
            }
        }
    }

    /// A connected socket hears from its peer only.
    pub(super) fn may_send(&self, to: &UnixSocket) -> bool {
        to.peer.borrow().is_none() || to.is_peer(self)
    }

    pub(super) fn shut_both(&self, how: u8) {
        self.shut.set(self.shut.get() | how);
        if let Some(peer) = UnixSocket::peer(self)
            && self.connects()
        {
            let back = if how & RECEIVE != 0 { SEND } else { 0 } | if how & SEND != 0 { RECEIVE } else { 0 };
            peer.shut.set(peer.shut.get() | back);
            peer.waiters.wake();
        }
        self.unblock();
        self.waiters.wake();
    }

    /// The last descriptor is gone.
    pub(super) fn close(&self) {
        if self.dead.replace(true) {
            return;
        }
        if let Some(name) = self.name.borrow().as_ref() {
            names::forget(self, name);
        }
        self.shut.set(RECEIVE | SEND);
        self.state.set(State::Closed);
        self.peer_cred.set(NOBODY);
        let peer = self.peer.take();
        // Embryos are closed as if accepted and dropped: whoever connected is told.
        for e in self.backlog.take() {
            e.listener.replace(std::rc::Weak::new());
            e.refuse();
        }
        let unread = self.lose();
        rights::forget(self);
        if let Some(peer) = peer
            && self.kind != c::SOCK_DGRAM
        {
            peer.shut.set(RECEIVE | SEND);
            if unread {
                peer.error.set(Some(Errno::ECONNRESET));
            }
            peer.waiters.wake();
        }
        self.unblock();
        self.waiters.wake();
    }

    /// Closes a connection that was never accepted.
    fn refuse(&self) {
        if let Some(peer) = self.peer.borrow().as_ref() {
            peer.error.set(Some(Errno::ECONNRESET));
        }
        self.close();
    }
}

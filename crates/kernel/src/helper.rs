//! Calls that wait for a disk: made by helper threads, waited for like anything else.
use crate::reactor::{self, Watch};
use crate::wait::{self, WaitQueue};
use abi::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

struct State {
    helpers: host::helper::Helpers,
    done: HashMap<u64, Result>,
    queue: Rc<WaitQueue>,
    _watch: Watch,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Starts the helper threads; before the sentry's filter, which allows no new ones.
pub fn start() -> Result {
    let helpers = host::helper::Helpers::start()?;
    let queue = Rc::new(WaitQueue::new());
    let _watch = reactor::watch(helpers.bell(), queue.clone())?;
    STATE.set(Some(State { helpers, done: HashMap::new(), queue, _watch }));
    Ok(())
}

/// fsync(2), or fdatasync(2), of a host file. Signals do not end it, as in Linux.
pub async fn sync(fd: OwnedFd, data_only: bool) -> Result {
    wait::settle().await;
    let asked = STATE.with_borrow_mut(|s| s.as_mut().map(|s| (s.helpers.sync(fd, data_only), s.queue.clone())));
    let (id, queue) = asked.expect("started before the first call");
    let look = || {
        STATE.with_borrow_mut(|s| {
            let s = s.as_mut()?;
            while let Some((id, result)) = s.helpers.take() {
                s.done.insert(id, result);
                // Whoever looked before this one was taken looks again.
                s.queue.wake();
            }
            s.done.remove(&id)
        })
    };
    wait::until_deaf(&[&queue], look).await.expect("ends only with what it waits for")
}

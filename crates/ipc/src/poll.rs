//! The core of poll(2) and select(2).
use kernel::wait::{Stop, WaitQueue, settle, until};
use std::rc::Rc;
use vfs::{OpenFile, Ready};

/// One descriptor: the file (`None`: nothing to look at), what is asked for, and what was found. An entry without
/// a file counts as ready if something was put there beforehand (POLLNVAL).
pub type Entry = (Option<Rc<OpenFile>>, Ready, Ready);

/// POLLNVAL: the descriptor is not open.
pub const NVAL: Ready = Ready::from_bits_retain(0x20);

/// What select(2) means by readable, writable and exceptional.
pub const SELECT_IN: Ready = Ready::from_bits_retain(0x40 | 0x80 | 0x1 | 0x10 | 0x8);
pub const SELECT_OUT: Ready = Ready::from_bits_retain(0x200 | 0x100 | 0x4 | 0x8);
pub const SELECT_EX: Ready = Ready::PRI;

/// One look: fills in what was found, and returns how many entries are ready. ERR and HUP are always asked for.
pub fn look(entries: &mut [Entry]) -> usize {
    let mut n = 0;
    for (file, requested, returned) in entries {
        if let Some(f) = file {
            *returned = f.ops().ready() & (*requested | Ready::ERR | Ready::HUP);
        }
        n += usize::from(!returned.is_empty());
    }
    n
}

/// Waits until an entry is ready; returns how many are. `deadline`: monotonic nanoseconds; one that has passed
/// makes it a look, and a timeout is `Ok(0)`.
pub async fn poll_files(entries: &mut [Entry], deadline: Option<u64>) -> Result<usize, Stop> {
    let n = look(entries);
    if n > 0 {
        return Ok(n);
    }
    if deadline.is_some_and(|d| host::time::monotonic_ns() >= d) {
        return Ok(0);
    }
    settle().await;
    let files: Vec<Rc<OpenFile>> = entries.iter().filter_map(|e| e.0.clone()).collect();
    let queues: Vec<&WaitQueue> = files.iter().filter_map(|f| f.ops().waiters()).collect();
    let found = until(&queues, deadline, || match look(entries) {
        0 => None,
        n => Some(n),
    });
    match found.await {
        Err(Stop::TimedOut) => Ok(0),
        r => r,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::pipe;
    use guest::io::SliceSource;
    use kernel::testing::{Executor, Handle};

    type Answer = (Result<usize, Stop>, Vec<Ready>);

    fn poll(ex: &mut Executor, files: &[(&Rc<OpenFile>, Ready)], timeout_ms: Option<u64>) -> Handle<Answer> {
        let entries: Vec<Entry> = files.iter().map(|(f, r)| (Some((*f).clone()), *r, Ready::empty())).collect();
        let deadline = timeout_ms.map(|ms| host::time::monotonic_ns() + ms * 1_000_000);
        ex.spawn(move || {
            let mut entries = entries.clone();
            async move {
                let r = poll_files(&mut entries, deadline).await;
                (r, entries.iter().map(|e| e.2).collect())
            }
        })
    }

    fn write(f: &OpenFile, b: &[u8]) {
        assert_eq!(f.ops().write(f, &mut SliceSource(b), 0), Ok(b.len()));
    }

    #[test]
    fn answers_at_once_what_is_ready() {
        let mut ex = Executor::new();
        let (r, w) = pipe(0, false).unwrap();
        let h = poll(&mut ex, &[(&r, Ready::IN), (&w, Ready::OUT | Ready::IN)], None);
        assert_eq!(h.take(), (Ok(1), vec![Ready::empty(), Ready::OUT]));
        drop(r);
        assert_eq!(poll(&mut ex, &[(&w, Ready::empty())], None).take(), (Ok(1), vec![Ready::ERR]));
    }

    #[test]
    fn waits_for_the_first_of_many() {
        let mut ex = Executor::new();
        let (a, b) = (pipe(0, false).unwrap(), pipe(0, false).unwrap());
        let h = poll(&mut ex, &[(&a.0, Ready::IN), (&b.0, Ready::IN)], None);
        ex.idle();
        assert!(!h.done());
        write(&b.1, b"x");
        ex.idle();
        assert_eq!(h.take(), (Ok(1), vec![Ready::empty(), Ready::IN]));
        let h = poll(&mut ex, &[(&a.0, Ready::IN)], None);
        drop(a.1);
        ex.idle();
        assert_eq!(h.take(), (Ok(1), vec![Ready::HUP]));
        assert!(a.0.ops().waiters().unwrap().is_empty(), "nothing is left behind");
    }

    #[test]
    fn times_out_and_is_interrupted() {
        let mut ex = Executor::new();
        let (r, _w) = pipe(0, false).unwrap();
        assert_eq!(poll(&mut ex, &[(&r, Ready::IN)], Some(0)).take().0, Ok(0));
        let start = host::time::monotonic_ns();
        let h = poll(&mut ex, &[(&r, Ready::IN)], Some(3));
        assert_eq!(ex.finish(&h).0, Ok(0));
        assert!(host::time::monotonic_ns() - start >= 3_000_000);
        let h = poll(&mut ex, &[], Some(2));
        assert_eq!(ex.finish(&h).0, Ok(0), "no files: a sleep");
        let h = poll(&mut ex, &[(&r, Ready::IN)], None);
        ex.interrupt(&h);
        assert_eq!(h.take().0, Err(Stop::Interrupted));
    }

    #[test]
    fn an_entry_without_a_file() {
        let mut e = [(None, Ready::IN, NVAL), (None, Ready::IN, Ready::empty())];
        assert_eq!(look(&mut e), 1);
        assert_eq!(e[0].2, NVAL);
    }
}

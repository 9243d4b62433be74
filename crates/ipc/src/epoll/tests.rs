use super::*;
use crate::eventfd::eventfd;
use crate::pipe::pipe;
use guest::io::{SliceSink, SliceSource};
use kernel::testing::Executor;
use kernel::wait::until;

const IN: u32 = c::EPOLLIN as u32;
const OUT: u32 = c::EPOLLOUT as u32;
const HUP: u32 = c::EPOLLHUP as u32;

fn write(f: &OpenFile, b: &[u8]) {
    assert_eq!(f.ops().write(f, &mut SliceSource(b), 0), Ok(b.len()));
}
fn drain(f: &OpenFile) {
    f.ops().read(f, &mut SliceSink::new(&mut [0; 4096]), 0).unwrap();
}
fn inst(f: &OpenFile) -> &EpollInstance {
    f.downcast().unwrap()
}
fn add(ep: &OpenFile, fd: i32, file: &Rc<OpenFile>, events: u32) -> Result {
    inst(ep).ctl(c::EPOLL_CTL_ADD, fd, file, EpollEvent::new(events, fd as u64))
}
fn modify(ep: &OpenFile, fd: i32, file: &Rc<OpenFile>, events: u32) -> Result {
    inst(ep).ctl(c::EPOLL_CTL_MOD, fd, file, EpollEvent::new(events, fd as u64))
}
fn del(ep: &OpenFile, fd: i32, file: &Rc<OpenFile>) -> Result {
    inst(ep).ctl(c::EPOLL_CTL_DEL, fd, file, EpollEvent::default())
}
/// (data, events), in the order reported.
fn events(ep: &OpenFile, max: usize) -> Vec<(u64, u32)> {
    let mut v = Vec::new();
    let n = inst(ep).try_wait(max, &mut |e| {
        v.push((e.data, e.events));
        Ok(())
    });
    assert_eq!(n, Ok(v.len()));
    v
}

#[test]
fn level_triggered_reports_as_long_as_it_is_so() {
    let ep = epoll(0).unwrap();
    let (r, w) = pipe(0, false).unwrap();
    add(&ep, 3, &r, IN).unwrap();
    assert_eq!(events(&ep, 9), []);
    write(&w, b"x");
    assert_eq!(events(&ep, 9), [(3, IN)]);
    assert_eq!(events(&ep, 9), [(3, IN)]);
    drain(&r);
    assert_eq!(events(&ep, 9), []);
    drop(w);
    assert_eq!(events(&ep, 9), [(3, HUP)], "asked for or not");
}

#[test]
fn edge_triggered_reports_each_change_once() {
    let ep = epoll(0).unwrap();
    let (r, w) = pipe(0, false).unwrap();
    write(&w, b"before");
    add(&ep, 3, &r, IN | ET).unwrap();
    assert_eq!(events(&ep, 9), [(3, IN)]);
    assert_eq!(events(&ep, 9), []);
    write(&w, b"more");
    write(&w, b"more");
    assert_eq!(events(&ep, 9), [(3, IN)]);
    drain(&r);
    assert_eq!(events(&ep, 9), []);
    modify(&ep, 3, &r, IN | ET).unwrap();
    assert_eq!(events(&ep, 9), []);
    write(&w, b"x");
    drain(&r);
    assert_eq!(events(&ep, 9), [], "over before anyone looked");
}

#[test]
fn oneshot_sleeps_until_modified() {
    let ep = epoll(0).unwrap();
    let e = eventfd(1, 0).unwrap();
    add(&ep, 3, &e, IN | ONESHOT).unwrap();
    assert_eq!(events(&ep, 9), [(3, IN)]);
    write(&e, &1u64.to_ne_bytes());
    assert_eq!(events(&ep, 9), []);
    modify(&ep, 3, &e, IN | OUT | ONESHOT).unwrap();
    assert_eq!(events(&ep, 9), [(3, IN | OUT)]);
}

#[test]
fn few_at_a_time_in_turn() {
    let ep = epoll(0).unwrap();
    let files: Vec<_> = (0..3).map(|_| eventfd(1, 0).unwrap()).collect();
    for (fd, f) in files.iter().enumerate() {
        add(&ep, fd as i32, f, IN).unwrap();
    }
    let order: Vec<u64> = (0..6).map(|_| events(&ep, 1)[0].0).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    assert_eq!(events(&ep, 9).len(), 3);
}

#[test]
fn errors() {
    struct Always;
    impl FileOps for Always {
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    let ep = epoll(c::EPOLL_CLOEXEC).unwrap();
    assert_eq!(epoll(1).err(), Some(Errno::EINVAL));
    let e = eventfd(0, 0).unwrap();
    assert_eq!(modify(&ep, 3, &e, IN), Err(Errno::ENOENT));
    assert_eq!(del(&ep, 3, &e), Err(Errno::ENOENT));
    assert_eq!(add(&ep, 3, &e, IN), Ok(()));
    assert_eq!(add(&ep, 3, &e, IN), Err(Errno::EEXIST));
    assert_eq!(add(&ep, 4, &e, IN), Ok(()), "another number, another registration");
    assert_eq!(add(&ep, 5, &ep, IN), Err(Errno::EINVAL));
    assert_eq!(add(&ep, 5, &OpenFile::new(Rc::new(Always), 0, None), IN), Err(Errno::EPERM));
    assert_eq!(modify(&ep, 3, &e, IN | EXCLUSIVE), Err(Errno::EINVAL));
    assert_eq!(add(&ep, 6, &e, IN | EXCLUSIVE | ONESHOT), Err(Errno::EINVAL));
    assert_eq!(add(&ep, 6, &e, IN | EXCLUSIVE), Ok(()));
    assert_eq!(modify(&ep, 6, &e, IN), Err(Errno::EINVAL));
    assert_eq!(inst(&ep).ctl(9, 3, &e, EpollEvent::default()), Err(Errno::EINVAL));
}

#[test]
fn a_refused_event_is_not_lost() {
    let ep = epoll(0).unwrap();
    let e = eventfd(1, 0).unwrap();
    add(&ep, 3, &e, IN | ET).unwrap();
    assert_eq!(inst(&ep).try_wait(9, &mut |_| Err(Errno::EFAULT)), Err(Errno::EFAULT));
    assert_eq!(events(&ep, 9), [(3, IN)]);
}

#[test]
fn closing_ends_it_and_leaves_nothing() {
    let ep = epoll(0).unwrap();
    let (r, w) = pipe(0, false).unwrap();
    write(&w, b"x");
    add(&ep, 3, &r, IN).unwrap();
    let dup = r.clone();
    drop(r);
    assert_eq!(events(&ep, 9), [(3, IN)], "the description is still open");
    drop(dup);
    assert_eq!(events(&ep, 9), []);
    assert!(inst(&ep).is_empty());
    // Closed without ever having been ready.
    let before = WATCHES.get();
    for fd in 0..1000 {
        let e = eventfd(0, 0).unwrap();
        add(&ep, fd, &e, IN).unwrap();
    }
    assert!(inst(&ep).len() <= 64);
    add(&ep, 3, &w, IN).unwrap();
    let queue_used = |f: &OpenFile| !f.ops().waiters().unwrap().is_empty();
    assert!(queue_used(&w));
    del(&ep, 3, &w).unwrap();
    assert!(!queue_used(&w));
    add(&ep, 3, &w, IN).unwrap();
    drop(ep);
    assert!(!queue_used(&w));
    assert_eq!(WATCHES.get(), before);
}

#[test]
fn deleting_a_listed_item() {
    let ep = epoll(0).unwrap();
    let e = eventfd(1, 0).unwrap();
    for _ in 0..1000 {
        add(&ep, 3, &e, IN).unwrap();
        del(&ep, 3, &e).unwrap();
    }
    assert_eq!(inst(&ep).list.borrow().len(), 0);
    assert_eq!(events(&ep, 9), []);
}

#[test]
fn a_waiting_call_is_woken() {
    let mut ex = Executor::new();
    let ep = epoll(0).unwrap();
    let (r, w) = pipe(0, false).unwrap();
    add(&ep, 3, &r, IN).unwrap();
    let h = {
        let ep = ep.clone();
        ex.spawn(move || {
            let ep = ep.clone();
            async move {
                let look = || Some(events(&ep, 9)).filter(|v| !v.is_empty());
                until(&[ep.ops().waiters().unwrap()], None, look).await
            }
        })
    };
    ex.idle();
    assert!(!h.done());
    write(&w, b"x");
    ex.idle();
    assert_eq!(h.take(), Ok(vec![(3, IN)]));
}

#[test]
fn nested() {
    let (outer, inner) = (epoll(0).unwrap(), epoll(0).unwrap());
    let (r, w) = pipe(0, false).unwrap();
    add(&inner, 3, &r, IN).unwrap();
    add(&outer, 4, &inner, IN).unwrap();
    assert_eq!(events(&outer, 9), []);
    write(&w, b"x");
    assert_eq!(events(&outer, 9), [(4, IN)]);
    assert_eq!(events(&inner, 9), [(3, IN)]);
    drain(&r);
    assert_eq!(inner.ops().ready(), Ready::empty());
    assert_eq!(events(&outer, 9), []);
    // Edges go through.
    modify(&outer, 4, &inner, IN | ET).unwrap();
    write(&w, b"x");
    assert_eq!(events(&outer, 9), [(4, IN)]);
    assert_eq!(events(&outer, 9), []);
    write(&w, b"y");
    assert_eq!(events(&outer, 9), [(4, IN)]);
}

#[test]
fn no_circles_and_no_long_chains() {
    let e: Vec<_> = (0..7).map(|_| epoll(0).unwrap()).collect();
    for i in 0..4 {
        add(&e[i], 0, &e[i + 1], IN).unwrap();
    }
    assert_eq!(add(&e[4], 0, &e[0], IN), Err(Errno::ELOOP));
    assert_eq!(add(&e[2], 9, &e[1], IN), Err(Errno::ELOOP));
    assert_eq!(add(&e[4], 0, &e[5], IN), Err(Errno::ELOOP), "six in a row, added below");
    assert_eq!(add(&e[5], 0, &e[0], IN), Err(Errno::ELOOP), "six in a row, added above");
    add(&e[5], 0, &e[6], IN).unwrap();
    assert_eq!(add(&e[3], 1, &e[5], IN), Err(Errno::ELOOP));
    add(&e[2], 1, &e[5], IN).unwrap();
    del(&e[0], 0, &e[1]).unwrap();
    add(&e[4], 0, &e[0], IN).unwrap();
}

#[test]
fn too_many_watchers_of_one_instance() {
    let inner = epoll(0).unwrap();
    let outer: Vec<_> = (0..33).map(|_| epoll(0).unwrap()).collect();
    for e in &outer[..32] {
        add(e, 0, &inner, IN).unwrap();
    }
    assert_eq!(add(&outer[32], 0, &inner, IN), Err(Errno::EINVAL));
    del(&outer[0], 0, &inner).unwrap();
    assert_eq!(add(&outer[32], 0, &inner, IN), Ok(()));
}

use super::*;

fn cred() -> Cred {
    Cred::new(1000, 1000, &[])
}
fn make(all: &Rc<Queues>, name: &[u8], attr: Option<(i64, i64)>) -> Result<Rc<Queue>> {
    let attr = attr.map(|(maxmsg, msgsize)| MqAttr { maxmsg, msgsize, ..MqAttr::default() });
    let by = Asker { cred: &cred(), bytes_max: 819_200 };
    all.create(name, New { mode: 0o600, uid: 1000, gid: 1000 }, attr, &by)
}

#[test]
fn the_highest_priority_comes_first_and_then_the_oldest() {
    let q = make(&Queues::new(), b"q", Some((4, 8))).unwrap();
    for (text, priority) in [("a", 1), ("b", 9), ("c", 9), ("d", 0)] {
        assert!(q.send(text.as_bytes(), priority).is_some());
    }
    assert!(q.send(b"e", 5).is_none());
    let all: Vec<_> = std::iter::from_fn(|| q.receive()).map(|(t, _)| t[0]).collect();
    assert_eq!(all, b"bcad");
}

#[test]
fn limits() {
    let all = Queues::new();
    for (messages, size) in [(0, 1), (1, 0), (-1, 8), (11, 8), (1, 8193), (i64::MAX, i64::MAX)] {
        assert_eq!(make(&all, b"q", Some((messages, size))).err(), Some(Errno::EINVAL));
    }
    assert_eq!(all.set_limit("msgsize_max", 127), Err(Errno::EINVAL));
    all.set_limit("msgsize_max", 1 << 20).unwrap();
    assert_eq!(make(&all, b"q", Some((10, 1 << 20))).err(), Some(Errno::EMFILE));
    let q = make(&all, b"q", Some((9, 90_000))).unwrap();
    assert_eq!(make(&all, b"r", Some((1, 90_000))).err(), Some(Errno::EMFILE));
    all.unlink(b"q").unwrap();
    assert_eq!(make(&all, b"r", Some((1, 90_000))).err(), Some(Errno::EMFILE), "it is still open");
    drop(q);
    make(&all, b"r", Some((1, 90_000))).unwrap();
    all.set_limit("queues_max", 1).unwrap();
    assert_eq!(make(&all, b"s", None).err(), Some(Errno::ENOSPC));
}

#[test]
fn one_is_told_once_and_only_when_nobody_waits() {
    let q = make(&Queues::new(), b"q", None).unwrap();
    let signal = || Notify::Signal { sig: 10, value: 7 };
    q.register(5, signal()).unwrap();
    assert_eq!(q.register(6, signal()).err(), Some(Errno::EBUSY));
    let waiting = q.receiving();
    assert!(q.send(b"x", 0).unwrap().is_none());
    drop(waiting);
    q.receive().unwrap();
    assert!(matches!(q.send(b"x", 0), Some(Some((5, Notify::Signal { sig: 10, value: 7 })))));
    assert!(q.send(b"x", 0).unwrap().is_none());
    q.register(6, signal()).unwrap();
    q.unregister(5);
    assert!(q.notify.borrow().is_some());
    q.unregister(6);
    assert!(q.notify.borrow().is_none());
}

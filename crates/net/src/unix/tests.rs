//! What the guest programs cannot see, or only with luck.
use super::*;
use crate::SocketFile;
use guest::io::{SliceSink, SliceSource};
use kernel::cred::Cred;

fn caller() -> Caller {
    Caller { pid: 7, cred: Rc::new(Cred::new(0, 0, &[])) }
}

fn abstract_name(n: &str) -> Address {
    Address::UnixAbstract(n.as_bytes().into())
}

fn send(s: &UnixSocket, bytes: &[u8]) -> Result<usize> {
    s.send(&caller(), &mut SliceSource(bytes), &mut Outgoing::default())
}

fn give(s: &UnixSocket, files: Vec<Rc<OpenFile>>) -> Result<usize> {
    let mut out = Outgoing { control: vec![Control::Rights(files)], ..Outgoing::default() };
    s.send(&caller(), &mut SliceSource(b"x"), &mut out)
}

fn receive(s: &UnixSocket, room: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; room];
    let got = s.receive(&mut SliceSink::new(&mut buf), 0)?;
    buf.truncate(got.len);
    Ok(buf)
}

#[test]
fn a_stream_counts_what_linux_counts() {
    // Bytes sent at once, and what SIOCOUTQ then says.
    let seen = [(1, 768), (100, 768), (400, 1280), (1000, 2304), (3776, 4352), (4096, 4864), (8192, 8960)];
    for (len, cost) in seen.into_iter().chain([(16384, 17152), (48832, 50176), (65536, 67072)]) {
        let (a, b) = pair(&caller(), c::SOCK_STREAM, 0).unwrap();
        assert_eq!(send(&a, &vec![1; len]), Ok(len));
        assert_eq!(a.sent.get(), cost, "{len}");
        assert_eq!(receive(&b, len).unwrap().len(), len);
        assert_eq!(a.sent.get(), 0);
    }
}

#[test]
fn a_packet_counts_what_linux_counts() {
    for (len, cost) in [(1, 768), (4096, 8448), (8192, 16640), (16384, 20736), (48832, 49408), (65536, 69888)] {
        let (a, _b) = pair(&caller(), c::SOCK_SEQPACKET, 0).unwrap();
        assert_eq!(send(&a, &vec![1; len]), Ok(len));
        assert_eq!(a.sent.get(), cost, "{len}");
    }
}

#[test]
fn bytes_come_as_they_went() {
    let (a, b) = pair(&caller(), c::SOCK_STREAM, 0).unwrap();
    let (mut x, mut sent, mut got) = (12345u64, 0u64, 0u64);
    let mut next = |n: u64| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) % n
    };
    for _ in 0..4000 {
        if next(2) == 0 {
            let bytes: Vec<u8> = (0..next(9000)).map(|i| ((sent + i) % 253) as u8).collect();
            sent += send(&a, &bytes).unwrap_or(0) as u64;
        } else if let Ok(bytes) = receive(&b, 1 + next(12000) as usize) {
            for v in bytes {
                assert_eq!(v, (got % 253) as u8);
                got += 1;
            }
        }
        assert_eq!(b.inbox.borrow().len() as u64, sent - got);
    }
    assert!(got > 1_000_000);
}

#[test]
fn closing_breaks_every_circle() {
    let l = make(c::SOCK_STREAM, 0).unwrap();
    l.bind(&caller(), abstract_name("l")).unwrap();
    l.listen(&caller(), 5).unwrap();
    let (x, y) = (make(c::SOCK_STREAM, 0).unwrap(), make(c::SOCK_STREAM, 0).unwrap());
    for s in [&x, &y] {
        s.connect(&caller(), abstract_name("l")).unwrap();
        send(s, b"early").unwrap();
    }
    let taken = l.accept(&caller()).unwrap();
    assert!(taken.socket.name().is_ok_and(|n| matches!(n, Address::UnixAbstract(n) if *n == *b"l")));
    let weak = [Rc::downgrade(&l), Rc::downgrade(&x), Rc::downgrade(&y)];
    for s in [&l, &x, &y] {
        s.release();
    }
    taken.socket.release();
    drop((l, x, y, taken));
    assert!(weak.iter().all(|w| w.strong_count() == 0));
    let again = make(c::SOCK_STREAM, 0).unwrap();
    assert_eq!(again.bind(&caller(), abstract_name("l")), Ok(()));
    assert_eq!(again.bind(&caller(), abstract_name("m")), Err(Errno::EINVAL));
    again.release();
}

fn files() -> (Rc<OpenFile>, Rc<OpenFile>, Rc<UnixSocket>, Rc<UnixSocket>) {
    let (a, b) = pair(&caller(), c::SOCK_STREAM, 0).unwrap();
    (SocketFile::open(a.clone(), caller(), 0), SocketFile::open(b.clone(), caller(), 0), a, b)
}

#[test]
fn sockets_only_their_own_messages_lead_to_are_freed() {
    let (fa, fb, a, b) = files();
    give(&a, vec![fa.clone(), fb.clone()]).unwrap();
    let (fc, fd, cc, d) = files();
    give(&cc, vec![fa.clone()]).unwrap();
    give(&a, vec![fc.clone(), fd.clone()]).unwrap();
    let weak: Vec<Weak<OpenFile>> = [&fa, &fb, &fc, &fd].map(Rc::downgrade).to_vec();
    drop((fa, fb, fc));
    rights::collect();
    // From d, a can still be received; from b nothing any more.
    assert_eq!(weak.iter().map(|w| w.strong_count() > 0).collect::<Vec<_>>(), [true, false, false, true]);
    drop(fd);
    assert!(weak.iter().all(|w| w.strong_count() == 0));
    assert!(a.dead.get() && b.dead.get() && cc.dead.get() && d.dead.get());
}

#[test]
fn a_long_chain_is_closed_without_a_deep_stack() {
    let mut at = files();
    for _ in 0..5_000 {
        let next = files();
        give(&next.2, vec![at.0, at.1]).unwrap();
        at = next;
    }
    let weak = Rc::downgrade(&at.0);
    drop(at);
    assert_eq!(weak.strong_count(), 0);
    assert_eq!(may_fly(0), Ok(()));
}

#[test]
fn rights_that_come_are_no_longer_on_their_way() {
    let (fa, _fb, a, b) = files();
    give(&a, vec![fa.clone(), fa.clone()]).unwrap();
    assert_eq!(may_fly(1), Err(Errno::ETOOMANYREFS));
    assert_eq!(may_fly(2), Ok(()));
    let mut buf = [0; 4];
    let got = b.receive(&mut SliceSink::new(&mut buf), 0).unwrap();
    assert!(matches!(&got.control[..], [Control::Rights(f)] if f.len() == 2 && Rc::ptr_eq(&f[0], &fa)));
    assert_eq!(may_fly(0), Ok(()));
}

#[test]
fn those_who_wait_for_room_do_not_pile_up() {
    let d = make(c::SOCK_DGRAM, 0).unwrap();
    d.bind(&caller(), abstract_name("d")).unwrap();
    let mut sent = 0;
    for _ in 0..1000 {
        let s = make(c::SOCK_DGRAM, 0).unwrap();
        s.connect(&caller(), abstract_name("d")).unwrap();
        sent += usize::from(send(&s, b"x").is_ok());
        s.release();
    }
    assert_eq!(sent, QUEUE_MAX + 1);
    assert!(d.blocked.borrow().len() < 10);
    let s = make(c::SOCK_DGRAM, 0).unwrap();
    s.connect(&caller(), abstract_name("d")).unwrap();
    assert!(!s.ready().contains(Ready::OUT));
    assert_eq!(receive(&d, 4), Ok(b"x".to_vec()));
    assert!(s.ready().contains(Ready::OUT));
    s.release();
    d.release();
}

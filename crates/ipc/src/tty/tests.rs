use super::*;
use guest::io::{SliceSink, SliceSource};

#[derive(Default)]
struct Signals(RefCell<Vec<(i32, i32)>>);

impl Control for Signals {
    fn signal_group(&self, group: i32, sig: i32) {
        self.0.borrow_mut().push((group, sig));
    }
    fn hung_up(&self, session: i32, _foreground: i32) {
        self.0.borrow_mut().push((session, c::SIGHUP));
    }
}

struct Pair {
    terminals: Rc<Terminals>,
    signals: Rc<Signals>,
    tty: Rc<Tty>,
    master: Rc<OpenFile>,
    slave: Rc<OpenFile>,
}

fn pair() -> Pair {
    let terminals = Rc::new(Terminals::default());
    let signals = Rc::new(Signals::default());
    terminals.set_control(signals.clone());
    let master = terminals.create(0).unwrap();
    let tty = master.tty().clone();
    tty.prepare(0);
    let slave = terminals.open_slave(&tty, c::O_RDWR, false).unwrap();
    Pair { terminals, signals, tty, master: OpenFile::new(Rc::new(master), c::O_RDWR, None), slave }
}

fn read(f: &Rc<OpenFile>) -> Result<Vec<u8>> {
    let mut buf = [0; 8192];
    let n = f.ops().read(f, &mut SliceSink::new(&mut buf), 0)?;
    Ok(buf[..n].to_vec())
}

fn write(f: &Rc<OpenFile>, bytes: &[u8]) -> Result<usize> {
    f.ops().write(f, &mut SliceSource(bytes), 0)
}

#[test]
fn a_line_is_edited_echoed_and_read() {
    let p = pair();
    assert_eq!(write(&p.master, b"axb\x7f\x7fc\n"), Ok(7));
    assert_eq!(read(&p.slave), Ok(b"ac\n".to_vec()));
    assert_eq!(read(&p.slave), Err(Errno::EAGAIN));
    assert_eq!(read(&p.master), Ok(b"axb\x08 \x08\x08 \x08c\r\n".to_vec()));
}

#[test]
fn control_characters_are_signals_to_the_foreground() {
    let p = pair();
    p.tty.control(7, 8);
    write(&p.master, b"gone\x03\x1a\x1c").unwrap();
    assert_eq!(*p.signals.0.borrow(), [(8, c::SIGINT), (8, c::SIGTSTP), (8, c::SIGQUIT)]);
    assert_eq!(read(&p.slave), Err(Errno::EAGAIN));
    p.tty.resize([1; 8]);
    p.tty.resize([1; 8]);
    assert_eq!(p.signals.0.borrow()[3..], [(8, c::SIGWINCH)]);
}

#[test]
fn numbers_are_used_again_when_both_ends_are_closed() {
    let p = pair();
    let (other, index) = (p.terminals.create(0).unwrap(), p.tty.index);
    assert_ne!(other.tty().index, index);
    p.tty.control(3, 3);
    drop(p.master);
    assert_eq!(*p.signals.0.borrow(), [(3, c::SIGHUP)]);
    assert!(p.terminals.get(index).is_none());
    assert_eq!(read(&p.slave), Ok(vec![]));
    assert_eq!(write(&p.slave, b"x"), Err(Errno::EIO));
    assert_ne!(p.terminals.create(0).unwrap().tty().index, index, "the slave is still open");
    drop((p.slave, p.tty));
    assert_eq!(p.terminals.create(0).unwrap().tty().index, index);
}

#[test]
fn what_nobody_reads_holds_up_the_writer() {
    let p = pair();
    // However little room is left, what cannot be written is not told to be writable.
    for piece in [&[b'x'; 1000][..], b"\n", b"x\n", b"\t"] {
        while write(&p.slave, piece).is_ok() {}
        assert!(!p.slave.ops().ready().contains(vfs::Ready::OUT));
    }
    while read(&p.master).is_ok() {}
    let mut wrote = 0;
    while let Ok(n) = write(&p.slave, &[b'x'; 1000]) {
        wrote += n;
    }
    assert!(wrote >= 4096);
    let mut got = 0;
    while let Ok(bytes) = read(&p.master) {
        got += bytes.len();
    }
    assert_eq!(got, wrote);
    assert!(p.slave.ops().ready().contains(vfs::Ready::OUT));
    while write(&p.master, b"typed without an end\n").is_ok() {}
    assert!(!p.master.ops().ready().contains(vfs::Ready::OUT));
    while read(&p.slave).is_ok() {}
    assert_eq!(write(&p.master, b"x"), Ok(1));
}

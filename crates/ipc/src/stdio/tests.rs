use super::*;
use guest::fake::FakeMemory;
use guest::io::{SliceSink, SliceSource};
use kernel::testing::Executor;
use kernel::wait::until;
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io::{Read, Seek, Write};

fn read(f: &OpenFile, len: usize, offset: u64) -> Result<Vec<u8>> {
    let mut b = vec![0; len];
    let n = f.ops().read(f, &mut SliceSink::new(&mut b), offset)?;
    b.truncate(n);
    Ok(b)
}
fn write(f: &OpenFile, b: &[u8], offset: u64) -> Result<usize> {
    f.ops().write(f, &mut SliceSource(b), offset)
}
/// As the system call layer does it.
fn read_on(f: &OpenFile, len: usize) -> Vec<u8> {
    let v = read(f, len, f.pos()).unwrap();
    f.set_pos(f.pos() + v.len() as u64);
    v
}
fn write_on(f: &OpenFile, b: &[u8]) {
    let n = write(f, b, f.pos()).unwrap();
    assert_eq!(n, b.len());
    f.set_pos(f.pos() + n as u64);
}
fn temp() -> File {
    rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}
fn share(f: &File) -> Rc<OpenFile> {
    HostStream::open(f.try_clone().unwrap().into()).unwrap()
}

#[test]
fn a_pipe_in_and_out() {
    let mut ex = Executor::new();
    let (r, w) = rustix::pipe::pipe().unwrap();
    let (input, output) = (HostStream::open(r).unwrap(), HostStream::open(w).unwrap());
    assert_eq!(read(&input, 9, 0), Err(Errno::EAGAIN));
    assert!(!input.ops().ready().contains(Ready::IN));
    assert!(output.ops().ready().contains(Ready::OUT));
    let h = {
        let input = input.clone();
        ex.spawn(move || {
            let input = input.clone();
            async move { until(&[input.ops().waiters().unwrap()], None, || read(&input, 9, 0).ok()).await.unwrap() }
        })
    };
    assert_eq!(write(&output, b"hello", 0), Ok(5));
    assert_eq!(ex.finish(&h), b"hello");
    let big = vec![7; 200_000];
    assert_eq!(write(&output, &big, 0), Ok(65536), "as much as fits");
    assert_eq!(write(&output, &big, 0), Err(Errno::EAGAIN));
    assert_eq!(read(&input, 200_000, 0).unwrap().len(), 65536);
    let m = FakeMemory::new(0x1000, 8);
    assert_eq!(input.ops().ioctl(&input, &m, c::FIONREAD as u32, 0x1000), Ok(0));
    assert_eq!(input.ops().ioctl(&input, &m, c::TCGETS as u32, 0x1000), Err(Errno::ENOTTY));
    drop(output);
    assert!(input.ops().ready().contains(Ready::HUP));
    assert_eq!(read(&input, 9, 0).unwrap(), b"");
}

#[test]
fn the_shared_description_keeps_its_flags_and_a_broken_pipe_is_epipe() {
    let (r, w) = rustix::pipe::pipe().unwrap();
    let other = w.try_clone().unwrap();
    let out = HostStream::open(w).unwrap();
    assert_eq!(out.flags(), c::O_WRONLY);
    assert_eq!(stream::flags(other.as_fd()).unwrap() & c::O_NONBLOCK, 0);
    drop(r);
    assert!(out.ops().ready().contains(Ready::ERR));
    assert_eq!(write(&out, b"x", 0), Err(Errno::EPIPE));
}

#[test]
fn opened_again_after_closing() {
    let (r, _w) = rustix::pipe::pipe().unwrap();
    for _ in 0..3 {
        let again = HostStream::open(r.try_clone().unwrap()).unwrap();
        assert!(again.ops().waiters().is_some(), "the same description and number, watched anew");
    }
}

#[test]
fn a_socket() {
    let (a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    let a = HostStream::open(a.into()).unwrap();
    assert_eq!(read(&a, 9, 0), Err(Errno::EAGAIN));
    b.write_all(b"in").unwrap();
    assert_eq!(read(&a, 9, 0).unwrap(), b"in");
    assert_eq!(write(&a, b"out", 0), Ok(3));
    let mut got = [0; 3];
    b.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"out");
    let mut sent = 0;
    loop {
        match write(&a, &[0; 100_000], 0) {
            Ok(n) => sent += n,
            Err(e) => break assert_eq!(e, Errno::EAGAIN),
        }
    }
    b.set_nonblocking(true).unwrap();
    let mut received = 0;
    while let Ok(n @ 1..) = b.read(&mut [0; 65536]) {
        received += n;
    }
    assert_eq!(sent, received, "what is counted was sent");
}

#[test]
fn dev_null() {
    let null = HostStream::open(File::options().read(true).write(true).open("/dev/null").unwrap().into()).unwrap();
    assert_eq!(read(&null, 9, 0).unwrap(), b"");
    assert_eq!(write(&null, &[1; 100_000], 0), Ok(65536));
    assert!(null.ops().waiters().is_none(), "epoll answers EPERM");
    assert!(null.ops().seekable() && null.ops().mmap(false, &mut |_| Ok(())) == Err(Errno::ENODEV));
}

#[test]
fn two_streams_to_one_file_do_not_overwrite_each_other() {
    let mut log = temp();
    log.write_all(b"before ").unwrap();
    let (out, err) = (share(&log), share(&log));
    assert_eq!((out.pos(), out.ops().size()), (7, Ok(7)));
    write_on(&out, b"one ");
    write_on(&err, b"two ");
    log.write_all(b"host ").unwrap();
    write_on(&out, b"three");
    let mut s = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut s).unwrap();
    assert_eq!(s, "before one two host three");
}

#[test]
fn a_file_has_positions() {
    let mut file = temp();
    file.write_all(b"0123456789").unwrap();
    file.rewind().unwrap();
    let f = share(&file);
    assert_eq!(read_on(&f, 3), b"012");
    assert_eq!(file.stream_position().unwrap(), 3, "the host's position goes along");
    assert_eq!(read(&f, 2, 8).unwrap(), b"89");
    assert_eq!(read(&f, 2, 3).unwrap(), b"34", "pread just where it stands");
    assert_eq!(read_on(&f, 3), b"345");
    f.set_pos(1);
    write_on(&f, b"ab");
    assert_eq!(read_on(&f, 9), b"3456789");
    assert_eq!(read_on(&f, 9), b"");
    f.ops().truncate(2).unwrap();
    assert_eq!(f.ops().size(), Ok(2));
    assert!(f.ops().sync(true).is_ok() && f.ops().waiters().is_none());
    let big = vec![3; 50_000];
    f.set_pos(0);
    write_on(&f, &big);
    assert_eq!(read(&f, 50_000, 0).unwrap(), big);
}

#[test]
fn a_terminal() {
    let Ok(master) = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY) else { return };
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let mut master = File::from(master);
    let tty = HostStream::open(slave).unwrap();
    assert!(tty.downcast::<HostStream>().unwrap().is_terminal());
    assert!(!tty.ops().seekable());
    assert_eq!(read(&tty, 9, 0), Err(Errno::EAGAIN));
    master.write_all(b"line\n").unwrap();
    assert_eq!(read(&tty, 99, 0).unwrap(), b"line\n");

    let m = FakeMemory::new(0x1000, 256);
    let ioctl = |cmd: u64, arg: u64| tty.ops().ioctl(&tty, &m, cmd as u32, arg);
    assert_eq!(ioctl(c::TIOCSWINSZ, 0x1000), Ok(0));
    m.write(0x1000, &[24, 0, 80, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(ioctl(c::TIOCSWINSZ, 0x1000), Ok(0));
    assert_eq!(ioctl(c::TIOCGWINSZ, 0x1010), Ok(0));
    assert_eq!(m.bytes.borrow()[0x10..0x14], [24, 0, 80, 0]);
    assert_eq!(ioctl(c::TCGETS, 0x1020), Ok(0));
    // Raw: neither ICANON nor ECHO in c_lflag.
    let lflag = m.bytes.borrow()[0x2c] & !(c::ICANON | c::ECHO) as u8;
    m.write(0x102c, &[lflag]).unwrap();
    for set in [c::TCSETS, c::TCSETSW, c::TCSETSF] {
        assert_eq!(ioctl(set, 0x1020), Ok(0));
    }
    assert_eq!(ioctl(c::TCGETS2, 0x1080), Ok(0));
    assert_eq!(m.bytes.borrow()[0x8c], lflag);
    assert_eq!(ioctl(c::TCSETSW2, 0x1080), Ok(0));
    master.write_all(b"k").unwrap();
    assert_eq!(read(&tty, 99, 0).unwrap(), b"k", "without a newline");
    for ok in [(c::TCFLSH, 2), (c::TCSBRK, 1), (c::TCXONC, 1), (c::FIONREAD, 0x1000), (c::TIOCOUTQ, 0x1000)] {
        assert_eq!(ioctl(ok.0, ok.1), Ok(0), "{:x}", ok.0);
    }
    for no in [c::TIOCGPGRP, c::TIOCSPGRP, c::TIOCSCTTY, c::TIOCGSID, c::TIOCSTI] {
        assert_eq!(ioctl(no, 0x1000), Err(Errno::ENOTTY));
    }
    assert_eq!(ioctl(c::TCGETS, 0), Err(Errno::EFAULT));
    let mut sent = 0;
    while let Ok(n) = write(&tty, &[b'x'; 10_000], 0) {
        sent += n;
    }
    assert!(sent > 4096, "and it did not block");
    drop(master);
    assert!(tty.ops().ready().contains(Ready::HUP));
}

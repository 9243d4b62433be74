use super::*;
use guest::io::{SliceSink, SliceSource};
use kernel::testing::Executor;
use vfs::Ready;

pub(super) fn read(f: &OpenFile, len: usize) -> Result<Vec<u8>> {
    let mut b = vec![0; len];
    let n = f.ops().read(f, &mut SliceSink::new(&mut b), 0)?;
    b.truncate(n);
    Ok(b)
}

pub(super) fn write(f: &OpenFile, b: &[u8]) -> Result<usize> {
    f.ops().write(f, &mut SliceSource(b), 0)
}

fn end(f: &OpenFile) -> &PipeEnd {
    f.downcast().unwrap()
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let (r, w) = pipe(0, false).unwrap();
    assert_eq!(read(&r, 9), Err(Errno::EAGAIN));
    assert_eq!(write(&w, b"hello "), Ok(6));
    assert_eq!(write(&w, b"world"), Ok(5));
    assert_eq!(end(&r).pipe().bytes(), 11);
    assert_eq!(read(&r, 3).unwrap(), b"hel");
    assert_eq!(read(&r, 99).unwrap(), b"lo world");
    assert_eq!(read(&r, 0).unwrap(), b"");
    assert_eq!(write(&r, b"x"), Err(Errno::EBADF));
    assert_eq!(read(&w, 1), Err(Errno::EBADF));
}

#[test]
fn the_end_and_the_broken_pipe() {
    let (r, w) = pipe(0, false).unwrap();
    assert_eq!(r.ops().ready(), Ready::empty());
    write(&w, b"last").unwrap();
    drop(w);
    assert_eq!(r.ops().ready(), Ready::IN | Ready::RDNORM | Ready::HUP);
    assert_eq!(read(&r, 9).unwrap(), b"last");
    assert_eq!(read(&r, 9).unwrap(), b"");
    let (r, w) = pipe(0, false).unwrap();
    drop(r);
    assert_eq!(write(&w, b"x"), Err(Errno::EPIPE));
    assert_eq!(write(&w, b""), Ok(0));
    assert_eq!(w.ops().ready(), Ready::OUT | Ready::WRNORM | Ready::ERR);
}

#[test]
fn long_writes_are_partial_and_short_ones_whole() {
    let (r, w) = pipe(0, false).unwrap();
    let big: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    assert_eq!(end(&w).pipe().room_for(big.len()), 65536);
    assert_eq!(write(&w, &big), Ok(65536));
    assert_eq!(write(&w, b"x"), Err(Errno::EAGAIN));
    assert_eq!(w.ops().ready(), Ready::empty());
    assert_eq!(read(&r, 4095).unwrap(), big[..4095]);
    assert_eq!(write(&w, b"x"), Err(Errno::EAGAIN), "room comes a page at a time");
    assert_eq!(read(&r, 1).unwrap(), big[4095..4096]);
    assert_eq!(write(&w, &[7; 4096]), Ok(4096));
    assert_eq!(write(&w, &[7; 2]), Err(Errno::EAGAIN));
}

#[test]
fn capacity_is_rounded_bounded_and_not_below_what_is_there() {
    let (r, w) = pipe(0, false).unwrap();
    let p = end(&r).pipe();
    assert_eq!(p.capacity(), 65536);
    assert_eq!(p.set_capacity(1, false), Ok(4096));
    assert_eq!(p.set_capacity(4097, false), Ok(8192));
    assert_eq!(write(&w, &[1; 9000]), Ok(8192));
    assert_eq!(p.set_capacity(4096, false), Err(Errno::EBUSY));
    assert_eq!(p.set_capacity(65536, false), Ok(65536));
    assert_eq!(w.ops().ready(), Ready::OUT | Ready::WRNORM);
    assert_eq!(write(&w, &[2; 10]), Ok(10));
    assert_eq!(read(&r, 9999).unwrap(), [vec![1; 8192], vec![2; 10]].concat());
    assert_eq!(p.set_capacity(MAX_SIZE.get(), false), Ok(MAX_SIZE.get()));
    assert_eq!(p.set_capacity(MAX_SIZE.get() + 1, false), Err(Errno::EPERM));
    assert_eq!(p.set_capacity(0, false), Ok(4096));
    assert_eq!(p.set_capacity(usize::MAX, false), Err(Errno::EINVAL));
}

#[test]
fn all_pipes_together_are_bounded() {
    let many: Vec<_> = (0..SOFT_PAGES.get() / DEFAULT_SLOTS).map(|_| pipe(0, false).unwrap()).collect();
    let (r, _w) = pipe(0, false).unwrap();
    assert_eq!(end(&r).pipe().capacity(), 8192);
    assert_eq!(end(&r).pipe().set_capacity(65536, false), Err(Errno::EPERM));
    drop(many);
    assert_eq!(end(&r).pipe().set_capacity(65536, false), Ok(65536));
    assert_eq!(PAGES.get(), 16);
}

#[test]
fn limits_are_set_and_not_for_the_privileged() {
    set_max_size(8193).unwrap();
    assert_eq!(set_max_size(HARD_SIZE + 1), Err(Errno::EINVAL));
    assert_eq!(MAX_SIZE.get(), 16384);
    let ((r, _w), (big, _b)) = (pipe(0, false).unwrap(), pipe(0, true).unwrap());
    assert_eq!((end(&r).pipe().capacity(), end(&big).pipe().capacity()), (16384, 65536));
    assert_eq!(end(&r).pipe().set_capacity(16385, false), Err(Errno::EPERM));
    assert_eq!(end(&r).pipe().set_capacity(16385, true), Ok(32768));
    SOFT_PAGES.set(24);
    assert_eq!(end(&r).pipe().set_capacity(16384, false), Ok(16384));
    assert_eq!(end(&pipe(0, false).unwrap().0).pipe().capacity(), 8192);
    SOFT_PAGES.set(0);
    assert_eq!(end(&pipe(0, false).unwrap().0).pipe().capacity(), 16384);
}

#[test]
fn packets_stay_apart() {
    let (r, w) = pipe(c::O_DIRECT, false).unwrap();
    write(&w, b"one").unwrap();
    write(&w, b"two").unwrap();
    assert_eq!(read(&r, 99).unwrap(), b"one");
    assert_eq!(read(&r, 1).unwrap(), b"t", "the rest of a packet is lost");
    assert_eq!(read(&r, 99), Err(Errno::EAGAIN));
    w.set_flags(c::O_WRONLY);
    write(&w, b"a").unwrap();
    write(&w, b"b").unwrap();
    assert_eq!(read(&r, 99).unwrap(), b"ab");
}

#[test]
fn fionread() {
    use guest::Memory;
    let (r, w) = pipe(0, false).unwrap();
    write(&w, &[0; 5000]).unwrap();
    let m = guest::fake::FakeMemory::new(0x1000, 8);
    assert_eq!(r.ops().ioctl(&r, &m, c::FIONREAD as u32, 0x1000), Ok(0));
    let mut n = [0; 4];
    m.read(0x1000, &mut n).unwrap();
    assert_eq!(i32::from_ne_bytes(n), 5000);
    assert_eq!(r.ops().ioctl(&r, &m, c::FIONREAD as u32, 0), Err(Errno::EFAULT));
    assert_eq!(r.ops().ioctl(&r, &m, c::TCGETS as u32, 0x1000), Err(Errno::ENOTTY));
}

fn open(ex: &mut Executor, flags: i32) -> kernel::testing::Handle<Result<Rc<PipeEnd>>> {
    ex.spawn(move || fifo_open((1, 2), flags, false))
}

#[test]
fn fifo_opens_meet() {
    let mut ex = Executor::new();
    let reader = open(&mut ex, c::O_RDONLY);
    assert!(!reader.done());
    let writer = open(&mut ex, c::O_WRONLY);
    assert!(writer.done(), "a reader was waiting");
    ex.idle();
    let (r, w) = (reader.take().unwrap(), writer.take().unwrap());
    assert!(Rc::ptr_eq(r.pipe(), w.pipe()));
    let w2 = open(&mut ex, c::O_WRONLY).take().unwrap();
    assert!(Rc::ptr_eq(w2.pipe(), w.pipe()));
    let id = r.pipe().id();
    let (r, w) = (OpenFile::new(r, c::O_RDONLY, None), OpenFile::new(w, c::O_WRONLY, None));
    write(&w, b"gone when closed").unwrap();
    drop((r, w, w2));
    let rw = open(&mut ex, c::O_RDWR).take().unwrap();
    assert_ne!(rw.pipe().id(), id);
    assert_eq!(rw.pipe().bytes(), 0);
}

#[test]
fn fifo_writer_waits_too_and_may_be_interrupted() {
    let mut ex = Executor::new();
    let writer = open(&mut ex, c::O_WRONLY);
    assert!(!writer.done());
    ex.interrupt(&writer);
    assert_eq!(writer.take().err(), Some(Errno::ERESTARTSYS));
    assert!(!open(&mut ex, c::O_RDONLY).done(), "the interrupted writer left nothing behind");
    let writer = open(&mut ex, c::O_WRONLY);
    ex.idle();
    assert!(writer.done());
}

#[test]
fn fifo_reader_that_came_and_went_counts() {
    let mut ex = Executor::new();
    let writer = open(&mut ex, c::O_WRONLY);
    drop(open(&mut ex, c::O_RDONLY).take());
    ex.idle();
    assert!(writer.done());
}

#[test]
fn fifo_without_waiting() {
    let mut ex = Executor::new();
    let nb = c::O_NONBLOCK;
    assert_eq!(open(&mut ex, c::O_WRONLY | nb).take().err(), Some(Errno::ENXIO));
    let r = open(&mut ex, c::O_RDONLY | nb).take().unwrap();
    let r = OpenFile::new(r, c::O_RDONLY | nb, None);
    assert_eq!(r.ops().ready(), Ready::empty(), "no writer yet is no hang-up");
    assert_eq!(read(&r, 1).unwrap(), b"");
    let w = open(&mut ex, c::O_WRONLY | nb).take().unwrap();
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    drop(w);
    assert_eq!(r.ops().ready(), Ready::HUP);
    assert_eq!(open(&mut ex, 3).take().err(), Some(Errno::EINVAL));
}

#[test]
fn a_waiting_reader_is_woken_by_bytes_and_by_the_end() {
    let mut ex = Executor::new();
    let (r, w) = pipe(0, false).unwrap();
    let reader = |ex: &mut Executor| {
        let r = r.clone();
        ex.spawn(move || {
            let r = r.clone();
            async move {
                let look = || match read(&r, 9) {
                    Err(Errno::EAGAIN) => None,
                    v => Some(v),
                };
                kernel::wait::until(&[r.ops().waiters().unwrap()], None, look).await.unwrap()
            }
        })
    };
    let h = reader(&mut ex);
    write(&w, b"x").unwrap();
    ex.idle();
    assert_eq!(h.take().unwrap(), b"x");
    let h = reader(&mut ex);
    drop(w);
    ex.idle();
    assert_eq!(h.take().unwrap(), b"");
}

#[test]
fn splice_and_tee() {
    let (a_r, a_w) = pipe(0, false).unwrap();
    let (b_r, b_w) = pipe(0, false).unwrap();
    let (a, b) = (end(&a_r), end(&b_w));
    assert_eq!(tee(a, b, 9), Err(Errno::EAGAIN));
    write(&a_w, b"abcdef").unwrap();
    assert_eq!(tee(a, b, 4), Ok(4));
    assert_eq!(splice(a, b, 5), Ok(5));
    assert_eq!(read(&b_r, 99).unwrap(), b"abcdabcde");
    assert_eq!(read(&a_r, 99).unwrap(), b"f");
    assert_eq!(splice(a, end(&a_w), 1), Err(Errno::EINVAL));
    assert_eq!(splice(b, b, 1), Err(Errno::EBADF));
    // Through files: one pipe stands for the file.
    write(&a_w, &[5; 10_000]).unwrap();
    assert_eq!(splice_from_pipe(a, &b_w, 0, 9_000), Ok(9_000));
    assert_eq!(end(&b_r).pipe().bytes(), 9_000);
    assert_eq!(splice_to_pipe(&b_r, 0, end(&a_w), 5_000), Ok(5_000));
    assert_eq!(read(&a_r, 99_999).unwrap(), [5; 6_000]);
    assert_eq!(splice_from_pipe(a, &b_w, 0, 1), Err(Errno::EAGAIN));
    drop(a_w);
    assert_eq!(splice(a, b, 1), Ok(0));
    drop(b_r);
    assert_eq!(splice(a, b, 1), Err(Errno::EPIPE));
}

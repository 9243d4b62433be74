//! The host's kernel as the oracle: random operations on its pipes and epoll and on ours must give the same.
use abi::poll::EpollEvent;
use abi::{Errno, Result, c};
use guest::io::{SliceSink, SliceSource};
use ipc::epoll::{EpollInstance, epoll};
use ipc::eventfd::eventfd;
use ipc::pipe::{PipeEnd, pipe};
use rustix::event::epoll as host_epoll;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use vfs::OpenFile;

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    fn size(&mut self) -> usize {
        match self.below(4) {
            0 => self.below(20),
            1 => self.below(4097),
            2 => self.pick(&[4095, 4096, 4097, 8192, 65536]),
            _ => self.below(70_000),
        }
    }
}

fn host<T>(r: rustix::io::Result<T>) -> Result<T> {
    r.map_err(host::errno)
}

fn read(f: &OpenFile, len: usize) -> Result<Vec<u8>> {
    let mut b = vec![0; len];
    let n = f.ops().read(f, &mut SliceSink::new(&mut b), 0)?;
    b.truncate(n);
    Ok(b)
}

fn host_read(fd: &OwnedFd, len: usize) -> Result<Vec<u8>> {
    let mut b = vec![0; len];
    let n = host(rustix::io::read(fd, &mut b[..]))?;
    b.truncate(n);
    Ok(b)
}

fn readiness(f: &OpenFile) -> u32 {
    f.ops().ready().bits()
}

fn host_readiness(fd: &OwnedFd) -> u32 {
    host::stream::poll_now(fd.as_fd(), 0x1 | 0x4 | 0x40 | 0x100).into()
}

#[test]
fn pipes_behave_as_the_hosts() {
    for seed in 0..40 {
        let mut rng = Random(seed);
        let (r, w) = pipe(c::O_NONBLOCK, false).unwrap();
        let (host_r, host_w) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut packets = false;
        let mut byte = 0u8;
        for step in 0..400 {
            let at = format!("seed {seed} step {step}");
            match rng.below(10) {
                0..4 => {
                    let data: Vec<u8> = (0..rng.size()).map(|i| byte.wrapping_add(i as u8)).collect();
                    byte = byte.wrapping_add(17);
                    let ours = w.ops().write(&w, &mut SliceSource(&data), 0);
                    assert_eq!(ours, host(rustix::io::write(&host_w, &data)), "{at}: write {}", data.len());
                }
                4..8 => {
                    let len = rng.size();
                    assert_eq!(read(&r, len), host_read(&host_r, len), "{at}: read {len}");
                }
                8 => {
                    let size = rng.pick(&[1, 4096, 8192, 10_000, 65536, 131_072]);
                    let ours = r.downcast::<PipeEnd>().unwrap().pipe().set_capacity(size, false);
                    assert_eq!(ours, host(rustix::pipe::fcntl_setpipe_size(&host_r, size)), "{at}: size {size}");
                }
                _ => {
                    packets = !packets;
                    let extra = if packets { OFlags::DIRECT } else { OFlags::empty() };
                    host(rustix::fs::fcntl_setfl(&host_w, OFlags::NONBLOCK | extra)).unwrap();
                    w.set_flags(c::O_WRONLY | c::O_NONBLOCK | extra.bits() as i32);
                }
            }
            assert_eq!(readiness(&r), host_readiness(&host_r), "{at}");
            assert_eq!(readiness(&w), host_readiness(&host_w), "{at}");
            let bytes = r.downcast::<PipeEnd>().unwrap().pipe().bytes();
            assert_eq!(bytes as u64, rustix::io::ioctl_fionread(&host_r).unwrap(), "{at}");
        }
        if seed % 2 == 0 {
            drop((w, host_w));
            assert_eq!(readiness(&r), host_readiness(&host_r));
            for _ in 0..3 {
                assert_eq!(read(&r, 99_999), host_read(&host_r, 99_999));
            }
        } else {
            drop((r, host_r));
            assert_eq!(readiness(&w), host_readiness(&host_w));
            assert_eq!(w.ops().write(&w, &mut SliceSource(b"x"), 0), host(rustix::io::write(&host_w, b"x")));
        }
    }
}

/// The same thing twice: ours and the host's.
struct Both {
    ours: Rc<OpenFile>,
    host: OwnedFd,
    /// What it may be registered for.
    events: &'static [u32],
}

const IN: u32 = c::EPOLLIN as u32;
const OUT: u32 = c::EPOLLOUT as u32;

fn files() -> Vec<Option<Both>> {
    let mut v = Vec::new();
    for _ in 0..3 {
        let (r, w) = pipe(c::O_NONBLOCK, false).unwrap();
        let (host_r, host_w) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK).unwrap();
        v.push(Some(Both { ours: r, host: host_r, events: &[IN, 0, IN | OUT] }));
        v.push(Some(Both { ours: w, host: host_w, events: &[OUT, 0, IN | OUT] }));
    }
    for _ in 0..2 {
        let host = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        v.push(Some(Both { ours: eventfd(0, c::EFD_NONBLOCK).unwrap(), host, events: &[IN, 0] }));
    }
    v
}

#[test]
fn epoll_behaves_as_the_hosts() {
    for seed in 0..200 {
        let mut rng = Random(seed);
        let mut files = files();
        let ep = epoll(0).unwrap();
        let instance = ep.downcast::<EpollInstance>().unwrap();
        let host_ep = host_epoll::create(host_epoll::CreateFlags::CLOEXEC).unwrap();
        for step in 0..300 {
            let at = format!("seed {seed} step {step}");
            let i = rng.below(files.len());
            let what = rng.below(200);
            if what == 0 {
                files[i] = None;
            }
            let Some(f) = &files[i] else { continue };
            match what {
                0..60 => {
                    let mode = rng.pick(&[0, 0, c::EPOLLET as u32, c::EPOLLONESHOT as u32]);
                    let events = rng.pick(f.events) | mode;
                    let (data, flags) =
                        (host_epoll::EventData::new_u64(i as u64), host_epoll::EventFlags::from_bits_retain(events));
                    let (op, theirs) = match rng.below(3) {
                        0 => (c::EPOLL_CTL_ADD, host_epoll::add(&host_ep, &f.host, data, flags)),
                        1 => (c::EPOLL_CTL_MOD, host_epoll::modify(&host_ep, &f.host, data, flags)),
                        _ => (c::EPOLL_CTL_DEL, host_epoll::delete(&host_ep, &f.host)),
                    };
                    let ours = instance.ctl(op, i as i32, &f.ours, EpollEvent::new(events, i as u64));
                    assert_eq!(ours, host(theirs), "{at}: ctl {op} {i} {events:x}");
                }
                60..100 => {
                    let data = if i < 6 { vec![1; rng.size()] } else { 1u64.to_ne_bytes().to_vec() };
                    let full = |e: &PipeEnd| e.writes() && e.pipe().room_for(data.len()) == 0;
                    if f.ours.downcast().is_some_and(full) {
                        // A refused write is an edge for the reader on the host: an accident not worth having.
                        continue;
                    }
                    let ours = f.ours.ops().write(&f.ours, &mut SliceSource(&data), 0);
                    assert_eq!(ours, host(rustix::io::write(&f.host, &data)), "{at}: write {i}");
                }
                100..140 => {
                    let len = rng.size().max(8);
                    assert_eq!(read(&f.ours, len), host_read(&f.host, len), "{at}: read {i}");
                }
                _ => {
                    // All of them, and not in order: the host knows what a wake is about, so lists an item later.
                    let max = 10;
                    let mut ours = Vec::new();
                    instance
                        .try_wait(max, &mut |e| {
                            ours.push((e.data, e.events));
                            Ok(())
                        })
                        .unwrap();
                    let mut buf = [const { std::mem::MaybeUninit::uninit() }; 10];
                    let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
                    let (got, _) = host_epoll::wait(&host_ep, &mut buf[..max], Some(&none)).unwrap();
                    let mut theirs: Vec<(u64, u32)> = got
                        .iter()
                        .map(|e| {
                            let flags = e.flags;
                            (e.data.u64(), flags.bits())
                        })
                        .collect();
                    ours.sort();
                    theirs.sort();
                    assert_eq!(ours, theirs, "{at}: wait");
                }
            }
        }
    }
}

#[test]
fn refusals_are_the_hosts() {
    let (r, w) = pipe(0, false).unwrap();
    let (host_r, host_w) = rustix::pipe::pipe().unwrap();
    assert_eq!(read(&w, 1), host_read(&host_w, 1));
    assert_eq!(r.ops().write(&r, &mut SliceSource(b"x"), 0), host(rustix::io::write(&host_r, b"x")));
    let ep = epoll(0).unwrap();
    let ours = ep.downcast::<EpollInstance>().unwrap().ctl(c::EPOLL_CTL_ADD, 3, &ep, EpollEvent::default());
    assert_eq!(ours, Err(Errno::EINVAL));
}

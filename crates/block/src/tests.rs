use crate::{BlockFile, Device, Loops, Status};
use abi::block::{LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, LO_NAME_SIZE};
use abi::{Errno, Result, c};
use guest::io::{SliceSink, SliceSource};
use guest::{Sink, Source};
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use vfs::{Attr, Dentry, FileOps, Inode, Mount, MountOptions, MountTable, OpenFile, Path, StatFs};

/// A file in a vector.
#[derive(Clone, Default)]
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Inode for Bytes {
    fn attr(&self) -> Result<Attr> {
        Ok(Attr { mode: c::S_IFREG | 0o600, size: self.0.borrow().len() as u64, ..Attr::default() })
    }
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        Ok(Rc::new(self.clone()))
    }
    fn statfs(&self) -> Result<StatFs> {
        Err(Errno::ENOSYS)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Bytes {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let b = self.0.borrow();
        let rest = &b[(offset as usize).min(b.len())..];
        dst.put(&rest[..rest.len().min(dst.remaining())])
    }
    fn write(&self, _file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let (mut b, len) = (self.0.borrow_mut(), src.remaining());
        src.take(&mut b[offset as usize..offset as usize + len])
    }
    fn size(&self) -> Result<u64> {
        Ok(self.0.borrow().len() as u64)
    }
    fn is_storage(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn place() -> Path {
    let inode: Rc<dyn Inode> = Rc::new(Bytes::default());
    MountTable::first().mount(None, inode, MountOptions::default())
}

/// A file of `len` bytes, as a guest has it open.
fn file(len: usize, flags: i32) -> (Bytes, Rc<OpenFile>) {
    let b = Bytes::default();
    b.0.borrow_mut().resize(len, 0);
    let inode: Rc<dyn Inode> = Rc::new(b.clone());
    let mount: Rc<Mount> = place().mount;
    let f = OpenFile::new(Rc::new(b.clone()), flags, Some(Path { mount, dentry: Dentry::root(inode) }));
    (b, f)
}

fn opened(d: &Rc<Device>, flags: i32) -> Rc<OpenFile> {
    OpenFile::new(Rc::new(d.open(flags & c::O_EXCL != 0).unwrap()), flags & !c::O_EXCL, Some(place()))
}

fn of(f: &OpenFile) -> &BlockFile {
    f.downcast().unwrap()
}

fn plain() -> Status {
    Status { offset: 0, limit: 0, flags: 0, name: [0; LO_NAME_SIZE] }
}

fn bind(f: &OpenFile, on: &OpenFile, s: Status) -> Result {
    of(f).device.configure(of(f), f.writable(), on, 0, s)
}

fn read(f: &OpenFile, len: usize, offset: u64) -> Result<Vec<u8>> {
    let mut b = vec![0xff; len];
    let n = f.ops().read(f, &mut SliceSink::new(&mut b), offset)?;
    b.truncate(n);
    Ok(b)
}

fn write(f: &OpenFile, bytes: &[u8], offset: u64) -> Result<usize> {
    f.ops().write(f, &mut SliceSource(bytes), offset)
}

fn device() -> (Loops, Rc<Device>) {
    let loops = Loops::default();
    let n = loops.add(None).unwrap();
    let d = loops.get(n).unwrap();
    (loops, d)
}

#[test]
fn a_part_of_a_file_is_a_disk() {
    let (_loops, d) = device();
    let f = opened(&d, c::O_RDWR);
    assert_eq!((read(&f, 1, 0), write(&f, b"x", 0)), (Ok(vec![]), Err(Errno::ENOSPC)));
    let (bytes, on) = file(5000, c::O_RDWR);
    bind(&f, &on, Status { offset: 512, limit: 2100, ..plain() }).unwrap();
    assert_eq!(d.size(), 2048);
    assert_eq!(write(&f, &[7; 600], 2000), Ok(48), "it ends where it ends");
    assert_eq!((bytes.0.borrow()[2511], bytes.0.borrow()[2512], bytes.0.borrow()[2560]), (0, 7, 0));
    assert_eq!(read(&f, 100, 2040).unwrap(), [7; 8]);
    assert_eq!((read(&f, 1, 2048), write(&f, b"x", 2048)), (Ok(vec![]), Err(Errno::ENOSPC)));
    assert_eq!((d.counts().sectors_written, d.counts().reads), (1, 1));
    d.set_status(of(&f), plain()).unwrap();
    assert_eq!(d.size(), 4608);
    bytes.0.borrow_mut().truncate(1000);
    assert_eq!((d.size(), read(&f, 10, 4000)), (4608, Err(Errno::EIO)));
    d.set_capacity().unwrap();
    assert_eq!(d.size(), 512);
}

#[test]
fn it_is_let_go_when_the_last_closes() {
    let (loops, d) = device();
    let (f, g) = (opened(&d, c::O_RDWR), opened(&d, c::O_RDONLY));
    let (bytes, on) = file(4096, c::O_RDWR);
    bind(&f, &on, plain()).unwrap();
    drop(on);
    assert_eq!(loops.remove(0), Err(Errno::EBUSY));
    d.clear().unwrap();
    assert_eq!(d.status().unwrap().0.flags, LO_FLAGS_AUTOCLEAR);
    drop(g);
    assert_eq!(read(&f, 1, 0).unwrap(), [0]);
    d.clear().unwrap();
    assert_eq!((d.open(false).err(), d.status().err(), loops.free()), (Some(Errno::ENXIO), Some(Errno::ENXIO), Ok(1)));
    assert_eq!(Rc::strong_count(&bytes.0), 3, "ours, the inode's, the open file's");
    drop(f);
    assert_eq!((Rc::strong_count(&bytes.0), d.is_unbound(), loops.free()), (1, true, Ok(0)));
    assert_eq!((loops.remove(0), loops.remove(0)), (Ok(()), Err(Errno::ENODEV)));
}

#[test]
fn what_may_not_be_written_is_not() {
    let (_loops, d) = device();
    let f = opened(&d, c::O_RDWR);
    let (_, on) = file(4096, c::O_RDONLY);
    bind(&f, &on, plain()).unwrap();
    assert_eq!(d.status().unwrap().0.flags, LO_FLAGS_READ_ONLY);
    d.set_read_only(false);
    assert_eq!((write(&f, b"x", 0), of(&f).zero(0, 512)), (Err(Errno::EPERM), Err(Errno::EPERM)));
    let (other, small) = (file(4600, c::O_RDONLY).1, file(1024, c::O_RDONLY).1);
    assert_eq!((d.change(&small), d.change(&other)), (Err(Errno::EINVAL), Ok(())));
}

#[test]
fn blocks_are_zeroed_without_holes_too() {
    let (_loops, d) = device();
    let f = opened(&d, c::O_RDWR);
    let (bytes, on) = file(200_000, c::O_RDWR);
    bytes.0.borrow_mut().fill(9);
    bind(&f, &on, plain()).unwrap();
    assert_eq!(of(&f).discard(0, 512), Err(Errno::EOPNOTSUPP));
    assert_eq!(of(&f).zero(512, 150 * 1024), Ok(()));
    let b = bytes.0.borrow();
    assert!(b[..512].iter().all(|x| *x == 9) && b[512..512 + 150 * 1024].iter().all(|x| *x == 0) && b[154_112] == 9);
    assert_eq!((of(&f).zero(1, 512), of(&f).zero(0, 0)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    assert_eq!(
        (of(&f).zero(199_680 - 512, 1024), of(&f).zero(u64::MAX - 511, 512)),
        (Err(Errno::EINVAL), Err(Errno::EINVAL))
    );
}

#[test]
fn devices_stand_on_devices_but_not_on_themselves() {
    let loops = Loops::default();
    let all: Vec<_> = (0..12).map(|n| opened(&loops.get(loops.add(Some(n)).unwrap()).unwrap(), c::O_RDWR)).collect();
    assert_eq!(loops.add(Some(3)), Err(Errno::EEXIST));
    assert_eq!(bind(&all[1], &all[0], plain()), Err(Errno::EINVAL), "it stands on nothing");
    let (bytes, on) = file(4096, c::O_RDWR);
    bind(&all[0], &on, plain()).unwrap();
    let mut deep = 1;
    while bind(&all[deep], &all[deep - 1], plain()).is_ok() {
        deep += 1;
    }
    assert_eq!(deep, 8);
    assert_eq!(write(&all[7], &[5; 512], 1024), Ok(512));
    assert_eq!((bytes.0.borrow()[1023], bytes.0.borrow()[1024]), (0, 5));
    of(&all[0]).device.clear().unwrap();
    assert_eq!(bind(&all[0], &all[7], plain()), Err(Errno::EBUSY));
    let (a, b) = (&all[10], &all[11]);
    assert_eq!(bind(a, a, plain()), Err(Errno::EBADF));
    bind(a, &file(4096, c::O_RDWR).1, plain()).unwrap();
    bind(b, a, plain()).unwrap();
    assert_eq!(of(a).device.change(b), Err(Errno::EINVAL));
    drop(on);
    for f in all.iter().rev() {
        let _ = of(f).device.clear();
    }
    drop(all);
    assert_eq!(Rc::strong_count(&bytes.0), 1, "nothing holds the file");
}

#[test]
fn who_has_it_alone_has_it_alone() {
    let (_loops, d) = device();
    let (f, g) = (opened(&d, c::O_RDWR | c::O_EXCL), opened(&d, c::O_RDWR));
    assert_eq!(d.open(true).err(), Some(Errno::EBUSY));
    let (_, on) = file(4096, c::O_RDWR);
    assert_eq!((bind(&g, &on, plain()), bind(&f, &on, plain())), (Err(Errno::EBUSY), Ok(())));
    assert_eq!((d.set_logical(of(&g), 1024), d.set_logical(of(&f), 1024)), (Err(Errno::EBUSY), Ok(())));
    assert_eq!((d.set_block_size(of(&f), 512), d.set_block_size(of(&f), 2048)), (Err(Errno::EINVAL), Ok(())));
    drop(f);
    assert_eq!(d.set_logical(of(&g), 768), Err(Errno::EINVAL));
    g.set_flags(g.flags() | c::O_DIRECT);
    assert_eq!((read(&g, 512, 0), read(&g, 1024, 1024).map(|b| b.len())), (Err(Errno::EINVAL), Ok(1024)));
}

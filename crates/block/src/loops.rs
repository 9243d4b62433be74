//! Which loop devices there are: /dev/loop-control.
use crate::Device;
use abi::block::{LOOP_CTRL_MINOR, LOOP_MAJOR, MINOR_MAX, MISC_MAJOR};
use abi::{Errno, Result, c};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use vfs::{Dentry, FileOps, New};

/// Devices that are there from the start.
const FIRST: u32 = 8;
/// No more are made: each costs memory that no limit of the guest's counts.
const MOST: usize = 1024;
/// The group that Linux's distributions give disks to.
const DISK_GROUP: u32 = 6;

/// The loop devices of a sandbox. There are none before [`show_in`](Self::show_in) was first called.
#[derive(Default)]
pub struct Loops {
    devices: RefCell<BTreeMap<u32, Rc<Device>>>,
    /// The directories that have a node for each.
    nodes: RefCell<Vec<Weak<Dentry>>>,
    last_sequence: Rc<Cell<u64>>,
}

fn name(number: u32) -> Vec<u8> {
    format!("loop{number}").into_bytes()
}

fn make_node(dir: &Dentry, name: &[u8], kind: u32, rdev: u64) -> Result {
    dir.inode.create(name, New { mode: kind | 0o660, uid: 0, gid: DISK_GROUP }, rdev).map(drop)
}

impl Loops {
    /// Makes nodes for all devices in a /dev, now and when others are added.
    pub fn show_in(&self, dev: &Rc<Dentry>) -> Result {
        if self.devices.borrow().is_empty() {
            (0..FIRST).try_for_each(|n| self.add(Some(n)).map(drop))?;
        }
        make_node(dev, b"loop-control", c::S_IFCHR, c::makedev(MISC_MAJOR, LOOP_CTRL_MINOR))?;
        for n in self.devices.borrow().keys() {
            make_node(dev, &name(*n), c::S_IFBLK, c::makedev(LOOP_MAJOR, *n))?;
        }
        self.nodes.borrow_mut().push(Rc::downgrade(dev));
        Ok(())
    }

    fn shown(&self) -> Vec<Rc<Dentry>> {
        let mut nodes = self.nodes.borrow_mut();
        nodes.retain(|w| w.strong_count() > 0);
        nodes.iter().filter_map(Weak::upgrade).collect()
    }

    pub fn any(&self) -> bool {
        !self.devices.borrow().is_empty()
    }

    /// By number.
    pub fn all(&self) -> Vec<Rc<Device>> {
        self.devices.borrow().values().cloned().collect()
    }

    /// ENXIO: there is none of that number.
    pub fn get(&self, number: u32) -> Result<Rc<Device>> {
        self.devices.borrow().get(&number).cloned().ok_or(Errno::ENXIO)
    }

    /// LOOP_CTL_ADD; `None`: the lowest number that is free. Its number; EEXIST, EINVAL; ENOMEM: there are too many.
    pub fn add(&self, number: Option<u32>) -> Result<u32> {
        let number = {
            let mut all = self.devices.borrow_mut();
            let n = number.unwrap_or_else(|| (0..).find(|n| !all.contains_key(n)).unwrap_or(MINOR_MAX + 1));
            if all.contains_key(&n) {
                return Err(Errno::EEXIST);
            }
            if n > MINOR_MAX {
                return Err(Errno::EINVAL);
            }
            if all.len() >= MOST {
                return Err(Errno::ENOMEM);
            }
            all.insert(n, Device::new(n, &self.last_sequence));
            n
        };
        for dev in self.shown() {
            // A name that is taken stays what it is.
            let _ = make_node(&dev, &name(number), c::S_IFBLK, c::makedev(LOOP_MAJOR, number));
        }
        Ok(number)
    }

    /// LOOP_CTL_REMOVE. ENODEV: there is none; EBUSY: it is bound, or open.
    pub fn remove(&self, number: u32) -> Result {
        let device = self.get(number).map_err(|_| Errno::ENODEV)?;
        if device.in_use() {
            return Err(Errno::EBUSY);
        }
        self.devices.borrow_mut().remove(&number);
        let (name, rdev) = (name(number), c::makedev(LOOP_MAJOR, number));
        for dev in self.shown() {
            let a = dev.inode.lookup(&name).and_then(|i| i.attr());
            if a.is_ok_and(|a| a.kind() == c::S_IFBLK && a.rdev == rdev) && dev.inode.unlink(&name).is_ok() {
                dev.forget(&name);
            }
        }
        Ok(())
    }

    /// LOOP_CTL_GET_FREE: the first that is not bound, or a new one.
    pub fn free(&self) -> Result<u32> {
        let free = self.devices.borrow().values().find(|d| d.is_unbound()).map(|d| d.number);
        free.map_or_else(|| self.add(None), Ok)
    }
}

/// An open /dev/loop-control. What it does are ioctl commands, which the system call layer knows.
pub struct Control;

impl FileOps for Control {
    fn seekable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

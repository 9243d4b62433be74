//! Whether a name still leads where it led, asked by descriptor: less than half the price of a walk by name.
//!
//! Others may change a shared directory. Giving a file another name, or taking one away, changes its ctime on the
//! file systems listed here; so a file whose ctime stands still has kept its names. Times have a grain on older hosts:
//! there a ctime is believed only once it is older than that.
use super::HostInode;
use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use vfs::Attr;

/// Longer than the grain of any of these file systems' times, in nanoseconds.
const GRAIN: i64 = 50_000_000;

thread_local! {
    static GRAIN_HERE: Cell<i64> = const { Cell::new(GRAIN) };
}

/// Tells which Linux the host is: since 6.13 a time that was looked at is never given twice ("multigrain timestamps").
pub fn set_host_version(major: u32, minor: u32) {
    GRAIN_HERE.set(if (major, minor) >= (6, 13) { 0 } else { GRAIN });
}
/// Finds by name before a descriptor is opened to ask by.
const FINDS: u32 = 2;
/// ext2 to ext4, XFS, Btrfs, tmpfs.
const FILE_SYSTEMS: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

#[derive(Default)]
pub struct Known {
    finds: Cell<u32>,
    /// Of the last find by name: ctime and number of names, if they may be believed.
    seen: Cell<Option<(i64, u32)>>,
    /// The file system is one of those that tell; unknown before the first descriptor.
    tells: Cell<Option<bool>>,
}

impl Known {
    pub fn forget(&self) {
        self.seen.set(None);
        self.finds.set(0);
    }

    /// `of` was found by its name just now, with these attributes.
    pub fn found(&self, of: &HostInode, a: &Attr) {
        self.finds.set(self.finds.get().saturating_add(1));
        let old = a.ctime.saturating_add(GRAIN_HERE.get()) < ::host::time::realtime_ns() as i64;
        self.seen.set(old.then_some((a.ctime, a.nlink)));
        // Links are cheap to look at, and cannot be opened.
        if old && self.finds.get() >= FINDS && !a.is_link() && of.fd.borrow().is_none() {
            // Another file may have taken the name since.
            let same = of
                .fd()
                .and_then(|fd| ::host::fs::stat(fd.as_fd(), b""))
                .is_ok_and(|s| (s.dev, s.ino) == (a.dev, a.ino));
            if !same {
                of.fd.borrow_mut().take();
            }
        }
    }

    /// Is what was found last still what the name leads to? Its attributes are fresh then.
    pub fn still_there(&self, of: &Rc<HostInode>) -> bool {
        let Some(seen) = self.seen.get() else { return false };
        let Some(fd) = of.fd.borrow().clone() else { return false };
        let tells = self.tells.get().unwrap_or_else(|| {
            let magic = ::host::fs::statfs(fd.as_fd()).map(|s| s[0]);
            let tells = magic.is_ok_and(|m| FILE_SYSTEMS.contains(&m));
            self.tells.set(Some(tells));
            tells
        });
        if !tells {
            return false;
        }
        of.changed();
        let same = of.look().is_ok_and(|a| (a.ctime, a.nlink) == seen);
        if !same {
            self.forget();
        }
        same
    }
}

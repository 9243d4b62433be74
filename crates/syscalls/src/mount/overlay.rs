//! overlay as it is mounted: overlayfs in the kernel's documentation.
use super::place;
use super::types::{Value, Wrong, bad_value};
use abi::{Errno, c};
use kernel::userns::UserNs;
use std::rc::Rc;
use task::Task;
use vfs::{Path, Super};

/// The most lower directories.
const LOWERS_MAX: usize = 500;

/// A directory, and what it was called.
struct Layer {
    name: String,
    at: Path,
}

/// What an overlay will be made of.
#[derive(Default)]
pub struct Layers {
    lower: Vec<Layer>,
    /// They were given one by one, and are shown so.
    singly: bool,
    upper: Option<Layer>,
    work: Option<Layer>,
}

fn layer(t: &Task, key: &str, value: &Value) -> Result<Layer, Wrong> {
    let (name, at) = match value {
        Value::File(p) => {
            let name = vfs::name_of(p, &t.fs().root.borrow()).ok_or(Errno::EINVAL)?;
            (String::from_utf8(name).map_err(|_| Errno::EINVAL)?, p.clone())
        }
        Value::Flag | Value::Text(_) | Value::Other => {
            let name = value.text(key)?;
            (name.to_owned(), place(t, name.as_bytes(), true)?)
        }
    };
    if at.inode().kind()? != c::S_IFDIR {
        return Err(Wrong::Told(format!("{name} is not a directory")));
    }
    Ok(Layer { name, at })
}

impl Layers {
    /// Was anything said of them?
    pub fn any(&self) -> bool {
        !self.lower.is_empty() || self.upper.is_some() || self.work.is_some()
    }

    pub fn set(&mut self, t: &Task, key: &str, value: &Value) -> Result<(), Wrong> {
        match key {
            "lowerdir" => {
                let Value::Text(all) = value else { return Err(bad_value(key)) };
                let one = |name: &str| layer(t, key, &Value::Text(name.to_owned()));
                self.singly = false;
                self.lower = match &all[..] {
                    "" => Vec::new(),
                    // Only what is data comes after two colons, and nothing after the last one.
                    all if all.split(':').any(str::is_empty) => return Err(Errno::EINVAL.into()),
                    all => all.split(':').map(one).collect::<Result<_, _>>()?,
                };
            }
            "lowerdir+" => {
                if !self.singly && !self.lower.is_empty() {
                    return Err(Errno::EINVAL.into());
                }
                self.lower.push(layer(t, key, value)?);
                self.singly = true;
            }
            "upperdir" => self.upper = Some(layer(t, key, value)?),
            "workdir" => self.work = Some(layer(t, key, value)?),
            "userxattr" | "volatile" => value.flag(key)?,
            "index" | "nfs_export" | "xino" | "metacopy" => value.one_of(key, &["off"])?,
            "redirect_dir" => value.one_of(key, &["off", "nofollow"])?,
            _ => return Err(Wrong::Unknown),
        }
        if self.lower.len() > LOWERS_MAX {
            return Err(Wrong::Told(format!("too many lower directories, limit is {LOWERS_MAX}")));
        }
        Ok(())
    }

    /// Lays them over each other.
    pub fn join(&self, t: &Task, read_only: bool, user_ns: &Rc<UserNs>) -> Result<Rc<Super>, Wrong> {
        let invalid = Wrong::Errno(Errno::EINVAL);
        let upper = match (&self.upper, &self.work) {
            (None, _) => None,
            (Some(_), None) => return Err(Wrong::Told("missing 'workdir'".into())),
            (Some(upper), Some(work)) => {
                let (u, w) = (&upper.at, &work.at);
                let apart = !vfs::mount::is_below(&u.dentry, &w.dentry) && !vfs::mount::is_below(&w.dentry, &u.dentry);
                if !Rc::ptr_eq(&u.mount, &w.mount) || !apart || u.mount.sb.kind == "overlay" {
                    return Err(invalid);
                }
                if u.mount.read_only() && !read_only {
                    return Err(Errno::EROFS.into());
                }
                Some(u.inode().clone())
            }
        };
        if self.lower.is_empty() || (upper.is_none() && self.lower.len() < 2) {
            return Err(invalid);
        }
        let fixed = upper.is_none();
        let lower = self.lower.iter().map(|l| l.at.inode().clone()).collect();
        let root = fs::overlay::join(t.kernel.new_dev(), lower, upper);
        let sb = Super::new(root, "overlay", user_ns.clone());
        if fixed {
            sb.set_flags(vfs::mount::SB_RDONLY, vfs::mount::SB_RDONLY)?;
        }
        sb.options.replace(self.text());
        Ok(sb)
    }

    fn text(&self) -> String {
        let names: Vec<&str> = self.lower.iter().map(|l| l.name.as_str()).collect();
        let lower = match self.singly {
            true => names.iter().map(|n| format!(",lowerdir+={n}")).collect(),
            false => format!(",lowerdir={}", names.join(":")),
        };
        let one = |key: &str, l: &Option<Layer>| l.as_ref().map_or(String::new(), |l| format!(",{key}={}", l.name));
        lower + &one("upperdir", &self.upper) + &one("workdir", &self.work)
    }
}

//! What those see who enter the mount namespace of the sandbox's first process, as `podman cp` does: the root and the
//! volumes. The process itself does not: its root stays the empty one below. It has descriptors to the same files.
use crate::error::Failure;
use crate::first::{Job, tree};
use crate::parent::file_type;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use std::os::fd::{AsFd, OwnedFd};

/// Trees that are attached nowhere yet: the root's first, then volumes with their targets.
#[derive(Debug, Default)]
pub struct Shown(Vec<(String, bool, OwnedFd)>);

/// Copies of their own: what is attached here is not what the sandbox's kernel walks.
pub fn collect(job: &Job<'_>) -> Result<Shown, Failure> {
    let mut shown = Shown::default();
    if !job.spec.visible {
        return Ok(shown);
    }
    shown.0.push(("/".into(), true, tree(&job.inputs.files.root)?));
    let mut own = vec!["/proc".to_owned(), "/dev".into(), "/sys".into()];
    for (volume, opened) in job.spec.volumes.iter().zip(&job.inputs.files.volumes) {
        match opened {
            // What stands on something that only the sandbox's kernel has cannot be shown.
            Some(opened) if !volume.copy_up && !own.iter().any(|top| volume.target.starts_with(&format!("{top}/"))) => {
                let dir = file_type(&opened.fd)?.is_dir();
                shown.0.push((volume.target.clone(), dir, tree(opened)?));
            }
            Some(_) if !volume.copy_up => {}
            _ => own.push(volume.target.clone()),
        }
    }
    Ok(shown)
}

impl Shown {
    /// As well as it can be done: nothing in the sandbox depends on it.
    pub fn show(&self) {
        let Some(((_, _, root), volumes)) = self.0.split_first() else { return };
        let Ok(top) = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return };
        if host::mount::attach(root.as_fd(), top.as_fd()).is_err() {
            return;
        }
        for (target, dir, tree) in volumes {
            make_place(root, target, *dir);
            if let Ok(at) = find(root, target) {
                let _ = host::mount::attach(tree.as_fd(), at.as_fd());
            }
        }
    }
}

/// The place for a volume, as the sandbox's kernel would make it.
fn make_place(root: &OwnedFd, target: &str, dir: bool) {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
    for n in 1..=parts.len() {
        let (above, path) = (parts[..n - 1].join("/"), parts[..n].join("/"));
        if !matches!(find(root, &path), Err(rustix::io::Errno::NOENT)) {
            continue;
        }
        let Ok(parent) = find(root, if above.is_empty() { "." } else { &above }) else { return };
        if n < parts.len() || dir {
            let _ = mkdirat(&parent, parts[n - 1], Mode::from_raw_mode(0o755));
        } else {
            let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let _ = rustix::fs::openat(&parent, parts[n - 1], how, Mode::from_raw_mode(0o644));
        }
    }
}

/// A place inside `root`, links being followed there.
fn find(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
}

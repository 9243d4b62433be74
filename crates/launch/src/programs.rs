//! Programs attached to a container's control group: networks, devices, settings. They come from the operator's side,
//! already assembled; the host's kernel checks them.
use crate::error::{Context, Failure};
use host::bpf::{self, Purpose};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wire::shared::Program;

/// Names, and which kinds of programs they are, as the host's kernel counts them.
const PURPOSES: [(&str, u32, u32); 10] = [
    ("ingress", 8, 0),
    ("socket", 9, 2),
    ("device", 15, 6),
    ("bind4", 18, 8),
    ("bind6", 18, 9),
    ("connect4", 18, 10),
    ("connect6", 18, 11),
    ("sendmsg4", 18, 14),
    ("sendmsg6", 18, 15),
    ("sysctl", 23, 18),
];

/// Of one place: what is there, and what is to be there.
struct Change {
    purpose: Purpose,
    old: Option<OwnedFd>,
    new: Option<OwnedFd>,
}

impl Change {
    fn forward(&self, group: &OwnedFd) -> abi::Result {
        Change::put(group, self.purpose, self.old.as_ref(), self.new.as_ref())
    }

    fn back(&self, group: &OwnedFd) -> abi::Result {
        Change::put(group, self.purpose, self.new.as_ref(), self.old.as_ref())
    }

    fn put(group: &OwnedFd, purpose: Purpose, there: Option<&OwnedFd>, wanted: Option<&OwnedFd>) -> abi::Result {
        match (there, wanted) {
            (there, Some(wanted)) => bpf::attach(group.as_fd(), purpose, wanted.as_fd(), there.map(AsFd::as_fd)),
            (Some(there), None) => bpf::detach(group.as_fd(), purpose, there.as_fd()),
            (None, None) => Ok(()),
        }
    }
}

/// Makes these the group's programs, and no others of ours: all of them, or those there were. Each is replaced in one step;
/// of several the later ones a moment after the first.
pub fn put(group: &Path, programs: &[Program]) -> Result<(), Failure> {
    let shown = group.display().to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::open(group, flags, Mode::empty()).context(&shown)?;
    if let Some(program) = programs.iter().find(|p| PURPOSES.iter().all(|(name, ..)| *name != p.attach)) {
        return Err(Failure::new(format!("program {:?}: there is no such place", program.attach)));
    }
    let mut changes = Vec::new();
    for (name, kind, attach) in PURPOSES {
        let purpose = Purpose { kind, attach };
        let new = programs.iter().find(|p| p.attach == name);
        let new = new.map(|p| bpf::load(purpose, &p.code)).transpose().context(&format!("the program for {name}"))?;
        let old = bpf::attached(group.as_fd(), purpose).context(&format!("the programs of {shown}"))?;
        changes.push(Change { purpose, old, new });
    }
    for (number, change) in changes.iter().enumerate() {
        if let Err(e) = change.forward(&group) {
            for done in changes[..number].iter().rev() {
                // It was there a moment ago.
                let _ = done.back(&group);
            }
            let name = PURPOSES[number].0;
            return Err(Failure::new(format!("attaching the program for {name} to {shown}: {e}")));
        }
    }
    Ok(())
}

/// For the operator's side: the programs of a running container. They come from standard input.
pub fn change(group: &str) -> Result<(), Failure> {
    let programs: Vec<Program> = serde_json::from_str(&crate::spec::read("-")?).context("programs")?;
    put(Path::new(group), &programs)
}

//! What /proc/PID/mounts and mountinfo show of a mount: proc_pid_mountinfo(5).
use super::*;
use crate::name_of;

impl Super {
    /// Its flags in words, each after a comma.
    fn flag_text(&self) -> String {
        const NAMES: [(u32, &str); 4] =
            [(SB_SYNCHRONOUS, ",sync"), (SB_DIRSYNC, ",dirsync"), (SB_MANDLOCK, ",mand"), (SB_LAZYTIME, ",lazytime")];
        NAMES.iter().filter(|(f, _)| self.flags() & f != 0).map(|(_, n)| *n).collect()
    }
}

impl Mount {
    /// What mountinfo says of it between the options and the hyphen.
    fn propagation_text(&self, root: &Path) -> String {
        let mut s = String::new();
        if self.group.get() != 0 {
            s += &format!(" shared:{}", self.group.get());
        }
        if self.master.get() != 0 {
            s += &format!(" master:{}", self.master.get());
            let from = self.dominating(root);
            if from != 0 && from != self.master.get() {
                s += &format!(" propagate_from:{from}");
            }
        }
        if self.unbindable.get() {
            s += " unbindable";
        }
        s
    }

    /// Its options, as /proc/mounts begins them.
    pub fn option_text(&self) -> String {
        const NAMES: [(u32, &str); 7] = [
            (NO_SUID, ",nosuid"),
            (NO_DEV, ",nodev"),
            (NO_EXEC, ",noexec"),
            (NO_ATIME, ",noatime"),
            (NO_DIR_ATIME, ",nodiratime"),
            (RELATIME, ",relatime"),
            (NO_SYMFOLLOW, ",nosymfollow"),
        ];
        let set = NAMES.iter().filter(|(f, _)| self.has(*f)).map(|(_, n)| *n);
        std::iter::once(if self.has(READ_ONLY) { "ro" } else { "rw" }).chain(set).collect()
    }

    /// Where its root is in its file system.
    pub fn root_name(&self) -> Vec<u8> {
        let mut parts: Vec<Box<[u8]>> = Vec::new();
        let mut at = self.root.clone();
        let mut gone = false;
        while !Rc::ptr_eq(&at, &self.sb.root) {
            gone |= at.removed.get();
            parts.push(at.name.borrow().clone());
            let Some(up) = at.parent.borrow().clone() else { break };
            at = up;
        }
        let mut out = self.sb.top.borrow().as_bytes().to_vec();
        out.extend(parts.iter().rev().flat_map(|p| [b"/", &p[..]].concat()));
        if out.is_empty() {
            out.push(b'/');
        }
        if gone {
            out.extend_from_slice(b"//deleted");
        }
        out
    }

    /// Its line in /proc/PID/mounts or mountinfo, as seen from `root`. `None`: it is not below that.
    pub fn line(&self, me: &Rc<Mount>, root: &Path, info: bool) -> Option<String> {
        let at = name_of(&Path { mount: me.clone(), dentry: self.root.clone() }, root)?;
        let (at, kind) = (octal(&at), &self.sb.kind);
        let source = if self.source.is_empty() { "none".into() } else { octal(self.source.as_bytes()) };
        let sb = if self.sb.read_only() { "ro" } else { "rw" };
        let sb = format!("{sb}{}", self.sb.flag_text());
        let options = self.sb.options.borrow();
        let mine = self.option_text();
        if !info {
            let rest = mine.get(2..).unwrap_or("");
            let mode = if self.read_only() { "ro" } else { "rw" };
            return Some(format!("{source} {at} {kind} {mode}{}{rest}{options} 0 0\n", self.sb.flag_text()));
        }
        let parent = self.on().map_or(self.id, |p| p.mount.id);
        let (major, minor) = (abi::c::major(self.sb.dev()), abi::c::minor(self.sb.dev()));
        let (top, shared) = (octal(&self.root_name()), self.propagation_text(root));
        let id = self.id;
        Some(format!("{id} {parent} {major}:{minor} {top} {at} {mine}{shared} - {kind} {source} {sb}{options}\n"))
    }
}

/// Blanks, line ends, backslashes and hashes as /proc/mounts writes them.
fn octal(name: &[u8]) -> String {
    let mut out = Vec::with_capacity(name.len());
    for b in name {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            _ => out.push(*b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

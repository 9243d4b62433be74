//! /proc/PID/maps, proc(5).
use super::AddressSpace;
use abi::c;
use std::fmt::Write;

impl AddressSpace {
    /// One line a mapping, by address.
    pub fn maps(&self) -> String {
        let mut s = String::new();
        for v in self.iter() {
            let flag = |bit: i32, ch: char| if v.prot & bit != 0 { ch } else { '-' };
            let (offset, (dev, ino)) = v.file.as_ref().map_or((0, (0, 0)), |(f, o)| (*o, f.dev_ino()));
            let start = s.len();
            let _ = write!(
                s,
                "{:x}-{:x} {}{}{}{} {:08x} {:02x}:{:02x} {}",
                v.start,
                v.end,
                flag(c::PROT_READ, 'r'),
                flag(c::PROT_WRITE, 'w'),
                flag(c::PROT_EXEC, 'x'),
                if v.shared { 's' } else { 'p' },
                offset,
                c::major(dev),
                c::minor(dev),
                ino,
            );
            let path = v.file.as_ref().map(|(f, _)| f.path());
            let name = match &path {
                Some(p) => String::from_utf8_lossy(p).replace('\n', "\\012"),
                None => v.label.to_owned(),
            };
            if !name.is_empty() {
                let pad = 73usize.saturating_sub(s.len() - start);
                let _ = write!(s, "{:pad$}{name}", "");
            }
            s.push('\n');
        }
        s
    }
}

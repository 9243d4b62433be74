//! The file systems: one module each.
#![forbid(unsafe_code)]

pub mod dev;
pub mod host;
pub mod overlay;
pub mod proc;
pub mod tmp;

/// Now, in nanoseconds since the epoch.
fn now() -> i64 {
    ::host::time::realtime_ns() as i64
}

/// Entries from position `from` on; `.` and `..` come first.
fn emit_entries(
    ino: u64,
    parent: u64,
    entries: &[(Vec<u8>, u64, u8)],
    from: u64,
    emit: &mut dyn FnMut(vfs::DirEntry) -> bool,
) {
    let dots = [(b".".to_vec(), ino, 4u8), (b"..".to_vec(), parent, 4u8)];
    let all = dots.iter().chain(entries);
    for (i, (name, ino, kind)) in all.enumerate().skip(from as usize) {
        if !emit(vfs::DirEntry { ino: *ino, next: i as u64 + 1, kind: *kind, name: name.clone() }) {
            return;
        }
    }
}

//! What the sentry tells the outside: events, strace lines, the log, the table.
use host::file::write;
use std::os::fd::{AsFd, OwnedFd};
use syscalls::row::Support;

/// The table as JSON, one object a row.
pub fn syscalls() -> String {
    let rows: Vec<_> = syscalls::table::ROWS
        .iter()
        .map(|r| {
            let support = match r.support {
                Support::Full => "full",
                Support::Partial => "partial",
                Support::Refused => "refused",
            };
            serde_json::json!({"nr": r.nr, "name": r.name, "support": support, "caveat": r.caveat})
        })
        .collect();
    serde_json::to_string(&rows).expect("plain data")
}

/// A descriptor for lines. Lines that cannot be written are dropped: nobody inside depends on them.
pub struct Lines(Option<OwnedFd>);

impl Lines {
    pub fn new(fd: Option<OwnedFd>) -> Lines {
        Lines(fd)
    }
    pub fn on(&self) -> bool {
        self.0.is_some()
    }
    pub fn line(&self, s: &str) {
        if let Some(fd) = &self.0 {
            let _ = write(fd.as_fd(), format!("{s}\n").as_bytes(), None);
        }
    }
    pub fn event(&self, e: &wire::Event) {
        self.line(&serde_json::to_string(e).expect("plain data"));
    }
}

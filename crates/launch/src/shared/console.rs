//! A terminal of the container's own devpts, whose master goes to the caller: no terminal of the host's comes inside.
use crate::error::{Context, Failure};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::os::fd::AsFd;
use wire::shared::Console;

/// Makes it this session's, and the standard descriptors. `device`: it is /dev/console as well.
pub fn make(console: &Console, device: bool) -> Result<(), Failure> {
    let doing = "making the terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Not /dev/ptmx, which the image could have led elsewhere.
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).context("/dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).context(doing)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).context(doing)?;
    if let Some([rows, columns]) = console.size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).context(doing)?;
    }
    let name = rustix::pty::ptsname(&master, Vec::new()).context(doing)?;
    let to = host::process::take(console.fd);
    host::stub::send_fds(to.as_fd(), name.as_bytes(), &[master.as_fd()]).context("console socket")?;
    drop(to);
    rustix::stdio::dup2_stdin(&slave).context(doing)?;
    rustix::stdio::dup2_stdout(&slave).context(doing)?;
    rustix::stdio::dup2_stderr(&slave).context(doing)?;
    rustix::process::ioctl_tiocsctty(&slave).context("taking the terminal")?;
    if device {
        let tree = host::mount::clone_file(slave.as_fd(), host::mount::MountAttrFlags::empty()).context(doing)?;
        super::root::console(&tree)?;
    }
    Ok(())
}

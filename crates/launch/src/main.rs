//! `rvisor-launch`: builds the sandbox that the sentry runs in, and is gone.
//!
//! One thread, one pass, no retries. Everything that needs rights happens here, before the first byte of
//! the guest is read. Each step is a function that says why it is there and fails with its own message.
//!
//!     rvisor-launch SPEC       launch as the JSON file says (`-`: standard input)
//!     rvisor-launch --doctor   what this host offers, as JSON
//!     rvisor-launch --surface  what stubs and sentry may ask of the host, as JSON
//!     rvisor-launch --programs GROUP  give a control group the programs on standard input
//!     rvisor-launch --narrow FD  give the container that this socket leads to the filter and file rules on standard input
mod cgroup;
mod doctor;
mod error;
mod first;
mod idmap;
mod member;
mod network;
mod parent;
mod proc;
mod programs;
mod shared;
mod shown;
mod spec;
mod stub_init;
mod surface;

use error::Failure;
use std::process::ExitCode;

/// As `docker run`: the sandbox could not be made.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let started_ns = host::time::monotonic_ns();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--doctor"] => doctor::print(),
        ["--surface"] => surface::print(),
        ["--programs", group] => programs::change(group),
        ["--narrow", control] => shared::live::change(control),
        [path] if path == "-" || !path.starts_with('-') => launch(path, started_ns),
        _ => Err(Failure::new("usage: rvisor-launch SPEC | --doctor | --surface | --programs GROUP | --narrow FD")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // In one piece: the caller may write there too.
            let _ = host::process::write_all(2, format!("rvisor-launch: {failure}\n").as_bytes());
            ExitCode::from(FAILED)
        }
    }
}

fn launch(path: &str, started_ns: u64) -> Result<(), Failure> {
    let text = spec::read(path)?;
    let events_fd = spec::events_fd(&text);
    let done = spec::parse(&text).and_then(|spec| match &spec.shared {
        None => parent::launch(&spec, started_ns),
        Some(rules) => shared::launch(&spec, rules, &text, started_ns),
    });
    if let (Err(failure), Some(fd)) = (&done, events_fd) {
        error::report(fd, &wire::Event::Failed { status: FAILED.into(), message: failure.to_string() });
    }
    done
}

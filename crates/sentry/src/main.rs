//! The sentry: the private kernel of one sandbox.
//!
//! `rvisor-sentry FD` reads its [`wire::SentrySpec`] from the descriptor; `rvisor-sentry --syscalls` prints the table.
#![forbid(unsafe_code)]

mod boot;
mod containers;
mod control;
mod deliver;
mod kill;
mod mounts;
mod proc;
mod report;
mod seccomp;
mod serve;
mod start;
mod sys;
mod trace;

use std::process::ExitCode;

#[global_allocator]
static HEAP: host::heap::Counted = host::heap::Counted;

/// Exit status after a fault of our own (EX_SOFTWARE).
const FAULT: i32 = 70;

fn main() -> ExitCode {
    let arg = std::env::args().nth(1).unwrap_or_default();
    if arg == "--syscalls" {
        println!("{}", report::syscalls());
        return ExitCode::SUCCESS;
    }
    let Ok(fd) = arg.parse::<i32>() else {
        eprintln!("rvisor-sentry: this is started by rvisor-launch; for people there is `rvisor run`");
        return ExitCode::from(125);
    };
    // A fault of the sentry ends it with a message, and at once: the filter leaves no way to abort.
    std::panic::set_hook(Box::new(|why| {
        eprintln!("rvisor-sentry: {why}");
        host::process::exit_now(FAULT);
    }));
    match boot::boot(fd) {
        Ok(status) => host::process::exit_now(status.into()),
        Err(e) => {
            eprintln!("rvisor-sentry: {e}");
            ExitCode::from(125)
        }
    }
}

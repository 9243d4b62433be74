//! The sentry: the private kernel of one sandbox.
//!
//! `rvisor-sentry FD` reads its [`wire::SentrySpec`] from the descriptor; `rvisor-sentry --syscalls` prints the table.
#![forbid(unsafe_code)]

mod boot;
mod deliver;
mod kill;
mod proc;
mod report;
mod serve;
mod sites;

use std::process::ExitCode;

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
    match boot::boot(fd) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("rvisor-sentry: {e}");
            ExitCode::from(125)
        }
    }
}

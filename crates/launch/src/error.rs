//! What went wrong, in words for the operator.
use std::fmt;
use std::io::Write;

/// A message that says what was being done, why it failed, and where it helps what to do.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the step that an error belongs to.
pub trait Context<T> {
    fn context(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure(format!("{doing}: {e}")))
    }
}

/// Writes one event line. Nobody may be listening any more; the exit status tells the rest.
pub fn report(events_fd: i32, event: &wire::Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = host::process::write_all(events_fd, &line);
    }
}

/// Prints a report on standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")
}

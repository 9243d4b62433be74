//! The operator's programs that are to run in the container's own namespaces.
use crate::error::{Context, Failure};
use crate::proc::Proc;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wire::shared::Hook;

/// What is kept of what one says.
const SAID: u64 = 4096;

/// One after another, each with the container's state on its standard input; the first that fails ends it.
pub fn run(hooks: &[Hook], stage: &str, state: &str, proc: &Proc) -> Result<(), Failure> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut state: serde_json::Value = serde_json::from_str(state).context("the container's state")?;
    // In the operator's pid namespace.
    state["pid"] = proc.own_number()?.into();
    let state = state.to_string();
    for (index, hook) in hooks.iter().enumerate() {
        one(hook, &state).map_err(|why| Failure::new(format!("hook {stage} #{index} ({}): {why}", hook.path)))?;
    }
    Ok(())
}

fn one(hook: &Hook, state: &str) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let env = hook.env.iter().filter_map(|entry| entry.split_once('='));
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    let text = |e: std::io::Error| e.to_string();
    let mut child = command
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(text)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not want to know is free not to read.
        let _ = input.write_all(state.as_bytes());
    }
    let end = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let status = loop {
        match child.try_wait().map_err(text)? {
            Some(status) => break status,
            None if end.is_some_and(|end| Instant::now() > end) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {} s: killed", hook.timeout.unwrap_or(0)));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(SAID).read_to_end(&mut said);
    }
    Err(format!("ended with {status}: {}", String::from_utf8_lossy(&said).trim_end()))
}

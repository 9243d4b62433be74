//! `--surface`: what our processes' filters let through, as JSON.
use crate::error::{Context, Failure};
use bpf::{Permission, Policy, compile, surface};
use serde_json::{Value, json};

pub fn print() -> Result<(), Failure> {
    // The stub's code range does not change the program's length.
    let stub = section(&bpf::stub_policy(0x1000..0x2000, bpf::Action::Notify), &bpf::stub_permissions())?;
    let platform = bpf::Platform::Slots;
    let sentry = section(&bpf::sentry_policy(platform), &bpf::sentry_permissions(platform))?;
    let monitor = section(&bpf::monitor_policy(), &bpf::monitor_permissions())?;
    crate::error::print(&format!("{:#}", json!({ "stub": stub, "sentry": sentry, "monitor": monitor })))
}

fn section(policy: &Policy, permissions: &[Permission]) -> Result<Value, Failure> {
    let calls: Vec<Value> = surface(permissions)
        .into_iter()
        .map(|s| {
            json!({
                "nr": s.nr, "name": s.name, "conditions": s.conditions,
                "action": s.action.to_string(), "reason": s.reason,
            })
        })
        .collect();
    let instructions = compile(policy).context("compiling a filter")?.len();
    Ok(json!({
        "default": policy.default.to_string(), "foreign": policy.foreign.to_string(),
        "instructions": instructions, "calls": calls,
    }))
}

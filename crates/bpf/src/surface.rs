//! What a policy lets through, for people to read.
use crate::policy::{Action, Rule};

/// A rule with the call's name and the reason it is there.
#[derive(Debug, Clone)]
pub struct Permission {
    pub name: &'static str,
    pub rule: Rule,
    pub reason: &'static str,
}

/// One line of what `rvisor doctor --surface` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surface {
    pub nr: u32,
    pub name: &'static str,
    /// The tests of the arguments, joined by "and"; empty where there is none.
    pub conditions: String,
    pub action: Action,
    pub reason: &'static str,
}

/// The permissions as text, in their order.
pub fn surface(permissions: &[Permission]) -> Vec<Surface> {
    let line = |p: &Permission| {
        let tests: Vec<String> = p.rule.args.iter().map(ToString::to_string).collect();
        Surface {
            nr: p.rule.nr,
            name: p.name,
            conditions: tests.join(" and "),
            action: p.rule.action,
            reason: p.reason,
        }
    };
    permissions.iter().map(line).collect()
}

/// `permit!(SYS_read, [arg(0).eq(3)], Allow, "reason")`.
macro_rules! permit {
    ($nr:ident, [$($test:expr),* $(,)?], $action:expr, $reason:expr) => {
        $crate::surface::Permission {
            name: stringify!($nr).split_at(4).1,
            rule: $crate::policy::Rule { nr: abi::c::$nr as u32, args: vec![$($test),*], action: $action },
            reason: $reason,
        }
    };
}
pub(crate) use permit;

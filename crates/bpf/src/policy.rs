//! What a policy says, and what it decides.
use abi::seccomp::{AUDIT_ARCH_X86_64, CallData, X32_BIT};
use std::fmt;
use std::ops::Range;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Allow,
    /// The call is not made and returns this error, 1 to 4095.
    Errno(u16),
    /// The call is not made; the thread gets SIGSYS.
    Trap,
    /// The listener decides (seccomp_unotify(2)).
    Notify,
    /// The process dies as by SIGSYS, and the host logs it.
    Kill,
}

impl Action {
    /// The filter's return value.
    pub const fn ret(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno(n) => 0x0005_0000 | n as u32,
            Action::Trap => 0x0003_0000,
            Action::Notify => 0x7fc0_0000,
            Action::Kill => 0x8000_0000,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Allow => f.write_str("allow"),
            Action::Errno(n) => write!(f, "errno {}", abi::Errno::from_raw(*n as i32)),
            Action::Trap => f.write_str("trap"),
            Action::Notify => f.write_str("notify"),
            Action::Kill => f.write_str("kill"),
        }
    }
}

/// A condition on one 64-bit argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Eq(u64),
    /// `argument & mask == value`.
    Masked {
        mask: u64,
        value: u64,
    },
    In(Vec<u64>),
    /// Unsigned less or equal.
    Le(u64),
}

impl Test {
    /// Whether `value` passes.
    pub fn holds(&self, value: u64) -> bool {
        match self {
            Test::Eq(v) => value == *v,
            Test::Masked { mask, value: v } => value & mask == *v,
            Test::In(set) => set.contains(&value),
            Test::Le(v) => value <= *v,
        }
    }
}

/// A [`Test`] of the argument with this index, 0 to 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgTest {
    pub index: u8,
    pub test: Test,
}

impl fmt::Display for ArgTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let i = self.index;
        match &self.test {
            Test::Eq(v) => write!(f, "arg{i} == {v:#x}"),
            Test::Masked { mask, value } => write!(f, "arg{i} & {mask:#x} == {value:#x}"),
            Test::Le(v) => write!(f, "arg{i} <= {v:#x}"),
            Test::In(set) => {
                let set: Vec<String> = set.iter().map(|v| format!("{v:#x}")).collect();
                write!(f, "arg{i} in {{{}}}", set.join(", "))
            }
        }
    }
}

/// Starts a condition: `arg(0).eq(3)`.
pub const fn arg(index: u8) -> Arg {
    Arg(index)
}

/// See [`arg`].
#[derive(Debug, Clone, Copy)]
pub struct Arg(u8);

impl Arg {
    pub fn eq(self, value: u64) -> ArgTest {
        ArgTest { index: self.0, test: Test::Eq(value) }
    }
    /// `argument & mask == value`.
    pub fn masked(self, mask: u64, value: u64) -> ArgTest {
        ArgTest { index: self.0, test: Test::Masked { mask, value } }
    }
    pub fn is_in(self, values: impl IntoIterator<Item = u64>) -> ArgTest {
        ArgTest { index: self.0, test: Test::In(values.into_iter().collect()) }
    }
    /// Unsigned less or equal.
    pub fn le(self, value: u64) -> ArgTest {
        ArgTest { index: self.0, test: Test::Le(value) }
    }
}

/// What happens to calls of one number whose arguments pass every test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub nr: u32,
    pub args: Vec<ArgTest>,
    pub action: Action,
}

/// The whole of a filter. Of the rules with a call's number the first that passes decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub rules: Vec<Rule>,
    /// When no rule decides.
    pub default: Action,
    /// For calls of other architectures' interfaces (32-bit x86, x32).
    pub foreign: Action,
    /// Where a system call instruction may stand for the rules to apply: the addresses of the
    /// instructions' bytes. A call from elsewhere gets `default`. `None`: anywhere.
    pub code: Option<Range<u64>>,
}

impl Policy {
    /// What the policy says to a call, without a program.
    pub fn decide(&self, call: &CallData) -> Action {
        if call.arch != AUDIT_ARCH_X86_64 || call.nr >= X32_BIT {
            return self.foreign;
        }
        if let Some(code) = &self.code
            && !(code.start < call.ip && call.ip <= code.end)
        {
            return self.default;
        }
        let passes =
            |r: &&Rule| r.nr == call.nr && r.args.iter().all(|a| a.test.holds(call.args[usize::from(a.index)]));
        self.rules.iter().find(passes).map_or(self.default, |r| r.action)
    }
}

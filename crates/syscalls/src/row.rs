//! What a row of the table says, and what derives from it.
use crate::args::Kind;
use slots::{HINTS, Hint};

/// How far a call is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Full,
    Partial,
    /// Known, and refused with an error a program can handle.
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub nr: u64,
    pub name: &'static str,
    pub args: &'static [(&'static str, Kind)],
    pub support: Support,
    /// What is missing, if anything.
    pub caveat: &'static str,
    /// The call needs the whole register context.
    pub full: bool,
}

/// Largest structure that is copied ahead.
const AHEAD_MAX: usize = 255 * 8;

impl Row {
    /// What the stub copies ahead for this call: its first two arguments that are worth it.
    pub fn hint(&self) -> Hint {
        if self.full {
            return Hint::FULL;
        }
        let mut it = self.args.iter().enumerate().filter_map(|(i, (_, k))| match *k {
            Kind::Str => Some(Hint::string(i as u32)),
            Kind::In(n) | Kind::InOut(n) if n > 0 && n <= AHEAD_MAX => Some(Hint::fixed(i as u32, n)),
            Kind::InBuf(len) => Some(Hint::buffer(i as u32, len as u32)),
            Kind::InVec(len) => Some(Hint::vector(i as u32, len as u32)),
            _ => None,
        });
        Hint::pair(it.next().unwrap_or(0), it.next().unwrap_or(0))
    }
}

/// The hints of all rows, by number.
pub fn hints(rows: &[Row]) -> [Hint; HINTS] {
    let mut h = [Hint::NONE; HINTS];
    for r in rows {
        if let Some(x) = h.get_mut(r.nr as usize) {
            *x = r.hint();
        }
    }
    h
}

/// Declares the table: the list of rows, and the dispatcher.
///
/// A row is `number name(argument: Type, …) => [@wait] [@context] module::handler, support [, "caveat"];`. The handler gets
/// the task and the decoded arguments, in order. `@wait`: it is async and may wait. `@context`: it needs the whole
/// register context. `support` is `full`, `partial` or `refused`.
#[macro_export]
macro_rules! syscall_table {
    ($( $nr:literal $name:ident ( $($arg:ident : $ty:ty),* ) => $(@$mark:ident)* $module:ident :: $handler:ident , $support:ident $(, $caveat:literal)? ; )*) => {
        /// Every system call this kernel knows, by number.
        pub static ROWS: &[$crate::row::Row] = &[
            $( $crate::row::Row {
                nr: $nr,
                name: stringify!($name),
                args: &[ $( (stringify!($arg), <$ty as $crate::args::Arg>::KIND) ),* ],
                support: $crate::syscall_table!(@support $support),
                caveat: concat!($($caveat)?),
                full: $crate::syscall_table!(@full $($mark)*),
            } ),*
        ];

        /// Serves one call of `t`. `None`: the number is in no row.
        pub async fn dispatch(t: &std::rc::Rc<task::Task>, nr: u64, args: [u64; 6]) -> Option<abi::Result<i64>> {
            use $crate::args::{Arg, Ret};
            match nr {
                $( $nr => {
                    let mut _it = args.into_iter();
                    $( let $arg = match <$ty as Arg>::decode(_it.next().unwrap_or(0)) {
                        Ok(v) => v,
                        Err(e) => return Some(Err(e)),
                    }; )*
                    Some($crate::syscall_table!(@call [$($mark)*] $module::$handler(t $(, $arg)*)).map(Ret::ret))
                } )*
                _ => None,
            }
        }

        /// Serves one call that never waits, without the state machine of one that may; `None`: [`dispatch`] it.
        pub fn dispatch_now(t: &std::rc::Rc<task::Task>, nr: u64, args: [u64; 6]) -> Option<abi::Result<i64>> {
            use $crate::args::{Arg, Ret};
            match nr {
                $( $nr => $crate::syscall_table!(@now [$($mark)*] {
                    let mut _it = args.into_iter();
                    $( let $arg = match <$ty as Arg>::decode(_it.next().unwrap_or(0)) {
                        Ok(v) => v,
                        Err(e) => return Some(Err(e)),
                    }; )*
                    Some($crate::$module::$handler(t $(, $arg)*).map(Ret::ret))
                }), )*
                _ => None,
            }
        }
    };
    (@now [] $body:block) => { $body };
    (@now [wait $($rest:ident)*] $body:block) => { None };
    (@now [$other:ident $($rest:ident)*] $body:block) => { $crate::syscall_table!(@now [$($rest)*] $body) };
    (@support full) => { $crate::row::Support::Full };
    (@support partial) => { $crate::row::Support::Partial };
    (@support refused) => { $crate::row::Support::Refused };
    (@full) => { false };
    (@full context $($rest:ident)*) => { true };
    (@full $other:ident $($rest:ident)*) => { $crate::syscall_table!(@full $($rest)*) };
    (@call [] $($call:tt)*) => { $crate::$($call)* };
    (@call [wait $($rest:ident)*] $($call:tt)*) => { $crate::$($call)*.await };
    (@call [context $($rest:ident)*] $($call:tt)*) => { $crate::syscall_table!(@call [$($rest)*] $($call)*) };
}

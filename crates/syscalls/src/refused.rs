//! What a container without privileges is refused: reboot(2), init_module(2) and the like.
use abi::{Errno, Result};
use std::rc::Rc;
use task::Task;

/// As to a caller without the capability, which is the first thing these calls look at.
pub fn not_permitted(_t: &Rc<Task>) -> Result {
    Err(Errno::EPERM)
}

/// map_shadow_stack(2): no processor here has them.
pub fn no_shadow_stacks(_t: &Rc<Task>) -> Result {
    Err(Errno::EOPNOTSUPP)
}

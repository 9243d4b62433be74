//! Memory policy on a machine of one node: set_mempolicy(2), get_mempolicy(2), mbind(2). It is checked, and has no effect.
use crate::args::{Addr, Flags};
use abi::{Errno, PAGE_SIZE, Result};
use guest::{Memory, UserOut};
use kernel::mm::AddressSpace;
use std::rc::Rc;
use task::Task;

const DEFAULT: i32 = 0;
const PREFERRED: i32 = 1;
const LOCAL: i32 = 4;
const PREFERRED_MANY: i32 = 5;
const STATIC_NODES: i32 = 1 << 15;
const RELATIVE_NODES: i32 = 1 << 14;
const F_NODE: u32 = 1;
const F_ADDR: u32 = 2;
const F_MEMS_ALLOWED: u32 = 4;
/// Nodes a mask may name, as many as a page has bits.
const NODES_MAX: u64 = PAGE_SIZE * 8;

/// A mask of nodes. EINVAL: it names one there is not.
fn nodes(mem: &dyn Memory, mask: Addr, max: u64) -> Result<bool> {
    let bits = max.saturating_sub(1);
    if mask.0 == 0 || bits == 0 {
        return Ok(false);
    }
    if bits > NODES_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0u8; (bits.div_ceil(64) * 8) as usize];
    mem.read(mask.0, &mut bytes)?;
    let set = |i: u64| bytes[(i / 8) as usize] >> (i % 8) & 1 != 0;
    if (1..bits).any(set) { Err(Errno::EINVAL) } else { Ok(set(0)) }
}

fn check(t: &Task, policy: i32, mask: Addr, max: u64) -> Result {
    let modifiers = policy & (STATIC_NODES | RELATIVE_NODES);
    let kind = policy & !modifiers;
    if !(DEFAULT..=PREFERRED_MANY).contains(&kind) || modifiers == STATIC_NODES | RELATIVE_NODES {
        return Err(Errno::EINVAL);
    }
    let any = nodes(&*t.mem(), mask, max)?;
    match kind {
        DEFAULT | LOCAL if any || modifiers != 0 => Err(Errno::EINVAL),
        DEFAULT | LOCAL => Ok(()),
        PREFERRED if any || modifiers == 0 => Ok(()),
        _ if any => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

pub fn set_mempolicy(t: &Rc<Task>, policy: i32, mask: Addr, max: u64) -> Result {
    check(t, policy, mask, max)
}

pub fn mbind(t: &Rc<Task>, addr: Addr, len: u64, policy: i32, mask: Addr, max: u64, flags: Flags) -> Result {
    flags.only(7)?;
    let r = AddressSpace::pages(addr.0, len).map_err(|_| Errno::EINVAL)?;
    check(t, policy, mask, max)?;
    t.mm().space.borrow().check_mapped(r).map_err(|_| Errno::EFAULT)
}

/// The default policy, for the thread and everywhere; node 0, if a node is asked for.
pub fn get_mempolicy(t: &Rc<Task>, policy: UserOut<i32>, mask: Addr, max: u64, addr: Addr, flags: u64) -> Result {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if flags & !(F_NODE | F_ADDR | F_MEMS_ALLOWED) != 0 || (mask.0 != 0 && max < 1) {
        return Err(Errno::EINVAL);
    }
    if flags & F_MEMS_ALLOWED != 0 && flags != F_MEMS_ALLOWED {
        return Err(Errno::EINVAL);
    }
    if flags & F_ADDR != 0 {
        t.mm().space.borrow().at(addr.0).ok_or(Errno::EFAULT)?;
    } else if flags & F_NODE != 0 || addr.0 != 0 {
        // The node of the thread's own policy is asked for where that interleaves.
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    policy.put_opt(&*mem, &DEFAULT)?;
    if mask.0 != 0 {
        if max > NODES_MAX {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0u8; (max.div_ceil(64) * 8) as usize];
        bytes[0] = u8::from(flags & F_MEMS_ALLOWED != 0);
        mem.write(mask.0, &bytes)?;
    }
    Ok(())
}

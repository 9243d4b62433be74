//! Memory policy on a machine of one node: set_mempolicy(2), get_mempolicy(2), mbind(2), migrate_pages(2). It is kept and told: all
//! memory is on that node.
use crate::args::{Addr, Flags};
use abi::{Errno, PAGE_SIZE, Result};
use guest::{Memory, UserOut};
use kernel::cred::CAP_SYS_NICE;
use kernel::mm::{AddressSpace, NodePolicy};
use std::rc::Rc;
use task::Task;

const DEFAULT: i32 = 0;
const PREFERRED: i32 = 1;
const LOCAL: i32 = 4;
const INTERLEAVE: i32 = 3;
const WEIGHTED_INTERLEAVE: i32 = 6;
const MOVE_ALL: i32 = 4;
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

/// What is asked for. EINVAL: no such policy, or not of these nodes.
fn check(t: &Task, policy: i32, mask: Addr, max: u64) -> Result<NodePolicy> {
    let modifiers = policy & (STATIC_NODES | RELATIVE_NODES);
    let kind = policy & !modifiers;
    if !(DEFAULT..=WEIGHTED_INTERLEAVE).contains(&kind) || modifiers == STATIC_NODES | RELATIVE_NODES {
        return Err(Errno::EINVAL);
    }
    let node = nodes(&*t.mem(), mask, max)?;
    match kind {
        DEFAULT | LOCAL if node || modifiers != 0 => Err(Errno::EINVAL),
        PREFERRED if !node && modifiers == 0 => Ok(NodePolicy { mode: LOCAL, node }),
        DEFAULT | LOCAL => Ok(NodePolicy { mode: kind, node }),
        _ if node => Ok(NodePolicy { mode: policy, node }),
        _ => Err(Errno::EINVAL),
    }
}

pub fn set_mempolicy(t: &Rc<Task>, policy: i32, mask: Addr, max: u64) -> Result {
    t.nodes.set(check(t, policy, mask, max)?);
    Ok(())
}

pub fn mbind(t: &Rc<Task>, addr: Addr, len: u64, policy: i32, mask: Addr, max: u64, flags: Flags) -> Result {
    let flags = flags.only(7)?;
    if flags & MOVE_ALL != 0 && !t.cred().has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let r = AddressSpace::pages(addr.0, len).map_err(|_| Errno::EINVAL)?;
    let nodes = check(t, policy, mask, max)?;
    let mm = t.mm();
    let mut space = mm.space.borrow_mut();
    space.check_mapped(r.clone()).map_err(|_| Errno::EFAULT)?;
    space.bind(r, nodes);
    Ok(())
}

/// migrate_pages(2), from the node to itself: none is left behind.
pub fn migrate_pages(t: &Rc<Task>, pid: i32, max: u64, old: Addr, new: Addr) -> Result<i32> {
    let mem = t.mem();
    nodes(&*mem, old, max)?;
    let to = nodes(&*mem, new, max)?;
    let who = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::ESRCH)? };
    if !t.may_access(&who, true) {
        return Err(Errno::EPERM);
    }
    if to { Ok(0) } else { Err(Errno::EINVAL) }
}

/// The thread's policy, or that of a mapping; node 0, if a node is asked for.
pub fn get_mempolicy(t: &Rc<Task>, policy: UserOut<i32>, mask: Addr, max: u64, addr: Addr, flags: u64) -> Result {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if flags & !(F_NODE | F_ADDR | F_MEMS_ALLOWED) != 0 || (mask.0 != 0 && max < 1) {
        return Err(Errno::EINVAL);
    }
    if flags & F_MEMS_ALLOWED != 0 && flags != F_MEMS_ALLOWED {
        return Err(Errno::EINVAL);
    }
    let of = match flags & F_ADDR != 0 {
        true => t.mm().space.borrow().at(addr.0).ok_or(Errno::EFAULT)?.nodes,
        false => t.nodes.get(),
    };
    let interleaves = matches!(of.mode & !(STATIC_NODES | RELATIVE_NODES), INTERLEAVE | WEIGHTED_INTERLEAVE);
    // The next node of the thread's own policy is asked for where that interleaves.
    if flags & F_ADDR == 0 && (flags & F_NODE != 0 && !interleaves || addr.0 != 0) {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    policy.put_opt(&*mem, &if flags & (F_NODE | F_MEMS_ALLOWED) != 0 { 0 } else { of.mode })?;
    if mask.0 != 0 {
        if max > NODES_MAX {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0u8; (max.div_ceil(64) * 8) as usize];
        bytes[0] = u8::from(of.node || flags & F_MEMS_ALLOWED != 0);
        mem.write(mask.0, &bytes)?;
    }
    Ok(())
}

//! Security modules: lsm_list_modules(2), lsm_get_self_attr(2), lsm_set_self_attr(2). Capabilities are all there is.
use crate::args::{Addr, Flags};
use abi::{Errno, Result};
use guest::{UserIn, UserInOut, UserOut};
use std::rc::Rc;
use task::Task;

const LSM_ID_CAPABILITY: u64 = 100;

pub fn lsm_list_modules(t: &Rc<Task>, ids: UserOut<u64>, size: UserInOut<u32>, flags: Flags) -> Result<i32> {
    flags.only(0)?;
    let mem = t.mem();
    let needed = size_of::<u64>() as u32;
    let room = size.get(&*mem)?;
    size.put(&*mem, &needed)?;
    if room < needed {
        return Err(Errno::E2BIG);
    }
    ids.put(&*mem, &LSM_ID_CAPABILITY).map(|()| 1)
}

/// What comes first of `struct lsm_ctx`: id, flags, length of all of it, length of the value.
type Context = [u64; 4];

/// EOPNOTSUPP: no module here gives attributes; how many bytes that takes is told.
pub fn lsm_get_self_attr(t: &Rc<Task>, attr: u32, ctx: UserIn<Context>, size: UserInOut<u32>, flags: Flags) -> Result {
    const LSM_FLAG_SINGLE: i32 = 1;
    let mem = t.mem();
    if attr == 0 || size.addr() == 0 {
        return Err(Errno::EINVAL);
    }
    size.get(&*mem)?;
    if flags.bits() != 0 {
        if flags.bits() != LSM_FLAG_SINGLE || ctx.is_null() {
            return Err(Errno::EINVAL);
        }
        let [id, ..] = ctx.get(&*mem)?;
        if id == 0 {
            return Err(Errno::EINVAL);
        }
    }
    size.put(&*mem, &0)?;
    Err(Errno::EOPNOTSUPP)
}

/// EOPNOTSUPP, of what is well made.
pub fn lsm_set_self_attr(t: &Rc<Task>, _attr: u32, ctx: Addr, size: u32, flags: Flags) -> Result {
    flags.only(0)?;
    if (size as usize) < size_of::<Context>() {
        return Err(Errno::EINVAL);
    }
    if u64::from(size) > abi::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mem = t.mem();
    mem.read(ctx.0, &mut vec![0u8; size as usize])?;
    let [_, _, len, value] = UserIn::<Context>::new(ctx.0).get(&*mem)?;
    let needed = value.checked_add(size_of::<Context>() as u64).ok_or(Errno::EINVAL)?;
    if u64::from(size) < len || len < needed { Err(Errno::EINVAL) } else { Err(Errno::EOPNOTSUPP) }
}

//! The kernel's operations, done at once.
use super::Ptrace;
use super::inject::Trouble;
use super::thread::Thread;
use abi::{Errno, c};
use guest::Memory;
use guest::ops::Op;
use std::os::fd::AsFd;

impl Ptrace {
    /// Does them in order. True: a write to guest memory failed, which makes the call's result EFAULT.
    pub(super) fn perform(&mut self, t: &Thread, ops: Vec<Op>) -> Result<bool, Trouble> {
        let mut fault = false;
        for op in ops {
            fault |= !self.perform_one(t, op)?;
        }
        Ok(fault)
    }

    /// False: a write to guest memory failed.
    fn perform_one(&mut self, t: &Thread, op: Op) -> Result<bool, Trouble> {
        match op {
            Op::Write { addr, bytes } => return Ok(t.write(addr, &bytes).is_ok()),
            Op::Zero { addr, len } => zero(t, addr, len),
            Op::Map { addr, len, prot, flags, file } => {
                let (prot, flags) = (prot as u64, flags | c::MAP_FIXED);
                match file {
                    None => {
                        let flags = (flags | c::MAP_ANONYMOUS) as u64;
                        self.host_call(t, c::SYS_mmap, [addr, len, prot, flags, u64::MAX, 0])?;
                    }
                    Some((file, offset)) => {
                        let fd = self.pass(t, t, file.as_fd())?;
                        let mapped = self.host_call(t, c::SYS_mmap, [addr, len, prot, flags as u64, fd, offset]);
                        self.host_call(t, c::SYS_close, [fd, 0, 0, 0, 0, 0])?;
                        mapped?;
                    }
                }
            }
            Op::Unmap { addr, len } => drop(self.host_call(t, c::SYS_munmap, [addr, len, 0, 0, 0, 0])?),
            Op::Protect { addr, len, prot } => {
                self.host_call(t, c::SYS_mprotect, [addr, len, prot as u64, 0, 0, 0])?;
            }
            Op::Remap { addr, old_len, new_len, flags, new_addr } => {
                self.host_call(t, c::SYS_mremap, [addr, old_len, new_len, flags as u64, new_addr, 0])?;
            }
            Op::Advise { addr, len, advice } => {
                self.host_call(t, c::SYS_madvise, [addr, len, advice as u64, 0, 0, 0])?;
            }
            Op::SetFs(base) => t.change(|r| r.fs_base = base),
            Op::Thread { tag } => self.new_thread(t, tag)?,
            Op::Fork { tag } => self.fork(t, tag)?,
            // Never asked for: `Features::sites`.
            Op::Patch { .. } | Op::Rewrite { .. } => return Err(Trouble::Failed(Errno::EOPNOTSUPP)),
            Op::SaveFp { addr, len } => {
                let state = self.xstate.framed(t.tid).map_err(|_| Trouble::Broken)?;
                let n = state.len().min(len as usize);
                return Ok(t.write(addr, &state[..n]).is_ok());
            }
            // The kernel has made it harmless; a state the processor does not take all the same changes nothing.
            Op::LoadFp(bytes) => drop(self.xstate.put(t.tid, &bytes)),
        }
        Ok(true)
    }
}

fn zero(t: &Thread, addr: u64, len: u64) {
    const CHUNK: u64 = 0x1_0000;
    let zeroes = vec![0u8; len.min(CHUNK) as usize];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(CHUNK);
        if t.write(addr + done, &zeroes[..n as usize]).is_err() {
            return;
        }
        done += n;
    }
}

//! CPUs, and which of them a thread may use.
use abi::Result;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of the host's CPUs (sched_setaffinity(2)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cpus(CpuSet);

impl Cpus {
    /// Those this thread may use.
    pub fn allowed() -> Result<Cpus> {
        sched_getaffinity(None).map(Cpus).map_err(crate::errno)
    }

    /// The one this thread runs on at the moment.
    pub fn current() -> usize {
        // SAFETY: no memory is involved. (The C library reads it where the host writes it down: no call.)
        usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
    }

    pub fn count(&self) -> usize {
        self.0.count() as usize
    }

    /// `cpu` alone.
    pub fn only(cpu: usize) -> Cpus {
        let mut set = CpuSet::new();
        set.set(cpu);
        Cpus(set)
    }

    /// All of these but `cpu`.
    pub fn without(mut self, cpu: usize) -> Cpus {
        self.0.unset(cpu);
        self
    }

    /// Keeps a thread on these CPUs: this one, or a stub's by its host thread id. EINVAL if none of them can be used, ESRCH if
    /// the thread is gone. A thread id that was reused is another stub's.
    pub fn keep(&self, tid: Option<i32>) -> Result {
        sched_setaffinity(tid.and_then(Pid::from_raw), &self.0).map_err(crate::errno)
    }
}

/// What the processor says of itself: eax, ebx, ecx, edx. None: it has no such leaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
    use std::arch::x86_64::__cpuid_count;
    if leaf > __cpuid_count(leaf & 0x8000_0000, 0).eax {
        return None;
    }
    let r = __cpuid_count(leaf, subleaf);
    Some([r.eax, r.ebx, r.ecx, r.edx])
}

//! Who may look into another process: ptrace(2), "access mode checking".
use crate::Task;
use kernel::cred::CAP_SYS_PTRACE;
use std::rc::Rc;

impl Task {
    /// May this thread read and write the memory of `who` (PTRACE_MODE_ATTACH_REALCREDS)? Its own process always; another
    /// with the same ids, dumpable, and with no capability that this one lacks.
    pub fn may_access(&self, who: &Task) -> bool {
        if Rc::ptr_eq(&self.process, &who.process) {
            return true;
        }
        let (me, other) = (self.cred(), who.cred());
        if me.has(CAP_SYS_PTRACE) {
            return true;
        }
        let same = [other.euid, other.suid, other.ruid].iter().all(|u| *u == me.ruid)
            && [other.egid, other.sgid, other.rgid].iter().all(|g| *g == me.rgid);
        same && who.process.dumpable.get() == 1 && other.permitted & !me.permitted == 0
    }
}

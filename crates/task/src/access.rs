//! Who may look into another process: ptrace(2), "access mode checking".
use crate::Task;
use kernel::cred::CAP_SYS_PTRACE;
use std::rc::Rc;

impl Task {
    /// May this thread read and write the memory of `who` (PTRACE_MODE_ATTACH), judged by its `real` ids or by those of
    /// the file system? Its own process always; another with the same ids, dumpable, and with no capability that this one
    /// lacks.
    pub fn may_access(&self, who: &Task, real: bool) -> bool {
        if Rc::ptr_eq(&self.process, &who.process) {
            return true;
        }
        let (me, other) = (self.cred(), who.cred());
        if me.has_in(&other.user_ns, CAP_SYS_PTRACE) {
            return true;
        }
        let (uid, gid, caps) = if real { (me.ruid, me.rgid, me.permitted) } else { (me.fsuid, me.fsgid, me.effective) };
        let same = [other.euid, other.suid, other.ruid].iter().all(|u| *u == uid)
            && [other.egid, other.sgid, other.rgid].iter().all(|g| *g == gid);
        let covered = other.user_ns == me.user_ns && other.permitted & !caps == 0;
        same && who.process.dumpable.get() == 1 && covered
    }
}

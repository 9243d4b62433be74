//! /proc/sysvipc: every object of System V IPC. proc(5).
use super::FILE;
use abi::{Errno, Result};
use fs::proc::Node;
use ipc::sysv::Object;
use std::fmt::Write;
use syscalls::sysv::shm::{attachments, resident};
use task::Kernel;

pub fn node(k: &Kernel, name: &str) -> Result<Node> {
    let text = match name {
        "" => return Ok(Node::Dir(["msg", "sem", "shm"].map(|n| (n.to_owned(), FILE)).into())),
        "msg" => queues(k),
        "sem" => semaphores(k),
        "shm" => segments(k),
        _ => return Err(Errno::ENOENT),
    };
    Ok(Node::File(text.into_bytes()))
}

fn segments(k: &Kernel) -> String {
    let mut s =
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
                 dtime      ctime                   rss                  swap\n"
            .to_owned();
    for (id, g) in k.callers_namespaces().ipc.sysv.segments.all() {
        let p = g.perm().get();
        let _ = writeln!(
            s,
            "{:10} {id:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}",
            p.key,
            p.mode,
            g.size,
            g.cpid,
            g.lpid.get(),
            attachments(k, &g),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            g.atime.get(),
            g.dtime.get(),
            g.ctime.get(),
            resident(&g),
            0
        );
    }
    s
}

fn semaphores(k: &Kernel) -> String {
    let mut s = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n".to_owned();
    for (id, set) in k.callers_namespaces().ipc.sysv.sems.all() {
        let p = set.perm().get();
        let _ = writeln!(
            s,
            "{:10} {id:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}",
            p.key,
            p.mode,
            set.len(),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            set.otime.get(),
            set.ctime.get()
        );
    }
    s
}

fn queues(k: &Kernel) -> String {
    let mut s =
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      \
                 rtime      ctime\n"
            .to_owned();
    for (id, q) in k.callers_namespaces().ipc.sysv.queues.all() {
        let p = q.perm().get();
        let _ = writeln!(
            s,
            "{:10} {id:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
            p.key,
            p.mode,
            q.bytes.get(),
            q.count(),
            q.lspid.get(),
            q.lrpid.get(),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            q.stime.get(),
            q.rtime.get(),
            q.ctime.get()
        );
    }
    s
}

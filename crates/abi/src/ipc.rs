//! System V IPC, sysvipc(7), and POSIX message queues, mq_overview(7).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const IPC_PRIVATE: i32 = 0;
pub const IPC_CREAT: i32 = 0o1000;
pub const IPC_EXCL: i32 = 0o2000;
pub const IPC_NOWAIT: i32 = 0o4000;
pub const IPC_RMID: i32 = 0;
pub const IPC_SET: i32 = 1;
pub const IPC_STAT: i32 = 2;
pub const IPC_INFO: i32 = 3;

pub const SHM_LOCK: i32 = 11;
pub const SHM_UNLOCK: i32 = 12;
pub const SHM_STAT: i32 = 13;
pub const SHM_INFO: i32 = 14;
pub const SHM_STAT_ANY: i32 = 15;
pub const SHM_HUGETLB: i32 = 0o4000;
pub const SHM_RDONLY: i32 = 0o10000;
pub const SHM_RND: i32 = 0o20000;
pub const SHM_REMAP: i32 = 0o40000;
pub const SHM_EXEC: i32 = 0o100000;
/// Bits of a segment's mode: it goes with its last attachment; it is locked.
pub const SHM_DEST: u32 = 0o1000;
pub const SHM_LOCKED: u32 = 0o2000;
pub const SHMMAX: u64 = u64::MAX - (1 << 24);
pub const SHMALL: u64 = u64::MAX - (1 << 24);
pub const SHMMNI: usize = 4096;

pub const GETPID: i32 = 11;
pub const GETVAL: i32 = 12;
pub const GETALL: i32 = 13;
pub const GETNCNT: i32 = 14;
pub const GETZCNT: i32 = 15;
pub const SETVAL: i32 = 16;
pub const SETALL: i32 = 17;
pub const SEM_STAT: i32 = 18;
pub const SEM_INFO: i32 = 19;
pub const SEM_STAT_ANY: i32 = 20;
pub const SEM_UNDO: i16 = 0x1000;
pub const SEMMNI: usize = 32000;
pub const SEMMSL: usize = 32000;
pub const SEMMNS: usize = 1_024_000_000;
pub const SEMOPM: usize = 500;
pub const SEMVMX: i32 = 32767;

pub const MSG_STAT: i32 = 11;
pub const MSG_INFO: i32 = 12;
pub const MSG_STAT_ANY: i32 = 13;
pub const MSG_NOERROR: i32 = 0o10000;
pub const MSG_EXCEPT: i32 = 0o20000;
pub const MSG_COPY: i32 = 0o40000;
pub const MSGMAX: usize = 8192;
pub const MSGMNB: u64 = 16384;
pub const MSGMNI: usize = 32000;

/// Priorities of mq_send(3) are below it.
pub const MQ_PRIO_MAX: u32 = 32768;

macro_rules! structures {
    ($($(#[$m:meta])* $name:ident { $($field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$m])*
        #[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $ty),* }
    )*};
}

structures! {
    /// `struct ipc64_perm`.
    IpcPerm {
        key: i32, uid: u32, gid: u32, cuid: u32, cgid: u32, mode: u32, seq: u16, pad: u16, pad2: u32, unused: [u64; 2],
    }
    /// `struct shmid64_ds`. Times are in seconds.
    ShmidDs {
        perm: IpcPerm, segsz: u64, atime: i64, dtime: i64, ctime: i64, cpid: i32, lpid: i32, nattch: u64, unused: [u64; 2],
    }
    /// `struct shminfo64`.
    ShmInfo64 { shmmax: u64, shmmin: u64, shmmni: u64, shmseg: u64, shmall: u64, unused: [u64; 4] }
    /// `struct shm_info`; sizes in pages.
    ShmInfo { used_ids: i32, pad: i32, total: u64, resident: u64, swapped: u64, attempts: u64, successes: u64 }
    /// `struct semid64_ds`.
    SemidDs { perm: IpcPerm, otime: i64, unused1: u64, ctime: i64, unused2: u64, nsems: u64, unused3: [u64; 2] }
    /// `struct seminfo`.
    SemInfo {
        semmap: i32, semmni: i32, semmns: i32, semmnu: i32, semmsl: i32, semopm: i32, semume: i32, semusz: i32,
        semvmx: i32, semaem: i32,
    }
    /// `struct sembuf`.
    Sembuf { num: u16, op: i16, flags: i16 }
    /// `struct msqid64_ds`.
    MsqidDs {
        perm: IpcPerm, stime: i64, rtime: i64, ctime: i64, cbytes: u64, qnum: u64, qbytes: u64, lspid: i32, lrpid: i32,
        unused: [u64; 2],
    }
    /// `struct msginfo`.
    MsgInfo {
        msgpool: i32, msgmap: i32, msgmax: i32, msgmnb: i32, msgmni: i32, msgssz: i32, msgtql: i32, msgseg: u16, pad: u16,
    }
    /// `struct mq_attr`.
    MqAttr { flags: i64, maxmsg: i64, msgsize: i64, curmsgs: i64, reserved: [i64; 4] }
}

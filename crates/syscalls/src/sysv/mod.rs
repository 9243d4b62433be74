//! System V IPC: svipc(7).
pub mod msg;
pub mod sem;
pub mod shm;

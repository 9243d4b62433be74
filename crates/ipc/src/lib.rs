//! What processes talk through and wait on: pipes, message queues, eventfd, timerfd, epoll, poll, terminals, and the
//! sandbox's own standard streams. Things, no system call numbers.
#![forbid(unsafe_code)]

pub mod epoll;
pub mod eventfd;
pub mod mqueue;
pub mod pipe;
pub mod poll;
pub mod stdio;
pub mod sysv;
pub mod timerfd;
pub mod tty;

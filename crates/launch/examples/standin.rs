//! Stands for the sentry and for the stub in the launcher's tests: looks at what it was given.
//!
//! As the sentry it answers on its events descriptor with one JSON object and then waits for ever. As the
//! stub it forks a child that holds a known word in memory, tells its parent, and waits.
#![no_main]
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What the sentry looks for in the memory of the stub's child.
static WORD: u64 = 0x5151_4242_1313_7777;

#[unsafe(no_mangle)]
extern "C" fn main(argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
    // SAFETY: the host's exec wrote argc strings there.
    let args: Vec<&str> =
        (0..argc as usize).map(|i| unsafe { std::ffi::CStr::from_ptr(*argv.add(i)) }.to_str().expect("text")).collect();
    match args[..] {
        ["rvisor-sentry", spec] => sentry(spec),
        ["stub"] => stub(),
        _ => 3,
    }
}

fn sentry(spec_fd: &str) -> i32 {
    // SAFETY: the launcher passed this descriptor for us to own.
    let file = unsafe { std::fs::File::from_raw_fd(spec_fd.parse().expect("number")) };
    let spec: wire::SentrySpec = serde_json::from_reader(&file).expect("specification");
    // SAFETY: as above.
    let init = unsafe { OwnedFd::from_raw_fd(spec.init_fd) };
    let mut hello = [0u8; 12];
    let (n, _) = host::stub::receive_fd(init.as_fd(), &mut hello).expect("hello");
    assert_eq!(n, hello.len());
    // The stub's child is the third process here, after the sentry and the stub's init.
    let child = spec.init_pid + i32::from_ne_bytes(hello[..4].try_into().expect("4")) - 1;
    let address = u64::from_ne_bytes(hello[4..].try_into().expect("8"));
    let mut word = [0u8; 8];
    let read = host::stub::read_memory(child, address, &mut word);
    let written = host::stub::write_memory(child, address + 8, &word);

    let writable = |fd: BorrowedFd<'_>, name: &str| {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        match rustix::fs::openat(fd, name, flags, rustix::fs::Mode::from_raw_mode(0o666)) {
            Ok(_) => "ok".to_string(),
            Err(e) => format!("{e:?}"),
        }
    };
    let mut trees = serde_json::Map::new();
    for m in &spec.mounts {
        let fds = match m.kind {
            wire::MountKind::Host { fd, .. } => vec![fd],
            wire::MountKind::Overlay { lower_fd, upper_fd } => {
                [Some(lower_fd), upper_fd].into_iter().flatten().collect()
            }
            _ => vec![],
        };
        let tell = |fd: &i32| {
            // SAFETY: the specification names open descriptors.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            serde_json::json!({
                "create": writable(fd, "made-by-sentry"),
                "device": match rustix::fs::openat(fd, "null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()) {
                    Ok(_) => "ok".to_string(),
                    Err(e) => format!("{e:?}"),
                },
            })
        };
        trees.insert(m.target.clone(), fds.iter().map(tell).collect());
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let report = serde_json::json!({
        "event": "standin", "spec": spec, "pid": std::process::id(),
        "read": read.is_ok_and(|n| n == 8) && u64::from_ne_bytes(word) == WORD,
        "wrote": written.is_ok_and(|n| n == 8),
        "root": std::fs::read_dir("/").map(|d| d.count()).ok(),
        "root_writable": std::fs::write("/x", "").is_ok(),
        "proc": std::path::Path::new("/proc/self").exists(),
        "environment": std::env::vars().count(),
        "umask": rustix::process::umask(rustix::fs::Mode::empty()).as_raw_mode(),
        "fd_limit_raised": files.current == files.maximum,
        "trees": trees,
    });
    // SAFETY: the specification names an open descriptor.
    let mut events = unsafe { std::fs::File::from_raw_fd(spec.events_fd) };
    writeln!(events, "{report}").expect("report");
    loop {
        std::thread::park();
    }
}

fn stub() -> i32 {
    // Two words: the one to be read, and room for what the sentry writes.
    let memory: &'static mut [u64; 2] = Box::leak(Box::new([WORD, 0]));
    // SAFETY: descriptor 3 is the stub's only one, the socket.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    // SAFETY: one thread.
    let child = unsafe { libc::fork() };
    if child != 0 {
        let mut hello = child.to_ne_bytes().to_vec();
        hello.extend((&raw const *memory as u64).to_ne_bytes());
        host::stub::send_fds(socket.as_fd(), &hello, &[]).expect("hello");
    }
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

//! /proc/keys and /proc/key-users: keyrings(7).
use super::users::callers;
use kernel::keys::{Key, Need, now};
use kernel::userns;
use std::fmt::Write;
use std::rc::Rc;
use task::Kernel;

/// The keys that the reader may view.
pub fn text(k: &Kernel) -> String {
    k.keys.sweep();
    let Some(t) = k.task(task::caller().1) else { return String::new() };
    let who = t.cred();
    let mut s = String::new();
    for key in k.keys.all() {
        let named = who.user_ns.outward(userns::Kind::User, key.user().uid).is_some();
        if named && key.permission(k.keys.possesses(&who, &key), &who, Need::View).is_ok() {
            let (uid, gid) = syscalls::keys::shown_owner(&key, &who.user_ns);
            let (flags, left, kind) = (flags(&key), left(&key), key.kind.name());
            // One reference is the list's, which is being walked.
            let holders = Rc::strong_count(&key) - 1;
            let (serial, perm, desc) = (key.serial, key.perm(), key.describe());
            let _ =
                writeln!(s, "{serial:08x} {flags} {holders:5} {left:>4} {perm:08x} {uid:5} {gid:5} {kind:<9} {desc}");
        }
    }
    s
}

/// Instantiated, revoked, dead, in quota, under construction, negative, invalidated.
fn flags(key: &Key) -> String {
    let flag = |is: bool, c: char| if is { c } else { '-' };
    let (revoked, negative, invalid) =
        (flag(key.revoked(), 'R'), flag(key.is_negative(), 'N'), flag(key.invalid(), 'i'));
    format!("I{revoked}-Q-{negative}{invalid}")
}

/// How long the key still lives.
fn left(key: &Key) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const WEEK: i64 = 7 * DAY;
    match key.expiry().map(|at| at - now()) {
        None => "perm".into(),
        Some(..=0) => "expd".into(),
        Some(s @ ..MINUTE) => format!("{s}s"),
        Some(s @ ..HOUR) => format!("{}m", s / MINUTE),
        Some(s @ ..DAY) => format!("{}h", s / HOUR),
        Some(s @ ..WEEK) => format!("{}d", s / DAY),
        Some(s) => format!("{}w", s / WEEK),
    }
}

/// What each user's keys come to: records in use, keys and those instantiated, and what counts of what may.
pub fn users(k: &Kernel) -> String {
    k.keys.sweep();
    let ns = callers(k);
    let mut s = String::new();
    for user in k.keys.users() {
        let Some(uid) = ns.outward(userns::Kind::User, user.uid) else { continue };
        let (keys, counted, bytes) = (user.keys.get(), user.counted.get(), user.bytes.get());
        let (max_keys, max_bytes) = k.keys.limits().of(user.uid);
        let records = keys + usize::from(user.uid == 0);
        let _ = writeln!(s, "{uid:5}: {records:5} {keys}/{keys} {counted}/{max_keys} {bytes}/{max_bytes}");
    }
    s
}

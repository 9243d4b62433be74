use super::ring::Ref;
use super::*;
use crate::cred::Cred;
use std::collections::BTreeSet;

const OWN: u32 = 1000;

fn who() -> Cred {
    Cred::new(OWN, OWN, &[])
}

struct Sandbox {
    keys: Rc<Keys>,
    who: Cred,
}

impl Sandbox {
    fn new() -> Sandbox {
        Sandbox { keys: Keys::new(), who: who() }
    }
    fn on(&self, ring: &Rc<Key>, kind: Kind, desc: &str, data: &[u8]) -> Result<Rc<Key>> {
        let ring = Ref { key: ring.clone(), possessed: true };
        self.keys.add(&self.who, &ring, kind, desc.as_bytes(), data.to_vec())
    }
    fn ring(&self, on: &Rc<Key>, desc: &str) -> Rc<Key> {
        self.on(on, Kind::Keyring, desc, b"").unwrap()
    }
    fn used(&self) -> (usize, usize, usize) {
        let user = self.keys.users().into_iter().find(|u| u.uid == OWN);
        user.map_or((0, 0, 0), |u| (u.keys.get(), u.counted.get(), u.bytes.get()))
    }
    fn seek(&self, ring: &Rc<Key>, desc: &str) -> Result<i32> {
        let ring = Ref { key: ring.clone(), possessed: true };
        ring.search(&self.who, &Query::new(Kind::User, desc.as_bytes())).map(|r| r.key.serial)
    }
}

#[test]
fn what_keys_count_comes_back() {
    let mut s = Sandbox::new();
    let ring = s.keys.thread_ring(&mut s.who).unwrap();
    assert_eq!(s.used(), (1, 1, 5));
    let a = s.on(&ring, Kind::User, "a", b"12345").unwrap();
    assert_eq!(s.used(), (2, 2, 5 + 4 + 2 + 5));
    a.update(vec![0; 9]).unwrap();
    assert_eq!(s.used(), (2, 2, 5 + 4 + 2 + 9));
    let again = s.on(&ring, Kind::User, "a", b"1").unwrap();
    assert!(Rc::ptr_eq(&a, &again));
    assert_eq!(s.used(), (2, 2, 5 + 4 + 2 + 1));
    let nest = s.ring(&ring, "nest");
    nest.link(&a).unwrap();
    nest.link(&a).unwrap();
    assert_eq!(s.used(), (3, 3, 5 + 2 * 4 + 3 + 5 + 4));
    a.revoke();
    assert_eq!(s.used().2, 5 + 2 * 4 + 2 + 5 + 4);
    // A revoked key is not updated, but displaced.
    let fresh = s.on(&ring, Kind::User, "a", b"1").unwrap();
    assert!(!Rc::ptr_eq(&a, &fresh));
    drop((a, again, fresh));
    ring.clear().unwrap();
    nest.clear().unwrap();
    drop(nest);
    assert_eq!(s.used(), (1, 1, 5));
    drop(ring);
    s.who.keys.thread = None;
    assert_eq!(s.used(), (0, 0, 0));
    assert!(s.keys.all().is_empty());
}

#[test]
fn a_quota_is_reached_exactly() {
    let mut s = Sandbox::new();
    let ring = s.keys.thread_ring(&mut s.who).unwrap();
    let (_, _, used) = s.used();
    let left = 20_000 - used;
    let full = left - 4 - 2;
    assert_eq!(s.on(&ring, Kind::User, "a", &vec![1; full + 1]).unwrap_err(), Errno::EDQUOT);
    assert_eq!(s.used(), (1, 1, used));
    s.on(&ring, Kind::User, "a", &vec![1; full]).unwrap();
    assert_eq!(s.used().2, 20_000);
    assert_eq!(s.on(&ring, Kind::User, "a", &vec![1; full + 1]).unwrap_err(), Errno::EDQUOT);
    ring.clear().unwrap();
    s.keys.set_limit("maxkeys", 2).unwrap();
    s.on(&ring, Kind::User, "a", b"1").unwrap();
    assert_eq!(s.on(&ring, Kind::User, "b", b"1").unwrap_err(), Errno::EDQUOT);
    s.on(&ring, Kind::User, "a", b"22").unwrap();
    assert_eq!(s.keys.set_limit("none", 1), Err(Errno::ENOENT));
}

#[test]
fn big_keys_count_little_and_have_a_limit_together() {
    let mut s = Sandbox::new();
    let ring = s.keys.thread_ring(&mut s.who).unwrap();
    let (_, _, used) = s.used();
    let all = vec![1; 1 << 20];
    for i in 0..64 {
        s.on(&ring, Kind::BigKey, &format!("{i:02}"), &all).unwrap();
    }
    assert_eq!(s.used().2, used + 64 * (4 + 3 + 16));
    assert_eq!(s.on(&ring, Kind::BigKey, "more", b"1").unwrap_err(), Errno::ENOMEM);
    assert_eq!(s.used().2, used + 64 * (4 + 3 + 16));
    assert_eq!(s.on(&ring, Kind::BigKey, "more", &[1; (1 << 20) + 1]).unwrap_err(), Errno::EINVAL);
    s.on(&ring, Kind::BigKey, "00", b"less").unwrap();
    s.on(&ring, Kind::BigKey, "more", b"1").unwrap();
    ring.clear().unwrap();
    s.on(&ring, Kind::BigKey, "again", &all).unwrap();
}

#[test]
fn a_key_counts_for_its_owner() {
    let mut s = Sandbox::new();
    let ring = s.keys.process_ring(&mut s.who).unwrap();
    let a = s.on(&ring, Kind::User, "a", b"123").unwrap();
    s.keys.give(&a, 0).unwrap();
    let root = s.keys.users().into_iter().find(|u| u.uid == 0).unwrap();
    assert_eq!((root.keys.get(), root.bytes.get(), a.uid()), (1, 5, 0));
    assert_eq!(s.used(), (1, 1, 5 + 4));
    s.keys.set_limit("maxbytes", 10).unwrap();
    assert_eq!(s.keys.give(&a, OWN), Err(Errno::EDQUOT));
    assert_eq!((root.bytes.get(), a.uid()), (5, 0));
}

#[test]
fn a_ring_does_not_hold_itself() {
    let mut s = Sandbox::new();
    let top = s.keys.thread_ring(&mut s.who).unwrap();
    let a = s.ring(&top, "a");
    let b = s.ring(&a, "b");
    assert_eq!(a.link(&a), Err(Errno::EDEADLK));
    assert_eq!(b.link(&a), Err(Errno::EDEADLK));
    assert_eq!(b.link(&top), Err(Errno::EDEADLK));
    let before = s.used();
    assert_eq!(b.link(&top), Err(Errno::EDEADLK));
    assert_eq!(s.used(), before);
    // Another of the same name may be there.
    let other = s.ring(&top, "a");
    b.link(&other).unwrap();
}

#[test]
fn rings_nest_so_deep() {
    let mut s = Sandbox::new();
    let top = s.keys.thread_ring(&mut s.who).unwrap();
    let mut chain = vec![s.ring(&top, "0")];
    for i in 1..8 {
        chain.push(s.ring(chain.last().unwrap(), &i.to_string()));
    }
    let other = s.ring(&top, "other");
    assert_eq!(other.link(&chain[0]), Err(Errno::ELOOP));
    other.link(&chain[1]).unwrap();
    let k = s.on(&chain[7], Kind::User, "deep", b"1").unwrap();
    assert_eq!(s.seek(&chain[0], "deep"), Err(Errno::EAGAIN));
    assert_eq!(s.seek(&chain[1], "deep"), Ok(k.serial));
}

#[test]
fn a_long_chain_ends() {
    let mut s = Sandbox::new();
    s.keys.set_limit("maxkeys", 1000000).unwrap();
    s.keys.set_limit("maxbytes", 100000000).unwrap();
    let top = s.keys.thread_ring(&mut s.who).unwrap();
    let mut last = s.ring(&top, "r");
    for _ in 0..100_000 {
        last = s.ring(&last, "r");
    }
    drop(last);
    top.clear().unwrap();
    assert_eq!(s.used(), (1, 1, 5));
}

#[test]
fn a_wide_nest_is_searched_once() {
    let mut s = Sandbox::new();
    let top = s.keys.thread_ring(&mut s.who).unwrap();
    let mut above = vec![top.clone()];
    for level in 0..6 {
        let row: Vec<_> = (0..20).map(|i| s.ring(&above[0], &format!("{level}.{i}"))).collect();
        for up in &above[1..] {
            row.iter().for_each(|r| up.link(r).unwrap());
        }
        above = row;
    }
    // 64 million ways lead down.
    assert_eq!(s.seek(&top, "missing"), Err(Errno::EAGAIN));
    s.ring(&top, "apart").link(&s.ring(&top, "free")).unwrap();
}

#[test]
fn what_is_wrong_with_a_key_is_told() {
    let mut s = Sandbox::new();
    let ring = s.keys.thread_ring(&mut s.who).unwrap();
    let a = s.on(&ring, Kind::User, "a", b"1").unwrap();
    assert_eq!(s.seek(&ring, "a"), Ok(a.serial));
    assert_eq!(s.seek(&a, "a"), Err(Errno::ENOTDIR));
    a.set_perm(KEY_VIEW << KEY_USR);
    assert_eq!(s.seek(&ring, "a"), Err(Errno::EACCES));
    a.set_perm(KEY_ALL << KEY_POS);
    a.expire_at(Some(now() - 1));
    assert_eq!((s.seek(&ring, "a"), a.validate()), (Err(Errno::EKEYEXPIRED), Err(Errno::EKEYEXPIRED)));
    let all = |s: &Sandbox, make| s.keys.request(&s.who, Kind::User, b"a", make, None).map(|k| k.serial);
    assert_eq!(all(&s, false), Err(Errno::ENOKEY));
    a.update(vec![1]).unwrap();
    assert_eq!(all(&s, true), Ok(a.serial));
    a.revoke();
    assert_eq!((s.seek(&ring, "a"), a.validate()), (Err(Errno::EKEYREVOKED), Err(Errno::EKEYREVOKED)));
    ring.clear().unwrap();
    assert_eq!(all(&s, true), Err(Errno::ENOENT));
    assert_eq!(all(&s, true), Err(Errno::ENOKEY));
    let serial = ring.read().unwrap();
    let serial = i32::from_ne_bytes(serial.try_into().unwrap());
    assert_eq!(s.keys.find(&mut s.who, serial, false, Need::Search).unwrap_err(), Errno::ENOKEY);
    let negative = s.keys.find(&mut s.who, serial, false, Need::View).unwrap().key;
    assert!(negative.is_negative());
    s.on(&ring, Kind::User, "a", b"now").unwrap();
    assert_eq!(all(&s, true), Ok(serial));
}

#[test]
fn dead_keys_go() {
    let mut s = Sandbox::new();
    let ring = s.keys.thread_ring(&mut s.who).unwrap();
    let (_, _, bytes) = s.used();
    let a = s.on(&ring, Kind::User, "a", b"1").unwrap();
    s.on(&ring, Kind::User, "b", b"1").unwrap().expire_at(Some(now() - 299));
    s.on(&ring, Kind::User, "c", b"1").unwrap().expire_at(Some(now() - 300));
    s.keys.sweep();
    assert_eq!(ring.read().unwrap().len(), 8);
    s.keys.invalidate(&a);
    assert_eq!((ring.read().unwrap().len(), a.validate()), (4, Err(Errno::ENOKEY)));
    s.keys.set_limit("gc_delay", 5).unwrap();
    s.keys.sweep();
    drop(a);
    assert_eq!((ring.read().unwrap().len(), s.used().2), (0, bytes));
}

#[test]
fn rings_by_who_asks() {
    let mut s = Sandbox::new();
    let find = |s: &mut Sandbox, id, create| s.keys.find(&mut s.who, id, create, Need::Search).map(|r| r.key.serial);
    assert_eq!(find(&mut s, KEY_SPEC_THREAD_KEYRING, false), Err(Errno::ENOKEY));
    let thread = find(&mut s, KEY_SPEC_THREAD_KEYRING, true).unwrap();
    assert_eq!(find(&mut s, KEY_SPEC_THREAD_KEYRING, false), Ok(thread));
    let process = find(&mut s, KEY_SPEC_PROCESS_KEYRING, true).unwrap();
    let users = find(&mut s, KEY_SPEC_USER_SESSION_KEYRING, false).unwrap();
    assert_eq!(find(&mut s, KEY_SPEC_SESSION_KEYRING, false), Ok(users));
    let session = find(&mut s, KEY_SPEC_SESSION_KEYRING, true).unwrap();
    assert_ne!(session, users);
    assert_eq!(find(&mut s, -6, true), Err(Errno::EINVAL));
    assert_eq!(find(&mut s, 0, true), Err(Errno::EINVAL));
    let cred = Rc::new(s.who.clone());
    let second = s.keys.at_clone(cred.clone(), true).unwrap();
    assert_eq!(second.keys.process, cred.keys.process);
    assert_ne!(second.keys.thread.as_ref().map(|k| k.serial), Some(thread));
    let child = s.keys.at_clone(cred, false).unwrap();
    assert!(child.keys.thread.is_none() && child.keys.process.is_none());
    assert_eq!(child.keys.session.as_ref().map(|k| k.serial), Some(session));
    assert!(process != thread);
}

impl PartialEq for Key {
    fn eq(&self, o: &Key) -> bool {
        self.serial == o.serial
    }
}

/// Links, unlinks and clears at random: no ring ever holds itself, and at the end nothing counts.
#[test]
fn random_links() {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) as usize % n
    };
    for _ in 0..50 {
        let s = Sandbox::new();
        let mut rings: Vec<Rc<Key>> =
            (0..12).map(|i| s.keys.new_session(&mut who()).map(|r| (r, i)).unwrap().0).collect();
        for _ in 0..400 {
            let (a, b) = (random(rings.len()), random(rings.len()));
            match random(8) {
                0 => drop(rings[a].unlink(&rings[b])),
                1 => rings[a].clear().unwrap(),
                2 => drop(s.on(&rings[a], Kind::User, &b.to_string(), b"x")),
                3 => drop(s.on(&rings[a], Kind::Keyring, &b.to_string(), b"")),
                4 if a != b => drop(rings[a].move_to(&rings[b].clone(), &rings[(a + 1) % 12], random(2) == 0)),
                _ => drop(rings[a].link(&rings[b].clone())),
            }
            for r in &rings {
                assert!(!below(r).contains(&r.serial));
            }
            let bytes: usize = s.keys.all().iter().map(|k| k.desc.len() + 1 + k.reserved()).sum();
            assert_eq!(s.used(), (s.keys.all().len(), s.keys.all().len(), bytes));
            for r in s.keys.all().iter().filter(|k| k.kind == Kind::Keyring) {
                assert_eq!(r.reserved(), r.links.borrow().len() * 4);
            }
        }
        rings.clear();
        assert_eq!(s.used(), (0, 0, 0));
    }
}

fn below(ring: &Key) -> BTreeSet<i32> {
    let links: Vec<_> = ring.links.borrow().values().cloned().collect();
    links.iter().flat_map(|k| below(k).into_iter().chain([k.serial])).collect()
}

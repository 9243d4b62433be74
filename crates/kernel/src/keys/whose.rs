//! Whose rings are whose: thread-keyring(7), process-keyring(7), session-keyring(7), user-keyring(7),
//! user-session-keyring(7); and what is done on their behalf.
use super::key::New;
use super::ring::Index;
use super::{Key, Keys, Kind, NOBODY, Need, Query, Quota, Ref};
use crate::cred::Cred;
use crate::userns;
use abi::keys::*;
use abi::{Errno, Result};
use std::rc::Rc;

/// The rings in a thread's credentials.
#[derive(Debug, Clone, Default)]
pub struct Rings {
    pub thread: Option<Rc<Key>>,
    pub process: Option<Rc<Key>>,
    pub session: Option<Rc<Key>>,
    /// KEYCTL_SET_REQKEY_KEYRING.
    pub default: i32,
}

impl PartialEq for Rings {
    fn eq(&self, o: &Rings) -> bool {
        let same = |a: &Option<Rc<Key>>, b: &Option<Rc<Key>>| a.as_ref().map(Rc::as_ptr) == b.as_ref().map(Rc::as_ptr);
        same(&self.thread, &o.thread)
            && same(&self.process, &o.process)
            && same(&self.session, &o.session)
            && self.default == o.default
    }
}
impl Eq for Rings {}

impl Rings {
    /// What is left of them in a new process, and to a new program.
    pub fn passed_on(&self) -> Rings {
        Rings { thread: None, process: None, ..self.clone() }
    }

    /// The thread's own ring is owned by whom its thread has become.
    pub fn follow_ids(&self, old: &Cred, new: &Cred) {
        if let Some(ring) = &self.thread {
            let pick = |was: u32, is: u32, owner: u32| if was == is { owner } else { is };
            ring.own(pick(old.fsuid, new.fsuid, ring.uid()), pick(old.fsgid, new.fsgid, ring.gid()));
        }
    }
}

const POSSESSOR: u32 = KEY_ALL << KEY_POS;
const USERS_OWN: u32 = (KEY_ALL & !KEY_SETATTR) << KEY_POS | KEY_ALL << KEY_USR;
const REGISTER: u32 = (KEY_WRITE | KEY_SEARCH) << KEY_POS | (KEY_VIEW | KEY_READ) << KEY_USR;

impl Keys {
    fn ring(&self, who: &Cred, desc: &str, (uid, gid): (u32, u32), perm: u32, quota: Quota) -> Result<Rc<Key>> {
        let (kind, desc) = (Kind::Keyring, desc.as_bytes());
        self.make(who, New { kind, desc, uid, gid, perm, quota, of_user: false })
    }

    /// A ring that only its thread or process has.
    fn private(&self, who: &Cred, desc: &str) -> Result<Rc<Key>> {
        self.ring(who, desc, (who.ruid, who.rgid), POSSESSOR | KEY_VIEW << KEY_USR, Quota::Overrun)
    }

    pub fn thread_ring(&self, who: &mut Cred) -> Result<Rc<Key>> {
        if who.keys.thread.is_none() {
            who.keys.thread = Some(self.private(who, "_tid")?);
        }
        who.keys.thread.clone().ok_or(Errno::ENOKEY)
    }

    pub fn process_ring(&self, who: &mut Cred) -> Result<Rc<Key>> {
        if who.keys.process.is_none() {
            who.keys.process = Some(self.private(who, "_pid")?);
        }
        who.keys.process.clone().ok_or(Errno::ENOKEY)
    }

    /// KEYCTL_JOIN_SESSION_KEYRING without a name: a ring that nobody else has. EDQUOT
    pub fn new_session(&self, who: &mut Cred) -> Result<Rc<Key>> {
        let perm = POSSESSOR | (KEY_VIEW | KEY_READ) << KEY_USR;
        let quota = if who.keys.session.is_some() { Quota::Heeded } else { Quota::Overrun };
        let ring = self.ring(who, "_ses", (who.ruid, who.rgid), perm, quota)?;
        who.keys.session = Some(ring.clone());
        Ok(ring)
    }

    /// The same with a name: that of a ring which the caller may search, or a new one. True: it was the caller's already.
    /// EINVAL EDQUOT
    pub fn join_session(&self, who: &mut Cred, name: &[u8]) -> Result<(Rc<Key>, bool)> {
        let ring = match self.by_name(who, name) {
            Some(ring) => ring,
            None => {
                let perm = POSSESSOR | (KEY_VIEW | KEY_READ | KEY_LINK) << KEY_USR;
                let (uid, gid, quota) = (who.ruid, who.rgid, Quota::Heeded);
                self.make(who, New { kind: Kind::Keyring, desc: name, uid, gid, perm, quota, of_user: false })?
            }
        };
        let had = who.keys.session.replace(ring.clone()).is_some_and(|s| Rc::ptr_eq(&s, &ring));
        Ok((ring, had))
    }

    fn by_name(&self, who: &Cred, name: &[u8]) -> Option<Rc<Key>> {
        let fits = |k: &Rc<Key>| {
            k.kind == Kind::Keyring
                && k.home == who.user_ns.ino
                && *k.desc == *name
                && !k.revoked()
                && k.permission(false, who, Need::Search).is_ok()
        };
        self.all().into_iter().filter(fits).min_by_key(|k| k.nth)
    }

    /// The ring of a user's, and that for its sessions. They are made when they are first asked for. EDQUOT EKEYREVOKED
    /// EKEYEXPIRED EACCES
    pub fn user_rings(&self, who: &Cred) -> Result<(Rc<Key>, Rc<Key>)> {
        let ns = &who.user_ns;
        let register = {
            let mut held = ns.keys.borrow_mut();
            if held.is_none() {
                let owner = (ns.owner, NOBODY);
                *held = Some(self.ring(who, ".user_reg", owner, REGISTER, Quota::Heeded)?);
            }
            held.clone().ok_or(Errno::ENOKEY)?
        };
        let (own, session) = names(who);
        let user = match find_in(&register, who, &own) {
            Err(Errno::EAGAIN) => {
                let ring = self.users_own(who, &own)?;
                register.link(&ring)?;
                ring
            }
            found => found?,
        };
        let session = match find_in(&register, who, &session) {
            Err(Errno::EAGAIN) => {
                let ring = self.users_own(who, &session)?;
                ring.link(&user)?;
                register.link(&ring)?;
                ring
            }
            found => found?,
        };
        Ok((user, session))
    }

    fn users_own(&self, who: &Cred, desc: &str) -> Result<Rc<Key>> {
        let (kind, desc, quota) = (Kind::Keyring, desc.as_bytes(), Quota::Heeded);
        self.make(who, New { kind, desc, uid: who.ruid, gid: NOBODY, perm: USERS_OWN, quota, of_user: true })
    }

    /// A key by its serial number, or a ring by its name of KEY_SPEC_…; `create`: a ring that is not there is made.
    /// EINVAL ENOKEY EKEYREVOKED EKEYEXPIRED EACCES EDQUOT
    pub fn find(&self, who: &mut Cred, id: i32, create: bool, need: Need) -> Result<Ref> {
        let found = if id < 1 {
            Ref { key: self.special(who, id, create)?, possessed: true }
        } else {
            let key = self.by_serial(id)?;
            let possessed = self.possesses(who, &key);
            Ref { key, possessed }
        };
        match need {
            Need::Unlink | Need::Deferred => return Ok(found),
            _ if found.key.is_negative() && !need.negative_too() => return Err(Errno::ENOKEY),
            _ => found.key.validate()?,
        }
        found.permission(who, need)?;
        Ok(found)
    }

    fn special(&self, who: &mut Cred, id: i32, create: bool) -> Result<Rc<Key>> {
        match id {
            KEY_SPEC_THREAD_KEYRING if create => self.thread_ring(who),
            KEY_SPEC_THREAD_KEYRING => who.keys.thread.clone().ok_or(Errno::ENOKEY),
            KEY_SPEC_PROCESS_KEYRING if create => self.process_ring(who),
            KEY_SPEC_PROCESS_KEYRING => who.keys.process.clone().ok_or(Errno::ENOKEY),
            KEY_SPEC_SESSION_KEYRING => self.session(who, create),
            KEY_SPEC_USER_KEYRING => self.user_rings(who).map(|r| r.0),
            KEY_SPEC_USER_SESSION_KEYRING => self.user_rings(who).map(|r| r.1),
            // There is no program that makes keys, so nobody acts for another.
            KEY_SPEC_REQKEY_AUTH_KEY | KEY_SPEC_REQUESTOR_KEYRING => Err(Errno::ENOKEY),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Who has no session's ring gets the user's, or one that may be written to.
    fn session(&self, who: &mut Cred, create: bool) -> Result<Rc<Key>> {
        match &who.keys.session {
            Some(ring) if !(ring.of_user && create) => Ok(ring.clone()),
            Some(_) => self.new_session(who),
            None => {
                let (_, users) = self.user_rings(who)?;
                if create {
                    return self.new_session(who);
                }
                who.keys.session = Some(users.clone());
                Ok(users)
            }
        }
    }

    /// Does the caller find the key on its own rings?
    pub fn possesses(&self, who: &Cred, key: &Key) -> bool {
        self.search_own(who, &Query::exactly(key)).is_ok()
    }

    /// Searches the rings of a thread, its process and session. EAGAIN: it is on none that may be searched; ENOKEY: it is
    /// negative; else what kept the last ring from being searched, or a key from being found.
    fn search_own(&self, who: &Cred, query: &Query) -> Result<Ref> {
        let rings = &who.keys;
        let session = rings.session.clone().or_else(|| users_session(who));
        let (mut missing, mut error) = (None, Errno::EAGAIN);
        for key in [&rings.thread, &rings.process, &session].into_iter().flatten() {
            match (Ref { key: key.clone(), possessed: true }).search(who, query) {
                Ok(found) => return Ok(found),
                Err(e @ (Errno::EAGAIN | Errno::ENOKEY)) if missing.is_none() || e == Errno::ENOKEY => {
                    missing = Some(e)
                }
                Err(Errno::EAGAIN) => {}
                Err(e) => error = e,
            }
        }
        Err(missing.unwrap_or(error))
    }

    /// add_key(2): a new key on `ring`, or new contents of the one that is there. ENOTDIR EINVAL EKEYREVOKED EDQUOT EPERM
    /// EACCES ENOMEM
    pub fn add(&self, who: &Cred, ring: &Ref, kind: Kind, desc: &[u8], data: Vec<u8>) -> Result<Rc<Key>> {
        if ring.key.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        kind.counts(data.len())?;
        if desc.is_empty() {
            return Err(Errno::EINVAL);
        }
        let index = Index { kind, desc: desc.into() };
        let new = ring.key.begin_link(&index)?;
        let kept = || ring.key.cancel_link(new);
        ring.key.admits().inspect_err(|_| kept())?;
        let old = ring.key.links.borrow().get(&index).cloned();
        if let Some(key) = old.filter(|k| kind.updatable() && !k.invalid() && !k.revoked()) {
            key.permission(ring.possessed, who, Need::Write)?;
            key.update(data)?;
            return Ok(key);
        }
        let key = self.own(who, kind, desc).inspect_err(|_| kept())?;
        key.fill(data).inspect_err(|_| kept())?;
        ring.key.put(&key);
        Ok(key)
    }

    fn own(&self, who: &Cred, kind: Kind, desc: &[u8]) -> Result<Rc<Key>> {
        let (uid, gid, perm) = (who.fsuid, who.fsgid, kind.default_perm());
        self.make(who, New { kind, desc, uid, gid, perm, quota: Quota::Heeded, of_user: false })
    }

    /// request_key(2): a key of the caller's, which is linked to `dest` if that is given. `make`: where there is none, the
    /// program that makes keys is asked, as Linux does. There is no such program: ENOENT, and until the negative key that
    /// then stands there expires ENOKEY.
    pub fn request(&self, who: &Cred, kind: Kind, desc: &[u8], make: bool, dest: Option<&Rc<Key>>) -> Result<Rc<Key>> {
        let query = Query { over_expired: true, ..Query::new(kind, desc) };
        match self.search_own(who, &query) {
            Ok(found) => {
                if let Some(ring) = dest {
                    found.permission(who, Need::Link)?;
                    ring.link(&found.key)?;
                }
                Ok(found.key)
            }
            Err(Errno::EAGAIN) if make => Err(self.ask(who, kind, desc, dest).err().unwrap_or(Errno::ENOENT)),
            Err(Errno::EAGAIN) => Err(Errno::ENOKEY),
            Err(e) => Err(e),
        }
    }

    /// Puts the answer that there is no such key where the key would be. EPERM EACCES EDQUOT EINVAL
    fn ask(&self, who: &Cred, kind: Kind, desc: &[u8], dest: Option<&Rc<Key>>) -> Result {
        if kind == Kind::Keyring {
            return Err(Errno::EPERM);
        }
        let ring = match dest {
            Some(ring) => ring.clone(),
            None => self.default_ring(who)?,
        };
        let key = self.own(who, kind, desc)?;
        ring.begin_link(&key.index())?;
        ring.put(&key);
        key.negate();
        self.user_rings(who).map(drop)
    }

    /// KEYCTL_SET_REQKEY_KEYRING: the first of the rings from there on that the caller has, and may write to.
    fn default_ring(&self, who: &Cred) -> Result<Rc<Key>> {
        let from = match who.keys.default {
            KEY_REQKEY_DEFL_REQUESTOR_KEYRING => KEY_REQKEY_DEFL_DEFAULT,
            n => n,
        };
        let rings = [
            (&who.keys.thread, KEY_REQKEY_DEFL_THREAD_KEYRING),
            (&who.keys.process, KEY_REQKEY_DEFL_PROCESS_KEYRING),
            (&who.keys.session, KEY_REQKEY_DEFL_SESSION_KEYRING),
        ];
        let ring = match rings.into_iter().find_map(|(ring, n)| ring.clone().filter(|_| from <= n)) {
            Some(ring) => ring,
            None if from == KEY_REQKEY_DEFL_USER_KEYRING => self.user_rings(who)?.0,
            None => self.user_rings(who)?.1,
        };
        ring.permission(true, who, Need::Write)?;
        Ok(ring)
    }

    /// The credentials of a new thread, or of a new process's first.
    pub fn at_clone(&self, cred: Rc<Cred>, thread: bool) -> Result<Rc<Cred>> {
        if cred.keys.thread.is_none() && (thread || cred.keys.process.is_none()) {
            return Ok(cred);
        }
        let mut new = Cred::clone(&cred);
        if !thread {
            new.keys = cred.keys.passed_on();
            return Ok(Rc::new(new));
        }
        new.keys.thread = None;
        self.thread_ring(&mut new)?;
        Ok(Rc::new(new))
    }
}

/// What the rings of a user are called.
fn names(who: &Cred) -> (String, String) {
    let uid = who.user_ns.outward(userns::Kind::User, who.ruid).unwrap_or(u32::MAX);
    (format!("_uid.{uid}"), format!("_uid_ses.{uid}"))
}

fn find_in(register: &Rc<Key>, who: &Cred, name: &str) -> Result<Rc<Key>> {
    let register = Ref { key: register.clone(), possessed: true };
    let query = Query { recursive: false, ..Query::new(Kind::Keyring, name.as_bytes()) };
    register.search(who, &query).map(|found| found.key)
}

/// The user's ring for sessions, if it is there.
fn users_session(who: &Cred) -> Option<Rc<Key>> {
    let register = who.user_ns.keys.borrow().clone()?;
    find_in(&register, who, &names(who).1).ok()
}

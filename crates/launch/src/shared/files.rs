//! File rules as Landlock has them. Landlock knows only what is allowed, to an inode and to all below it, so a file with
//! fewer rights than its surroundings is left out by naming everything around it: along its path every directory gets only
//! the rights that all below it have, and each other entry its own. What comes into such a directory later has the
//! directory's rights: too few rather than too many.
use super::{glob, root};
use crate::error::{Context, Failure};
use crate::proc::Proc;
use host::landlock::{self, Ruleset};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatxFlags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wire::shared::{EXECUTE, FileRule, READ, SharedSpec, WRITE};

const ALL: u8 = READ | WRITE | EXECUTE;
/// TRUNCATE is of version 3.
const OLDEST: u32 = 3;

/// What is handled: listing a directory only where not everybody may.
fn handled(default: u8) -> u64 {
    let list = if default & READ == 0 { landlock::READ_DIR } else { 0 };
    of_directory(ALL) & !landlock::READ_DIR | list
}

fn of_file(access: u8) -> u64 {
    [(READ, landlock::READ_FILE), (WRITE, landlock::WRITE_FILE | landlock::TRUNCATE), (EXECUTE, landlock::EXECUTE)]
        .iter()
        .filter(|(bit, _)| access & bit != 0)
        .fold(0, |all, (_, rights)| all | rights)
}

fn of_directory(access: u8) -> u64 {
    let list = if access & READ != 0 { landlock::READ_DIR } else { 0 };
    let change = if access & WRITE != 0 { landlock::CHANGE_DIR } else { 0 };
    of_file(access) | list | change
}

/// A name on the way to something a rule is for.
#[derive(Debug, Default)]
struct Node {
    below: BTreeMap<std::ffi::OsString, Node>,
    /// For this file, and for this directory and all below it: indices of rules.
    here: Vec<usize>,
    subtree: Vec<usize>,
}

/// What rules are for, by path: indices of rules.
struct Found {
    tree: Node,
    /// Of /proc.
    mounts: BTreeMap<PathBuf, Vec<usize>>,
}

/// The ruleset; None if the rules say nothing. Called in the container's root. Rules that Landlock cannot say, in /proc,
/// are made of mounts here.
pub fn ruleset(spec: &SharedSpec, proc: &Proc) -> Result<Option<Ruleset>, Failure> {
    if spec.default_access == ALL && spec.file_rules.is_empty() {
        return Ok(None);
    }
    let found = look_up(spec.file_rules.iter(), 0, proc)?;
    for (path, rules) in &found.mounts {
        in_proc(path, access(spec, rules.iter().copied()))?;
    }
    build(spec, &found.tree).map(Some)
}

/// The ruleset of `after` for a container whose rules so far are those of `before`: both will hold. None: nothing that is
/// there has other rights. What would have more is refused, as no rule is ever taken away.
pub fn narrower(before: &SharedSpec, after: &SharedSpec, proc: &Proc) -> Result<Option<Ruleset>, Failure> {
    let split = before.file_rules.len();
    let found = look_up(before.file_rules.iter().chain(&after.file_rules), split, proc)?;
    let mut compared = Compared { before, after, differs: false, wider: Vec::new() };
    for (path, rules) in &found.mounts {
        let (old, new) = compared.both(rules);
        if (old ^ new) & (READ | WRITE) != 0 {
            let name = path.display();
            return Err(Failure::new(format!("file rule {name}: in /proc a rule is a mount, made at the start")));
        }
    }
    compared.walk(Path::new("/"), &found.tree, &mut Vec::new());
    if !compared.wider.is_empty() {
        const MOST: usize = 20;
        let more = compared.wider.len().saturating_sub(MOST);
        compared.wider.truncate(MOST);
        let and = if more > 0 { format!("\n… and {more} more") } else { String::new() };
        return Err(Failure::new(format!(
            "rules on files that a program is behind stay, and others can only be added:\n{}{and}",
            compared.wider.join("\n")
        )));
    }
    if !compared.differs {
        return Ok(None);
    }
    build(after, &look_up(after.file_rules.iter(), 0, proc)?.tree).map(Some)
}

/// Two sets of rules side by side; the indices of the second's follow those of the first's.
struct Compared<'a> {
    before: &'a SharedSpec,
    after: &'a SharedSpec,
    differs: bool,
    wider: Vec<String>,
}

impl Compared<'_> {
    fn both(&self, rules: &[usize]) -> (u8, u8) {
        let split = self.before.file_rules.len();
        let (old, new): (Vec<usize>, Vec<usize>) = rules.iter().partition(|&&rule| rule < split);
        (access(self.before, old.into_iter()), access(self.after, new.iter().map(|rule| rule - split)))
    }

    fn walk(&mut self, path: &Path, node: &Node, above: &mut Vec<usize>) {
        let depth = above.len();
        above.extend(&node.subtree);
        for rules in [above.clone(), above.iter().chain(&node.here).copied().collect()] {
            let (old, new) = self.both(&rules);
            self.differs |= old != new;
            let line = format!("  {}: {} now, would be {}", path.display(), letters(old), letters(new));
            if new & !old != 0 && self.wider.last() != Some(&line) {
                self.wider.push(line);
            }
        }
        for (name, below) in &node.below {
            self.walk(&path.join(name), below, above);
        }
        above.truncate(depth);
    }
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (EXECUTE, 'x')].map(|(bit, c)| if access & bit != 0 { c } else { '-' }).iter().collect()
}

/// Of the first `old` rules the paths may be gone by now.
fn look_up<'a>(rules: impl Iterator<Item = &'a FileRule>, old: usize, proc: &Proc) -> Result<Found, Failure> {
    let version = landlock::version().context("file rules need Landlock (security=landlock)")?;
    if version < OLDEST {
        return Err(Failure::new(format!("file rules need Landlock version {OLDEST}, Linux 6.2: this is {version}")));
    }
    let mut tree = Node::default();
    let mut mounts = Vec::new();
    let mut exact = HashMap::new();
    for (index, rule) in rules.enumerate() {
        let paths = match resolve(rule) {
            Err(_) if index < old => continue,
            paths => paths?,
        };
        for path in paths {
            add(&mut tree, &mut mounts, &mut exact, &path, index, rule)?;
        }
    }
    for (path, indices) in aliases(&exact, proc)? {
        node(&mut tree, &path).here.extend(indices);
    }
    Ok(Found { tree, mounts: merge(mounts) })
}

fn build(spec: &SharedSpec, tree: &Node) -> Result<Ruleset, Failure> {
    let handled = handled(spec.default_access);
    let ruleset = Ruleset::new(handled).context("landlock_create_ruleset")?;
    let builder = Builder { spec, ruleset, handled };
    builder.emit(Path::new("/"), tree, &mut Vec::new())?;
    Ok(builder.ruleset)
}

/// Where the rule's path leads, links followed.
fn resolve(rule: &FileRule) -> Result<Vec<PathBuf>, Failure> {
    if glob::is_pattern(&rule.path) {
        let found = glob::expand(whole(&rule.path).unwrap_or(&rule.path))
            .ok_or_else(|| Failure::new(format!("file rule {}: it stands for too many files", rule.path)))?;
        // A name that is gone again, or leads nowhere, is no file.
        let mut directories = HashMap::new();
        return Ok(found.iter().filter_map(|path| canonical_in(path, &mut directories).ok()).collect());
    }
    let path = canonical(Path::new(&rule.path));
    Ok(vec![path.context(&format!("file rule {}", rule.path))?])
}

/// The directory of a pattern that stands for all below it: that is a subtree, and its files need not be named.
fn whole(pattern: &str) -> Option<&str> {
    pattern.strip_suffix("/**").map(|directory| if directory.is_empty() { "/" } else { directory })
}

/// The same for many in few directories.
fn canonical_in(path: &Path, directories: &mut HashMap<PathBuf, PathBuf>) -> std::io::Result<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return canonical(path) };
    if path.symlink_metadata()?.is_symlink() {
        return canonical(path);
    }
    if let Some(known) = directories.get(directory) {
        return Ok(known.join(name));
    }
    let known = canonical(directory)?;
    directories.insert(directory.to_owned(), known.clone());
    Ok(known.join(name))
}

fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    path.canonicalize()
}

fn node<'a>(tree: &'a mut Node, path: &Path) -> &'a mut Node {
    path.iter().skip(1).fold(tree, |at, name| at.below.entry(name.to_owned()).or_default())
}

fn add(
    tree: &mut Node,
    mounts: &mut Vec<(PathBuf, usize)>,
    exact: &mut HashMap<(u64, u64), (PathBuf, Vec<usize>)>,
    path: &Path,
    index: usize,
    rule: &FileRule,
) -> Result<(), Failure> {
    let name = &rule.path;
    let fd = match open(path) {
        Ok(fd) => fd,
        // Gone since it was listed.
        Err(_) if glob::is_pattern(name) && path.symlink_metadata().is_err() => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let stat = rustix::fs::fstat(&fd).context(name)?;
    let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    let whole = whole(name).is_some();
    if whole && !directory {
        return Ok(());
    }
    if directory && !rule.subtree && !whole {
        // A pattern takes what it finds; whoever names a directory means one.
        return match glob::is_pattern(name) {
            true => Ok(()),
            false => Err(Failure::new(format!("file rule {name}: it is a directory: the rule needs subtree"))),
        };
    }
    if rustix::fs::fstatfs(&fd).context(name)?.f_type == root::PROC_MAGIC {
        mounts.push((path.to_owned(), index));
        return Ok(());
    }
    if directory {
        node(tree, path).subtree.push(index);
        return Ok(());
    }
    let entry = exact.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| (path.to_owned(), Vec::new()));
    if !entry.1.contains(&index) {
        entry.1.push(index);
    }
    let here = &mut node(tree, path).here;
    if !here.contains(&index) {
        here.push(index);
    }
    Ok(())
}

fn merge(list: Vec<(PathBuf, usize)>) -> BTreeMap<PathBuf, Vec<usize>> {
    let mut merged: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (path, index) in list {
        merged.entry(path).or_default().push(index);
    }
    merged
}

/// What these rules together leave.
fn access(spec: &SharedSpec, rules: impl Iterator<Item = usize> + Clone) -> u8 {
    let each = || rules.clone().map(|i| &spec.file_rules[i]);
    let said = each().filter_map(|r| r.allow).reduce(|a, b| a | b).unwrap_or(spec.default_access);
    each().fold(said, |left, r| left & !r.deny)
}

/// Processes come and go in /proc, so nothing there can be left out by naming the rest: a mount hides it instead.
fn in_proc(path: &Path, access: u8) -> Result<(), Failure> {
    let name = path.to_string_lossy();
    let directory = path.is_dir();
    let of_process = path.iter().nth(2).is_some_and(|n| n.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    match access & (READ | WRITE) {
        both if both == READ | WRITE => Ok(()),
        _ if of_process => {
            Err(Failure::new(format!("file rule {name}: processes come and go, a rule on one stays behind")))
        }
        READ => root::read_only(&name),
        0 if directory => root::mask(&name),
        0 => root::forbid(&name),
        _ => Err(Failure::new(format!("file rule {name}: writing without reading cannot be kept to in /proc"))),
    }
}

/// Other names of the files that have rules: hard links, and names in other mounts of the same file system.
fn aliases(
    exact: &HashMap<(u64, u64), (PathBuf, Vec<usize>)>,
    proc: &Proc,
) -> Result<Vec<(PathBuf, Vec<usize>)>, Failure> {
    let table = proc.read("self/mountinfo")?;
    let mounts = mounts(&table);
    let mut wanted: HashMap<&str, HashSet<(u64, u64)>> = HashMap::new();
    for (&key, (path, _)) in exact {
        let fd = match open(path) {
            Ok(fd) => fd,
            Err(_) if path.symlink_metadata().is_err() => continue,
            Err(failure) => return Err(failure),
        };
        let stat = rustix::fs::statx(&fd, "", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::NLINK | StatxFlags::MNT_ID);
        let stat = stat.context(&path.to_string_lossy())?;
        let device = mounts.iter().find(|m| m.id == stat.stx_mnt_id).map_or("", |m| m.device);
        let elsewhere = mounts.iter().filter(|m| m.device == device).count() > 1;
        if stat.stx_nlink > 1 || elsewhere {
            wanted.entry(device).or_default().insert(key);
        }
    }
    let mut found = Vec::new();
    for mount in &mounts {
        let Some(keys) = wanted.get(mount.device) else { continue };
        let Ok(top) = mount.point.symlink_metadata() else { continue };
        let mut add = |path: &Path, key| {
            if let Some((first, rules)) = exact.get(&key)
                && first != path
            {
                found.push((path.to_owned(), rules.clone()));
            }
        };
        if top.is_dir() {
            search(&mount.point, top.dev(), keys, &mut add);
        } else if keys.contains(&(top.dev(), top.ino())) {
            add(&mount.point, (top.dev(), top.ino()));
        }
    }
    Ok(found)
}

struct Mount<'a> {
    id: u64,
    device: &'a str,
    point: PathBuf,
}

/// The lines of mountinfo, proc_pid_mountinfo(5).
fn mounts(table: &str) -> Vec<Mount<'_>> {
    let one = |line| {
        let mut words = str::split(line, ' ');
        let (id, device) = (words.next()?.parse().ok()?, words.nth(1)?);
        Some(Mount { id, device, point: unescape(words.nth(1)?).into() })
    };
    table.lines().filter_map(one).collect()
}

/// Blanks and the like are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                plain.extend_from_slice(&part.as_bytes()[3..]);
            }
            None => plain.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Below one mount, without those in it: all its directories are of one device.
fn search(at: &Path, device: u64, wanted: &HashSet<(u64, u64)>, found: &mut impl FnMut(&Path, (u64, u64))) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let Some(meta) = (kind.is_dir() || kind.is_file()).then(|| path.symlink_metadata().ok()).flatten() else {
            continue;
        };
        if kind.is_dir() {
            if meta.dev() == device {
                search(&path, device, wanted, found);
            }
        } else if wanted.contains(&(meta.dev(), meta.ino())) {
            found(&path, (meta.dev(), meta.ino()));
        }
    }
}

struct Builder<'a> {
    spec: &'a SharedSpec,
    ruleset: Ruleset,
    handled: u64,
}

impl Builder<'_> {
    /// `above`: the subtree rules of the directories above.
    fn emit(&self, path: &Path, node: &Node, above: &mut Vec<usize>) -> Result<(), Failure> {
        let depth = above.len();
        above.extend(&node.subtree);
        let own = access(self.spec, above.iter().copied());
        if node.below.is_empty() {
            let all = access(self.spec, above.iter().chain(&node.here).copied());
            self.allow(path, all)?;
        } else {
            let least = self.least(node, above);
            self.allow(path, least)?;
            if own & !least != 0 {
                // What is gone by now nobody has a right to.
                for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                    if !node.below.contains_key(&entry.file_name()) {
                        self.allow(&entry.path(), own)?;
                    }
                }
            }
            for (name, below) in &node.below {
                self.emit(&path.join(name), below, above)?;
            }
        }
        above.truncate(depth);
        Ok(())
    }

    /// The rights that everything at and below the node has.
    fn least(&self, node: &Node, above: &[usize]) -> u8 {
        let mut rules = above.to_vec();
        rules.extend(&node.here);
        let own = access(self.spec, rules.iter().copied());
        node.below.values().fold(own, |least, below| {
            let mut rules = above.to_vec();
            rules.extend(&below.subtree);
            least & self.least(below, &rules)
        })
    }

    fn allow(&self, path: &Path, access: u8) -> Result<(), Failure> {
        let name = path.to_string_lossy();
        let fd = match open(path) {
            Ok(fd) => fd,
            // Gone since it was listed: nobody has a right to it.
            Err(_) if path.symlink_metadata().is_err() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).context(&name)?.st_mode);
        if kind.is_symlink() {
            // What it leads to has rights of its own.
            return Ok(());
        }
        let rights = if kind.is_dir() { of_directory(access) } else { of_file(access) };
        self.ruleset.allow(fd.as_fd(), rights & self.handled).context(&format!("file rule for {name}"))
    }
}

/// The file itself, not what a link leads to.
fn open(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).context(&path.to_string_lossy())
}

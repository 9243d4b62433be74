//! Patterns of paths: `*` within a name, `**` across names, `?`, `[abc]`, `[^abc]`, `{a,b}`.
use std::path::{Path, PathBuf};

/// More than any honest pattern stands for.
const MOST: usize = 100_000;

pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// What there is now that fits, links not followed for `**`. None: too many.
pub fn expand(pattern: &str) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    for one in braces(pattern)? {
        let names: Vec<&str> = one.split('/').filter(|n| !n.is_empty()).collect();
        walk(Path::new("/"), &names, &mut found)?;
    }
    found.sort();
    found.dedup();
    Some(found)
}

/// Without braces.
fn braces(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut left = vec![pattern.to_string()];
    while let Some(one) = left.pop() {
        // The first closing brace belongs to the last one opened before it.
        let pair = one.find('}').and_then(|end| one[..end].rfind('{').map(|start| (start, end)));
        match pair {
            Some((start, end)) => {
                let words = one[start + 1..end].split(',');
                left.extend(words.map(|word| format!("{}{word}{}", &one[..start], &one[end + 1..])));
            }
            None => done.push(one),
        }
        if done.len() + left.len() > MOST {
            return None;
        }
    }
    // Inner braces are opened first, so what stands beside them comes once for each of theirs.
    done.sort();
    done.dedup();
    Some(done)
}

fn walk(at: &Path, names: &[&str], found: &mut Vec<PathBuf>) -> Option<()> {
    let Some((name, rest)) = names.split_first() else {
        if at.symlink_metadata().is_ok() {
            found.push(at.to_owned());
        }
        return (found.len() <= MOST).then_some(());
    };
    if !is_pattern(name) {
        return walk(&at.join(name), rest, found);
    }
    let deep = name.contains("**");
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        // In /proc links lead to processes, which come and go; what is meant there is named itself.
        let of_process = at.starts_with("/proc") && kind.is_symlink();
        let leads_on = rest.is_empty() || kind.is_dir() || kind.is_symlink();
        if leads_on && !of_process && fits(name.as_bytes(), entry.file_name().as_encoded_bytes()) {
            match rest {
                // It has just been seen.
                [] => found.push(entry.path()),
                rest => walk(&entry.path(), rest, found)?,
            }
        }
        if deep && kind.is_dir() {
            walk(&entry.path(), names, found)?;
        }
    }
    (found.len() <= MOST).then_some(())
}

/// Whether a name fits a pattern. Every wildcard is tried with the fewest letters first, and only the last one again, so
/// that no pattern takes longer than the product of the two lengths.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(&letter) if letter == name[n] => Some(1),
            _ => None,
        };
        match (step, again) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, from))) => {
                again = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&letter| letter == b'*')
}

/// The length of the class the pattern begins with, if the letter is in it.
fn class(pattern: &[u8], letter: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|&b| b == b']')? + 2;
    let (negated, set) = match &pattern[1..end] {
        [b'^' | b'!', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut i = 0;
    let mut inside = false;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == b'-' {
            inside |= (set[i]..=set[i + 2]).contains(&letter);
            i += 3;
        } else {
            inside |= set[i] == letter;
            i += 1;
        }
    }
    (inside != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("[^k]*", "mem", true),
            ("[^k]*", "kcore", false),
            ("[a-c]x", "bx", true),
            ("*.*.*", "a.b", false),
            ("", "", true),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn alternatives() {
        let all = braces("/{a,b{c,d}}/x").expect("few");
        assert_eq!(all, ["/a/x", "/bc/x", "/bd/x"]);
        assert!(braces(&"{a,b}".repeat(30)).is_none());
    }

    #[test]
    fn slow_patterns_are_not_slow() {
        let name = "a".repeat(200);
        assert!(!fits("a*".repeat(60).as_bytes(), format!("{name}b").replace('a', "c").as_bytes()));
        assert!(!fits(format!("{}b", "a*".repeat(60)).as_bytes(), name.as_bytes()));
    }
}

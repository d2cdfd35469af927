//! Trees of `/sys` and `/proc` as one text each, unfolded into a directory.
//!
//! `PATH = TEXT` is a file of one line (`\n` in it is a new one, and an empty text an empty file), `PATH -> TARGET` a link, `PATH/` a directory;
//! `#` begins a comment. Numbers in braces repeat a line: with `{0-3}` it stands for four, and `{}`, `{+8}` or `{-8}` behind it is each number,
//! changed by as much. `include NAME` takes in another text; what stands later replaces what was said of the same path, and `PATH ~` removes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines that one repeated line may make.
const REPEATS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File(String),
    Link(String),
    Directory,
}

/// The entries of a text; `load` gives what it includes.
pub fn read(text: &str, load: &dyn Fn(&str) -> String) -> BTreeMap<String, Entry> {
    let mut tree = BTreeMap::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("include ") {
            tree.extend(read(&load(name), load));
            continue;
        }
        for line in repeated(line) {
            if let Some(path) = line.strip_suffix(" ~") {
                let below = format!("{path}/");
                tree.retain(|other: &String, _| other != path && !other.starts_with(&below));
            } else {
                let (path, entry) = entry(&line);
                tree.insert(path, entry);
            }
        }
    }
    tree
}

fn entry(line: &str) -> (String, Entry) {
    let (path, entry) = match (line.split_once(" -> "), line.split_once(" =")) {
        (Some((path, target)), _) if !path.contains(" =") => (path, Entry::Link(target.to_string())),
        (_, Some((path, text))) => {
            let text = text.strip_prefix(' ').unwrap_or(text).replace("\\n", "\n").replace("\\t", "\t");
            (path, Entry::File(text + "\n"))
        }
        _ => (line.strip_suffix('/').unwrap_or_else(|| panic!("{line}: no entry of a tree")), Entry::Directory),
    };
    assert!(!path.starts_with('/') && !path.contains(".."), "{path}: it must stay in the tree");
    (path.to_string(), entry)
}

/// The lines that a line stands for.
fn repeated(line: &str) -> Vec<String> {
    let Some((before, rest)) = line.split_once('{') else { return vec![line.to_string()] };
    let (range, after) = rest.split_once('}').unwrap_or_else(|| panic!("{line}: a brace is open"));
    let (first, last) = range.split_once('-').unwrap_or_else(|| panic!("{line}: {range} is no range"));
    let (first, last): (i64, i64) = (first.parse().expect("a number"), last.parse().expect("a number"));
    assert!(first <= last && last - first < REPEATS_MAX as i64, "{line}: {range} is no range");
    (first..=last).map(|number| format!("{before}{number}{}", filled(after, number))).collect()
}

fn filled(text: &str, number: i64) -> String {
    let mut parts = text.split('{');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (change, after) = part.split_once('}').unwrap_or_else(|| panic!("{text}: a brace is open"));
        let change: i64 = if change.is_empty() { 0 } else { change.parse().expect("a number with its sign") };
        out += &format!("{}{after}", number + change);
    }
    out
}

/// A directory that goes when it is dropped.
pub struct Unfolded(pub PathBuf);

impl Drop for Unfolded {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes the entries below a new directory of this name.
pub fn unfold(tree: &BTreeMap<String, Entry>, name: &str) -> Unfolded {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tune-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&top);
    std::fs::create_dir_all(&top).expect("a scratch directory");
    for (path, entry) in tree {
        let full = top.join(path);
        let parent = full.parent().expect("it is below the top");
        std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{path}: {error}"));
        let made = match entry {
            Entry::File(text) => std::fs::write(&full, text),
            Entry::Link(target) => std::os::unix::fs::symlink(target, &full),
            Entry::Directory => std::fs::create_dir_all(&full),
        };
        made.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    Unfolded(top)
}

#[test]
fn a_line_stands_for_many() {
    assert_eq!(repeated("a{0-1}/b = {},{+8}"), ["a0/b = 0,8", "a1/b = 1,9"]);
    let load = |_: &str| "a = 1\nb/c = 2\nb/d -> ../a\n".to_string();
    let tree = read("include x\nb ~\na = 3\\n4\n# no\ne =\n", &load);
    let file = |text: &str| Entry::File(text.to_string());
    assert_eq!(tree.into_iter().collect::<Vec<_>>(), [("a".into(), file("3\n4\n")), ("e".into(), file("\n"))]);
}

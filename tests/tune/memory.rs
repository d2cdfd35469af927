//! A host in memory that fails where it is told to: a step is refused, or is the last one before a crash, done, half done, or not done.

use penstock::tune::hands::{Entry, Hands};
use std::collections::BTreeMap;
use std::io;

/// What the last step before a crash comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Undone,
    /// Bytes of it have been written: so many per thousand.
    Half(u64),
    Done,
}

#[derive(Clone)]
pub struct Memory {
    pub tree: BTreeMap<String, Entry>,
    /// Steps that change something, so far.
    pub steps: usize,
    /// The step that is the last one.
    pub crash: Option<(usize, Last)>,
    /// Paths whose value the kernel does not take, and the error.
    pub refused: BTreeMap<String, i32>,
    /// Paths that are gone when they are written to.
    pub vanishing: Vec<String>,
    /// What the kernel keeps whatever is written.
    pub stubborn: BTreeMap<String, String>,
}

impl Memory {
    pub fn new(tree: BTreeMap<String, Entry>) -> Memory {
        let (refused, stubborn) = (BTreeMap::new(), BTreeMap::new());
        Memory { tree, steps: 0, crash: None, refused, vanishing: Vec::new(), stubborn }
    }

    /// What a restart finds.
    pub fn restarted(&self) -> Memory {
        Memory { steps: 0, crash: None, ..self.clone() }
    }

    /// Counts a step that would do `change`, which is told how much of it is to be done.
    fn step(&mut self, change: impl FnOnce(&mut Memory, Last) -> io::Result<()>) -> io::Result<()> {
        let crashed = || io::Error::other("crashed");
        self.steps += 1;
        match self.crash {
            Some((last, _)) if self.steps > last => Err(crashed()),
            Some((last, how)) if self.steps == last => {
                if how != Last::Undone {
                    let _ = change(self, how);
                }
                Err(crashed())
            }
            _ => change(self, Last::Done),
        }
    }

    /// What the kernel, or a driver, changes with a value that has been written, also when it is put back.
    fn by_itself(&mut self, path: &str) {
        let shown = match self.tree.get(path) {
            Some(Entry::File { text, .. }) => text.clone(),
            _ => String::new(),
        };
        if path == "/sys/kernel/mm/transparent_hugepage/enabled" {
            self.kernel_sets("/proc/sys/vm/min_free_kbytes", "67584\n");
        } else if let Some(queue) = path.strip_suffix("/scheduler") {
            let none = shown.contains("[none]");
            self.kernel_sets(&format!("{queue}/nr_requests"), if none { "1023\n" } else { "256\n" });
            for (name, first) in [("read_expire", "500\n"), ("async_depth", "192\n")] {
                let own = format!("{queue}/iosched/{name}");
                match none {
                    true => _ = self.tree.remove(&own),
                    false => self.tree.extend([(own, attribute(first))]),
                }
            }
        } else if let Some(queue) = path.strip_suffix("/nr_requests") {
            let part = shown.trim().parse::<u64>().unwrap_or(0) * 3 / 4;
            self.kernel_sets(&format!("{queue}/iosched/async_depth"), &format!("{part}\n"));
        } else if let Some(queue) = path.strip_suffix("/max_sectors_kb") {
            self.kernel_sets(&format!("{queue}/read_ahead_kb"), "128\n");
        } else if let Some(nic) = path.strip_prefix("/ethtool/").and_then(|rest| rest.split('/').next()) {
            let queues = format!("/sys/class/net/{nic}/queues/");
            let steered = |path: &&String| path.starts_with(&queues) && path.ends_with("rps_cpus");
            let paths: Vec<String> = self.tree.keys().filter(steered).cloned().collect();
            paths.iter().for_each(|path| self.kernel_sets(path, "0\n"));
            self.kernel_sets("/proc/irq/27/smp_affinity_list", "0-3\n");
        }
    }

    fn kernel_sets(&mut self, path: &str, text: &str) {
        if let Some(Entry::File { attribute: true, text: held, .. }) = self.tree.get_mut(path) {
            *held = text.to_string();
        }
    }

    fn parent_must_be_there(&self, path: &str) -> io::Result<()> {
        let parent = path.rsplit_once('/').expect("an absolute path").0;
        let there = parent.is_empty() || self.tree.get(parent) == Some(&Entry::Directory);
        if there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.tree.keys().filter(|other| other.starts_with(&prefix)).cloned().collect()
    }
}

fn attribute(text: &str) -> Entry {
    Entry::File { text: text.to_string(), mode: 0o644, attribute: true }
}

fn part(text: &str, last: Last) -> &str {
    match last {
        Last::Half(share) => &text[..text.floor_char_boundary(text.len() * share as usize / 1000)],
        _ => text,
    }
}

/// What the kernel shows when `value` has been written to a file that showed `old`; `None`: it does not take it.
fn shown(path: &str, old: &str, value: &str) -> Option<String> {
    let value = value.trim();
    if old.contains('[') {
        let words: Vec<&str> = old.split_whitespace().map(|word| word.trim_matches(['[', ']'])).collect();
        let show = |word: &&str| if *word == value { format!("[{word}]") } else { word.to_string() };
        return words.contains(&value).then(|| words.iter().map(show).collect::<Vec<_>>().join(" ") + "\n");
    }
    if path.ends_with("_cpus") || path.ends_with("/cpumask") {
        // As many digits as the host has cores for, whatever was written.
        let digits = old.trim().replace(',', "").len();
        let mask = value.replace(',', "").trim_start_matches('0').to_string();
        let mask = format!("{mask:0>digits$}").into_bytes();
        let groups = mask.rchunks(8).rev().map(|group| String::from_utf8_lossy(group).into_owned());
        return (mask.len() == digits).then(|| groups.collect::<Vec<_>>().join(",") + "\n");
    }
    Some(value.replace(' ', "\t") + "\n")
}

impl Hands for Memory {
    fn entry(&mut self, path: &str) -> io::Result<Entry> {
        match self.crash {
            Some((last, _)) if self.steps >= last => Err(io::Error::other("crashed")),
            _ => Ok(self.tree.get(path).cloned().unwrap_or(Entry::Absent)),
        }
    }

    fn set(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.step(|host, last| {
            if let Some(errno) = host.refused.get(path) {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            if host.vanishing.iter().any(|gone| gone == path) {
                host.tree.remove(path);
            }
            let kept = host.stubborn.get(path).cloned();
            let Some(Entry::File { text: held, .. }) = host.tree.get_mut(path) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            // A value is taken as a whole or not at all.
            if last == Last::Done {
                *held = kept.or_else(|| shown(path, held, text)).ok_or(io::ErrorKind::InvalidInput)?;
                host.by_itself(path);
            }
            Ok(())
        })
    }

    fn write(&mut self, path: &str, text: &str, mode: u32) -> io::Result<()> {
        self.step(|host, last| {
            host.parent_must_be_there(path)?;
            if let Some(errno) = host.refused.get(path) {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            let text = part(text, last).to_string();
            host.tree.insert(path.to_string(), Entry::File { text, mode, attribute: false });
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step(|host, last| {
            host.parent_must_be_there(to)?;
            if last != Last::Done {
                return Ok(());
            }
            let moved = host.below(from);
            let entry = host.tree.remove(from).ok_or(io::ErrorKind::NotFound)?;
            host.tree.insert(to.to_string(), entry);
            for path in moved {
                let entry = host.tree.remove(&path).expect("it was listed");
                host.tree.insert(format!("{to}{}", &path[from.len()..]), entry);
            }
            Ok(())
        })
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.step(|host, last| match host.tree.get(path) {
            None | Some(Entry::Directory) => Err(io::ErrorKind::NotFound.into()),
            Some(_) => {
                if last == Last::Done {
                    host.tree.remove(path);
                }
                Ok(())
            }
        })
    }

    fn make_directory(&mut self, path: &str, _: u32) -> io::Result<()> {
        self.step(|host, last| {
            host.parent_must_be_there(path)?;
            if host.tree.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if last == Last::Done {
                host.tree.insert(path.to_string(), Entry::Directory);
            }
            Ok(())
        })
    }

    fn remove_directory(&mut self, path: &str) -> io::Result<()> {
        self.step(|host, last| {
            if host.tree.get(path) != Some(&Entry::Directory) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if !host.below(path).is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if last == Last::Done {
                host.tree.remove(path);
            }
            Ok(())
        })
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.step(|host, last| {
            host.parent_must_be_there(path)?;
            if last == Last::Done {
                host.tree.insert(path.to_string(), Entry::Link(target.to_string()));
            }
            Ok(())
        })
    }

    fn append(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.step(|host, last| {
            if let Some(errno) = host.refused.get(path) {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            match host.tree.get_mut(path) {
                Some(Entry::File { text: held, .. }) => held.push_str(part(text, last)),
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
            Ok(())
        })
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        self.step(|host, last| match host.tree.get_mut(path) {
            Some(Entry::File { text, .. }) => {
                if last == Last::Done {
                    text.truncate(length as usize);
                }
                Ok(())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn lock(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

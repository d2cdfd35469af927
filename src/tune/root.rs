//! The files of a host: its own, or those of a recorded tree. The kernel's files may be missing, hidden, empty, or hold anything: whatever
//! cannot be used is `Unknown`, with the reason.

use super::drivers::{Drivers, Said, TOP};
use super::facts::{CLOCK, Facts, HEALTH, OF_CLOCK, OF_HEALTH, OF_SPACE, SPACE};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most files hold a line. The largest, `/proc/interrupts`, has eleven bytes a core and interrupt.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Processes of a busy host are the most that a directory lists.
const NAMES_MAX: usize = 1 << 16;

/// Where `/sys`, `/proc` and `/etc` are looked for.
#[derive(Debug, Clone)]
pub struct Root {
    prefix: PathBuf,
    /// Who answers for drivers; without it files of the tree do.
    drivers: Option<Drivers>,
    /// The same for what takes a system call.
    facts: Option<Facts>,
}

/// Why something cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub why: String,
    /// The file is not there, which often says that the thing is not there.
    pub missing: bool,
    /// The file is there and holds nothing, which is how the kernel writes an empty list.
    pub empty: bool,
}

impl Unknown {
    pub fn because(why: impl Into<String>) -> Unknown {
        Unknown { why: why.into(), missing: false, empty: false }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Root {
    /// The host that this runs on.
    pub fn host() -> Root {
        Root { prefix: PathBuf::from("/"), drivers: None, facts: None }
    }

    /// A tree that has `sys` and `proc` in it.
    pub fn recorded(tree: &Path) -> Result<Root, String> {
        let prefix = tree.canonicalize().map_err(|error| format!("--root {}: {error}", tree.display()))?;
        if !prefix.is_dir() {
            return Err(format!("--root {}: it is no directory; name the one that has sys and proc", tree.display()));
        }
        Ok(Root { prefix, drivers: None, facts: None })
    }

    /// The same, where drivers can be asked.
    pub fn with_drivers(self, drivers: Drivers) -> Root {
        Root { drivers: Some(drivers), ..self }
    }

    /// The same, where what takes a system call can be asked.
    pub fn with_facts(self, facts: Facts) -> Root {
        Root { facts: Some(facts), ..self }
    }

    pub fn drivers(&self) -> Option<Drivers> {
        self.drivers
    }

    /// What there is under the data directory `data`, by name.
    pub fn space(&self, data: &str) -> Result<BTreeMap<String, String>, Unknown> {
        let asked = self.facts.map(|facts| (facts.space)(data));
        self.told(asked, &format!("{SPACE}{data}"), &OF_SPACE, &format!("the space under {data}"))
    }

    /// What an NVMe controller says of its health, by name.
    pub fn health(&self, controller: &str) -> Result<BTreeMap<String, String>, Unknown> {
        let asked = self.facts.map(|facts| (facts.health)(controller));
        self.told(asked, &format!("{HEALTH}/{controller}"), &OF_HEALTH, &format!("the health of {controller}"))
    }

    /// How right the clock is, by name.
    pub fn clock(&self) -> Result<BTreeMap<String, String>, Unknown> {
        self.told(self.facts.map(|facts| (facts.clock)()), CLOCK, &OF_CLOCK, "what the kernel holds of its clock")
    }

    /// The answer of whoever was asked, else what files of the tree say by these names.
    fn told(
        &self,
        asked: Option<std::io::Result<Said>>,
        directory: &str,
        names: &[&str],
        what: &str,
    ) -> Result<BTreeMap<String, String>, Unknown> {
        if let Some(asked) = asked {
            let said = asked.map_err(|error| Unknown::because(format!("{what} cannot be asked: {error}")))?;
            return Ok(said.into_iter().collect());
        }
        if !self.exists(directory) {
            return Err(Unknown::because(format!("{what} is not known")));
        }
        let text = |name: &&str| match self.text(&format!("{directory}/{name}")) {
            Err(why) if why.missing => None,
            text => Some(text.map(|text| (name.to_string(), text))),
        };
        names.iter().filter_map(text).collect()
    }

    /// What the driver of `nic` says of `group`, by name; nothing, where it says nothing.
    pub fn driver_group(&self, nic: &str, group: &str) -> Result<BTreeMap<String, String>, Unknown> {
        if let Some(drivers) = &self.drivers {
            let said = drivers.group(nic, group);
            return said.map_err(|error| Unknown::because(format!("the driver of {nic} cannot be asked: {error}")));
        }
        if !self.exists(&format!("{TOP}/{nic}")) {
            return Err(Unknown::because(format!("what the driver of {nic} says is not known")));
        }
        let directory = format!("{TOP}/{nic}/{group}");
        let names = self.names(&directory).or_else(|why| if why.missing { Ok(Vec::new()) } else { Err(why) })?;
        let value = |name: String| self.text(&format!("{directory}/{name}")).map(|text| (name, text));
        names.into_iter().map(value).collect()
    }

    /// The directory that stands for `/`.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The text of a file, without the white space around it.
    pub fn text(&self, path: &str) -> Result<String, Unknown> {
        let real = self.resolve(path)?;
        let failed = |error: std::io::Error| unknown(path, &error);
        // A pipe or a terminal might never answer.
        if !real.metadata().map_err(failed)?.is_file() {
            return Err(Unknown::because(format!("{path} is no file")));
        }
        let file = std::fs::File::open(&real).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Unknown::because(format!("{path} is longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| Unknown::because(format!("{path} holds no text")))?;
        let text = text.trim();
        if text.is_empty() {
            return Err(Unknown { why: format!("{path} is empty"), missing: false, empty: true });
        }
        if text.chars().any(|c| c.is_control() && !"\n\t\r".contains(c)) {
            return Err(Unknown::because(format!("{path} holds no text")));
        }
        Ok(text.to_string())
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Result<i64, Unknown> {
        let text = self.text(path)?;
        text.parse().map_err(|_| Unknown::because(format!("{path} holds {}, which is no number", brief(&text))))
    }

    /// A file that holds a list of cores.
    pub fn cores(&self, path: &str) -> Result<Vec<usize>, Unknown> {
        super::cores::parse(&self.text(path)?).map_err(|why| Unknown::because(format!("{path}: {}", brief(&why))))
    }

    /// The names in a directory, numbers in their order.
    pub fn names(&self, path: &str) -> Result<Vec<String>, Unknown> {
        let entries = std::fs::read_dir(self.resolve(path)?).map_err(|error| unknown(path, &error))?;
        let names = entries.take(NAMES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.chars().any(char::is_control)).collect();
        names.sort_by_cached_key(|name| natural(name));
        Ok(names)
    }

    /// The names in a directory that are `prefix` and a number.
    pub fn numbered(&self, path: &str, prefix: &str) -> Result<Vec<usize>, Unknown> {
        let names = self.names(path)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect())
    }

    /// The last part of where a link leads.
    pub fn link(&self, path: &str) -> Result<String, Unknown> {
        let real = self.resolve(path)?;
        let name = real.file_name().and_then(|name| name.to_str()).map(String::from);
        name.ok_or_else(|| Unknown::because(format!("{path} leads to nothing that has a name")))
    }

    /// Where a path leads, without links.
    pub fn place(&self, path: &str) -> Result<String, Unknown> {
        let real = self.resolve(path)?;
        let below = real.strip_prefix(&self.prefix).ok().and_then(Path::to_str).map(|below| format!("/{below}"));
        below.ok_or_else(|| Unknown::because(format!("{path} leads to what has no name in text")))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_ok()
    }

    /// The real place of `path`. Links of the kernel are relative, so a recorded tree keeps them; one that leaves it shows another host.
    fn resolve(&self, path: &str) -> Result<PathBuf, Unknown> {
        let full = self.prefix.join(path.trim_start_matches('/'));
        let real = full.canonicalize().map_err(|error| unknown(path, &error))?;
        match real.starts_with(&self.prefix) {
            true => Ok(real),
            false => Err(Unknown::because(format!("{path} leads out of the tree"))),
        }
    }
}

fn unknown(path: &str, error: &std::io::Error) -> Unknown {
    let missing = matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
    let why = match missing {
        true => format!("{path} is not there"),
        false => format!("{path}: {error}"),
    };
    Unknown { why, missing, empty: false }
}

/// A text for a line of a report: one line, not long.
pub fn brief(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    match text.chars().count() > 80 {
        true => format!("{line:?} and more"),
        false => format!("{line:?}"),
    }
}

/// `cpu2` before `cpu10`.
fn natural(name: &str) -> (String, u64, String) {
    let start = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (word, rest) = name.split_at(start);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (word.to_string(), rest[..end].parse().unwrap_or(0), rest[end..].to_string())
}

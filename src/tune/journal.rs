//! What was there before each change, durable before the change is made: lines of a checksum and a JSON object.
//!
//! The journal is begun under another name, with the directories that it needs, and put in place by one rename; when everything has been put
//! back it is moved out of these directories before they are removed. So whenever this is interrupted, the file says which are to go.

use super::hands::{Entry as There, Hands};
use super::mend::Form;
use serde::{Deserialize, Serialize};
use std::io;

/// Of the form of its lines.
const VERSION: u32 = 1;
/// What the journal's first directory is called until it is whole.
const BEGUN: &str = ".penstock-tune-begun";
/// What the journal is called while its directories are removed.
const ENDED: &str = ".penstock-tune-ended";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Line {
    /// The first one: directories that were made for the journal, the topmost first.
    Begun { version: u32, made: Vec<String> },
    /// A change that is about to be made.
    Change(Entry),
    /// It has been put back, or needs not to be.
    Settled { number: u64 },
}

/// A change, and what was there before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub number: u64,
    pub path: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Value {
        old: String,
        new: String,
        form: Form,
        /// The name of the interrupt whose value it is.
        interrupt: Option<String>,
    },
    File {
        old: Option<String>,
        new: String,
    },
    Link {
        target: String,
    },
    Directory,
}

/// The journal of a host, open.
#[derive(Debug)]
pub struct Journal {
    directory: String,
    made: Vec<String>,
    /// Changes that have not been settled, in their order.
    pub open: Vec<Entry>,
    /// What was found wrong with it.
    pub damage: Vec<String>,
    next: u64,
}

/// Changes that have not been settled, and what was found wrong.
pub type Peek = (Vec<Entry>, Vec<String>);

/// Why the journal cannot be used.
pub type Refusal = String;

impl Journal {
    /// Opens the one in `directory`, after what an interrupted run has left has been cleared away.
    pub fn open(hands: &mut dyn Hands, directory: &str) -> Result<Option<Journal>, Refusal> {
        let path = file_in(directory);
        let failed = |error: io::Error| format!("the journal {path}: {error}");
        clear(hands, directory).map_err(failed)?;
        if hands.entry(&path).map_err(failed)? == There::Absent {
            return Ok(None);
        }
        hands.lock(&path).map_err(failed)?;
        let There::File { text, .. } = hands.entry(&path).map_err(failed)? else {
            return Err(format!("the journal {path} is no file"));
        };
        let (lines, damage, whole) = read(&text);
        let made = begun(&path, &lines)?;
        if whole < text.len() {
            hands.cut(&path, whole as u64).map_err(failed)?;
        }
        let (open, next) = unsettled(&lines);
        Ok(Some(Journal { directory: directory.to_string(), made, open, damage, next }))
    }

    /// Changes that have not been settled, of the one in `directory`, and what is wrong with it; it is only looked at. `None`: there is none.
    pub fn peek(hands: &mut dyn Hands, directory: &str) -> Result<Option<Peek>, Refusal> {
        let path = file_in(directory);
        match hands.entry(&path).map_err(|error| format!("the journal {path}: {error}"))? {
            There::Absent => Ok(None),
            There::File { text, .. } => {
                let (lines, damage, _) = read(&text);
                begun(&path, &lines)?;
                Ok(Some((unsettled(&lines).0, damage)))
            }
            _ => Err(format!("the journal {path} is no file")),
        }
    }

    /// Begins one where there is none.
    pub fn begin(hands: &mut dyn Hands, directory: &str) -> Result<Journal, Refusal> {
        let failed = |error: io::Error| {
            let hint = if error.kind() == io::ErrorKind::PermissionDenied { " (it takes root)" } else { "" };
            format!("the journal cannot be made in {directory}: {error}{hint}; nothing has been changed")
        };
        let made = begin(hands, directory).map_err(failed)?;
        hands.lock(&file_in(directory)).map_err(failed)?;
        Ok(Journal { directory: directory.to_string(), made, open: Vec::new(), damage: Vec::new(), next: 1 })
    }

    /// Notes a change that is about to be made.
    pub fn note(&mut self, hands: &mut dyn Hands, path: &str, what: What) -> Result<(), Refusal> {
        let entry = Entry { number: self.next, path: path.to_string(), what };
        self.append(hands, &Line::Change(entry.clone()))?;
        self.next += 1;
        self.open.push(entry);
        Ok(())
    }

    /// Notes that a change needs no more care.
    pub fn settle(&mut self, hands: &mut dyn Hands, number: u64) -> Result<(), Refusal> {
        self.append(hands, &Line::Settled { number })?;
        self.open.retain(|entry| entry.number != number);
        Ok(())
    }

    fn append(&self, hands: &mut dyn Hands, line: &Line) -> Result<(), Refusal> {
        let path = file_in(&self.directory);
        let done = hands.append(&path, &encode(line));
        done.map_err(|error| {
            format!("the journal {path} cannot be written: {error}; what it says holds, and nothing more was changed")
        })
    }

    /// Removes it, and the directories that were made for it, as far as they are empty.
    pub fn end(self, hands: &mut dyn Hands) -> Result<(), Refusal> {
        let path = file_in(&self.directory);
        let done = match self.made.first() {
            None => hands.remove(&path),
            Some(top) => {
                let ended = format!("{}/{ENDED}", parent(top));
                hands.rename(&path, &ended).and_then(|()| finish(hands, &ended, &self.made))
            }
        };
        done.map_err(|error| format!("everything has been put back, but the journal {path} cannot be removed: {error}"))
    }
}

fn file_in(directory: &str) -> String {
    format!("{directory}/journal")
}

/// The directory that `path` is in; empty for the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `/a`, `/a/b`, `/a/b/c`.
fn steps(directory: &str) -> Vec<&str> {
    let ends = directory.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    ends.map(|at| &directory[..at]).chain([directory]).collect()
}

fn encode(line: &Line) -> String {
    let json = serde_json::to_string(line).expect("texts and numbers are JSON");
    format!("{:08x} {json}\n", crc_fast::crc32_iscsi(json.as_bytes()))
}

fn decode(text: &str) -> Option<Line> {
    let (crc, json) = text.split_once(' ')?;
    let right = crc.len() == 8 && u32::from_str_radix(crc, 16) == Ok(crc_fast::crc32_iscsi(json.as_bytes()));
    right.then(|| serde_json::from_str(json).ok()).flatten()
}

/// The lines; what is wrong with some; and the bytes before a last one that is torn, whose change was therefore never made.
fn read(text: &str) -> (Vec<Line>, Vec<String>, usize) {
    let (mut lines, mut damage, mut whole) = (Vec::new(), Vec::new(), text.len());
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match line.strip_suffix('\n').and_then(decode) {
            Some(line) => lines.push(line),
            None if at + line.len() == text.len() => whole = at,
            None => damage.push(format!("line {} of the journal is damaged, so its change stays", index + 1)),
        }
        at += line.len();
    }
    (lines, damage, whole)
}

/// Directories that were made for a journal that begins as it should.
fn begun(path: &str, lines: &[Line]) -> Result<Vec<String>, Refusal> {
    match lines.first() {
        Some(Line::Begun { version: VERSION, made }) => Ok(made.clone()),
        _ => Err(format!("the journal {path} does not begin as one of this version of penstock; it stays as it is")),
    }
}

/// Changes that have not been settled, and the number of the next one.
fn unsettled(lines: &[Line]) -> (Vec<Entry>, u64) {
    let (mut open, mut next): (Vec<Entry>, u64) = (Vec::new(), 1);
    for line in lines {
        match line {
            Line::Begun { .. } => {}
            Line::Change(entry) => {
                next = next.max(entry.number + 1);
                open.push(entry.clone());
            }
            Line::Settled { number } => open.retain(|entry| entry.number != *number),
        }
    }
    (open, next)
}

/// Directories that had to be made.
fn begin(hands: &mut dyn Hands, directory: &str) -> io::Result<Vec<String>> {
    let mut made: Vec<String> = Vec::new();
    for step in steps(directory) {
        match hands.entry(step)? {
            There::Absent => made.push(step.to_string()),
            There::Directory => {}
            _ => return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{step} is no directory"))),
        }
    }
    let first = encode(&Line::Begun { version: VERSION, made: made.clone() });
    let Some(top) = made.first() else {
        let begun = format!("{directory}/{BEGUN}");
        hands.write(&begun, &first, 0o600)?;
        hands.rename(&begun, &file_in(directory))?;
        return Ok(made);
    };
    let begun = format!("{}/{BEGUN}", parent(top));
    for step in &made {
        hands.make_directory(&format!("{begun}{}", &step[top.len()..]), 0o700)?;
    }
    hands.write(&file_in(&format!("{begun}{}", &directory[top.len()..])), &first, 0o600)?;
    hands.rename(&begun, top)?;
    Ok(made)
}

/// Removes what an interrupted beginning or end has left.
fn clear(hands: &mut dyn Hands, directory: &str) -> io::Result<()> {
    let steps = steps(directory);
    for (index, step) in steps.iter().enumerate() {
        let beside = parent(step);
        let ended = format!("{beside}/{ENDED}");
        if let There::File { text, .. } = hands.entry(&ended)? {
            hands.lock(&ended)?;
            let made = match read(&text).0.into_iter().next() {
                Some(Line::Begun { made, .. }) => made,
                _ => Vec::new(),
            };
            finish(hands, &ended, &made)?;
        }
        let begun = format!("{beside}/{BEGUN}");
        if hands.entry(&begun)? == There::Directory {
            let inner: Vec<String> =
                steps[index..].iter().map(|deep| format!("{begun}{}", &deep[step.len()..])).collect();
            let mut ours = Vec::new();
            for directory in inner {
                if hands.entry(&directory)? == There::Directory {
                    ours.push(directory);
                }
            }
            let file = file_in(ours.last().expect("the first of them is there"));
            if hands.entry(&file)? != There::Absent {
                hands.remove(&file)?;
            }
            remove_all(hands, &ours)?;
        }
    }
    let begun = format!("{directory}/{BEGUN}");
    match hands.entry(&begun)? {
        There::File { .. } => hands.remove(&begun),
        _ => Ok(()),
    }
}

fn finish(hands: &mut dyn Hands, ended: &str, made: &[String]) -> io::Result<()> {
    remove_all(hands, made)?;
    hands.remove(ended)
}

/// Removes directories, the deepest first; those that are not empty have become somebody else's.
fn remove_all(hands: &mut dyn Hands, directories: &[String]) -> io::Result<()> {
    for directory in directories.iter().rev() {
        match hands.remove_directory(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> String {
        encode(&Line::Settled { number })
    }

    #[test]
    fn a_torn_last_line_is_cut_and_a_damaged_one_is_told() {
        let whole = line(1) + &line(2);
        assert_eq!(read(&whole), (vec![Line::Settled { number: 1 }, Line::Settled { number: 2 }], vec![], whole.len()));
        for end in 1..line(2).len() {
            let (lines, damage, length) = read(&whole[..line(1).len() + end]);
            assert_eq!((lines.len(), damage.len(), length), (1, 0, line(1).len()), "{end}");
        }
        let (lines, damage, length) = read(&(line(1).replace("settled", "settles") + &line(2)));
        assert_eq!((lines.len(), damage.len(), length), (1, 1, whole.len()));
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let what = What::Value { old: "a\n\u{1}\"".into(), new: "b".into(), form: Form::Mask, interrupt: None };
        let line = Line::Change(Entry { number: 7, path: "/proc/x".into(), what });
        assert_eq!(decode(encode(&line).trim_end()), Some(line));
        assert_eq!(steps("/a/b/c"), ["/a", "/a/b", "/a/b/c"]);
    }
}

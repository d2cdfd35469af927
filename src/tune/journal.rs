//! What was there before each change, durable before the change is made: lines of a checksum and a JSON object.
//!
//! The journal is begun under another name, with the directories that it needs, and put in place by one rename; when everything has been put
//! back it is moved out of these directories before they are removed. So whenever this is interrupted, the file says which are to go.

use super::hands::{Entry as There, Hands};
use super::mend::Form;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Of the form of its lines; those of an earlier one are read as well.
const VERSION: u32 = 2;
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
    /// A revert has begun: what changes by itself has been looked at, up to the entry of this number, and is not looked at again, as putting
    /// its causes back moves it.
    Judged { number: u64 },
}

/// A change, and what was there before it. A later line of the same number takes its place.
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
    /// What the kernel may change by itself when the next value is set.
    Beside {
        old: String,
        /// What it held when all values of the same run had been set; nothing, if it was not there, or the run has not come so far.
        seen: Option<String>,
        /// What somebody had set it to when a revert began.
        kept: Option<String>,
        form: Form,
        interrupt: Option<String>,
    },
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
    /// Entries up to this number have been judged.
    judged: u64,
    next: u64,
}

/// What the lines of a journal come to.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Changes that have not been settled.
    open: Vec<Entry>,
    judged: u64,
    /// The number of the next one.
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
        let State { open, judged, next } = state(&lines);
        Ok(Some(Journal { directory: directory.to_string(), made, open, damage, judged, next }))
    }

    /// Changes that have not been settled, of the one in `directory`, and what is wrong with it; it is only looked at. `None`: there is none.
    pub fn peek(hands: &mut dyn Hands, directory: &str) -> Result<Option<Peek>, Refusal> {
        let path = file_in(directory);
        match hands.entry(&path).map_err(|error| format!("the journal {path}: {error}"))? {
            There::Absent => Ok(None),
            There::File { text, .. } => {
                let (lines, damage, _) = read(&text);
                begun(&path, &lines)?;
                Ok(Some((state(&lines).open, damage)))
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
        let (directory, open, damage) = (directory.to_string(), Vec::new(), Vec::new());
        Ok(Journal { directory, made, open, damage, judged: 0, next: 1 })
    }

    /// Notes a change that is about to be made.
    pub fn note(&mut self, hands: &mut dyn Hands, path: &str, what: What) -> Result<(), Refusal> {
        self.note_all(hands, vec![(path.to_string(), what)])
    }

    /// Notes several at once: they are durable together.
    pub fn note_all(&mut self, hands: &mut dyn Hands, all: Vec<(String, What)>) -> Result<(), Refusal> {
        let numbered = all.into_iter().zip(self.next..);
        let entries: Vec<Entry> = numbered.map(|((path, what), number)| Entry { number, path, what }).collect();
        self.append(hands, entries.iter().cloned().map(Line::Change))?;
        self.next += entries.len() as u64;
        self.open.extend(entries);
        Ok(())
    }

    /// Notes more of entries that are there, by their numbers.
    pub fn renew(&mut self, hands: &mut dyn Hands, entries: Vec<Entry>) -> Result<(), Refusal> {
        self.append(hands, entries.iter().cloned().map(Line::Change))?;
        entries.into_iter().for_each(|entry| replace(&mut self.open, entry));
        Ok(())
    }

    /// The number of the next change.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What may have changed by itself and has not been judged since: the latest entry of each path.
    pub fn unjudged(&self) -> Vec<Entry> {
        let fresh = self.open.iter().filter(|entry| entry.number > self.judged);
        let mut latest: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in fresh.filter(|entry| matches!(entry.what, What::Beside { .. })) {
            latest.insert(&entry.path, entry);
        }
        latest.into_values().cloned().collect()
    }

    /// Notes that all of it has been judged, and with what outcome where there is one.
    pub fn judge(&mut self, hands: &mut dyn Hands, outcomes: Vec<Entry>) -> Result<(), Refusal> {
        let number = self.next - 1;
        if self.judged == number {
            return Ok(());
        }
        let lines = outcomes.iter().cloned().map(Line::Change).chain([Line::Judged { number }]);
        self.append(hands, lines)?;
        outcomes.into_iter().for_each(|entry| replace(&mut self.open, entry));
        self.judged = number;
        Ok(())
    }

    /// Notes that a change needs no more care.
    pub fn settle(&mut self, hands: &mut dyn Hands, number: u64) -> Result<(), Refusal> {
        self.append(hands, [Line::Settled { number }])?;
        self.open.retain(|entry| entry.number != number);
        Ok(())
    }

    /// Forgets what has been settled, if that is all, so that a journal which is kept open does not grow.
    pub fn shorten(&mut self, hands: &mut dyn Hands) -> Result<(), Refusal> {
        if !self.open.is_empty() || !self.damage.is_empty() {
            return Ok(());
        }
        let path = file_in(&self.directory);
        let first = encode(&Line::Begun { version: VERSION, made: self.made.clone() });
        let done = hands.cut(&path, first.len() as u64);
        done.map_err(|error| format!("the journal {path} cannot be shortened: {error}"))?;
        (self.judged, self.next) = (0, 1);
        Ok(())
    }

    fn append(&self, hands: &mut dyn Hands, lines: impl IntoIterator<Item = Line>) -> Result<(), Refusal> {
        let path = file_in(&self.directory);
        let text: String = lines.into_iter().map(|line| encode(&line)).collect();
        if text.is_empty() {
            return Ok(());
        }
        let done = hands.append(&path, &text);
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
        Some(Line::Begun { version: 1..=VERSION, made }) => Ok(made.clone()),
        _ => Err(format!("the journal {path} does not begin as one of this version of penstock; it stays as it is")),
    }
}

fn state(lines: &[Line]) -> State {
    let mut state = State { open: Vec::new(), judged: 0, next: 1 };
    for line in lines {
        match line {
            Line::Begun { .. } => {}
            Line::Change(entry) if entry.number < state.next => replace(&mut state.open, entry.clone()),
            Line::Change(entry) => {
                state.next = entry.number + 1;
                state.open.push(entry.clone());
            }
            Line::Settled { number } => state.open.retain(|entry| entry.number != *number),
            Line::Judged { number } => state.judged = *number,
        }
    }
    state
}

/// An entry in the place of the one with its number.
fn replace(open: &mut [Entry], entry: Entry) {
    if let Some(other) = open.iter_mut().find(|other| other.number == entry.number) {
        *other = entry;
    }
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

    #[test]
    fn a_later_line_of_a_number_takes_its_place_and_what_was_judged_is_not_judged_again() {
        let beside = |number: u64, path: &str, kept: Option<&str>| {
            let (seen, kept) = (Some("2".into()), kept.map(String::from));
            let what = What::Beside { old: "1".into(), seen, kept, form: Form::Words, interrupt: None };
            Entry { number, path: path.into(), what }
        };
        let lines = [
            Line::Change(beside(1, "/a", None)),
            Line::Change(beside(2, "/b", None)),
            Line::Change(beside(1, "/a", Some("3"))),
            Line::Judged { number: 2 },
            Line::Change(beside(3, "/b", None)),
            Line::Settled { number: 2 },
            // A line of one that is settled brings it not back.
            Line::Change(beside(2, "/b", Some("4"))),
        ];
        let State { open, judged, next } = state(&lines);
        assert_eq!((judged, next), (2, 4));
        assert_eq!(open, [beside(1, "/a", Some("3")), beside(3, "/b", None)]);
        let (directory, made, damage) = (String::new(), Vec::new(), Vec::new());
        let journal = Journal { directory, made, open, damage, judged, next };
        assert_eq!(journal.unjudged(), [beside(3, "/b", None)]);
    }
}

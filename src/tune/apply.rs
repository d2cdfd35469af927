//! Makes the changes of a plan, each behind its line in the journal, and puts them back.

use super::hands::{Entry as There, Hands};
use super::journal::{Entry, Journal, What};
use super::lasting::{self, Change};
use super::mend::Knob;
use super::plan::{Plan, Value};
use std::io;

/// What has become of the changes.
#[derive(Debug, Default)]
pub struct Report {
    /// Paths that were changed, or put back.
    pub done: Vec<String>,
    /// (path, why not) of others, and what to do.
    pub trouble: Vec<(String, String)>,
    /// What is worth a line, and needs nothing to be done.
    pub notes: Vec<String>,
}

/// What to do with values that somebody else has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// They are told, and stay.
    Tell,
    /// What was there before the first change takes their place.
    Overwrite,
    /// They stay, and are forgotten.
    Keep,
}

/// Makes the changes. What one value refuses holds no other back; a journal that cannot be written ends it.
pub fn apply(hands: &mut dyn Hands, directory: &str, plan: &Plan) -> Result<Report, String> {
    let mut report = Report::default();
    let found = Journal::open(hands, directory)?;
    if let Some(journal) = &found {
        report.notes.extend(journal.damage.iter().cloned());
    }
    if plan.values.is_empty() && plan.lasting(hands).0.is_empty() {
        return Ok(report);
    }
    let mut journal = match found {
        Some(journal) => journal,
        None => Journal::begin(hands, directory)?,
    };
    let mut taken: Vec<Knob> = Vec::new();
    for Value { knob, .. } in &plan.values {
        match set(hands, &mut journal, knob)? {
            Ok(()) => taken.push(knob.clone()),
            Err(why) => {
                forget(hands, &mut journal, &knob.path)?;
                report.trouble.push((knob.path.clone(), why));
            }
        }
    }
    report.done.extend(taken.iter().map(|knob| knob.path.clone()));
    // What the kernel refuses now it would refuse at each start as well.
    let (changes, left) = lasting::changes(hands, &taken, &plan.later);
    report.trouble.extend(left);
    for change in changes {
        match make(hands, &mut journal, &change)? {
            Ok(()) => report.done.push(change.path().to_string()),
            Err(error) => {
                forget(hands, &mut journal, change.path())?;
                report.trouble.push((change.path().to_string(), error.to_string()));
            }
        }
    }
    Ok(report)
}

/// Settles the last change if it is one of `path` that has changed nothing.
fn forget(hands: &mut dyn Hands, journal: &mut Journal, path: &str) -> Result<(), String> {
    match journal.open.last() {
        Some(Entry { number, path: noted, what }) if noted == path => match look(hands, path, what) {
            Ok(Now::Before) => journal.settle(hands, *number),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Gives a knob its value; the inner error is the knob's, the outer one the journal's.
fn set(hands: &mut dyn Hands, journal: &mut Journal, knob: &Knob) -> Result<Result<(), String>, String> {
    let old = match hands.entry(&knob.path) {
        Ok(There::File { text, .. }) => text,
        Ok(_) => return Ok(Err("it is gone since it was looked at; nothing was written".to_string())),
        Err(error) => return Ok(Err(explain(&knob.path, &error))),
    };
    let Knob { path, value, form, interrupt, .. } = knob;
    let new = format!("{value}\n");
    let what = What::Value { old: old.clone(), new: new.clone(), form: *form, interrupt: interrupt.clone() };
    journal.note(hands, path, what)?;
    if let Err(error) = replace(hands, path, &new, value) {
        return Ok(Err(explain(path, &error)));
    }
    let now = match hands.entry(path) {
        Ok(There::File { text, .. }) if form.same(&text, value) => return Ok(Ok(())),
        Ok(There::File { text, .. }) => format!("it holds {} after {value} was written", text.trim()),
        Ok(_) => return Ok(Err("it is gone since it was written".to_string())),
        Err(error) => explain(path, &error),
    };
    let back = replace(hands, path, &old, &form.value(&old));
    let end =
        back.map_or_else(|error| format!("; and cannot be put back: {error}"), |()| "; it was put back".to_string());
    Ok(Err(now + &end))
}

/// Another text for a file: `whole` for one that only looks like the kernel's, as in a copy of a host; `value` for one that is.
fn replace(hands: &mut dyn Hands, path: &str, whole: &str, value: &str) -> io::Result<()> {
    match hands.entry(path)? {
        There::File { attribute: true, .. } => hands.set(path, &format!("{value}\n")),
        There::File { mode, .. } => put(hands, path, whole, mode),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

/// A whole file at once: nobody sees a part of it.
fn put(hands: &mut dyn Hands, path: &str, text: &str, mode: u32) -> io::Result<()> {
    let draft = draft(path);
    let done = hands.write(&draft, text, mode).and_then(|()| hands.rename(&draft, path));
    if done.is_err() {
        // A device without room has left a part of it. What cannot be removed now is removed by a revert.
        let _ = hands.remove(&draft);
    }
    done
}

/// What a file is called until it is whole.
fn draft(path: &str) -> String {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{parent}/.{name}.penstock")
}

fn make(hands: &mut dyn Hands, journal: &mut Journal, change: &Change) -> Result<io::Result<()>, String> {
    let path = change.path();
    let what = match change {
        Change::Directory { .. } => What::Directory,
        Change::File { old, new, .. } => What::File { old: old.clone(), new: new.clone() },
        Change::Link { target, .. } => What::Link { target: target.clone() },
    };
    journal.note(hands, path, what)?;
    Ok(match change {
        Change::Directory { .. } => hands.make_directory(path, 0o755),
        Change::Link { target, .. } => hands.link(path, target),
        Change::File { new, .. } => match hands.entry(path) {
            Ok(There::File { mode, .. }) => put(hands, path, new, mode),
            Ok(_) => put(hands, path, new, 0o644),
            Err(error) => Err(error),
        },
    })
}

fn explain(path: &str, error: &io::Error) -> String {
    let interrupt = path.starts_with("/proc/irq/");
    match error.raw_os_error() {
        Some(libc::EIO) if interrupt => {
            "the kernel places this interrupt itself (EIO); it stays where it is".to_string()
        }
        Some(libc::EPERM | libc::EACCES | libc::EROFS) => {
            format!("{error}: it takes root, outside of a container and its read-only /sys")
        }
        Some(libc::EINVAL) => format!("{error}: the kernel does not take this value here"),
        Some(libc::ENODEV | libc::ENXIO) => "it is gone since it was looked at".to_string(),
        _ if error.kind() == io::ErrorKind::NotFound => "it is gone since it was looked at".to_string(),
        _ => error.to_string(),
    }
}

/// What a change looks like later.
pub enum Now {
    /// Nothing to do.
    Before,
    /// As the change has left it.
    After,
    /// There is nothing that could be put back, and why.
    Gone(&'static str),
    /// It is neither, and what it is.
    Foreign(String),
}

/// Puts everything back, the last change first. `None`: there is no journal.
pub fn revert(hands: &mut dyn Hands, directory: &str, foreign: Foreign) -> Result<Option<Report>, String> {
    let Some(mut journal) = Journal::open(hands, directory)? else { return Ok(None) };
    let mut report = Report::default();
    report.trouble.extend(journal.damage.iter().map(|why| (directory.to_string(), why.clone())));
    for entry in journal.open.clone().into_iter().rev() {
        let draft = draft(&entry.path);
        if matches!(hands.entry(&draft), Ok(There::File { attribute: false, .. })) {
            hands.remove(&draft).map_err(|error| format!("{draft}: {error}"))?;
        }
        let Entry { number, path, what } = entry;
        match undo(hands, &path, &what, foreign, &mut report) {
            Ok(true) => journal.settle(hands, number)?,
            Ok(false) => {}
            Err(error) => report.trouble.push((path.clone(), explain(&path, &error))),
        }
    }
    let over = journal.open.is_empty() && (journal.damage.is_empty() || foreign == Foreign::Keep);
    if over {
        journal.end(hands)?;
    }
    Ok(Some(report))
}

/// Whether the change is settled.
fn undo(hands: &mut dyn Hands, path: &str, what: &What, foreign: Foreign, report: &mut Report) -> io::Result<bool> {
    match look(hands, path, what)? {
        Now::Before => return Ok(true),
        Now::Gone(why) => {
            report.notes.push(format!("{path}: {why}"));
            return Ok(true);
        }
        Now::Foreign(is) => match foreign {
            Foreign::Keep => {
                report.notes.push(format!("{path}: {is}, and stays so"));
                return Ok(true);
            }
            Foreign::Tell => {
                let why = format!("{is}, which is not what penstock wrote: somebody has changed it since");
                report.trouble.push((path.to_string(), why));
                return Ok(false);
            }
            Foreign::Overwrite => {}
        },
        Now::After => {}
    }
    match what {
        What::Value { old, form, .. } => replace(hands, path, old, &form.value(old))?,
        What::File { old: Some(old), .. } => match hands.entry(path)? {
            There::File { mode, .. } => put(hands, path, old, mode)?,
            _ => put(hands, path, old, 0o644)?,
        },
        What::File { old: None, .. } | What::Link { .. } => hands.remove(path)?,
        What::Directory => match hands.remove_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                // What is in it may be a change that is not settled yet.
                if report.trouble.iter().any(|(inside, _)| inside.starts_with(&format!("{path}/"))) {
                    return Ok(false);
                }
                report.notes.push(format!("{path}: it has files of others in it, and stays"));
                return Ok(true);
            }
            done => done?,
        },
    }
    // A kernel that takes a value and keeps another is told here, not at the next look.
    match look(hands, path, what)? {
        Now::Before | Now::Gone(_) => {
            report.done.push(path.to_string());
            Ok(true)
        }
        Now::After | Now::Foreign(_) => {
            report.trouble.push((path.to_string(), "it does not hold what was written to put it back".to_string()));
            Ok(false)
        }
    }
}

/// What has become of a change.
pub fn look(hands: &mut dyn Hands, path: &str, what: &What) -> io::Result<Now> {
    let there = hands.entry(path)?;
    Ok(match what {
        What::Value { old, new, form, interrupt } => {
            let gone = "it is gone, and with it what could be put back";
            let There::File { text, attribute, .. } = there else { return Ok(Now::Gone(gone)) };
            if let Some(name) = interrupt
                && !still(hands, path, name)
            {
                return Ok(Now::Gone("this interrupt is another device's since the host was started again"));
            }
            let same = |other: &str| text == *other || attribute && form.same(&text, other);
            match (same(old), same(new)) {
                (true, _) => Now::Before,
                (_, true) => Now::After,
                _ => Now::Foreign(format!("it holds {}", super::root::brief(text.trim()))),
            }
        }
        What::File { old, new } => match (there, old) {
            (There::Absent, None) => Now::Before,
            (There::File { text, .. }, Some(old)) if text == *old => Now::Before,
            (There::File { text, .. }, _) if text == *new => Now::After,
            (There::Absent, Some(_)) => Now::Foreign("it was removed".to_string()),
            _ => Now::Foreign("it has another text".to_string()),
        },
        What::Link { target } => match there {
            There::Absent => Now::Before,
            There::Link(to) if to == *target => Now::After,
            _ => Now::Foreign("it is something else".to_string()),
        },
        What::Directory => match there {
            There::Absent => Now::Before,
            There::Directory => Now::After,
            _ => Now::Gone("it is no directory any more"),
        },
    })
}

/// Whether the interrupt of `path` still has its name.
fn still(hands: &mut dyn Hands, path: &str, name: &str) -> bool {
    let number = path.trim_start_matches("/proc/irq/").split('/').next().unwrap_or_default();
    let Ok(There::File { text, .. }) = hands.entry("/proc/interrupts") else { return false };
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(number)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().last()) == Some(name)
}

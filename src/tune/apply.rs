//! Makes the changes of a plan, each behind its line in the journal, and puts them back.

use super::beside::{self, Beside};
use super::hands::{Entry as There, Hands};
use super::journal::{Entry, Journal, What};
use super::lasting::{self, Change};
use super::mend::{Form, Knob};
use super::plan::{Plan, Value};
use super::root::brief;
use std::collections::BTreeSet;
use std::io;

const GONE: &str = "it is gone, and with it what could be put back";
const OF_ANOTHER: &str = "this interrupt is another device's since the host was started again";
const NOT_HELD: &str = "it does not hold what was written to put it back";

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
    let found = Journal::open(hands, directory)?;
    if plan.values.is_empty() && plan.lasting(hands).0.is_empty() {
        let notes = found.map(|journal| journal.damage).unwrap_or_default();
        return Ok(Report { notes, ..Report::default() });
    }
    let mut journal = match found {
        Some(journal) => journal,
        None => Journal::begin(hands, directory)?,
    };
    make_all(hands, &mut journal, plan)
}

/// The same, with a journal that is open.
pub fn make_all(hands: &mut dyn Hands, journal: &mut Journal, plan: &Plan) -> Result<Report, String> {
    let mut report = Report { notes: journal.damage.clone(), ..Report::default() };
    let first = journal.next();
    let mut taken: Vec<Knob> = Vec::new();
    for value in &plan.values {
        note_beside(hands, journal, first, value, plan)?;
        let knob = &value.knob;
        match set(hands, journal, knob)? {
            Ok(()) => taken.push(knob.clone()),
            Err(why) => {
                forget(hands, journal, &knob.path)?;
                report.trouble.push((knob.path.clone(), why));
            }
        }
    }
    report.done.extend(taken.iter().map(|knob| knob.path.clone()));
    see(hands, journal, first, plan, &mut report)?;
    // What the kernel refuses now it would refuse at each start as well.
    let (changes, left) = lasting::changes(hands, &taken, &plan.later);
    report.trouble.extend(left);
    for change in changes {
        match make(hands, journal, &change)? {
            Ok(()) => report.done.push(change.path().to_string()),
            Err(error) => {
                forget(hands, journal, change.path())?;
                report.trouble.push((change.path().to_string(), error.to_string()));
            }
        }
    }
    Ok(report)
}

fn sets(plan: &Plan, path: &str) -> bool {
    plan.values.iter().any(|value| value.knob.path == path)
}

/// Notes what may change by itself when `value` is set. Of what an earlier value of this run, which began with entry `first`, may have changed
/// as well the older text counts; but what the run itself sets is noted each time, as it goes back in between.
fn note_beside(
    hands: &mut dyn Hands,
    journal: &mut Journal,
    first: u64,
    value: &Value,
    plan: &Plan,
) -> Result<(), String> {
    let fresh = journal.open.iter().filter(|entry| entry.number >= first);
    let noted: BTreeSet<String> = fresh.map(|entry| entry.path.clone()).collect();
    let mut all = Vec::new();
    for Beside { path, form, interrupt } in &value.beside {
        if noted.contains(path) && !sets(plan, path) {
            continue;
        }
        // What cannot be read could not be put back either.
        if let Ok(There::File { text: old, .. }) = hands.entry(path) {
            let what = What::Beside { old, seen: None, kept: None, form: *form, interrupt: interrupt.clone() };
            all.push((path.clone(), what));
        }
    }
    journal.note_all(hands, all)
}

/// Notes what has become of what may have changed by itself.
fn see(
    hands: &mut dyn Hands,
    journal: &mut Journal,
    first: u64,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), String> {
    let mut renewed = Vec::new();
    for mut entry in journal.open.iter().filter(|entry| entry.number >= first).cloned().collect::<Vec<_>>() {
        let Some(place) = place(hands, &entry) else { continue };
        let What::Beside { old, seen, form, .. } = &mut entry.what else { continue };
        let Ok(There::File { text, attribute, .. }) = hands.entry(&place) else { continue };
        if !same(&text, old, *form, attribute) && !sets(plan, &entry.path) {
            let (was, is) = (brief(old.trim()), brief(text.trim()));
            report
                .notes
                .push(format!("{place}: changed by the kernel with this, from {was} to {is}; a revert puts it back"));
        }
        *seen = Some(text);
        renewed.push(entry);
    }
    journal.renew(hands, renewed)
}

/// Whether two texts of a file say the same.
fn same(one: &str, other: &str, form: Form, attribute: bool) -> bool {
    one == other || attribute && form.same(one, other)
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
    if let Some(name) = &knob.interrupt
        && !still(hands, &knob.path, name)
    {
        let why = format!(
            "it is no longer {name} since it was looked at, as where a driver makes its queues anew; apply once more"
        );
        return Ok(Err(why));
    }
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
    let report = put_all(hands, &mut journal, foreign)?;
    if journal.open.is_empty() && (journal.damage.is_empty() || foreign == Foreign::Keep) {
        journal.end(hands)?;
    }
    Ok(Some(report))
}

/// The same, with a journal that is open and stays so.
pub fn put_all(hands: &mut dyn Hands, journal: &mut Journal, foreign: Foreign) -> Result<Report, String> {
    let mut report = Report::default();
    report.trouble.extend(journal.damage.iter().map(|why| ("the journal".to_string(), why.clone())));
    judge(hands, journal)?;
    for entry in journal.open.clone().into_iter().rev() {
        let draft = draft(&entry.path);
        if matches!(hands.entry(&draft), Ok(There::File { attribute: false, .. })) {
            hands.remove(&draft).map_err(|error| format!("{draft}: {error}"))?;
        }
        let Some(path) = place(hands, &entry) else {
            report.notes.push(format!("{}: {OF_ANOTHER}", entry.path));
            journal.settle(hands, entry.number)?;
            continue;
        };
        match undo(hands, &path, &entry.what, foreign, &mut report) {
            Ok(true) => journal.settle(hands, entry.number)?,
            Ok(false) => {}
            Err(error) => report.trouble.push((path.clone(), explain(&path, &error))),
        }
    }
    Ok(report)
}

/// Before anything goes back: what changes by itself, and is neither as it was nor as the run has left it, is somebody's by now.
fn judge(hands: &mut dyn Hands, journal: &mut Journal) -> Result<(), String> {
    let mut outcomes = Vec::new();
    for mut entry in journal.unjudged() {
        let Some(place) = place(hands, &entry) else { continue };
        let What::Beside { old, seen: Some(seen), kept, form, .. } = &mut entry.what else { continue };
        let Ok(There::File { text, attribute, .. }) = hands.entry(&place) else { continue };
        if !same(&text, old, *form, attribute) && !same(&text, seen, *form, attribute) {
            *kept = Some(text);
            outcomes.push(entry);
        }
    }
    journal.judge(hands, outcomes)
}

/// Puts back what has changed by itself; what somebody has set since is told, or stays, or goes. Whether it is settled.
fn back(
    hands: &mut dyn Hands,
    path: &str,
    (old, kept, form): (&str, Option<&str>, Form),
    foreign: Foreign,
    report: &mut Report,
) -> io::Result<bool> {
    let wanted = match (kept, foreign) {
        (Some(kept), Foreign::Tell | Foreign::Keep) => kept,
        _ => old,
    };
    let holds = |hands: &mut dyn Hands| {
        Ok::<_, io::Error>(match hands.entry(path)? {
            There::File { text, attribute, .. } => Some(same(&text, wanted, form, attribute)),
            _ => None,
        })
    };
    match holds(hands)? {
        None => {
            report.notes.push(format!("{path}: {GONE}"));
            return Ok(true);
        }
        Some(true) => {}
        Some(false) => {
            let beside = beside::moved_again(path).into_iter().filter_map(|other| match hands.entry(&other) {
                Ok(There::File { text, attribute: true, .. }) => Some((other, text)),
                _ => None,
            });
            let beside: Vec<(String, String)> = beside.collect();
            replace(hands, path, wanted, &form.value(wanted))?;
            for (other, text) in beside {
                hands.set(&other, &text)?;
            }
            if holds(hands)? != Some(true) {
                report.trouble.push((path.to_string(), NOT_HELD.to_string()));
                return Ok(false);
            }
            report.done.push(path.to_string());
        }
    }
    let Some(kept) = kept else { return Ok(true) };
    let is = format!("it holds {}", brief(kept.trim()));
    match foreign {
        Foreign::Overwrite => Ok(true),
        Foreign::Keep => {
            report.notes.push(format!("{path}: {is}, and stays so"));
            Ok(true)
        }
        Foreign::Tell => {
            report.trouble.push((
                path.to_string(),
                format!("{is}, which is neither what was there nor what it had become: somebody has changed it since"),
            ));
            Ok(false)
        }
    }
}

/// Whether the change is settled.
fn undo(hands: &mut dyn Hands, path: &str, what: &What, foreign: Foreign, report: &mut Report) -> io::Result<bool> {
    if let What::Beside { old, kept, form, .. } = what {
        return back(hands, path, (old, kept.as_deref(), *form), foreign, report);
    }
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
        What::Beside { .. } => {}
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
            report.trouble.push((path.to_string(), NOT_HELD.to_string()));
            Ok(false)
        }
    }
}

/// What has become of a change.
pub fn look(hands: &mut dyn Hands, path: &str, what: &What) -> io::Result<Now> {
    let there = hands.entry(path)?;
    Ok(match what {
        What::Value { old, new, form, interrupt } => {
            let There::File { text, attribute, .. } = there else { return Ok(Now::Gone(GONE)) };
            if let Some(name) = interrupt
                && !still(hands, path, name)
            {
                return Ok(Now::Gone(OF_ANOTHER));
            }
            match (same(&text, old, *form, attribute), same(&text, new, *form, attribute)) {
                (true, _) => Now::Before,
                (_, true) => Now::After,
                _ => Now::Foreign(format!("it holds {}", brief(text.trim()))),
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
        What::Beside { old, kept, form, .. } => match there {
            There::File { text, attribute, .. } => match same(&text, kept.as_ref().unwrap_or(old), *form, attribute) {
                true => Now::Before,
                false => Now::After,
            },
            _ => Now::Gone(GONE),
        },
        What::Directory => match there {
            There::Absent => Now::Before,
            There::Directory => Now::After,
            _ => Now::Gone("it is no directory any more"),
        },
    })
}

/// Where the file of a change is now: interrupts get other numbers when their device begins anew. `None`: it is of another device.
fn place(hands: &mut dyn Hands, entry: &Entry) -> Option<String> {
    let (What::Value { interrupt: Some(name), .. } | What::Beside { interrupt: Some(name), .. }) = &entry.what else {
        return Some(entry.path.clone());
    };
    // Several of one name: which of them is meant only its number says.
    if still(hands, &entry.path, name) {
        return Some(entry.path.clone());
    }
    let file = entry.path.rsplit('/').next().unwrap_or_default();
    match numbers(hands, name).as_slice() {
        [number] => Some(format!("/proc/irq/{number}/{file}")),
        _ => None,
    }
}

/// Whether the interrupt of `path` still has its name.
fn still(hands: &mut dyn Hands, path: &str, name: &str) -> bool {
    let number = path.trim_start_matches("/proc/irq/").split('/').next().unwrap_or_default();
    numbers(hands, name).iter().any(|other| other == number)
}

/// Numbers of the interrupts with this name.
fn numbers(hands: &mut dyn Hands, name: &str) -> Vec<String> {
    let Ok(There::File { text, .. }) = hands.entry("/proc/interrupts") else { return Vec::new() };
    let named = text.lines().filter(|line| line.split_whitespace().last() == Some(name));
    named.filter_map(|line| Some(line.trim_start().split_once(':')?.0.to_string())).collect()
}

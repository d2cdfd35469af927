//! What is mirrored as one: a log, or what a data directory holds beside its logs. Each knows for itself which of its halves are whole, so
//! no worker has to ask another.

use super::mark::{FILES_MAX, Mark};
use crate::io::clock::Mono;
use crate::io::op::{Completion, DirName, FileName, Op, OpenHow, Sync};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// A file that nothing was written to for so long is not named by the mark any more.
const QUIET_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// What the data directory `given` of this start holds, but its logs.
    Top(u8),
    Log(u32),
}

impl Name {
    /// Of an operation in directory `dir`; `None`: it is of no unit.
    pub const fn of(dir: DirName) -> Option<Name> {
        match dir {
            DirName::Top | DirName::Catalog => Some(Name::Top(0)),
            DirName::Given(given) => Some(Name::Top(given)),
            DirName::Log(log) | DirName::Above(log) => Some(Name::Log(log)),
            DirName::Quarantine
            | DirName::AboveQuarantine
            | DirName::Capture(_)
            | DirName::CaptureCatalog
            | DirName::CaptureLog(_) => None,
        }
    }

    pub const fn mark(self) -> FileName {
        match self {
            Name::Top(given) => FileName::Mark { given },
            Name::Log(log) => FileName::LogMark { log },
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Top(0) => write!(f, "superblock and catalog"),
            Name::Top(_) => write!(f, "identity"),
            Name::Log(log) => write!(f, "log {log}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Whole: everything is written to it.
    In,
    /// It has missed something, and is neither written nor read.
    Out,
    /// It is being rebuilt: what has been copied is written to.
    Copying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is known of it yet.
    Closed,
    Opening,
    Open,
    /// Its last half has failed where that could not be said: nothing more becomes durable.
    Dead,
}

/// A segment file that was written to not long ago.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Active {
    /// Changes on their way.
    pub under_way: u32,
    /// Writes without a promise that are done, and how many of them a flush has covered.
    pub written: u64,
    pub flushed: u64,
    pub last: Mono,
}

/// A write on its way: index of its file, its bytes, and the joint that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub index: u32,
    pub at: u64,
    pub end: u64,
    pub joint: u32,
}

/// The file that is being copied or compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub file: FileName,
    /// Bytes below are equal on both halves, in a copy.
    pub until: u64,
    /// Nothing is written here meanwhile.
    pub window: Option<(u64, u64)>,
}

pub(super) struct Unit {
    pub name: Name,
    /// The data directory of this start that it lies in.
    pub given: u8,
    pub block: u32,
    pub phase: Phase,
    pub halves: [Half; 2],
    /// The newest that was asked to be written; its files are those that a durable one names.
    pub mark: Mark,
    /// Halves whose mark has a file that is open.
    pub mark_open: [bool; 2],
    /// What the mark is to say is not durable yet: completions of changes are held.
    pub unsaid: bool,
    pub mark_due: bool,
    /// Files that operations wait for the mark to name.
    pub wanted: BTreeSet<u32>,
    pub active: BTreeMap<u32, Active>,
    pub writes: Vec<Write>,
    /// Operations that wait, in order.
    pub queue: VecDeque<Op>,
    pub held: VecDeque<Completion>,
    /// Files that the core has open.
    pub opened: BTreeSet<FileName>,
    /// Opens, closes and their like on their way, by file.
    pub busy: BTreeMap<FileName, u32>,
    /// Segment files that the opening has made equal, by their index.
    pub levelled: BTreeSet<u32>,
    /// A rebuild: what is to be copied, with sizes; and what is whole on both.
    pub to_copy: VecDeque<(FileName, u64)>,
    pub copied: BTreeSet<FileName>,
    /// The half that is rebuilt has had no room for a file: when it is tried again.
    pub room_due: Option<Mono>,
    pub current: Option<Current>,
}

impl Unit {
    pub fn new(name: Name, given: u8, block: u32) -> Unit {
        Unit {
            name,
            given,
            block,
            phase: Phase::Closed,
            halves: [Half::Out; 2],
            mark: Mark::default(),
            mark_open: [false; 2],
            unsaid: false,
            mark_due: false,
            wanted: BTreeSet::new(),
            active: BTreeMap::new(),
            writes: Vec::new(),
            queue: VecDeque::new(),
            held: VecDeque::new(),
            opened: BTreeSet::new(),
            busy: BTreeMap::new(),
            levelled: BTreeSet::new(),
            to_copy: VecDeque::new(),
            copied: BTreeSet::new(),
            room_due: None,
            current: None,
        }
    }

    pub fn are_both_in(&self) -> bool {
        self.halves == [Half::In; 2]
    }

    /// The half that reads go to, if it may be chosen: files alternate.
    pub fn reads_from(&self, file: Option<FileName>) -> usize {
        let wanted = match file {
            Some(FileName::Segment { index, .. }) => index as usize % 2,
            _ => 0,
        };
        if self.halves[wanted] == Half::In { wanted } else { 1 - wanted }
    }

    /// The half that is whole while the other is not.
    pub fn survivor(&self) -> Option<usize> {
        let whole = |half: &usize| self.halves[*half] == Half::In;
        (0..2).find(whole).filter(|_| !self.are_both_in())
    }

    /// The half that is being rebuilt.
    pub fn target(&self) -> Option<usize> {
        (0..2).find(|half| self.halves[*half] == Half::Copying)
    }

    /// Whether an operation cannot go yet. Notes what it waits for.
    pub fn must_wait(&mut self, op: &Op) -> bool {
        let Some(file) = op.file() else { return false };
        if self.queue.iter().any(|queued| queued.file() == Some(file)) {
            return true;
        }
        if let Some(current) = self.current.filter(|current| current.file == file) {
            match *op {
                Op::ReadAt { .. } | Op::Fsync { .. } => {}
                Op::WriteAt { at, from, .. } => {
                    let end = at + from.len as u64;
                    if current.window.is_some_and(|(begin, until)| at < until && begin < end) {
                        return true;
                    }
                }
                _ => return true,
            }
        }
        let changed = changed_segment(op).filter(|_| self.are_both_in());
        if let Some(index) = changed.filter(|index| !self.mark.files.contains(index) || self.wanted.contains(index)) {
            self.wanted.insert(index);
            self.mark_due = true;
            return true;
        }
        false
    }

    /// The halves that an operation that need not wait goes to.
    pub fn halves_for(&self, op: &Op) -> [bool; 2] {
        let whole = self.halves.map(|half| half == Half::In);
        if matches!(op, Op::ReadAt { .. } | Op::List { .. }) {
            let mut one = [false; 2];
            one[self.reads_from(op.file())] = true;
            return one;
        }
        let Some(target) = self.target() else { return whole };
        let mut both = whole;
        both[target] = match (op, op.file()) {
            (_, None) => true,
            (Op::Open { how: OpenHow::Create { .. }, .. } | Op::Prepare { .. }, _) => true,
            (Op::Scrub { .. }, _) => false,
            (Op::WriteAt { at, .. }, Some(file)) if self.is_current(file) => {
                self.current.is_some_and(|current| *at < current.until)
            }
            (_, Some(file)) => self.copied.contains(&file),
        };
        both
    }

    pub fn is_current(&self, file: FileName) -> bool {
        self.current.is_some_and(|current| current.file == file)
    }

    /// Whether a write on its way touches these bytes of a segment.
    pub fn is_written(&self, index: u32, at: u64, end: u64) -> bool {
        self.writes.iter().any(|write| write.index == index && write.at < end && at < write.end)
    }

    /// An operation goes to its halves as joint number `joint`.
    pub fn sent(&mut self, op: &Op, joint: u32) {
        if let Some(index) = changed_segment(op) {
            self.active.entry(index).or_default().under_way += 1;
        }
        let Some(file) = op.file() else { return };
        match (*op, file) {
            (Op::WriteAt { at, from, .. }, FileName::Segment { index, .. }) => {
                self.writes.push(Write { index, at, end: at + from.len as u64, joint });
            }
            (Op::ReadAt { .. } | Op::Fsync { .. } | Op::WriteAt { .. } | Op::Scrub { .. } | Op::Link { .. }, _) => {}
            _ => *self.busy.entry(file).or_default() += 1,
        }
        match op {
            Op::CloseFile { .. } => {
                self.opened.remove(&file);
            }
            Op::Unlink { .. } => {
                self.to_copy.retain(|(other, _)| *other != file);
                self.copied.remove(&file);
            }
            _ => {}
        }
    }

    /// How many writes without a promise to a file are done: what a flush that goes now will cover.
    pub fn covers(&self, op: &Op) -> u64 {
        match (op, op.file()) {
            (Op::Fsync { .. }, Some(FileName::Segment { index, .. })) => {
                self.active.get(&index).map_or(0, |active| active.written)
            }
            _ => 0,
        }
    }

    /// The operation of joint `joint` is answered; `good`: every half that counts has done it; `both`: both halves have.
    pub fn answered(&mut self, now: Mono, op: &Op, joint: u32, covers: u64, good: bool, both: bool) {
        self.writes.retain(|write| write.joint != joint);
        if let Some(active) = changed_segment(op).and_then(|index| self.active.get_mut(&index)) {
            active.under_way -= 1;
            active.last = now;
            active.written += matches!(op, Op::WriteAt { sync: Sync::Later, .. }) as u64;
        }
        let Some(file) = op.file() else { return };
        if let (Op::Fsync { .. }, FileName::Segment { index, .. }, true) = (op, file, good)
            && let Some(active) = self.active.get_mut(&index)
        {
            active.flushed = active.flushed.max(covers);
        }
        match op {
            Op::ReadAt { .. } | Op::Fsync { .. } | Op::WriteAt { .. } | Op::Scrub { .. } | Op::Link { .. } => return,
            Op::Open { how, .. } if good => {
                self.opened.insert(file);
                if both && matches!(how, OpenHow::Create { .. }) {
                    self.copied.insert(file);
                }
            }
            Op::Prepare { .. } if good && both => {
                self.copied.insert(file);
            }
            _ => {}
        }
        if let Some(count) = self.busy.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(&file);
            }
        }
    }

    /// Files that the next mark names: all that may be written to.
    pub fn named(&self) -> Vec<u32> {
        let files: BTreeSet<u32> = self.active.keys().chain(&self.wanted).copied().collect();
        let files: Vec<u32> = files.into_iter().collect();
        assert!(files.len() <= FILES_MAX, "{}: {} files are written to at once", self.name, files.len());
        files
    }

    /// A file that is quiet: named by the mark, and not written to for a while.
    pub fn quiet(&self, now: Mono) -> Option<(u32, Active)> {
        let is_quiet = |(index, active): &(&u32, &Active)| {
            active.under_way == 0 && active.last.plus_ms(QUIET_MS) <= now && !self.wanted.contains(index)
        };
        self.active.iter().find(is_quiet).map(|(index, active)| (*index, *active))
    }
}

/// The segment file that an operation changes.
pub(super) fn changed_segment(op: &Op) -> Option<u32> {
    let changes = matches!(
        op,
        Op::WriteAt { .. } | Op::Open { how: OpenHow::Create { .. }, .. } | Op::Prepare { .. } | Op::Unlink { .. }
    );
    match op.file() {
        Some(FileName::Segment { index, .. }) if changes => Some(index),
        _ => None,
    }
}

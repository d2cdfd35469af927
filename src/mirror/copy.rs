//! The copier's line: segment files to be copied to a half that is rebuilt, or compared where both halves are whole.

use super::level::Patch;
use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Errno, FileName, Token};
use std::collections::VecDeque;

/// How soon it is looked again whether there is a buffer, or whether writes on their way have ended.
const AGAIN_MS: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the whole half to the other.
    Copy { from: usize },
    /// Between two whole ones; `prefer`: whose bytes count where no commit stands.
    Level { prefer: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Begin,
    Open,
    Read,
    Write,
    Flush,
    Close,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub unit: usize,
    pub file: FileName,
    pub size: u64,
    pub kind: Kind,
    pub stage: Stage,
    /// The half whose file ends before the other's.
    pub short: Option<usize>,
    /// Bytes below are done; how many are looked at now.
    pub at: u64,
    pub len: u32,
    /// Halves whose file the core had open when it began: it is not closed there.
    pub was_open: bool,
    /// Halves whose file is open.
    pub open: [bool; 2],
    pub patches: VecDeque<Patch>,
    /// When it was first tried to begin.
    pub since: Option<Mono>,
    /// Bytes written to each half.
    pub written: [u64; 2],
    /// The joint of a scrub that is repeated afterwards.
    pub scrub: Option<u32>,
    /// It ends with what is open being closed.
    pub stopped: bool,
}

impl Task {
    fn new(unit: usize, file: FileName, size: u64, kind: Kind) -> Task {
        Task {
            unit,
            file,
            size,
            kind,
            stage: Stage::Begin,
            short: None,
            at: 0,
            len: 0,
            was_open: false,
            open: [false; 2],
            patches: VecDeque::new(),
            since: None,
            written: [0; 2],
            scrub: None,
            stopped: false,
        }
    }

    pub fn copy(unit: usize, file: FileName, size: u64, from: usize) -> Task {
        Task::new(unit, file, size, Kind::Copy { from })
    }

    pub fn level(unit: usize, file: FileName, size: u64, prefer: usize, scrub: Option<u32>) -> Task {
        Task { scrub, ..Task::new(unit, file, size, Kind::Level { prefer }) }
    }

    /// Two files whose sizes may differ: afterwards both have the larger one.
    pub fn level_sizes(unit: usize, file: FileName, sizes: [u64; 2]) -> Task {
        let short = (0..2).find(|half| sizes[*half] < sizes[1 - half]);
        Task { short, ..Task::level(unit, file, sizes[0].max(sizes[1]), 0, None) }
    }

    /// Halves that its operations of a stage go to.
    pub fn halves(&self) -> [bool; 2] {
        match (self.kind, self.stage) {
            (Kind::Copy { from }, Stage::Read) => [from == 0, from == 1],
            (Kind::Copy { from }, Stage::Flush) => [from == 1, from == 0],
            (Kind::Level { .. }, Stage::Flush) => self.written.map(|bytes| bytes > 0),
            _ => [true; 2],
        }
    }
}

pub(super) struct Copier {
    /// Bytes a second of a rebuild.
    rate: u64,
    line: VecDeque<Task>,
    pub task: Option<Task>,
    pub spans: Option<[Span; 2]>,
    /// Operations on their way, and what became of those of this stage.
    pub pending: u32,
    pub results: [Option<Result<u32, Errno>>; 2],
    serial: u64,
    due: Mono,
    waits: Option<Mono>,
    copied: u64,
}

impl Copier {
    pub fn new(rate: u64) -> Copier {
        Copier {
            rate,
            line: VecDeque::new(),
            task: None,
            spans: None,
            pending: 0,
            results: [None; 2],
            serial: 0,
            due: Mono(0),
            waits: None,
            copied: 0,
        }
    }

    pub fn add(&mut self, task: Task) {
        let is_same = |other: &Task| (other.unit, other.file, other.kind) == (task.unit, task.file, task.kind);
        if task.scrub.is_some() || !self.line.iter().chain(&self.task).any(is_same) {
            self.line.push_back(task);
        }
    }

    pub fn next(&mut self) -> Option<Task> {
        self.line.pop_front()
    }

    /// A file goes: it is not copied any more, if that has not begun.
    pub fn forget(&mut self, unit: usize, file: FileName) {
        let goes = |task: &Task| task.unit == unit && task.file == file && matches!(task.kind, Kind::Copy { .. });
        if self.task.as_ref().is_some_and(|task| goes(task) && task.stage == Stage::Begin) {
            self.task = None;
        }
    }

    /// Whether something of a unit is being worked on, or waits for that.
    pub fn is_at(&self, unit: usize) -> bool {
        self.line.iter().chain(&self.task).any(|task| task.unit == unit)
    }

    /// What waits for a unit is given up, and given back.
    pub fn give_up(&mut self, unit: usize) -> VecDeque<Task> {
        let (gone, kept) = std::mem::take(&mut self.line).into_iter().partition(|task| task.unit == unit);
        self.line = kept;
        gone
    }

    /// The token of its next operation on half `half`.
    pub fn token(&mut self, half: usize) -> Token {
        self.serial += 1;
        self.pending += 1;
        self.results[half] = None;
        Token((super::COPY_TOKEN as u64) << 56 | self.serial & 0xffff_ffff).at_half(half)
    }

    /// Takes two buffers: large ones hold any commit.
    pub fn take_spans(&mut self, kind: Kind, buffers: &mut Buffers) -> bool {
        if self.spans.is_some() {
            return true;
        }
        let pool = if matches!(kind, Kind::Level { .. }) { Pool::Large } else { Pool::Medium };
        if buffers.available(pool) < 2 {
            return false;
        }
        self.spans = buffers.take(pool).and_then(|first| Some([first, buffers.take(pool)?]));
        self.spans.is_some()
    }

    pub fn give_spans(&mut self, buffers: &mut Buffers) {
        for span in self.spans.take().into_iter().flatten() {
            buffers.give(span);
        }
    }

    /// `bytes` of a rebuild have been copied.
    pub fn pace(&mut self, now: Mono, bytes: u32) {
        self.copied += bytes as u64;
        self.due = now + bytes as u64 * 1_000_000_000 / self.rate.max(1);
    }

    pub fn is_due(&self, now: Mono) -> bool {
        self.due <= now
    }

    pub fn take_copied(&mut self) -> u64 {
        std::mem::take(&mut self.copied)
    }

    /// It waits for something that no completion tells, or for its pace.
    pub fn wait(&mut self, now: Mono) {
        self.waits = Some(if self.due > now { self.due } else { now.plus_ms(AGAIN_MS) });
    }

    /// It waits until then.
    pub fn wait_until(&mut self, due: Mono) {
        self.waits = Some(self.waits.map_or(due, |waits| waits.min(due)));
    }

    pub fn woken(&mut self) {
        self.waits = None;
    }

    pub fn deadline(&self) -> Option<Mono> {
        self.waits
    }
}

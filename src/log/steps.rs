//! A list of file operations carried out one after the other through one block buffer: for the small files whose order of operations is
//! what makes them crash-safe (catalog, superblock).
//!
//! Push steps, call [`Steps::go`], hand every completion of an owned token to [`Steps::done`]. One operation is in flight at most.

use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::op::{DirName, Errno, FileName, Op, OpenHow, Ops, Sync, Token};
use std::collections::VecDeque;

/// A write that moved less than it should: the device's fault, whatever it says.
const EIO: Errno = Errno(5);

/// One step. Bytes written are padded by their maker to whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    List(DirName),
    MakeDir(DirName),
    SyncDir(DirName),
    Open {
        file: FileName,
        how: OpenHow,
    },
    /// Reads the file to its end, at most `limit` bytes; they are kept for [`Steps::take_read`].
    Read {
        file: FileName,
        limit: u64,
    },
    Write {
        file: FileName,
        at: u64,
        bytes: Vec<u8>,
        sync: Sync,
    },
    /// Writes zeros from the file's begin to `until`, in whole blocks.
    Zeros {
        file: FileName,
        until: u64,
    },
    Fsync(FileName),
    Rename {
        from: FileName,
        to: FileName,
    },
    Close(FileName),
    Unlink(FileName),
    /// Removes a directory and what is in it, if it is there.
    Clear(DirName),
}

impl Step {
    /// How many bytes it writes.
    fn bytes(&self) -> u64 {
        match self {
            Step::Write { bytes, .. } => bytes.len() as u64,
            Step::Zeros { until, .. } => *until,
            _ => 0,
        }
    }
}

/// Where the list stands after a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The token was not awaited.
    NotMine,
    /// More is to do: call [`Steps::go`].
    More,
    /// Every step has been done.
    Finished,
    /// The step failed; the rest of the list is dropped.
    Failed(Step, Errno),
}

/// A machine that does its work by a list of steps, one stage after another. It says what follows a stage; how completions come in is the
/// same for all.
pub trait Staged {
    fn steps(&mut self) -> &mut Steps;

    /// Every step of the stage has been done: pushes those of the next one, or tells of the end.
    fn finished(&mut self);

    /// A directory has been listed, or could not be: for [`Step::List`], in place of `finished` and `failed`.
    fn listed(&mut self, result: Result<Vec<(FileName, u64)>, (Step, Errno)>);

    /// A step has failed; the rest of the list is dropped.
    fn failed(&mut self, step: &Step, errno: Errno);

    /// Takes the completion of an owned operation.
    fn on_done(&mut self, token: Token, result: Result<u32, Errno>, buffers: &mut Buffers, ops: &mut Ops) {
        match self.steps().done(token, result, buffers) {
            Progress::NotMine | Progress::More => {}
            Progress::Finished => self.finished(),
            Progress::Failed(step, errno) => self.failed(&step, errno),
        }
        self.steps().go(buffers, ops);
    }

    /// Takes the listing of an owned operation.
    fn on_listed(
        &mut self,
        token: Token,
        result: Result<Vec<(FileName, u64)>, Errno>,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        let count = result.as_ref().map(|_| 0).map_err(|errno| *errno);
        match self.steps().done(token, count, buffers) {
            Progress::NotMine => return,
            Progress::Failed(step, errno) => self.listed(Err((step, errno))),
            Progress::More | Progress::Finished => self.listed(Ok(result.unwrap_or_default())),
        }
        self.steps().go(buffers, ops);
    }
}

/// The list, and the operation in flight.
pub struct Steps {
    owner: u8,
    serial: u64,
    slot: Span,
    steps: VecDeque<Step>,
    /// Bytes of the first step that are done.
    moved: u64,
    waiting: Option<Token>,
    read: Vec<u8>,
}

impl Steps {
    /// Takes a block slot for good; `None` when none is free. `owner` becomes the top byte of every token.
    pub fn new(owner: u8, buffers: &mut Buffers) -> Option<Steps> {
        let slot = buffers.take(Pool::Block)?;
        Some(Steps { owner, serial: 0, slot, steps: VecDeque::new(), moved: 0, waiting: None, read: Vec::new() })
    }

    /// Gives the slot back; nothing may be in flight.
    pub fn release(self, buffers: &mut Buffers) {
        assert!(self.waiting.is_none(), "an operation on the slot is in flight");
        buffers.give(self.slot);
    }

    pub fn owns(&self, token: Token) -> bool {
        self.waiting == Some(token)
    }

    pub fn push(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    /// Nothing in flight, nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.steps.is_empty()
    }

    /// What the last [`Step::Read`] found.
    pub fn take_read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    /// Emits the next operation, unless one is in flight.
    pub fn go(&mut self, buffers: &mut Buffers, ops: &mut Ops) {
        let Some(step) = self.steps.front() else { return };
        if self.waiting.is_some() {
            return;
        }
        self.serial += 1;
        let token = Token((self.owner as u64) << 56 | self.serial & ((1 << 56) - 1));
        ops.push(match step {
            Step::List(dir) => Op::List { dir: *dir, token },
            Step::MakeDir(dir) => Op::MakeDir { dir: *dir, token },
            Step::SyncDir(dir) => Op::SyncDir { dir: *dir, token },
            Step::Open { file, how } => Op::Open { file: *file, how: *how, token },
            Step::Read { file, limit } => {
                if self.moved == 0 {
                    self.read.clear();
                }
                let len = (limit - self.moved).min(self.slot.len as u64) as u32;
                Op::ReadAt { file: *file, at: self.moved, into: self.slot.first(len), token }
            }
            Step::Write { file, at, bytes, sync } => {
                let rest = &bytes[self.moved as usize..];
                let from = self.slot.first(rest.len().min(self.slot.len as usize) as u32);
                buffers.bytes_mut(from).copy_from_slice(&rest[..from.len as usize]);
                Op::WriteAt { file: *file, at: at + self.moved, from, sync: *sync, token }
            }
            Step::Zeros { file, until } => {
                let from = self.slot.first((until - self.moved).min(self.slot.len as u64) as u32);
                buffers.bytes_mut(from).fill(0);
                Op::WriteAt { file: *file, at: self.moved, from, sync: Sync::Later, token }
            }
            Step::Fsync(file) => Op::Fsync { file: *file, token },
            Step::Rename { from, to } => Op::Rename { from: *from, to: *to, token },
            Step::Close(file) => Op::CloseFile { file: *file, token },
            Step::Unlink(file) => Op::Unlink { file: *file, token },
            Step::Clear(dir) => Op::Clear { dir: *dir, token },
        });
        self.waiting = Some(token);
    }

    /// Takes the completion of a file operation (of [`Step::List`]: its result with the entries left out).
    pub fn done(&mut self, token: Token, result: Result<u32, Errno>, buffers: &Buffers) -> Progress {
        if self.waiting != Some(token) {
            return Progress::NotMine;
        }
        self.waiting = None;
        let Some(step) = self.steps.front() else { return Progress::Finished };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(errno) => return self.drop_all(errno),
        };
        let is_done = match step {
            Step::Read { limit, .. } => {
                let asked = (limit - self.moved).min(self.slot.len as u64);
                self.read.extend_from_slice(buffers.bytes(self.slot.first(bytes.min(self.slot.len))));
                self.moved += bytes as u64;
                (bytes as u64) < asked || self.moved == *limit
            }
            Step::Write { .. } | Step::Zeros { .. } => {
                let asked = (step.bytes() - self.moved).min(self.slot.len as u64);
                if (bytes as u64) < asked {
                    return self.drop_all(EIO);
                }
                self.moved += asked;
                self.moved >= step.bytes()
            }
            _ => true,
        };
        if is_done {
            self.moved = 0;
            self.steps.pop_front();
        }
        if self.steps.is_empty() { Progress::Finished } else { Progress::More }
    }

    fn drop_all(&mut self, errno: Errno) -> Progress {
        self.moved = 0;
        let failed = self.steps.pop_front();
        self.steps.clear();
        failed.map_or(Progress::Finished, |step| Progress::Failed(step, errno))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::List(dir) => write!(f, "listing {dir}"),
            Step::MakeDir(dir) => write!(f, "making {dir}"),
            Step::SyncDir(dir) => write!(f, "syncing {dir}"),
            Step::Open { file, how: OpenHow::Existing } => write!(f, "opening {file}"),
            Step::Open { file, .. } => write!(f, "creating {file}"),
            Step::Read { file, .. } => write!(f, "reading {file}"),
            Step::Write { file, .. } | Step::Zeros { file, .. } => write!(f, "writing {file}"),
            Step::Fsync(file) => write!(f, "flushing {file}"),
            Step::Rename { from, .. } => write!(f, "renaming {from}"),
            Step::Close(file) => write!(f, "closing {file}"),
            Step::Unlink(file) => write!(f, "removing {file}"),
            Step::Clear(dir) => write!(f, "clearing {dir}"),
        }
    }
}

//! A worker: one pinned thread's state, driven in turns.

pub mod notice;

use crate::io::buffers::{Buffers, Loans};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completions, Ops};
use crate::limits::Limits;
use crate::observe::counter::Counters;
use notice::Notice;

/// What to do when no segment is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuse puts per record; reads go on.
    Reject,
    /// Recycle the oldest segment early.
    Trim,
}

/// What the operator chose, and what was measured at start. The same for every worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that all logs together may use; `None`: as the directory says, half of the free space when it is new.
    pub disk: Option<u64>,
    /// Free bytes of the file system at start.
    pub free: u64,
    pub when_full: WhenFull,
    pub region: String,
    pub account: String,
    /// Seconds that an hour of retention lasts, for tests; fixed when the directory is made.
    pub retention_hour: u32,
    /// What the device writes without touching a neighbour: max(4096, physical block, O_DIRECT alignment).
    pub block: u32,
    /// Whether commits are made durable one by one (`RWF_DSYNC`), or by one flush for a group.
    pub flush: bool,
    /// Segment size for a new directory; `None`: disk / (64 × logs) within 64 MiB .. 1 GiB.
    pub segment: Option<u64>,
    /// 32 random bytes: directory id and iterator key of a new directory.
    pub random: [u8; 32],
}

/// Where a worker stands among its kind.
pub struct Setup {
    pub worker: u16,
    pub workers: u16,
    pub limits: Limits,
    pub options: Options,
    pub buffers: Buffers,
    /// Memory of every worker, by number, for spans that they lend.
    pub loans: Vec<Loans>,
    /// Counters of every worker, by number.
    pub counters: Vec<Counters>,
}

/// One worker. `step` is its only input; `ops`, `deadline`, `notice` are its outputs.
pub struct Worker {
    setup: Setup,
}

impl Worker {
    pub fn new(setup: Setup) -> Worker {
        Worker { setup }
    }

    /// One turn: applies `done` (drained), emits `ops`. No system call, no clock, no randomness, and after start no allocation on the ack
    /// path. Worker 0 boots the directory in its first turns and tells the others; `Op::Accept` is emitted when the worker may serve.
    pub fn step(&mut self, now: Now, done: &mut Completions, ops: &mut Ops) {
        let _ = (now, done, ops);
    }

    /// When the next turn must be, though nothing completes. A turn in the past: at once.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }

    /// Whether a commit is in flight and nothing else is to do: then sleeping beats spinning.
    pub fn waits_for_disk(&self) -> bool {
        false
    }

    /// Something worth a line on standard error, oldest first.
    pub fn notice(&mut self) -> Option<Notice> {
        None
    }

    /// Begins a clean stop: no new connection or request, replies due are sent, the log is closed.
    pub fn stop(&mut self) {}

    /// Whether the stop is complete: the thread may end.
    pub fn stopped(&self) -> bool {
        false
    }

    pub fn buffers(&self) -> &Buffers {
        &self.setup.buffers
    }

    pub fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.setup.buffers
    }

    /// The memory of worker `worker`, for spans in `Op::Send` that it has lent to this one.
    pub fn loans(&self, worker: u16) -> &Loans {
        &self.setup.loans[worker as usize]
    }
}

//! The log: one ordered chain of segments.

pub mod checksum;
pub mod format;
pub mod reader;

use crate::io::buffers::{Buffers, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, FileName, Ops, Token};
use crate::observe::counter::Counters;
use format::{CommitKind, FrameKind, Position, ShardKey};

/// What a log is made with. All sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of the log in its directory.
    pub number: u32,
    /// What the device writes without touching a neighbour.
    pub block: u32,
    /// Of every segment file; never changes.
    pub segment_size: u64,
    /// Segment files that it may have, at least 4.
    pub files: u32,
    /// The directory's secret number, from the superblock.
    pub directory: u64,
    /// Epoch of the run before this one, from the superblock; 0 for a new directory.
    pub epoch: u32,
    /// Largest commit.
    pub commit_max: u32,
    /// Commits that may be on their way to the device at once.
    pub in_flight: usize,
    /// Commits become durable by a flush for a group, instead of each by itself.
    pub flush: bool,
    /// Its part of the pool `Log`: whole blocks, at least twice the largest commit.
    pub memory: Span,
    /// Upper 16 bits of every token that the log makes (the rest zero): the worker routes completions by them.
    pub tokens: u64,
    pub canary: Canary,
}

/// Rules that the simulator breaks on purpose, to show that it notices. Never set by a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// Commits count as durable when they are submitted.
    pub ack_before_durable: bool,
    /// Readers see what is not durable.
    pub read_undurable: bool,
    /// A reclaim does not tell the numbers that shards go on from.
    pub forget_next_sequence: bool,
}

/// Why a frame cannot be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No segment is free: try again after a reclaim.
    Full,
    /// The memory, or the next segment, waits for the device: try again after a completion.
    Busy,
    /// The log has failed for good.
    Failed,
    /// It would not fit the largest commit.
    TooLarge,
}

/// Room for a frame in the open commit. Closed or cancelled before the turn ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame is closed or cancelled"]
pub struct OpenFrame {
    /// Of its header.
    position: Position,
    /// Its body in log memory.
    body: Span,
}

/// What a frame's header says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub kind: FrameKind,
    pub shard: ShardKey,
    /// Of the first record.
    pub sequence: u64,
    /// µs since 1970; not below the shard's last.
    pub arrival: u64,
    pub count: u32,
    /// Producer and number of a native frame, else 0.
    pub producer: u64,
    pub number: u32,
}

/// How full the log is. All in bytes but `free_segments`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In segments that hold records.
    pub live: u64,
    pub capacity: u64,
    /// Segments that appending may still go on to.
    pub free_segments: u32,
}

/// What the log has to tell, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its directory is read and durable: [`Log::start`] may be called. `torn`: bytes that were cut off.
    Recovered { records: u64, torn: u64 },
    /// A write that was never acknowledged was cut off, after a copy to quarantine.
    TornTail { position: Position, bytes: u64 },
    /// Something that was acknowledged cannot be read.
    Damaged { file: FileName, position: Position, why: String },
    /// Recovery cannot go on; nothing was changed.
    Unreadable { file: Option<FileName>, why: String },
    /// An operation failed: nothing is appended any more, reads go on.
    Failed { what: &'static str, errno: Errno },
    /// A segment is free for new use.
    Recycled { incarnation: u32 },
}

/// What the records of a shard are still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its stream is deleted, or the shard has expired.
    Deleted,
    /// Records that arrived before (µs since 1970) have expired.
    ExpiresBefore(u64),
}

/// Number and arrival (µs) that a shard goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub shard: ShardKey,
    /// The next sequence number.
    pub next: u64,
    pub arrival: u64,
}

/// Segments that may go, and what must be durable elsewhere before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// Incarnations that stay, rising.
    pub live: Vec<u32>,
    /// Shards whose newest record is about to go.
    pub resume: Vec<Newest>,
    /// Incarnations that go.
    pub freed: Vec<u32>,
    /// Newest arrival among what goes although it has not expired (µs); 0: all of it has.
    pub trimmed_until: u64,
}

/// One log. Inputs are `on_*`, `recover`, `start`, the frame calls and `end_turn`; outputs are ops, `durable`, `deadline` and `event`.
pub struct Log {
    settings: Settings,
    counters: Counters,
}

impl Log {
    pub fn new(settings: Settings, counters: Counters) -> Log {
        Log { settings, counters }
    }

    /// Begins: lists its directory, makes it if it is absent, follows the chain. `live`: incarnations that the catalog knows.
    pub fn recover(&mut self, live: &[u32], ops: &mut Ops) {
        let _ = (live, ops, &self.counters);
    }

    /// Appending may begin, in epoch `epoch`, which the superblock holds durably.
    pub fn start(&mut self, epoch: u32) {
        let _ = epoch;
    }

    /// The answer to an op of this log (its token carries `Settings::tokens`).
    pub fn on_done(
        &mut self,
        now: Now,
        token: Token,
        result: Result<u32, Errno>,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        let _ = (now, token, result, buffers, ops);
    }

    /// The answer to its `Op::List`.
    pub fn on_listed(&mut self, token: Token, result: Result<Vec<(FileName, u64)>, Errno>, ops: &mut Ops) {
        let _ = (token, result, ops);
    }

    /// Reserves a frame with a body of `body` bytes. Several may be open at once; they lie in the order of opening. Spans of frames read
    /// from log memory are void afterwards.
    pub fn open_frame(&mut self, body: u32, buffers: &mut Buffers) -> Result<OpenFrame, Refusal> {
        let _ = (body, buffers);
        Err(Refusal::Failed)
    }

    /// Where the body goes: payload, then index.
    pub fn body(&self, frame: &OpenFrame) -> Span {
        frame.body
    }

    /// Stamps the frame. It is durable once `durable()` has reached the returned position.
    pub fn close_frame(&mut self, frame: OpenFrame, stamp: Stamp, buffers: &mut Buffers) -> Position {
        let _ = (stamp, buffers);
        frame.position
    }

    /// Gives the room back; cheap for the newest frame, a void frame in the log otherwise.
    pub fn cancel_frame(&mut self, frame: OpenFrame, buffers: &mut Buffers) {
        let _ = (frame, buffers);
    }

    /// The end of a turn: seals and submits what has arrived, vouches when idle, prepares and seals segments.
    pub fn end_turn(&mut self, now: Now, buffers: &mut Buffers, ops: &mut Ops) {
        let _ = (now, buffers, ops);
    }

    /// When `end_turn` must be called though nothing completes.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }

    /// Everything below is durable, and visible.
    pub fn durable(&self) -> Position {
        Position(0)
    }

    /// The operation that failed it for good.
    pub fn failed(&self) -> Option<(&'static str, Errno)> {
        None
    }

    /// Whether a commit or flush is on its way to the device.
    pub fn in_flight(&self) -> bool {
        false
    }

    pub fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Begins a clean stop: what was appended becomes durable, then a `stopped` commit. No frame may be opened any more.
    pub fn close(&mut self) {}

    /// Whether the stop is complete (or cannot be, because the log has failed).
    pub fn closed(&self) -> bool {
        true
    }

    /// After recovery: where each shard goes on, from its records and from what damage left of them.
    pub fn newest(&self) -> impl Iterator<Item = Newest> {
        std::iter::empty()
    }

    /// Something that happened, oldest first.
    pub fn event(&mut self) -> Option<Event> {
        None
    }

    /// Sealed segments in which every shard's records are past their fate; with `force_oldest`, the oldest one if there is none.
    /// They stay readable until [`Log::reclaimed`].
    pub fn reclaim(&mut self, fate: &mut dyn FnMut(ShardKey) -> Fate, force_oldest: bool) -> Option<Reclaim> {
        let _ = (fate, force_oldest, CommitKind::Data);
        None
    }

    /// The catalog holds `live` and `resume` of the reclaim durably: its segments are free for new use.
    pub fn reclaimed(&mut self, reclaim: Reclaim) {
        let _ = reclaim;
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

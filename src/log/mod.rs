//! The log: one ordered chain of segments.
//!
//! `recovered ≤ durable ≤ written ≤ assigned`; nothing at or above `durable` is shown to a reader. A [`Log`] is pure: ops out,
//! completions in. A turn calls, in this order: `on_done` for each completion; `open_frame`, `close_frame` as requests want; `end_turn`;
//! then `durable` and `event` until it has none.
//!
//! * `appender.rs`: frames into the filling commit, and on to the next segment; `bulk.rs`: frames that stay where they were received
//! * `committer.rs`: commits to the device, and what follows when they arrive there
//! * `commits.rs`: the log's memory; `segment.rs`: its files; `chain.rs`: its segments
//! * `index.rs`, `footer.rs`, `extents.rs`: where a shard's frames lie, in the active segment, in a sealed one, in all of them
//! * `producers.rs`: what is known of producers, so that a batch that is sent again is not stored again
//! * `recover/`: following the chain at start; `reader.rs`: a shard's frames in order
//! * `survey.rs`, `reclaim.rs`, `policy.rs`, `relocate.rs`: what is still good for something, giving segments back, when and how to make them
//!   worth it
//! * `scrub.rs`, `verify.rs`: what is durable of each segment, and whether it is still what was written
//! * `snapshot.rs`: sealing and holding segments for a snapshot; `manifest.rs`: what belongs to one
//! * `format.rs`: the bytes

mod appender;
pub mod bulk;
mod chain;
pub mod checksum;
mod commits;
mod committer;
pub mod directories;
pub mod extents;
mod find;
pub mod footer;
pub mod format;
pub mod identity;
#[cfg(test)]
mod identity_tests;
pub mod index;
pub mod inspect;
pub mod manifest;
#[cfg(test)]
pub(crate) mod memory_disk;
mod policy;
pub mod producers;
pub mod reader;
mod reclaim;
mod recover;
mod relocate;
pub mod scanner;
mod scrub;
pub mod sealed;
pub mod segment;
mod snapshot;
pub mod steps;
pub mod superblock;
#[cfg(test)]
mod superblock_tests;
mod survey;
#[cfg(test)]
mod tests;
pub mod verify;

use crate::io::buffers::{Buffers, Span};
use crate::io::clock::{Mono, Now, Wall};
use crate::io::op::{Errno, FileName, Ops, Token};
use crate::observe::counter::Counters;
use chain::{FooterState, Segment};
use commits::{Commit, Commits};
use extents::Extents;
use footer::{Summary, footer_room};
use format::{FrameKind, Position, ShardKey};
use index::{Building, Room};
use policy::Policy;
use producers::{Claim, Gone, Producers, Verdict, most_entries};
pub use reclaim::{LiveSegment, Reclaim};
use recover::Recovery;
use relocate::Relocation;
use segment::Files;
pub use snapshot::Held;
use snapshot::Pin;
use std::collections::VecDeque;
pub use survey::Fate;
use survey::Survey;

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
    /// There is another half, which may have what this one has lost: recovery asks for it ([`Event::Doubted`]).
    pub mirrored: bool,
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
    /// A subscription goes on one number too far behind an event.
    pub events_skip: bool,
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
    /// Of the body, where it came with one: what happened to it since is found by whoever reads it. `None`: as the body is now.
    pub body_crc: Option<u32>,
}

/// How full the log is. All in bytes but `free_segments`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In segments that hold records.
    pub live: u64,
    /// What records may take up, the reserve for relocation and for vouching not counted.
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
    /// Recovery is about to judge what stands in a file, and waits for [`Log::settled`].
    Doubted { file: FileName },
    /// Something that was acknowledged cannot be read.
    Damaged { file: FileName, position: Position, why: String },
    /// A segment that was to be emptied cannot be read at the moment; told once for each.
    Unread { file: FileName, position: Position, errno: Errno },
    /// A segment that the catalog knows is not there.
    Missing { position: Position },
    /// Recovery cannot go on; nothing was changed.
    Unreadable { file: Option<FileName>, why: String },
    /// An operation failed: nothing is appended any more, reads go on.
    Failed { what: &'static str, errno: Errno },
    /// A segment is free for new use.
    Recycled { incarnation: u32 },
    /// The file system has no room for another file of the log, or (`back`) has it again.
    Room { back: bool },
}

/// Number and arrival (µs) that a shard goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub shard: ShardKey,
    /// The next sequence number.
    pub next: u64,
    pub arrival: u64,
}

/// One log. Inputs are `on_*`, `recover`, `start`, the frame calls and `end_turn`; outputs are ops, `durable`, `deadline` and `event`.
pub struct Log {
    settings: Settings,
    counters: Counters,
    phase: Phase,
    failed: Option<(&'static str, Errno)>,
    events: VecDeque<Event>,
    files: Files,
    /// The chain, oldest first; the last one is the active one while `active`.
    segments: VecDeque<Segment>,
    /// Whether the last segment may be appended to.
    active: bool,
    /// Byte of the active segment where the next commit begins.
    at: u32,
    /// Where the records of sealed segments are, and those that were moved into the active one.
    extents: Extents,
    /// Index of the active segment, and memory for the next one's.
    building: Building,
    spare: Vec<Building>,
    /// Indexes of segments that were left in this turn, by incarnation.
    sealing: Vec<(u32, Building)>,
    /// Frames of the active segment that are neither closed nor cancelled.
    open_frames: u32,
    commits: Commits,
    /// Byte of the header of the last frame, in the newest commit that lies where it was received.
    last_in_place: u32,
    /// Of the commits that this run writes.
    epoch: u32,
    /// CRC of the newest sealed commit.
    last_crc: u32,
    next_incarnation: u32,
    durable: Position,
    /// Writes on their way.
    writing: usize,
    /// The flush on its way makes the commits below this number durable.
    flushing: Option<u64>,
    /// When the log's end is vouched for, if nothing is appended until then.
    vouch_due: Option<Mono>,
    /// Nothing says yet that the end which recovery came to is durable.
    unvouched: bool,
    newest: Vec<Newest>,
    producers: Producers,
    /// What only frames in damaged segments say of it; those are not in the chain, so their files may be used again.
    raised: Vec<Newest>,
    survey: Survey,
    policy: Policy,
    relocation: Option<Box<Relocation>>,
    /// When its next step may be.
    relocation_due: Mono,
    /// What a durable commit calls durable.
    vouched: Position,
    recovery: Option<Box<Recovery>>,
    /// What a snapshot holds of it.
    pin: Pin,
}

enum Phase {
    New,
    Recovered,
    Running,
    /// A `stopped` commit follows when all is durable.
    Closing,
    /// It was appended (or cannot be).
    Stopping,
}

/// What an operation was for: bits 40..48 of a token; the number it concerns lies below.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    Commit = 1,
    Flush = 2,
    File = 3,
    Footer = 4,
    Recovery = 5,
    Relocation = 6,
}

/// `EIO`: what a short write is reported as.
const SHORT_WRITE: Errno = Errno(5);
const NUMBER_BITS: u64 = (1 << 40) - 1;

fn token(base: u64, purpose: Purpose, number: u64) -> Token {
    Token(base | (purpose as u64) << 40 | (number & NUMBER_BITS))
}

impl Log {
    pub fn new(settings: Settings, counters: Counters) -> Log {
        let (block, size) = (settings.block, settings.segment_size);
        let room = Room::new(footer_room(size, block), size, block);
        assert!(
            size <= 1 << 31 && size.is_multiple_of(block as u64),
            "a segment is whole blocks, and its bytes fit 31 bits"
        );
        assert!(settings.memory.len / 2 >= settings.commit_max && settings.commit_max.is_multiple_of(block));
        assert!(settings.files >= 4, "one active, one in reserve, two to let go and to go on to");
        Log {
            settings,
            counters,
            phase: Phase::New,
            failed: None,
            events: VecDeque::new(),
            files: Files::new(settings.number, size, settings.files),
            segments: VecDeque::with_capacity(settings.files as usize + 1),
            active: false,
            at: 0,
            extents: Extents::default(),
            building: Building::new(room),
            spare: vec![Building::new(room)],
            sealing: Vec::new(),
            open_frames: 0,
            commits: Commits::new(settings.memory.len, block),
            last_in_place: 0,
            epoch: settings.epoch,
            last_crc: 0,
            next_incarnation: 1,
            durable: Position(0),
            writing: 0,
            flushing: None,
            vouch_due: None,
            unvouched: false,
            newest: Vec::new(),
            producers: Producers::new(most_entries(size, settings.commit_max), settings.directory),
            raised: Vec::new(),
            survey: Survey::default(),
            policy: Policy::default(),
            relocation: None,
            relocation_due: Mono::default(),
            vouched: Position(0),
            recovery: None,
            pin: Pin::default(),
        }
    }

    /// Appending may begin, in epoch `epoch`, which the superblock holds durably.
    pub fn start(&mut self, epoch: u32) {
        assert!(matches!(self.phase, Phase::Recovered), "started once, after recovery");
        assert!(epoch >= self.epoch, "epochs never fall");
        self.epoch = epoch;
        self.phase = Phase::Running;
        if self.unvouched {
            // At once: readers are about to see it.
            self.vouch_due = Some(Mono::default());
        }
    }

    /// It may have `files` files from now on; what it has beyond goes when it is free.
    pub fn allow(&mut self, files: u32) {
        self.settings.files = files;
        self.files.allow(files);
    }

    /// The answer to an op of this log (its token carries `Settings::tokens`).
    pub fn on_done(&mut self, now: Now, done: Token, result: Result<u32, Errno>, buffers: &mut Buffers, ops: &mut Ops) {
        let number = done.0 & NUMBER_BITS;
        let is = |purpose: Purpose| (done.0 >> 40) as u8 == purpose as u8;
        if is(Purpose::Commit) {
            self.on_commit(now, number, result);
        } else if is(Purpose::Flush) {
            self.on_flush(now, result);
        } else if is(Purpose::File) {
            match result {
                Ok(_) => self.files.on_done(number as u32, done, ops),
                Err(errno) if self.files.on_failed(number as u32, errno) => self.fail("making a segment file", errno),
                Err(_) => {}
            }
        } else if is(Purpose::Footer) {
            self.on_footer(number as u32, result, buffers);
        } else if is(Purpose::Recovery) {
            self.on_recovery(result, buffers, ops);
        } else if is(Purpose::Relocation) {
            self.on_relocation_read(now, result, buffers);
        }
    }

    /// The end of a turn: seals and submits what has arrived, vouches when idle, prepares and seals segments.
    pub fn end_turn(&mut self, now: Now, buffers: &mut Buffers, ops: &mut Ops) {
        let started = !matches!(self.phase, Phase::New | Phase::Recovered);
        if self.failed.is_some() || !started {
            return;
        }
        debug_assert_eq!(self.open_frames, 0, "frames are closed or cancelled before the turn ends");
        self.seal_for_snapshot();
        self.complete_indexes();
        self.append_bare_commits(now, buffers);
        let (base, closing) = (self.settings.tokens, !matches!(self.phase, Phase::Running));
        // The last thing that a stopping log wants is a gigabyte of new segment.
        if !closing || !self.commits.is_settled() {
            self.files.advance(now.mono, |index| token(base, Purpose::File, index as u64), ops);
        }
        if let Some(back) = self.files.room_news() {
            self.events.push_back(Event::Room { back });
        }
        self.commits.stamp(now.mono);
        self.submit(now, buffers, ops);
        self.flush(ops);
        self.write_footers(buffers, ops);
    }

    /// When `end_turn` must be called though nothing completes.
    pub fn deadline(&self) -> Option<Mono> {
        [self.vouch_due, self.relocation_deadline()].into_iter().flatten().min()
    }

    /// Everything below is durable, and visible.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The operation that failed it for good.
    pub fn failed(&self) -> Option<(&'static str, Errno)> {
        self.failed
    }

    /// Whether a commit or flush is on its way to the device.
    pub fn in_flight(&self) -> bool {
        self.writing > 0 || self.flushing.is_some()
    }

    pub fn usage(&self) -> Usage {
        let size = self.settings.segment_size;
        let whole = self.segments.len() as u64 - self.active as u64;
        Usage {
            live: whole * size + if self.active { self.at as u64 } else { 0 },
            capacity: (self.settings.files - self.reserve().min(self.settings.files)) as u64 * size,
            free_segments: self.files.free().saturating_sub(self.reserve()),
        }
    }

    /// Begins a clean stop: what was appended becomes durable, then a `stopped` commit. No frame may be opened any more.
    pub fn close(&mut self) {
        self.phase = match self.phase {
            Phase::Running => Phase::Closing,
            _ => Phase::Stopping,
        };
    }

    /// Whether the stop is complete (or cannot be, because the log has failed).
    pub fn closed(&self) -> bool {
        let writing_footer =
            |s: &Segment| matches!(s.footer, FooterState::WritingRuns { .. } | FooterState::Writing { .. });
        let stopped = matches!(self.phase, Phase::Stopping) && self.commits.is_settled();
        let reads = self.in_flight() || self.relocation_reads();
        !reads && (self.failed.is_some() || stopped) && !self.segments.iter().any(writing_footer)
    }

    /// After recovery: where each shard goes on, from its records and from what damage left of them.
    pub fn newest(&self) -> impl Iterator<Item = Newest> {
        self.newest.iter().copied()
    }

    /// Whether a batch of a producer is to be appended, or has been.
    pub fn judge(&self, claim: &Claim, now: Wall) -> Verdict {
        self.producers.judge(claim, now)
    }

    /// Forgets producers that have been silent for a day at `now`.
    pub fn expire_producers(&mut self, now: Wall) {
        self.producers.expire(now);
    }

    /// Where a commit that is in memory lies, in whole blocks.
    fn memory_of(&self, commit: &Commit) -> Span {
        commit.elsewhere.unwrap_or_else(|| self.settings.memory.part(commit.at, self.commits.extent(commit)))
    }

    /// What is known of the producers of `shard`, as [`Log::adopt_producers`] of another log takes it; empty where that is nothing.
    pub fn producers_of(&self, shard: ShardKey) -> Vec<u8> {
        let mut table = vec![0; self.producers.encoded(Some(shard))];
        self.producers.encode(Some(shard), &mut table);
        table
    }

    /// Before it recovers: nobody asks what producers have sent to the shards for which `gone` says so.
    pub fn pass_over_producers(&mut self, gone: Box<Gone>) {
        self.producers.pass_over(Some(gone));
    }

    /// Nobody asks any more what producers have sent to the shards for which `gone` says so.
    pub fn forget_producers(&mut self, gone: impl Fn(ShardKey) -> bool) {
        self.producers.forget(gone);
    }

    /// Segments that hold something.
    pub fn segments(&self) -> u32 {
        self.segments.len() as u32
    }

    /// Highest epoch that recovery has met: the next one must be above it, whatever the superblock says.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Something that happened, oldest first.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn fail(&mut self, what: &'static str, errno: Errno) {
        if self.failed.is_none() {
            self.failed = Some((what, errno));
            self.vouch_due = None;
            self.events.push_back(Event::Failed { what, errno });
        }
    }

    /// Byte of a segment file that data does not pass.
    fn data_end(&self) -> u32 {
        (self.settings.segment_size - footer_room(self.settings.segment_size, self.settings.block)) as u32
    }

    /// Free segments that frames do not use: a full log still vouches and stops, and has a segment to move into what is left of others.
    fn reserve(&self) -> u32 {
        match self.settings.files {
            ..8 => 1,
            8..16 => 2,
            _ => 3,
        }
    }

    /// Free segments that moved frames do not use.
    fn relocation_reserve(&self) -> u32 {
        (self.reserve() - 1).max(1)
    }

    fn room(&self) -> Room {
        let size = self.settings.segment_size;
        Room::new(footer_room(size, self.settings.block), size, self.settings.block)
    }

    fn position(&self, incarnation: u32, at: u32) -> Position {
        Position(incarnation as u64 * self.settings.segment_size + at as u64)
    }

    /// The segment of incarnation `incarnation` in the chain.
    fn segment_index(&self, incarnation: u32) -> Option<usize> {
        self.segments.binary_search_by_key(&incarnation, |segment| segment.incarnation).ok()
    }

    /// Indexes of the segments that are not sealed, by incarnation: the active one, and those that were left in this turn.
    fn buildings(&self) -> impl Iterator<Item = (u32, &Building)> {
        let active = self.segments.back().filter(|_| self.active).map(|segment| (segment.incarnation, &self.building));
        active.into_iter().chain(self.sealing.iter().map(|(incarnation, building)| (*incarnation, building)))
    }

    fn building_of(&self, incarnation: u32) -> Option<&Building> {
        self.buildings().find(|(of, _)| *of == incarnation).map(|(_, building)| building)
    }

    /// Byte behind the last commit of a segment of the chain, as far as commits are laid out.
    fn segment_end(&self, index: usize) -> u32 {
        match self.active && index + 1 == self.segments.len() {
            true => self.at.max(self.commits.filling().map_or(0, |c| c.file_at + self.commits.extent(c))),
            false => self.segments[index].end,
        }
    }

    fn summary(&self, segment: &Segment) -> Summary {
        Summary {
            incarnation: segment.incarnation,
            log: self.settings.number,
            epoch: segment.epoch,
            first_previous: segment.first_previous,
            last_crc: segment.last_crc,
            end: segment.end,
            runs_from: 0,
            runs: 0,
            runs_crc: 0,
        }
    }
}

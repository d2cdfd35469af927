//! Where the frames of each shard lie in a segment: derived from the frames, exact in memory, never on the ack path.
//!
//! A *run* is a stretch of a shard's consecutive frames close to each other. Reading starts at a run and walks frames from there, so a
//! missing run costs time, never records. The room is capped by what a footer may hold: the first run of a shard in a segment always
//! fits (the appender asks [`Building::has_room`] before every frame and seals the segment when not), further ones while three quarters
//! of the room are free.

use super::format::{FrameHeader, ShardKey};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A run is left after this many bytes of its shard, so that a reader walks no more than that to its record.
const RUN_BYTES: u32 = 64 << 10;
/// … and where more of the log than this lies between two of its frames, so that a reader can pass over it.
const RUN_GAP: u32 = 1 << 20;
/// Bytes of an archived run and of an archived span: checked where they are archived (`footer.rs`).
pub const RUN_SIZE: usize = 32;
pub const SPAN_SIZE: usize = 56;
const NONE: u32 = u32::MAX;

/// A stretch of a shard's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub shard: ShardKey,
    /// Number of its first record.
    pub first: u64,
    /// Arrival of its first record (µs).
    pub arrival: u64,
    /// Byte of the file where its first frame begins.
    pub at: u32,
    /// Records.
    pub count: u32,
}

/// All of a shard in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSpan {
    pub shard: ShardKey,
    /// First number held, and the number after the last. A span without runs holds nothing, but numbers below `next` are used up.
    pub first: u64,
    pub next: u64,
    /// µs.
    pub first_arrival: u64,
    pub last_arrival: u64,
    pub records: u64,
    /// Its runs in the table of runs.
    pub runs_at: u32,
    pub runs: u32,
}

/// Where to start reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Number to go on from: the one asked for, or the next higher one held.
    pub sequence: u64,
    /// Byte of the file of a frame at or before it.
    pub at: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b as u64);
        }
    }
    fn write_u64(&mut self, key: u64) {
        // One multiplication spreads consecutive shards; the fold brings the high bits down to where the table looks.
        let mixed = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// What a segment's index may grow to. Follows from the segment size, so that the footer's room is known when the segment is begun.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes: usize,
    segment_size: u64,
}

impl Room {
    /// What a footer room of `footer_room` bytes holds, of a segment of `segment_size`.
    pub fn new(footer_room: u64, segment_size: u64) -> Room {
        Room { bytes: footer_room as usize - 256, segment_size }
    }

    fn spans(self) -> usize {
        self.bytes / (SPAN_SIZE + RUN_SIZE)
    }

    fn runs(self) -> usize {
        self.bytes / RUN_SIZE
    }

    fn fits(self, spans: usize, runs: usize) -> bool {
        spans * SPAN_SIZE + runs * RUN_SIZE <= self.bytes
    }
}

struct Tail {
    span: ShardSpan,
    /// Its newest run, behind which its last frame ends at byte `end` after `bytes` bytes of it.
    run: u32,
    bytes: u32,
    end: u32,
}

/// The index of the segment that is being appended to (or followed by recovery). Its memory is taken once.
pub struct Building {
    room: Room,
    tails: Vec<Tail>,
    slots: HashMap<ShardKey, u32, BuildHasherDefault<KeyHasher>>,
    runs: Vec<Run>,
    /// For each run, the run of the same shard before it.
    before: Vec<u32>,
}

impl Building {
    pub fn new(room: Room) -> Building {
        let mut slots = HashMap::default();
        slots.reserve(room.spans());
        Building {
            room,
            tails: Vec::with_capacity(room.spans()),
            slots,
            runs: Vec::with_capacity(room.runs()),
            before: Vec::with_capacity(room.runs()),
        }
    }

    /// Whether any frame can be added, also one of a shard that is not in the segment yet, for each of `open` frames and one more.
    pub fn has_room(&self, open: u32) -> bool {
        let more = open as usize + 1;
        self.room.fits(self.tails.len() + more, self.runs.len() + more) && self.tails.len() + more <= self.room.spans()
    }

    /// Adds a frame at byte `at` of the file. Frames of a shard come in order. Recovery, which has no say in what it finds, may pass the
    /// room: memory then grows, and the footer is not written.
    pub fn add(&mut self, at: u32, header: &FrameHeader) {
        let size = header.stride;
        let run = Run { shard: header.shard, first: header.sequence, arrival: header.arrival, at, count: header.count };
        let next = header.next();
        let Some(&slot) = self.slots.get(&header.shard) else {
            let span = ShardSpan {
                shard: header.shard,
                first: header.sequence,
                next,
                first_arrival: header.arrival,
                last_arrival: header.arrival,
                records: header.count as u64,
                runs_at: 0,
                runs: 1,
            };
            self.slots.insert(header.shard, self.tails.len() as u32);
            self.tails.push(Tail { span, run: self.runs.len() as u32, bytes: size, end: at + size });
            self.runs.push(run);
            self.before.push(NONE);
            return;
        };
        let tail = &mut self.tails[slot as usize];
        let empty = tail.span.runs == 0;
        let follows = !empty && tail.span.next == header.sequence;
        let run_at = self.runs.get(tail.run as usize).map_or(at, |run| run.at);
        let near = tail.bytes.saturating_add(size) <= RUN_BYTES
            && at.saturating_sub(tail.end) <= RUN_GAP
            && at.saturating_sub(run_at) as u64 <= self.run_span(at);
        let spare = self.spare_runs() > 0;
        let tail = &mut self.tails[slot as usize];
        if follows && (near || !spare) {
            self.runs[tail.run as usize].count += header.count;
            tail.bytes = tail.bytes.saturating_add(size);
        } else {
            self.before.push(if empty { NONE } else { tail.run });
            tail.run = self.runs.len() as u32;
            tail.bytes = size;
            tail.span.runs += 1;
            self.runs.push(run);
        }
        if empty {
            (tail.span.first, tail.span.first_arrival) = (header.sequence, header.arrival);
        }
        tail.end = at + size;
        tail.span.next = tail.span.next.max(next);
        tail.span.last_arrival = tail.span.last_arrival.max(header.arrival);
        tail.span.records += header.count as u64;
    }

    /// Runs that may still be begun for shards that have one: a quarter of the room is left for the first runs of others.
    fn spare_runs(&self) -> usize {
        let used = self.tails.len() * SPAN_SIZE + self.runs.len() * RUN_SIZE;
        (self.room.bytes / 4 * 3).saturating_sub(used) / RUN_SIZE
    }

    /// Bytes of the log, all shards', that a run may stretch over: [`RUN_GAP`], unless so many shards share the segment that the runs
    /// left have to be spread over the rest of it.
    fn run_span(&self, at: u32) -> u64 {
        let rest = self.room.segment_size.saturating_sub(at as u64);
        let spread = rest * self.tails.len() as u64 / (self.spare_runs() as u64).max(1);
        spread.max(RUN_GAP as u64)
    }

    /// Numbers of `shard` below `next` are used up, though the records are not here.
    pub fn raise(&mut self, shard: ShardKey, next: u64, arrival: u64) {
        if let Some(&slot) = self.slots.get(&shard) {
            let span = &mut self.tails[slot as usize].span;
            span.next = span.next.max(next);
            span.last_arrival = span.last_arrival.max(arrival);
            return;
        }
        let span = ShardSpan {
            shard,
            first: next,
            next,
            first_arrival: arrival,
            last_arrival: arrival,
            records: 0,
            runs_at: 0,
            runs: 0,
        };
        self.slots.insert(shard, self.tails.len() as u32);
        self.tails.push(Tail { span, run: NONE, bytes: 0, end: 0 });
    }

    pub fn span(&self, shard: ShardKey) -> Option<&ShardSpan> {
        self.slots.get(&shard).map(|&slot| &self.tails[slot as usize].span)
    }

    /// The newest run of `shard` for which `wanted` says yes, else its oldest.
    fn newest_run(&self, shard: ShardKey, wanted: impl Fn(&Run) -> bool) -> Option<&Run> {
        let &slot = self.slots.get(&shard)?;
        let mut at = self.tails[slot as usize].run;
        let mut found = None;
        while at != NONE {
            found = Some(&self.runs[at as usize]);
            if found.is_some_and(&wanted) {
                break;
            }
            at = self.before[at as usize];
        }
        found
    }

    /// Ends the segment: its index at its right size. The memory is kept for the next one.
    pub fn seal(&mut self) -> Sealed {
        self.runs.sort_unstable_by_key(|run| (run.shard, run.at));
        self.tails.sort_unstable_by_key(|tail| tail.span.shard);
        let mut runs_at = 0;
        for tail in &mut self.tails {
            tail.span.runs_at = runs_at;
            runs_at += tail.span.runs;
        }
        let sealed = Sealed {
            spans: self.tails.iter().map(|tail| tail.span).collect(),
            runs: self.runs.as_slice().into(),
            fits: self.room.fits(self.tails.len(), self.runs.len()),
        };
        self.clear();
        sealed
    }

    pub fn clear(&mut self) {
        self.tails.clear();
        self.slots.clear();
        self.runs.clear();
        self.before.clear();
    }
}

/// The index of a sealed segment: spans by shard, runs by shard and place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    pub spans: Box<[ShardSpan]>,
    pub runs: Box<[Run]>,
    /// Whether a footer holds it.
    pub fits: bool,
}

impl Sealed {
    pub fn span(&self, shard: ShardKey) -> Option<&ShardSpan> {
        let index = self.spans.binary_search_by_key(&shard, |span| span.shard).ok()?;
        Some(&self.spans[index])
    }

    fn newest_run(&self, shard: ShardKey, wanted: impl Fn(&Run) -> bool) -> Option<&Run> {
        let span = self.span(shard)?;
        let runs = &self.runs[span.runs_at as usize..(span.runs_at + span.runs) as usize];
        let after = runs.partition_point(wanted);
        runs.get(after.saturating_sub(1))
    }
}

/// The index of a segment, either kind.
pub enum View<'a> {
    Building(&'a Building),
    Sealed(&'a Sealed),
}

impl<'a> View<'a> {
    pub fn span(&self, shard: ShardKey) -> Option<&'a ShardSpan> {
        match self {
            View::Building(index) => index.span(shard),
            View::Sealed(index) => index.span(shard),
        }
    }

    pub fn for_each_span(&self, mut each: impl FnMut(&ShardSpan)) {
        match self {
            View::Building(index) => index.tails.iter().for_each(|tail| each(&tail.span)),
            View::Sealed(index) => index.spans.iter().for_each(each),
        }
    }

    fn newest_run(&self, shard: ShardKey, wanted: impl Fn(&Run) -> bool) -> Option<&'a Run> {
        match self {
            View::Building(index) => index.newest_run(shard, wanted),
            View::Sealed(index) => index.newest_run(shard, wanted),
        }
    }

    /// Where to find `sequence` in a segment whose span of the shard reaches beyond it.
    pub fn start(&self, shard: ShardKey, sequence: u64) -> Option<Start> {
        let run = self.newest_run(shard, |run| run.first <= sequence)?;
        Some(Start { sequence: sequence.max(run.first), at: run.at })
    }

    /// A run that begins before the first record that arrived at or after `arrival`, or the oldest one.
    pub fn start_at(&self, shard: ShardKey, arrival: u64) -> Option<Start> {
        let run = self.newest_run(shard, |run| run.arrival < arrival)?;
        Some(Start { sequence: run.first, at: run.at })
    }

    /// Whether the record of number `sequence` is in the segment: not passed over by a shard that went on at a higher number.
    pub fn holds(&self, shard: ShardKey, sequence: u64) -> bool {
        let run = self.newest_run(shard, |run| run.first <= sequence);
        run.is_some_and(|run| run.first <= sequence && sequence - run.first < run.count as u64)
    }
}

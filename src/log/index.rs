//! Where the frames of each shard lie in the segment that is being written: derived from the frames, exact in memory, never on the ack path.
//!
//! A *run* is a stretch of a shard's consecutive frames close to each other. Reading starts at a run and walks frames from there, so a
//! missing run costs time, never records. The room is capped by what a footer may hold: the first run of a shard in a segment always
//! fits (the appender asks [`Building::has_room`] before every frame and seals the segment when not), further ones while three quarters
//! of the room are free.
//!
//! Frames that were moved here from older segments have numbers below those that the shard is at: their runs are kept apart.

use super::extents::{Extent, RUNS_MAX};
use super::format::{FrameHeader, ShardKey};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// A run is left after this many bytes of its shard, so that a reader walks no more than that to its record.
pub const RUN_BYTES: u32 = 64 << 10;
/// … and where more of the log than this lies between two of its frames, so that a reader can pass over it.
const RUN_GAP: u32 = 1 << 20;
/// Bytes of an archived run and of an archived entry: checked where they are archived (`footer.rs`).
pub const RUN_SIZE: usize = 36;
pub const ENTRY_SIZE: usize = 40;
/// Most bytes of others between two runs that are read as one.
pub const CLOSE_BYTES: u32 = 16 << 10;
const NONE: u32 = u32::MAX;

/// A stretch of a shard's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub shard: ShardKey,
    /// Number of its first record.
    pub first: u64,
    /// Arrival of its first and of its last record (µs).
    pub arrival: u64,
    pub last_arrival: u64,
    /// Byte of the file where its first frame begins, and the one behind its last frame.
    pub at: u32,
    pub end: u32,
    /// Records; bytes of its frames.
    pub count: u32,
    pub bytes: u32,
}

impl Run {
    fn of(at: u32, header: &FrameHeader) -> Run {
        Run {
            shard: header.shard,
            first: header.sequence,
            arrival: header.arrival,
            last_arrival: header.arrival,
            at,
            end: at + header.stride,
            count: header.count,
            bytes: header.stride,
        }
    }

    /// The number after its last.
    pub fn next(&self) -> u64 {
        self.first + self.count as u64
    }

    /// Whether nine tenths of what it stretches over is the shard's.
    fn is_dense(&self) -> bool {
        (self.end - self.at) / 10 * 9 <= self.bytes
    }

    fn add(&mut self, at: u32, header: &FrameHeader) {
        self.count += header.count;
        self.bytes = self.bytes.saturating_add(header.stride);
        self.last_arrival = self.last_arrival.max(header.arrival);
        self.end = at + header.stride;
    }
}

/// What a sealed segment holds of a shard, as its footer says it: an extent, or (without records) numbers that are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub shard: ShardKey,
    /// Number of the first record. Without records: numbers below it are used up.
    pub first: u64,
    pub count: u32,
    pub at: u32,
    pub bytes: u32,
    /// µs.
    pub last_arrival: u64,
    /// Place of its first run in the table of runs, and how many.
    pub runs: (u32, u32),
    /// Moved here from an older segment. Not in the footer: whoever reads that meets the segments in order.
    pub moved: bool,
}

impl Entry {
    pub fn extent(&self, incarnation: u32) -> Extent {
        Extent::new((self.first, self.count), incarnation, (self.at, self.bytes), self.last_arrival, self.runs)
    }
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
    pub fn new(footer_room: u64, segment_size: u64, block: u32) -> Room {
        // Where there are several blocks, the runs have some to themselves.
        let padding = if footer_room > block as u64 { block } else { 0 };
        Room { bytes: footer_room as usize - padding as usize - 256, segment_size }
    }

    /// Frames, each of another shard, that an index holds.
    pub fn frames(self) -> u32 {
        self.shards() as u32
    }

    fn shards(self) -> usize {
        self.bytes / (ENTRY_SIZE + RUN_SIZE)
    }

    fn runs(self) -> usize {
        self.bytes / RUN_SIZE
    }

    fn fits(self, entries: usize, runs: usize) -> bool {
        entries * ENTRY_SIZE + runs * RUN_SIZE <= self.bytes
    }
}

/// Of a shard whose own frames are in the segment.
struct Tail {
    shard: ShardKey,
    first: u64,
    next: u64,
    last_arrival: u64,
    /// Its newest run.
    run: u32,
}

/// The index of the segment that is being appended to (or followed by recovery). Its memory is taken once.
pub struct Building {
    room: Room,
    tails: Vec<Tail>,
    slots: HashMap<ShardKey, u32, BuildHasherDefault<KeyHasher>>,
    runs: Vec<Run>,
    /// For each run, the run of the same shard before it.
    before: Vec<u32>,
    /// Runs that begin where the shard's last one did not end.
    breaks: usize,
    /// Runs of frames that were moved here, by shard and first number.
    moved: BTreeMap<(ShardKey, u64), Run>,
    /// Numbers that are used up though their records are not here: (next, arrival).
    raised: BTreeMap<ShardKey, (u64, u64)>,
}

/// The index of a segment that is being sealed.
pub struct Sealed {
    /// By shard and number.
    pub entries: Vec<Entry>,
    /// In the order of the entries.
    pub runs: Vec<Run>,
    /// Whether a footer holds it.
    pub fits: bool,
}

impl Sealed {
    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        (self.entries.capacity() * size_of::<Entry>() + self.runs.capacity() * size_of::<Run>()) as u64
    }
}

impl Building {
    pub fn new(room: Room) -> Building {
        let mut slots = HashMap::default();
        slots.reserve(room.shards());
        Building {
            room,
            tails: Vec::with_capacity(room.shards()),
            slots,
            runs: Vec::with_capacity(room.runs()),
            before: Vec::with_capacity(room.runs()),
            breaks: 0,
            moved: BTreeMap::new(),
            raised: BTreeMap::new(),
        }
    }

    /// Entries that the footer would have, at most.
    fn entries(&self) -> usize {
        let cut = self.runs.len() / RUNS_MAX as usize;
        self.tails.len() + self.breaks + cut + self.moved.len() + self.raised.len()
    }

    /// Whether any frames can be added, also of shards that are not in the segment yet: `open` of them and one more.
    pub fn has_room(&self, open: u32) -> bool {
        let more = open as usize + 1;
        self.room.fits(self.entries() + more, self.runs.len() + self.moved.len() + more)
            && self.tails.len() + more <= self.room.shards()
    }

    /// Frames, each of another shard perhaps, that [`Building::has_room`] says yes to.
    pub fn frames_max(&self) -> u32 {
        let used = self.entries() * ENTRY_SIZE + (self.runs.len() + self.moved.len()) * RUN_SIZE;
        (self.room.bytes.saturating_sub(used) / (ENTRY_SIZE + RUN_SIZE)) as u32
    }

    /// Adds a frame at byte `at` of the file. Frames of a shard come in order. Recovery, which has no say in what it finds, may pass the
    /// room: memory then grows, and the footer is not written.
    pub fn add(&mut self, at: u32, header: &FrameHeader) {
        let run = Run::of(at, header);
        let Some(&slot) = self.slots.get(&header.shard) else {
            self.slots.insert(header.shard, self.tails.len() as u32);
            self.tails.push(Tail {
                shard: header.shard,
                first: header.sequence,
                next: header.next(),
                last_arrival: header.arrival,
                run: self.runs.len() as u32,
            });
            self.runs.push(run);
            self.before.push(NONE);
            return;
        };
        let tail = &self.tails[slot as usize];
        let newest = self.runs[tail.run as usize];
        let follows = tail.next == header.sequence;
        let near = newest.bytes.saturating_add(header.stride) <= RUN_BYTES
            && at.saturating_sub(newest.end) <= RUN_GAP
            && at.saturating_sub(newest.at) as u64 <= self.run_span(at);
        let spare = self.spare_runs() > 0;
        let tail = &mut self.tails[slot as usize];
        if follows && (near || !spare) {
            self.runs[tail.run as usize].add(at, header);
        } else {
            self.breaks += !follows as usize;
            self.before.push(tail.run);
            tail.run = self.runs.len() as u32;
            self.runs.push(run);
        }
        tail.next = tail.next.max(header.next());
        tail.last_arrival = tail.last_arrival.max(header.arrival);
    }

    /// Adds a frame that was moved here.
    pub fn add_moved(&mut self, at: u32, header: &FrameHeader) {
        let before = self.moved.range_mut(..(header.shard, header.sequence)).next_back();
        if let Some((_, run)) = before
            && (run.shard, run.next()) == (header.shard, header.sequence)
            && run.end == at
            && run.bytes.saturating_add(header.stride) <= RUN_BYTES
        {
            return run.add(at, header);
        }
        self.moved.insert((header.shard, header.sequence), Run::of(at, header));
    }

    /// Runs that may still be begun for shards that have one: a quarter of the room is left for the first runs of others.
    fn spare_runs(&self) -> usize {
        let used = self.entries() * ENTRY_SIZE + (self.runs.len() + self.moved.len()) * RUN_SIZE;
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
        let known = self.raised.entry(shard).or_default();
        *known = (known.0.max(next), known.1.max(arrival));
    }

    fn tail(&self, shard: ShardKey) -> Option<&Tail> {
        self.slots.get(&shard).map(|&slot| &self.tails[slot as usize])
    }

    /// Numbers of the shard's own frames here: the first, and the one after the last.
    pub fn numbers(&self, shard: ShardKey) -> Option<(u64, u64)> {
        self.tail(shard).map(|tail| (tail.first, tail.next))
    }

    /// Arrival of the shard's newest frame here (µs).
    pub fn last_arrival(&self, shard: ShardKey) -> Option<u64> {
        self.tail(shard).map(|tail| tail.last_arrival)
    }

    /// For each shard with frames of its own here: (shard, next number, last arrival).
    pub fn for_each(&self, mut each: impl FnMut(ShardKey, u64, u64)) {
        self.tails.iter().for_each(|tail| each(tail.shard, tail.next, tail.last_arrival));
        self.raised.iter().for_each(|(shard, (next, arrival))| each(*shard, *next, *arrival));
    }

    /// The newest run of `shard` for which `wanted` says yes, else its oldest.
    fn newest_run(&self, shard: ShardKey, wanted: impl Fn(&Run) -> bool) -> Option<&Run> {
        self.newest_run_index(shard, wanted).map(|index| &self.runs[index])
    }

    fn newest_run_index(&self, shard: ShardKey, wanted: impl Fn(&Run) -> bool) -> Option<usize> {
        let mut at = self.tail(shard)?.run;
        while !wanted(&self.runs[at as usize]) && self.before[at as usize] != NONE {
            at = self.before[at as usize];
        }
        Some(at as usize)
    }

    /// The run with `sequence` among the shard's own frames: where it begins, and where it ends or, if little of others is in it and behind it, the
    /// last one close to it that ends at byte `reach` at the latest. And whether so little is in it.
    pub fn stretch(&self, shard: ShardKey, sequence: u64, reach: u32) -> Option<(u32, u32, bool)> {
        let first = self.newest_run_index(shard, |run| run.first <= sequence)?;
        let Run { at, mut end, .. } = self.runs[first];
        let dense = self.runs[first].is_dense();
        let mut later = self.runs[first + 1..].iter().filter(|_| dense);
        while let Some(run) = later.next().filter(|run| run.at <= end.saturating_add(CLOSE_BYTES)) {
            if run.shard == shard && (run.end > reach || !run.is_dense()) {
                break;
            }
            end = if run.shard == shard { run.end } else { end };
        }
        Some((at, end, dense))
    }

    /// Where to find `sequence` among the shard's own frames, which reach beyond it.
    pub fn start(&self, shard: ShardKey, sequence: u64) -> Option<Start> {
        let run = self.newest_run(shard, |run| run.first <= sequence)?;
        Some(Start { sequence: sequence.max(run.first), at: run.at })
    }

    /// A run that begins before the first record that arrived at or after `arrival`, or the oldest one.
    pub fn start_at(&self, shard: ShardKey, arrival: u64) -> Option<Start> {
        let run = self.newest_run(shard, |run| run.arrival < arrival)?;
        Some(Start { sequence: run.first, at: run.at })
    }

    /// The run with `sequence` among the frames that were moved here.
    pub fn moved_run(&self, shard: ShardKey, sequence: u64) -> Option<&Run> {
        let (_, run) = self.moved.range((shard, 0)..=(shard, sequence)).next_back()?;
        (sequence < run.next()).then_some(run)
    }

    /// Whether the record of number `sequence` is among the shard's own frames: not passed over by a shard that went on at a higher one.
    pub fn holds(&self, shard: ShardKey, sequence: u64) -> bool {
        let run = self.newest_run(shard, |run| run.first <= sequence);
        run.is_some_and(|run| run.first <= sequence && sequence < run.next())
    }

    /// Records, moved ones counted out: those have extents.
    pub fn records(&self) -> u64 {
        self.runs.iter().map(|run| run.count as u64).sum()
    }

    /// Ends the segment: its index as the footer has it. The memory is kept for the next one.
    pub fn seal(&mut self) -> Sealed {
        let mut runs: Vec<(Run, bool)> = self.runs.drain(..).map(|run| (run, false)).collect();
        runs.extend(std::mem::take(&mut self.moved).into_values().map(|run| (run, true)));
        runs.sort_unstable_by_key(|(run, _)| (run.shard, run.first));
        let mut entries: Vec<Entry> = Vec::new();
        for (at, (run, moved)) in runs.iter().enumerate() {
            match entries.last_mut() {
                Some(last)
                    if (last.shard, last.first + last.count as u64, last.moved) == (run.shard, run.first, *moved)
                        // A reader walks forwards: what was moved here from two segments may lie the other way round.
                        && runs[at - 1].0.at < run.at
                        && last.runs.1 < RUNS_MAX =>
                {
                    last.count += run.count;
                    last.bytes = last.bytes.saturating_add(run.bytes);
                    last.last_arrival = last.last_arrival.max(run.last_arrival);
                    last.runs.1 += 1;
                }
                _ => entries.push(Entry {
                    shard: run.shard,
                    first: run.first,
                    count: run.count,
                    at: run.at,
                    bytes: run.bytes,
                    last_arrival: run.last_arrival,
                    runs: (at as u32, 1),
                    moved: *moved,
                }),
            }
        }
        let used_up = std::mem::take(&mut self.raised).into_iter();
        entries.extend(used_up.map(|(shard, (first, last_arrival))| Entry {
            shard,
            first,
            count: 0,
            at: 0,
            bytes: 0,
            last_arrival,
            runs: (0, 0),
            moved: false,
        }));
        self.clear();
        let fits = self.room.fits(entries.len(), runs.len());
        Sealed { entries, runs: runs.into_iter().map(|(run, _)| run).collect(), fits }
    }

    pub fn clear(&mut self) {
        self.tails.clear();
        self.slots.clear();
        self.runs.clear();
        self.before.clear();
        self.breaks = 0;
        self.moved.clear();
        self.raised.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::FrameKind;

    const SHARD: ShardKey = ShardKey::new(1, 1);
    const OTHER: ShardKey = ShardKey::new(1, 2);

    /// A segment with these frames one behind the other, of one record each: (shard, bytes).
    fn segment(frames: &[(ShardKey, u32)]) -> Building {
        let mut building = Building::new(Room::new(1 << 20, 64 << 20, 4096));
        let mut at = 0;
        for &(shard, stride) in frames {
            let sequence = building.numbers(shard).map_or(1, |(_, next)| next);
            let header = FrameHeader {
                kind: FrameKind::Batch,
                stride,
                body: stride - 64,
                count: 1,
                shard,
                sequence,
                arrival: sequence,
                producer: 0,
                number: 0,
                incarnation: 1,
                body_crc: 0,
            };
            building.add(at, &header);
            at += stride;
        }
        building
    }

    #[test]
    fn a_stretch_goes_through_runs_that_lie_close_as_far_as_it_may() {
        const K: u32 = 1 << 10;
        let close = segment(&[(SHARD, 60 * K), (SHARD, 60 * K), (OTHER, 16 * K), (SHARD, 60 * K)]);
        assert_eq!(close.stretch(SHARD, 1, 0), Some((0, 60 * K, true)), "its run always");
        assert_eq!(close.stretch(SHARD, 1, 120 * K), Some((0, 120 * K, true)));
        assert_eq!(close.stretch(SHARD, 1, 196 * K - 1), Some((0, 120 * K, true)), "whole runs");
        assert_eq!(close.stretch(SHARD, 1, 196 * K), Some((0, 196 * K, true)));
        assert_eq!(close.stretch(SHARD, 2, 196 * K), Some((60 * K, 196 * K, true)), "from the run with the number");
        let apart = segment(&[(SHARD, 60 * K), (OTHER, 17 * K), (SHARD, 60 * K)]);
        assert_eq!(apart.stretch(SHARD, 1, u32::MAX), Some((0, 60 * K, true)));
        let sparse = segment(&[(SHARD, K), (OTHER, 9 * K), (SHARD, K), (SHARD, 63 * K)]);
        assert_eq!(sparse.stretch(SHARD, 1, u32::MAX), Some((0, 11 * K, false)), "mostly others'");
        let behind = segment(&[(SHARD, 64 * K), (SHARD, K), (OTHER, 9 * K), (SHARD, K)]);
        assert_eq!(behind.stretch(SHARD, 1, u32::MAX), Some((0, 64 * K, true)), "the next one is mostly others'");
    }
}

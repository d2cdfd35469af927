//! Reads one shard's frames in order, from memory or in steps from the device.
//!
//! A reader seeks to a run by the index, then walks: a frame is followed, `stride` bytes on, by the next one of its commit, or by zeros up
//! to the next block, where a commit header stands. Frames of other shards are passed over; when that would take a read of the device,
//! the index is asked first for a run further on.
//!
//! A reader that meets damage goes on at the next commit, and asks the index whether a record of its shard is missing then: only that is
//! told. Else a flipped bit of one shard would stop the readers of all.

mod runs;

use super::Log;
use super::find::{Located, Place};
use super::format::{
    CommitHeader, CommitKind, FrameHeader, FrameKind, HEADER, Position, ShardKey, header_at, is_commit, is_frame,
    peek_frame, round_up,
};
use super::index::CLOSE_BYTES;
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{Errno, FileName};
use std::ops::Range;

/// Bytes that are read at once, unless a frame is larger: what a run holds, four times over, for shards that share a log.
const READ_BYTES: u32 = 256 << 10;
/// The same for a reader that goes on from an earlier read through runs that have little of others in and between them: what it read then,
/// twice over, up to a slot of `Pool::Medium`.
const FOLLOWING_BYTES: u32 = 1 << 20;

/// What a reader needs, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next frame, checked: CRC, incarnation, shard, sequence. Its first records may lie before the number asked for. The body is
    /// valid until the next `open_frame` of the log, or until the span of the last read is used for something else.
    Frame { header: FrameHeader, body: Span, position: Position },
    /// Emit `Op::ReadAt` of `len` bytes (at most the largest commit) at byte `at` into a span of that length or more, then call
    /// [`Reader::filled`], or, when the read failed, [`Reader::failed`].
    Read { file: FileName, at: u64, len: u32 },
    /// Runs of a segment, whose table begins at `position`, cannot be used: told by each reader that has to do without. It walks the frames
    /// instead, and nothing is lost by it.
    PassedOver { file: FileName, position: Position, why: String },
    /// All that is durable has been read.
    End,
    /// Acknowledged records of the shard cannot be read; the next call goes on behind them. Damage of other shards' frames is passed over.
    Damaged { file: FileName, position: Position, why: String },
}

/// Part of a segment file in the caller's memory.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    incarnation: u32,
    /// Byte of the file, and what of `span` is filled from there.
    at: u32,
    span: Span,
}

/// A read that was asked for, as [`Step::Read`] says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub file: FileName,
    incarnation: u32,
    pub at: u32,
    pub len: u32,
}

/// A run of the shard, as far as a reader needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: u64,
    arrival: u64,
    /// Byte of the file where it begins, and the one behind it.
    at: u32,
    end: u32,
}

/// The runs of the extent that is being read.
#[derive(Clone, Debug, Default)]
struct Stretches {
    /// Of which segment and which place of its table.
    of: Option<(u32, u32)>,
    runs: Vec<Stretch>,
    /// Nine tenths of what they stretch over is the shard's.
    dense: bool,
}

/// A cursor over the frames of a shard.
#[derive(Clone, Debug)]
pub struct Reader {
    shard: ShardKey,
    /// The next number wanted.
    sequence: u64,
    /// Where to begin, in µs, until the first seek has made a number of it.
    arrival: Option<u64>,
    /// Where a header is expected; `None`: to be found by the index.
    at: Option<Position>,
    /// Where the frame that was given last stands, and its numbers.
    given: Option<(Position, Range<u64>)>,
    /// From this number on the index is asked again; `u64::MAX` where the shard's own frames of an unsealed segment are read.
    until: u64,
    stretches: Stretches,
    /// Runs that have led past a record: (segment, place of its table). The extent is walked from its start.
    distrusted: Option<(u32, u32)>,
    chunk: Option<Chunk>,
    asked: Option<Asked>,
    /// Bytes of the read of frames before; 0 before the first.
    follows: u32,
    /// Only looks where the next read will be.
    scouts: bool,
    /// That read is for runs; and why it has failed.
    asked_runs: bool,
    failed: Option<Errno>,
    /// After damage: looks for the next block with a commit header.
    lost: bool,
    /// Damage that was met since the last frame of the shard: told if the shard is found to have lost something by it.
    met: Option<(Position, String)>,
}

impl Reader {
    /// From number `sequence`; one no longer held gives the next higher one.
    pub fn new(shard: ShardKey, sequence: u64) -> Reader {
        Reader {
            shard,
            sequence,
            arrival: None,
            at: None,
            given: None,
            until: 0,
            stretches: Stretches::default(),
            distrusted: None,
            chunk: None,
            asked: None,
            follows: 0,
            scouts: false,
            asked_runs: false,
            failed: None,
            lost: false,
            met: None,
        }
    }

    /// From a frame that begins at or before the first record that arrived at or after `arrival` (µs): the caller filters.
    pub fn at_arrival(shard: ShardKey, arrival: u64) -> Reader {
        Reader { arrival: Some(arrival), ..Reader::new(shard, 0) }
    }

    /// The next frame, or what it takes to get there.
    pub fn next(&mut self, log: &Log, buffers: &Buffers) -> Step {
        loop {
            let position = match self.at {
                Some(position) => position,
                None => match self.seek(log, buffers) {
                    Ok(Some(position)) => position,
                    Ok(None) => return Step::End,
                    Err(read) => return read,
                },
            };
            self.at = Some(position);
            let Some(place) = log.place(position) else {
                // Its segment was recycled: what is left is found by number.
                self.at = None;
                continue;
            };
            if self.scouts && log.commits.holding(position).is_some() {
                return Step::End;
            }
            if self.sequence >= self.until && !self.goes_on_here(log, &place) {
                self.at = None;
                continue;
            }
            if place.byte >= place.end {
                // Records that are not durable yet are not missed.
                let whole = log.position(place.incarnation, log.segment_end(place.index)) <= log.visible();
                let lost = whole && log.owns(place.incarnation, self.shard, self.sequence);
                if position >= log.visible() && !lost {
                    return Step::End;
                }
                self.at = None;
                if lost && !self.distrust(log, &place) {
                    let missing = self.sequence;
                    self.sequence = log.end_of(place.incarnation, self.shard, missing);
                    return self.lost_number(&place, position, missing);
                }
                continue;
            }
            if let Some(step) = self.walk(log, buffers, &place) {
                return step;
            }
        }
    }

    /// The read that `next` asked for has put `bytes` bytes into `span`.
    pub fn filled(&mut self, span: Span, bytes: u32) {
        if let Some(asked) = self.asked {
            let span = span.first(bytes.min(asked.len).min(span.len));
            self.chunk = Some(Chunk { incarnation: asked.incarnation, at: asked.at, span });
            self.follows = if self.asked_runs { self.follows } else { asked.len };
        }
    }

    /// The read that `next` asked for has failed: whether the reader can do without. It can where runs were to be read: the extent is then
    /// walked from its start.
    pub fn failed(&mut self, errno: Errno) -> bool {
        self.failed = self.asked_runs.then_some(errno);
        self.asked_runs
    }

    /// The number that it goes on from.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Sets a reader that has just given a frame, or asked for a read, to number `sequence`, for somebody who has everything below it;
    /// `false`: it does not know where that is.
    pub fn goes_on_from(&mut self, sequence: u64) -> bool {
        if self.arrival.is_some() || sequence > self.sequence {
            return false;
        }
        if sequence < self.sequence {
            // One that the frame given last does not hold was passed over: the index has to be asked.
            let Some((position, _)) = self.given.as_ref().filter(|(_, numbers)| numbers.contains(&sequence)) else {
                return false;
            };
            (self.at, self.sequence, self.lost, self.met) = (Some(*position), sequence, false, None);
        }
        true
    }

    /// The read that `next` has asked for last.
    pub fn asked(&self) -> Option<Asked> {
        self.asked
    }

    /// Bytes that the last read has brought.
    pub fn bytes_read(&self) -> usize {
        self.chunk.map_or(0, |chunk| chunk.span.len as usize)
    }

    /// The read that `next` will ask for behind what the last one has brought, as far as that can be told now: of frames, or of runs.
    pub fn ahead(&self, log: &Log, buffers: &Buffers) -> Option<Asked> {
        let Some(chunk) = self.chunk else {
            return self.asked.filter(|asked| log.segment_index(asked.incarnation).is_some());
        };
        if self.asked_runs {
            return None;
        }
        let mut scout = Reader { scouts: true, ..self.clone() };
        // The last run that begins there spares it the way to there.
        let begins = |run: &&Stretch| run.first > self.sequence && run.at < chunk.at + chunk.span.len;
        if let Some(run) = self.runs_of(chunk.incarnation).iter().rev().find(begins) {
            (scout.at, scout.sequence) = (Some(log.position(chunk.incarnation, run.at)), run.first);
        }
        loop {
            match scout.next(log, buffers) {
                Step::Frame { .. } => {}
                Step::Read { .. } => return scout.asked,
                _ => return None,
            }
        }
    }

    /// Whether what the last read that was asked for is to bring has gone meanwhile: the file may be another's.
    pub fn asks_in_vain(&self, log: &Log) -> bool {
        self.asked.is_some_and(|asked| log.segment_index(asked.incarnation).is_none())
    }

    /// The span that the last read went into is used for something else from now on.
    pub fn forget_bytes(&mut self) {
        (self.chunk, self.asked, self.failed) = (None, None, None);
    }

    /// Behind the end of an extent: whether the next numbers that anyone holds lie further on in this segment. Frames between, which damage
    /// has taken from the index, are then met on the way.
    fn goes_on_here(&mut self, log: &Log, place: &Place) -> bool {
        match log.locate(self.shard, self.sequence) {
            Some(Located::Extent(extent)) if extent.incarnation == place.incarnation => {
                let hole = extent.first > self.sequence && extent.at() >= place.byte;
                if hole {
                    self.until = extent.end();
                }
                hole
            }
            _ => false,
        }
    }

    /// A record was not met where the runs led: whether the extent is to be walked from its start before anything is told: what damage
    /// has taken from the index is met on the way.
    fn distrust(&mut self, log: &Log, place: &Place) -> bool {
        let Some(extent) = log.extents.owner(self.shard, self.sequence, place.incarnation) else { return false };
        let table = (place.incarnation, extent.runs().0);
        if extent.runs().1 < 2 || self.distrusted == Some(table) {
            return false;
        }
        self.distrusted = Some(table);
        self.at = Some(log.position(place.incarnation, extent.at()));
        (self.lost, self.met) = (false, None);
        true
    }

    /// Looks at what stands at a place and steps over it; `None` when it was not for us.
    fn walk(&mut self, log: &Log, buffers: &Buffers, place: &Place) -> Option<Step> {
        if !self.lost
            && let Some(behind) = self.pass_in_memory(log, buffers, place)
        {
            self.at = Some(behind);
            return None;
        }
        let Some(span) = self.bytes_at(log, place, place.byte, HEADER as u32) else {
            return self.read(log, place, place.byte + HEADER as u32);
        };
        let bytes = header_at(buffers.bytes(span), 0).expect("64 bytes were found");
        if is_frame(bytes) && !self.lost {
            return match FrameHeader::decode(bytes) {
                Ok(header) if header.incarnation == place.incarnation && header.stride <= place.end - place.byte => {
                    self.frame(log, buffers, place, &header)
                }
                Ok(_) => self.damaged(log, place, "a frame of another place or time stands here".to_owned()),
                Err(damage) => self.damaged(log, place, damage.to_string()),
            };
        }
        let block = log.settings.block;
        if !self.lost && !place.byte.is_multiple_of(block) && bytes.iter().any(|&byte| byte != 0) {
            return self.damaged(log, place, "neither a frame nor the end of a commit".to_owned());
        }
        let next = if self.lost {
            let begins = CommitHeader::peek(bytes).is_ok_and(|header| {
                header.directory == log.settings.directory
                    && header.position == log.position(place.incarnation, place.byte)
            });
            self.lost = !begins;
            place.byte + if begins { HEADER as u32 } else { block }
        } else if !place.byte.is_multiple_of(block) {
            round_up(place.byte as u64, block as u64) as u32
        } else if is_commit(bytes) {
            place.byte + HEADER as u32
        } else {
            return self.damaged(log, place, "no commit begins here".to_owned());
        };
        self.at = Some(log.position(place.incarnation, next));
        None
    }

    /// Passes over frames in memory that are not wanted, without the checks: they were made there. `None` when there are none.
    fn pass_in_memory(&self, log: &Log, buffers: &Buffers, place: &Place) -> Option<Position> {
        let position = log.position(place.incarnation, place.byte);
        if self.until == u64::MAX
            && let Some(commit) = log.commits.at(position).filter(|commit| commit.kind == CommitKind::Moved)
        {
            // What was moved here is older than what this reader is at.
            return Some(Position(commit.position.0 + log.commits.extent(commit) as u64));
        }
        let commit = log.commits.holding(position)?;
        let bytes = buffers.bytes(log.memory_of(commit).first(commit.used));
        let from = (position.0 - commit.position.0) as usize;
        let mut at = from;
        while let Some((shard, stride, next)) = header_at(bytes, at).and_then(peek_frame) {
            if shard == self.shard && next > self.sequence && next <= self.until {
                break;
            }
            at += stride as usize;
        }
        (at > from).then(|| Position(commit.position.0 + at as u64))
    }

    fn frame(&mut self, log: &Log, buffers: &Buffers, place: &Place, header: &FrameHeader) -> Option<Step> {
        let behind = log.position(place.incarnation, place.byte + header.stride);
        let records = matches!(header.kind, FrameKind::Batch | FrameKind::Encrypted);
        // Numbers behind the extent may stand before those of it: frames that were moved here, and the shard's own.
        let behind_extent = header.sequence >= self.until;
        if !records || header.shard != self.shard || header.next() <= self.sequence || behind_extent {
            self.at = Some(behind);
            return None;
        }
        if header.sequence > self.sequence && log.owns_elsewhere(place.incarnation, self.shard, self.sequence) {
            // Its frame was moved from here while this reader was, and what is left of it here has been damaged since.
            self.at = None;
            return None;
        }
        if header.sequence > self.sequence && log.owns(place.incarnation, self.shard, self.sequence) {
            if self.distrust(log, place) {
                return None;
            }
            let missing = std::mem::replace(&mut self.sequence, header.sequence);
            return Some(self.lost_number(place, log.position(place.incarnation, place.byte), missing));
        }
        let body_at = place.byte + HEADER as u32;
        let Some(body) = self.bytes_at(log, place, body_at, header.body) else {
            return self.read(log, place, body_at + header.body);
        };
        let position = log.position(place.incarnation, place.byte);
        // In memory it is still as it was when its CRC was taken.
        let from_device = log.commits.holding(position).is_none();
        let checked = if from_device && !self.scouts { header.check_body(buffers.bytes(body)) } else { Ok(()) };
        if checked.is_err() && log.owns_elsewhere(place.incarnation, self.shard, self.sequence) {
            self.at = None;
            return None;
        }
        self.at = Some(behind);
        self.sequence = header.next();
        self.met = None;
        if let Err(damage) = checked {
            return Some(Step::Damaged { file: place.file, position, why: damage.to_string() });
        }
        self.given = Some((position, header.sequence..header.next()));
        Some(Step::Frame { header: *header, body, position })
    }

    /// `len` bytes of the segment from byte `at`, if they are in memory.
    fn bytes_at(&self, log: &Log, place: &Place, at: u32, len: u32) -> Option<Span> {
        let position = log.position(place.incarnation, at);
        if let Some(commit) = log.commits.holding(position) {
            let within = (position.0 - commit.position.0) as u32;
            return (len <= log.commits.extent(commit) - within).then(|| log.memory_of(commit).part(within, len));
        }
        let chunk = self.chunk.filter(|chunk| chunk.incarnation == place.incarnation && chunk.at <= at)?;
        let within = at - chunk.at;
        (within as u64 + len as u64 <= chunk.span.len as u64).then(|| chunk.span.part(within, len))
    }

    /// Asks for the segment from the place to byte `need` at least; goes to a later run instead where the index knows one.
    fn read(&mut self, log: &Log, place: &Place, need: u32) -> Option<Step> {
        if self.until == u64::MAX && log.building_of(place.incarnation).is_none() {
            // Sealed since the reader came here: its runs are known by extents now.
            self.at = None;
            return None;
        }
        let block = log.settings.block;
        let at = place.byte / block * block;
        let run = self.run_of(log, place, at);
        if let Some((at, _)) = run.filter(|(at, _)| *at > place.byte) {
            self.lost = false;
            self.at = Some(log.position(place.incarnation, at));
            return None;
        }
        // What the run does not reach to belongs to others.
        let most = run.filter(|(_, end)| *end > place.byte).map_or(READ_BYTES, |(_, end)| end - at);
        let most = most.min(log.settings.commit_max);
        let len = round_up((need - at).max(most) as u64, block as u64).min((place.end - at) as u64) as u32;
        let asked = Asked { file: place.file, incarnation: place.incarnation, at, len };
        if self.asked == Some(asked) && self.chunk.is_some_and(|c| (c.incarnation, c.at) == (asked.incarnation, at)) {
            self.asked = None;
            return self.damaged(log, place, "the device does not give it back".to_owned());
        }
        self.asked = Some(asked);
        (self.asked_runs, self.failed, self.chunk) = (false, None, None);
        Some(Step::Read { file: place.file, at: at as u64, len })
    }

    /// The run with the number wanted: byte of the file where it begins, and where a read for it from byte `from` ends, as far as that is known:
    /// with it at the latest, or behind others close to it.
    fn run_of(&self, log: &Log, place: &Place, from: u32) -> Option<(u32, u32)> {
        let reach = from.saturating_add(self.follows.saturating_mul(2).min(FOLLOWING_BYTES));
        let (at, end, dense) = match log.building_of(place.incarnation) {
            Some(building) if self.until == u64::MAX => building.stretch(self.shard, self.sequence, reach),
            Some(building) => building.moved_run(self.shard, self.sequence).map(|run| (run.at, run.end, true)),
            None => self.stretch_of(place.incarnation, reach),
        }?;
        let most = if dense { FOLLOWING_BYTES } else { READ_BYTES };
        Some((at, if end.saturating_sub(from) > most { from + READ_BYTES } else { end }))
    }

    /// The same where the runs of a sealed segment are known: also whether little of others is in them.
    fn stretch_of(&self, incarnation: u32, reach: u32) -> Option<(u32, u32, bool)> {
        let runs = self.runs_of(incarnation);
        let behind = runs.partition_point(|run| run.first <= self.sequence);
        let Stretch { at, mut end, .. } = runs[behind.checked_sub(1)?];
        let close = |run: &Stretch, end: u32| run.at <= end.saturating_add(CLOSE_BYTES) && run.end <= reach;
        let mut later = runs[behind..].iter().filter(|_| self.stretches.dense);
        while let Some(run) = later.next().filter(|run| close(run, end)) {
            end = end.max(run.end);
        }
        Some((at, end, self.stretches.dense))
    }

    /// The runs that are known of the extent that is being read, if it is in this segment.
    fn runs_of(&self, incarnation: u32) -> &[Stretch] {
        let of = self.stretches.of.filter(|of| of.0 == incarnation && self.distrusted != Some(*of));
        of.map_or(&[], |_| &self.stretches.runs)
    }

    /// Notes what is wrong at a place, and goes on at the next commit behind it: what names this directory's secret number and its own
    /// position at the start of a block is one, whatever clients have written.
    fn damaged(&mut self, log: &Log, place: &Place, why: String) -> Option<Step> {
        let next = round_up(place.byte as u64 + 1, log.settings.block as u64) as u32;
        self.at = Some(log.position(place.incarnation, next.min(place.end)));
        self.lost = true;
        self.met.get_or_insert((log.position(place.incarnation, place.byte), why));
        None
    }

    /// The index knows the record, but its frame was not met on the way to `position`.
    fn lost_number(&mut self, place: &Place, position: Position, sequence: u64) -> Step {
        let (position, why) = self.met.take().unwrap_or((position, "its frame is not where it was".to_owned()));
        Step::Damaged { file: place.file, position, why: format!("record {sequence} of the shard: {why}") }
    }
}

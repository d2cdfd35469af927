//! Reads one shard's frames in order, from memory or in steps from the device.
//!
//! A reader seeks to a run by the index, then walks: a frame is followed, `stride` bytes on, by the next one of its commit, or by zeros up
//! to the next block, where a commit header stands. Frames of other shards are passed over; when that would take a read of the device,
//! the index is asked first for a run further on.
//!
//! A reader that meets damage goes on at the next commit, and asks the index whether a record of its shard is missing then: only that is
//! told. Else a flipped bit of one shard would stop the readers of all.

use super::Log;
use super::format::{
    CommitHeader, FrameHeader, FrameKind, HEADER, Position, ShardKey, header_at, is_commit, is_frame, peek_frame,
    round_up,
};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::FileName;

/// Bytes that are read at once, unless a frame is larger: what a run holds, four times over, for shards that share a log.
const READ_BYTES: u32 = 256 << 10;

/// What a reader needs, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next frame, checked: CRC, incarnation, shard, sequence. Its first records may lie before the number asked for. The body is
    /// valid until the next `open_frame` of the log, or until the span of the last read is used for something else.
    Frame { header: FrameHeader, body: Span, position: Position },
    /// Emit `Op::ReadAt` of `len` bytes (at most the largest commit) at byte `at` into a span of that length or more, then call
    /// [`Reader::filled`]; after a failed read call [`Reader::unreadable`].
    Read { file: FileName, at: u64, len: u32 },
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

/// A read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    incarnation: u32,
    at: u32,
    len: u32,
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
    chunk: Option<Chunk>,
    asked: Option<Asked>,
    /// After damage: looks for the next block with a commit header.
    lost: bool,
    /// Damage that was met since the last frame of the shard: told if the shard is found to have lost something by it.
    met: Option<(Position, String)>,
}

/// Where a reader stands in a segment.
#[derive(Clone, Copy)]
struct Place {
    /// Index of the segment in the chain.
    index: usize,
    incarnation: u32,
    file: FileName,
    /// Byte of the file, and the first one behind what may be read.
    byte: u32,
    end: u32,
}

impl Reader {
    /// From number `sequence`; one no longer held gives the next higher one.
    pub fn new(shard: ShardKey, sequence: u64) -> Reader {
        Reader { shard, sequence, arrival: None, at: None, chunk: None, asked: None, lost: false, met: None }
    }

    /// From a frame that begins at or before the first record that arrived at or after `arrival` (µs): the caller filters.
    pub fn at_arrival(shard: ShardKey, arrival: u64) -> Reader {
        Reader { arrival: Some(arrival), ..Reader::new(shard, 0) }
    }

    /// The next frame, or what it takes to get there.
    pub fn next(&mut self, log: &Log, buffers: &Buffers) -> Step {
        loop {
            let Some(position) = self.at.or_else(|| self.seek(log)) else { return Step::End };
            self.at = Some(position);
            let Some(place) = log.place(position) else {
                // Its segment was recycled: what is left is found by number.
                self.at = None;
                continue;
            };
            let next = log.view(place.index).span(self.shard).map_or(0, |span| span.next);
            if place.byte >= place.end || next <= self.sequence {
                // Records that are not durable yet are not missed.
                let whole = log.position(place.incarnation, log.segment_end(place.index)) <= log.visible();
                let lost = next > self.sequence && whole && log.view(place.index).holds(self.shard, self.sequence);
                if position >= log.visible() && !lost {
                    return Step::End;
                }
                let missing = self.sequence;
                self.sequence = self.sequence.max(next);
                self.at = None;
                match lost {
                    true => return self.lost_number(&place, position, missing),
                    false => continue,
                }
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
        }
    }

    /// The number that it goes on from.
    pub fn sequence(&self) -> u64 {
        self.sequence
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
        let commit = log.commits.holding(position)?;
        let bytes = buffers.bytes(log.settings.memory.part(commit.at, commit.used));
        let from = (position.0 - commit.position.0) as usize;
        let mut at = from;
        while let Some((shard, stride, next)) = header_at(bytes, at).and_then(peek_frame) {
            if shard == self.shard && next > self.sequence {
                break;
            }
            at += stride as usize;
        }
        (at > from).then(|| Position(commit.position.0 + at as u64))
    }

    fn frame(&mut self, log: &Log, buffers: &Buffers, place: &Place, header: &FrameHeader) -> Option<Step> {
        let behind = log.position(place.incarnation, place.byte + header.stride);
        let records = matches!(header.kind, FrameKind::Batch | FrameKind::Encrypted);
        if !records || header.shard != self.shard || header.next() <= self.sequence {
            self.at = Some(behind);
            return None;
        }
        if header.sequence > self.sequence && log.view(place.index).holds(self.shard, self.sequence) {
            let missing = std::mem::replace(&mut self.sequence, header.sequence);
            return Some(self.lost_number(place, log.position(place.incarnation, place.byte), missing));
        }
        let body_at = place.byte + HEADER as u32;
        let Some(body) = self.bytes_at(log, place, body_at, header.body) else {
            return self.read(log, place, body_at + header.body);
        };
        let position = log.position(place.incarnation, place.byte);
        let from_device = log.commits.holding(position).is_none();
        self.at = Some(behind);
        self.sequence = header.next();
        self.met = None;
        // In memory it is still as it was when its CRC was taken.
        if from_device && let Err(damage) = header.check_body(buffers.bytes(body)) {
            return Some(Step::Damaged { file: place.file, position, why: damage.to_string() });
        }
        Some(Step::Frame { header: *header, body, position })
    }

    /// `len` bytes of the segment from byte `at`, if they are in memory.
    fn bytes_at(&self, log: &Log, place: &Place, at: u32, len: u32) -> Option<Span> {
        let position = log.position(place.incarnation, at);
        if let Some(commit) = log.commits.holding(position) {
            let within = (position.0 - commit.position.0) as u32;
            return (len <= log.commits.extent(commit) - within)
                .then(|| log.settings.memory.part(commit.at + within, len));
        }
        let chunk = self.chunk.filter(|chunk| chunk.incarnation == place.incarnation && chunk.at <= at)?;
        let within = at - chunk.at;
        (within as u64 + len as u64 <= chunk.span.len as u64).then(|| chunk.span.part(within, len))
    }

    /// Asks for the segment from the place to byte `need` at least; goes to a later run instead where the index knows one.
    fn read(&mut self, log: &Log, place: &Place, need: u32) -> Option<Step> {
        let start = log.view(place.index).start(self.shard, self.sequence);
        if let Some(start) = start.filter(|start| start.at > place.byte) {
            self.lost = false;
            self.at = Some(log.position(place.incarnation, start.at));
            return None;
        }
        let block = log.settings.block;
        let at = place.byte / block * block;
        let wanted = (need - at).max(READ_BYTES.min(log.settings.commit_max));
        let len = round_up(wanted as u64, block as u64).min((place.end - at) as u64) as u32;
        let asked = Asked { incarnation: place.incarnation, at, len };
        if self.asked == Some(asked) && self.chunk.is_some_and(|c| (c.incarnation, c.at) == (asked.incarnation, at)) {
            self.asked = None;
            return self.damaged(log, place, "the device does not give it back".to_owned());
        }
        self.asked = Some(asked);
        self.chunk = None;
        Some(Step::Read { file: place.file, at: at as u64, len })
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

    fn seek(&mut self, log: &Log) -> Option<Position> {
        self.chunk = None;
        self.lost = false;
        self.met = None;
        let (sequence, position) = match self.arrival.take() {
            Some(arrival) => match log.find_arrival(self.shard, arrival) {
                Some(found) => found,
                None => {
                    self.sequence = log.next_sequence(self.shard);
                    return None;
                }
            },
            None => log.find(self.shard, self.sequence)?,
        };
        self.sequence = self.sequence.max(sequence);
        Some(position)
    }
}

impl Log {
    /// Readers see what lies below.
    fn visible(&self) -> Position {
        if self.settings.canary.read_undurable {
            return self
                .commits
                .newest()
                .map_or(self.durable, |commit| Position(commit.position.0 + self.commits.extent(commit) as u64));
        }
        self.durable
    }

    fn place(&self, position: Position) -> Option<Place> {
        let size = self.settings.segment_size;
        let incarnation = (position.0 / size) as u32;
        let index = self.segment_index(incarnation)?;
        let visible = self.visible().0.saturating_sub(incarnation as u64 * size);
        Some(Place {
            index,
            incarnation,
            file: self.files.name(self.segments[index].file),
            byte: (position.0 % size) as u32,
            end: (self.segment_end(index) as u64).min(visible) as u32,
        })
    }

    /// The number after the newest of `shard`, durable or not; 0 when the chain holds none of it.
    fn next_sequence(&self, shard: ShardKey) -> u64 {
        (0..self.segments.len()).rev().find_map(|index| self.view(index).span(shard)).map_or(0, |span| span.next)
    }

    /// Number and place to read from for `sequence`, or for the next higher number that is held.
    fn find(&self, shard: ShardKey, sequence: u64) -> Option<(u64, Position)> {
        let mut found = None;
        // Newest first: most readers are at the tail.
        for index in (0..self.segments.len()).rev() {
            let view = self.view(index);
            let Some(span) = view.span(shard) else { continue };
            if span.next <= sequence {
                break;
            }
            if let Some(start) = view.start(shard, sequence) {
                found = Some((start.sequence, self.position(self.segments[index].incarnation, start.at)));
                if span.first <= sequence {
                    break;
                }
            }
        }
        found
    }

    fn find_arrival(&self, shard: ShardKey, arrival: u64) -> Option<(u64, Position)> {
        (0..self.segments.len()).find_map(|index| {
            let view = self.view(index);
            view.span(shard).filter(|span| span.last_arrival >= arrival && span.runs > 0)?;
            let start = view.start_at(shard, arrival)?;
            Some((start.sequence, self.position(self.segments[index].incarnation, start.at)))
        })
    }
}

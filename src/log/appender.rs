//! Frames into the filling commit, commits into the active segment, and on to the next one.

use super::checksum::crc;
use super::footer::Summary;
use super::format::{CommitKind, FrameHeader, FrameKind, HEADER, Position, ShardKey, round_up, stride};
use super::index::Building;
use super::producers::{ENTRY_SIZE, OF_SHARD};
use super::segment::Wait;
use super::{FooterState, Log, OpenFrame, Phase, Refusal, Stamp};
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::{Mono, Wall};

/// A frame without records; that of one that was given up.
const NO_RECORDS: Stamp = Stamp {
    kind: FrameKind::Void,
    shard: ShardKey(0),
    sequence: 0,
    arrival: 0,
    count: 0,
    producer: 0,
    number: 0,
    body_crc: None,
};

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Refusal {
        match wait {
            Wait::Full => Refusal::Full,
            Wait::Busy => Refusal::Busy,
        }
    }
}

impl Log {
    /// Reserves a frame with a body of `body` bytes. Several may be open at once; they lie in the order of opening, and those of one
    /// shard are closed in that order, those of a producer before another is opened. Spans of frames read from log memory are void afterwards.
    pub fn open_frame(&mut self, body: u32, buffers: &mut Buffers) -> Result<OpenFrame, Refusal> {
        if self.failed.is_some() || !matches!(self.phase, Phase::Running) {
            return Err(Refusal::Failed);
        }
        let whole = round_up(HEADER as u64 + stride(body), self.settings.block as u64);
        let most = self.settings.commit_max.min(self.data_end().saturating_sub(self.table_room()));
        if whole > most as u64 {
            return Err(Refusal::TooLarge);
        }
        let (whole, stride) = (whole as u32, stride(body) as u32);
        if !self.filling_takes(stride) {
            self.finish_commit();
            if !self.active || self.at + whole > self.data_end() || !self.building.has_room(self.open_frames) {
                self.next_segment(self.reserve(), buffers)?;
            }
            // It may have begun a commit.
            if !self.filling_takes(stride) {
                self.finish_commit();
                if !self.commits.place(whole) {
                    return Err(Refusal::Busy);
                }
                self.begin_commit(CommitKind::Data);
            }
        }
        self.lay_out(stride, body).ok_or(Refusal::Busy)
    }

    /// A frame at the end of the filling commit; `None` when the memory waits for the device.
    fn lay_out(&mut self, stride: u32, body: u32) -> Option<OpenFrame> {
        let at = self.commits.grow(stride)?;
        self.open_frames += 1;
        let commit = self.commits.newest().expect("a frame was just added to it");
        let position = Position(commit.position.0 + (at - commit.at) as u64);
        Some(OpenFrame { position, body: self.settings.memory.part(at + HEADER as u32, body) })
    }

    /// Where the body goes: payload, then index.
    pub fn body(&self, frame: &OpenFrame) -> Span {
        frame.body
    }

    /// Stamps the frame. It is durable once `durable()` has reached the returned position.
    pub fn close_frame(&mut self, frame: OpenFrame, stamp: Stamp, buffers: &mut Buffers) -> Position {
        let body_crc = stamp.body_crc.unwrap_or_else(|| crc(buffers.bytes(frame.body)));
        let header = self.stamp_frame(&frame, &stamp, body_crc, buffers);
        let size = self.settings.segment_size;
        let (incarnation, at) = ((frame.position.0 / size) as u32, (frame.position.0 % size) as u32);
        let left_behind = self.sealing.iter_mut().find(|(of, _)| *of == incarnation);
        left_behind.map_or(&mut self.building, |(_, building)| building).add(at, &header);
        let end = Position(frame.position.0 + header.stride as u64);
        if header.producer != 0 {
            // The active segment has begun with a table that does not have it.
            debug_assert_eq!(self.segments.back().map(|segment| segment.incarnation), Some(incarnation));
            self.producers.stored(&header, end);
        }
        end
    }

    /// Gives the room back; free for the newest frame, a void frame in the log otherwise.
    pub fn cancel_frame(&mut self, frame: OpenFrame, buffers: &mut Buffers) {
        let stride = stride(frame.body.len) as u32;
        let newest = self
            .commits
            .filling()
            .is_some_and(|commit| commit.position.0 + commit.used as u64 == frame.position.0 + stride as u64);
        if newest {
            self.open_frames -= 1;
            return self.commits.shrink(stride);
        }
        buffers.bytes_mut(frame.body).fill(0);
        let body_crc = crc(buffers.bytes(frame.body));
        self.stamp_frame(&frame, &NO_RECORDS, body_crc, buffers);
    }

    fn stamp_frame(&mut self, frame: &OpenFrame, stamp: &Stamp, body_crc: u32, buffers: &mut Buffers) -> FrameHeader {
        let number = self.commits.pending_at(frame.position);
        let commit = self.commits.get_mut(number);
        commit.open -= 1;
        let incarnation = commit.incarnation;
        if self.segments.back().is_some_and(|segment| segment.incarnation == incarnation) {
            self.open_frames -= 1;
        }
        let header = FrameHeader {
            kind: stamp.kind,
            stride: stride(frame.body.len) as u32,
            body: frame.body.len,
            count: stamp.count,
            shard: stamp.shard,
            sequence: stamp.sequence,
            arrival: stamp.arrival,
            producer: stamp.producer,
            number: stamp.number,
            incarnation,
            body_crc,
        };
        let whole = Span { at: frame.body.at - HEADER as u32, len: header.stride, ..frame.body };
        let bytes = buffers.bytes_mut(whole);
        let (head, rest) = bytes.split_first_chunk_mut::<HEADER>().expect("a frame begins with its header");
        header.encode(head);
        rest[header.body as usize..].fill(0);
        header
    }

    /// Whether the filling commit takes a frame of `stride` bytes, within memory (as far as it is contiguous), segment and index.
    fn filling_takes(&self, stride: u32) -> bool {
        let Some(commit) = self.commits.filling() else { return false };
        let bytes_max = self.settings.commit_max.min(self.data_end() - commit.file_at);
        self.commits.could_grow(stride, bytes_max) && self.building.has_room(self.open_frames)
    }

    /// No frame is added to the filling commit any more.
    pub(super) fn finish_commit(&mut self) {
        let Some(commit) = self.commits.filling() else { return };
        self.at = commit.file_at + self.commits.extent(commit);
        self.commits.newest_mut().expect("it is the filling one").filling = false;
    }

    pub(super) fn begin_commit(&mut self, kind: CommitKind) {
        let segment = self.segments.back().expect("a segment is active");
        let position = self.position(segment.incarnation, self.at);
        self.commits.begin(kind, position, segment.file, self.at, segment.incarnation);
        self.vouch_due = None;
    }

    /// Goes on to a free segment, leaving `reserve` free ones, and seals the active one. Unless the table of producers is empty, the segment
    /// begins with it: in a commit that is filling afterwards.
    pub(super) fn next_segment(&mut self, reserve: u32, buffers: &mut Buffers) -> Result<(), Refusal> {
        let incarnation = self.next_incarnation;
        if !self.producers.is_empty() {
            if self.files.free() <= reserve {
                return Err(Refusal::Full);
            }
            if !self.commits.place(self.table_room()) {
                return Err(Refusal::Busy);
            }
        }
        let file = self.files.take(incarnation, reserve)?;
        self.seal_segment();
        self.next_incarnation += 1;
        let summary = Summary { epoch: self.epoch, ..Summary::default() };
        self.push_segment(file, incarnation, summary, FooterState::Open);
        self.active = true;
        self.at = 0;
        if self.policy.awaits_segment {
            self.relocation_due = Mono::default();
        }
        if !self.producers.is_empty() {
            self.begin_commit(CommitKind::Data);
            self.append_table(buffers).expect("there was memory for it");
        }
        Ok(())
    }

    /// Of the producers of `shard` the log knows from now on what another one did, and nothing else; durable below what is given back.
    /// [`Refusal::TooLarge`]: for that, others would be forgotten that have been active lately.
    pub fn adopt_producers(
        &mut self,
        shard: ShardKey,
        table: &[u8],
        now: Wall,
        buffers: &mut Buffers,
    ) -> Result<Position, Refusal> {
        if table.is_empty() && self.producers.encoded(Some(shard)) == 0 {
            return Ok(Position(0));
        }
        if !self.producers.has_room_for(shard, table, now) {
            return Err(Refusal::TooLarge);
        }
        let frame = self.open_frame(table.len() as u32, buffers)?;
        buffers.bytes_mut(frame.body).copy_from_slice(table);
        let stamp = Stamp { kind: FrameKind::Producers, shard, number: OF_SHARD, ..NO_RECORDS };
        let header = self.stamp_frame(&frame, &stamp, crc(table), buffers);
        let end = Position(frame.position.0 + header.stride as u64);
        self.producers.forget(|of| of == shard);
        let sound = self.producers.decode(table, end);
        debug_assert!(sound, "the other log has made it");
        Ok(end)
    }

    /// Bytes of a commit that holds the largest table of producers.
    pub(super) fn table_room(&self) -> u32 {
        let most = (self.producers.most() * ENTRY_SIZE) as u32;
        round_up(HEADER as u64 + stride(most), self.settings.block as u64) as u32
    }

    /// Adds the table of producers to the filling commit; `None` when the memory waits for the device.
    fn append_table(&mut self, buffers: &mut Buffers) -> Option<()> {
        let body = self.producers.encoded(None) as u32;
        let frame = self.lay_out(stride(body) as u32, body)?;
        let out = buffers.bytes_mut(frame.body);
        self.producers.encode(None, out);
        let body_crc = crc(out);
        self.stamp_frame(&frame, &Stamp { kind: FrameKind::Producers, ..NO_RECORDS }, body_crc, buffers);
        Some(())
    }

    /// The active segment takes no more commits. Frames of it may still be open: its index is completed when the turn ends.
    pub(super) fn seal_segment(&mut self) {
        if !std::mem::replace(&mut self.active, false) {
            return;
        }
        let room = self.room();
        let next = self.spare.pop().unwrap_or_else(|| Building::new(room));
        let building = std::mem::replace(&mut self.building, next);
        let segment = self.segments.back_mut().expect("the active segment is the last one");
        segment.end = self.at;
        self.sealing.push((segment.incarnation, building));
        self.open_frames = 0;
    }

    /// No frame is open: indexes of segments that were left get their final form; footers follow when all of it is durable.
    pub(super) fn complete_indexes(&mut self) {
        while let Some((incarnation, mut building)) = self.sealing.pop() {
            self.seal_index(incarnation, &mut building);
            self.spare.push(building);
        }
    }

    /// The index of a segment in its final form: to its extents, and for its footer.
    pub(super) fn seal_index(&mut self, incarnation: u32, building: &mut Building) {
        let sealed = building.seal();
        for entry in sealed.entries.iter().filter(|entry| entry.count > 0) {
            let extent = entry.extent(incarnation);
            match entry.moved {
                // Who owns it was settled, or will be, when its commit is durable.
                true => self.extents.describe(entry.shard, &extent),
                false => self.take_over(entry.shard, extent, Position(0)),
            }
        }
        let index = self.segment_index(incarnation).expect("a segment of the chain");
        self.segments[index].sealed = Some(Box::new(sealed));
        self.segments[index].footer = FooterState::Due;
    }
}

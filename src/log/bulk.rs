//! Frames that are written from where a client's bytes were received: whole blocks, with room for two headers before each body.
//!
//! ```text
//!  a run        │ commit header │ frame header │ body … │ zeros │ frame header │ body … │ next commit
//!  block          0               64             128      S       S + 64         S + 128   2 S
//! ```
//!
//! Frames that lie one behind the other in memory become one commit. Each is laid out as the last one of it, with a stride that ends with its blocks; when
//! another one follows, its stride leads to that one's header, 64 bytes further. So a reader that walks strides meets either the next frame or the
//! next commit. Readers find such a commit in memory, like any other, until its memory is let go.

use super::format::{CommitKind, FrameHeader, HEADER, Position, header_at};
use super::{Log, Phase, Refusal, Stamp};
use crate::io::buffers::{Buffers, Span};

/// Bytes before the body of such a frame.
pub const ROOM: u32 = 2 * HEADER as u32;

impl Log {
    /// Appends the frame whose `body` bytes begin [`ROOM`] bytes behind the beginning of `span`: whole blocks on a block boundary of memory,
    /// which nobody touches until the log is durable below the position that is given back, or has failed and nothing of it is in flight; and
    /// then only when that has been [let go](Log::let_go).
    pub fn append_in_place(
        &mut self,
        span: Span,
        body: u32,
        stamp: &Stamp,
        buffers: &mut Buffers,
    ) -> Result<Position, Refusal> {
        if self.failed.is_some() || !matches!(self.phase, Phase::Running) {
            return Err(Refusal::Failed);
        }
        assert!(span.len.is_multiple_of(self.settings.block) && span.at.is_multiple_of(self.settings.block));
        assert!(body + ROOM <= span.len, "the body lies in its blocks");
        if span.len > self.settings.commit_max.min(self.data_end().saturating_sub(self.table_room())) {
            return Err(Refusal::TooLarge);
        }
        let follows = self.goes_on_at(span);
        if follows {
            self.lengthen_last(buffers);
            self.commits.extend_elsewhere(span.len);
        } else {
            self.begin_in_place(span, buffers)?;
        }
        let commit = *self.commits.newest().expect("it holds the frame");
        let frame_at = commit.used - span.len + HEADER as u32;
        self.last_in_place = frame_at;
        let header = FrameHeader {
            kind: stamp.kind,
            stride: span.len - HEADER as u32,
            body,
            count: stamp.count,
            shard: stamp.shard,
            sequence: stamp.sequence,
            arrival: stamp.arrival,
            producer: stamp.producer,
            number: stamp.number,
            incarnation: commit.incarnation,
            body_crc: stamp.body_crc.expect("the client's"),
        };
        let memory = buffers.bytes_mut(span);
        // A commit header's room, which only the first frame of a commit needs.
        memory[..HEADER].fill(0);
        header.encode(memory[HEADER..].first_chunk_mut().expect("a frame has its headers"));
        memory[ROOM as usize + body as usize..].fill(0);
        self.building.add(commit.file_at + frame_at, &header);
        let end = Position(commit.position.0 + commit.used as u64);
        if header.producer != 0 {
            self.producers.stored(&header, end);
        }
        Ok(end)
    }

    /// The memory of what was appended in place below `until`, and is durable, is used for something else from now on.
    pub fn let_go(&mut self, until: Position) {
        self.commits.let_go(until);
    }

    /// Whether a frame at `span` goes into the newest commit: right behind its last one, with room in segment, index and commit.
    pub fn goes_on_at(&self, span: Span) -> bool {
        let Some(commit) = self.commits.filling() else { return false };
        let Some(before) = commit.elsewhere else { return false };
        let behind = Span { at: before.at + before.len, len: span.len, ..before };
        let bytes = commit.used + span.len;
        behind == span
            && bytes <= self.settings.commit_max
            && commit.file_at + bytes <= self.data_end()
            && self.building.has_room(self.open_frames)
    }

    /// The last frame of the newest commit is not the last one any more.
    fn lengthen_last(&mut self, buffers: &mut Buffers) {
        let span = self.commits.newest().and_then(|commit| commit.elsewhere).expect("it was looked at");
        let memory = &mut buffers.bytes_mut(span)[self.last_in_place as usize..];
        let bytes = header_at(memory, 0).expect("it was written there");
        let header = FrameHeader::decode(bytes).expect("it was written there");
        let header = FrameHeader { stride: header.stride + HEADER as u32, ..header };
        header.encode(memory.first_chunk_mut().expect("it is there"));
    }

    fn begin_in_place(&mut self, span: Span, buffers: &mut Buffers) -> Result<(), Refusal> {
        self.finish_commit();
        if !self.active || self.at + span.len > self.data_end() || !self.building.has_room(self.open_frames) {
            self.next_segment(self.reserve(), buffers)?;
            self.finish_commit();
        }
        if !self.commits.has_place_elsewhere() {
            return Err(Refusal::Busy);
        }
        let segment = self.segments.back().expect("a segment is active");
        let (position, file, at) = (self.position(segment.incarnation, self.at), segment.file, self.at);
        let incarnation = segment.incarnation;
        self.commits.begin_elsewhere(CommitKind::Data, position, span, (span.len, 1), (file, at), incarnation);
        self.commits.newest_mut().expect("just begun").filling = true;
        self.vouch_due = None;
        Ok(())
    }
}

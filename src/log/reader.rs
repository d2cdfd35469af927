//! Reads one shard's frames in order, from memory or in steps from the device.

use super::Log;
use super::format::{FrameHeader, Position, ShardKey};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::FileName;

/// What a reader needs, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next frame, checked: CRC, incarnation, shard, sequence. Its first records may lie before the number asked for. The body is
    /// valid until the next `open_frame` of the log, or until the span of the last read is used for something else.
    Frame { header: FrameHeader, body: Span, position: Position },
    /// Emit `Op::ReadAt` of `len` bytes at byte `at` into a span of that length or more, then call [`Reader::filled`].
    Read { file: FileName, at: u64, len: u32 },
    /// All that is durable has been read.
    End,
    /// Something acknowledged cannot be read; the next call goes on behind it.
    Damaged { file: FileName, position: Position, why: String },
}

/// A cursor over the frames of a shard.
#[derive(Clone, Debug)]
pub struct Reader {
    shard: ShardKey,
    sequence: u64,
}

impl Reader {
    /// From number `sequence`; one no longer held gives the next higher one.
    pub fn new(shard: ShardKey, sequence: u64) -> Reader {
        Reader { shard, sequence }
    }

    /// From a frame that begins at or before the first record that arrived at or after `arrival` (µs): the caller filters.
    pub fn at_arrival(shard: ShardKey, arrival: u64) -> Reader {
        let _ = arrival;
        Reader { shard, sequence: 0 }
    }

    pub fn next(&mut self, log: &Log, buffers: &Buffers) -> Step {
        let _ = (log, buffers, self.shard, self.sequence);
        Step::End
    }

    /// The read that `next` asked for has put `bytes` bytes into `span`.
    pub fn filled(&mut self, span: Span, bytes: u32) {
        let _ = (span, bytes);
    }

    /// The number that it goes on from.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

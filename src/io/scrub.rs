//! What a companion is asked to verify, and what it answers. It reads with its own descriptor, in chunks, and judges nothing: whether the
//! segment is still the one that was meant, its worker knows.

use super::op::{FileName, Token};

/// Bytes of one read: a commit behind it does not wait long.
pub const CHUNK: u32 = 256 << 10;

/// What is durable of a segment, as its log knows it. Bytes, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub log: u32,
    /// Of its file.
    pub index: u32,
    pub incarnation: u32,
    /// The directory's secret number.
    pub directory: u64,
    pub block: u32,
    /// Of the file.
    pub size: u64,
    /// Behind its last durable commit.
    pub end: u32,
    /// Whether a footer must be there.
    pub footer: bool,
}

impl Segment {
    pub fn file(&self) -> FileName {
        FileName::Segment { log: self.log, index: self.index }
    }
}

/// A segment to be verified, at `rate` bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The data directory that it lies in, by its place among the first halves, then the second ones.
    pub given: u8,
    pub segment: Segment,
    pub rate: u64,
    pub token: Token,
}

/// Part of a segment that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Byte of the file where it begins.
    pub at: u64,
    /// To the next commit.
    pub bytes: u64,
    pub why: String,
}

/// What became of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes that were read and checked.
    pub bytes: u64,
    /// The first ones, in the order of the file.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub untold: u32,
}

//! The answer of PutRecords: an entry for each record, in the order of the request.

use super::encoder::{Encoder, string_max};
use super::sequence::Run;

const SEQUENCE: &[u8] = b"{\"SequenceNumber\":";
const SHARD: &[u8] = b",\"ShardId\":";
const CODE: &[u8] = b"{\"ErrorCode\":";
const TEXT: &[u8] = b",\"ErrorMessage\":";
/// Longest error code and text of an entry, in bytes.
pub const ERROR_MAX: usize = 512;

/// Bytes that an answer with `records` entries takes at most, `failed` of them errors.
pub const fn size_max(records: usize, failed: usize) -> usize {
    let stored = SEQUENCE.len() + 58 + SHARD.len() + 22 + 2;
    let refused = CODE.len() + TEXT.len() + string_max(ERROR_MAX) + 4;
    64 + records * stored + failed * refused
}

/// An answer being written.
pub struct Answer<'a>(Encoder<'a>);

impl<'a> Answer<'a> {
    /// Begins an answer with `failed` errors. `out` holds [`size_max`] bytes.
    pub fn begin(out: &'a mut [u8], failed: usize) -> Answer<'a> {
        let mut e = Encoder::at(out, 0);
        e.bytes(b"{\"FailedRecordCount\":");
        e.number(failed as u64);
        e.bytes(b",\"Records\":[");
        Answer(e)
    }

    /// A stored record: the one `ordinal` behind the first of `run`.
    pub fn stored(&mut self, run: &Run, ordinal: u32) {
        self.0.bytes(SEQUENCE);
        self.0.sequence(run, ordinal);
        self.0.bytes(SHARD);
        self.0.shard_id(run.first.shard);
        self.0.bytes(b"},");
    }

    pub fn refused(&mut self, code: &str, text: &str) {
        let most = ERROR_MAX - code.len();
        let text = &text.as_bytes()[..text.floor_char_boundary(most)];
        self.0.bytes(CODE);
        self.0.string(code.as_bytes());
        self.0.bytes(TEXT);
        self.0.string(text);
        self.0.bytes(b"},");
    }

    /// The length.
    pub fn finish(mut self) -> usize {
        self.0.trim(b',');
        self.0.bytes(b"]}");
        self.0.len()
    }
}

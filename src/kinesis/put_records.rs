//! The answer of PutRecords: an entry for each record, in the order of the request.

use super::encoder::{END, END_ITEM, END_LIST, Encoder, Piece, string_max};
use super::object::Encoding;
use super::sequence::Run;

const FAILED: Piece = Piece(b"{\"FailedRecordCount\":", b"\xbf\x71FailedRecordCount");
const RECORDS: Piece = Piece(b",\"Records\":[", b"\x67Records\x9f");
pub(super) const SEQUENCE: Piece = Piece(b"{\"SequenceNumber\":", b"\xbf\x6eSequenceNumber");
pub(super) const SHARD: Piece = Piece(b",\"ShardId\":", b"\x67ShardId");
const CODE: Piece = Piece(b"{\"ErrorCode\":", b"\xbf\x69ErrorCode");
const TEXT: Piece = Piece(b",\"ErrorMessage\":", b"\x6cErrorMessage");
/// Longest error code and text of an entry, in bytes.
pub const ERROR_MAX: usize = 512;

/// Bytes that an answer with `records` entries takes at most, `failed` of them errors.
pub const fn size_max(records: usize, failed: usize) -> usize {
    let stored = SEQUENCE.len_max() + 58 + SHARD.len_max() + 22 + 2;
    let refused = CODE.len_max() + TEXT.len_max() + string_max(ERROR_MAX) + 4;
    64 + records * stored + failed * refused
}

/// An answer being written.
pub struct Answer<'a>(Encoder<'a>);

impl<'a> Answer<'a> {
    /// Begins an answer with `failed` errors. `out` holds [`size_max`] bytes.
    pub fn begin(encoding: Encoding, out: &'a mut [u8], failed: usize) -> Answer<'a> {
        let mut e = Encoder::at(encoding, out, 0);
        e.piece(FAILED);
        e.number(failed as u64);
        e.piece(RECORDS);
        Answer(e)
    }

    /// A stored record: the one `ordinal` behind the first of `run`.
    pub fn stored(&mut self, run: &Run, ordinal: u32) {
        self.0.piece(SEQUENCE);
        self.0.sequence(run, ordinal);
        self.0.piece(SHARD);
        self.0.shard_id(run.first.shard);
        self.0.piece(END_ITEM);
    }

    pub fn refused(&mut self, code: &str, text: &str) {
        let most = ERROR_MAX - code.len();
        let text = &text.as_bytes()[..text.floor_char_boundary(most)];
        self.0.piece(CODE);
        self.0.string(code.as_bytes());
        self.0.piece(TEXT);
        self.0.string(text);
        self.0.piece(END_ITEM);
    }

    /// The length.
    pub fn finish(mut self) -> usize {
        self.0.trim();
        self.0.piece(END_LIST);
        self.0.piece(END);
        self.0.len()
    }
}

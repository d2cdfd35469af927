//! The answer of GetRecords, written record by record; it may be moved to a larger buffer on the way.

use super::encoder::{END, END_ITEM, END_LIST, Encoder, Piece, string_max};
use super::object::Encoding;
use super::put_records::SEQUENCE;
use super::sequence::{DIGITS, Run};
use crate::catalog::state::Shard;
use crate::io::clock::Wall;

const BEGIN: Piece = Piece(b"{\"Records\":[", b"\xbf\x67Records\x9f");
const ARRIVAL: Piece = Piece(b",\"ApproximateArrivalTimestamp\":", b"\x78\x1bApproximateArrivalTimestamp");
const DATA: Piece = Piece(b",\"Data\":", b"\x64Data");
const KEY: Piece = Piece(b",\"PartitionKey\":", b"\x6cPartitionKey");
const NEXT: Piece = Piece(b",\"NextShardIterator\":", b"\x71NextShardIterator");
const CONTINUATION: Piece = Piece(b",\"ContinuationSequenceNumber\":", b"\x78\x1aContinuationSequenceNumber");
const BEHIND: Piece = Piece(b",\"MillisBehindLatest\":", b"\x72MillisBehindLatest");
const CHILDREN: Piece = Piece(b",\"ChildShards\":[", b"\x6bChildShards\x9f");
const CHILD: Piece = Piece(b"{\"ShardId\":", b"\xbf\x67ShardId");
const PARENTS: Piece = Piece(b",\"ParentShards\":[", b"\x6cParentShards\x9f");
const FROM_HASH: Piece = Piece(b",\"HashKeyRange\":{\"StartingHashKey\":", b"\x6cHashKeyRange\xbf\x6fStartingHashKey");
const TO_HASH: Piece = Piece(b",\"EndingHashKey\":", b"\x6dEndingHashKey");

/// How a consumer goes on.
#[derive(Clone, Copy)]
pub enum Next<'a> {
    /// With this iterator, by GetRecords.
    Iterator(&'a str),
    /// Behind this number, by SubscribeToShard.
    Continuation(&'a [u8; DIGITS]),
    /// A closed shard has been read to its end.
    Nothing,
}

/// A child in `ChildShards`.
pub struct ChildShard {
    pub shard: u32,
    pub parents: [Option<u32>; 2],
    pub first: u128,
    pub last: u128,
}

impl ChildShard {
    pub fn of(shard: &Shard) -> ChildShard {
        let parents = shard.parents;
        ChildShard { shard: shard.number, parents, first: shard.range.first, last: shard.range.last }
    }
}

/// Most bytes that one record takes.
pub const fn size_max(key_len: usize, data_len: usize) -> usize {
    SEQUENCE.len_max()
        + 58
        + ARRIVAL.len_max()
        + 24
        + DATA.len_max()
        + 2
        + data_len.div_ceil(3) * 4
        + KEY.len_max()
        + string_max(key_len)
        + 2
}

/// How far an answer is written. The buffer is passed to each call: it may be another one, with the same bytes at its start.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    encoding: Encoding,
    len: usize,
    records: u32,
}

impl Answer {
    /// Begins at byte `at` of `out`.
    pub fn begin(encoding: Encoding, out: &mut [u8], at: usize) -> Answer {
        let mut e = Encoder::at(encoding, out, at);
        e.piece(BEGIN);
        Answer { encoding, len: e.len(), records: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub fn records(&self) -> u32 {
        self.records
    }

    /// Writes the record whose number is `ordinal` behind the first of `run`; [`size_max`] bytes must be free.
    pub fn push(&mut self, out: &mut [u8], run: &Run, ordinal: u32, arrival: Wall, key: Option<&[u8]>, data: &[u8]) {
        let mut e = Encoder::at(self.encoding, out, self.len);
        if self.records > 0 {
            e.next();
        }
        e.piece(SEQUENCE);
        e.sequence(run, ordinal);
        e.piece(ARRIVAL);
        e.timestamp(arrival);
        e.piece(DATA);
        e.blob(data);
        if let Some(key) = key {
            e.piece(KEY);
            e.string(key);
        }
        e.piece(END);
        self.len = e.len();
        self.records += 1;
    }

    /// Writes the end and gives the length. `behind`: ms.
    pub fn finish(&self, out: &mut [u8], next: Next<'_>, behind: u64, children: &[ChildShard]) -> usize {
        let mut e = Encoder::at(self.encoding, out, self.len);
        e.piece(END_LIST);
        match next {
            Next::Iterator(token) => {
                e.piece(NEXT);
                e.plain(token.as_bytes());
            }
            Next::Continuation(number) => {
                e.piece(CONTINUATION);
                e.plain(number);
            }
            Next::Nothing => {}
        }
        e.piece(BEHIND);
        e.number(behind);
        if !children.is_empty() {
            e.piece(CHILDREN);
            children.iter().for_each(|child| child_shard(&mut e, child));
            e.trim();
            e.piece(END_LIST);
        }
        e.piece(END);
        e.len()
    }
}

fn child_shard(e: &mut Encoder<'_>, child: &ChildShard) {
    e.piece(CHILD);
    e.shard_id(child.shard);
    e.piece(PARENTS);
    for parent in child.parents.iter().flatten() {
        e.shard_id(*parent);
        e.next();
    }
    e.trim();
    e.piece(END_LIST);
    e.piece(FROM_HASH);
    e.plain(child.first.to_string().as_bytes());
    e.piece(TO_HASH);
    e.plain(child.last.to_string().as_bytes());
    e.piece(END);
    e.piece(END_ITEM);
}

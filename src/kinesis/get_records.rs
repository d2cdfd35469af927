//! The answer of GetRecords, written record by record; it may be moved to a larger buffer on the way.

use super::encoder::{Encoder, string_max};
use super::sequence::Run;
use crate::catalog::state::Shard;
use crate::io::clock::Wall;

const BEGIN: &[u8] = b"{\"Records\":[";
const SEQUENCE: &[u8] = b"{\"SequenceNumber\":";
const ARRIVAL: &[u8] = b",\"ApproximateArrivalTimestamp\":";
const DATA: &[u8] = b",\"Data\":";
const KEY: &[u8] = b",\"PartitionKey\":";

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
    SEQUENCE.len()
        + 58
        + ARRIVAL.len()
        + 24
        + DATA.len()
        + 2
        + data_len.div_ceil(3) * 4
        + KEY.len()
        + string_max(key_len)
        + 2
}

/// How far an answer is written. The buffer is passed to each call: it may be another one, with the same bytes at its start.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    len: usize,
    records: u32,
}

impl Answer {
    pub fn begin(out: &mut [u8]) -> Answer {
        out[..BEGIN.len()].copy_from_slice(BEGIN);
        Answer { len: BEGIN.len(), records: 0 }
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
        let mut e = Encoder::at(out, self.len);
        if self.records > 0 {
            e.bytes(b",");
        }
        e.bytes(SEQUENCE);
        e.sequence(run, ordinal);
        e.bytes(ARRIVAL);
        timestamp(&mut e, arrival);
        e.bytes(DATA);
        e.base64(data);
        if let Some(key) = key {
            e.bytes(KEY);
            e.string(key);
        }
        e.bytes(b"}");
        self.len = e.len();
        self.records += 1;
    }

    /// Writes the end and gives the length. `next`: the iterator to go on with, absent at the end of a closed shard. `behind`: ms.
    pub fn finish(&self, out: &mut [u8], next: Option<&str>, behind: u64, children: &[ChildShard]) -> usize {
        let mut e = Encoder::at(out, self.len);
        e.bytes(b"]");
        if let Some(next) = next {
            e.bytes(b",\"NextShardIterator\":\"");
            e.bytes(next.as_bytes());
            e.bytes(b"\"");
        }
        e.bytes(b",\"MillisBehindLatest\":");
        e.number(behind);
        if !children.is_empty() {
            e.bytes(b",\"ChildShards\":[");
            children.iter().for_each(|child| child_shard(&mut e, child));
            e.trim(b',');
            e.bytes(b"]");
        }
        e.bytes(b"}");
        e.len()
    }
}

/// Seconds since 1970 with milliseconds, as JSON has timestamps.
pub(super) fn timestamp(e: &mut Encoder<'_>, at: Wall) {
    e.number(at.seconds());
    let ms = at.millis() % 1000;
    let digit = |n: u64| b'0' + (n % 10) as u8;
    e.bytes(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
}

fn child_shard(e: &mut Encoder<'_>, child: &ChildShard) {
    e.bytes(b"{\"ShardId\":");
    e.shard_id(child.shard);
    e.bytes(b",\"ParentShards\":[");
    for parent in child.parents.iter().flatten() {
        e.shard_id(*parent);
        e.bytes(b",");
    }
    e.trim(b',');
    e.bytes(b"],\"HashKeyRange\":{\"StartingHashKey\":\"");
    e.bytes(child.first.to_string().as_bytes());
    e.bytes(b"\",\"EndingHashKey\":\"");
    e.bytes(child.last.to_string().as_bytes());
    e.bytes(b"\"}},");
}

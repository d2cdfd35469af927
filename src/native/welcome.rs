//! What the server answers when a client may begin: what it accepts, and the stream's shards.

use super::message::{Fields, Filler, Header, Kind, blank};
use crate::log::format::{HEADER, stride};

/// What holds for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub version: u16,
    /// Bits of [`super::hello::feature`]: those that were wanted and are accepted.
    pub features: u32,
    /// As it was wanted, or 0: the server does not know producers.
    pub producer: u64,
    /// Bytes of the largest batch, header and padding counted.
    pub largest: u32,
    /// Batches, and bytes of them, that may be unanswered; the server leaves more unread. No bytes: only batches are counted.
    pub unanswered: (u32, u32),
    /// Records of one batch at most.
    pub records: u32,
    /// Key and data of one record at most.
    pub record: u32,
    /// The server ends a connection on which it has received nothing for so long.
    pub idle_seconds: u32,
    /// Who serves this connection, and how many there are.
    pub worker: u16,
    pub workers: u16,
    /// High half of every shard's number on the wire.
    pub stream: u32,
}

const WELCOME_BODY: usize = 40;
/// Room that a `Welcome` takes.
pub const WELCOME_BYTES: usize = stride(WELCOME_BODY as u32) as usize;

impl Welcome {
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let mut body = Filler::body_of(out);
        body.put(&self.version.to_le_bytes()).put(&[0; 2]).put(&self.features.to_le_bytes());
        let words = [self.largest, self.unanswered.0, self.unanswered.1, self.records, self.record, self.idle_seconds];
        words.iter().for_each(|word| {
            body.put(&word.to_le_bytes());
        });
        body.put(&self.worker.to_le_bytes()).put(&self.workers.to_le_bytes()).put(&self.stream.to_le_bytes());
        body.seal(Header { producer: self.producer, ..blank(Kind::Welcome) })
    }

    pub fn decode(header: &Header, body: &[u8]) -> Option<Welcome> {
        let mut fields = Fields(body);
        let (version, _) = (fields.u16()?, fields.u16()?);
        let features = fields.u32()?;
        Some(Welcome {
            version,
            features,
            producer: header.producer,
            largest: fields.u32()?,
            unanswered: (fields.u32()?, fields.u32()?),
            records: fields.u32()?,
            record: fields.u32()?,
            idle_seconds: fields.u32()?,
            worker: fields.u16()?,
            workers: fields.u16()?,
            stream: fields.u32()?,
        })
    }
}

/// Whether a shard takes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShardState {
    Open = 1,
    /// Batches wait until it is known whether it takes them.
    Closing = 2,
    /// It can be read.
    Closed = 3,
}

/// A line of the map of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLine {
    /// Low half of its number on the wire.
    pub shard: u32,
    pub state: ShardState,
    /// Who has it: a connection to that worker is the shortest way.
    pub worker: u16,
    pub parents: [Option<u32>; 2],
    /// Hash keys that it takes, the last one included.
    pub first: u128,
    pub last: u128,
}

const LINE: usize = 48;
/// Lines of one message at most.
pub const LINES_MAX: usize = 64;
/// Room that a message of the map takes at most.
pub const SHARDS_MAX: usize = stride((LINE * LINES_MAX) as u32) as usize;
const _: () = assert!(SHARDS_MAX <= 4096 - 2 * HEADER);

impl ShardLine {
    fn put(&self, body: &mut Filler<'_>) {
        body.put(&self.shard.to_le_bytes()).put(&[self.state as u8, 0]).put(&self.worker.to_le_bytes());
        self.parents.iter().for_each(|parent| {
            body.put(&parent.unwrap_or(u32::MAX).to_le_bytes());
        });
        body.put(&self.first.to_le_bytes()).put(&self.last.to_le_bytes());
    }

    fn take(fields: &mut Fields<'_>) -> Option<ShardLine> {
        let shard = fields.u32()?;
        let state = match fields.u8()? {
            1 => ShardState::Open,
            2 => ShardState::Closing,
            3 => ShardState::Closed,
            _ => return None,
        };
        fields.u8()?;
        let worker = fields.u16()?;
        let mut parent = || fields.u32().map(|number| (number != u32::MAX).then_some(number));
        let parents = [parent()?, parent()?];
        Some(ShardLine { shard, state, worker, parents, first: fields.u128()?, last: fields.u128()? })
    }
}

/// Writes a message of the map: up to [`LINES_MAX`] lines; `more`: another one follows.
pub fn encode_shards(out: &mut [u8], change: u64, more: bool, lines: impl Iterator<Item = ShardLine>) -> usize {
    let mut body = Filler::body_of(out);
    let mut count = 0;
    for line in lines.take(LINES_MAX) {
        line.put(&mut body);
        count += 1;
    }
    body.seal(Header { count, number: more as u32, sequence: change, ..blank(Kind::Shards) })
}

/// The lines of a message of the map; whether another one follows is its header's `number`.
pub fn decode_shards(header: &Header, body: &[u8]) -> Option<impl Iterator<Item = Option<ShardLine>>> {
    let whole = (header.count as usize).checked_mul(LINE) == Some(body.len());
    whole.then(|| body.chunks_exact(LINE).map(|line| ShardLine::take(&mut Fields(line))))
}

//! Reads and subscriptions: what a client asks for, and how each ends. What it gets in between are batches as they lie in the log.

use super::message::{Fields, Filler, Header, Kind, blank};
use super::refusal::Code;
use crate::log::format::ShardKey;

/// Position in a shard behind its newest record, as the first number that is wanted.
pub const LATEST: u64 = u64::MAX;

/// The body of `Read` and of `Subscribe`, and what their header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    pub shard: ShardKey,
    /// First number that is wanted; 0: the oldest; [`LATEST`].
    pub sequence: u64,
    /// Most records of a read; 0: as many as there are. Nothing in a subscription.
    pub records: u32,
    /// Most bytes of a read, or the credit that a subscription begins with.
    pub bytes: u32,
    /// Batches that have arrived earlier (µs since 1970) are not wanted.
    pub floor: u64,
}

impl Want {
    /// `kind`: `Read` or `Subscribe`.
    pub fn encode(&self, out: &mut [u8], kind: Kind) -> usize {
        let mut body = Filler::body_of(out);
        body.put(&self.bytes.to_le_bytes()).put(&[0; 4]).put(&self.floor.to_le_bytes());
        body.seal(Header { shard: self.shard, sequence: self.sequence, count: self.records, ..blank(kind) })
    }

    pub fn decode(header: &Header, body: &[u8]) -> Option<Want> {
        let mut fields = Fields(body);
        let (bytes, _, floor) = (fields.u32()?, fields.u32()?, fields.u64()?);
        let &Header { shard, sequence, count: records, .. } = header;
        fields.0.is_empty().then_some(Want { shard, sequence, records, bytes, floor })
    }
}

/// More bytes for the subscription of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    pub shard: ShardKey,
    pub bytes: u32,
}

impl Credit {
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let mut body = Filler::body_of(out);
        body.put(&self.bytes.to_le_bytes()).put(&[0; 4]);
        body.seal(Header { shard: self.shard, ..blank(Kind::Credit) })
    }

    pub fn decode(header: &Header, body: &[u8]) -> Option<Credit> {
        let mut fields = Fields(body);
        let (bytes, _) = (fields.u32()?, fields.u32()?);
        fields.0.is_empty().then_some(Credit { shard: header.shard, bytes })
    }
}

/// The end of a read or of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub shard: ShardKey,
    /// Where the next read goes on.
    pub next: u64,
    /// `Ended`: as it was asked for; `ShardClosed`: nothing more will come of this shard. Of a code that this build does not know, the number.
    pub code: Result<Code, u16>,
    /// How far the last batch was behind the shard's newest record.
    pub behind_ms: u64,
}

impl Done {
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let code = self.code.map_or_else(|number| number, |code| code as u16);
        let mut body = Filler::body_of(out);
        body.put(&code.to_le_bytes()).put(&[0; 6]).put(&self.behind_ms.to_le_bytes());
        body.seal(Header { shard: self.shard, sequence: self.next, ..blank(Kind::Done) })
    }

    pub fn decode(header: &Header, body: &[u8]) -> Option<Done> {
        let mut fields = Fields(body);
        let code = fields.u16()?;
        fields.bytes(6)?;
        let behind_ms = fields.u64()?;
        Some(Done { shard: header.shard, next: header.sequence, code: Code::of(code).ok_or(code), behind_ms })
    }
}

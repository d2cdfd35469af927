//! Batches of clients: whether they are what the log would have made, so that they can be stored as they came.

use super::message::Header;
use super::refusal::{Code, Fault};
use crate::limits::{COMMIT_MAX, PARTITION_KEY_MAX, RECORD_DATA_MAX};
use crate::log::format::{ENTRY, HEADER, ROOT, ShardKey, body_size, records, stride};
use crate::stdx::text::is_utf8;

/// Records of one batch at most.
pub const RECORDS_MAX: u32 = 65_535;
/// The largest commit holds one batch of this size behind its own header, so it is the largest batch: header, body and padding.
pub const LARGEST: u32 = COMMIT_MAX - HEADER as u32;

// The largest record, with the largest key, fits as the only one of a batch.
const _: () = assert!(stride(body_size(RECORD_DATA_MAX + 4 * PARTITION_KEY_MAX, 1) as u32) <= LARGEST as u64);

/// What has been agreed on with a client.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Number of its stream.
    pub stream: u32,
    /// As accepted; 0: none.
    pub producer: u64,
}

/// Whether the header of a batch keeps to what was agreed on. What does not ends the connection: its client does not know the protocol.
pub fn check_header(header: &Header, terms: &Terms) -> Result<(), Fault> {
    let malformed = |why| Err(Fault { code: Code::Malformed, why });
    if header.sequence != 0 || header.arrival != 0 || header.incarnation != 0 {
        return malformed("Sequence, arrival and incarnation of a batch are the server's: a client sends zeros.");
    }
    if header.shard.stream() != terms.stream {
        return malformed("A batch is for another stream than the Hello was.");
    }
    if header.producer != terms.producer {
        return malformed("A batch is of another producer than the Welcome has named.");
    }
    Ok(())
}

/// Whether body and header are of one batch, made as the page says; the answer is the bytes of keys and data. `record_max`: key and data of one
/// record of this stream. What does not pass is refused, and the connection goes on: nothing of it is stored.
pub fn check_body(header: &Header, body: &[u8], record_max: u32) -> Result<u32, Fault> {
    let bad = |why| Fault { code: Code::BadBatch, why };
    if header.check_body(body).is_err() {
        return Err(Fault { code: Code::BadChecksum, why: "The checksum of the batch's body is wrong." });
    }
    if header.count == 0 || header.count > RECORDS_MAX {
        return Err(bad("A batch has 1 to 65,535 records."));
    }
    let records =
        records(body, header.count).map_err(|_| bad("The index of the batch is not one, or points outside."))?;
    if !records.are_packed() {
        return Err(bad("The records of a batch lie one behind the other, from its first byte to its index."));
    }
    for record in records {
        let key = record.key.unwrap_or(b"");
        if record.key == Some(b"") {
            return Err(bad("A partition key has at least one character; a record without one is marked so."));
        }
        if !is_utf8(key) {
            return Err(bad("A partition key is not UTF-8."));
        }
        // As many characters as bytes, at the most.
        if key.len() > PARTITION_KEY_MAX && characters(key) > PARTITION_KEY_MAX {
            return Err(bad("A partition key has more than 256 characters."));
        }
        if (key.len() + record.data.len()) as u64 > record_max as u64 {
            let why = "A record has more bytes of key and data than the stream takes.";
            return Err(Fault { code: Code::RecordTooLarge, why });
        }
    }
    Ok((body.len() - ENTRY * header.count as usize - ROOT) as u32)
}

/// How many characters a text has: bytes that go on with one have `10` as their upper bits.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// What a durable batch is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub shard: ShardKey,
    /// Of the batch, by its client.
    pub number: u32,
    /// Number of the first record in its shard, and how many there are.
    pub first: u64,
    pub count: u32,
    /// µs since 1970.
    pub arrival: u64,
}

impl Ack {
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let &Ack { shard, number, first: sequence, count, arrival } = self;
        let header =
            Header { shard, number, sequence, count, arrival, ..super::message::blank(super::message::Kind::Ack) };
        super::message::seal_header(out, header)
    }

    pub fn of(header: &Header) -> Ack {
        let &Header { shard, number, sequence: first, count, arrival, .. } = header;
        Ack { shard, number, first, count, arrival }
    }
}

//! Reading what a shard has now, from its oldest record to the one that is its newest when the reading gets there.

use super::connection::{Connection, Endpoint};
use super::consumer::{Batch, Record};
use super::error::Error;
use super::now;
use crate::log::format::{HEADER, ShardKey};
use crate::native::message::Kind;
use crate::native::reading::{Done, Want};
use crate::native::refusal::{Code, Outcome};

/// Bytes of one read.
const BYTES: u32 = 4 << 20;

/// Reads shards to their ends, as they are at the moment. A connection that breaks ends it: where reading goes on over that, see
/// [`Consumer`](super::Consumer).
pub struct Scan {
    endpoint: Endpoint,
    connection: Connection,
}

impl Scan {
    /// Of this stream.
    ///
    /// # Errors
    /// Why the server could not be reached, or does not let this client read.
    pub fn open(endpoint: Endpoint, stream: &str) -> Result<Scan, Error> {
        let connection = Connection::open(&endpoint, stream, 0, false)?;
        Ok(Scan { endpoint, connection })
    }

    /// The stream's shards, parents before their children.
    pub fn shards(&self) -> Vec<u32> {
        self.connection.map.shards.keys().copied().collect()
    }

    /// Hands over every record that the shard has, in order.
    ///
    /// # Errors
    /// The first that goes wrong: the connection breaks, records are damaged on the server's disk, or there is no such shard.
    pub fn read(&mut self, shard: u32, mut take: impl FnMut(Record<'_>)) -> Result<(), Error> {
        let key = ShardKey::new(self.connection.welcome.stream, shard);
        let mut next = 0;
        loop {
            let want = Want { shard: key, sequence: next, records: 0, bytes: BYTES, floor: 0 };
            let mut out = [0; 2 * HEADER];
            let len = want.encode(&mut out, Kind::Read);
            self.connection.sender.send(&out[..len])?;
            let (done, came) = self.answer(shard, &mut next, &mut take)?;
            match done.code {
                Ok(Code::ShardClosed) => return Ok(()),
                Ok(Code::Ended) if !came => return Ok(()),
                Ok(Code::Ended) => {}
                code => {
                    let text = format!("shard {shard} cannot be read from number {next} on");
                    return Err(Error::Refused { code, outcome: Outcome::Nothing, wait_ms: 0, text });
                }
            }
        }
    }

    /// Takes what comes of one read, to its end; gives that, and whether anything came before it.
    fn answer(&mut self, shard: u32, next: &mut u64, take: &mut impl FnMut(Record<'_>)) -> Result<(Done, bool), Error> {
        let wrong = |what| Error::Protocol { what, address: self.endpoint.address.clone() };
        let mut came = false;
        loop {
            let until = now() + self.endpoint.answer_timeout;
            let message = self.connection.receiver.expect(until, "what a shard has")?;
            match message.header.kind {
                Kind::Batch if message.header.shard.shard() == shard => {
                    let behind = message.header.next();
                    let batch = Batch::new(message, *next).ok_or_else(|| wrong("a batch is none"))?;
                    batch.records().for_each(&mut *take);
                    came |= behind > *next;
                    *next = behind.max(*next);
                }
                Kind::Done => {
                    let done = Done::decode(&message.header, &message.body);
                    return Ok((done.ok_or_else(|| wrong("the end of a reading is too short"))?, came));
                }
                _ => {}
            }
        }
    }
}

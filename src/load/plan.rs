//! What a run is to do: settled before it begins, the same for every thread.

use super::choice::{Popularity, Sizes};
use super::http2_body;
use super::random::Random;
use super::schedule::{Schedule, Shape};
use crate::auth::sign::Signer;
use crate::log::format::{HEADER, body_size, stride};
use crate::native::message::BLOCK;
use crate::route::md5;
use std::net::SocketAddr;

/// Bytes of a partition key.
pub const KEY: usize = 12;
/// Keys of a run at most.
pub const KEYS_MAX: u32 = 1 << 20;
/// Places of a stream of HTTP/2.
const STREAM_PLACES: u32 = 4;
/// Prebuilt batches that connections have in common, and the bytes from which on they have: smaller ones are sent several at once, as they lie.
const COMMON: u16 = 4;
const COMMON_BYTES: u32 = 64 << 10;
/// Room for what is around the records of an HTTP request, but for its signature.
const HTTP_ROOM: usize = 1024;

/// The partition key with number `key`: of one length, so that the size of a request follows from those of its records.
pub fn key_name(key: u32) -> [u8; KEY] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = *b"key-00000000";
    for (at, digit) in name[4..].iter_mut().enumerate() {
        *digit = DIGITS[(key >> (28 - 4 * at) & 15) as usize];
    }
    name
}

/// Where the service has the key.
pub fn hash_key(key: u32) -> u128 {
    md5::hash(&key_name(key))
}

/// How records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Native,
    /// PutRecords, or PutRecord where a request is one record, over HTTP.
    Json,
    Cbor,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Wire::Native => "native",
            Wire::Json => "json",
            Wire::Cbor => "cbor",
        }
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// When they are due, whatever the server does. `rate`: records a second of the whole run.
    Open { shape: Shape, rate: f64 },
    /// As soon as fewer than so many of a connection are unanswered.
    Closed { outstanding: u32 },
}

/// Whoever may write to the stream.
#[derive(Clone)]
pub struct Identity {
    pub key_id: String,
    pub secret: String,
    pub token: Option<String>,
    pub region: String,
}

impl Identity {
    pub fn signer(&self) -> Signer {
        Signer::new(self.key_id.clone(), self.secret.clone(), self.token.clone(), self.region.clone())
    }
}

#[derive(Clone)]
pub struct Plan {
    /// Draws everything that is drawn.
    pub seed: u64,
    /// Stands in every record.
    pub run: u64,
    pub wire: Wire,
    /// Native batches take up whole blocks, which the server writes from where it receives them.
    pub bulk: bool,
    /// Where records are sent to.
    pub to: SocketAddr,
    /// Where they are read back from, and its name in `Host`; none: they are not.
    pub read: Option<SocketAddr>,
    pub host: String,
    /// HTTP is spoken in TLS.
    pub tls: bool,
    /// Puts go over HTTP/2: each request of a connection is a stream.
    pub http2: bool,
    pub stream: String,
    pub identity: Option<Identity>,
    /// Records of a request.
    pub batch: u32,
    pub sizes: Sizes,
    pub keys: u32,
    pub popularity: Popularity,
    pub pace: Pace,
    /// Requests of a connection that may be unanswered, if the server allows as many.
    pub window: u32,
    /// ns from the beginning: until then nothing is counted, and from then on nothing is sent.
    pub warm_up: u64,
    pub end: u64,
    /// Requests are made once and sent again and again: no content is proved.
    pub prebuilt: bool,
    /// ns that a reader waits after it has caught up.
    pub poll: u64,
}

impl Plan {
    /// Bytes of the largest request.
    pub fn request_max(&self) -> u32 {
        let (batch, size) = (self.batch as usize, self.sizes.most() as usize);
        let bytes = match self.wire {
            Wire::Native if self.bulk => {
                (2 * HEADER + body_size(batch * (KEY + size), batch)).next_multiple_of(BLOCK as usize) as u32
            }
            Wire::Native => stride(body_size(batch * (KEY + size), batch) as u32) as u32,
            Wire::Json | Wire::Cbor => self.http_room() as u32 + self.body_max() + self.frames_max(),
        };
        bytes.next_multiple_of(HEADER as u32)
    }

    /// Bytes of the largest body of an HTTP request, and of the room that base64 may write into before it is cut.
    pub fn body_max(&self) -> u32 {
        let (batch, size) = (self.batch as usize, self.sizes.most() as usize);
        let data = if self.wire == Wire::Cbor { size } else { size.div_ceil(3) * 4 };
        (128 + self.stream.len() + batch * (data + KEY + 48)) as u32
    }

    /// Bytes of the heads of frames of such a body.
    pub fn frames_max(&self) -> u32 {
        let body = self.body_max() as usize;
        if self.http2 { (http2_body::framed(body) - body) as u32 } else { 0 }
    }

    fn http_room(&self) -> usize {
        let signed = self.identity.as_ref().map_or(0, |identity| identity.signer().headers_max());
        HTTP_ROOM + self.host.len() + 2 * self.stream.len() + signed
    }

    /// How many requests of a connection may be unanswered. HTTP/1.1 has one.
    pub fn outstanding(&self) -> u32 {
        match (self.wire, self.pace) {
            (Wire::Json | Wire::Cbor, _) if !self.http2 => 1,
            (_, Pace::Closed { outstanding }) => outstanding,
            (_, Pace::Open { .. }) => self.window,
        }
    }

    /// How many requests of a connection have a place. Streams are answered in any order, and places are free from the oldest on.
    pub fn places(&self) -> u32 {
        self.outstanding() * if self.http2 { STREAM_PLACES } else { 1 }
    }

    /// When requests of a connection are due that has `part` of all records; `stream` draws what is drawn. `None`: in a closed loop.
    pub fn schedule(&self, part: f64, stream: u64) -> Option<Schedule> {
        let Pace::Open { shape, rate } = self.pace else { return None };
        let phase = Random::stream(self.seed ^ 1, stream).unit();
        let random = Random::stream(self.seed ^ 2, stream);
        Some(Schedule::new(shape, rate * part / self.batch as f64, phase, random))
    }

    /// Whether records carry stamps and are read back.
    pub fn is_verified(&self) -> bool {
        self.read.is_some() && !self.prebuilt
    }

    /// How many prebuilt batches connections of a thread have in common at most, each of a shard: those of one size, of which one is like another.
    pub fn common(&self) -> u16 {
        let alike = self.prebuilt && self.wire == Wire::Native && matches!(self.sizes, Sizes::Fixed(_));
        if alike && self.request_max() >= COMMON_BYTES { COMMON } else { 0 }
    }

    /// Whether a request that is due then is counted.
    pub fn counts(&self, due: u64) -> bool {
        (self.warm_up..self.end).contains(&due)
    }
}

/// The part of a run that one thread has. It writes the keys of the shards that it reads, and no other thread does, so threads share nothing. Behind a
/// merge of shards that two threads read, both read what follows, each for the keys that it writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    pub thread: u32,
    /// Keys of each of its connections.
    pub connections: Vec<Vec<u32>>,
    /// Shards that it reads.
    pub shards: Vec<u32>,
}

impl Share {
    /// The keys that the thread writes.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.connections.iter().flatten().copied()
    }
}

/// An open shard: its number, and the hash keys that it takes.
pub type Range = (u32, u128, u128);

/// Deals keys and shards out to `threads`, `connections` in all. Threads without a key are left out: there are then fewer.
pub fn deal(keys: u32, shards: &[Range], threads: u32, connections: u32) -> Vec<Share> {
    let threads = threads.min(shards.len() as u32).max(1);
    let mut owned: Vec<Vec<u32>> = vec![Vec::new(); threads as usize];
    for key in 0..keys {
        let hash = hash_key(key);
        let shard = shards.iter().position(|(_, first, last)| (*first..=*last).contains(&hash)).unwrap_or(0);
        owned[shard % threads as usize].push(key);
    }
    let mut shares = Vec::new();
    for (thread, keys) in owned.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
        let most = connections / threads + ((thread as u32) < connections % threads) as u32;
        let count = most.clamp(1, keys.len() as u32) as usize;
        let mut dealt = vec![Vec::new(); count];
        keys.into_iter().enumerate().for_each(|(at, key)| dealt[at % count].push(key));
        let shards = shards.iter().enumerate().filter(|(at, _)| at % threads as usize == thread);
        shares.push(Share {
            thread: thread as u32,
            connections: dealt,
            shards: shards.map(|(_, (shard, ..))| *shard).collect(),
        });
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_their_numbers() {
        assert_eq!((&key_name(0), &key_name(0x00ab_cdef)), (b"key-00000000", b"key-00abcdef"));
    }

    #[test]
    fn every_key_is_written_by_one_connection_of_the_thread_that_reads_its_shard() {
        let third = u128::MAX / 3;
        let shards = [(4, 0, third), (5, third + 1, 2 * third), (9, 2 * third + 1, u128::MAX)];
        for (threads, connections) in [(1, 1), (2, 5), (3, 16), (8, 8)] {
            let shares = deal(100, &shards, threads, connections);
            assert_eq!(shares.len(), threads.min(3) as usize);
            let mut seen: Vec<u32> = Vec::new();
            for share in &shares {
                for key in share.connections.iter().flatten() {
                    let at = shards.iter().find(|(_, first, last)| (*first..=*last).contains(&hash_key(*key)));
                    assert!(share.shards.contains(&at.expect("the shards have all keys").0));
                    seen.push(*key);
                }
            }
            seen.sort();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
            let count: usize = shares.iter().map(|share| share.connections.len()).sum();
            assert_eq!(count, connections.max(threads.min(3)) as usize);
        }
        // One key: one thread, one connection.
        let shares = deal(1, &shards, 3, 16);
        assert_eq!(shares.iter().map(|share| share.connections.len()).sum::<usize>(), 1);
    }
}

//! Every bound of the appliance, each with its reason. Memory is bounded from the start: it is added up here.

use crate::io::buffers::{Layouts, POOLS};

/// Largest partition key, data and so on: rules of Kinesis (the API model of 2026).
pub const RECORDS_PER_REQUEST_MAX: usize = 500;
/// Data and partition keys of a PutRecords request, decoded.
pub const REQUEST_PAYLOAD_MAX: usize = 10 << 20;
/// Data of one record by the API model; a stream's own limit (1 MiB by default) counts the key too.
pub const RECORD_DATA_MAX: usize = 10 << 20;
/// `MaxRecordSizeInKiB` of a stream that has not set it.
pub const RECORD_SIZE_KIB_DEFAULT: u32 = 1024;
/// In characters.
pub const PARTITION_KEY_MAX: usize = 256;
/// GetRecords: records, and bytes of data and keys, of one answer.
pub const GET_RECORDS_MAX: usize = 10_000;
pub const GET_BYTES_MAX: usize = 10 << 20;
/// Base64 of the largest payload, 500 keys of 256 characters that may be escaped, and the JSON around them.
pub const BODY_MAX: usize = 16 << 20;
/// The largest commit, and so the largest frame and its two headers: the largest PutRecords request for one shard, or the largest batch of a native
/// client.
pub const COMMIT_MAX: u32 = 12 << 20;
/// Request line and headers: the longest seen from an SDK is 2 KiB.
pub const HEAD_MAX: usize = 16 << 10;
/// How long a shard iterator is valid.
pub const ITERATOR_LIFE_MS: u64 = 300_000;
/// Shards that a stream may have, open and closed.
pub const SHARDS_PER_STREAM_MAX: usize = 10_000;
/// Workers that `--workers` may ask for: each registers 128 MiB of log memory, and each ordered pair has a ring of messages.
pub const WORKERS_ASKED_MAX: u16 = 128;

/// What a worker has besides its pools, at most: some 30 KB for each connection with TLS, of which there are as many as slots of [`Limits::wire`]; 5 KB
/// for each native client; producers, messages, latencies. Not the indexes of its logs, which grow with what is stored (256 MiB where there are
/// 10,000 shards in 40,000 segments: `benches/life`).
const BESIDES: u64 = 128 << 20;
/// The program itself, its libraries, and what threads have of their own.
pub const PROGRAM: u64 = 32 << 20;

/// Sizes that follow from the machine, or from a test.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of a worker; each has a slot of `connection_bytes` and one of `reply_bytes`, touched only when used.
    pub connections: u16,
    pub connection_bytes: u32,
    pub reply_bytes: u32,
    /// Clients of the native protocol among them; each may have so many batches unanswered as `worker/native.rs` says, in some 5 KiB.
    pub natives: u16,
    /// Shards that native clients of a worker read at once, each in some 200 bytes; half of them may be one client's.
    pub native_readers: usize,
    /// Streams of HTTP/2 of a worker; to the core each is a connection.
    pub streams: u16,
    /// (slots, bytes) for connections that carry HTTP/2.
    pub wire: (u16, u32),
    /// (slots, bytes) of the pools of bodies, replies and lent batches.
    pub small: (u16, u32),
    /// An event of SubscribeToShard, as it is sent, fits one of these, unless its only record is larger.
    pub medium: (u16, u32),
    pub large: (u16, u32),
    /// Ring of commits in flight, and cache of the tail. At least twice the largest commit.
    pub log_bytes: u32,
    /// Largest commit; must hold the largest frame: payload, 16 bytes a record, two headers.
    pub commit_bytes: u32,
    /// Commits in flight: two are the knee, four give 1.3 x one at 8 clients (measured).
    pub commits_in_flight: usize,
    /// (slots, bytes) for superblock, journal, segment heads and footers.
    pub block: (u16, u32),
    /// (slots, bytes) that bulk connections receive into, two of them each; touched only when used.
    pub bulk: (u16, u32),
    /// PutRecords requests of one worker between their scan and their ack.
    pub puts: usize,
    /// GetRecords requests that an owner works on at once.
    pub gets: usize,
    /// Subscriptions to shards over a worker's connections and streams together; a sixteenth of each stays free for others.
    pub subscriptions: usize,
    /// How long a subscription lasts.
    pub subscription_ms: u64,
    /// Messages from one worker to another that have not been taken yet.
    pub mailbox: usize,
}

impl Limits {
    /// For a real server.
    pub const fn standard() -> Limits {
        Limits {
            connections: 4096,
            connection_bytes: 16 << 10,
            reply_bytes: 4 << 10,
            natives: 1024,
            native_readers: 16_384,
            streams: 4096,
            wire: (2048, 192 << 10),
            small: (1024, 64 << 10),
            medium: (256, 1 << 20),
            large: (24, 16 << 20),
            log_bytes: 128 << 20,
            commit_bytes: COMMIT_MAX,
            commits_in_flight: 4,
            block: (64, 64 << 10),
            bulk: (64, 1 << 20),
            puts: 1024,
            gets: 256,
            subscriptions: 4096,
            subscription_ms: 300_000,
            mailbox: 8192,
        }
    }

    /// For the simulator: so small that every bound is met often.
    pub const fn tiny() -> Limits {
        Limits {
            connections: 16,
            connection_bytes: 8 << 10,
            reply_bytes: 4 << 10,
            natives: 5,
            native_readers: 14,
            streams: 0,
            wire: (0, 4 << 10),
            small: (6, 16 << 10),
            medium: (4, 64 << 10),
            large: (3, 128 << 10),
            log_bytes: 128 << 10,
            commit_bytes: 32 << 10,
            commits_in_flight: 3,
            block: (16, 16 << 10),
            bulk: (6, 16 << 10),
            puts: 8,
            gets: 4,
            subscriptions: 8,
            subscription_ms: 15_000,
            mailbox: 64,
        }
    }

    /// With log memory for `logs` logs on one worker, as after a restart with fewer cores: each part holds two of the largest commits.
    pub const fn with_logs(self, logs: u32) -> Limits {
        let least = (self.commit_bytes as u64 * 2).saturating_mul(logs as u64);
        let most = u32::MAX as u64 / 4096 * 4096;
        let bytes = if least > most { most } else { least };
        Limits { log_bytes: if bytes as u32 > self.log_bytes { bytes as u32 } else { self.log_bytes }, ..self }
    }

    /// Sockets that a worker's core knows: the ring's, then streams.
    pub const fn sockets(&self) -> u16 {
        self.connections + self.streams
    }

    /// Bytes of a worker's pools: all that it receives into, keeps, and sends from. They are taken from the kernel as they are first used, and not
    /// given back.
    pub const fn pools(&self) -> u64 {
        let pools = self.layouts().0;
        let (mut bytes, mut at) = (0, 0);
        while at < POOLS {
            bytes += pools[at].0 as u64 * pools[at].1 as u64;
            at += 1;
        }
        bytes
    }

    /// Bytes of memory that a worker takes at most, the indexes of its logs aside.
    pub const fn memory(&self) -> u64 {
        self.pools() + BESIDES
    }

    /// Slots and slot sizes of a worker's memory, in the order of [`crate::io::buffers::ALL_POOLS`].
    pub const fn layouts(&self) -> Layouts {
        let pools: [(u16, u32); POOLS] = [
            (self.sockets(), self.connection_bytes),
            (self.sockets(), self.reply_bytes),
            self.small,
            self.medium,
            self.large,
            (1, self.log_bytes),
            self.wire,
            self.block,
            self.bulk,
        ];
        Layouts(pools)
    }
}

const _: () =
    assert!(BODY_MAX >= REQUEST_PAYLOAD_MAX / 3 * 4 + RECORDS_PER_REQUEST_MAX * (PARTITION_KEY_MAX * 6 + 128));
const _: () = assert!(Limits::standard().large.1 as usize >= BODY_MAX);
const _: () = assert!(
    Limits::standard().commit_bytes as usize >= REQUEST_PAYLOAD_MAX + RECORDS_PER_REQUEST_MAX * 16 + 8 + 128 + 4096
);
const _: () = assert!(Limits::standard().log_bytes >= 2 * Limits::standard().commit_bytes);

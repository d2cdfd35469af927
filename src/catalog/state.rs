//! What the catalog knows: streams, shards, live segments. Every worker holds a copy and applies the same numbered changes.

use crate::io::clock::Wall;
use crate::log::format::ShardKey;
use std::collections::BTreeMap;

/// An inclusive range of hash keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    pub first: u128,
    pub last: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    Active,
    /// A shard is closing; reads and writes go on.
    Updating,
    /// Its records are gone for readers; the entry waits for its owners' word.
    Deleting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    Provisioned,
    OnDemand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    Open,
    /// Puts wait at the owner until the children are open.
    Closing,
    /// Readable until its last record expires. `last` is the number of its last record (0: it had none), `at` when it closed.
    Closed {
        last: u64,
        at: Wall,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its index in the stream: `shardId-` and 12 digits. Never used again.
    pub number: u32,
    pub range: HashRange,
    /// The shard that was split, or both that were merged (`ParentShardId`, `AdjacentParentShardId`).
    pub parents: [Option<u32>; 2],
    /// The creation second in its sequence numbers: above its parents'.
    pub created: u64,
    /// The log that holds it, chosen at creation.
    pub log: u32,
    pub state: ShardState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Never used again, also after deletion.
    pub number: u32,
    pub name: String,
    pub created: Wall,
    pub status: StreamStatus,
    pub mode: StreamMode,
    pub retention_hours: u32,
    pub max_record_kib: u32,
    pub tags: BTreeMap<String, String>,
    /// By number; expired ones are gone.
    pub shards: BTreeMap<u32, Shard>,
    pub next_shard: u32,
    /// The resharding under way: its children, which are not in `shards` yet.
    pub resharding: Option<Resharding>,
}

/// A split or merge between its two changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resharding {
    /// One shard that is split, or two that are merged.
    pub parents: [Option<u32>; 2],
    pub children: Vec<Shard>,
}

/// Number and arrival that a shard goes on from when its newest record is in no live segment any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    pub next: u64,
    pub arrival: u64,
}

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Number of the last change that is in it.
    pub applied: u64,
    pub streams: BTreeMap<String, Stream>,
    /// Next stream number.
    pub next_stream: u32,
    /// Live incarnations of each log, rising, as of its last recycle.
    pub live: BTreeMap<u32, Vec<u32>>,
    pub resume: BTreeMap<ShardKey, Resume>,
    /// Shards placed on each log so far, to place the next ones.
    pub placed: BTreeMap<u32, u32>,
}

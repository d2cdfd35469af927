//! What the catalog knows: streams, shards, live segments. Every worker holds a copy and applies the same numbered changes.
//!
//! These types are what a snapshot stores (version 1, as rkyv): with the first release of format 1 they are never edited any more; a
//! `StateV2` is added and the version of the entry rises. Until then an edit raises `log::superblock::REVISION`.

use super::consumer::Consumer;
use super::moving::{Former, Moving};
use super::resource_policy::ResourcePolicy;
use super::routes::Routes;
use crate::io::clock::Wall;
use crate::log::LiveSegment;
use crate::log::format::ShardKey;
use crate::tables::state::Tables;
use rkyv::with::Skip;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;

/// An inclusive range of hash keys.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    pub first: u128,
    pub last: u128,
}

impl HashRange {
    /// Range `index` of `count` equal ones; the last takes the remainder. `index` is below `count`.
    pub fn of(index: u32, count: u32) -> HashRange {
        // floor(2^128 / count) without 2^128: for 1 it does not fit, and the only range is the last one.
        let step = if count == 1 { 0 } else { (u128::MAX - (count as u128 - 1)) / count as u128 + 1 };
        let first = index as u128 * step;
        let last = if index + 1 == count { u128::MAX } else { first + step - 1 };
        HashRange { first, last }
    }

    pub fn contains(self, hash: u128) -> bool {
        self.first <= hash && hash <= self.last
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    Active,
    /// A shard is closing, or moving to another log; reads and writes go on.
    Updating,
    /// Its records are gone for readers; the entry waits for its owners' word.
    Deleting,
}

impl StreamStatus {
    /// As in the API. CREATING is not there: a stream is active when its creation is durable and applied.
    pub const fn name(self) -> &'static str {
        match self {
            StreamStatus::Active => "ACTIVE",
            StreamStatus::Updating => "UPDATING",
            StreamStatus::Deleting => "DELETING",
        }
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    Provisioned,
    OnDemand,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    Open,
    /// Puts wait at the owner until the children are open, or the shard has moved.
    Closing,
    /// Readable until its last record expires. `last` is the number of its last record (0: it had none), `at` when it closed.
    Closed {
        last: u64,
        at: Wall,
    },
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its index in the stream: `shardId-` and 12 digits. Never used again.
    pub number: u32,
    pub range: HashRange,
    /// The shard that was split, or both that were merged (`ParentShardId`, `AdjacentParentShardId`).
    pub parents: [Option<u32>; 2],
    /// The creation second in its sequence numbers: above its parents'.
    pub created: u64,
    /// The log that its new records go to.
    pub log: u32,
    /// Logs that it was on before and may have records on, oldest first.
    pub former: Vec<Former>,
    pub state: ShardState,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
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
    /// By name.
    pub consumers: BTreeMap<String, Consumer>,
    pub next_consumer: u32,
    /// The resharding under way: its children, which are not in `shards` yet.
    pub resharding: Option<Resharding>,
    /// The shard that is being moved; it is closing meanwhile.
    pub moving: Option<Moving>,
    /// Derived from `shards`.
    #[rkyv(with = Skip)]
    pub routes: Routes,
}

/// A split or merge between its two changes.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Resharding {
    /// One shard that is split, or two that are merged.
    pub parents: [Option<u32>; 2],
    pub children: Vec<Shard>,
}

/// Number and arrival that a shard goes on from when its newest record is in no live segment any more.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    pub next: u64,
    pub arrival: u64,
}

/// A segment of a log, and the retention time since which nothing of it has been verified.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unverified {
    pub incarnation: u32,
    pub since: Wall,
}

/// How far the scrubbing of a log had come at retention time `at`. A segment that is not listed came later.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubs {
    pub at: Wall,
    /// By incarnation, rising.
    pub segments: Vec<Unverified>,
}

/// The whole of it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Number of the last change that is in it.
    pub applied: u64,
    pub streams: BTreeMap<String, Stream>,
    /// Next stream number.
    pub next_stream: u32,
    /// Live segments of each log, rising, as of its last recycle.
    pub live: BTreeMap<u32, Vec<LiveSegment>>,
    pub resume: BTreeMap<ShardKey, Resume>,
    /// Shards that take records on each log, to place the next ones. Its keys are the logs that there are.
    pub placed: BTreeMap<u32, u32>,
    /// Retention time that was last made durable: it goes on from here when the wall clock is not believed.
    pub retention_wall: Wall,
    /// By log. A log without an entry has never been scrubbed where it lies now.
    pub scrubs: BTreeMap<u32, Scrubs>,
    /// Policies of streams and their consumers, by what follows the account in their ARN.
    pub policies: BTreeMap<String, ResourcePolicy>,
    /// Lease tables: at worker 0, the other copies have none.
    pub tables: Tables,
    /// Derived: names by stream number.
    #[rkyv(with = Skip)]
    pub names: BTreeMap<u32, String>,
}

impl Scrubs {
    /// Since when nothing of the segment has been verified, at the most.
    pub fn since(&self, incarnation: u32) -> Wall {
        let at = self.segments.binary_search_by_key(&incarnation, |segment| segment.incarnation);
        at.map_or(self.at, |at| self.segments[at].since)
    }
}

impl Shard {
    pub fn is_open(&self) -> bool {
        self.state == ShardState::Open
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, ShardState::Closed { .. })
    }

    pub fn is_child_of(&self, number: u32) -> bool {
        self.parents.contains(&Some(number))
    }
}

impl Stream {
    /// The shard that takes a record with this hash key: open, or closing while its children are not open.
    pub fn route(&self, hash: u128) -> Option<&Shard> {
        self.shards.get(&self.routes.find(hash)?).filter(|shard| shard.range.contains(hash))
    }

    /// Shards that were opened by the closing of `number`, by number; none while it is open or closing.
    pub fn children(&self, number: u32) -> impl Iterator<Item = &Shard> {
        self.shards.range(number..).map(|(_, shard)| shard).filter(move |shard| shard.is_child_of(number))
    }

    /// Shards that take records or close, by number: what a reader sees as open.
    pub fn open(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values().filter(|shard| !shard.is_closed())
    }

    /// When a shard began to take records: with the stream, or at the close of its parents. The second in its own numbers may be later
    /// than that; the parents' end leaves neither hole nor overlap between the generations.
    pub fn opened(&self, shard: &Shard) -> Wall {
        let mut parents = shard.parents.iter().flatten().peekable();
        if parents.peek().is_none() {
            return self.created;
        }
        let closed = parents.filter_map(|parent| match self.shards.get(parent)?.state {
            ShardState::Closed { at, .. } => Some(at),
            _ => None,
        });
        // Parents that have expired ended before everything that can still be asked for.
        closed.max().unwrap_or(Wall(0))
    }

    /// Whether `shard` was the one that took records for its keys at `time`. From the stream's creation on, or the trim horizon where
    /// that is later, these shards cover every key once.
    pub fn took_at(&self, shard: &Shard, time: Wall) -> bool {
        let ended = matches!(shard.state, ShardState::Closed { at, .. } if at <= time);
        !ended && self.opened(shard) <= time
    }
}

impl State {
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name)
    }

    pub fn stream_by_number(&self, number: u32) -> Option<&Stream> {
        self.streams.get(self.names.get(&number)?)
    }

    pub fn shard(&self, key: ShardKey) -> Option<&Shard> {
        self.stream_by_number(key.stream())?.shards.get(&key.shard())
    }

    /// The shard of stream `stream` that takes a record with this hash key.
    pub fn route(&self, stream: u32, hash: u128) -> Option<&Shard> {
        self.stream_by_number(stream)?.route(hash)
    }

    /// The state of a copy that is made of all files: what has been verified of these says nothing of those.
    pub fn of_copy(&self) -> State {
        State { scrubs: BTreeMap::new(), ..self.clone() }
    }

    /// The copy of a worker that has no part in lease tables.
    pub fn without_tables(&self) -> State {
        State { tables: Tables::default(), ..self.clone() }
    }

    /// Computes everything derived: after a snapshot has been read, or a state was made by hand.
    pub fn derive(&mut self) {
        self.names = self.streams.iter().map(|(name, stream)| (stream.number, name.clone())).collect();
        for stream in self.streams.values_mut() {
            stream.routes = Routes::of(stream.shards.values());
        }
        self.policies.values_mut().for_each(ResourcePolicy::derive);
        self.tables.derive();
    }
}

//! The shards that a worker owns: numbers given out, arrival times, open or not.

use crate::catalog::state::{ShardState, State, StreamStatus};
use crate::io::clock::Wall;
use crate::log::format::{Position, ShardKey};
use std::collections::BTreeMap;

/// Whether a shard takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// Puts wait until the children open, or the shard has moved. `told`: worker 0 knows that every record is durable, or that
    /// the log has failed before that.
    Closing {
        told: bool,
    },
    /// `last`: the number of its last record, 0 when it had none.
    Closed {
        last: u64,
    },
}

/// One shard at its owner. `acked ≤ durable ≤ written ≤ assigned`: `next` is the first number that is not assigned.
#[derive(Clone, Copy, Debug)]
pub struct OwnedShard {
    /// Index of its log among the worker's.
    pub log: usize,
    /// First number that is not assigned; the first record of a shard is number 1.
    pub next: u64,
    /// Arrival of the newest record, µs; arrivals never fall in a shard.
    pub arrival: u64,
    /// The log is durable up to here when every record of the shard is.
    pub end: Position,
    pub admission: Admission,
}

impl OwnedShard {
    /// Numbers for `count` records that arrive now: (first number, arrival of all of them, µs).
    pub fn assign(&mut self, count: u32, wall: Wall) -> (u64, u64) {
        let first = self.next;
        self.next += count as u64;
        self.arrival = self.arrival.max(wall.0);
        (first, self.arrival)
    }
}

/// The shards of a worker, by key.
#[derive(Default)]
pub struct Shards {
    by_key: BTreeMap<ShardKey, OwnedShard>,
}

impl Shards {
    pub fn get(&self, key: ShardKey) -> Option<&OwnedShard> {
        self.by_key.get(&key)
    }

    pub fn get_mut(&mut self, key: ShardKey) -> Option<&mut OwnedShard> {
        self.by_key.get_mut(&key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ShardKey, &OwnedShard)> {
        self.by_key.iter().map(|(key, shard)| (*key, shard))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ShardKey, &mut OwnedShard)> {
        self.by_key.iter_mut().map(|(key, shard)| (*key, shard))
    }

    /// Follows the catalog: shards of stream `stream` that are now on the logs that `log_index` knows are taken up, others dropped. `resume` says
    /// where a shard that is new to this worker goes on: (next number, arrival).
    pub fn follow(
        &mut self,
        state: &State,
        stream: u32,
        log_index: impl Fn(u32) -> Option<usize>,
        resume: impl Fn(ShardKey) -> Option<(u64, u64)>,
    ) {
        let range = ShardKey::new(stream, 0)..=ShardKey::new(stream, u32::MAX);
        let kept = state.stream_by_number(stream).filter(|stream| stream.status != StreamStatus::Deleting);
        let Some(stream) = kept else {
            self.by_key.retain(|key, _| !range.contains(key));
            return;
        };
        let is_here = |number: u32| stream.shards.get(&number).is_some_and(|shard| log_index(shard.log).is_some());
        self.by_key.retain(|key, _| !range.contains(key) || is_here(key.shard()));
        for shard in stream.shards.values() {
            let Some(log) = log_index(shard.log) else { continue };
            let key = ShardKey::new(stream.number, shard.number);
            let (next, arrival) = resume(key).unwrap_or((1, 0));
            let start = OwnedShard { log, next, arrival, end: Position(0), admission: Admission::Open };
            let owned = self.by_key.entry(key).or_insert(start);
            if owned.log != log {
                // Moved between two logs of this worker; all of it is durable on the other one.
                *owned = OwnedShard { next: next.max(owned.next), arrival: arrival.max(owned.arrival), ..start };
            }
            owned.admission = match (shard.state, owned.admission) {
                (ShardState::Open, _) => Admission::Open,
                (ShardState::Closing, Admission::Closing { told }) => Admission::Closing { told },
                (ShardState::Closing, _) => Admission::Closing { told: false },
                (ShardState::Closed { last, .. }, _) => Admission::Closed { last },
            };
        }
    }
}

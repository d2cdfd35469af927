//! From a hash key to the shard that takes it: a sorted table, derived from a stream's shards.

use super::state::{Shard, ShardState};

/// The shards of a stream that take records (open, or closing with puts waiting), by first hash key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    firsts: Vec<u128>,
    shards: Vec<u32>,
}

impl Routes {
    pub(super) fn of<'a>(shards: impl Iterator<Item = &'a Shard>) -> Routes {
        let takes = |shard: &&Shard| !matches!(shard.state, ShardState::Closed { .. });
        let mut by_first: Vec<(u128, u32)> = shards.filter(takes).map(|s| (s.range.first, s.number)).collect();
        by_first.sort_unstable();
        let (firsts, shards) = by_first.into_iter().unzip();
        Routes { firsts, shards }
    }

    /// Place in the table of the shard whose range begins last at or before `hash`; as ranges cover every hash key, the one that takes it.
    pub fn index(&self, hash: u128) -> Option<usize> {
        self.firsts.partition_point(|first| *first <= hash).checked_sub(1)
    }

    /// Number of that shard.
    pub fn find(&self, hash: u128) -> Option<u32> {
        self.shards.get(self.index(hash)?).copied()
    }

    /// First hash keys, rising, and the shards they belong to: for a request that routes many keys at once.
    pub fn table(&self) -> (&[u128], &[u32]) {
        (&self.firsts, &self.shards)
    }

    /// How many shards take records.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}

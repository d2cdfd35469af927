//! The shards of a stream as the server has told them, and which of them takes a key.

use crate::native::welcome::{ShardLine, ShardState};
use crate::route::md5;
use std::collections::BTreeMap;

/// Shards of a map at most: far more than a stream has, so that a server that never ends one takes no more memory than this.
const SHARDS_MAX: usize = 1 << 20;
/// What a server is told that has more.
pub(super) const ENDLESS: &str = "the map of shards does not end";

/// What is known of a stream's shards.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    pub shards: BTreeMap<u32, ShardLine>,
    /// Lines of a map of which some are missing still.
    coming: BTreeMap<u32, ShardLine>,
}

impl Map {
    /// Takes lines; `last`: the map is whole with these, which is the answer, and shards that are not in it have gone. `None`: it is larger than any.
    pub fn learn(&mut self, lines: &[ShardLine], last: bool) -> Option<bool> {
        self.coming.extend(lines.iter().map(|line| (line.shard, *line)));
        if self.coming.len() > SHARDS_MAX {
            return None;
        }
        if last {
            self.shards = std::mem::take(&mut self.coming);
        }
        Some(last)
    }

    /// The shard that takes a record with this hash key: one that is open, or of which it is not known yet whether it closes.
    pub fn route(&self, hash: u128) -> Option<u32> {
        let takes = |line: &&ShardLine| line.state != ShardState::Closed && (line.first..=line.last).contains(&hash);
        self.shards.values().find(takes).map(|line| line.shard)
    }

    /// Workers that have shards which take records.
    pub fn owners(&self) -> std::collections::BTreeSet<u16> {
        self.shards.values().filter(|line| line.state != ShardState::Closed).map(|line| line.worker).collect()
    }
}

/// Where the MD5 of a key lies among hash keys.
pub(super) fn hash_of(key: &str) -> u128 {
    md5::hash(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(shard: u32, state: ShardState, worker: u16, first: u128, last: u128) -> ShardLine {
        ShardLine { shard, state, worker, parents: [None, None], first, last }
    }

    #[test]
    fn a_key_goes_to_the_shard_that_takes_it_and_a_map_counts_when_it_is_whole() {
        let mut map = Map::default();
        let half = u128::MAX / 2;
        let closed = line(0, ShardState::Closed, 0, 0, u128::MAX);
        assert_eq!(map.learn(&[closed, line(1, ShardState::Open, 1, 0, half)], false), Some(false));
        assert_eq!((map.shards.len(), map.route(5)), (0, None), "it is not whole");
        assert_eq!(map.learn(&[line(2, ShardState::Closing, 2, half + 1, u128::MAX)], true), Some(true));
        assert_eq!([0, half, half + 1, u128::MAX].map(|hash| map.route(hash)), [Some(1), Some(1), Some(2), Some(2)]);
        assert_eq!(map.owners().into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(map.learn(&[line(1, ShardState::Open, 1, 0, half)], true), Some(true));
        assert_eq!(map.route(u128::MAX), None, "what is not in a whole map has gone");
    }

    #[test]
    fn a_map_that_never_ends_is_none() {
        let mut map = Map::default();
        let learned = |map: &mut Map, shards: std::ops::Range<u32>| {
            let lines: Vec<_> = shards.map(|shard| line(shard, ShardState::Open, 0, 0, 0)).collect();
            map.learn(&lines, false)
        };
        assert_eq!(learned(&mut map, 0..SHARDS_MAX as u32), Some(false));
        assert_eq!(learned(&mut map, 0..10), Some(false), "of shards that it has told already");
        assert_eq!(learned(&mut map, SHARDS_MAX as u32..SHARDS_MAX as u32 + 1), None);
    }

    #[test]
    fn the_hash_of_a_key_is_its_md5_as_a_number() {
        // Of RFC 1321.
        assert_eq!(hash_of("abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
    }
}

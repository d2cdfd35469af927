//! The keys of a connection, by the shard that takes them: a native batch is of one shard.

use super::choice::Alias;
use super::plan::{Plan, hash_key};
use super::random::Random;
use crate::native::welcome::{ShardLine, ShardState};

/// Keys of one shard.
#[derive(Debug)]
pub struct Lane {
    /// Number of the shard in its stream.
    pub shard: u32,
    keys: Vec<u32>,
    pick: Alias,
    /// Number of the next batch.
    pub next: u32,
    /// Batches without an answer.
    pub unanswered: u32,
    /// A batch was refused: those behind it have to be answered before it can go on.
    pub stopped: bool,
}

#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    pick: Alias,
    /// The one that the next request is of.
    next: Option<u16>,
}

impl Lanes {
    /// All keys in one: for a wire that takes any of them.
    pub fn one(plan: &Plan, keys: &[u32]) -> Lanes {
        Lanes::of(plan, vec![(0, keys.to_vec())])
    }

    /// Keys in so many groups, of which each has one request under way at most: for a wire that takes any of them, many at once, and in no order.
    pub fn apart(plan: &Plan, keys: &[u32], groups: u32) -> Lanes {
        let groups = groups.clamp(1, keys.len() as u32) as usize;
        let group = |first: usize| (first as u32, keys.iter().skip(first).step_by(groups).copied().collect());
        Lanes::of(plan, (0..groups).map(group).collect())
    }

    /// One that has nothing under way: that which is drawn, or the next one behind it.
    pub fn next_free(&mut self, random: &mut Random) -> Option<u16> {
        let drawn = self.pick.draw(random) as usize;
        let count = self.lanes.len();
        let free = (0..count).map(|step| (drawn + step) % count).find(|at| self.lanes[*at].unanswered == 0);
        free.map(|at| at as u16)
    }

    /// By the open shards of a map. Lanes of shards that were there before go on with their numbers.
    pub fn by_shard(plan: &Plan, keys: &[u32], lines: &[ShardLine], former: &Lanes) -> Lanes {
        let takes = |line: &&ShardLine| line.state != ShardState::Closed;
        let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
        for key in keys {
            let hash = hash_key(*key);
            let line = lines.iter().filter(takes).find(|line| (line.first..=line.last).contains(&hash));
            let Some(line) = line else { continue };
            match groups.iter_mut().find(|(shard, _)| *shard == line.shard) {
                Some((_, keys)) => keys.push(*key),
                None => groups.push((line.shard, vec![*key])),
            }
        }
        let mut lanes = Lanes::of(plan, groups);
        for lane in &mut lanes.lanes {
            if let Some(before) = former.lanes.iter().find(|former| former.shard == lane.shard) {
                (lane.next, lane.unanswered, lane.stopped) = (before.next, before.unanswered, before.stopped);
            }
        }
        lanes
    }

    fn of(plan: &Plan, groups: Vec<(u32, Vec<u32>)>) -> Lanes {
        let weight = |key: &u32| plan.popularity.weight(*key, plan.keys);
        let weights: Vec<f64> = groups.iter().map(|(_, keys)| keys.iter().map(weight).sum()).collect();
        let lanes = groups.into_iter().map(|(shard, keys)| {
            let pick = Alias::new(&keys.iter().map(weight).collect::<Vec<_>>());
            Lane { shard, keys, pick, next: 0, unanswered: 0, stopped: false }
        });
        Lanes { lanes: lanes.collect(), pick: Alias::new(&weights), next: None }
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The one that the next request is of: drawn once, until [`Lanes::taken`].
    pub fn next(&mut self, random: &mut Random) -> u16 {
        *self.next.get_or_insert_with(|| self.pick.draw(random) as u16)
    }

    pub fn taken(&mut self) {
        self.next = None;
    }

    pub fn lane(&mut self, at: u16) -> &mut Lane {
        &mut self.lanes[at as usize]
    }

    pub fn of_shard(&mut self, shard: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.shard == shard)
    }

    /// Numbers begin at 0 again.
    pub fn begin_epoch(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.next = 0);
    }

    /// The connection has ended and nothing of it will be answered.
    pub fn forget(&mut self) {
        self.lanes.iter_mut().for_each(|lane| (lane.unanswered, lane.stopped) = (0, false));
    }
}

impl Lane {
    pub fn draw(&self, random: &mut Random) -> u32 {
        self.keys[self.pick.draw(random) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan_tests::plan;

    #[test]
    fn lanes_that_are_apart_have_every_key_once_and_one_that_is_free_is_found() {
        let (plan, keys, mut random) = (plan(), (0..10).collect::<Vec<u32>>(), Random::new(1));
        assert_eq!(Lanes::apart(&plan, &keys, 64).lanes.len(), 10, "no more than there are keys");
        let mut lanes = Lanes::apart(&plan, &keys, 4);
        let mut all: Vec<u32> = lanes.lanes.iter().flat_map(|lane| lane.keys.clone()).collect();
        all.sort();
        assert_eq!(all, keys);
        let mut taken = Vec::new();
        while let Some(lane) = lanes.next_free(&mut random) {
            lanes.lane(lane).unanswered = 1;
            taken.push(lane);
        }
        taken.sort();
        assert_eq!(taken, [0, 1, 2, 3]);
        lanes.lane(2).unanswered = 0;
        assert_eq!(lanes.next_free(&mut random), Some(2));
    }
}

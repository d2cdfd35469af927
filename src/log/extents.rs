//! Which segment holds which numbers of a shard: all of a log that stays in memory of where its records lie.
//!
//! An extent is a stretch of consecutive numbers of one shard in one segment. Those of a shard do not overlap and are kept in the order of
//! their numbers, so a number is found by one binary search, however many segments there are; what lies closer (the runs of an extent) is
//! read from the segment's footer. Records that were moved to a newer segment are owned by that one: a later extent takes its numbers
//! over from those before.
//!
//! 32 bytes an extent, one extent a shard and segment at least, and one for every 64 runs (about 4 MiB of the shard).

use super::format::{HEADER, ShardKey};
use super::index::KeyHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// Runs that an extent has at most, so that one read of its footer finds any record of it.
pub const RUNS_MAX: u32 = 64;
/// Bits of [`Extent::runs`] that count; the others say where they begin.
const COUNT_BITS: u32 = 7;
/// Places and sizes are kept in units of what frames are aligned to, arrivals in µs times this.
const UNIT: u32 = HEADER as u32;
const TICK: u64 = 64;
/// Bits of a place and of a size: a segment is at most 2 GiB.
const PLACE_BITS: u32 = 25;
const PLACE_MAX: u32 = (1 << PLACE_BITS) - 1;

/// Place of the first run in a segment's table and how many (at most [`RUNS_MAX`]), in one number; 0: none. In footers too.
pub fn pack_runs((place, count): (u32, u32)) -> u32 {
    place << COUNT_BITS | count
}

/// The inverse of [`pack_runs`].
pub fn unpack_runs(packed: u32) -> (u32, u32) {
    (packed >> COUNT_BITS, packed & ((1 << COUNT_BITS) - 1))
}

/// A stretch of consecutive numbers of a shard in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of its first record.
    pub first: u64,
    /// From below: place, size, and the upper bits of the last arrival.
    packed: u64,
    /// Records.
    pub count: u32,
    pub incarnation: u32,
    /// The lower bits of the last arrival.
    last: u32,
    /// Its runs in the segment's footer: place of the first, how many. 0: none.
    runs: u32,
}

impl Extent {
    /// `at`: byte of the segment file before which none of it lies; `bytes`: of its frames, headers and padding counted; `last_arrival` in µs;
    /// `runs`: place of the first in the footer's table, how many (at most [`RUNS_MAX`]).
    pub fn new(
        (first, count): (u64, u32),
        incarnation: u32,
        (at, bytes): (u32, u32),
        last_arrival: u64,
        runs: (u32, u32),
    ) -> Extent {
        debug_assert!(runs.1 <= RUNS_MAX && at.is_multiple_of(UNIT));
        let ticks = last_arrival.div_ceil(TICK);
        let bytes = bytes.div_ceil(UNIT).min(PLACE_MAX) as u64;
        let packed = (at / UNIT) as u64 | bytes << PLACE_BITS | (ticks >> 32) << (2 * PLACE_BITS);
        Extent { first, packed, count, incarnation, last: ticks as u32, runs: pack_runs(runs) }
    }

    /// The number after its last.
    pub fn end(&self) -> u64 {
        self.first + self.count as u64
    }

    /// Byte of the segment file before which none of it lies.
    pub fn at(&self) -> u32 {
        (self.packed as u32 & PLACE_MAX) * UNIT
    }

    /// Bytes of its frames, headers and padding counted.
    pub fn bytes(&self) -> u32 {
        ((self.packed >> PLACE_BITS) as u32 & PLACE_MAX) * UNIT
    }

    /// Not before the arrival of its last record, and less than 64 µs after it (µs).
    pub fn last_arrival(&self) -> u64 {
        ((self.packed >> (2 * PLACE_BITS)) << 32 | self.last as u64) * TICK
    }

    /// Place of its first run in the segment's table, and how many they are.
    pub fn runs(&self) -> (u32, u32) {
        unpack_runs(self.runs)
    }

    /// The part of it from number `from` to `to`; its bytes in proportion.
    fn part(&self, from: u64, to: u64) -> Extent {
        let count = (to - from) as u32;
        let bytes = (self.bytes() as u64 * count as u64).div_ceil(self.count.max(1) as u64) as u32;
        Extent::new((from, count), self.incarnation, (self.at(), bytes), self.last_arrival(), self.runs())
    }

    /// This one and `next`, which goes on from it, where both are better told as one.
    pub fn joined(&self, next: &Extent) -> Option<Extent> {
        let bare = self.runs == 0 && next.runs == 0;
        let joins = self.incarnation == next.incarnation && self.end() == next.first && bare;
        (joins && self.bytes() < JOINED_MAX).then(|| {
            let (count, bytes) = (self.count + next.count, self.bytes() + next.bytes());
            let last = self.last_arrival().max(next.last_arrival());
            Extent::new((self.first, count), self.incarnation, (self.at(), bytes), last, (0, 0))
        })
    }
}

/// Extents without runs are joined up to this many bytes.
const JOINED_MAX: u32 = 1 << 20;

/// All of a shard.
#[derive(Clone, Debug, Default)]
struct Owned {
    shard: ShardKey,
    extents: Vec<Extent>,
}

/// All of a log, by shard.
#[derive(Debug, Default)]
pub struct Extents {
    slots: Vec<Owned>,
    by_shard: HashMap<ShardKey, u32, BuildHasherDefault<KeyHasher>>,
}

impl Extents {
    fn of(&self, shard: ShardKey) -> &[Extent] {
        self.by_shard.get(&shard).map_or(&[], |&slot| &self.slots[slot as usize].extents)
    }

    fn of_mut(&mut self, shard: ShardKey) -> &mut Vec<Extent> {
        let next = self.slots.len() as u32;
        let slot = *self.by_shard.entry(shard).or_insert(next);
        if slot == next {
            self.slots.push(Owned { shard, extents: Vec::new() });
        }
        &mut self.slots[slot as usize].extents
    }

    /// From the extent that holds `sequence` on, or from the one with the next higher number.
    pub fn from(&self, shard: ShardKey, sequence: u64) -> &[Extent] {
        let extents = self.of(shard);
        &extents[extents.partition_point(|extent| extent.end() <= sequence)..]
    }

    /// From the oldest extent on that may hold a record which arrived at or after `arrival` (µs).
    pub fn from_arrival(&self, shard: ShardKey, arrival: u64) -> &[Extent] {
        let extents = self.of(shard);
        &extents[extents.partition_point(|extent| extent.last_arrival() < arrival)..]
    }

    /// The extent of segment `incarnation` that owns `sequence`.
    pub fn owner(&self, shard: ShardKey, sequence: u64, incarnation: u32) -> Option<&Extent> {
        let found = self.from(shard, sequence).first();
        found.filter(|extent| extent.first <= sequence && extent.incarnation == incarnation)
    }

    /// The number after the newest that any extent of the shard holds; 0 when there is none.
    pub fn next(&self, shard: ShardKey) -> u64 {
        self.of(shard).last().map_or(0, Extent::end)
    }

    /// Adds an extent, which from now on owns its numbers: other extents lose what they had of them. Returns the
    /// segments of those.
    pub fn take_over(&mut self, shard: ShardKey, extent: Extent) -> Vec<u32> {
        let mut losers = Vec::new();
        if extent.count == 0 {
            return losers;
        }
        let extents = self.of_mut(shard);
        let follows = extents.last().is_none_or(|last| last.end() <= extent.first);
        let from = if follows { extents.len() } else { extents.partition_point(|e| e.end() <= extent.first) };
        let to = from + extents[from..].partition_point(|e| e.first < extent.end());
        let before = from.checked_sub(1).and_then(|at| Some((at, extents[at].joined(&extent)?)));
        if from == to {
            if let Some((at, joined)) = before {
                extents[at] = joined;
                return losers;
            }
            if extents.len() == extents.capacity() {
                // Little at a time: there are many shards, and this is what a log's index weighs.
                extents.reserve_exact(1 + extents.len() / 32);
            }
            extents.insert(from, extent);
            return losers;
        }
        let left = (extents[from].first < extent.first).then(|| extents[from].part(extents[from].first, extent.first));
        let right =
            (extents[to - 1].end() > extent.end()).then(|| extents[to - 1].part(extent.end(), extents[to - 1].end()));
        losers.extend(extents[from..to].iter().map(|extent| extent.incarnation));
        // Numbers are moved one after the other: were each an extent of its own, each would move all that follow.
        let before = before.filter(|_| left.is_none());
        match (before, right) {
            (Some((at, joined)), Some(right)) if to - from == 1 => (extents[at], extents[from]) = (joined, right),
            (Some((at, joined)), right) => {
                extents[at] = joined;
                extents.splice(from..to, right);
            }
            (None, right) => drop(extents.splice(from..to, left.into_iter().chain([extent]).chain(right))),
        }
        losers
    }

    /// What segment `extent.incarnation` owns of the numbers of `extent` is described by it from now on; the rest stays as it is.
    pub fn describe(&mut self, shard: ShardKey, extent: &Extent) {
        let owned: Vec<(u64, u64)> = self
            .of(shard)
            .iter()
            .filter(|e| e.incarnation == extent.incarnation && e.first < extent.end() && extent.first < e.end())
            .map(|e| (e.first.max(extent.first), e.end().min(extent.end())))
            .collect();
        for (from, to) in owned {
            self.take_over(shard, extent.part(from, to));
        }
    }

    /// Shards, also such as have no extent any more.
    pub fn shards(&self) -> usize {
        self.slots.len()
    }

    /// The shard at place `slot`, and its extents.
    pub fn slot(&self, slot: usize) -> (ShardKey, &[Extent]) {
        (self.slots[slot].shard, &self.slots[slot].extents)
    }

    /// Drops the extents of segments that are gone from the shard at place `slot`.
    pub fn sweep(&mut self, slot: usize, mut held: impl FnMut(u32) -> bool) {
        let extents = &mut self.slots[slot].extents;
        if extents.iter().any(|extent| !held(extent.incarnation)) {
            extents.retain(|extent| held(extent.incarnation));
            if extents.len() < extents.capacity() / 2 {
                extents.shrink_to_fit();
            }
        }
    }

    /// Forgets shards without extents: places change.
    pub fn forget_empty(&mut self) {
        let empty = |owned: &Owned| owned.extents.is_empty();
        if !self.slots.iter().any(empty) {
            return;
        }
        self.slots.retain(|owned| !empty(owned));
        self.by_shard.clear();
        self.by_shard.extend(self.slots.iter().enumerate().map(|(slot, owned)| (owned.shard, slot as u32)));
    }

    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        let extents: usize = self.slots.iter().map(|owned| owned.extents.capacity()).sum();
        let table = self.by_shard.capacity() * (size_of::<(ShardKey, u32)>() + 1);
        (extents * size_of::<Extent>() + self.slots.capacity() * size_of::<Owned>() + table) as u64
    }
}

const _: () = assert!(size_of::<Extent>() == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory_disk::Random;
    use std::collections::BTreeMap;

    const SHARD: ShardKey = ShardKey::new(1, 1);

    fn extent(first: u64, count: u32, incarnation: u32) -> Extent {
        Extent::new((first, count), incarnation, (0, count * 100), first * 1_000, (0, 0))
    }

    #[test]
    fn the_latest_extent_owns_its_numbers_whatever_came_before() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let (mut extents, mut model) = (Extents::default(), BTreeMap::new());
            for incarnation in 1..30 {
                let (first, count) = (random.below(100), 1 + random.below(40) as u32);
                extents.take_over(SHARD, extent(first, count, incarnation));
                (first..first + count as u64).for_each(|number| {
                    model.insert(number, incarnation);
                });
                let (_, all) = extents.slot(0);
                assert!(all.windows(2).all(|pair| pair[0].end() <= pair[1].first), "seed {seed}: {all:?}");
            }
            for number in 0..150 {
                let owner = extents.from(SHARD, number).first().filter(|extent| extent.first <= number);
                assert_eq!(owner.map(|extent| extent.incarnation), model.get(&number).copied(), "seed {seed}");
                let next = model.range(number..).next().map(|(&number, _)| number);
                let found = extents.from(SHARD, number).first();
                assert_eq!(found.map(|extent| extent.first.max(number)), next, "seed {seed}");
            }
            let held = |incarnation: u32| incarnation.is_multiple_of(2);
            extents.sweep(0, held);
            model.retain(|_, incarnation| held(*incarnation));
            let (_, all) = extents.slot(0);
            assert_eq!(all.iter().map(|extent| extent.count as usize).sum::<usize>(), model.len(), "seed {seed}");
        }
    }

    #[test]
    fn neighbours_of_one_segment_are_joined_and_a_description_changes_no_ownership() {
        let mut extents = Extents::default();
        for number in 0..10 {
            extents.take_over(SHARD, extent(number, 1, 7));
        }
        assert_eq!(extents.slot(0).1.len(), 1);
        for number in 0..10 {
            extents.take_over(SHARD, extent(number, 1, 8));
            assert!(extents.slot(0).1.len() <= 2, "what was moved, and what is left");
        }
        (0..10).for_each(|number| drop(extents.take_over(SHARD, extent(number, 1, 7))));
        assert_eq!(extents.slot(0).1.len(), 1);
        extents.take_over(SHARD, extent(4, 2, 9));
        let described = Extent::new((2, 6), 7, (64, 600), 9_000, (5, 2));
        extents.describe(SHARD, &described);
        let owners: Vec<_> = (0..10).map(|number| extents.from(SHARD, number)[0].incarnation).collect();
        assert_eq!(owners, [7, 7, 7, 7, 9, 9, 7, 7, 7, 7]);
        assert_eq!(extents.from(SHARD, 6)[0].runs(), (5, 2));
        assert_eq!(extents.from(SHARD, 1)[0].runs(), (0, 0));
    }
}

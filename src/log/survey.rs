//! What of each sealed segment is still good for something: found by passing over all extents, a few in each turn.

use super::extents::Extent;
use super::format::ShardKey;
use super::policy::worth_most;
use super::{FooterState, Log};

/// What a survey has found of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Whether the survey counts: the segment was sealed when it began, and nothing was on its way into it.
    pub counts: bool,
    /// Bytes of frames that have not expired.
    pub live: u64,
    /// By then all of these had arrived (µs).
    pub newest: u64,
}

/// How far the pass has come.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Place of the next shard; `None`: no pass is under way.
    at: Option<usize>,
    /// The last pass came to its end, and nobody has used it yet.
    pub done: bool,
}

impl Log {
    /// Goes on with a pass over all extents, `budget` of them at most; whether it has come to the end. `fate`: what the records of a shard are
    /// still good for.
    pub fn survey(&mut self, fate: &mut dyn FnMut(ShardKey) -> Fate, budget: usize) -> bool {
        let mut slot = match self.survey.at {
            Some(slot) => slot,
            None => self.begin_survey(),
        };
        let mut left = budget;
        while slot < self.extents.shards() && left > 0 {
            let segments = &self.segments;
            let held = |incarnation| segments.binary_search_by_key(&incarnation, |s| s.incarnation).is_ok();
            self.extents.sweep(slot, held);
            let (shard, extents) = self.extents.slot(slot);
            left = left.saturating_sub(1 + extents.len());
            let fate = fate(shard);
            let mut index = 0;
            for extent in extents.iter().filter(|extent| !fate.is_over(extent.last_arrival())) {
                if self.segments.get(index).is_none_or(|segment| segment.incarnation != extent.incarnation) {
                    index = self.segment_index(extent.incarnation).expect("others were just dropped");
                }
                let tally = &mut self.segments[index].tally;
                tally.live += extent.bytes() as u64;
                tally.newest = tally.newest.max(extent.last_arrival());
            }
            slot += 1;
        }
        self.survey.done = slot >= self.extents.shards();
        self.survey.at = (!self.survey.done).then_some(slot);
        if self.survey.done {
            let sparse = self.sparse();
            self.policy.found(sparse);
        }
        self.survey.done
    }

    fn begin_survey(&mut self) -> usize {
        self.extents.forget_empty();
        let target = self.moving_into();
        for segment in &mut self.segments {
            let counts = segment.footer != FooterState::Open && target != Some(segment.incarnation);
            segment.tally = Tally { counts, live: 0, newest: 0 };
        }
        self.survey.done = false;
        0
    }

    /// The sealed segments that may be worth emptying, and what of them would be moved.
    fn sparse(&self) -> Vec<(u32, u64)> {
        let Some(newest) = self.newest_durable_segment() else { return Vec::new() };
        let worth = worth_most(self.settings.segment_size);
        let source = self.relocating();
        let candidates = self.segments.iter().take(newest).filter(|segment| {
            let tally = segment.tally;
            tally.counts
                && tally.live + (segment.padding as u64) < worth
                && source != Some(segment.incarnation)
                && !segment.leaving
                && !segment.emptied
                && !segment.unmovable
                && !self.files.keeps_room(segment.file)
        });
        let sparse = candidates.filter(|segment| segment.tally.live > 0 && segment.footer == FooterState::Settled);
        sparse.map(|segment| (segment.incarnation, segment.tally.live + segment.padding as u64)).collect()
    }

    /// Records that the chain holds.
    pub(super) fn records(&self) -> u64 {
        let sealed: u64 = (0..self.extents.shards())
            .flat_map(|slot| self.extents.slot(slot).1)
            .map(|extent: &Extent| extent.count as u64)
            .sum();
        sealed + self.buildings().map(|(_, building)| building.records()).sum::<u64>()
    }

    /// Bytes of memory that say where records are.
    pub fn index_memory(&self) -> u64 {
        let runs = self.segments.iter().filter_map(|segment| segment.sealed.as_ref()).map(|sealed| sealed.memory());
        self.extents.memory() + runs.sum::<u64>()
    }
}

/// What the records of a shard are still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its stream is deleted, or the shard has expired.
    Deleted,
    /// Records that arrived before (µs since 1970) have expired.
    ExpiresBefore(u64),
}

impl Fate {
    /// Whether records that had all arrived by `last` (µs) are good for nothing any more.
    pub(super) fn is_over(self, last: u64) -> bool {
        match self {
            Fate::Deleted => true,
            Fate::ExpiresBefore(cutoff) => last < cutoff,
        }
    }
}

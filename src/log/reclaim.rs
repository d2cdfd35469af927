//! Giving segments back, in two steps: what must be durable elsewhere first, then the files.

use super::{Event, Log, Newest, Phase, Segment};
use crate::io::clock::Mono;
use crate::log::format::ShardKey;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;

/// A segment that stays.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSegment {
    pub incarnation: u32,
    /// Byte of the file behind its last commit; 0: it may go on. Where the next one has gone and the footer is damaged, nothing else says it.
    pub end: u32,
}

/// Segments that may go, and what must be durable elsewhere before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// What stays, rising.
    pub live: Vec<LiveSegment>,
    /// Shards whose newest record is about to go.
    pub resume: Vec<Newest>,
    /// Incarnations that go.
    pub freed: Vec<u32>,
    /// Newest arrival among what goes although it has not expired (µs); 0: all of it has.
    pub trimmed_until: u64,
}

impl Log {
    /// By the survey that has just come to its end: sealed segments in which nothing is good for anything any more; with `force_oldest`, if
    /// there is none, the one whose newest record is the oldest. They stay readable until [`Log::reclaimed`]. One reclaim at a time.
    pub fn reclaim(&mut self, force_oldest: bool) -> Option<Reclaim> {
        // The newest durable segment stays whatever it holds: it is what recovery chains newer ones to, and its incarnation is the bound
        // above which a file is newer than all that the catalog knows.
        let newest = self.newest_durable_segment()?;
        let vouched = self.vouched;
        let unvouched = |segment: &Segment| segment.moved.is_some_and(|moved| moved.until > vouched);
        let settled = self.commits.is_settled() && matches!(self.phase, Phase::Running) && self.failed.is_none();
        if settled && self.segments.iter().any(unvouched) {
            self.vouch_due = Some(Mono::default());
        }
        if !std::mem::take(&mut self.survey.done) || self.segments.iter().any(|segment| segment.leaving) {
            return None;
        }
        let mut trimmed_until = 0;
        let moving = self.moving_from();
        let pin = self.pin;
        let may_go = |segment: &Segment| {
            let writing = segment.footer.is_writing();
            let held = pin.holds(segment.incarnation);
            // What was moved out of it is as safe as it was there only when a later commit calls it durable.
            segment.tally.counts && !unvouched(segment) && !writing && !held && moving != Some(segment.incarnation)
        };
        for segment in self.segments.iter_mut().take(newest).filter(|segment| may_go(segment)) {
            segment.leaving = segment.emptied || segment.tally.live == 0;
        }
        if force_oldest && !self.segments.iter().any(|segment| segment.leaving) {
            let gives = |segment: &Segment| !self.files.keeps_room(segment.file);
            // Where copies of what it holds are still in the segment that they came from, they would come back at the next start.
            let returns = |of: u32| self.segments.iter().any(|segment| segment.has_moved_to(of));
            let candidates = self.segments.iter().take(newest);
            let candidates = candidates.filter(|s| may_go(s) && gives(s) && !returns(s.incarnation));
            let oldest = candidates.min_by_key(|segment| segment.tally.newest)?.incarnation;
            let index = self.segment_index(oldest)?;
            let oldest = &mut self.segments[index];
            oldest.leaving = true;
            trimmed_until = oldest.tally.newest;
        }
        let freed: Vec<u32> = self.segments.iter().filter(|s| s.leaving).map(|s| s.incarnation).collect();
        if freed.is_empty() {
            return None;
        }
        let stays = |(index, segment): (usize, &Segment)| LiveSegment {
            incarnation: segment.incarnation,
            // Everything before the newest is durable to its end.
            end: if index < newest { segment.end } else { 0 },
        };
        let live = self.segments.iter().enumerate().take(newest + 1).filter(|(_, s)| !s.leaving).map(stays).collect();
        let resume = if self.settings.canary.forget_next_sequence { Vec::new() } else { self.resume() };
        Some(Reclaim { live, resume, freed, trimmed_until })
    }

    /// The catalog holds `live` and `resume` of the reclaim durably: its segments are free for new use.
    pub fn reclaimed(&mut self, reclaim: Reclaim) {
        for incarnation in reclaim.freed {
            let Some(index) = self.segment_index(incarnation) else { continue };
            let segment = self.segments.remove(index).expect("it was just found there");
            self.files.release(segment.file);
            self.events.push_back(Event::Recycled { incarnation });
        }
    }

    /// Index of the newest segment with a durable commit.
    pub(super) fn newest_durable_segment(&self) -> Option<usize> {
        let incarnation = (self.durable.0.checked_sub(1)? / self.settings.segment_size) as u32;
        self.segment_index(incarnation)
    }

    /// Where shards go on whose newest record lies in a segment that leaves, or lay in one that was damaged.
    fn resume(&self) -> Vec<Newest> {
        let mut resume: BTreeMap<ShardKey, Newest> = self.raised.iter().map(|raised| (raised.shard, *raised)).collect();
        for slot in 0..self.extents.shards() {
            let (shard, extents) = self.extents.slot(slot);
            let newest = extents.iter().rev().find(|extent| {
                // One that is not durable may be undone by a crash: what comes before it counts.
                let index = self.segment_index(extent.incarnation);
                index.is_some_and(|index| self.segments[index].leaving || self.is_durable(index))
            });
            let Some(extent) = newest else { continue };
            let leaves = self.segment_index(extent.incarnation).is_some_and(|index| self.segments[index].leaving);
            if leaves && !self.goes_on_durably(shard) {
                let newest = Newest { shard, next: extent.end(), arrival: extent.last_arrival() };
                let known = resume.entry(shard).or_insert(newest);
                known.next = known.next.max(newest.next);
                known.arrival = known.arrival.max(newest.arrival);
            }
        }
        resume.into_values().collect()
    }

    /// Whether all of the segment is durable.
    fn is_durable(&self, index: usize) -> bool {
        self.position(self.segments[index].incarnation, self.segment_end(index)) <= self.durable
    }

    /// Whether a segment that is not sealed holds newer records of the shard, all of it durable.
    fn goes_on_durably(&self, shard: ShardKey) -> bool {
        self.buildings().any(|(incarnation, building)| {
            let durable = self.segment_index(incarnation).is_some_and(|index| self.is_durable(index));
            durable && building.numbers(shard).is_some()
        })
    }
}

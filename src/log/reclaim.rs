//! Giving segments back, in two steps: what must be durable elsewhere first, then the files.

use super::{Event, Fate, FooterState, Log, Newest, Reclaim, Segment};
use crate::log::format::ShardKey;
use std::collections::BTreeMap;

impl Log {
    /// Sealed segments in which every shard's records are past their fate; with `force_oldest`, the oldest one if there is none.
    /// They stay readable until [`Log::reclaimed`]. One reclaim at a time.
    pub fn reclaim(&mut self, fate: &mut dyn FnMut(ShardKey) -> Fate, force_oldest: bool) -> Option<Reclaim> {
        // The newest durable segment stays whatever it holds: it is what recovery chains newer ones to, and its incarnation is the bound
        // above which a file is newer than all that the catalog knows.
        let newest = self.newest_durable_segment()?;
        if self.segments.iter().any(|segment| segment.leaving) {
            return None;
        }
        let mut trimmed_until = 0;
        for index in 0..newest {
            let segment = &self.segments[index];
            let writing = matches!(segment.footer, FooterState::Writing(_));
            let gone = |fate: Fate, last: u64| match fate {
                Fate::Deleted => true,
                Fate::ExpiresBefore(cutoff) => last < cutoff,
            };
            let leaves =
                segment.index.spans.iter().all(|span| span.records == 0 || gone(fate(span.shard), span.last_arrival));
            self.segments[index].leaving = leaves && !writing && !self.pin.holds(segment.incarnation);
        }
        if force_oldest && !self.segments.iter().any(|segment| segment.leaving) {
            // Where a snapshot holds it and the file system is full, its going would give nothing back.
            let gives = |file| !(self.files.lacks_room() && self.files.is_shared(file));
            let settled = |footer| !matches!(footer, FooterState::Writing(_));
            let may_go = |s: &&mut Segment| settled(s.footer) && !self.pin.holds(s.incarnation) && gives(s.file);
            let oldest = self.segments.iter_mut().take(newest).find(may_go)?;
            oldest.leaving = true;
            trimmed_until = oldest.index.spans.iter().map(|span| span.last_arrival).max().unwrap_or(0);
        }
        let freed: Vec<u32> = self.segments.iter().filter(|s| s.leaving).map(|s| s.incarnation).collect();
        if freed.is_empty() {
            return None;
        }
        let live = self.segments.iter().take(newest + 1).filter(|s| !s.leaving).map(|s| s.incarnation).collect();
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
    fn newest_durable_segment(&self) -> Option<usize> {
        let incarnation = (self.durable.0.checked_sub(1)? / self.settings.segment_size) as u32;
        self.segment_index(incarnation)
    }

    /// Where shards go on whose newest record lies in a segment that leaves, or lay in one that was damaged.
    fn resume(&self) -> Vec<Newest> {
        let mut resume: BTreeMap<ShardKey, Newest> = self.raised.iter().map(|raised| (raised.shard, *raised)).collect();
        for (index, segment) in self.segments.iter().enumerate().filter(|(_, segment)| segment.leaving) {
            for span in &segment.index.spans {
                // A newer record counts only once it is durable: a crash may undo it.
                let held = |newer: usize| {
                    let durable =
                        self.position(self.segments[newer].incarnation, self.segment_end(newer)) <= self.durable;
                    durable && !self.segments[newer].leaving && self.view(newer).span(span.shard).is_some()
                };
                if !(index + 1..self.segments.len()).any(held) {
                    let newest = Newest { shard: span.shard, next: span.next, arrival: span.last_arrival };
                    let known = resume.entry(span.shard).or_insert(newest);
                    known.next = known.next.max(newest.next);
                    known.arrival = known.arrival.max(newest.arrival);
                }
            }
        }
        resume.into_values().collect()
    }
}

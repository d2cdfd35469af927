//! Where a shard's numbers are: what a reader asks the log for.

use super::Log;
use super::extents::Extent;
use super::format::{Position, ShardKey};
use super::index::{Run, Start};
use crate::io::op::FileName;

/// Where a reader stands in a segment.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Index of the segment in the chain.
    pub(super) index: usize,
    pub(super) incarnation: u32,
    pub(super) file: FileName,
    /// Byte of the file, and the first one behind what may be read.
    pub(super) byte: u32,
    pub(super) end: u32,
}

/// Where the index says that a number is.
pub(super) enum Located {
    /// Among the shard's own frames of an unsealed segment.
    Open {
        incarnation: u32,
        start: Start,
    },
    Extent(Extent),
}

/// The runs of a segment.
pub(super) enum Table<'a> {
    Memory(&'a [Run]),
    /// In the footer: byte of the file where the table begins.
    Footer(u32),
    Nowhere,
}

impl Log {
    /// Readers see what lies below.
    pub(super) fn visible(&self) -> Position {
        if self.settings.canary.read_undurable {
            return self
                .commits
                .newest()
                .map_or(self.durable, |commit| Position(commit.position.0 + self.commits.extent(commit) as u64));
        }
        self.durable
    }

    pub(super) fn place(&self, position: Position) -> Option<Place> {
        let size = self.settings.segment_size;
        let incarnation = (position.0 / size) as u32;
        let index = self.segment_index(incarnation)?;
        let visible = self.visible().0.saturating_sub(incarnation as u64 * size);
        Some(Place {
            index,
            incarnation,
            file: self.files.name(self.segments[index].file),
            byte: (position.0 % size) as u32,
            end: (self.segment_end(index) as u64).min(visible) as u32,
        })
    }

    /// The number after the newest of `shard`, durable or not; 0 when the chain holds none of it.
    pub(super) fn next_sequence(&self, shard: ShardKey) -> u64 {
        let open = self.buildings().filter_map(|(_, building)| building.numbers(shard)).map(|(_, next)| next).max();
        open.unwrap_or(0).max(self.extents.next(shard))
    }

    /// Where `sequence` is, or the next higher number that is held.
    pub(super) fn locate(&self, shard: ShardKey, sequence: u64) -> Option<Located> {
        let open = |least: Option<u64>| {
            let mut open = None;
            for (incarnation, building) in self.buildings() {
                let Some((first, next)) = building.numbers(shard) else { continue };
                if next > sequence && least.is_none_or(|least| first <= least) {
                    let start = building.start(shard, sequence)?;
                    let better = |known: &Located| matches!(known, Located::Open { start: s, .. } if s.sequence <= start.sequence);
                    if !open.as_ref().is_some_and(better) {
                        open = Some(Located::Open { incarnation, start });
                    }
                }
            }
            open
        };
        // Most readers are at the tail.
        open(Some(sequence))
            .or_else(|| self.first_held(self.extents.from(shard, sequence)).map(Located::Extent))
            .or_else(|| open(None))
    }

    pub(super) fn locate_arrival(&self, shard: ShardKey, arrival: u64) -> Option<Located> {
        if let Some(extent) = self.first_held(self.extents.from_arrival(shard, arrival)) {
            return Some(Located::Extent(extent));
        }
        let mut buildings: Vec<_> = self.buildings().collect();
        buildings.sort_by_key(|(incarnation, _)| *incarnation);
        buildings.into_iter().find_map(|(incarnation, building)| {
            building.last_arrival(shard).filter(|last| *last >= arrival)?;
            Some(Located::Open { incarnation, start: building.start_at(shard, arrival)? })
        })
    }

    /// The first extent whose segment has neither been recycled nor is about to be because all of it was moved or has expired.
    pub(super) fn first_held(&self, extents: &[Extent]) -> Option<Extent> {
        let held = |extent: &&Extent| {
            self.segment_index(extent.incarnation).is_some_and(|index| !self.segments[index].emptied)
        };
        extents.iter().find(held).copied()
    }

    /// Whether segment `incarnation` is where record `sequence` has to be.
    pub(super) fn owns(&self, incarnation: u32, shard: ShardKey, sequence: u64) -> bool {
        self.extents.owner(shard, sequence, incarnation).is_some()
            || self.building_of(incarnation).is_some_and(|building| building.holds(shard, sequence))
    }

    /// Whether record `sequence` has to be in another segment than `incarnation`.
    pub(super) fn owns_elsewhere(&self, incarnation: u32, shard: ShardKey, sequence: u64) -> bool {
        match self.locate(shard, sequence) {
            Some(Located::Extent(extent)) => extent.first <= sequence && extent.incarnation != incarnation,
            Some(Located::Open { incarnation: open, start }) => start.sequence <= sequence && open != incarnation,
            None => false,
        }
    }

    /// The number behind those that segment `incarnation` holds from `sequence` on.
    pub(super) fn end_of(&self, incarnation: u32, shard: ShardKey, sequence: u64) -> u64 {
        let extent = self.extents.owner(shard, sequence, incarnation).map(Extent::end);
        let open = || self.building_of(incarnation).and_then(|building| building.numbers(shard)).map(|(_, next)| next);
        extent.or_else(open).unwrap_or(sequence + 1).max(sequence + 1)
    }

    /// Where the runs of a sealed segment are.
    pub(super) fn table(&self, incarnation: u32) -> Table<'_> {
        let Some(segment) = self.segment_index(incarnation).map(|index| &self.segments[index]) else {
            return Table::Nowhere;
        };
        match (&segment.sealed, segment.runs_from) {
            (Some(sealed), _) => Table::Memory(&sealed.runs),
            (None, 0) => Table::Nowhere,
            (None, from) => Table::Footer(from),
        }
    }
}

//! The segments of the chain: what the log knows of each.

use super::Log;
use super::extents::Extent;
use super::footer::Summary;
use super::format::{Position, ShardKey};
use super::index::Sealed;
use super::survey::Tally;
use crate::io::buffers::Span;

/// A segment of the chain.
pub(super) struct Segment {
    pub file: u32,
    pub incarnation: u32,
    /// Byte behind its last commit; of the active one, kept in `Log::at`.
    pub end: u32,
    pub epoch: u32,
    pub first_previous: u32,
    pub last_crc: u32,
    /// Its index from when it was sealed until its footer is written.
    pub sealed: Option<Box<Sealed>>,
    /// Byte of the file where its footer's table of runs begins; 0: it has none.
    pub runs_from: u32,
    pub footer: FooterState,
    /// What the last survey found of it.
    pub tally: Tally,
    /// A reclaim waits for the catalog.
    pub leaving: bool,
    /// All that it held was moved, or has expired.
    pub emptied: bool,
    /// Frames were moved out of it, and copies of them stay in it until it goes.
    pub moved: Option<MovedOut>,
    /// Something in it cannot be read: it is not emptied in this run.
    pub unmovable: bool,
    /// A read of it for that has failed.
    pub unread: bool,
    /// Bytes of moved commits that are no frames, as far as this run has written them.
    pub padding: u32,
}

/// Where frames of a segment were moved to.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovedOut {
    /// Incarnations of the first and the last segment that they, or copies of copies, are in.
    pub first: u32,
    pub last: u32,
    /// Behind the newest durable commit that holds some.
    pub until: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FooterState {
    /// The segment is active.
    Open,
    /// To be written when all of the segment is durable.
    Due,
    /// Its runs are being written, `runs` bytes; then the rest is due; then that is being written.
    WritingRuns {
        from: Span,
        runs_from: u32,
        runs: u32,
    },
    RestDue {
        from: Span,
        runs_from: u32,
        runs: u32,
    },
    Writing {
        from: Span,
        runs_from: u32,
        runs: u32,
    },
    /// Written, or found, or too large to be.
    Settled,
}

impl Segment {
    /// Frames of it have been moved to segment `to`, durably below `until`; whether to none so far.
    fn was_moved(&mut self, to: u32, until: Position) -> bool {
        let is_new = !self.has_moved_to(to);
        let MovedOut { first, last, until: before } = self.moved.unwrap_or(MovedOut { first: to, last: to, until });
        self.moved = Some(MovedOut { first: first.min(to), last: last.max(to), until: before.max(until) });
        is_new
    }

    /// Whether frames of it have been moved to segment `to`, or may have been.
    pub fn has_moved_to(&self, to: u32) -> bool {
        self.moved.is_some_and(|moved| moved.first <= to && to <= moved.last)
    }
}

impl FooterState {
    /// Whether a write of it is on its way, or half of it is done.
    pub fn is_writing(self) -> bool {
        matches!(self, FooterState::WritingRuns { .. } | FooterState::RestDue { .. } | FooterState::Writing { .. })
    }
}

impl Log {
    /// An extent takes its numbers over, durably below `until`: where others had them, its frames were moved.
    pub(super) fn take_over(&mut self, shard: ShardKey, extent: Extent, until: Position) {
        for source in self.extents.take_over(shard, extent).into_iter().filter(|of| *of != extent.incarnation) {
            let into = extent.incarnation;
            let Ok(index) = self.segments.binary_search_by_key(&source, |segment| segment.incarnation) else {
                continue;
            };
            if self.segments[index].was_moved(into, until) {
                // What had come from elsewhere goes on from here.
                self.segments.iter_mut().filter(|segment| segment.has_moved_to(source)).for_each(|segment| {
                    segment.was_moved(into, Position(0));
                });
            }
        }
    }

    /// A segment at the end of the chain.
    pub(super) fn push_segment(&mut self, file: u32, incarnation: u32, summary: Summary, footer: FooterState) {
        self.segments.push_back(Segment {
            file,
            incarnation,
            end: summary.end,
            epoch: summary.epoch,
            first_previous: summary.first_previous,
            last_crc: summary.last_crc,
            sealed: None,
            runs_from: summary.runs_from,
            footer,
            tally: Tally::default(),
            leaving: false,
            emptied: false,
            moved: None,
            unmovable: false,
            unread: false,
            padding: 0,
        });
    }
}

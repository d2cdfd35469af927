//! What a log has to be verified: its sealed segments.

use super::{FooterState, Log};
use crate::io::scrub::Segment;

impl Log {
    /// Sealed segments above incarnation `after`, rising, up to the first one that is not complete: durable to its end, its footer settled.
    /// Those that are about to be recycled are passed over.
    pub fn sealed_after(&self, after: u32) -> impl Iterator<Item = Segment> + '_ {
        let first = self.segments.partition_point(|segment| segment.incarnation <= after);
        let sealed = self.segments.len() - self.active as usize;
        let (block, size) = (self.settings.block, self.settings.segment_size);
        let staying = self.segments.range(first.min(sealed)..sealed).filter(|segment| !segment.leaving);
        let complete = staying.take_while(move |segment| {
            let durable = self.position(segment.incarnation, segment.end) <= self.durable;
            durable && (segment.footer == FooterState::Settled || self.failed.is_some())
        });
        complete.filter(|segment| segment.end > 0).map(move |segment| Segment {
            log: self.settings.number,
            index: segment.file,
            incarnation: segment.incarnation,
            directory: self.settings.directory,
            block,
            size,
            end: segment.end,
            footer: segment.runs_from > 0,
        })
    }

    /// The sealed segment of incarnation `incarnation`, if the log still has it.
    pub fn sealed(&self, incarnation: u32) -> Option<Segment> {
        self.sealed_after(incarnation.checked_sub(1)?).next().filter(|segment| segment.incarnation == incarnation)
    }
}

//! What a log has to be verified: of each segment what is durable, also of the active one.

use super::{FooterState, Log};
use crate::io::scrub::Segment;

impl Log {
    /// Segments above incarnation `after` that hold something durable, rising: each to the end of what is durable now, with its footer when
    /// that is settled. Those that are about to be recycled are passed over.
    pub fn durable_after(&self, after: u32) -> impl Iterator<Item = Segment> + '_ {
        let first = self.segments.partition_point(|segment| segment.incarnation <= after);
        let staying = (first..self.segments.len()).filter(|index| !self.segments[*index].leaving);
        staying.map(|index| self.durable_part(index)).filter(|part| part.end > 0)
    }

    /// What is durable of the segment of incarnation `incarnation`, if the log still has it.
    pub fn durable_of(&self, incarnation: u32) -> Option<Segment> {
        self.durable_after(incarnation.checked_sub(1)?).next().filter(|segment| segment.incarnation == incarnation)
    }

    fn durable_part(&self, index: usize) -> Segment {
        let segment = &self.segments[index];
        let durable = self.durable.0.saturating_sub(self.position(segment.incarnation, 0).0);
        let end = durable.min(self.segment_end(index) as u64) as u32;
        Segment {
            log: self.settings.number,
            index: segment.file,
            incarnation: segment.incarnation,
            directory: self.settings.directory,
            block: self.settings.block,
            size: self.settings.segment_size,
            end,
            footer: segment.footer == FooterState::Settled && segment.runs_from > 0,
        }
    }
}

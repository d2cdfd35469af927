//! Where a reader begins: the extent with its number, and in it the run, from memory or from the segment's footer.

use super::{Asked, Reader, Step, Stretch};
use crate::io::buffers::Buffers;
use crate::log::Log;
use crate::log::extents::Extent;
use crate::log::find::{Located, Table};
use crate::log::footer::read_runs;
use crate::log::format::Position;
use crate::log::index::{RUN_SIZE, Run, Start};

impl Reader {
    /// Finds the number wanted by the index; `Err`: a piece of a footer has to be read first.
    pub(super) fn seek(&mut self, log: &Log, buffers: &Buffers) -> Result<Option<Position>, Step> {
        (self.lost, self.met) = (false, None);
        let located = match self.arrival {
            Some(arrival) => log.locate_arrival(self.shard, arrival),
            None => log.locate(self.shard, self.sequence),
        };
        let Some(located) = located else {
            if self.arrival.take().is_some() {
                self.sequence = log.next_sequence(self.shard);
            }
            return Ok(None);
        };
        let (incarnation, start, until) = match located {
            Located::Open { incarnation, start } => (incarnation, start, u64::MAX),
            Located::Extent(extent) => (extent.incarnation, self.start_in(log, buffers, &extent)?, extent.end()),
        };
        (self.asked, self.arrival) = (None, None);
        self.sequence = self.sequence.max(start.sequence);
        self.until = until;
        Ok(Some(log.position(incarnation, start.at)))
    }

    /// Where to start in an extent: at the run that has what is wanted.
    fn start_in(&mut self, log: &Log, buffers: &Buffers, extent: &Extent) -> Result<Start, Step> {
        let sequence = match self.arrival {
            Some(_) => extent.first,
            None => self.sequence.max(extent.first),
        };
        let from_start = Start { sequence, at: extent.at() };
        if let Some(building) = log.building_of(extent.incarnation) {
            // Moved into a segment that is not sealed: what arrived when is not looked for more closely.
            let run = building.moved_run(self.shard, sequence);
            return Ok(run.map_or(from_start, |run| Start { sequence, at: run.at }));
        }
        let (place, count) = extent.runs();
        let table = (extent.incarnation, place);
        if count < 2 || self.distrusted == Some(table) {
            self.stretches.of = None;
            return Ok(from_start);
        }
        if self.stretches.of != Some(table) {
            if !self.load_runs(log, buffers, extent)? {
                return Ok(from_start);
            }
            let stretched: u64 = self.stretches.runs.iter().map(|run| run.end.saturating_sub(run.at) as u64).sum();
            self.stretches.dense = stretched / 10 * 9 <= extent.bytes() as u64;
        }
        let runs = &self.stretches.runs;
        let behind = match self.arrival {
            Some(arrival) => runs.partition_point(|run| run.arrival < arrival),
            None => runs.partition_point(|run| run.first <= sequence),
        };
        // Before the first one stands a damaged one, if anything.
        Ok(match behind.checked_sub(1).and_then(|before| runs.get(before)) {
            Some(run) if self.arrival.is_some() => Start { sequence: run.first.max(extent.first), at: run.at },
            Some(run) => Start { sequence, at: run.at },
            None => from_start,
        })
    }

    /// Takes the runs of an extent from memory, or from the footer: `Err` with the read that brings them, or with what is wrong with
    /// them. `false`: there are none.
    fn load_runs(&mut self, log: &Log, buffers: &Buffers, extent: &Extent) -> Result<bool, Step> {
        let (place, count) = extent.runs();
        self.stretches.of = None;
        self.stretches.runs.clear();
        let from = match log.table(extent.incarnation) {
            Table::Nowhere => return Ok(false),
            Table::Memory(runs) => {
                let runs = runs.get(place as usize..(place + count) as usize).unwrap_or(&[]);
                let stretch = |run: &Run| Stretch { first: run.first, arrival: run.arrival, at: run.at, end: run.end };
                self.stretches.runs.extend(runs.iter().map(stretch));
                self.stretches.of = Some((extent.incarnation, place));
                return Ok(!runs.is_empty());
            }
            Table::Footer(from) => from,
        };
        let block = log.settings.block;
        let (first, last) = (from + place * RUN_SIZE as u32, from + (place + count) * RUN_SIZE as u32);
        let at = first / block * block;
        let index = log.segment_index(extent.incarnation).expect("its table was just found");
        let file = log.files.name(log.segments[index].file);
        let asked = Asked { file, incarnation: extent.incarnation, at, len: last.next_multiple_of(block) - at };
        let answered = self.asked == Some(asked);
        let failed = self.failed.take().filter(|_| answered);
        let brought = self.chunk.filter(|chunk| answered && (chunk.incarnation, chunk.at) == (asked.incarnation, at));
        let why = match (failed, brought) {
            (None, None) => {
                (self.asked, self.asked_runs, self.chunk) = (Some(asked), true, None);
                return Err(Step::Read { file, at: at as u64, len: asked.len });
            }
            (Some(errno), _) => Some(format!("they cannot be read ({errno})")),
            (None, Some(chunk)) if chunk.span.len < last - at => Some("the file ends before them".to_owned()),
            (None, Some(chunk)) => {
                self.take_runs(buffers.bytes(chunk.span.part(first - at, last - first)), extent);
                let damaged = count as usize - self.stretches.runs.len();
                (damaged > 0).then(|| format!("{damaged} of {count} runs of a shard are damaged"))
            }
        };
        if self.stretches.of.is_none() {
            self.distrusted = Some((extent.incarnation, place));
        }
        match why {
            Some(why) => Err(Step::PassedOver { file, position: log.position(extent.incarnation, from), why }),
            None => Ok(self.stretches.of.is_some()),
        }
    }

    /// Takes those runs of an extent that are sound: a reader walks from the one before a damaged one, or from where the extent begins.
    fn take_runs(&mut self, bytes: &[u8], extent: &Extent) {
        let within = |&(_, _, at, end): &(u64, u64, u32, u32)| at >= extent.at() && at < end;
        let runs = read_runs(bytes, extent.incarnation, self.shard).flatten().filter(within);
        self.stretches.runs.extend(runs.map(|(first, arrival, at, end)| Stretch { first, arrival, at, end }));
        let rising = self.stretches.runs.is_sorted_by_key(|run| run.first);
        self.stretches.of = rising.then_some((extent.incarnation, extent.runs().0));
    }
}

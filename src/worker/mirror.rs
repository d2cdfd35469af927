//! What the halves of mirrors have to tell, at the end of a turn.

use super::Worker;
use super::mailbox::Message;
use super::notice::Notice;
use crate::io::op::{FileName, Ops};
use crate::mirror::news::News;
use crate::observe::counter::Counter;

/// Segments repaired for relocation that are remembered.
const MOVES_REMEMBERED: usize = 64;

impl Worker {
    /// The operations of the turn go to both halves.
    pub(super) fn mirror_turn(&mut self, ops: &mut Ops) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.split(self.now, ops, &mut self.buffers);
        self.counters.set(Counter::MirrorDegradedNow, mirror.degraded() as u64);
        while let Some(news) = self.mirror.as_mut().and_then(|mirror| mirror.news()) {
            match news {
                News::Refused { why } => self.refuse_start(why),
                news => {
                    if let News::Degraded { given, half, .. } = &news {
                        let others = (0..self.workers).filter(|worker| *worker != self.id);
                        self.untold_halves.extend(others.map(|worker| (worker, *given, *half as u8)));
                    }
                    self.tell_operator(Notice::Mirror(news));
                }
            }
        }
        self.tell_halves(ops);
    }

    /// A drive that has failed one worker is left behind by the others before it fails them: each at its own time, as nothing depends on it.
    fn tell_halves(&mut self, ops: &mut Ops) {
        while let Some((worker, given, half)) = self.untold_halves.pop_front() {
            if self.mail.offer(worker, Message::HalfFailed { given, half }).is_err() {
                self.untold_halves.push_front((worker, given, half));
                break;
            }
            if std::mem::take(&mut self.mail.dirty[worker as usize]) {
                ops.push(crate::io::op::Op::Wake { worker });
            }
        }
    }

    /// Whether both halves of a file are there: then what one has lost comes back from the other, and [`Worker::repaired`] says when.
    pub(super) fn repair_from_other_half(&mut self, file: FileName) -> bool {
        self.mirror.as_mut().is_some_and(|mirror| mirror.repair(file))
    }

    /// The same for a segment that was to be emptied; once, as what both have lost would be met again.
    pub(super) fn repair_for_move(&mut self, file: FileName) -> bool {
        let repairs = !self.repaired_moves.contains(&file) && self.repair_from_other_half(file);
        if repairs {
            if self.repaired_moves.len() == MOVES_REMEMBERED {
                self.repaired_moves.pop_front();
            }
            self.repaired_moves.push_back(file);
        }
        repairs
    }

    /// The same for what recovery is about to judge; [`Log::settled`](crate::log::Log::settled) follows.
    pub(super) fn level_at_start(&mut self, file: FileName) -> bool {
        self.mirror.as_mut().is_some_and(|mirror| mirror.level_at_start(file))
    }

    /// Readers and recoveries that waited for a repair go on, and a segment may be emptied after all.
    pub(super) fn repaired(&mut self, ops: &mut Ops) {
        while let Some(file) = self.mirror.as_mut().and_then(|mirror| mirror.repaired()) {
            for log in &mut self.logs {
                log.movable_again(file);
                log.settled(file, ops);
            }
            self.get_repaired(file, ops);
        }
    }

    /// Why a snapshot cannot be taken of a log, or of everything that is known here, by its halves.
    pub(super) fn first_half_missing(&self, log: Option<u32>) -> Option<&'static str> {
        let is_missing = self.mirror.as_ref().is_some_and(|mirror| !mirror.has_first_half(log));
        is_missing.then_some(
            "the first half of a data directory is not whole, and a snapshot is taken from first halves: ask again when it has been rebuilt",
        )
    }

    /// Half `half` of data directory `given` has failed another worker.
    pub(super) fn half_failed(&mut self, given: u8, half: u8) {
        if let Some(mirror) = &mut self.mirror {
            mirror.leave_behind(given, half as usize, "it has failed another worker");
        }
    }
}

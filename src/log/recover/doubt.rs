//! Recovery, fifth part: in a mirror, a file is made equal on both halves before anything in it is called torn, damaged or unknown. What
//! only one half has lost is then there.

use super::{Candidate, Mode, Recovery, Step};
use crate::io::buffers::Buffers;
use crate::io::op::{FileName, Op, Ops};
use crate::log::footer::find_trailer;
use crate::log::{Event, Log};

impl Log {
    /// Whether the other half is asked for a file that is about to be judged; then the chain is followed again from where it did not go on.
    pub(super) fn doubts(&mut self, r: &mut Recovery) -> bool {
        let (from, to) = match r.mode {
            Mode::Search { from, at, .. } | Mode::Resume { from, at, .. } => (from, at.candidate),
            Mode::Prove { from, .. } => (from, from.candidate),
            Mode::Follow(_) | Mode::Cross { .. } | Mode::Tell { .. } | Mode::End => return false,
        };
        let judged = r.candidates.iter().take(to + 1).skip(from.candidate);
        let Some(file) = judged.map(|candidate| candidate.file).find(|file| !r.asked.contains(file)) else {
            return false;
        };
        let asks = self.doubt(r, file);
        if asks {
            (r.mode, r.window) = (Mode::Follow(from), None);
        }
        asks
    }

    /// Asks the other half for a file, if there is one; once.
    pub(super) fn doubt(&mut self, r: &mut Recovery, file: u32) -> bool {
        let asks = self.settings.mirrored && r.asked.insert(file);
        if asks {
            r.step = Step::Ask(file);
            self.events.push_back(Event::Doubted { file: self.files.name(file) });
        }
        asks
    }

    /// A file of [`Event::Doubted`] is equal on both halves now, or there is only one.
    pub fn settled(&mut self, file: FileName, ops: &mut Ops) {
        let files = &self.files;
        let waits = |r: &mut Box<Recovery>| matches!(r.step, Step::Ask(asked) if files.name(asked) == file);
        let Some(mut r) = self.recovery.take_if(waits) else { return };
        if r.opened < r.found.len() {
            self.read_opened(&mut r, ops);
        } else {
            // Whether it was sealed: the trailer may have been what was lost.
            let (at, token) = (self.settings.segment_size - self.settings.block as u64, self.recovery_token());
            let Step::Ask(asked) = r.step else { unreachable!("just looked at") };
            r.step = Step::Trailer(asked);
            ops.push(Op::ReadAt { file, at, into: r.memory.first(self.settings.block), token });
        }
        self.recovery = Some(r);
    }

    pub(super) fn on_trailer(&mut self, r: &mut Recovery, file: u32, bytes: u32, buffers: &Buffers, ops: &mut Ops) {
        let block = buffers.bytes(r.memory.first(bytes.min(self.settings.block)));
        let trailer = find_trailer(block, self.settings.directory, self.settings.number, self.settings.segment_size);
        if let Some(trailer) = trailer {
            let is_its =
                |candidate: &&mut Candidate| candidate.file == file && candidate.incarnation == trailer.incarnation;
            r.candidates.iter_mut().filter(is_its).for_each(|candidate| candidate.trailer = Some(trailer));
        }
        self.follow(r, buffers, ops);
    }
}

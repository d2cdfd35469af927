//! Recovery, third part: where the chain ends. Is it the end of what was acknowledged, or damage inside of it?

use super::{At, Copy, Mode, Recovery};
use crate::io::buffers::Buffers;
use crate::io::op::Ops;
use crate::log::format::Position;
use crate::log::scanner::{Found, claims, may_be_commit, remains};
use crate::log::{Event, Log};

impl Log {
    /// Looks for a commit behind the end of the chain that calls it durable.
    pub(super) fn search(
        &mut self,
        r: &mut Recovery,
        from: At,
        at: At,
        evidence_end: u32,
        buffers: &Buffers,
        ops: &mut Ops,
    ) -> bool {
        if at.candidate >= r.candidates.len() {
            self.cut(r, from, evidence_end);
            r.mode = Mode::End;
            return true;
        }
        if self.ends(at) {
            r.mode = Mode::Search { from, at: At { candidate: at.candidate + 1, byte: 0 }, evidence_end };
            return true;
        }
        let Some(found) = self.look(r, at, false, buffers, ops) else { return false };
        let mut evidence_end = evidence_end;
        if at.candidate == from.candidate
            && let Some(bytes) =
                self.window(r, at).and_then(|span| claims(buffers.bytes(span), &self.scan_place(r, at)))
        {
            evidence_end = evidence_end.max(at.byte + bytes);
        }
        if !self.is_evidence(r, from, &found) {
            let next = self.next_block_to_look_at(r, at, buffers);
            r.mode = Mode::Search { from, at: At { byte: next, ..at }, evidence_end };
        }
        true
    }

    /// Looks for one in the rest of the segment only.
    pub(super) fn prove(
        &mut self,
        r: &mut Recovery,
        from: At,
        at: At,
        next: usize,
        buffers: &Buffers,
        ops: &mut Ops,
    ) -> bool {
        if self.ends(at) {
            r.mode = Mode::Cross { from: at, next };
            return true;
        }
        let Some(found) = self.look(r, at, false, buffers, ops) else { return false };
        if !self.is_evidence(r, from, &found) {
            r.mode = Mode::Prove { from, at: At { byte: self.next_block_to_look_at(r, at, buffers), ..at }, next };
        }
        true
    }

    /// Whether what was found says that the log was durable behind `from`; the chain is then resumed there.
    fn is_evidence(&self, r: &mut Recovery, from: At, found: &Found) -> bool {
        let Found::Commit { header, .. } = found else { return false };
        r.epoch_max = r.epoch_max.max(header.epoch);
        if header.durable <= self.position(r.candidates[from.candidate].incarnation, from.byte) {
            return false;
        }
        r.vouched = r.vouched.max(header.durable);
        let until = Position(header.durable.0.max(header.position.0 + 1));
        r.mode = Mode::Resume { from, at: from, until };
        true
    }

    /// The next block of the window that may begin a commit, or the one behind the window.
    pub(super) fn next_block_to_look_at(&self, r: &Recovery, at: At, buffers: &Buffers) -> u32 {
        let block = self.settings.block;
        let Some(span) = self.window(r, at) else { return at.byte + block };
        let bytes = buffers.bytes(span);
        let blocks = bytes.chunks(block as usize).skip(1).take_while(|bytes| !may_be_commit(bytes)).count() as u32;
        at.byte + block * (blocks + 1)
    }

    /// What stands at the end of the chain was never acknowledged: appending goes on over it, after a copy.
    pub(super) fn cut(&mut self, r: &mut Recovery, from: At, evidence_end: u32) {
        let len = evidence_end.saturating_sub(from.byte);
        if len == 0 {
            return;
        }
        let candidate = &r.candidates[from.candidate];
        let position = self.position(candidate.incarnation, from.byte);
        r.copies.push_back(Copy { file: candidate.file, position, from: from.byte, len, copied: 0 });
        r.torn += len as u64;
        self.events.push_back(Event::TornTail { position, bytes: len as u64 });
    }

    /// Goes on behind damage: what stands between is told and copied, its numbers are used up.
    pub(super) fn resume_chain(
        &mut self,
        r: &mut Recovery,
        from: At,
        at: At,
        until: Position,
        buffers: &Buffers,
        ops: &mut Ops,
    ) -> bool {
        if at.candidate >= r.candidates.len() {
            // Nothing whole is left behind: appending goes on in another segment, not over what stands there.
            self.tell_gap(r, from, at);
            self.seal_recovered();
            r.mode = Mode::End;
            return true;
        }
        let file = r.candidates[at.candidate].file;
        if at.byte == 0 && at.candidate != from.candidate && r.candidates[at.candidate].footer.is_some() {
            self.tell_gap(r, from, at);
            self.accept_footer(r, at.candidate);
            let behind = At { candidate: at.candidate, byte: self.settings.segment_size as u32 };
            r.mode = Mode::Cross { from: behind, next: at.candidate + 1 };
            return true;
        }
        if self.ends(at) {
            r.mode = Mode::Resume { from, at: At { candidate: at.candidate + 1, byte: 0 }, until };
            return true;
        }
        let position = self.position(r.candidates[at.candidate].incarnation, at.byte);
        let Some(found) = self.look(r, at, position >= r.vouched, buffers, ops) else { return false };
        if let Found::Commit { header, crc } = found
            && header.epoch >= self.epoch_of_last(r)
        {
            if header.position < until {
                self.tell_gap(r, from, at);
                self.accept(r, at, &header, crc, buffers);
                r.mode = Mode::Follow(At { byte: at.byte + header.bytes, ..at });
                return true;
            }
            if header.durable > until {
                // More was durable than was known: what was passed over may belong to it.
                r.vouched = r.vouched.max(header.durable);
                let until = Position(header.durable.0.max(header.position.0 + 1));
                r.mode = Mode::Resume { from, at: from, until };
                return true;
            }
        }
        let block = self.settings.block;
        if let Some(span) = self.window(r, at) {
            let incarnation = r.candidates[at.candidate].incarnation;
            for frame in remains(buffers.bytes(span.first(block.min(span.len))), incarnation) {
                r.raise(frame.shard, frame.next(), frame.arrival);
                if self.active {
                    self.building.raise(frame.shard, frame.next(), frame.arrival);
                }
            }
        }
        // A file in which nothing was found any more may still hold what someone can rescue.
        if at.byte == 0 && at.candidate != from.candidate {
            self.files.keep(file);
        }
        r.mode = Mode::Resume { from, at: At { byte: at.byte + block, ..at }, until };
        true
    }

    pub(super) fn tell_gap(&mut self, r: &mut Recovery, from: At, to: At) {
        if from == to {
            let (file, incarnation) = (r.candidates[from.candidate].file, r.candidates[from.candidate].incarnation);
            let position = self.position(incarnation, from.byte);
            return self.damaged(
                r,
                file,
                position,
                "a body of this commit fails its checksum, or it does not follow what stands before it".to_owned(),
            );
        }
        self.tell_missing(r, from, to);
        for candidate in from.candidate..=to.candidate.min(r.candidates.len() - 1) {
            let begin = if candidate == from.candidate { from.byte } else { 0 };
            let end = if candidate == to.candidate { to.byte } else { self.data_end() };
            self.tell_lost(r, At { candidate, byte: begin }, end);
        }
    }

    /// The first segment between that no file holds. What the catalog lists has been told already, and the others up to its newest were
    /// recycled.
    fn tell_missing(&mut self, r: &mut Recovery, from: At, to: At) {
        let Some(end) = r.candidates.get(to.candidate).map(|candidate| candidate.incarnation) else { return };
        let newest_known = r.newest_known();
        let begin = r.candidates[from.candidate].incarnation.max(newest_known) + 1;
        let held = |incarnation| r.candidates.binary_search_by_key(&incarnation, |c| c.incarnation).is_ok();
        if let Some(gone) = (begin..end).find(|incarnation| !held(*incarnation)) {
            r.damage = true;
            self.events.push_back(Event::Missing { position: self.position(gone, 0) });
        }
    }

    pub(super) fn tell_lost(&mut self, r: &mut Recovery, from: At, end: u32) {
        let len = end.saturating_sub(from.byte);
        if len > 0 {
            let candidate = &r.candidates[from.candidate];
            let (file, position) = (candidate.file, self.position(candidate.incarnation, from.byte));
            self.damaged(r, file, position, format!("no whole commit in {len} bytes that were durable"));
            r.copies.push_back(Copy { file, position, from: from.byte, len, copied: 0 });
        }
    }
}

//! Recovery, second part: commits and sealed segments join the chain, one after the other.

use super::{At, Mode, Recovery, Step, WINDOW_BYTES, Window};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{Op, Ops};
use crate::log::footer::Summary;
use crate::log::format::{CommitHeader, CommitKind, Damage, FrameKind, HEADER, Position};
use crate::log::index::Building;
use crate::log::producers::OF_SHARD;
use crate::log::scanner::{Found, Place, examine};
use crate::log::{FooterState, Log, Segment};

impl Log {
    /// Follows the chain as far as the window goes, reads more, or ends.
    pub(super) fn follow(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        loop {
            if self.doubts(r) {
                return;
            }
            let advanced = match r.mode {
                Mode::Follow(at) => self.follow_commit(r, at, buffers, ops),
                Mode::Cross { from, next } => self.cross(r, from, next, buffers, ops),
                Mode::Search { from, at, evidence_end } => self.search(r, from, at, evidence_end, buffers, ops),
                Mode::Prove { from, at, next } => self.prove(r, from, at, next, buffers, ops),
                Mode::Resume { from, at, until } => self.resume_chain(r, from, at, until, buffers, ops),
                Mode::Tell { at, end } => self.tell_producers(r, at, end, buffers, ops),
                Mode::End if r.by_footer.is_some() => {
                    let (candidate, end) = r.by_footer.take().expect("it was there");
                    r.mode = Mode::Tell { at: At { candidate, byte: 0 }, end };
                    self.producers.clear();
                    true
                }
                Mode::End => {
                    self.keep_sealed(r);
                    return self.copy_next(r, ops);
                }
            };
            if !advanced {
                return;
            }
        }
    }

    /// What stands at `at`; `None` after asking for more of the file.
    pub(super) fn look(
        &mut self,
        r: &mut Recovery,
        at: At,
        bodies: bool,
        buffers: &Buffers,
        ops: &mut Ops,
    ) -> Option<Found> {
        let place = self.scan_place(r, at);
        let window = self.window(r, at);
        let found =
            window.map_or(Found::Needs(self.settings.block), |span| examine(buffers.bytes(span), &place, bodies));
        let Found::Needs(bytes) = found else { return Some(found) };
        // A commit may be longer than this run's: it was written when the log had more memory.
        let wanted = WINDOW_BYTES.max(self.settings.commit_max).max(bytes.next_multiple_of(self.settings.block));
        let capacity = r.memory.len.min(wanted);
        let whole = |w: &Window| w.len >= bytes || w.from + w.len >= self.settings.segment_size as u32;
        let begins_here = r.window.is_some_and(|w| w.candidate == at.candidate && w.from == at.byte && whole(&w));
        if begins_here || bytes > capacity {
            // The file ends before it does, or it cannot be a commit of this log.
            return Some(Found::Nothing(Damage::Short { what: "commit" }));
        }
        let len = capacity.min(self.settings.segment_size as u32 - at.byte);
        r.window = Some(Window { candidate: at.candidate, from: at.byte, len });
        r.step = Step::Window;
        let file = self.files.name(r.candidates[at.candidate].file);
        let into = r.memory.first(len);
        ops.push(Op::ReadAt { file, at: at.byte as u64, into, token: self.recovery_token() });
        None
    }

    /// The part of the window from `at` on.
    pub(super) fn window(&self, r: &Recovery, at: At) -> Option<Span> {
        let window =
            r.window.filter(|w| w.candidate == at.candidate && w.from <= at.byte && at.byte < w.from + w.len)?;
        let from = at.byte - window.from;
        Some(r.memory.part(from, window.len - from))
    }

    pub(super) fn scan_place(&self, r: &Recovery, at: At) -> Place {
        let incarnation = r.candidates[at.candidate].incarnation;
        Place {
            directory: self.settings.directory,
            log: self.settings.number,
            incarnation,
            position: self.position(incarnation, at.byte),
            block: self.settings.block,
            room: self.settings.segment_size as u32 - at.byte,
        }
    }

    pub(super) fn ends(&self, at: At) -> bool {
        at.byte as u64 + self.settings.block as u64 > self.settings.segment_size
    }

    pub(super) fn follow_commit(&mut self, r: &mut Recovery, at: At, buffers: &Buffers, ops: &mut Ops) -> bool {
        let cross = Mode::Cross { from: at, next: at.candidate + 1 };
        if at.candidate >= r.candidates.len() {
            r.mode = Mode::End;
            return true;
        }
        if at.byte == 0 && self.segments.is_empty() {
            // The oldest segment: nothing to chain it to.
            r.mode = Mode::Cross { from: at, next: 0 };
            return true;
        }
        if self.ends(at) {
            r.mode = cross;
            return true;
        }
        let bodies = self.position(r.candidates[at.candidate].incarnation, at.byte) >= r.vouched;
        let Some(found) = self.look(r, at, bodies, buffers, ops) else { return false };
        r.mode = match found {
            Found::Commit { header, crc }
                if header.previous == self.last_crc && header.epoch >= self.epoch_of_last(r) =>
            {
                self.accept(r, at, &header, crc, buffers);
                Mode::Follow(At { byte: at.byte + header.bytes, ..at })
            }
            _ => cross,
        };
        true
    }

    pub(super) fn epoch_of_last(&self, r: &Recovery) -> u32 {
        r.last.map_or(0, |(_, epoch)| epoch)
    }

    /// The commit joins the chain.
    pub(super) fn accept(&mut self, r: &mut Recovery, at: At, header: &CommitHeader, crc: u32, buffers: &Buffers) {
        let span = self.window(r, at).expect("it was just examined there").first(header.bytes);
        let commit = buffers.bytes(span);
        if self.segments.back().is_none_or(|segment| segment.incarnation != header.incarnation) {
            self.begin_recovered(r, at.candidate, header.previous);
        }
        self.note_producers(r, at, header, commit);
        for (frame_at, frame) in header.frames(commit).flatten().filter(|(_, frame)| frame.count > 0) {
            let frame_at = at.byte + frame_at as u32;
            r.used_up(frame.shard, frame.next(), frame.arrival);
            match header.kind {
                CommitKind::Moved => self.add_moved(frame_at, &frame),
                _ => self.building.add(frame_at, &frame),
            }
        }
        let segment = self.segments.back_mut().expect("begun above if there was none");
        segment.last_crc = crc;
        segment.epoch = header.epoch;
        self.at = at.byte + header.bytes;
        self.last_crc = crc;
        r.epoch_max = r.epoch_max.max(header.epoch);
        r.last = Some((header.kind, header.epoch));
        r.vouched = r.vouched.max(header.durable);
        r.end = header.end();
    }

    /// A segment without a footer joins the chain; the one before it is complete.
    pub(super) fn begin_recovered(&mut self, r: &mut Recovery, candidate: usize, first_previous: u32) {
        self.seal_recovered();
        let candidate = &r.candidates[candidate];
        r.flushes.push(candidate.file);
        self.files.found(candidate.file, Some(candidate.incarnation));
        let (file, incarnation) = (candidate.file, candidate.incarnation);
        self.push_segment(file, incarnation, Summary { first_previous, ..Summary::default() }, FooterState::Open);
        self.active = true;
        self.at = 0;
        // Of what was before it says itself what it needs.
        self.producers.clear();
        r.by_footer = None;
    }

    pub(super) fn seal_recovered(&mut self) {
        if std::mem::replace(&mut self.active, false) {
            let segment = self.segments.back_mut().expect("the active segment is the last one");
            segment.end = self.at;
            let incarnation = segment.incarnation;
            let spare = self.spare.pop().unwrap_or_else(|| Building::new(self.room()));
            let mut building = std::mem::replace(&mut self.building, spare);
            self.seal_index(incarnation, &mut building);
            self.spare.push(building);
        }
    }

    /// A segment that was sealed stays so, though its footer could not be used: a later start may be able to read it, and would not look
    /// behind the end that it names. So does one that a snapshot holds, as nothing is written into that any more.
    fn keep_sealed(&mut self, r: &Recovery) {
        let sealed = |incarnation| r.candidates.iter().any(|c| c.incarnation == incarnation && c.trailer.is_some());
        let stays = |segment: &Segment| sealed(segment.incarnation) || self.files.is_shared(segment.file);
        if self.active && self.segments.back().is_some_and(stays) {
            self.seal_recovered();
        }
    }

    /// A segment with a footer joins the chain.
    pub(super) fn accept_footer(&mut self, r: &mut Recovery, candidate: usize) -> bool {
        let incarnation = r.candidates[candidate].incarnation;
        let Some((summary, entries)) = r.candidates[candidate].footer.take() else { return false };
        self.seal_recovered();
        let file = r.candidates[candidate].file;
        self.files.found(file, Some(incarnation));
        for entry in entries {
            r.used_up(entry.shard, entry.first + entry.count as u64, entry.last_arrival);
            match entry.count {
                0 => r.raise(entry.shard, entry.first, entry.last_arrival),
                // In the order of the chain, so that what was moved is owned by where it was moved to.
                _ => self.take_over(entry.shard, entry.extent(incarnation), Position(0)),
            }
        }
        self.push_segment(file, incarnation, summary, FooterState::Settled);
        self.last_crc = summary.last_crc;
        r.epoch_max = r.epoch_max.max(summary.epoch);
        r.last = Some((CommitKind::Data, summary.epoch));
        r.end = self.position(incarnation, summary.end);
        r.vouched = r.vouched.max(r.end);
        r.by_footer = Some((candidate, summary.end));
        true
    }

    /// What the frames of a commit say of producers.
    fn note_producers(&mut self, r: &mut Recovery, at: At, header: &CommitHeader, commit: &[u8]) {
        for (frame_at, frame) in header.frames(commit).flatten() {
            match frame.kind {
                FrameKind::Producers => {
                    let body = frame_at + HEADER;
                    let body = &commit[body..body + frame.body as usize];
                    let whole = frame.number != OF_SHARD;
                    self.producers.forget(|shard| whole || shard == frame.shard);
                    // Durable, as all that recovery accepts.
                    if frame.check_body(body).is_err() || !self.producers.decode(body, Position(0)) {
                        self.producers.clear();
                        let position = Position(header.position.0 + frame_at as u64);
                        let why = "the table of producers is damaged: they have to begin a new epoch".to_owned();
                        self.damaged(r, r.candidates[at.candidate].file, position, why);
                    }
                }
                _ if header.kind == CommitKind::Moved || frame.producer == 0 || frame.count == 0 => {}
                _ if self.producers.passes_over(frame.shard) => {}
                _ => self.producers.stored(&frame, Position(0)),
            }
        }
    }

    /// Goes through the last segment once more, which was accepted by its footer.
    fn tell_producers(&mut self, r: &mut Recovery, at: At, end: u32, buffers: &Buffers, ops: &mut Ops) -> bool {
        if at.byte >= end {
            r.mode = Mode::End;
            return true;
        }
        let Some(found) = self.look(r, at, false, buffers, ops) else { return false };
        let bytes = match found {
            Found::Commit { header, .. } => {
                let span = self.window(r, at).expect("it was just examined there").first(header.bytes);
                self.note_producers(r, at, &header, buffers.bytes(span));
                header.bytes
            }
            // Readers and scrubbing will tell of it. What it said of producers is not known, so what they go on from is not either.
            _ => {
                self.producers.clear();
                self.next_block_to_look_at(r, at, buffers) - at.byte
            }
        };
        r.mode = Mode::Tell { at: At { byte: at.byte + bytes, ..at }, end };
        true
    }

    /// Whether the chain goes on at the start of candidate `next`.
    pub(super) fn cross(&mut self, r: &mut Recovery, from: At, next: usize, buffers: &Buffers, ops: &mut Ops) -> bool {
        let Some(candidate) = r.candidates.get(next) else {
            r.mode = self.after_the_last(r, from);
            return true;
        };
        let start = At { candidate: next, byte: 0 };
        let listed = r.is_listed(candidate.incarnation);
        // Between them were segments that have been recycled: their CRC is not known any more.
        let gap = self.segments.back().is_none_or(|last| last.incarnation + 1 != candidate.incarnation);
        if listed && gap && self.active && !self.ends(from) {
            let end = r.end_of(r.candidates[from.candidate].incarnation);
            if end.is_none_or(|end| from.byte < end) {
                r.mode = match end {
                    Some(_) => Mode::Resume { from, at: from, until: self.proof(r, start) },
                    // What stands behind must not say that it goes on.
                    None => Mode::Prove { from, at: from, next },
                };
                return true;
            }
        }
        if let Some((summary, _)) = &candidate.footer {
            if summary.first_previous == self.last_crc || (listed && gap) {
                self.accept_footer(r, next);
                r.mode = Mode::Cross {
                    from: At { candidate: next, byte: self.settings.segment_size as u32 },
                    next: next + 1,
                };
            } else {
                // Sealed, so durable, though what it goes on from has not been met.
                r.mode = Mode::Resume { from, at: from, until: self.proof(r, start) };
            }
            return true;
        }
        let bodies = self.position(candidate.incarnation, 0) >= r.vouched;
        let Some(found) = self.look(r, start, bodies, buffers, ops) else { return false };
        r.mode = match found {
            Found::Commit { header, crc }
                if header.epoch >= self.epoch_of_last(r) && (header.previous == self.last_crc || (listed && gap)) =>
            {
                self.accept(r, start, &header, crc, buffers);
                Mode::Follow(At { candidate: next, byte: header.bytes })
            }
            _ if listed => Mode::Resume { from, at: from, until: self.proof(r, start) },
            _ => Mode::Cross { from, next: next + 1 },
        };
        true
    }

    /// The start of a segment is known to be durable: so is everything before.
    pub(super) fn proof(&self, r: &mut Recovery, start: At) -> Position {
        let until = Position(self.position(r.candidates[start.candidate].incarnation, 0).0 + 1);
        r.vouched = r.vouched.max(until);
        until
    }

    pub(super) fn after_the_last(&self, r: &Recovery, from: At) -> Mode {
        // After a clean stop of the last run nothing can stand behind.
        let stopped = r.last == Some((CommitKind::Stopped, self.settings.epoch));
        match stopped || r.candidates.is_empty() {
            true => Mode::End,
            false => Mode::Search { from, at: from, evidence_end: from.byte },
        }
    }
}

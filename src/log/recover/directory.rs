//! Recovery, first part: what files there are, which can be part of the chain, and the footers of those that were sealed.

use super::{Candidate, HEAD_BYTES, Recovery, Step, TAIL_BYTES, WINDOW_BYTES};
use crate::io::buffers::Buffers;
use crate::io::op::{DirName, Op, OpenHow, Ops};
use crate::log::footer::{check_runs, find_trailer, footer_room, read_footer};
use crate::log::format::{CommitHeader, Position, header_at};
use crate::log::{Event, Log};

impl Log {
    /// Opens the next file found; then removes what has to go; then orders the rest.
    pub(super) fn open_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        let token = self.recovery_token();
        r.head_from = 0;
        if let Some(&(index, _)) = r.found.get(r.opened) {
            r.step = Step::Open;
            ops.push(Op::Open { file: self.files.name(index), how: OpenHow::Existing, token });
        } else if r.removed < r.removals.len() {
            self.unlink(r, ops);
        } else {
            // Also when nothing was removed: entries that a crash left unsynced are durable before anything relies on them.
            r.step = Step::SyncRemoved;
            ops.push(Op::SyncDir { dir: DirName::Log(self.settings.number), token });
        }
    }

    pub(super) fn unlink(&mut self, r: &mut Recovery, ops: &mut Ops) {
        r.step = Step::Unlink;
        ops.push(Op::Unlink { file: r.removals[r.removed], token: self.recovery_token() });
    }

    /// Bytes that are read next where a commit is looked for.
    pub(super) fn head_bytes(&self, r: &Recovery) -> u32 {
        let (block, size) = (self.settings.block, self.settings.segment_size as u32);
        let wanted = if r.head_from == 0 { HEAD_BYTES.min(size / 8) } else { WINDOW_BYTES };
        wanted.min(r.memory.len).min(size - r.head_from).max(block) / block * block
    }

    /// What is read first of a file: its end, as a sealed segment is known by its footer; of a file that is too short, its start.
    pub(super) fn read_opened(&mut self, r: &mut Recovery, ops: &mut Ops) {
        r.trailer = None;
        let whole = r.found[r.opened].1 == self.settings.segment_size;
        self.read_edge(r, if whole { Step::Tail } else { Step::Head }, ops);
    }

    /// Bytes read of a file's end.
    fn tail_bytes(&self, r: &Recovery) -> u32 {
        let block = self.settings.block;
        let room = footer_room(self.settings.segment_size, block) as u32;
        TAIL_BYTES.min(room).min(r.memory.len / block * block).max(block)
    }

    fn read_edge(&mut self, r: &mut Recovery, step: Step, ops: &mut Ops) {
        let (index, size) = r.found[r.opened];
        let (at, len) = match step {
            Step::Head => (r.head_from as u64, self.head_bytes(r)),
            _ => (size - self.tail_bytes(r) as u64, self.tail_bytes(r)),
        };
        r.step = step;
        let into = r.memory.first(len);
        ops.push(Op::ReadAt { file: self.files.name(index), at, into, token: self.recovery_token() });
    }

    /// The end of a file: has it a footer?
    pub(super) fn on_tail(&mut self, r: &mut Recovery, bytes: u32, buffers: &Buffers, ops: &mut Ops) {
        let (file, size) = r.found[r.opened];
        let whole = bytes == self.tail_bytes(r);
        let tail = buffers.bytes(r.memory.first(if whole { bytes } else { 0 }));
        let last = tail.len().saturating_sub(self.settings.block as usize);
        let trailer = find_trailer(&tail[last..], self.settings.directory, self.settings.number, size);
        let newest_known = r.newest_known();
        // A footer of an earlier use says nothing of this one: that segment is not live, and not newer than all that are.
        let is_current = |incarnation| incarnation > newest_known || r.is_listed(incarnation);
        let Some(trailer) = trailer.filter(|trailer| is_current(trailer.incarnation)) else {
            r.trailer = trailer;
            return self.read_edge(r, Step::Head, ops);
        };
        let from = trailer.start.checked_sub(size - tail.len() as u64).map(|from| from as usize);
        let footer = from.and_then(|from| read_footer(&tail[from..from + trailer.length as usize], &trailer).ok());
        let footer = footer.filter(|(summary, _)| check_runs(tail, summary, size) != Some(false));
        r.incarnation_max = r.incarnation_max.max(trailer.incarnation);
        r.candidates.push(Candidate { file, incarnation: trailer.incarnation, trailer: Some(trailer), footer });
        r.opened += 1;
        self.open_next(r, ops);
    }

    /// The start of a file: of which incarnation is it?
    pub(super) fn on_head(&mut self, r: &mut Recovery, head: &[u8], ops: &mut Ops) {
        let (index, size) = r.found[r.opened];
        let whole = size == self.settings.segment_size;
        let block = self.settings.block as usize;
        let from = r.head_from;
        let ours = head.chunks(block).enumerate().find_map(|(number, bytes)| {
            let header = CommitHeader::peek(header_at(bytes, 0)?).ok()?;
            let here = self.position(header.incarnation, from + (number * block) as u32);
            let ours = header.directory == self.settings.directory && header.log == self.settings.number;
            (ours && header.position == here).then_some(header)
        });
        let empty = from == 0 && head.iter().all(|&byte| byte == 0);
        let behind = from + head.len() as u32;
        if ours.is_none() && !empty && whole && !head.is_empty() && (behind as u64) < size {
            r.head_from = behind;
            return self.read_edge(r, Step::Head, ops);
        }
        if ours.is_none() && !empty && whole && self.doubt(r, index) {
            r.head_from = 0;
            return;
        }
        r.opened += 1;
        // The first block may be lost, or be of a later use than the footer is.
        let trailer = r.trailer.take().filter(|trailer| ours.is_none_or(|o| o.incarnation == trailer.incarnation));
        let incarnation = ours.map(|header| header.incarnation).or(trailer.map(|trailer| trailer.incarnation));
        if let Some(incarnation) = incarnation {
            r.incarnation_max = r.incarnation_max.max(incarnation);
            r.candidates.push(Candidate { file: index, incarnation, trailer, footer: None });
            if let Some(header) = ours.filter(|_| !whole) {
                let why = format!("the file has {size} bytes instead of {}", self.settings.segment_size);
                self.damaged(r, index, Position(header.position.0 + size), why);
            }
        } else if empty && !whole {
            // A crash while it was being made: nothing was ever written into it.
            r.removals.push(self.files.name(index));
            r.step = Step::Close;
            let closing = r.removals.len() - 1;
            r.removals.swap(r.removed, closing);
            return ops.push(Op::CloseFile { file: self.files.name(index), token: self.recovery_token() });
        } else if empty {
            r.free.push(index);
        } else {
            r.unknown.push(index);
        }
        self.open_next(r, ops);
    }

    pub(super) fn damaged(&mut self, r: &mut Recovery, file: u32, position: Position, why: String) {
        r.damage = true;
        self.events.push_back(Event::Damaged { file: self.files.name(file), position, why });
    }

    /// Which files can be part of the chain, in its order.
    pub(super) fn order(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        let newest_known = r.newest_known();
        let (mut chain, free): (Vec<_>, Vec<_>) = std::mem::take(&mut r.candidates)
            .into_iter()
            .partition(|c| c.incarnation > newest_known || r.is_listed(c.incarnation));
        r.free.extend(free.iter().map(|candidate| candidate.file));
        chain.sort_by_key(|candidate| candidate.incarnation);
        for pair in 1..chain.len() {
            if chain[pair - 1].incarnation == chain[pair].incarnation {
                let (file, position) = (chain[pair].file, self.position(chain[pair].incarnation, 0));
                self.files.keep(file);
                self.damaged(
                    r,
                    file,
                    position,
                    "another file holds the same segment; this one is left alone".to_owned(),
                );
            }
        }
        chain.dedup_by_key(|candidate| candidate.incarnation);
        r.candidates = chain;
        for incarnation in r.live.iter().map(|live| live.incarnation) {
            if r.candidates.binary_search_by_key(&incarnation, |c| c.incarnation).is_err() {
                r.damage = true;
                self.events.push_back(Event::Missing { position: self.position(incarnation, 0) });
            }
        }
        self.read_footers(r, buffers, ops);
    }

    pub(super) fn read_footers(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        while let Some(candidate) = r.candidates.get(r.reading) {
            let Some(trailer) = candidate.trailer.filter(|_| candidate.footer.is_none()) else {
                r.reading += 1;
                continue;
            };
            let at = trailer.start / self.settings.block as u64 * self.settings.block as u64;
            let bytes = self.settings.segment_size - at;
            if bytes > r.memory.len as u64 {
                r.reading += 1;
                continue;
            }
            r.step = Step::Footer;
            let into = r.memory.first(bytes as u32);
            let file = self.files.name(candidate.file);
            return ops.push(Op::ReadAt { file, at, into, token: self.recovery_token() });
        }
        self.follow(r, buffers, ops);
    }

    pub(super) fn on_footer_read(&mut self, r: &mut Recovery, bytes: u32, buffers: &Buffers) {
        let candidate = &mut r.candidates[r.reading];
        r.reading += 1;
        let Some(trailer) = candidate.trailer else { return };
        let within = (trailer.start % self.settings.block as u64) as u32;
        if within as u64 + trailer.length > bytes as u64 {
            return;
        }
        let footer = buffers.bytes(r.memory.part(within, trailer.length as u32));
        let tail = buffers.bytes(r.memory.first(bytes));
        let sound = |summary: &_| check_runs(tail, summary, self.settings.segment_size) != Some(false);
        candidate.footer = read_footer(footer, &trailer).ok().filter(|(summary, _)| sound(summary));
    }
}

//! Following the chain at start.
//!
//! 1. The directory is listed; what a crash left of files in the making is removed; each segment file's first and last blocks are read.
//! 2. Footers are read: a sealed segment is known by its footer.
//! 3. The other segments are walked, commit by commit. A commit belongs to the chain when it stands where the one before it ends (or at
//!    the start of the next incarnation), names that one's CRC, and its epoch is not lower.
//! 4. Where the chain ends, everything behind is searched for a commit that calls this place durable. There is none after a crash: what
//!    stands here was never acknowledged, and is cut off after a copy to quarantine. If there is one, something acknowledged is damaged:
//!    it is told, copied, its frame headers still use up their numbers, and the chain goes on at the next whole commit that is vouched
//!    for.
//! 5. Walked files are flushed: a killed process may have left them in a cache that the next power cut empties.
//!
//! One operation is on its way at a time, into the log's own memory, which nothing else uses yet. An unreadable device ends recovery
//! with nothing changed.

use super::footer::{Summary, find_trailer, read_footer};
use super::format::{CommitHeader, CommitKind, Position, Trailer, header_at};
use super::index::Sealed;
use super::scanner::{Found, Place, claims, examine, may_be_commit, remains};
use super::{Event, FooterState, Log, Newest, Phase, Purpose, Segment, token};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{DirName, Errno, FileName, Op, OpenHow, Ops, Sync, Token};
use crate::observe::counter::Counter;
use std::collections::{BTreeMap, VecDeque};

/// Bytes read at once, unless the log's memory is smaller.
const WINDOW_BYTES: u32 = 32 << 20;
const NOT_THERE: Errno = Errno(2);
const ALREADY_THERE: Errno = Errno(17);

/// The operation on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    List,
    MakeDir,
    SyncTop,
    Open,
    Head,
    Tail,
    Close,
    Unlink,
    SyncRemoved,
    Footer,
    Window,
    Copy(Copying),
    Flush,
}

/// The operation of a copy to quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    MakeDir,
    SyncTop,
    Create,
    Read,
    Write,
    Flush,
    Close,
    SyncDir,
}

/// A segment file that may be part of the chain.
struct Candidate {
    file: u32,
    incarnation: u32,
    trailer: Option<Trailer>,
    footer: Option<(Summary, Sealed)>,
}

/// A byte of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    candidate: usize,
    byte: u32,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The next commit of the chain is expected here.
    Follow(At),
    /// The chain does not go on at `from`: does it at the start of candidate `next`?
    Cross { from: At, next: usize },
    /// It ends at `from`, unless something from `at` on says otherwise.
    Search { from: At, at: At, evidence_end: u32 },
    /// It was durable at `from`, and to `until`: the next whole commit from `at` on belongs to it.
    Resume { from: At, at: At, until: Position },
    /// It ends.
    End,
}

/// Part of a segment file in the log's memory.
#[derive(Clone, Copy)]
struct Window {
    candidate: usize,
    from: u32,
    len: u32,
}

/// A part of a segment file that is copied to quarantine.
#[derive(Clone, Copy)]
struct Copy {
    file: u32,
    position: Position,
    /// Byte of the file, and how many are to be copied.
    from: u32,
    len: u32,
    copied: u32,
}

pub(super) struct Recovery {
    live: Vec<u32>,
    step: Step,
    /// Files found, with their sizes; the first `opened` are dealt with.
    found: Vec<(u32, u64)>,
    opened: usize,
    removals: Vec<FileName>,
    removed: usize,
    candidates: Vec<Candidate>,
    free: Vec<u32>,
    /// Highest incarnation and epoch met anywhere.
    incarnation_max: u32,
    epoch_max: u32,
    mode: Mode,
    window: Option<Window>,
    /// The file whose footer is being read.
    reading: usize,
    /// Of the last commit accepted.
    last: Option<(CommitKind, u32)>,
    /// The highest position that anything read has called durable.
    vouched: Position,
    end: Position,
    copies: VecDeque<Copy>,
    flushes: Vec<u32>,
    /// Numbers used up by what damage left of frames, where no segment can say so.
    raised: Vec<Newest>,
    records: u64,
    torn: u64,
}

impl Log {
    /// Begins: lists its directory, makes it if it is absent, follows the chain. `live`: incarnations that the catalog knows.
    pub fn recover(&mut self, live: &[u32], ops: &mut Ops) {
        assert!(matches!(self.phase, Phase::New), "recovered once");
        let mut live = live.to_vec();
        live.sort_unstable();
        self.recovery = Some(Box::new(Recovery {
            live,
            step: Step::List,
            found: Vec::new(),
            opened: 0,
            removals: Vec::new(),
            removed: 0,
            candidates: Vec::new(),
            free: Vec::new(),
            incarnation_max: 0,
            epoch_max: self.settings.epoch,
            mode: Mode::Follow(At { candidate: 0, byte: 0 }),
            window: None,
            reading: 0,
            last: None,
            vouched: Position(0),
            end: Position(0),
            copies: VecDeque::new(),
            flushes: Vec::new(),
            raised: Vec::new(),
            records: 0,
            torn: 0,
        }));
        ops.push(Op::List { dir: DirName::Log(self.settings.number), token: self.recovery_token() });
    }

    fn recovery_token(&self) -> Token {
        token(self.settings.tokens, Purpose::Recovery, 0)
    }

    /// The answer to its `Op::List`.
    pub fn on_listed(&mut self, _: Token, result: Result<Vec<(FileName, u64)>, Errno>, ops: &mut Ops) {
        let Some(mut r) = self.recovery.take() else { return };
        let dir = DirName::Log(self.settings.number);
        match result {
            Ok(files) => {
                for (file, size) in files {
                    match file {
                        FileName::Segment { index, .. } if size >= self.settings.block as u64 => {
                            r.found.push((index, size))
                        }
                        other => r.removals.push(other),
                    }
                }
                self.open_next(&mut r, ops);
            }
            Err(NOT_THERE) => {
                r.step = Step::MakeDir;
                ops.push(Op::MakeDir { dir, token: self.recovery_token() });
            }
            Err(errno) => return self.unreadable(None, format!("listing {dir}: {errno}")),
        }
        self.recovery = Some(r);
    }

    /// An operation of recovery has completed.
    pub(super) fn on_recovery(&mut self, result: Result<u32, Errno>, buffers: &Buffers, ops: &mut Ops) {
        let Some(mut r) = self.recovery.take() else { return };
        let bytes = match (r.step, result) {
            (_, Ok(bytes)) => bytes,
            (Step::Copy(Copying::Create), Err(ALREADY_THERE)) => {
                // Copied by an earlier start.
                r.copies.pop_front();
                self.copy_next(&mut r, ops);
                self.recovery = Some(r);
                return;
            }
            // A sealed segment is known by its frames too.
            (Step::Footer, Err(_)) => 0,
            (step, Err(errno)) => {
                let file = self.file_of(&r);
                return self.unreadable(file, format!("{step:?} during recovery: {errno}"));
            }
        };
        match r.step {
            Step::List => {}
            Step::MakeDir => {
                r.step = Step::SyncTop;
                ops.push(Op::SyncDir { dir: DirName::Top, token: self.recovery_token() });
            }
            Step::SyncTop => self.open_next(&mut r, ops),
            Step::Open => self.read_edge(&mut r, Step::Head, ops),
            Step::Head => {
                let head = self.settings.memory.first(bytes.min(self.settings.block));
                self.on_head(&mut r, buffers.bytes(head), ops);
            }
            Step::Tail => {
                let tail = self.settings.memory.first(bytes.min(self.settings.block));
                self.on_tail(&mut r, buffers.bytes(tail));
                self.open_next(&mut r, ops);
            }
            Step::Close => self.unlink(&mut r, ops),
            Step::Unlink => {
                r.removed += 1;
                self.open_next(&mut r, ops);
            }
            Step::SyncRemoved => self.order(&mut r, buffers, ops),
            Step::Footer => {
                self.on_footer_read(&mut r, bytes, buffers);
                self.read_footers(&mut r, buffers, ops);
            }
            Step::Window => {
                if let Some(window) = &mut r.window {
                    window.len = bytes;
                }
                self.follow(&mut r, buffers, ops);
            }
            Step::Copy(copying) => self.on_copied(&mut r, copying, ops),
            Step::Flush => {
                r.flushes.pop();
                self.flush_next(&mut r, ops);
            }
        }
        if !matches!(self.phase, Phase::Recovered) {
            self.recovery = Some(r);
        }
    }

    /// The file that the operation on its way concerns.
    fn file_of(&self, r: &Recovery) -> Option<FileName> {
        let index = match r.step {
            Step::Open | Step::Head | Step::Tail => r.found.get(r.opened)?.0,
            Step::Footer => r.candidates.get(r.reading)?.file,
            Step::Window => r.candidates.get(r.window?.candidate)?.file,
            Step::Copy(_) => r.copies.front()?.file,
            Step::Flush => *r.flushes.last()?,
            _ => return None,
        };
        Some(self.files.name(index))
    }

    fn unreadable(&mut self, file: Option<FileName>, why: String) {
        self.events.push_back(Event::Unreadable { file, why });
    }

    // --- 1. the directory ---

    /// Opens the next file found; then removes what has to go; then orders the rest.
    fn open_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        let token = self.recovery_token();
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

    fn unlink(&mut self, r: &mut Recovery, ops: &mut Ops) {
        r.step = Step::Unlink;
        ops.push(Op::Unlink { file: r.removals[r.removed], token: self.recovery_token() });
    }

    fn read_edge(&mut self, r: &mut Recovery, step: Step, ops: &mut Ops) {
        let (index, size) = r.found[r.opened];
        let block = self.settings.block;
        let at = if step == Step::Head { 0 } else { size - block as u64 };
        r.step = step;
        let into = self.settings.memory.first(block);
        ops.push(Op::ReadAt { file: self.files.name(index), at, into, token: self.recovery_token() });
    }

    /// The first block of a file: of which incarnation is it?
    fn on_head(&mut self, r: &mut Recovery, head: &[u8], ops: &mut Ops) {
        let (index, size) = r.found[r.opened];
        let whole = size == self.settings.segment_size;
        let ours = header_at(head, 0).and_then(|bytes| CommitHeader::peek(bytes).ok()).filter(|header| {
            let place = self.position(header.incarnation, 0);
            header.directory == self.settings.directory
                && header.log == self.settings.number
                && header.position == place
        });
        let empty = head.iter().take(super::format::HEADER).all(|&byte| byte == 0);
        if let Some(header) = ours {
            r.incarnation_max = r.incarnation_max.max(header.incarnation);
            r.candidates.push(Candidate { file: index, incarnation: header.incarnation, trailer: None, footer: None });
            if !whole {
                let why = format!("the file has {size} bytes instead of {}", self.settings.segment_size);
                self.damaged(index, Position(header.position.0 + size), why);
            }
        } else if empty && !whole {
            // A crash while it was being made: nothing was ever written into it.
            r.opened += 1;
            r.removals.push(self.files.name(index));
            r.step = Step::Close;
            let closing = r.removals.len() - 1;
            r.removals.swap(r.removed, closing);
            return ops.push(Op::CloseFile { file: self.files.name(index), token: self.recovery_token() });
        } else if empty {
            // It may still have a trailer, if the first block was lost.
            r.candidates.push(Candidate { file: index, incarnation: 0, trailer: None, footer: None });
        } else {
            r.candidates.push(Candidate { file: index, incarnation: u32::MAX, trailer: None, footer: None });
        }
        match whole {
            true => self.read_edge(r, Step::Tail, ops),
            false => {
                r.opened += 1;
                self.open_next(r, ops);
            }
        }
    }

    /// The last block of a file: has it a footer?
    fn on_tail(&mut self, r: &mut Recovery, tail: &[u8]) {
        r.opened += 1;
        let trailer = find_trailer(tail, self.settings.directory, self.settings.number, self.settings.segment_size);
        let candidate = r.candidates.last_mut().expect("the head came before the tail");
        let file = candidate.file;
        match (candidate.incarnation, trailer) {
            (0, None) => {
                r.candidates.pop();
                r.free.push(file);
            }
            (u32::MAX, None) => {
                r.candidates.pop();
                self.files.keep(file);
                self.damaged(
                    file,
                    Position(0),
                    "its first block is neither empty nor of this log; the file is left alone".to_owned(),
                );
            }
            (0 | u32::MAX, Some(trailer)) => {
                candidate.incarnation = trailer.incarnation;
                candidate.trailer = Some(trailer);
                r.incarnation_max = r.incarnation_max.max(trailer.incarnation);
            }
            // A footer of an earlier use is none.
            (incarnation, trailer) => candidate.trailer = trailer.filter(|trailer| trailer.incarnation == incarnation),
        }
    }

    fn damaged(&mut self, file: u32, position: Position, why: String) {
        self.counters.add(Counter::Damaged, 1);
        self.events.push_back(Event::Damaged { file: self.files.name(file), position, why });
    }

    // --- 2. order and footers ---

    /// Which files can be part of the chain, in its order.
    fn order(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        let newest_known = r.live.last().copied().unwrap_or(0);
        let (mut chain, free): (Vec<_>, Vec<_>) = std::mem::take(&mut r.candidates)
            .into_iter()
            .partition(|c| c.incarnation > newest_known || r.live.binary_search(&c.incarnation).is_ok());
        r.free.extend(free.iter().map(|candidate| candidate.file));
        chain.sort_by_key(|candidate| candidate.incarnation);
        for pair in 1..chain.len() {
            if chain[pair - 1].incarnation == chain[pair].incarnation {
                let (file, position) = (chain[pair].file, self.position(chain[pair].incarnation, 0));
                self.files.keep(file);
                self.damaged(file, position, "another file holds the same segment; this one is left alone".to_owned());
            }
        }
        chain.dedup_by_key(|candidate| candidate.incarnation);
        r.candidates = chain;
        for &incarnation in &r.live {
            if r.candidates.binary_search_by_key(&incarnation, |c| c.incarnation).is_err() {
                self.counters.add(Counter::Damaged, 1);
                self.events.push_back(Event::Missing { position: self.position(incarnation, 0) });
            }
        }
        self.read_footers(r, buffers, ops);
    }

    fn read_footers(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        while let Some(candidate) = r.candidates.get(r.reading) {
            let Some(trailer) = candidate.trailer else {
                r.reading += 1;
                continue;
            };
            let bytes = self.settings.segment_size - trailer.start;
            if bytes > self.settings.memory.len as u64 {
                r.reading += 1;
                continue;
            }
            r.step = Step::Footer;
            let into = self.settings.memory.first(bytes as u32);
            let file = self.files.name(candidate.file);
            return ops.push(Op::ReadAt { file, at: trailer.start, into, token: self.recovery_token() });
        }
        self.follow(r, buffers, ops);
    }

    fn on_footer_read(&mut self, r: &mut Recovery, bytes: u32, buffers: &Buffers) {
        let candidate = &mut r.candidates[r.reading];
        r.reading += 1;
        let Some(trailer) = candidate.trailer.filter(|trailer| trailer.length <= bytes as u64) else { return };
        let footer = buffers.bytes(self.settings.memory.first(trailer.length as u32));
        candidate.footer = read_footer(footer, &trailer).ok();
    }

    // --- 3. the chain ---

    /// Follows the chain as far as the window goes, reads more, or ends.
    fn follow(&mut self, r: &mut Recovery, buffers: &Buffers, ops: &mut Ops) {
        loop {
            let advanced = match r.mode {
                Mode::Follow(at) => self.follow_commit(r, at, buffers, ops),
                Mode::Cross { from, next } => self.cross(r, from, next, buffers, ops),
                Mode::Search { from, at, evidence_end } => self.search(r, from, at, evidence_end, buffers, ops),
                Mode::Resume { from, at, until } => self.resume_chain(r, from, at, until, buffers, ops),
                Mode::End => return self.copy_next(r, ops),
            };
            if !advanced {
                return;
            }
        }
    }

    /// What stands at `at`; `None` after asking for more of the file.
    fn look(&mut self, r: &mut Recovery, at: At, bodies: bool, buffers: &Buffers, ops: &mut Ops) -> Option<Found> {
        let place = self.scan_place(r, at);
        let window = self.window(r, at);
        let found =
            window.map_or(Found::Needs(self.settings.block), |span| examine(buffers.bytes(span), &place, bodies));
        let Found::Needs(bytes) = found else { return Some(found) };
        let capacity = self.settings.memory.len.min(WINDOW_BYTES.max(self.settings.commit_max));
        let begins_here = r.window.is_some_and(|w| w.candidate == at.candidate && w.from == at.byte);
        if begins_here || bytes > capacity {
            // The file ends before it does, or it cannot be a commit of this log.
            return Some(Found::Nothing(super::format::Damage::Short { what: "commit" }));
        }
        let len = capacity.min(self.settings.segment_size as u32 - at.byte);
        r.window = Some(Window { candidate: at.candidate, from: at.byte, len });
        r.step = Step::Window;
        let file = self.files.name(r.candidates[at.candidate].file);
        let into = self.settings.memory.first(len);
        ops.push(Op::ReadAt { file, at: at.byte as u64, into, token: self.recovery_token() });
        None
    }

    /// The part of the window from `at` on.
    fn window(&self, r: &Recovery, at: At) -> Option<Span> {
        let window =
            r.window.filter(|w| w.candidate == at.candidate && w.from <= at.byte && at.byte < w.from + w.len)?;
        let from = at.byte - window.from;
        Some(self.settings.memory.part(from, window.len - from))
    }

    fn scan_place(&self, r: &Recovery, at: At) -> Place {
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

    fn ends(&self, at: At) -> bool {
        at.byte as u64 + self.settings.block as u64 > self.settings.segment_size
    }

    fn follow_commit(&mut self, r: &mut Recovery, at: At, buffers: &Buffers, ops: &mut Ops) -> bool {
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

    fn epoch_of_last(&self, r: &Recovery) -> u32 {
        r.last.map_or(0, |(_, epoch)| epoch)
    }

    /// The commit joins the chain.
    fn accept(&mut self, r: &mut Recovery, at: At, header: &CommitHeader, crc: u32, buffers: &Buffers) {
        let span = self.window(r, at).expect("it was just examined there").first(header.bytes);
        let commit = buffers.bytes(span);
        if self.segments.back().is_none_or(|segment| segment.incarnation != header.incarnation) {
            self.begin_recovered(r, at.candidate, header.previous);
        }
        for (frame_at, frame) in header.frames(commit).flatten() {
            if frame.count > 0 {
                self.building.add(at.byte + frame_at as u32, &frame);
                r.records += frame.count as u64;
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
    fn begin_recovered(&mut self, r: &mut Recovery, candidate: usize, first_previous: u32) {
        self.seal_recovered();
        let candidate = &r.candidates[candidate];
        r.flushes.push(candidate.file);
        self.files.found(candidate.file, Some(candidate.incarnation));
        self.segments.push_back(Segment {
            file: candidate.file,
            incarnation: candidate.incarnation,
            end: 0,
            epoch: 0,
            first_previous,
            last_crc: 0,
            index: Sealed::default(),
            footer: FooterState::Open,
            leaving: false,
        });
        self.active = true;
        self.at = 0;
    }

    fn seal_recovered(&mut self) {
        if std::mem::replace(&mut self.active, false) {
            let segment = self.segments.back_mut().expect("the active segment is the last one");
            segment.index = self.building.seal();
            segment.end = self.at;
            segment.footer = FooterState::Due;
        }
    }

    /// A segment with a footer joins the chain.
    fn accept_footer(&mut self, r: &mut Recovery, candidate: usize) -> bool {
        let incarnation = r.candidates[candidate].incarnation;
        let Some((summary, index)) = r.candidates[candidate].footer.take() else { return false };
        self.seal_recovered();
        let file = r.candidates[candidate].file;
        self.files.found(file, Some(incarnation));
        r.records += index.spans.iter().map(|span| span.records).sum::<u64>();
        self.segments.push_back(Segment {
            file,
            incarnation,
            end: summary.end,
            epoch: summary.epoch,
            first_previous: summary.first_previous,
            last_crc: summary.last_crc,
            index,
            footer: FooterState::Settled,
            leaving: false,
        });
        self.last_crc = summary.last_crc;
        r.epoch_max = r.epoch_max.max(summary.epoch);
        r.last = Some((CommitKind::Data, summary.epoch));
        r.end = self.position(incarnation, summary.end);
        r.vouched = r.vouched.max(r.end);
        true
    }

    /// Whether the chain goes on at the start of candidate `next`.
    fn cross(&mut self, r: &mut Recovery, from: At, next: usize, buffers: &Buffers, ops: &mut Ops) -> bool {
        let Some(candidate) = r.candidates.get(next) else {
            r.mode = self.after_the_last(r, from);
            return true;
        };
        let start = At { candidate: next, byte: 0 };
        let listed = r.live.binary_search(&candidate.incarnation).is_ok();
        // Between them were segments that have been recycled: their CRC is not known any more.
        let gap = self.segments.back().is_none_or(|last| last.incarnation + 1 != candidate.incarnation);
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
    fn proof(&self, r: &mut Recovery, start: At) -> Position {
        let until = Position(self.position(r.candidates[start.candidate].incarnation, 0).0 + 1);
        r.vouched = r.vouched.max(until);
        until
    }

    fn after_the_last(&self, r: &Recovery, from: At) -> Mode {
        // After a clean stop of the last run nothing can stand behind.
        let stopped = r.last == Some((CommitKind::Stopped, self.settings.epoch));
        match stopped || r.candidates.is_empty() {
            true => Mode::End,
            false => Mode::Search { from, at: from, evidence_end: from.byte },
        }
    }

    // --- 4. the end, or damage ---

    /// Looks for a commit behind the end of the chain that calls it durable.
    fn search(
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
        let broken_at = self.position(r.candidates[from.candidate].incarnation, from.byte);
        if let Found::Commit { header, .. } = found {
            r.epoch_max = r.epoch_max.max(header.epoch);
            if header.durable > broken_at {
                r.vouched = r.vouched.max(header.durable);
                let until = Position(header.durable.0.max(header.position.0 + 1));
                r.mode = Mode::Resume { from, at: from, until };
                return true;
            }
        }
        let next = self.next_block_to_look_at(r, at, buffers);
        r.mode = Mode::Search { from, at: At { byte: next, ..at }, evidence_end };
        true
    }

    /// The next block of the window that may begin a commit, or the one behind the window.
    fn next_block_to_look_at(&self, r: &Recovery, at: At, buffers: &Buffers) -> u32 {
        let block = self.settings.block;
        let Some(span) = self.window(r, at) else { return at.byte + block };
        let bytes = buffers.bytes(span);
        let blocks = bytes.chunks(block as usize).skip(1).take_while(|bytes| !may_be_commit(bytes)).count() as u32;
        at.byte + block * (blocks + 1)
    }

    /// What stands at the end of the chain was never acknowledged: appending goes on over it, after a copy.
    fn cut(&mut self, r: &mut Recovery, from: At, evidence_end: u32) {
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
    fn resume_chain(
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
                if self.active {
                    self.building.raise(frame.shard, frame.next(), frame.arrival);
                } else {
                    r.raised.push(Newest { shard: frame.shard, next: frame.next(), arrival: frame.arrival });
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

    fn tell_gap(&mut self, r: &mut Recovery, from: At, to: At) {
        if from == to {
            let candidate = &r.candidates[from.candidate];
            let position = self.position(candidate.incarnation, from.byte);
            return self.damaged(candidate.file, position, "a body in this commit fails its checksum".to_owned());
        }
        let same = from.candidate == to.candidate;
        self.tell_lost(r, from, if same { to.byte } else { self.data_end() });
        if !same && to.candidate < r.candidates.len() {
            self.tell_lost(r, At { byte: 0, ..to }, to.byte);
        }
    }

    fn tell_lost(&mut self, r: &mut Recovery, from: At, end: u32) {
        let len = end.saturating_sub(from.byte);
        if len > 0 {
            let candidate = &r.candidates[from.candidate];
            let (file, position) = (candidate.file, self.position(candidate.incarnation, from.byte));
            self.damaged(file, position, format!("no whole commit in {len} bytes that were durable"));
            r.copies.push_back(Copy { file, position, from: from.byte, len, copied: 0 });
        }
    }

    // --- quarantine ---

    fn copy_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        if r.copies.is_empty() {
            return self.flush_next(r, ops);
        }
        r.step = Step::Copy(Copying::MakeDir);
        ops.push(Op::MakeDir { dir: DirName::Quarantine, token: self.recovery_token() });
    }

    fn on_copied(&mut self, r: &mut Recovery, copying: Copying, ops: &mut Ops) {
        let token = self.recovery_token();
        let Some(copy) = r.copies.front_mut() else { return };
        let into = FileName::Quarantine { log: self.settings.number, position: copy.position.0 };
        let piece = (copy.len - copy.copied).min(self.settings.memory.len.min(WINDOW_BYTES));
        let memory = self.settings.memory;
        let (next, op) = match copying {
            Copying::MakeDir => (Copying::SyncTop, Op::SyncDir { dir: DirName::Top, token }),
            Copying::SyncTop => {
                (Copying::Create, Op::Open { file: into, how: OpenHow::Create { size: copy.len as u64 }, token })
            }
            Copying::Create => (Copying::Read, self.copy_read(copy, piece, token)),
            Copying::Read => {
                let (at, from) = (copy.copied as u64, memory.first(piece));
                copy.copied += piece;
                (Copying::Write, Op::WriteAt { file: into, at, from, sync: Sync::Later, token })
            }
            Copying::Write if piece > 0 => (Copying::Read, self.copy_read(copy, piece, token)),
            Copying::Write => (Copying::Flush, Op::Fsync { file: into, token }),
            Copying::Flush => (Copying::Close, Op::CloseFile { file: into, token }),
            Copying::Close => (Copying::SyncDir, Op::SyncDir { dir: DirName::Quarantine, token }),
            Copying::SyncDir => {
                r.copies.pop_front();
                return self.copy_next(r, ops);
            }
        };
        r.step = Step::Copy(next);
        ops.push(op);
    }

    fn copy_read(&self, copy: &Copy, piece: u32, token: Token) -> Op {
        let at = (copy.from + copy.copied) as u64;
        Op::ReadAt { file: self.files.name(copy.file), at, into: self.settings.memory.first(piece), token }
    }

    // --- 5. durable ---

    fn flush_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        match r.flushes.last() {
            Some(&file) => {
                r.step = Step::Flush;
                ops.push(Op::Fsync { file: self.files.name(file), token: self.recovery_token() });
            }
            None => self.finish_recovery(r),
        }
    }

    fn finish_recovery(&mut self, r: &mut Recovery) {
        for candidate in &r.candidates {
            if self.segment_index(candidate.incarnation).is_none() {
                r.free.push(candidate.file);
            }
        }
        for &file in &r.free {
            self.files.found_free(file);
        }
        let mut newest: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for index in 0..self.segments.len() {
            self.view(index).for_each_span(|span| {
                let known = newest.entry(span.shard).or_default();
                *known = (known.0.max(span.next), known.1.max(span.last_arrival));
            });
        }
        for raised in &r.raised {
            let known = newest.entry(raised.shard).or_default();
            *known = (known.0.max(raised.next), known.1.max(raised.arrival));
        }
        self.newest = newest.into_iter().map(|(shard, (next, arrival))| Newest { shard, next, arrival }).collect();
        self.next_incarnation = r.incarnation_max.max(r.live.last().copied().unwrap_or(0)) + 1;
        self.epoch = r.epoch_max;
        self.durable = r.end;
        self.phase = Phase::Recovered;
        self.events.push_back(Event::Recovered { records: r.records, torn: r.torn });
    }
}

//! Emptying segments that hold little that is still good for something: padding of small commits goes, a few long-kept records pin no
//! segment any more, and what a shard has in a segment comes to lie together.
//!
//! 1. The segment is read, as much at a time as a buffer holds, in pieces.
//! 2. Frames that the segment still owns and that have not expired are checked, sorted by shard and number, and appended as commits of kind
//!    `Moved`: the same body, numbers, arrival and producer; another stride, incarnation and header CRC.
//! 3. When such a commit is durable, the numbers in it are owned by where they are now ([`super::extents::Extents::take_over`]). A crash
//!    before that leaves two copies of the same; recovery follows the chain, so the one at the higher position wins.
//! 4. When all of it has been read and moved the segment is *emptied*, and the next reclaim gives it back: by the list of live segments in the
//!    catalog, which is the record that it was released.
//!
//! Readers need no pins: a frame is checked for incarnation, shard, number and CRC, and a reader whose segment has gone finds its place again
//! by number. Moved commits are small, one is on its way at a time, and between two of them lies a rest in proportion to what the
//! last one took: acks that stand behind one in the chain do not wait long.

use super::extents::Extent;
use super::format::{CommitKind, FrameHeader, FrameKind, HEADER, Position, ShardKey, round_up, stride};
use super::policy::Verdict;
use super::scanner::{Found, Place, examine};
use super::{Event, Fate, Log, Phase, Pin, Purpose, Refusal, token};
use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, FileName, Op, Ops};
use crate::observe::counter::Counter;

/// Bytes of a moved commit, unless one frame is larger: what an ack behind it waits for.
const MOVE_BYTES: u32 = 256 << 10;
/// Bytes that are looked at together, unless a commit is larger: a shard's records in them come to lie together, and sorting them is one turn.
const WINDOW_BYTES: u32 = 4 << 20;
/// Bytes read, and looked through, at once.
const READ_PIECE: u32 = 1 << 20;
/// A rest after a step: this many times what the step took.
const REST: u64 = 1;
const REST_MAX_MS: u64 = 500;
/// How long it waits for a buffer, and for a segment.
const BUFFER_WAIT_MS: u64 = 20;
const SEGMENT_WAIT_MS: u64 = 500;
/// How long it waits until it asks again whether anything is worth it.
const LOOK_WAIT_MS: u64 = 100;
/// How long it leaves a device alone that has failed to read.
const UNREAD_WAIT_MS: u64 = 10_000;

/// A frame to be moved.
#[derive(Clone, Copy)]
struct Live {
    header: FrameHeader,
    /// Byte of the window where it begins.
    at: u32,
}

enum Stage {
    /// A piece of the window is being read.
    Reading,
    /// The window's frames are being moved.
    Moving,
    /// A moved commit is on its way, durable at this position; its memory, and what it holds.
    Writing { end: Position, out: Span, extents: Vec<(ShardKey, Extent)> },
}

/// A segment that is being emptied.
pub(super) struct Relocation {
    source: u32,
    stage: Stage,
    window: Span,
    /// Byte of the segment where the window begins, and bytes of it that are filled.
    from: u32,
    filled: u32,
    /// Most bytes of the window.
    limit: u32,
    /// Byte of the segment behind the last whole commit that was looked through.
    behind: u32,
    frames: Vec<Live>,
    /// The next of them to be moved.
    next: usize,
    /// When the step under way began.
    began: Mono,
}

impl Log {
    /// One step, once a turn, while no frame is open. `trims`: a full log gives back its oldest segment instead of refusing puts. `fate`: as
    /// for [`Log::survey`].
    pub fn relocate(
        &mut self,
        now: Now,
        trims: bool,
        fate: &mut dyn FnMut(ShardKey) -> Fate,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        if self.failed.is_some() || !matches!(self.phase, Phase::Running) || now.mono < self.relocation_due {
            return;
        }
        let Some(mut r) = self.relocation.take() else { return self.begin_relocation(now, trims, buffers, ops) };
        let done = match r.stage {
            Stage::Reading => false,
            Stage::Moving => self.move_frames(now, &mut r, fate, buffers, ops),
            Stage::Writing { end, out, .. } if end <= self.durable => {
                buffers.give(out);
                self.moved(now, &mut r);
                false
            }
            Stage::Writing { .. } => false,
        };
        match done {
            true => buffers.give(r.window),
            false => self.relocation = Some(r),
        }
    }

    /// When [`Log::relocate`] has something to do that no completion tells.
    pub(super) fn relocation_deadline(&self) -> Option<Mono> {
        let waits = match &self.relocation {
            Some(r) => matches!(r.stage, Stage::Moving),
            None => self.policy.has_candidates(),
        };
        let runs = self.failed.is_none() && matches!(self.phase, Phase::Running);
        (runs && waits).then_some(self.relocation_due)
    }

    /// The segment that is being emptied.
    pub(super) fn relocating(&self) -> Option<u32> {
        self.relocation.as_ref().map(|r| r.source)
    }

    /// The segment that a moved commit is on its way into.
    pub(super) fn moving_into(&self) -> Option<u32> {
        match self.relocation.as_deref()? {
            Relocation { stage: Stage::Writing { end, .. }, .. } => {
                Some(((end.0 - 1) / self.settings.segment_size) as u32)
            }
            _ => None,
        }
    }

    /// The segment whose frames are in that commit: trimmed now, they would come back.
    pub(super) fn moving_from(&self) -> Option<u32> {
        let r = self.relocation.as_ref().filter(|r| matches!(r.stage, Stage::Writing { .. }));
        r.map(|r| r.source)
    }

    /// Whether a read is on its way into its window.
    pub(super) fn relocation_reads(&self) -> bool {
        self.relocation.as_ref().is_some_and(|r| matches!(r.stage, Stage::Reading))
    }

    fn begin_relocation(&mut self, now: Now, trims: bool, buffers: &mut Buffers, ops: &mut Ops) {
        if !self.policy.has_candidates() {
            return;
        }
        if self.pin != Pin::Nothing {
            // What would be moved behind the snapshot could not be given back before it is taken.
            self.relocation_due = now.mono.plus_ms(SEGMENT_WAIT_MS);
            return;
        }
        let fits = self.active && self.at + self.settings.commit_max <= self.data_end();
        if !fits && self.files.free() <= self.relocation_reserve() {
            self.policy.end_burst();
            self.relocation_due = now.mono.plus_ms(SEGMENT_WAIT_MS);
            return;
        }
        let spare = buffers.available(Pool::Large) * 2 > buffers.slots(Pool::Large) as usize;
        let Some(window) = spare.then(|| buffers.take(Pool::Large)).flatten() else {
            self.relocation_due = now.mono.plus_ms(BUFFER_WAIT_MS);
            return;
        };
        let source = match self.next_to_empty(now, trims) {
            Verdict::Empty(source) => Some(source),
            Verdict::Turn => {
                self.finish_commit();
                // Where the next file is not ready, this is asked again.
                let _ = self.next_segment(self.reserve(), buffers);
                None
            }
            Verdict::NotNow => None,
        };
        let held = |source: &u32| self.segment_index(*source).is_some_and(|index| !self.segments[index].leaving);
        let Some(source) = source.filter(held) else {
            buffers.give(window);
            self.relocation_due = now.mono.plus_ms(LOOK_WAIT_MS);
            return;
        };
        let mut r = Box::new(Relocation {
            source,
            stage: Stage::Reading,
            window,
            from: 0,
            filled: 0,
            limit: WINDOW_BYTES,
            behind: 0,
            frames: Vec::new(),
            next: 0,
            began: now.mono,
        });
        self.read_piece(&mut r, ops);
        self.relocation = Some(r);
    }

    /// Byte behind what the window can hold of the source.
    fn window_end(&self, r: &Relocation) -> u32 {
        let end = self.segment_index(r.source).map_or(0, |index| self.segments[index].end);
        let window = r.window.len.min(r.limit) / self.settings.block * self.settings.block;
        end.min(r.from.saturating_add(window))
    }

    fn read_piece(&mut self, r: &mut Relocation, ops: &mut Ops) {
        let at = r.from + r.filled;
        let len = (self.window_end(r) - at).min(READ_PIECE);
        let Some(index) = self.segment_index(r.source) else { return };
        let file = self.files.name(self.segments[index].file);
        r.stage = Stage::Reading;
        let token = token(self.settings.tokens, Purpose::Relocation, 0);
        ops.push(Op::ReadAt { file, at: at as u64, into: r.window.part(r.filled, len), token });
    }

    pub(super) fn on_relocation_read(&mut self, now: Now, result: Result<u32, Errno>, buffers: &mut Buffers) {
        let Some(mut r) = self.relocation.take() else { return };
        // Trimmed away in the meantime: nothing of it is wanted any more.
        let held = self.segment_index(r.source).is_some_and(|index| !self.segments[index].leaving);
        if !held || self.failed.is_some() || !matches!(self.phase, Phase::Running) {
            return buffers.give(r.window);
        }
        let len = (self.window_end(&r) - r.from - r.filled).min(READ_PIECE);
        let at = r.from + r.filled;
        let found = match result {
            Ok(bytes) if bytes >= len => {
                r.filled += len;
                self.find_frames(&mut r, buffers)
            }
            Ok(_) => Err((at, format!("it ends before its {}th byte", at + len))),
            Err(errno) => {
                buffers.give(r.window);
                self.relocation_due = now.mono.plus_ms(UNREAD_WAIT_MS);
                return self.unread(r.source, at, errno);
            }
        };
        if let Err((at, why)) = found {
            buffers.give(r.window);
            return self.give_up(r.source, at, why);
        }
        r.stage = Stage::Moving;
        self.rest(now, &r);
        r.began = self.relocation_due;
        self.relocation = Some(r);
    }

    /// A read that failed may succeed another time.
    fn unread(&mut self, source: u32, at: u32, errno: Errno) {
        let Some(index) = self.segment_index(source) else { return };
        if !std::mem::replace(&mut self.segments[index].unread, true) {
            let file = self.files.name(self.segments[index].file);
            self.events.push_back(Event::Unread { file, position: self.position(source, at), errno });
        }
    }

    /// The segment keeps what it has: it is told, and not tried again in this run.
    fn give_up(&mut self, source: u32, at: u32, why: String) {
        let Some(index) = self.segment_index(source) else { return };
        self.segments[index].unmovable = true;
        let file = self.files.name(self.segments[index].file);
        self.events.push_back(Event::Damaged { file, position: self.position(source, at), why });
    }

    /// What was damaged in a segment file has been repaired: it may be emptied.
    pub fn movable_again(&mut self, file: FileName) {
        for segment in self.segments.iter_mut().filter(|segment| self.files.name(segment.file) == file) {
            segment.unmovable = false;
        }
    }

    /// The frames that the source owns in what has been read since the last time; when the window is full they are put in the order of shard and
    /// number. An error says where damage is.
    fn find_frames(&mut self, r: &mut Relocation, buffers: &Buffers) -> Result<(), (u32, String)> {
        let bytes = buffers.bytes(r.window.first(r.filled));
        while r.behind < r.from + r.filled {
            let within = (r.behind - r.from) as usize;
            let place = Place {
                directory: self.settings.directory,
                log: self.settings.number,
                incarnation: r.source,
                position: self.position(r.source, r.behind),
                block: self.settings.block,
                room: self.settings.segment_size as u32 - r.behind,
            };
            let header = match examine(&bytes[within..], &place, false) {
                Found::Commit { header, .. } => header,
                Found::Needs(_) => break,
                Found::Nothing(damage) => return Err((r.behind, damage.to_string())),
            };
            for (at, header) in header.frames(&bytes[within..within + header.bytes as usize]).flatten() {
                let wanted = matches!(header.kind, FrameKind::Batch | FrameKind::Encrypted);
                if wanted && self.extents.owner(header.shard, header.sequence, r.source).is_some() {
                    r.frames.push(Live { header, at: (within + at) as u32 });
                }
            }
            r.behind += header.bytes;
        }
        if r.from + r.filled < self.window_end(r) {
            return Ok(());
        }
        if r.behind == r.from {
            if r.limit == u32::MAX {
                return Err((r.from, "a commit is larger than any of this log".to_owned()));
            }
            // A large commit: as much as the buffer holds.
            r.limit = u32::MAX;
            return Ok(());
        }
        r.frames.sort_unstable_by_key(|live| (live.header.shard, live.header.sequence));
        Ok(())
    }

    /// Appends the next commit of moved frames; when there are none left, reads on. `true`: all of the segment was dealt with, or given up.
    fn move_frames(
        &mut self,
        now: Now,
        r: &mut Relocation,
        fate: &mut dyn FnMut(ShardKey) -> Fate,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) -> bool {
        let Some(index) = self.segment_index(r.source).filter(|index| !self.segments[*index].leaving) else {
            return true;
        };
        if r.from + r.filled < self.window_end(r) {
            self.read_piece(r, ops);
            return false;
        }
        match self.choose_frames(r, fate, buffers) {
            Err((at, why)) => {
                self.give_up(r.source, at, why);
                true
            }
            Ok(chosen) if chosen.is_empty() => {
                (r.from, r.filled, r.limit) = (r.behind, 0, WINDOW_BYTES);
                (r.next, r.began) = (0, now.mono);
                r.frames.clear();
                if r.from < self.segments[index].end {
                    self.read_piece(r, ops);
                    return false;
                }
                self.segments[index].emptied = true;
                self.counters.add(Counter::SegmentsEmptied, 1);
                true
            }
            Ok(chosen) => {
                match self.append_moved(r, &chosen, buffers) {
                    Ok(()) => false,
                    // What was moved so far stays so; the next survey says what is worth a try.
                    Err(Refusal::Full) => {
                        self.relocation_due = now.mono.plus_ms(SEGMENT_WAIT_MS);
                        true
                    }
                    // Whoever has what it waits for may be waiting for its window.
                    Err(_) => {
                        self.policy.put_back(r.source);
                        self.relocation_due = now.mono.plus_ms(BUFFER_WAIT_MS);
                        true
                    }
                }
            }
        }
    }

    /// The frames of the next commit: checked, and not expired. An error says where a body is damaged.
    fn choose_frames(
        &mut self,
        r: &mut Relocation,
        fate: &mut dyn FnMut(ShardKey) -> Fate,
        buffers: &Buffers,
    ) -> Result<Vec<Live>, (u32, String)> {
        let (mut chosen, mut used) = (Vec::new(), HEADER as u64);
        let most = MOVE_BYTES.min(self.settings.commit_max);
        // The end of a segment is filled, unless that makes a commit of next to nothing.
        let left = if self.active { self.data_end().saturating_sub(self.at) } else { 0 };
        let most = if left >= most / 4 { most.min(left) } else { most } as u64;
        // A new segment's index takes so many, whatever their shards.
        let frames_max = self.room().frames() as usize / 4;
        let window = buffers.bytes(r.window.first(r.filled));
        while let Some(live) = r.frames.get(r.next) {
            let header = live.header;
            let stride = stride(header.body);
            if !chosen.is_empty() && (used + stride > most || chosen.len() >= frames_max) {
                break;
            }
            let body = live.at as usize + HEADER;
            let body = &window[body..body + header.body as usize];
            if let Err(damage) = header.check_body(body) {
                return Err((r.from + live.at, damage.to_string()));
            }
            if fate(header.shard).is_over(header.arrival) {
                if chosen.is_empty() {
                    r.next += 1;
                    continue;
                }
                break;
            }
            chosen.push(*live);
            used += stride;
            r.next += 1;
        }
        Ok(chosen)
    }

    /// Appends a commit with these frames, unless there is no buffer or no segment for it now.
    fn append_moved(&mut self, r: &mut Relocation, chosen: &[Live], buffers: &mut Buffers) -> Result<(), Refusal> {
        let used = HEADER as u64 + chosen.iter().map(|live| stride(live.header.body)).sum::<u64>();
        let bytes = round_up(used, self.settings.block as u64) as u32;
        let Some(slot) = buffers.take_for(bytes as usize) else { return Err(Refusal::Busy) };
        self.finish_commit();
        let fits = |log: &Log| {
            log.active && log.at + bytes <= log.data_end() && log.building.frames_max() > chosen.len() as u32 + 1
        };
        let room = if fits(self) { Ok(()) } else { self.next_segment(self.relocation_reserve(), buffers) };
        self.finish_commit();
        if let Err(refusal) = room {
            buffers.give(slot);
            return Err(refusal);
        }
        let out = slot.first(bytes);
        let segment = self.segments.back().expect("a segment is active");
        let (incarnation, file, file_at) = (segment.incarnation, segment.file, self.at);
        let mut extents = Vec::with_capacity(chosen.len());
        let mut at = HEADER as u32;
        for live in chosen {
            let header = FrameHeader { stride: stride(live.header.body) as u32, incarnation, ..live.header };
            let from = r.window.part(live.at + HEADER as u32, header.body);
            let (body, into) = buffers.pair(from, out.part(at, header.stride));
            let (head, rest) = into.split_first_chunk_mut::<HEADER>().expect("a frame begins with its header");
            header.encode(head);
            let (to, padding) = rest.split_at_mut(header.body as usize);
            to.copy_from_slice(body);
            padding.fill(0);
            self.building.add_moved(file_at + at, &header);
            add_extent(&mut extents, header.shard, extent_of(&header, file_at + at));
            at += header.stride;
        }
        let position = self.position(incarnation, file_at);
        self.commits.begin_elsewhere(
            CommitKind::Moved,
            position,
            out,
            (at, chosen.len() as u32),
            (file, file_at),
            incarnation,
        );
        self.at += bytes;
        self.vouch_due = None;
        r.stage = Stage::Writing { end: Position(position.0 + bytes as u64), out, extents };
        // What of it is padding cannot be had by moving it once more.
        self.segments.back_mut().expect("a segment is active").padding += bytes - at;
        Ok(())
    }

    /// The moved commit is durable: what it holds is owned by where it is now.
    fn moved(&mut self, now: Now, r: &mut Relocation) {
        let Stage::Writing { end, extents, .. } = std::mem::replace(&mut r.stage, Stage::Moving) else { return };
        for (shard, extent) in extents {
            self.take_over(shard, extent, end);
        }
        self.rest(now, r);
        r.began = self.relocation_due;
    }

    /// The next step comes after a rest in proportion to what the last one took.
    fn rest(&mut self, now: Now, r: &Relocation) {
        let took = now.mono - r.began.min(now.mono);
        self.relocation_due = Mono(now.mono.0 + (took * REST).min(REST_MAX_MS * 1_000_000));
    }

    /// Recovery has met a frame that was moved here.
    pub(super) fn add_moved(&mut self, at: u32, header: &FrameHeader) {
        self.building.add_moved(at, header);
        let extent = extent_of(header, at);
        let until = self.position(extent.incarnation, at + header.stride);
        self.take_over(header.shard, extent, until);
    }
}

/// Frames come sorted: what goes on from the one before is one extent with it.
fn add_extent(extents: &mut Vec<(ShardKey, Extent)>, shard: ShardKey, extent: Extent) {
    let last = extents.last_mut().filter(|(of, _)| *of == shard);
    match last.and_then(|(_, last)| last.joined(&extent).map(|joined| (last, joined))) {
        Some((last, joined)) => *last = joined,
        None => extents.push((shard, extent)),
    }
}

/// A frame at byte `at` of its segment, by itself. Every record of it arrived when it did: clients give none of their own.
fn extent_of(header: &FrameHeader, at: u32) -> Extent {
    Extent::new((header.sequence, header.count), header.incarnation, (at, header.stride), header.arrival, (0, 0))
}

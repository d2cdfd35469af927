//! GetRecords: asked at the worker with the connection, answered by the one that has the log with the numbers wanted.
//!
//! That worker encodes the answer's body into a buffer and lends it; the asker sends it from there. Frames come from log memory, or from reads of
//! segments into a buffer, checked in both cases by the log's reader.
//!
//! A shard that was moved has parts on several logs (`catalog/moving.rs`). An answer is about one of them; where that ends, the answer does, and
//! its iterator goes on with the next number, which is in the next part.

use super::Worker;
use super::ahead::KeptReaders;
use super::mailbox::{ConnectionId, GetCall, Message};
use super::notice::Notice;
use super::serve::Reply;
use crate::catalog::moving::Part;
use crate::catalog::state::{Shard, StreamStatus};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Wall;
use crate::io::op::{Errno, FileName, Op, Ops, Token};
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::get_records::Answer;
use crate::kinesis::iterator::ShardIterator;
use crate::log::format::{Position, ShardKey};
use crate::log::reader::{Reader, Step};
use crate::observe::counter::Counter;
use std::collections::VecDeque;

/// Frames that one answer looks at before it goes out with what it has: a reader far behind, whose records have expired, comes again.
const FRAMES_MAX: usize = 20_000;

/// Bytes that an answer may read from segments: twice what it returns, and this. One that finds no end of others' records between its own
/// goes out with what it has; the consumer comes again.
const READ_AHEAD_MAX: usize = 1 << 20;

/// Places of damage that are not told again.
const DAMAGE_REMEMBERED: usize = 256;

/// Owner of the tokens of reads.
pub const GET_TOKEN: u8 = 0x47;

/// A GetRecords call at its owner.
pub(super) struct Get {
    pub(super) asker: u16,
    pub(super) to: ConnectionId,
    /// Its floor is not below the horizon.
    pub(super) call: GetCall,
    /// The floor that the iterator had. It alone goes into the next one: the horizon may be earlier by then, after a start that does not
    /// believe the clock.
    pub(super) floor_asked: u64,
    pub(super) reader: Reader,
    pub(super) out: Span,
    pub(super) answer: Answer,
    /// First number that has not been looked at.
    pub(super) next: u64,
    pub(super) bytes: usize,
    pub(super) arrival: u64,
    frames: usize,
    /// Bytes read from segments.
    bytes_read: usize,
    /// Where a read goes, or what the last one brought.
    pub(super) read: Option<Span>,
    /// A read that has no buffer yet, or is in flight.
    wants: Option<Wanted>,
    repair: Repair,
    /// The reader is that of an earlier call: what it finds damaged may have been repaired since.
    resumed: bool,
}

/// Whether damage that a call has met is being repaired from the other half of a mirror; once for each file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    Never,
    UnderWay(FileName),
    Done(FileName),
}

#[derive(Clone, Copy)]
struct Wanted {
    file: FileName,
    at: u64,
    len: u32,
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything durable has been returned.
    CaughtUp,
    /// A limit was met.
    Full,
    /// What comes next is in another part of the shard, on another log; the last record here had arrived by then (µs).
    PartOver(u64),
}

pub struct Gets {
    pub(super) slots: Vec<Option<Get>>,
    free: Vec<usize>,
    /// Calls that wait for a slot, a buffer, or a change of the catalog.
    queue: VecDeque<(u16, ConnectionId, GetCall)>,
    /// Slots whose read waits for a buffer.
    hungry: VecDeque<usize>,
    /// Damage that readers have met and the operator knows of: of frames, and of the tables of runs in footers.
    damage: VecDeque<(FileName, Position)>,
    footers: VecDeque<(FileName, Position)>,
    pub(super) kept: KeptReaders,
}

impl Gets {
    pub fn new(slots: usize) -> Gets {
        Gets {
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            queue: VecDeque::with_capacity(slots * 4),
            hungry: VecDeque::with_capacity(slots),
            damage: VecDeque::new(),
            footers: VecDeque::new(),
            kept: KeptReaders::new(slots),
        }
    }

    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len() + self.queue.len()
    }
}

impl Worker {
    /// A GetRecords request of connection `slot`.
    pub(super) fn get_begin(&mut self, slot: u16, ops: &mut Ops) {
        match self.get_call(slot) {
            Err(error) => self.reply(slot, Reply::error(&error), ops),
            Ok((call, owner)) => {
                let from = self.connections.id(slot);
                if owner == self.id {
                    self.gets.queue.push_back((owner, from, call));
                    self.run_gets(ops);
                } else if self.mail.may_ask(owner, 1) {
                    self.mail.ask(owner, Message::Get { from, call });
                } else {
                    self.reply(slot, Reply::error(&slow_down()), ops);
                }
            }
        }
    }

    fn get_call(&self, slot: u16) -> Result<(GetCall, u16), Error> {
        let encoding = self.connections.slots[slot as usize].encoding;
        let text = self.buffers.bytes(self.body_of(slot));
        let request = crate::kinesis::get_records_request::decode(encoding, text)?;
        let it = ShardIterator::open(request.iterator.as_bytes(), &self.iterator_key, self.now)?;
        let key = ShardKey::new(it.stream, it.shard);
        let state = self.state();
        let stream = state.stream_by_number(it.stream).filter(|s| s.status != StreamStatus::Deleting);
        let Some(stream) = stream else {
            return Err(Error::new(Kind::ResourceNotFound, "The stream of this iterator does not exist any more."));
        };
        if let Some(arn) = &request.arn {
            let named = self.resolve_stream(None, Some(arn))?;
            if named.number != stream.number {
                return Err(Error::new(Kind::InvalidArgument, "StreamARN names another stream than the iterator."));
            }
        }
        let Some(shard) = stream.shards.get(&it.shard) else {
            return Err(crate::kinesis::shard_id::does_not_exist(
                crate::kinesis::shard_id::ShardId(it.shard),
                &stream.name,
                &self.identity,
            ));
        };
        if request.dry_run {
            return Err(Error::new(Kind::DryRunOperation, "Request would have succeeded, but DryRun flag is set."));
        }
        let seen = state.applied;
        // Parts in which everything has expired, or is older than what is wanted, are passed over.
        let part = shard.part_from(it.sequence, it.arrival_floor.max(self.horizon(it.stream)));
        let sequence = it.sequence.max(part.first);
        let (floor, limit) = (it.arrival_floor, request.limit);
        Ok((GetCall { shard: key, log: part.log, sequence, floor, limit, seen, encoding }, self.owner_of(part.log)))
    }

    pub(super) fn get_asked(&mut self, asker: u16, to: ConnectionId, call: GetCall) {
        self.gets.queue.push_back((asker, to, call));
    }

    /// Begins what waits and goes on with what can.
    pub(super) fn run_gets(&mut self, ops: &mut Ops) {
        for _ in 0..self.gets.queue.len() {
            if self.gets.free.is_empty() {
                break;
            }
            let Some((asker, to, call)) = self.gets.queue.pop_front() else { break };
            if self.is_overdue_here(asker, to) {
                continue;
            }
            if self.state().applied < call.seen || !self.get_start(asker, to, call, ops) {
                self.gets.queue.push_back((asker, to, call));
            }
        }
        for _ in 0..self.gets.hungry.len() {
            let Some(slot) = self.gets.hungry.pop_front() else { break };
            self.get_read(slot, ops);
        }
    }

    /// Whether a request of this worker has been given up by its connection. Other workers' are bounded by what they may ask.
    pub(super) fn is_overdue_here(&self, asker: u16, to: ConnectionId) -> bool {
        asker == self.id && !self.connections.awaits(to)
    }

    /// Gives the call a slot and a first buffer; `false`: there is none now.
    fn get_start(&mut self, asker: u16, to: ConnectionId, call: GetCall, ops: &mut Ops) -> bool {
        if self.gets.free.is_empty() {
            return false;
        }
        let Some(out) = self.buffers.take_for(1) else { return false };
        let slot = self.gets.free.pop().expect("looked at above");
        let horizon = self.horizon(call.shard.stream());
        let floor_asked = call.floor;
        let call = GetCall { floor: floor_asked.max(horizon), ..call };
        let (reader, read, resumed) = match self.get_resumed(&call) {
            Some((reader, read)) => (reader, read, true),
            None => (self.get_reader(&call), None, false),
        };
        let answer = Answer::begin(call.encoding, self.buffers.bytes_mut(out));
        let get = Get {
            asker,
            to,
            call,
            floor_asked,
            reader,
            out,
            answer,
            next: call.sequence,
            bytes: 0,
            arrival: 0,
            frames: 0,
            bytes_read: 0,
            read,
            wants: None,
            repair: Repair::Never,
            resumed,
        };
        self.gets.slots[slot] = Some(get);
        self.get_go_on(slot, ops);
        true
    }

    /// A reader that starts where everything has expired is taken to the first run that may hold something newer.
    fn get_reader(&self, call: &GetCall) -> Reader {
        let begins = self.shard_of_get(call).is_some_and(|shard| begins_on_log(shard, call));
        match call.floor > 0 && begins {
            true => Reader::at_arrival(call.shard, call.floor),
            false => Reader::new(call.shard, call.sequence),
        }
    }

    /// What a half of a mirror had lost is there again, or is lost on both: whoever met it looks again.
    pub(super) fn get_repaired(&mut self, file: FileName, ops: &mut Ops) {
        for slot in 0..self.gets.slots.len() {
            let Some(get) = self.gets.slots[slot].as_ref().filter(|get| get.repair == Repair::UnderWay(file)) else {
                continue;
            };
            let reader = match get.next == get.call.sequence {
                true => self.get_reader(&get.call),
                false => Reader::new(get.call.shard, get.next),
            };
            let get = self.gets.slots[slot].as_mut().expect("looked at above");
            (get.reader, get.repair) = (reader, Repair::Done(file));
            self.get_go_on(slot, ops);
        }
    }

    /// Encodes frames until there are no more, a limit is met, or a read is needed.
    fn get_go_on(&mut self, slot: usize, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_ref().expect("a call under way");
        let Some(shard) = self.shard_of_get(&get.call) else {
            let error = Error::new(Kind::ResourceNotFound, "The shard does not exist any more.");
            return self.get_fail(slot, error, ops);
        };
        // This worker may know of moves that the asker did not, and of those since the last read: the catalog says what is read here.
        let part = shard.part_of(get.next);
        let Some(log) = self.log_index(part.log).filter(|_| part.log == get.call.log) else {
            return self.get_finish(slot, End::PartOver(part.arrival), ops);
        };
        loop {
            let get = self.gets.slots[slot].as_mut().expect("a call under way");
            match get.reader.next(&self.logs[log], &self.buffers) {
                Step::End if part.is_former() => return self.get_part_over(slot, part, ops),
                Step::End => return self.get_finish(slot, End::CaughtUp, ops),
                Step::Frame { header, .. } if header.sequence > part.last => {
                    return self.get_part_over(slot, part, ops);
                }
                Step::Frame { header, body, .. } => {
                    get.frames += 1;
                    if !self.get_encode(slot, &header, body)
                        || self.gets.slots[slot].as_ref().is_some_and(|g| g.frames >= FRAMES_MAX)
                    {
                        return self.get_finish(slot, End::Full, ops);
                    }
                }
                Step::Read { file, at, len } => {
                    let most = 2 * get.bytes + READ_AHEAD_MAX;
                    if get.answer.records() > 0 && get.bytes_read + len as usize > most {
                        return self.get_finish(slot, End::Full, ops);
                    }
                    get.bytes_read += len as usize;
                    get.wants = Some(Wanted { file, at, len });
                    return self.get_read(slot, ops);
                }
                Step::Damaged { .. } if std::mem::take(&mut get.resumed) => {
                    get.reader = Reader::new(get.call.shard, get.next);
                }
                // Told to the operator; what lies behind is not kept from the consumer, as it is not after a restart.
                Step::Damaged { file, position, why } => {
                    let repair = get.repair;
                    if repair != Repair::Done(file) && self.repair_from_other_half(file) {
                        let get = self.gets.slots[slot].as_mut().expect("a call under way");
                        get.repair = Repair::UnderWay(file);
                        // It may be what the repair needs.
                        let read = get.read.take().map(|span| self.buffers.whole(span.pool, span.slot));
                        return read.into_iter().for_each(|span| self.buffers.give(span));
                    }
                    let get = self.gets.slots[slot].as_mut().expect("a call under way");
                    get.next = get.next.max(get.reader.sequence());
                    self.tell_damage(file, position, why);
                }
                Step::PassedOver { file, position, why } => self.tell_passed_over(file, position, why),
            }
        }
    }

    /// The shard, as this worker's catalog has it; `None` when it is gone for readers.
    pub(super) fn shard_of_get(&self, call: &GetCall) -> Option<&Shard> {
        let stream = self.state().stream_by_number(call.shard.stream())?;
        stream.shards.get(&call.shard.shard()).filter(|_| stream.status != StreamStatus::Deleting)
    }

    /// Nothing more is in this part, of which nothing will come either.
    fn get_part_over(&mut self, slot: usize, part: Part, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        get.next = get.next.max(part.last + 1);
        self.get_finish(slot, End::PartOver(part.arrival), ops);
    }

    /// Once for each place, as far as they are remembered: every reader that passes meets it again.
    fn tell_damage(&mut self, file: FileName, position: Position, why: String) {
        if is_news(&mut self.gets.damage, (file, position)) {
            self.counters.add(Counter::Damaged, 1);
            self.tell_operator(Notice::DamageRead { file, position: position.0, why });
        }
    }

    /// Counted each time, told once for each segment, as far as they are remembered.
    fn tell_passed_over(&mut self, file: FileName, position: Position, why: String) {
        self.counters.add(Counter::FootersPassedOver, 1);
        if is_news(&mut self.gets.footers, (file, position)) {
            self.tell_operator(Notice::FooterPassedOver { file, position: position.0, why });
        }
    }

    /// Emits the read that the call wants, as soon as there is a buffer for it.
    fn get_read(&mut self, slot: usize, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let Some(wanted) = get.wants else { return };
        if get.read.is_none_or(|span| self.buffers.slot_size(span.pool) < wanted.len) {
            get.read.take().into_iter().for_each(|span| self.buffers.give(self.buffers.whole(span.pool, span.slot)));
            let pools = [Pool::Medium, Pool::Large];
            let fits = |b: &crate::io::buffers::Buffers, pool| b.slot_size(pool) >= wanted.len;
            get.read = pools.into_iter().find_map(|pool| fits(&self.buffers, pool).then(|| self.buffers.take(pool))?);
        }
        let Some(span) = get.read else { return self.gets.hungry.push_back(slot) };
        self.counters.add(Counter::ColdReads, 1);
        self.counters.add(Counter::ColdReadBytes, wanted.len as u64);
        let token = Token((GET_TOKEN as u64) << 56 | slot as u64);
        ops.push(Op::ReadAt { file: wanted.file, at: wanted.at, into: span.first(wanted.len), token });
    }

    pub(super) fn on_get_read(&mut self, token: Token, result: Result<u32, Errno>, ops: &mut Ops) {
        let slot = (token.0 & 0xffff) as usize;
        let get = self.gets.slots[slot].as_mut().expect("its read was in flight");
        let wanted = get.wants.take().expect("it wanted the read");
        match result {
            Ok(bytes) => {
                get.reader.filled(get.read.expect("read into").first(wanted.len), bytes);
                self.get_go_on(slot, ops);
            }
            Err(errno) if get.reader.failed(errno) => self.get_go_on(slot, ops),
            Err(errno) => {
                let text = format!("A segment could not be read ({errno}).");
                self.get_fail(slot, Error::new(Kind::InternalFailure, text), ops);
            }
        }
    }

    fn get_fail(&mut self, slot: usize, error: Error, ops: &mut Ops) {
        let get = self.get_end(slot);
        self.buffers.give(get.out);
        self.get_answer(get.asker, get.to, Err(Box::new(error)), ops);
    }

    /// Frees the slot and the read buffer; the answer's buffer is the caller's.
    pub(super) fn get_end(&mut self, slot: usize) -> Get {
        let get = self.gets.slots[slot].take().expect("a call under way");
        get.read.into_iter().for_each(|span| self.buffers.give(span));
        self.gets.free.push(slot);
        get
    }

    /// Records of the stream that arrived before this (µs) have expired.
    pub(super) fn horizon(&self, stream: u32) -> u64 {
        let Some(stream) = self.state().stream_by_number(stream) else { return 0 };
        let Wall(now) = self.retention.now();
        now.saturating_sub(stream.retention_hours as u64 * self.retention_hour as u64 * 1_000_000)
    }
}

/// Whether the call begins where the records of the shard on its log begin, those of an earlier stay there not counted.
fn begins_on_log(shard: &Shard, call: &GetCall) -> bool {
    let mut here = shard.parts().filter(|part| part.log == call.log);
    here.next().is_some_and(|part| call.sequence <= part.first.max(1))
}

/// Whether a place is not among those remembered; it is from now on, in the stead of the oldest.
fn is_news(remembered: &mut VecDeque<(FileName, Position)>, place: (FileName, Position)) -> bool {
    let news = !remembered.contains(&place);
    if news {
        remembered.truncate(DAMAGE_REMEMBERED - 1);
        remembered.push_front(place);
    }
    news
}

fn slow_down() -> Error {
    Error::new(Kind::ProvisionedThroughputExceeded, "The shard's worker has too many requests waiting; try again.")
}

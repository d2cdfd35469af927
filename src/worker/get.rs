//! GetRecords: asked at the worker with the connection, answered by the one that has the log with the numbers wanted.
//!
//! That worker encodes the answer's body into a buffer and lends it; the asker sends it from there. Frames come from log memory, or from reads of
//! segments into a buffer, checked in both cases by the log's reader.
//!
//! A shard that was moved has parts on several logs (`catalog/moving.rs`). An answer is about one of them; where that ends, the answer does, and
//! its iterator goes on with the next number, which is in the next part.

use super::Worker;
use super::ahead::{Ahead, Aheads, Wanted};
use super::event::Event;
use super::get_answer::Made;
use super::mailbox::{ConnectionId, GetCall, Message};
use super::notice::Notice;
use super::serve::Reply;
use crate::auth::ask::Resource;
use crate::catalog::moving::Part;
use crate::catalog::state::{Shard, StreamStatus};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Wall;
use crate::io::op::{Errno, FileName, Op, Ops, Token};
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::event_stream::EVENT_PAYLOAD_AT;
use crate::kinesis::iterator::ShardIterator;
use crate::limits::GET_BYTES_MAX;
use crate::log::format::{Position, ShardKey};
use crate::log::reader::{Asked, Reader, Step};
use crate::observe::counter::Counter;
use std::collections::VecDeque;

/// Frames that one answer looks at before it goes out with what it has: a reader far behind, whose records have expired, comes again.
const FRAMES_MAX: usize = 20_000;

/// Bytes that an answer may read from segments: twice what it returns, and this. One that finds no end of others' records between its own
/// goes out with what it has; the consumer comes again.
const READ_BESIDE_MAX: usize = 1 << 20;

/// Places of damage that are not told again.
const DAMAGE_REMEMBERED: usize = 256;

/// Owner of the tokens of reads.
pub const GET_TOKEN: u8 = 0x47;

/// A GetRecords call at its owner, or an event of subscriptions, which is made in the same way.
pub(super) struct Get {
    pub(super) asker: u16,
    pub(super) to: ConnectionId,
    pub(super) event: Option<Event>,
    /// Its floor is not below the horizon.
    pub(super) call: GetCall,
    /// The floor that the iterator had. It alone goes into the next one: the horizon may be earlier by then, after a start that does not
    /// believe the clock.
    pub(super) floor_asked: u64,
    pub(super) reader: Reader,
    pub(super) out: Span,
    pub(super) made: Made,
    /// First number that has not been looked at.
    pub(super) next: u64,
    pub(super) bytes: usize,
    /// Most of them, unless the first record is larger. Of an event the bytes that are sent count, which fit one buffer.
    pub(super) bytes_max: usize,
    /// Of its last record (µs), and of its first.
    pub(super) arrival: u64,
    pub(super) first_arrival: u64,
    frames: usize,
    /// Bytes read from segments.
    bytes_read: usize,
    /// Where a read goes, or what the last one brought.
    pub(super) read: Option<Span>,
    /// A read that has no buffer yet, or is in flight.
    wants: Option<Asked>,
    /// The one behind it.
    pub(super) ahead: Option<Ahead>,
    repair: Repair,
    /// The consumer has come back for what follows.
    pub(super) follows: bool,
    /// The reader is that of an earlier call: what it finds damaged may have been repaired since.
    is_old: bool,
}

impl Get {
    /// Whether what was read last will not be all: for this call, or for the next one of a consumer that comes back.
    pub(super) fn needs_more(&self) -> bool {
        let records = self.made.records() as usize;
        let (bytes, more) = (self.bytes.max(1), self.reader.bytes_read());
        let fits = bytes + more < self.bytes_max && records * (bytes + more) / bytes < self.call.limit as usize;
        self.follows || records > 0 && fits
    }
}

/// Whether damage that a call has met is being repaired from the other half of a mirror; once for each file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    Never,
    UnderWay(FileName),
    Done(FileName),
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
    /// Slots that go on in the next turn, when what this one asks for is on its way; and those that do in this one.
    fed: VecDeque<usize>,
    ready: VecDeque<usize>,
    pub(super) aheads: Aheads,
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
            fed: VecDeque::with_capacity(slots),
            ready: VecDeque::with_capacity(slots),
            aheads: Aheads::new(slots),
        }
    }

    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len() + self.queue.len() + self.aheads.in_flight()
    }

    /// Whether another call can begin.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether something is being made of this shard for who waits for it.
    pub(super) fn makes_events_of(&self, shard: ShardKey) -> bool {
        self.slots.iter().flatten().any(|get| get.event.is_some() && get.call.shard == shard)
    }

    /// Whether somebody waits for a buffer to read into.
    pub(super) fn is_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// Whether there is something to do in the next turn, whatever completes.
    pub fn goes_on(&self) -> bool {
        !self.ready.is_empty() || !self.fed.is_empty()
    }
}

impl Worker {
    /// A GetRecords request of connection `slot`.
    pub(super) fn get_begin(&mut self, slot: u16, ops: &mut Ops) {
        let call = self.get_call(slot);
        self.body_is_read(slot);
        match call {
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
        self.authorize(slot, "kinesis:GetRecords", Resource::Stream(&stream.name))?;
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

    /// A turn's part: what the last one left, and what waits.
    pub(super) fn gets_turn(&mut self, ops: &mut Ops) {
        while let Some(slot) = self.gets.ready.pop_front() {
            self.get_go_on(slot, ops);
        }
        self.run_gets(ops);
        let Gets { ready, fed, .. } = &mut self.gets;
        std::mem::swap(ready, fed);
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
        self.get_place(asker, to, call, out, None, ops);
        true
    }

    /// Begins a call in a free slot, of which there is one, with its first buffer.
    pub(super) fn get_place(
        &mut self,
        asker: u16,
        to: ConnectionId,
        call: GetCall,
        out: Span,
        event: Option<Event>,
        ops: &mut Ops,
    ) {
        let slot = self.gets.free.pop().expect("the caller has looked");
        let horizon = self.horizon(call.shard.stream());
        let floor_asked = call.floor;
        let call = GetCall { floor: floor_asked.max(horizon), ..call };
        let resumed = self.get_resumed(&call, slot);
        let follows = resumed.is_some();
        let (reader, read, ahead) = resumed.unwrap_or_else(|| (self.get_reader(&call), None, None));
        let medium = self.buffers.slot_size(Pool::Medium) as usize;
        let bytes = self.buffers.bytes_mut(out);
        let (made, bytes_max) = match &event {
            Some(Event { bytes: Some(most), .. }) => (Made::Frames(0, 0), medium.min(*most as usize)),
            Some(_) => (Made::records_at(call.encoding, bytes, EVENT_PAYLOAD_AT), medium),
            None => (Made::records_at(call.encoding, bytes, 0), GET_BYTES_MAX),
        };
        let get = Get {
            asker,
            to,
            event,
            call,
            floor_asked,
            reader,
            out,
            made,
            next: call.sequence,
            bytes: 0,
            bytes_max,
            arrival: 0,
            first_arrival: 0,
            frames: 0,
            bytes_read: 0,
            read,
            wants: None,
            ahead,
            repair: Repair::Never,
            follows,
            is_old: follows,
        };
        self.gets.slots[slot] = Some(get);
        self.get_fed(slot, ops);
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
                Step::Read { len, .. } => {
                    let most = 2 * get.bytes + READ_BESIDE_MAX;
                    let (records, much) = (get.made.records(), get.bytes_read + len as usize > most);
                    if records > 0 && much || records >= get.call.limit {
                        return self.get_finish(slot, End::Full, ops);
                    }
                    get.bytes_read += len as usize;
                    get.wants = get.reader.asked();
                    return self.get_read(slot, ops);
                }
                Step::Damaged { .. } if std::mem::take(&mut get.is_old) => {
                    get.reader = Reader::new(get.call.shard, get.next);
                    let ahead = get.ahead.take();
                    self.drop_ahead(ahead);
                }
                // Told to the operator; what lies behind is not kept from the consumer, as it is not after a restart.
                Step::Damaged { file, position, why } => {
                    if get.repair != Repair::Done(file) && self.repair_from_other_half(file) {
                        return self.get_waits_for_repair(slot, file);
                    }
                    self.tell_damage(file, position, why);
                    let get = self.gets.slots[slot].as_mut().expect("a call under way");
                    if matches!(get.made, Made::Frames(..)) {
                        return self.frames_damaged(slot, ops);
                    }
                    get.next = get.next.max(get.reader.sequence());
                }
                Step::PassedOver { file, position, why } => self.tell_passed_over(file, position, why),
            }
        }
    }

    /// Its buffers may be what the repair needs.
    fn get_waits_for_repair(&mut self, slot: usize, file: FileName) {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        get.repair = Repair::UnderWay(file);
        let (read, ahead) = (get.read.take(), get.ahead.take());
        read.into_iter().for_each(|span| self.buffers.give(span));
        self.drop_ahead(ahead);
    }

    /// Goes on with what was read last: at once, or when the read behind it is on its way.
    fn get_fed(&mut self, slot: usize, ops: &mut Ops) {
        match self.get_look_ahead(slot, ops) {
            true => self.gets.fed.push_back(slot),
            false => self.get_go_on(slot, ops),
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

    /// Takes the read that the call wants, if any, from what was read ahead; else emits it, as soon as there is a buffer for it.
    pub(super) fn get_read(&mut self, slot: usize, ops: &mut Ops) {
        let Some(wanted) = self.gets.slots[slot].as_ref().expect("a call under way").wants else { return };
        let ahead = self.get_from_ahead(slot, wanted);
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        match ahead {
            Wanted::OnItsWay => return,
            Wanted::Here(bytes) => {
                self.count_read(wanted.len);
                return self.get_has_read(slot, Ok(bytes), ops);
            }
            Wanted::NotYet => {}
        }
        if get.read.is_none_or(|span| self.buffers.slot_size(span.pool) < wanted.len) {
            get.read.take().into_iter().for_each(|span| self.buffers.give(span));
            let pools = [Pool::Medium, Pool::Large];
            let fits = |b: &crate::io::buffers::Buffers, pool| b.slot_size(pool) >= wanted.len;
            get.read = pools.into_iter().find_map(|pool| fits(&self.buffers, pool).then(|| self.buffers.take(pool))?);
        }
        let Some(span) = get.read else {
            // What it holds may be what others wait for, so it waits only where it has nothing to answer with.
            if get.made.records() > 0 {
                get.wants = None;
                return self.get_finish(slot, End::Full, ops);
            }
            return self.gets.hungry.push_back(slot);
        };
        // A call that has waited, for a buffer or for a read ahead that has failed: the segment may have gone.
        let log = self.logs.iter().find(|log| log.settings().number == get.call.log);
        if log.is_none_or(|log| get.reader.asks_in_vain(log)) {
            get.wants = None;
            return self.get_go_on(slot, ops);
        }
        self.count_read(wanted.len);
        let token = Token((GET_TOKEN as u64) << 56 | slot as u64);
        ops.push(Op::ReadAt { file: wanted.file, at: wanted.at as u64, into: span.first(wanted.len), token });
    }

    fn count_read(&self, bytes: u32) {
        self.counters.add(Counter::ColdReads, 1);
        self.counters.add(Counter::ColdReadBytes, bytes as u64);
    }

    pub(super) fn on_get_read(&mut self, token: Token, result: Result<u32, Errno>, ops: &mut Ops) {
        if !self.is_read_ahead(token, result, ops) {
            self.get_has_read((token.0 & 0xffff) as usize, result, ops);
        }
    }

    /// The read that the call wants has come into its buffer, or has failed.
    fn get_has_read(&mut self, slot: usize, result: Result<u32, Errno>, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_mut().expect("its read was in flight");
        let wanted = get.wants.take().expect("it wanted the read");
        match result {
            Ok(bytes) => {
                get.reader.filled(get.read.expect("read into").first(wanted.len), bytes);
                self.get_fed(slot, ops);
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
        match get.event {
            Some(event) => self.event_failed(event, &error, ops),
            None => self.get_answer(get.asker, get.to, Err(Box::new(error)), ops),
        }
    }

    /// Frees the slot and the read buffer; the answer's buffer is the caller's.
    pub(super) fn get_end(&mut self, slot: usize) -> Get {
        let mut get = self.gets.slots[slot].take().expect("a call under way");
        get.read.into_iter().for_each(|span| self.buffers.give(span));
        self.drop_ahead(get.ahead.take());
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

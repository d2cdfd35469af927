//! The answer of a GetRecords call: records are encoded into its buffer, frame by frame, and the end says how the consumer goes on.

use super::Worker;
use super::get::End;
use super::mailbox::{ConnectionId, Message};
use super::serve::Reply;
use crate::catalog::state::Shard;
use crate::io::buffers::Span;
use crate::io::clock::Wall;
use crate::io::op::Ops;
use crate::kinesis::error::Error;
use crate::kinesis::get_records::{Answer, ChildShard, Next, size_max};
use crate::kinesis::iterator::{ShardIterator, TOKEN_LEN};
use crate::kinesis::object::Encoding;
use crate::kinesis::sequence::{Run, SequenceNumber};
use crate::log::format::{self, FrameHeader};
use crate::observe::counter::Counter;

/// What a call has come to so far.
pub(super) enum Made {
    /// Records, encoded.
    Records(Answer),
    /// Whole frames as they are stored: their bytes, and records in them.
    Frames(u32, u32),
}

impl Made {
    /// Records that are encoded from byte `at` of `out` on.
    pub(super) fn records_at(encoding: Encoding, out: &mut [u8], at: usize) -> Made {
        Made::Records(Answer::begin(encoding, out, at))
    }

    pub(super) fn records(&self) -> u32 {
        match self {
            Made::Records(answer) => answer.records(),
            Made::Frames(_, records) => *records,
        }
    }

    /// Bytes of its buffer that are written.
    pub(super) fn len(&self) -> usize {
        match self {
            Made::Records(answer) => answer.len(),
            Made::Frames(bytes, _) => *bytes as usize,
        }
    }

    /// The answer to a call that wants records.
    pub(super) fn answer(&mut self) -> &mut Answer {
        match self {
            Made::Records(answer) => answer,
            Made::Frames(..) => unreachable!("frames are not encoded"),
        }
    }
}

/// Room that the end of an answer may need: iterator, lag, child shards of a split or merge.
const TAIL_MAX: usize = 2048;

impl Worker {
    /// Appends the records of a frame to the answer; `false`: a limit was met.
    pub(super) fn get_encode(&mut self, slot: usize, header: &FrameHeader, body: Span) -> bool {
        let get = self.gets.slots[slot].as_ref().expect("a call under way");
        if matches!(get.made, Made::Frames(..)) {
            return self.frames_gather(slot, header, body);
        }
        let created = self.state().shard(get.call.shard).map_or(0, |shard| shard.created);
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        if header.next() <= get.next {
            return true;
        }
        let mut ordinal = get.next.saturating_sub(header.sequence) as u32;
        let first = SequenceNumber {
            created,
            shard: get.call.shard.shard(),
            number: header.sequence,
            at: header.arrival / 1_000_000,
        };
        let mut run = Run::new(first);
        while ordinal < header.count {
            let get = self.gets.slots[slot].as_mut().expect("a call under way");
            let (bytes, out) = self.buffers.pair(body, get.out);
            let records =
                format::records(bytes, header.count).expect("the reader has checked the frame").after(ordinal);
            let mut need = 0;
            for record in records {
                let arrival = header.arrival + record.arrival_delta as u64;
                let size = record.key.map_or(0, <[u8]>::len) + record.data.len();
                if arrival < get.call.floor {
                    get.next = header.sequence + record.ordinal as u64 + 1;
                    ordinal = record.ordinal + 1;
                    continue;
                }
                if get.made.records() >= get.call.limit || get.bytes > 0 && get.bytes + size > get.bytes_max {
                    return false;
                }
                let room = size_max(record.key.map_or(0, <[u8]>::len), record.data.len());
                let shares = get.event.is_some() && get.made.records() > 0;
                let end = if shares { out.len().min(get.bytes_max) } else { out.len() };
                if get.made.len() + room + TAIL_MAX > end {
                    need = get.made.len() + room + TAIL_MAX;
                    break;
                }
                let number = header.sequence + record.ordinal as u64;
                let at = arrival / 1_000_000;
                if run.first.at != at {
                    run = Run::new(SequenceNumber { at, ..first });
                }
                get.made.answer().push(out, &run, record.ordinal, Wall(arrival), record.key, record.data);
                get.bytes += size;
                if get.first_arrival == 0 {
                    get.first_arrival = arrival;
                }
                get.arrival = arrival;
                get.next = number + 1;
                ordinal = record.ordinal + 1;
            }
            if need == 0 {
                break;
            }
            if !self.get_grow(slot, need) {
                return false;
            }
        }
        true
    }

    /// Moves the answer to a buffer of at least `need` bytes; `false`: there is none, so the answer ends here.
    pub(super) fn get_grow(&mut self, slot: usize, need: usize) -> bool {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let need = need.max(get.out.len as usize + 1);
        let larger = match (&get.event, get.made.records()) {
            (Some(_), records) => self.event_grow(need, records),
            (None, _) => self.buffers.take_for(need),
        };
        let Some(larger) = larger else { return false };
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let used = get.made.len() as u32;
        let (from, to) = self.buffers.pair(get.out.first(used), larger.first(used));
        to.copy_from_slice(from);
        self.buffers.give(std::mem::replace(&mut get.out, larger));
        true
    }

    /// How far behind the newest record an answer is, in ms.
    pub(super) fn get_behind(&self, slot: usize, end: End) -> u64 {
        let get = self.gets.slots[slot].as_ref().expect("a call under way");
        match end {
            End::CaughtUp => 0,
            // Whether there is something is known there; 0 would say that there is nothing.
            End::PartOver(arrival) => {
                let newest = if get.arrival == 0 { arrival } else { get.arrival };
                (self.now.wall.0.saturating_sub(newest) / 1000).max(1)
            }
            End::Full if get.arrival == 0 => self.now.wall.0.saturating_sub(get.call.floor) / 1000,
            End::Full => self.now.wall.0.saturating_sub(get.arrival) / 1000,
        }
    }

    pub(super) fn get_finish(&mut self, slot: usize, end: End, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_ref().expect("a call under way");
        if get.event.is_some() {
            return self.event_finish(slot, end, ops);
        }
        let key = get.call.shard;
        let closed = self.shard_of_get(&get.call).is_some_and(Shard::is_closed);
        let behind = self.get_behind(slot, end);
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let mut token = [0u8; TOKEN_LEN];
        let next = (!(closed && end == End::CaughtUp)).then(|| {
            self.nonce += 1;
            let floor = if get.made.records() > 0 { 0 } else { get.floor_asked };
            let it = ShardIterator {
                stream: key.stream(),
                shard: key.shard(),
                sequence: get.next,
                arrival_floor: floor,
                issued: self.now,
                nonce: self.nonce,
            };
            it.seal(&self.iterator_key, &mut token);
            std::str::from_utf8(&token).expect("tokens are ASCII")
        });
        let stream = self.state().stream_by_number(key.stream());
        let children: Vec<ChildShard> = match (next, stream) {
            (None, Some(stream)) => stream.children(key.shard()).map(ChildShard::of).collect(),
            _ => Vec::new(),
        };
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let out = self.buffers.bytes_mut(get.out);
        let len = get.made.answer().finish(out, next.map_or(Next::Nothing, Next::Iterator), behind, &children);
        self.counters.add(Counter::RecordsRead, get.made.records() as u64);
        self.counters.add(Counter::BytesRead, get.bytes as u64);
        if end == End::Full {
            self.get_keep(slot, ops);
        }
        let get = self.get_end(slot);
        self.get_answer(get.asker, get.to, Ok(get.out.first(len as u32)), ops);
    }

    pub(super) fn get_answer(&mut self, asker: u16, to: ConnectionId, result: Result<Span, Box<Error>>, ops: &mut Ops) {
        match asker == self.id {
            true => self.got(to, result, ops),
            false => self.mail.answer(asker, Message::Got { to, result }),
        }
    }

    /// The owner's answer for a connection of this worker.
    pub(super) fn got(&mut self, to: ConnectionId, result: Result<Span, Box<Error>>, ops: &mut Ops) {
        match (result, self.connections.awaits(to)) {
            (Ok(span), true) => self.reply(to.slot, Reply::span(span), ops),
            (Ok(span), false) => self.release(span),
            (Err(error), true) => self.reply(to.slot, Reply::error(&error), ops),
            (Err(_), false) => {}
        }
    }
}

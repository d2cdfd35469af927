//! An event of SubscribeToShard: made like an answer of GetRecords, for one or several subscriptions, in a frame.

use super::Worker;
use super::fanout::Outcome;
use super::get::End;
use super::get_answer::Made;
use super::mailbox::{ConnectionId, GetCall};
use super::native_read::ReaderId;
use super::registrar::SubscriptionId;
use crate::catalog::state::Shard;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::event_stream::close_event;
use crate::kinesis::get_records::{ChildShard, Next};
use crate::kinesis::sequence::{DIGITS, SequenceNumber};
use crate::observe::counter::Counter;

/// Who wants what comes next of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Subscription(SubscriptionId),
    Reader(ReaderId),
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// An event, as soon as there is one.
    Event,
    /// Frames, as soon as there are some.
    Frames,
    /// Frames, as far as there are some now.
    FramesNow,
    /// Word that there are some: no memory is taken for one that watches.
    Watch,
}

/// Who an event, or what was made instead, is for.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    pub worker: u16,
    pub who: Who,
    pub mode: Mode,
    /// Of frames: what it may have of them, but at least one.
    pub bytes: u32,
    pub records: u32,
    /// When it asked.
    pub since: Mono,
}

/// What makes an answer an event.
pub(super) struct Event {
    pub takers: Vec<Taker>,
    /// It is sent without a record as well.
    pub due: bool,
    /// Frames are wanted, of so many bytes.
    pub bytes: Option<u32>,
}

impl Worker {
    /// Begins an event for `event.takers`, in `out`; there is a slot for it.
    pub(super) fn event_begin(&mut self, call: GetCall, event: Event, out: Span, ops: &mut Ops) {
        // Its connection is each taker's own.
        let nobody = ConnectionId { slot: u16::MAX, generation: 0 };
        self.get_place(self.id, nobody, call, out, Some(event), ops);
    }

    /// A larger buffer for an event that has `records` records and needs `need` bytes. Only a record that is larger than that by itself gets
    /// one of the largest: an event of many ends before.
    pub(super) fn event_grow(&mut self, need: usize, records: u32) -> Option<Span> {
        let fits = |worker: &Worker, pool| worker.buffers.slot_size(pool) as usize >= need;
        if fits(self, Pool::Medium) {
            return self.event_buffer_of(Pool::Medium);
        }
        (records == 0 && fits(self, Pool::Large)).then(|| self.event_buffer_of(Pool::Large)).flatten()
    }

    /// What was to be an event has come to an end.
    pub(super) fn event_finish(&mut self, slot: usize, end: End, ops: &mut Ops) {
        let behind = self.get_behind(slot, end);
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        if matches!(get.made, Made::Frames(..)) {
            return self.frames_finish(slot, end, ops);
        }
        let event = get.event.take().expect("it is an event");
        let (key, records, next) = (get.call.shard, get.made.records(), get.next);
        let stands = next == get.call.sequence;
        let again = GetCall { sequence: next, floor: get.floor_asked, ..get.call };
        let (arrival, since, caught_up) = (get.arrival, get.first_arrival, end == End::CaughtUp);
        let shard = self.shard_of_get(&again);
        let ends = end == End::CaughtUp && shard.is_some_and(Shard::is_closed);
        let created = shard.map_or(0, |shard| shard.created);
        if records == 0 && !ends {
            let moved = matches!(end, End::PartOver(_));
            let starved = end == End::Full && stands;
            if moved || starved || end == End::CaughtUp && !event.due {
                let get = self.get_end(slot);
                self.buffers.give(get.out);
                if moved {
                    let change = self.state().applied;
                    for taker in event.takers {
                        self.deliver(taker.worker, taker.who, Outcome::Moved { change, next }, ops);
                    }
                    return;
                }
                return self.pulls_wait(&again, event.takers, starved);
            }
        }
        // Behind the last number that was looked at; without a record its time is now, so that each differs from the one before.
        let at = if records > 0 { arrival / 1_000_000 } else { self.now.wall.seconds() };
        let mut continuation = [0; DIGITS];
        SequenceNumber { created, shard: key.shard(), number: next.max(1) - 1, at }.write(&mut continuation);
        let stream = self.state().stream_by_number(key.stream()).filter(|_| ends);
        let children: Vec<ChildShard> =
            stream.into_iter().flat_map(|stream| stream.children(key.shard())).map(ChildShard::of).collect();
        let goes_on = if ends { Next::Nothing } else { Next::Continuation(&continuation) };
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let out = self.buffers.bytes_mut(get.out);
        let payload_end = get.made.answer().finish(out, goes_on, behind, &children);
        let len = close_event(out, payload_end);
        if end == End::Full {
            self.get_keep(slot, ops);
        }
        let get = self.get_end(slot);
        let span = get.out.first(len as u32);
        self.counters.add(Counter::EventsEncoded, 1);
        self.fanout.lend(span, event.takers.len());
        for taker in event.takers {
            let outcome = Outcome::Event { span, records, next, caught_up, ends, since };
            self.deliver(taker.worker, taker.who, outcome, ops);
        }
    }

    /// What was to be an event cannot be made.
    pub(super) fn event_failed(&mut self, event: Event, error: &Error, ops: &mut Ops) {
        for taker in event.takers {
            let outcome = match error.kind {
                Kind::ResourceNotFound => Outcome::Gone,
                _ => Outcome::Failed(error.message.clone()),
            };
            self.deliver(taker.worker, taker.who, outcome, ops);
        }
    }
}

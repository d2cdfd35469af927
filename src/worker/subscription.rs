//! Subscriptions at the worker that has their connections: position, what is sent, and the end.
//!
//! One event is on its way to the client at most, and one lies behind it; only when that one has gone is the next asked for. A subscriber that
//! does not read holds these two and its position.

use super::Worker;
use super::event::{Mode, Who};
use super::fanout::{Letter, Outcome, Pull};
use super::registrar::{Claim, SubscriptionId};
use crate::catalog::state::StreamStatus;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Op, Ops, Socket};
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::event_stream::{LAST_CHUNK, exception_chunk, write_chunk_size};
use crate::kinesis::subscribe_to_shard::SubscribeToShard;
use crate::limits::Limits;
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;

/// How long its last bytes may take.
const LAST_MS: u64 = 60_000;
/// The same when the server stops, or when others wait for its memory.
const HASTE_MS: u64 = 2_000;
/// Behind the size of a chunk that is sent from a lent buffer.
const CHUNK_SIZE_MAX: u32 = 18;

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its first number is asked for, or whether it may begin.
    Asking,
    /// Its answer has begun.
    Streaming,
    /// The end of the stream is on its way.
    Ending,
}

/// An event that has come and has not been sent.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    span: Span,
    records: u32,
    /// When its first record arrived (µs), where the subscriber had all before it.
    live_since: Option<u64>,
}

/// What a stream ends with, and what that counts as.
#[derive(Clone, Debug)]
pub(super) struct Last {
    error: Option<Error>,
    counts: Counter,
}

/// A subscription.
pub(super) struct Subscription {
    pub number: u64,
    pub request: SubscribeToShard,
    pub claim: Claim,
    pub stage: Stage,
    /// The first number that has not been asked for with success, and the time (µs) before which records are not wanted.
    pub next: u64,
    pub floor: u64,
    /// The end of its life, once it has begun.
    pub ends: Mono,
    /// It has asked for an event.
    pulls: bool,
    /// It asks again when this change of the catalog has been applied here.
    waits: Option<u64>,
    queued: Option<Arrived>,
    /// It has been given all that was durable; what is on its way arrived then (µs).
    caught_up: bool,
    live_since: Option<u64>,
    /// Since when something has been on its way.
    pub sending: Option<Mono>,
    last: Option<Last>,
}

impl Subscription {
    pub fn new(number: u64, request: SubscribeToShard, claim: Claim) -> Subscription {
        Subscription {
            number,
            request,
            claim,
            stage: Stage::Asking,
            next: 0,
            floor: 0,
            ends: Mono(u64::MAX),
            pulls: false,
            waits: None,
            queued: None,
            caught_up: false,
            live_since: None,
            sending: None,
            last: None,
        }
    }
}

/// Those of a worker, by the slot of their connection.
pub(super) struct Subscriptions {
    pub slots: Vec<Option<Box<Subscription>>>,
    pub open: usize,
    /// Of those the ones over streams of HTTP/2.
    over_streams: usize,
    limits: Limits,
    pub numbered: u64,
    /// Those that wait for a change of the catalog.
    moved: Vec<SubscriptionId>,
}

impl Subscriptions {
    /// A place for each socket, streams of HTTP/2 among them.
    pub fn new(limits: &Limits) -> Subscriptions {
        let slots = (0..limits.sockets()).map(|_| None).collect();
        Subscriptions { slots, open: 0, over_streams: 0, limits: *limits, numbered: 0, moved: Vec::new() }
    }

    /// Whether the connection in `slot` may have one. Of the ring's sockets that carry no streams, and of the streams, some stay free of
    /// them, so that there is one to say that there are no more.
    pub fn has_room(&self, slot: u16, carriers: usize) -> bool {
        let (of_kind, held) = match slot >= self.limits.connections {
            true => (self.limits.streams as usize, self.over_streams),
            false => (self.limits.connections as usize, self.open - self.over_streams + carriers),
        };
        self.open < self.limits.subscriptions && held + of_kind / 16 + 1 < of_kind
    }

    /// Counts the one of `slot`, which begins or is over.
    pub fn count(&mut self, slot: u16, begins: bool) {
        let counts = [Some(&mut self.open), (slot >= self.limits.connections).then_some(&mut self.over_streams)];
        counts.into_iter().flatten().for_each(|count| if begins { *count += 1 } else { *count -= 1 });
    }

    pub fn get(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.slots[id.slot as usize].as_deref_mut().filter(|held| held.number == id.number)
    }

    pub fn wait_for_changes(&self) -> bool {
        !self.moved.is_empty()
    }

    fn id(&self, slot: u16) -> Option<SubscriptionId> {
        self.slots[slot as usize].as_ref().map(|held| SubscriptionId { slot, number: held.number })
    }

    /// Slots of those whose stream has begun.
    fn streaming(&self) -> Vec<u16> {
        let streams = |held: &Option<Box<Subscription>>| held.as_ref().is_some_and(|held| held.stage != Stage::Asking);
        (0..self.slots.len()).filter(|slot| streams(&self.slots[*slot])).map(|slot| slot as u16).collect()
    }
}

impl Worker {
    /// Forgets the subscription of a connection, if it has one.
    pub(super) fn subscription_over(&mut self, slot: u16, counts: Counter) {
        let Some(id) = self.subscriptions.id(slot) else { return };
        let held = self.subscriptions.slots[slot as usize].take().expect("just seen");
        held.queued.into_iter().for_each(|arrived| self.release(arrived.span));
        self.subscriptions.count(slot, false);
        self.counters.set(Counter::SubscriptionsNow, self.subscriptions.open as u64);
        if held.stage != Stage::Asking {
            self.counters.add(counts, 1);
        }
        // Also where it is not known there: its claim may be on its way.
        self.tell_over(held.claim, id);
    }

    pub(super) fn tell_over(&mut self, claim: Claim, id: SubscriptionId) {
        match self.registrar_of(claim.0) {
            worker if worker == self.id => self.registrar.over(claim, worker, id),
            worker => self.fanout.owe(worker, Letter::Over { claim, id }),
        }
    }

    /// Asks for the next event, if there is room for it.
    pub(super) fn pull(&mut self, slot: u16) {
        let Some(id) = self.subscriptions.id(slot) else { return };
        let held = self.subscriptions.slots[slot as usize].as_ref().expect("just seen");
        let idle = !held.pulls && held.waits.is_none() && held.queued.is_none() && held.last.is_none();
        if held.stage != Stage::Streaming || !idle {
            return;
        }
        let (key, next, floor) = (held.claim.0, held.next, held.floor);
        let state = self.state();
        let Some(shard) = state.shard(key) else { return self.stream_gone(slot) };
        let part = shard.part_from(next, floor.max(self.horizon(key.stream())));
        let sequence = next.max(part.first);
        let pull = Pull {
            who: Who::Subscription(id),
            mode: Mode::Event,
            bytes: 0,
            records: 0,
            shard: key,
            log: part.log,
            sequence,
            floor,
            seen: state.applied,
        };
        let owner = self.owner_of(part.log);
        self.subscriptions.slots[slot as usize].as_mut().expect("just seen").pulls = true;
        match owner == self.id {
            true => self.pulled(owner, pull),
            false => self.fanout.owe(owner, Letter::Pull(pull)),
        }
    }

    /// What a call for an event has come to.
    pub(super) fn outcome_arrived(&mut self, id: SubscriptionId, outcome: Outcome, ops: &mut Ops) {
        let skipped = self.options.canary.events_skip as u64;
        let Some(held) = self.subscriptions.get(id) else {
            if let Outcome::Event { span, .. } = outcome {
                self.release(span);
            }
            return;
        };
        held.pulls = false;
        match outcome {
            Outcome::Event { span, records, next, caught_up, ends, since } => {
                let live_since = (held.caught_up && records > 0).then_some(since);
                held.queued = Some(Arrived { span, records, live_since });
                held.caught_up = caught_up;
                held.next = next + skipped;
                held.floor = if records > 0 { 0 } else { held.floor };
                if ends && held.last.is_none() {
                    held.last = Some(Last { error: None, counts: Counter::SubscriptionsAtEnd });
                }
            }
            Outcome::Moved { change, next } => {
                (held.next, held.waits) = (next, Some(change));
                self.subscriptions.moved.push(id);
            }
            Outcome::Gone => self.stream_gone(id.slot),
            Outcome::Failed(text) => {
                self.stream_ends(id.slot, Some(Error::new(Kind::InternalFailure, text)), Counter::SubscriptionsFailed)
            }
            Outcome::Frames { .. } | Outcome::Nothing { .. } | Outcome::News | Outcome::Unreadable { .. } => {
                unreachable!("what is answered to native readers alone")
            }
        }
        self.stream_go_on(id.slot, ops);
    }

    /// Those that have waited for a change of the catalog ask again.
    pub(super) fn subscriptions_moved(&mut self, ops: &mut Ops) {
        let applied = self.state().applied;
        for id in std::mem::take(&mut self.subscriptions.moved) {
            let Some(held) = self.subscriptions.get(id) else { continue };
            match held.waits.take_if(|change| *change <= applied) {
                Some(_) => self.stream_go_on(id.slot, ops),
                None => self.subscriptions.moved.push(id),
            }
        }
    }

    /// Ends those whose consumer or stream is not there any more.
    pub(super) fn subscriptions_follow(&mut self, stream: u32, ops: &mut Ops) {
        for slot in self.subscriptions.streaming() {
            let (key, consumer) = self.subscriptions.slots[slot as usize].as_ref().expect("just seen").claim;
            if key.stream() != stream {
                continue;
            }
            let there = self.state().stream_by_number(stream).is_some_and(|stream| {
                let is_there = stream.has_consumer(consumer) && stream.shards.contains_key(&key.shard());
                stream.status != StreamStatus::Deleting && is_there
            });
            if !there {
                self.stream_gone(slot);
                self.stream_go_on(slot, ops);
            }
        }
    }

    fn stream_gone(&mut self, slot: u16) {
        let Some(held) = &self.subscriptions.slots[slot as usize] else { return };
        let error = held.request.gone(&self.identity);
        self.stream_ends(slot, Some(error), Counter::SubscriptionsGone);
    }

    /// Another subscription of the same consumer has taken over.
    pub(super) fn ousted(&mut self, id: SubscriptionId, ops: &mut Ops) {
        let Some(held) = self.subscriptions.get(id) else { return };
        if held.stage == Stage::Asking {
            return;
        }
        let error = held.request.taken(&self.identity);
        self.stream_ends(id.slot, Some(error), Counter::SubscriptionsOusted);
        self.stream_go_on(id.slot, ops);
    }

    /// What is queued is still sent, then the end.
    fn stream_ends(&mut self, slot: u16, error: Option<Error>, counts: Counter) {
        let deadline = self.now.mono.plus_ms(LAST_MS);
        let Some(held) = &mut self.subscriptions.slots[slot as usize] else { return };
        if held.last.is_none() {
            held.last = Some(Last { error, counts });
            let c = &mut self.connections.slots[slot as usize];
            c.deadline = c.deadline.min(deadline);
        }
    }

    /// Sends what is there, if nothing is on its way, and asks for more.
    pub(super) fn stream_go_on(&mut self, slot: u16, ops: &mut Ops) {
        let Some(held) = &mut self.subscriptions.slots[slot as usize] else { return };
        if held.stage != Stage::Streaming {
            return;
        }
        if held.sending.is_none() {
            let whole = self.buffers.whole(Pool::Reply, slot);
            let c = &mut self.connections.slots[slot as usize];
            if let Some(Arrived { span, records, live_since }) = held.queued.take() {
                held.live_since = live_since;
                self.counters.add(Counter::SubscriptionEvents, 1);
                self.counters.add(Counter::SubscriptionRecords, records as u64);
                self.counters.add(Counter::SubscriptionBytes, span.len as u64);
                let size = self.buffers.bytes_mut(whole.first(CHUNK_SIZE_MAX));
                // The line end behind the frame is none of the chunk's bytes.
                let digits = write_chunk_size(size, span.len as usize - 2);
                c.sending = Some(span);
                held.sending = Some(self.now.mono);
                ops.push(Op::Send { socket: Socket(slot as u32), from: whole.first(digits as u32), then: Some(span) });
            } else if let Some(last) = &held.last {
                let mut bytes = last.error.as_ref().map(exception_chunk).unwrap_or_default();
                bytes.extend_from_slice(LAST_CHUNK);
                held.stage = Stage::Ending;
                held.sending = Some(self.now.mono);
                let from = whole.first(bytes.len() as u32);
                self.buffers.bytes_mut(from).copy_from_slice(&bytes);
                ops.push(Op::Send { socket: Socket(slot as u32), from, then: None });
            }
        }
        self.pull(slot);
    }

    /// Something of a stream has been sent, or could not be.
    pub(super) fn stream_sent(&mut self, slot: u16, sent: bool, ops: &mut Ops) {
        let held = self.subscriptions.slots[slot as usize].as_mut().expect("a stream is a subscription's");
        held.sending = None;
        if let Some(since) = held.live_since.take().filter(|_| sent) {
            let micros = self.now.wall.0.saturating_sub(since);
            self.counters.latencies.record(Latency::Delivered, micros.saturating_mul(1_000));
        }
        if !sent {
            return self.close(slot, ops);
        }
        if held.stage != Stage::Ending {
            return self.stream_go_on(slot, ops);
        }
        let counts = held.last.as_ref().map_or(Counter::SubscriptionsExpired, |last| last.counts);
        self.subscription_over(slot, counts);
        match self.connections.slots[slot as usize].keep_alive && !self.stopping {
            true => self.next_request(slot, ops),
            false => self.close(slot, ops),
        }
    }

    /// Ends what has lasted its time, or everything when the server stops. Once a second, and in the turns of a stop.
    pub(super) fn sweep_subscriptions(&mut self, ops: &mut Ops) {
        if self.subscriptions.open == 0 {
            return;
        }
        for slot in self.subscriptions.streaming() {
            let held = self.subscriptions.slots[slot as usize].as_ref().expect("just seen");
            if !self.stopping && self.now.mono < held.ends {
                continue;
            }
            // Also one that ends for another reason, and whose client does not take it.
            let last = if self.stopping { self.now.mono.plus_ms(HASTE_MS) } else { held.ends.plus_ms(LAST_MS) };
            let c = &mut self.connections.slots[slot as usize];
            c.deadline = c.deadline.min(last);
            self.stream_ends(slot, None, Counter::SubscriptionsExpired);
            self.stream_go_on(slot, ops);
        }
    }

    /// Worker `worker` has no buffers left for events: the subscription here that has not taken one of them for longest ends.
    pub(super) fn shed(&mut self, worker: u16, ops: &mut Ops) {
        let mut longest: Option<(Mono, u16)> = None;
        for slot in self.subscriptions.streaming() {
            let held = self.subscriptions.slots[slot as usize].as_ref().expect("just seen");
            let lent = self.connections.slots[slot as usize].sending.is_some_and(|span| span.worker == worker)
                || held.queued.is_some_and(|arrived| arrived.span.worker == worker);
            if let Some(since) = held.sending.filter(|since| lent && since.plus_ms(HASTE_MS) <= self.now.mono) {
                longest = Some(longest.map_or((since, slot), |other| other.min((since, slot))));
            }
        }
        let native = self.native_longest(worker, HASTE_MS);
        if let Some((since, place)) = native
            && longest.is_none_or(|(other, _)| since <= other)
        {
            return self.native_shed(place, ops);
        }
        if let Some((_, slot)) = longest {
            self.subscription_over(slot, Counter::SubscriptionsShed);
            self.close(slot, ops);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `most` that begin in the slots from `first` on find room.
    fn begun(held: &mut Subscriptions, first: u16, most: u16, carriers: usize) -> u16 {
        let fits = |slot: &u16| held.has_room(*slot, carriers).then(|| held.count(*slot, true)).is_some();
        (first..first + most).take_while(fits).count() as u16
    }

    #[test]
    fn sockets_and_streams_each_keep_some_free() {
        let limits = Limits { connections: 32, streams: 64, subscriptions: 80, ..Limits::tiny() };
        let mut held = Subscriptions::new(&limits);
        assert_eq!(begun(&mut held, 0, 32, 0), 32 - 2 - 1);
        assert_eq!(begun(&mut held, 32, 64, 0), 80 - 29, "all together");
        (0..29).for_each(|slot| held.count(slot, false));
        assert_eq!(begun(&mut held, 83, 13, 0), 64 - 4 - 1 - 51);
        assert_eq!(begun(&mut held, 0, 32, 20), 32 - 20 - 2 - 1, "carriers take sockets");
    }
}

//! What goes to native clients: written into the connection's slot of `Pool::Reply` when that is free, one send at a time.

use super::Worker;
use super::ack::Acks;
use super::connection::Phase as Slot;
use super::native::{Answer, Due, IDLE_MS, Natives, Phase, Settled, UNANSWERED};
use crate::catalog::state::{Shard, ShardState};
use crate::io::buffers::Pool;
use crate::io::op::{Op, Ops, Socket};
use crate::log::format::{HEADER, ShardKey};
use crate::native::batch::{Ack, RECORDS_MAX};
use crate::native::hello::encode_hash;
use crate::native::hello::feature::BULK;
use crate::native::message::{Header, Kind, VERSION, blank, seal_header};
use crate::native::refusal::{Code, Fault, REFUSAL_MAX, Refusal};
use crate::native::welcome::{LINES_MAX, SHARDS_MAX, ShardLine, ShardState as Line, Welcome, encode_shards};
use crate::observe::counter::{Counter, Counters};
use crate::observe::latency::Latency;

/// What is sent must be taken within this time.
const SEND_MS: u64 = 60_000;
const LOST: Fault = Fault {
    code: Code::Lost,
    why: "The log has failed while the batch was on its way to the disk; it may be stored or not.",
};

impl Worker {
    pub(super) fn native_sent(&mut self, slot: u16, sent: bool, ops: &mut Ops) {
        let Some(place) = self.natives.at(slot) else {
            // It has been turned away. What it has sent is read first: a close would reset the connection.
            let into = self.buffers.whole(Pool::Connection, slot);
            return ops.push(Op::Recv { socket: Socket(slot as u32), into });
        };
        let native = &mut self.natives.slots[place as usize];
        native.sending = false;
        if sent && !matches!(native.phase, Phase::Free | Phase::Closing) {
            let ns = self.now.mono.0.saturating_sub(native.sending_since.0);
            self.counters.latencies.record_many(Latency::Sent, ns, native.sending_answers as u64);
            self.native_frames_sent(place);
        }
        match self.natives.slots[place as usize].phase {
            Phase::Free | Phase::Closing => {}
            _ if !sent => self.native_close(place, ops),
            Phase::Parting => self.native_drain(place, ops),
            // There may be room for answers again, and so for batches.
            _ => self.native_go_on(place, ops),
        }
    }

    /// Tells a client that there is no place for it; the connection ends with that.
    pub(super) fn native_turn_away(&mut self, slot: u16, fault: Fault, ops: &mut Ops) {
        let whole = self.buffers.whole(Pool::Reply, slot);
        let len = Refusal::of(&fault, 0).goodbye(self.buffers.bytes_mut(whole));
        self.connections.slots[slot as usize].deadline = self.now.mono.plus_ms(SEND_MS);
        debug_assert_eq!(self.connections.slots[slot as usize].phase, Slot::Native);
        ops.push(Op::Send { socket: Socket(slot as u32), from: whole.first(len as u32), then: None });
    }

    /// Answers what has become durable. Once a turn, where a log has news.
    pub(super) fn natives_release(&mut self, ops: &mut Ops) {
        if !std::mem::take(&mut self.acks.news) {
            return;
        }
        for at in (0..self.natives.answering.len()).rev() {
            let place = self.natives.answering[at];
            self.native_flush(place, ops);
            // With room for answers again its next batches may be looked at.
            let native = &mut self.natives.slots[place as usize];
            if native.bulk.is_some() {
                self.natives.releasing.push(place);
            }
            if native.reads() && !native.receiving {
                self.natives.stir(place);
            }
        }
        let Natives { answering, slots, .. } = &mut self.natives;
        answering.retain(|place| {
            let native = &mut slots[*place as usize];
            native.answering = !native.answers.is_empty();
            native.answering
        });
    }

    /// Sends what is to be said, unless something is being sent.
    pub(super) fn native_flush(&mut self, place: u16, ops: &mut Ops) {
        let native = &self.natives.slots[place as usize];
        let speaks = matches!(native.phase, Phase::Hello | Phase::Proof | Phase::Open | Phase::Leaving);
        let gone = !native.is_open() && !native.readers.of.is_empty();
        if native.sending || !speaks {
            return;
        }
        if gone {
            self.native_readers_drop(place, ops);
        }
        let native = &self.natives.slots[place as usize];
        let socket = native.socket;
        let whole = self.buffers.whole(Pool::Reply, socket);
        let mut len = self.native_begin(place);
        len = self.native_map(place, len);
        len = self.native_dones(place, len);
        let Worker { natives, buffers, acks, counters, now, .. } = self;
        let native = &mut natives.slots[place as usize];
        let out = buffers.bytes_mut(whole);
        let Due { pong, .. } = &mut native.due;
        if let Some(number) = pong.take_if(|_| len + HEADER <= out.len()) {
            len += seal_header(&mut out[len..], Header { number, ..blank(Kind::Pong) });
        }
        native.sending_answers = 0;
        let mut blocked = Blocked { shards: [ShardKey(0); UNANSWERED], count: 0 };
        native.answers.retain(|answer| {
            let wrote = blocked.passes(answer.shard).then(|| write_answer(answer, acks, &mut out[len..]));
            let Some(wrote) = wrote.flatten() else {
                blocked.add(answer.shard);
                return true;
            };
            len += wrote;
            native.sending_answers += 1;
            count(answer, acks, counters);
            counters.latencies.record(Latency::NativeBatch, now.mono.0.saturating_sub(answer.since.0));
            false
        });
        let over = native.phase == Phase::Leaving && native.underway.is_none() && native.answers.is_empty();
        if over && len + REFUSAL_MAX <= out.len() {
            let fault = native.due.goodbye.take().unwrap_or(Fault { code: Code::Ended, why: "" });
            len += Refusal::of(&fault, 0).goodbye(&mut out[len..]);
            native.phase = Phase::Parting;
        }
        let open = native.is_open();
        let frames = if open { self.native_next_frames(place) } else { None };
        let (from, then) = match (len > 0, frames) {
            (false, None) => return,
            (false, Some(frames)) => (frames, None),
            (true, then) => (whole.first(len as u32), then),
        };
        let now = self.now.mono;
        let native = &mut self.natives.slots[place as usize];
        native.sending = true;
        (native.sending_since, native.send_by) = (now, now.plus_ms(SEND_MS));
        ops.push(Op::Send { socket: Socket(socket as u32), from, then });
    }

    /// What a connection begins with.
    fn native_begin(&mut self, place: u16) -> usize {
        let native = &mut self.natives.slots[place as usize];
        let challenge = std::mem::take(&mut native.due.challenge);
        let welcome = std::mem::take(&mut native.due.welcome);
        let out = self.buffers.whole(Pool::Reply, native.socket);
        if challenge {
            let challenge = native.challenge;
            return encode_hash(self.buffers.bytes_mut(out), Kind::Challenge, &challenge);
        }
        let (stream, producer) = (native.stream, native.producer);
        let features = if native.bulk.is_some() { BULK } else { 0 };
        if !welcome {
            return 0;
        }
        let record = self.state().stream_by_number(stream).map_or(0, |stream| stream.max_record_kib * 1024);
        let welcome = Welcome {
            version: VERSION,
            features,
            producer,
            largest: self.native_largest(),
            unanswered: (UNANSWERED as u32, 0),
            records: RECORDS_MAX,
            record,
            idle_seconds: (IDLE_MS / 1000) as u32,
            worker: self.id,
            workers: self.workers,
            stream,
        };
        welcome.encode(self.buffers.bytes_mut(out))
    }

    /// The next lines of the map of shards, behind the `len` bytes that are there.
    fn native_map(&mut self, place: u16, len: usize) -> usize {
        let native = &self.natives.slots[place as usize];
        let whole = self.buffers.whole(Pool::Reply, native.socket);
        let Some(from) = native.due.map.filter(|_| len + SHARDS_MAX <= whole.len as usize) else { return len };
        let workers = self.workers as u32;
        let state = if let Some(control) = &self.control { control.catalog.state() } else { &self.view };
        let lines = state.stream_by_number(native.stream).into_iter().flat_map(|stream| stream.shards.range(from..));
        let next = lines.clone().nth(LINES_MAX).map(|(number, _)| *number);
        let out = &mut self.buffers.bytes_mut(whole)[len..];
        let lines = lines.map(|(_, shard)| line_of(shard, workers));
        let written = encode_shards(out, state.applied, next.is_some(), lines);
        self.natives.slots[place as usize].due.map = next;
        len + written
    }
}

/// Shards with an answer that is not sent yet: those behind it wait, so that each shard's come in order.
struct Blocked {
    shards: [ShardKey; UNANSWERED],
    count: usize,
}

impl Blocked {
    fn passes(&self, shard: ShardKey) -> bool {
        !self.shards[..self.count].contains(&shard)
    }

    fn add(&mut self, shard: ShardKey) {
        if self.passes(shard) {
            self.shards[self.count] = shard;
            self.count += 1;
        }
    }
}

/// Writes an answer that may be given now, if there is room.
fn write_answer(answer: &Answer, acks: &Acks, out: &mut [u8]) -> Option<usize> {
    let &Answer { shard, number, count, .. } = answer;
    let (fault, wait_ms) = match answer.settled {
        Settled::Appended(appended) => match acks.of(appended.log) {
            (durable, _) if durable >= appended.position => {
                let ack = Ack { shard, number, first: appended.first, count, arrival: appended.arrival };
                return (out.len() >= HEADER).then(|| ack.encode(out));
            }
            (_, true) => (LOST, 0),
            (_, false) => return None,
        },
        Settled::Refused { fault, wait_ms } => (fault, wait_ms),
    };
    (out.len() >= REFUSAL_MAX).then(|| Refusal::of(&fault, wait_ms).refused(out, shard, number, count))
}

fn count(answer: &Answer, acks: &Acks, counters: &Counters) {
    let acked = match answer.settled {
        Settled::Appended(appended) => acks.of(appended.log).0 >= appended.position,
        Settled::Refused { .. } => false,
    };
    if acked {
        counters.add(Counter::RecordsAcked, answer.count as u64);
        counters.add(Counter::BytesAcked, answer.payload as u64);
    } else {
        counters.add(Counter::NativeBatchesRefused, 1);
    }
}

fn line_of(shard: &Shard, workers: u32) -> ShardLine {
    let state = match shard.state {
        ShardState::Open => Line::Open,
        ShardState::Closing => Line::Closing,
        ShardState::Closed { .. } => Line::Closed,
    };
    ShardLine {
        shard: shard.number,
        state,
        worker: (shard.log % workers) as u16,
        parents: shard.parents,
        first: shard.range.first,
        last: shard.range.last,
    }
}

//! Clients of the native protocol: the table of their connections, how each begins, and how it ends.
//!
//! ```text
//!   Hello ─(no credentials)──────────► Open ─► Leaving ─► Parting ─► Draining ─► Closing ─► free
//!     └──► Proof ─(the secret is known)─►┘     all that was taken is answered; then Goodbye, and its end
//! ```
//!
//! A connection has one batch at most on its way into a log, so its batches are stored in the order in which they came; any number, up to a bound,
//! waits to be durable. Nothing is received while there is no room for an answer: a client that outruns the server, or reads nothing, fills its
//! own socket. `native_receive.rs` has what comes, `pace.rs` what is done about those who are slow to say it, `native_batch.rs` the way of a batch, `native_send.rs` what goes.

use super::Worker;
use super::append::Appended;
use super::connection::{Connection, Phase as Slot};
use super::connections::free;
use super::mailbox::{Batch, NativeId};
use super::native_bulk::Bulk;
use super::native_read::Readers;
use super::native_read_send::Outgoing;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Op, Ops, Socket};
use crate::limits::Limits;
use crate::log::format::ShardKey;
use crate::log::producers::KEPT;
use crate::native::hello::STREAM_NAME_MAX;
use crate::native::message::Header;
use crate::native::proof::HASH;
use crate::native::reading::Done;
use crate::native::refusal::{Code, Fault};
use crate::observe::counter::Counter;
use crate::route::md5::Lanes;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Batches of a connection that may be without an answer.
pub(super) const UNANSWERED: usize = 64;
/// A client must have been let in within this time.
const HELLO_MS: u64 = 10_000;
/// A connection on which nothing comes for so long is ended.
pub(super) const IDLE_MS: u64 = 300_000;
/// A batch that is not durable by then may be stored or not, and the connection ends: nobody knows how long it would take.
const DURABLE_MS: u64 = 40_000;
/// How long a connection that ends may take to answer, and how long its client to take the last of it.
const LEAVE_MS: u64 = 60_000;
const DRAIN_MS: u64 = 2_000;
/// Places that stay free, so that a new client can always be told something.
const SPARE: usize = 2;
const NOWHERE: u16 = u16::MAX;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    /// Waits for a `Hello`; for the `Proof` of it.
    Hello,
    Proof,
    Open,
    /// Reads nothing more. What has been taken is answered, then comes the `Goodbye`.
    Leaving,
    /// The `Goodbye` is being sent.
    Parting,
    /// It has been; what the client goes on sending is dropped until it closes, as a reset would take the last answers from it.
    Draining,
    /// The socket is being closed, or is, and another worker still copies a batch.
    Closing,
}

/// Where a batch is, until it is settled whether it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for room at its owner, or for a buffer to be lent.
    Unlent,
    /// At its owner, another worker, which reads the buffer.
    Lent,
    /// Among those that wait for a log of this worker, or just about to be.
    Here,
    /// Its shard is not where it was: routed again with the catalog as of this change.
    Moved(u64),
}

/// A batch on its way into a log.
pub(super) struct Underway {
    pub batch: Batch,
    /// The buffer that its bytes are in; `None`: they lie in the connection's slot still.
    pub owned: Option<Span>,
    /// Bytes of the slot that are free when it is settled.
    pub in_slot: u32,
    /// Of keys and data.
    pub payload: u32,
    pub stage: Stage,
    /// When it was whole.
    pub since: Mono,
}

/// What a batch will be answered with.
#[derive(Clone, Copy)]
pub(super) enum Settled {
    Appended(Appended),
    Refused { fault: Fault, wait_ms: u32 },
}

/// An answer that has not been sent.
pub(super) struct Answer {
    pub shard: ShardKey,
    pub number: u32,
    pub count: u32,
    pub payload: u32,
    pub since: Mono,
    pub settled: Settled,
}

/// What is to be said beside answers.
#[derive(Default)]
pub(super) struct Due {
    pub challenge: bool,
    pub welcome: bool,
    /// The map of shards, from this number on.
    pub map: Option<u32>,
    /// The number of the ping.
    pub pong: Option<u32>,
    /// The end of a read that cannot begin.
    pub done: Option<Done>,
    pub goodbye: Option<Fault>,
}

/// One connection, or a free place for one.
pub(super) struct Native {
    pub generation: u32,
    pub phase: Phase,
    pub socket: u16,
    pub receiving: bool,
    pub sending: bool,
    /// What of the socket's slot of `Pool::Connection` has been received and not consumed.
    pub start: u32,
    pub filled: u32,
    /// The message that is being received, and since when.
    pub header: Option<Header>,
    pub since: Option<Mono>,
    /// When the first byte of the message came that has not been seen whole, and the last of all that have come.
    pub first_byte: Option<Mono>,
    pub last_byte: Mono,
    /// Its buffer where it does not fit into the slot, and how much of it is there.
    pub into: Option<Span>,
    pub into_filled: u32,
    /// It waits for a buffer that others hold, since when; it has sent a whole message that needed one.
    pub starved: Option<Mono>,
    pub earnest: bool,
    /// When what is waited for from the client is overdue: bytes, the end of the beginning, that it takes what is sent, that it goes.
    pub receive_by: Mono,
    pub begun_by: Mono,
    pub send_by: Mono,
    pub gone_by: Mono,
    /// Of the `Hello`.
    pub name: ([u8; STREAM_NAME_MAX], u8),
    pub challenge: [u8; HASH],
    /// What the proof must be, and whose: access key and user by place. `None`: nobody's.
    pub expected: Option<([u8; HASH], u32, u16)>,
    /// The access key that was proved, by place.
    pub key: Option<u32>,
    pub stream: u32,
    /// Id << 16 | epoch; 0: none.
    pub producer: u64,
    pub wants_bulk: bool,
    /// What it receives into, where it is a bulk connection.
    pub bulk: Option<Box<Bulk>>,
    pub underway: Option<Underway>,
    pub answers: VecDeque<Answer>,
    pub due: Due,
    /// What it reads; what of that is being sent, and since when.
    pub readers: Readers,
    pub outgoing: Option<Outgoing>,
    pub sending_since: Mono,
    /// Batches whose answers are being sent.
    pub sending_answers: u32,
    /// It is in the lists of `Natives`.
    pub stirred: bool,
    pub waiting: bool,
    pub answering: bool,
}

/// The native clients of a worker.
pub(super) struct Natives {
    pub slots: Vec<Native>,
    free: Vec<u16>,
    /// By socket of the ring.
    place_of: Vec<u16>,
    /// Those that are to go on.
    pub stirred: VecDeque<u16>,
    /// Those whose message, or batch, waits for a buffer or for room at another worker, or for the catalog.
    pub waiting: VecDeque<u16>,
    /// Those with answers that have not been sent.
    pub answering: Vec<u16>,
    /// Those that have gone, and whose buffers are being written still.
    pub parting: Vec<u16>,
    /// Bulk connections of which something has become durable in this turn.
    pub releasing: Vec<u16>,
    /// Readers, and pulls of those that have gone which have not been answered.
    pub readers: usize,
    challenges: u64,
    /// For the keys of a batch, where they are verified.
    pub lanes: Lanes,
}

fn nobody() -> Native {
    Native {
        generation: 0,
        phase: Phase::Free,
        socket: 0,
        receiving: false,
        sending: false,
        start: 0,
        filled: 0,
        header: None,
        since: None,
        first_byte: None,
        last_byte: Mono(0),
        into: None,
        into_filled: 0,
        starved: None,
        earnest: false,
        receive_by: Mono(u64::MAX),
        begun_by: Mono(u64::MAX),
        send_by: Mono(u64::MAX),
        gone_by: Mono(u64::MAX),
        name: ([0; STREAM_NAME_MAX], 0),
        challenge: [0; HASH],
        expected: None,
        key: None,
        stream: 0,
        producer: 0,
        wants_bulk: false,
        bulk: None,
        underway: None,
        answers: VecDeque::new(),
        due: Due::default(),
        readers: Readers::default(),
        outgoing: None,
        sending_since: Mono(0),
        sending_answers: 0,
        stirred: false,
        waiting: false,
        answering: false,
    }
}

impl Native {
    /// Whether the next message may be looked at: there is room for its answer, and none is on its way.
    pub fn reads(&self) -> bool {
        let open = matches!(self.phase, Phase::Hello | Phase::Proof | Phase::Open);
        open && self.underway.is_none()
            && self.answers.len() < UNANSWERED
            && self.due.pong.is_none()
            && self.due.done.is_none()
    }

    /// Whether as many batches of the shard are without an answer as the shard would remember of a producer.
    pub fn is_ahead(&self, shard: ShardKey) -> bool {
        self.producer != 0 && self.answers.iter().filter(|answer| answer.shard == shard).count() >= KEPT
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub fn is_idle(&self) -> bool {
        let waits = self.underway.is_some() || !self.answers.is_empty() || self.header.is_some();
        self.is_open() && !waits && self.filled == self.start && self.readers.of.is_empty()
    }

    pub fn stream_name(&self) -> &str {
        let (bytes, len) = &self.name;
        std::str::from_utf8(&bytes[..*len as usize]).expect("the Hello was text")
    }
}

impl Natives {
    pub fn new(limits: &Limits) -> Natives {
        let count = limits.natives;
        let place = |_| Native { answers: VecDeque::with_capacity(UNANSWERED), ..nobody() };
        Natives {
            slots: (0..count).map(place).collect(),
            free: (0..count).rev().collect(),
            place_of: vec![NOWHERE; limits.connections as usize],
            stirred: VecDeque::with_capacity(count as usize),
            waiting: VecDeque::with_capacity(count as usize),
            answering: Vec::with_capacity(count as usize),
            parting: Vec::with_capacity(count as usize),
            releasing: Vec::with_capacity(count as usize),
            readers: 0,
            challenges: 0,
            lanes: Lanes::default(),
        }
    }

    pub fn id(&self, place: u16) -> NativeId {
        NativeId { place, generation: self.slots[place as usize].generation }
    }

    /// Whether the client is there still, so that the bytes that it has sent are.
    pub fn is_there(&self, id: NativeId) -> bool {
        let native = &self.slots[id.place as usize];
        native.generation == id.generation && !matches!(native.phase, Phase::Free | Phase::Closing)
    }

    /// The native client on a socket of the ring.
    pub fn at(&self, socket: u16) -> Option<u16> {
        self.place_of.get(socket as usize).copied().filter(|place| *place != NOWHERE)
    }

    pub fn stir(&mut self, place: u16) {
        let native = &mut self.slots[place as usize];
        if !std::mem::replace(&mut native.stirred, true) {
            self.stirred.push_back(place);
        }
    }

    /// Lets it be tried again in the next turns.
    pub fn wait(&mut self, place: u16) {
        let native = &mut self.slots[place as usize];
        if !std::mem::replace(&mut native.waiting, true) {
            self.waiting.push_back(place);
        }
    }

    /// Whether something is to be done though nothing completes: at once, or soon.
    pub fn goes_on(&self) -> (bool, bool) {
        (!self.stirred.is_empty(), !self.waiting.is_empty())
    }

    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Worker {
    pub(super) fn on_native_accepted(&mut self, socket: Socket, peer: Option<IpAddr>, ops: &mut Ops) {
        let slot = socket.0 as u16;
        let now = self.now.mono;
        self.counters.add(Counter::NativeAccepted, 1);
        let c = &mut self.connections.slots[slot as usize];
        assert_eq!(c.phase, Slot::Free, "the ring reused a socket that was not closed");
        let generation = c.generation.wrapping_add(1);
        *c = Connection { generation, phase: Slot::Native, idle_since: now, peer, ..free(self.limits.large.1) };
        self.connections.count(socket, true);
        self.count_connections();
        if self.stopping {
            return self.close(slot, ops);
        }
        if self.natives.free.len() <= SPARE {
            self.native_make_room(ops);
        }
        let Some(place) = self.natives.free.pop() else {
            self.counters.add(Counter::ConnectionsRefused, 1);
            let fault = Fault { code: Code::Busy, why: "The server has as many native clients as it takes." };
            return self.native_turn_away(slot, fault, ops);
        };
        self.natives.place_of[slot as usize] = place;
        let native = &mut self.natives.slots[place as usize];
        let former = std::mem::replace(native, nobody());
        *native = Native {
            generation: former.generation.wrapping_add(1),
            phase: Phase::Hello,
            socket: slot,
            begun_by: now.plus_ms(HELLO_MS),
            // Its room is kept, and the lists have the place as long as they say.
            answers: former.answers,
            stirred: former.stirred,
            waiting: former.waiting,
            answering: former.answering,
            ..nobody()
        };
        self.counters.set(Counter::NativeNow, self.natives.in_use() as u64);
        self.native_go_on(place, ops);
    }

    /// The socket has no connection any more, and is free for another one.
    pub(super) fn on_native_closed(&mut self, socket: Socket, ops: &mut Ops) {
        let place = self.natives.at(socket.0 as u16);
        self.on_closed(socket);
        self.natives.place_of[socket.0 as usize] = NOWHERE;
        let Some(place) = place else { return };
        self.native_readers_drop(place, ops);
        let native = &mut self.natives.slots[place as usize];
        native.phase = Phase::Closing;
        native.into.take().into_iter().for_each(|span| self.buffers.give(span));
        if native.bulk.is_some() {
            self.natives.parting.push(place);
        }
        self.native_free(place);
    }

    /// Frees the place of a client that has gone, unless another worker still reads its batch.
    pub(super) fn native_free(&mut self, place: u16) {
        let native = &mut self.natives.slots[place as usize];
        let closed = native.phase == Phase::Closing && self.natives.place_of[native.socket as usize] != place;
        if !closed || native.underway.as_ref().is_some_and(|underway| underway.stage == Stage::Lent) {
            return;
        }
        if native.bulk.as_mut().is_some_and(|bulk| !bulk.ends(&mut self.logs, &mut self.buffers)) {
            return;
        }
        native.bulk = None;
        let owned = native.underway.take().and_then(|underway| underway.owned);
        owned.into_iter().for_each(|span| self.buffers.give(span));
        native.answers.clear();
        native.phase = Phase::Free;
        self.natives.parting.retain(|other| *other != place);
        self.natives.free.push(place);
        self.counters.set(Counter::NativeNow, self.natives.in_use() as u64);
    }

    /// Ends the connection at once.
    pub(super) fn native_close(&mut self, place: u16, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        if !matches!(native.phase, Phase::Free | Phase::Closing) {
            native.phase = Phase::Closing;
            let socket = native.socket;
            self.native_readers_drop(place, ops);
            self.close(socket, ops);
        }
    }

    /// Reads nothing more; says why when all that was taken is answered.
    pub(super) fn native_leave(&mut self, place: u16, fault: Fault) {
        let native = &mut self.natives.slots[place as usize];
        if !matches!(native.phase, Phase::Hello | Phase::Proof | Phase::Open) {
            return;
        }
        native.phase = Phase::Leaving;
        native.gone_by = self.now.mono.plus_ms(LEAVE_MS);
        (native.receive_by, native.begun_by) = (Mono(u64::MAX), Mono(u64::MAX));
        (native.due.challenge, native.due.welcome) = (false, false);
        (native.due.map, native.due.pong, native.due.done) = (None, None, None);
        native.due.goodbye = Some(fault);
        (native.header, native.starved) = (None, None);
        self.native_drop_message(place);
        if fault.code != Code::Ended {
            self.counters.add(Counter::NativeGoodbyes, 1);
        }
        self.natives.stir(place);
    }

    /// Gives the buffer of a message back that will never be whole, unless the kernel may still write into it.
    pub(super) fn native_drop_message(&mut self, place: u16) {
        let native = &mut self.natives.slots[place as usize];
        if !native.receiving {
            native.into.take().into_iter().for_each(|span| self.buffers.give(span));
        }
    }

    /// The `Goodbye` has gone: its client is given time to read it.
    pub(super) fn native_drain(&mut self, place: u16, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        native.phase = Phase::Draining;
        native.gone_by = self.now.mono.plus_ms(DRAIN_MS);
        if !native.receiving {
            self.native_drain_on(place, ops);
        }
    }

    /// Receives what is not looked at.
    pub(super) fn native_drain_on(&mut self, place: u16, ops: &mut Ops) {
        self.native_drop_message(place);
        let native = &mut self.natives.slots[place as usize];
        native.receiving = true;
        let into = self.buffers.whole(Pool::Connection, native.socket);
        ops.push(Op::Recv { socket: Socket(native.socket as u32), into });
    }

    /// A number that is used once, and that nobody can foresee.
    pub(super) fn next_challenge(&mut self) -> [u8; HASH] {
        self.natives.challenges += 1;
        let mut hash = Sha256::new();
        hash.update(b"penstock native challenge");
        hash.update(self.options.random);
        hash.update(self.id.to_le_bytes());
        hash.update(self.natives.challenges.to_le_bytes());
        hash.finalize().into()
    }

    /// Ends what has stalled, and at a stop everything. Once a second, and in each turn of a stop.
    pub(super) fn sweep_natives(&mut self, ops: &mut Ops) {
        const STOPS: Fault = Fault { code: Code::Stopping, why: "The server stops." };
        const IDLE: Fault = Fault { code: Code::Idle, why: "Nothing has come for too long; a Ping would have done." };
        const LATE: Fault = Fault { code: Code::Overdue, why: "A message was begun and not ended in time." };
        const SLOW: Fault =
            Fault { code: Code::Lost, why: "A batch was not durable in time; it may be stored or not." };
        let now = self.now.mono;
        for place in 0..self.natives.slots.len() as u16 {
            let native = &self.natives.slots[place as usize];
            if matches!(native.phase, Phase::Free | Phase::Closing) {
                continue;
            }
            self.native_readers_ask(place, ops);
            let native = &self.natives.slots[place as usize];
            let slow = native.answers.iter().any(|answer| answer.since.plus_ms(DURABLE_MS) < now);
            let idle = native.is_open() && native.since.is_none();
            // Bytes, or a buffer for them, are waited for.
            let reading = native.receiving || native.header.is_some();
            if native.sending && native.send_by < now || native.gone_by < now {
                self.counters.add(Counter::ConnectionsTimedOut, 1);
                self.native_close(place, ops);
            } else if slow {
                // Also where it leaves for another reason already: what that says of unanswered batches is not true any more.
                self.native_leave(place, SLOW);
                let native = &mut self.natives.slots[place as usize];
                native.due.goodbye = Some(SLOW);
                native.answers.clear();
                self.natives.stir(place);
            } else if native.begun_by < now || reading && native.receive_by < now {
                self.counters.add(Counter::ConnectionsTimedOut, 1);
                self.native_leave(place, if idle { IDLE } else { LATE });
            } else if self.stopping {
                self.native_leave(place, STOPS);
            }
        }
    }

    /// The credentials have been replaced: who was let in by a key that is not as it was has to come again.
    pub(super) fn natives_follow(&mut self, kept: impl Fn(u32) -> Option<u32>) {
        const CHANGED: Fault =
            Fault { code: Code::CredentialsChanged, why: "The credentials have changed; connect again." };
        for place in 0..self.natives.slots.len() as u16 {
            let native = &mut self.natives.slots[place as usize];
            // Who has not said yet who it is, is asked by the new ones.
            match native.key.and_then(&kept) {
                Some(key) => native.key = Some(key),
                None if native.phase == Phase::Hello => {}
                None => self.native_leave(place, CHANGED),
            }
        }
    }
}

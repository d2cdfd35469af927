//! Connections: bytes in, whole requests out; one request at a time on each.
//!
//! A connection owns a slot of `Pool::Connection`, into which the kernel receives. A request that fits there with its head is parsed where
//! it lies; a larger body gets a buffer of its own when its head has been read, and the kernel receives the rest straight into that. There
//! is one receive in flight at most, and none while a request is worked on: a client that does not read its replies, or that outruns the
//! server, fills its own socket and nothing else. Only an answer that lasts has one beside it, which sees its client go.

pub use super::connections::{Connection, Connections, Phase};

use super::Worker;
use super::access::{Gate, Pass, STRANGER_HEAD_MS};
use super::connections::free;
use super::rebalance::REBALANCE_MS;
use super::serve::{Reply, Route};
use super::snapshot::SNAPSHOT_MS;
use crate::http::chunked;
use crate::http::http1::{self, Body, Bounds, Parsed};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Errno, Op, Ops, Socket};
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::operation;
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;
use crate::tables::error as tables;
use std::net::IpAddr;

/// A request must be whole this long after its first byte, and for each 100 KB of its body a second more: of what its head has said, or, in chunks, of
/// what has come.
const REQUEST_MS: u64 = 30_000;
const BODY_BYTES_PER_MS: u64 = 100;
const BODY_BYTE_NS: u64 = 1_000_000 / BODY_BYTES_PER_MS;
/// A whole request must be answered within this time; puts, whose text is read until they are settled, have a deadline of their own.
const WORK_MS: u64 = 30_000;
/// A reply must be taken within this time.
const SEND_MS: u64 = 60_000;
/// How long a client may go on sending a body that has been refused for its length, or has to take an answer that ends one.
pub(super) const DRAIN_MS: u64 = 2_000;

impl Worker {
    pub(super) fn on_accepted(&mut self, result: Result<Socket, Errno>, ops: &mut Ops) {
        let Ok(socket) = result else {
            self.counters.add(Counter::ConnectionsRefused, 1);
            return;
        };
        let is_stream = self.connections.is_stream(socket);
        self.counters.add(if is_stream { Counter::StreamsAccepted } else { Counter::ConnectionsAccepted }, 1);
        let idle_since = self.now.mono;
        let c = &mut self.connections.slots[socket.0 as usize];
        assert_eq!(c.phase, Phase::Free, "the ring reused a socket that was not closed");
        c.generation = c.generation.wrapping_add(1);
        *c = Connection { generation: c.generation, phase: Phase::Head, idle_since, ..free(self.limits.large.1) };
        if self.gate.has_credentials() {
            c.deadline = idle_since.plus_ms(STRANGER_HEAD_MS);
        }
        self.connections.count(socket, true);
        self.count_connections();
        // The last slots stay free, so that a new client can always be accepted; the longest idle one makes room.
        if !is_stream && self.connections.in_ring() + 4 > self.connections.sockets {
            self.close_longest_idle(socket, ops);
        }
        match self.stopping {
            true => self.close(socket.0 as u16, ops),
            false => self.receive(socket.0 as u16, ops),
        }
    }

    /// Policies may ask for it.
    /// `over`: what carries it, where it is a stream. Whoever has signed a request on one stream is no stranger on the next.
    pub(super) fn on_client(&mut self, socket: Socket, peer: Option<IpAddr>, secure: bool, over: Option<Socket>) {
        let over = over.map(|over| (over, self.connections.slots[over.0 as usize].generation));
        let c = &mut self.connections.slots[socket.0 as usize];
        if c.phase != Phase::Free {
            (c.peer, c.secure, c.over) = (peer, secure, over);
            let is_same = |of: &[u32]| over.is_some_and(|(over, generation)| of[over.0 as usize] == generation);
            c.verified |= is_same(&self.connections.vouched);
            c.earnest |= is_same(&self.connections.proven);
        }
    }

    /// Makes room behind the connection that has just come, `newest`.
    fn close_longest_idle(&mut self, newest: Socket, ops: &mut Ops) {
        let idle = |slot: usize, c: &Connection| slot != newest.0 as usize && c.phase == Phase::Head && c.filled == 0;
        let slots = self.connections.slots.iter().enumerate();
        let oldest = || slots.filter(|(slot, c)| idle(*slot, c)).min_by_key(|(slot, c)| (c.idle_since, *slot));
        // Who has never shown a signature goes first, also in the middle of a request.
        let goes = self.oldest_stranger(newest.0 as u16).or_else(|| oldest().map(|(slot, _)| slot as u16));
        if let Some(slot) = goes {
            self.counters.add(Counter::ConnectionsRefused, 1);
            self.close(slot, ops);
        }
    }

    /// Begins the end of a connection; its slot is free when the ring says that it is closed.
    pub(super) fn close(&mut self, slot: u16, ops: &mut Ops) {
        let c = &mut self.connections.slots[slot as usize];
        let before = c.phase;
        if !matches!(before, Phase::Free | Phase::Closing) {
            c.phase = Phase::Closing;
            c.deadline = Mono(u64::MAX);
            ops.push(Op::Close { socket: Socket(slot as u32) });
            self.subscription_over(slot, Counter::SubscriptionsLost);
        }
        if before == Phase::Unbuffered {
            self.waits_no_more(slot);
        }
    }

    pub(super) fn on_closed(&mut self, socket: Socket) {
        let c = &mut self.connections.slots[socket.0 as usize];
        debug_assert_ne!(c.phase, Phase::Unbuffered, "closed without having been asked to be");
        c.phase = Phase::Free;
        c.check = None;
        self.gate.release(c);
        let (body, sending) = (c.body.take(), c.sending.take());
        // No put still reads its text here: a connection is not closed while a request is worked on.
        body.into_iter().for_each(|span| self.buffers.give(span));
        sending.into_iter().for_each(|span| self.release(span));
        self.connections.count(socket, false);
        self.count_connections();
    }

    pub(super) fn count_connections(&self) {
        self.counters.set(Counter::ConnectionsNow, self.connections.in_ring() as u64);
        self.counters.set(Counter::StreamsNow, self.connections.streams as u64);
    }

    /// Notes how many sockets of the ring carry streams of HTTP/2, and are no connections of the core.
    pub fn note_carriers(&mut self, carriers: usize) {
        if self.connections.carriers != carriers {
            self.connections.carriers = carriers;
            self.count_connections();
        }
    }

    /// Asks for more bytes, where the phase wants them.
    pub(super) fn receive(&mut self, slot: u16, ops: &mut Ops) {
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        c.receiving = true;
        let into = match (c.phase, c.body) {
            (Phase::Body, Some(body)) => body.part(c.body_filled, c.body_len - c.body_filled),
            (Phase::Chunks, Some(body)) => body.part(c.body_filled, body.len - c.body_filled),
            _ => whole.part(c.filled, whole.len - c.filled),
        };
        ops.push(Op::Recv { socket: Socket(slot as u32), into });
    }

    pub(super) fn on_received(&mut self, socket: Socket, result: Result<u32, Errno>, ops: &mut Ops) {
        let slot = socket.0 as u16;
        let now = self.now.mono;
        if self.natives.at(slot).is_some() || self.connections.slots[slot as usize].phase == Phase::Native {
            return self.native_received(slot, result, ops);
        }
        let c = &mut self.connections.slots[slot as usize];
        c.receiving = false;
        let bytes = match result {
            Ok(bytes) if bytes > 0 && c.phase != Phase::Closing => bytes,
            _ => return self.close(slot, ops),
        };
        match (c.phase, c.body) {
            (Phase::Body | Phase::Chunks, Some(_)) => c.body_filled += bytes,
            // It has been ended in the middle of its body.
            (_, Some(_)) => {}
            (_, None) => c.filled += bytes,
        }
        if c.phase == Phase::Chunks {
            c.deadline = c.deadline + bytes as u64 * BODY_BYTE_NS;
        }
        if c.phase == Phase::Head && c.filled == bytes {
            c.since = now;
        }
        if c.phase == Phase::Head && c.deadline == Mono(u64::MAX) {
            c.deadline = now.plus_ms(head_ms(&self.gate, c));
        }
        self.advance(slot, ops);
    }

    /// Goes as far as the bytes that are there allow.
    pub(super) fn advance(&mut self, slot: u16, ops: &mut Ops) {
        match self.connections.slots[slot as usize].phase {
            Phase::Head => self.read_head(slot, ops),
            Phase::Body => self.read_body(slot, ops),
            Phase::Chunks => self.read_chunks(slot, ops),
            Phase::Draining => self.drain(slot, ops),
            _ => {}
        }
    }

    fn read_head(&mut self, slot: u16, ops: &mut Ops) {
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        let bounds = Bounds { head: whole.len as usize, body: self.limits.large.1 as usize };
        let bytes = self.buffers.bytes(whole.first(c.filled));
        match http1::parse(bytes, bounds) {
            Parsed::Incomplete if c.filled == whole.len => self.refuse(slot, 431, "The request head is too long.", ops),
            Parsed::Incomplete => self.receive(slot, ops),
            Parsed::Refused(refused) => self.refuse(slot, refused.status, refused.why, ops),
            Parsed::Head { request, head_len, body } => {
                c.head_len = head_len as u32;
                // An answer to HEAD must have no body, and ours has one: the connection ends with it.
                c.keep_alive = request.keep_alive && request.method != "HEAD";
                let expects = request.expects_continue;
                let len = match body {
                    Body::Length(len) => len,
                    Body::Chunked => whole.len as usize,
                };
                c.route = Worker::route_of(&request, len, self.gate.has_credentials());
                c.encoding = operation::encoding_of(request.content_type);
                c.body_len = len as u32;
                c.body_filled = (c.filled - c.head_len).min(c.body_len);
                c.deadline = self.now.mono.plus_ms(REQUEST_MS + len as u64 / BODY_BYTES_PER_MS);
                let chunked = body == Body::Chunked;
                c.is_chunked = chunked;
                c.phase = if chunked { Phase::Chunks } else { Phase::Body };
                c.chunks = chunked::Decoder::new(self.limits.large.1 as usize);
                c.continuing = expects && c.body_filled < c.body_len;
                let fits = !chunked && head_len + len <= whole.len as usize;
                if !self.screen(slot, ops) {
                    return;
                }
                if !fits && self.refuse_unread(slot, ops) {
                    return;
                }
                self.begin_body(slot, fits, ops);
            }
        }
    }

    pub(super) fn work(&mut self, slot: u16, ops: &mut Ops) {
        let c = &mut self.connections.slots[slot as usize];
        c.phase = Phase::Working;
        self.counters.latencies.record(Latency::Parsed, self.now.mono.0.saturating_sub(c.since.0));
        (c.since, c.timed) = (self.now.mono, c.route.latency());
        c.deadline = self.now.mono.plus_ms(match c.route {
            Route::Rebalance(_) => REBALANCE_MS + WORK_MS,
            Route::Snapshot(_) => SNAPSHOT_MS,
            _ => WORK_MS,
        });
        self.note_earnest(slot);
        if self.authenticate(slot, ops) {
            self.dispatch(slot, ops);
        }
    }

    /// The request was not answered in time: the connection goes on with the next one, and an answer that comes later is nobody's.
    fn work_overdue(&mut self, slot: u16, ops: &mut Ops) {
        self.subscription_over(slot, Counter::SubscriptionsLost);
        let c = &mut self.connections.slots[slot as usize];
        c.generation = c.generation.wrapping_add(1);
        let text = "The request was not done in time; what it asks for may be done or not.";
        let reply = match c.route {
            Route::Tables(_) => Reply::tables(Err(tables::Error::new(tables::Kind::InternalServer, text))),
            _ => Reply::error(&Error::new(Kind::InternalFailure, text)),
        };
        self.reply(slot, reply, ops);
    }

    /// Keeps a reply until there is a buffer for it; the request's deadline holds.
    pub(super) fn keep_reply(&mut self, slot: u16, reply: Reply) {
        self.connections.unsent.push_back((self.connections.id(slot), reply));
    }

    /// Tries again to send what found no buffer.
    pub(super) fn send_kept(&mut self, ops: &mut Ops) {
        for _ in 0..self.connections.unsent.len() {
            let Some((id, reply)) = self.connections.unsent.pop_front() else { return };
            if self.connections.awaits(id) {
                self.reply(id.slot, reply, ops);
            }
        }
    }

    /// A reply that HTTP itself gives; the connection ends with it.
    pub(super) fn refuse(&mut self, slot: u16, status: u16, why: &'static str, ops: &mut Ops) {
        let c = &mut self.connections.slots[slot as usize];
        (c.keep_alive, c.unread) = (false, status == 413);
        c.phase = Phase::Working;
        self.reply(slot, Reply::text(status, why), ops);
    }

    /// Drops what has come, and asks for more.
    fn drain(&mut self, slot: u16, ops: &mut Ops) {
        let c = &mut self.connections.slots[slot as usize];
        c.filled = 0;
        self.gate.release(c);
        if let Some(body) = c.body.take() {
            self.buffers.give(body);
        }
        self.receive(slot, ops);
    }

    pub(super) fn on_sent(&mut self, socket: Socket, result: Result<(), Errno>, ops: &mut Ops) {
        let slot = socket.0 as u16;
        let c = &mut self.connections.slots[slot as usize];
        if c.phase == Phase::Native {
            return self.native_sent(slot, result.is_ok(), ops);
        }
        if c.continuing && matches!(c.phase, Phase::Body | Phase::Chunks) {
            c.continuing = false;
            return match result {
                Ok(()) => self.advance(slot, ops),
                Err(_) => self.close(slot, ops),
            };
        }
        let sent = c.sending.take();
        sent.into_iter().for_each(|span| self.release(span));
        let c = &mut self.connections.slots[slot as usize];
        if c.phase == Phase::Streaming {
            return self.stream_sent(slot, result.is_ok(), ops);
        }
        if c.phase != Phase::Sending {
            return;
        }
        if result.is_ok() {
            self.counters.latencies.record(Latency::Sent, self.now.mono.0.saturating_sub(c.since.0));
        }
        if result.is_ok() && c.unread && !self.stopping {
            c.phase = Phase::Draining;
            c.deadline = self.now.mono.plus_ms(DRAIN_MS);
            return self.drain(slot, ops);
        }
        if result.is_err() || !c.keep_alive || self.stopping {
            return self.close(slot, ops);
        }
        self.next_request(slot, ops);
    }

    /// Drops the request that was answered, and goes on with what was received behind it.
    pub(super) fn next_request(&mut self, slot: u16, ops: &mut Ops) {
        self.drop_request(slot);
        let c = &mut self.connections.slots[slot as usize];
        (c.check, c.hashed, c.pass) = (None, 0, Pass::Nobody);
        let rest = c.filled;
        c.phase = Phase::Head;
        c.idle_since = self.now.mono;
        c.since = self.now.mono;
        let head_ms = head_ms(&self.gate, c);
        c.deadline = if rest > 0 { self.now.mono.plus_ms(head_ms) } else { Mono(u64::MAX) };
        match rest > 0 {
            true => self.advance(slot, ops),
            // It has been watched while it was answered: that receive is one for the next request.
            false if c.receiving => {}
            false => self.receive(slot, ops),
        }
    }

    /// Nothing reads the request any more: what was received behind it comes to the front.
    fn drop_request(&mut self, slot: u16) {
        self.body_is_read(slot);
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        let used = (c.head_len + c.body_len).min(c.filled);
        self.buffers.bytes_mut(whole).copy_within(used as usize..c.filled as usize, 0);
        (c.filled, c.head_len, c.body_len, c.body_filled) = (c.filled - used, 0, 0, 0);
    }

    /// Receives while an answer lasts, so that a client that goes is seen to go. Who has sent a next request already has that wait where it
    /// lies, and is not watched.
    pub(super) fn watch(&mut self, slot: u16, ops: &mut Ops) {
        self.drop_request(slot);
        if self.connections.slots[slot as usize].filled == 0 {
            self.receive(slot, ops);
        }
    }

    /// Emits the reply's send. `then` is sent behind it and released when it has been.
    pub(super) fn send(&mut self, slot: u16, from: Span, then: Option<Span>, ops: &mut Ops) {
        let c = &mut self.connections.slots[slot as usize];
        c.phase = Phase::Sending;
        c.sending = then;
        c.deadline = self.now.mono.plus_ms(SEND_MS);
        self.answered(slot);
        ops.push(Op::Send { socket: Socket(slot as u32), from, then });
    }

    /// The answer goes, or begins to.
    pub(super) fn answered(&mut self, slot: u16) {
        let c = &mut self.connections.slots[slot as usize];
        if let Some(operation) = c.timed.take() {
            self.counters.latencies.record(operation, self.now.mono.0.saturating_sub(c.since.0));
        }
        c.since = self.now.mono;
    }

    /// Closes what has stalled. Once a second.
    pub(super) fn sweep_connections(&mut self, ops: &mut Ops) {
        for slot in 0..self.connections.slots.len() {
            let c = &self.connections.slots[slot];
            let idle = self.stopping && c.phase == Phase::Head;
            if c.deadline < self.now.mono && !matches!(c.phase, Phase::Free | Phase::Closing) || idle {
                if !idle {
                    self.counters.add(Counter::ConnectionsTimedOut, 1);
                }
                match c.phase {
                    Phase::Working => self.work_overdue(slot as u16, ops),
                    _ => self.close(slot as u16, ops),
                }
            }
        }
    }
}

/// How long a head may take.
fn head_ms(gate: &Gate, connection: &Connection) -> u64 {
    if gate.has_credentials() && !connection.verified { STRANGER_HEAD_MS } else { REQUEST_MS }
}

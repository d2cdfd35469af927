//! What comes from native clients: bytes, messages, and who they are.

use super::Worker;
use super::access::Pass;
use super::native::{IDLE_MS, Phase};
use super::native_batch::ACTION;
use super::native_read::{READS, SUBSCRIBES};
use super::pace::BEGUN;
use crate::auth::ask::Resource;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Errno, Op, Ops, Socket};
use crate::kinesis::error::Kind as Refused;
use crate::log::format::{HEADER, header_at};
use crate::native::batch::{Terms, check_header};
use crate::native::hello::feature::BULK;
use crate::native::hello::{self, Hello};
use crate::native::message::{self, Header, Kind};
use crate::native::proof::{self, HASH};
use crate::native::refusal::{Code, Fault};
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;

/// A message must be whole this long after its first byte, and for each 100 KB of it a second more.
const MESSAGE_MS: u64 = 30_000;
const MESSAGE_BYTES_PER_MS: u64 = 100;
/// Where nobody's proof would be compared with the right one.
const NOBODY: [u8; HASH] = [0; HASH];

impl Worker {
    pub(super) fn native_received(&mut self, slot: u16, result: Result<u32, Errno>, ops: &mut Ops) {
        // Without a place it has been turned away.
        let Some(place) = self.natives.at(slot) else { return self.close(slot, ops) };
        let native = &mut self.natives.slots[place as usize];
        native.receiving = false;
        match (result, native.phase) {
            (_, Phase::Free | Phase::Closing) => {}
            (Ok(bytes), Phase::Leaving | Phase::Parting) if bytes > 0 => self.native_drop_message(place),
            (Ok(bytes), Phase::Draining) if bytes > 0 => self.native_drain_on(place, ops),
            (Err(_), _) | (_, Phase::Draining) => self.native_close(place, ops),
            (Ok(0), Phase::Hello | Phase::Proof) => self.native_close(place, ops),
            // It has ended its direction, and may wait for answers still.
            (Ok(0), _) => {
                self.native_leave(place, Fault { code: Code::Ended, why: "" });
                self.native_go_on(place, ops);
            }
            (Ok(bytes), _) => {
                native.last_byte = self.now.mono;
                native.first_byte = native.first_byte.or(Some(native.last_byte));
                match native.into {
                    Some(_) => native.into_filled += bytes,
                    None => native.filled += bytes,
                }
                self.native_go_on(place, ops);
            }
        }
    }

    /// Lets those go on that have been stirred, and tries again what waits.
    pub(super) fn natives_turn(&mut self, ops: &mut Ops) {
        self.natives_part();
        for _ in 0..self.natives.waiting.len() {
            let Some(place) = self.natives.waiting.pop_front() else { break };
            self.natives.slots[place as usize].waiting = false;
            self.native_retry(place);
            self.native_readers_retry(place, ops);
            self.natives.stir(place);
        }
        for _ in 0..self.natives.stirred.len() {
            let Some(place) = self.natives.stirred.pop_front() else { break };
            self.natives.slots[place as usize].stirred = false;
            self.native_go_on(place, ops);
        }
    }

    /// Takes every message that is whole, as long as there is room for answers; then sends what is to be sent.
    pub(super) fn native_go_on(&mut self, place: u16, ops: &mut Ops) {
        while self.natives.slots[place as usize].reads() {
            let message = match self.natives.slots[place as usize].bulk {
                Some(_) => self.native_bulk_message(place, ops),
                None => self.native_message(place, ops),
            };
            let Some((header, body)) = message else { break };
            self.native_parsed(place, &header);
            let native = &mut self.natives.slots[place as usize];
            if header.kind == Kind::Batch && native.is_ahead(header.shard) {
                // It is there, and looked at again when one of them has been answered.
                native.receive_by = Mono(u64::MAX);
                break;
            }
            (native.header, native.since) = (None, None);
            let more = native.into.is_none() && native.filled - native.start > header.stride;
            native.first_byte = more.then_some(native.last_byte);
            match header.kind {
                Kind::Batch => self.native_batch(place, &header, body),
                _ => {
                    native.start += header.stride;
                    self.native_control(place, &header, body, ops);
                }
            }
        }
        self.native_readers_go_on(place, ops);
    }

    /// A message is whole, and is seen to be for the first time or again.
    fn native_parsed(&mut self, place: u16, header: &Header) {
        let native = &mut self.natives.slots[place as usize];
        if let Some(first_byte) = native.first_byte.take().filter(|_| header.kind == Kind::Batch) {
            self.counters.latencies.record(Latency::Parsed, native.last_byte.0.saturating_sub(first_byte.0));
        }
    }

    /// The next message, if it is whole; if not, more is received.
    fn native_message(&mut self, place: u16, ops: &mut Ops) -> Option<(Header, Span)> {
        let native = &self.natives.slots[place as usize];
        let slot = self.buffers.whole(Pool::Connection, native.socket);
        let there = native.filled - native.start;
        let header = match native.header {
            Some(header) => header,
            None if there < HEADER as u32 => {
                self.native_receive(place, ops);
                return None;
            }
            None => {
                let bytes = self.buffers.bytes(slot.part(native.start, HEADER as u32));
                match self.native_header(place, header_at(bytes, 0).expect("it is that long")) {
                    Ok(header) => header,
                    Err(fault) => {
                        self.native_leave(place, fault);
                        return None;
                    }
                }
            }
        };
        let native = &mut self.natives.slots[place as usize];
        native.header = Some(header);
        let size = header.stride;
        if size > slot.len && native.into.is_none() && there >= BEGUN {
            let Some(buffer) = self.native_buffer(place, size) else {
                self.native_waits_for_buffer(place, size);
                return None;
            };
            let native = &mut self.natives.slots[place as usize];
            let (from, to) = self.buffers.pair(slot.part(native.start, there), buffer.first(there));
            to.copy_from_slice(from);
            (native.into, native.into_filled) = (Some(buffer), there);
            (native.start, native.filled) = (0, 0);
        }
        let native = &self.natives.slots[place as usize];
        let (held, from) = match native.into {
            Some(buffer) => (native.into_filled, buffer.first(size)),
            None if there < size => (there, slot),
            None => (there, slot.part(native.start, size)),
        };
        if held < size {
            self.native_receive(place, ops);
            return None;
        }
        Some((header, from.part(HEADER as u32, header.body)))
    }

    /// Looks again in a later turn; a message of `size` bytes has been begun.
    pub(super) fn native_waits_for_buffer(&mut self, place: u16, size: u32) {
        let native = &mut self.natives.slots[place as usize];
        native.since = native.since.or(Some(self.now.mono));
        native.receive_by = message_by(native.since, size, self.now.mono);
        if native.bulk.is_none() || size > self.buffers.slot_size(Pool::Bulk) {
            native.starved = native.starved.or(Some(self.now.mono));
        }
        self.natives.wait(place);
    }

    /// The header of the next message, if that may come now.
    pub(super) fn native_header(&self, place: u16, bytes: &[u8; HEADER]) -> Result<Header, Fault> {
        let native = &self.natives.slots[place as usize];
        let header = message::from_client(bytes, self.native_largest(), native.bulk.is_some())?;
        let expected = match native.phase {
            Phase::Hello => header.kind == Kind::Hello,
            Phase::Proof => header.kind == Kind::Proof,
            _ => !matches!(header.kind, Kind::Hello | Kind::Proof),
        };
        if !expected {
            let why =
                "This message does not come here: a connection begins with Hello, then Proof if there was a Challenge.";
            return Err(Fault { code: Code::Malformed, why });
        }
        if header.kind == Kind::Batch {
            check_header(&header, &Terms { stream: native.stream, producer: native.producer })?;
        }
        Ok(header)
    }

    /// Bytes of the largest batch: the largest commit without its header.
    pub(super) fn native_largest(&self) -> u32 {
        self.limits.commit_bytes - HEADER as u32
    }

    /// Receives more, unless that is being done.
    pub(super) fn native_receive(&mut self, place: u16, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        if std::mem::replace(&mut native.receiving, true) {
            return;
        }
        let slot = self.buffers.whole(Pool::Connection, native.socket);
        let now = self.now.mono;
        let stride = native.header.map(|header| header.stride);
        let rest = native.bulk.as_ref().and_then(|bulk| bulk.rest(native.start, native.filled, stride));
        let all = rest.is_some_and(|(_, all)| all);
        let into = match (native.into, native.header) {
            _ if let Some((rest, _)) = rest => rest,
            (Some(buffer), Some(header)) => buffer.part(native.into_filled, header.stride - native.into_filled),
            _ => {
                // What is there of a message comes to the front, so that the rest of it has room.
                let (start, filled) = (native.start, native.filled);
                self.buffers.bytes_mut(slot).copy_within(start as usize..filled as usize, 0);
                (native.start, native.filled) = (0, filled - start);
                slot.part(native.filled, slot.len - native.filled)
            }
        };
        let begun = native.into.is_some() || native.filled > native.start;
        // What it has waited for a buffer is not its own time.
        native.since = native.since.filter(|_| native.starved.take().is_none()).or(begun.then_some(now));
        native.receive_by = message_by(native.since, native.header.map_or(0, |header| header.stride), now);
        let socket = Socket(native.socket as u32);
        ops.push(if all { Op::RecvAll { socket, into } } else { Op::Recv { socket, into } });
    }

    /// A message that is no batch.
    fn native_control(&mut self, place: u16, header: &Header, body: Span, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        if header.check_body(self.buffers.bytes(body)).is_err() {
            let why = "The checksum of a message's body is wrong.";
            return self.native_leave(place, Fault { code: Code::Malformed, why });
        }
        match header.kind {
            Kind::Hello => self.native_hello(place, header, body),
            Kind::Proof => self.native_proof(place, body),
            Kind::Map => native.due.map = Some(0),
            Kind::Ping => native.due.pong = Some(header.number),
            Kind::Pong => {}
            Kind::Goodbye => self.native_leave(place, Fault { code: Code::Ended, why: "" }),
            Kind::Read | Kind::Subscribe => self.native_wants(place, header, body, ops),
            Kind::Credit => self.native_credit(place, header, body),
            Kind::Unsubscribe => self.native_unsubscribe(place, header, ops),
            _ => unreachable!("from_client lets no other kind through"),
        }
    }

    fn native_hello(&mut self, place: u16, header: &Header, body: Span) {
        let bytes = self.buffers.bytes(body);
        let hello = match Hello::decode(header, bytes) {
            Ok(hello) => hello,
            Err(fault) => return self.native_leave(place, fault),
        };
        let native = &mut self.natives.slots[place as usize];
        native.wants_bulk = hello.wanted & BULK != 0;
        native.producer = header.producer;
        native.name.0[..hello.stream.len()].copy_from_slice(hello.stream.as_bytes());
        native.name.1 = hello.stream.len() as u8;
        let Some(table) = self.gate.table().cloned() else { return self.native_welcome(place) };
        let now = self.now.wall.seconds();
        let token = Some(hello.session_token.as_bytes()).filter(|token| !token.is_empty());
        let key = table.secret_of(hello.key_id, token, now);
        // Header and body, as they lie one behind the other. An unknown key is challenged as well: who asks does not learn which there are.
        let whole = Span { at: body.at - HEADER as u32, len: body.len + HEADER as u32, ..body };
        let challenge = self.next_challenge();
        let expected =
            key.map(|(key, user, secret)| (proof::of(secret, &challenge, self.buffers.bytes(whole)), key, user));
        let native = &mut self.natives.slots[place as usize];
        (native.challenge, native.expected) = (challenge, expected);
        (native.due.challenge, native.phase) = (true, Phase::Proof);
    }

    fn native_proof(&mut self, place: u16, body: Span) {
        let Some(proved) = hello::decode_hash(self.buffers.bytes(body)) else {
            let why = "A Proof has 32 bytes.";
            return self.native_leave(place, Fault { code: Code::Malformed, why });
        };
        let native = &mut self.natives.slots[place as usize];
        let expected = native.expected.take();
        let genuine = proof::same(&expected.map_or(NOBODY, |(hash, ..)| hash), &proved);
        match expected.filter(|_| genuine) {
            Some((_, key, user)) => {
                native.key = Some(key);
                let c = &mut self.connections.slots[native.socket as usize];
                (c.pass, c.verified) = (Pass::User(user), true);
                self.native_welcome(place);
            }
            None => {
                self.counters.add(Counter::RefusedSignature, 1);
                let why = "The access key is not known or not active, or the proof of its secret is wrong.";
                self.native_leave(place, Fault { code: Code::NotProved, why });
            }
        }
    }

    /// The client is who it says: looks for its stream.
    fn native_welcome(&mut self, place: u16) {
        let native = &self.natives.slots[place as usize];
        // Whoever may do any of what the protocol has is let in; each message is judged by what it asks for.
        let (socket, name) = (native.socket, native.stream_name());
        let may = |action| self.weigh(socket, action, Resource::Stream(name), None);
        let permitted = may(ACTION).or_else(|_| may(READS)).or_else(|_| may(SUBSCRIBES));
        if permitted.is_err() {
            self.counters.add(Counter::RefusedDenied, 1);
        }
        let found = permitted.and_then(|()| self.resolve_stream(Some(name), None));
        let fault = match found.map(|stream| stream.number) {
            Ok(number) => {
                let native = &mut self.natives.slots[place as usize];
                (native.stream, native.phase) = (number, Phase::Open);
                native.begun_by = Mono(u64::MAX);
                (native.due.welcome, native.due.map) = (true, Some(0));
                if native.wants_bulk {
                    self.native_begin_bulk(place);
                }
                return;
            }
            Err(error) if error.kind == Refused::AccessDenied => Fault {
                code: Code::Denied,
                why: "The policies allow neither to put records into this stream nor to read them.",
            },
            Err(_) => Fault { code: Code::UnknownStream, why: "There is no such stream." },
        };
        self.native_leave(place, fault);
    }
}

/// When a message of `size` bytes must be whole, which was begun at `since`; if none was, when the next must have begun.
fn message_by(since: Option<Mono>, size: u32, now: Mono) -> Mono {
    match since {
        Some(since) => since.plus_ms(MESSAGE_MS + size as u64 / MESSAGE_BYTES_PER_MS),
        None => now.plus_ms(IDLE_MS),
    }
}

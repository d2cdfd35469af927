//! Bodies of requests: where they lie, what they wait for, and who gets a buffer for one.
//!
//! A body that fits behind its head stays there. Another one gets a buffer, into which the kernel receives the rest of it: at once where the
//! connection is known to be in earnest, else when its first 4 KiB are there, so that who sends a byte now and then holds none. All strangers together
//! hold a quarter of each pool at most; of what those hold who have shown that they are none, `pace.rs` takes from whoever is slow what others wait for.

use super::Worker;
use super::connections::{Connection, Phase};
use super::pace::{BEGUN, class_of};
use crate::http::chunked;
use crate::http::response::CONTINUE;
use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Op, Ops, Socket};
use std::collections::VecDeque;

/// The pools that buffers of bodies come from, by rising size.
pub(super) const BODY_POOLS: [Pool; 3] = [Pool::Small, Pool::Medium, Pool::Large];

/// Connections that wait for a buffer, in order: by the least pool that would do, and whether they are strangers. Who waits for a larger one does
/// not hold up others, nor do strangers, who may have a part of them only.
pub(super) struct Unbuffered([[VecDeque<u16>; 2]; BODY_POOLS.len()]);

impl Unbuffered {
    /// Room for each of `slots` connections, which wait for one buffer at most.
    pub fn new(slots: usize) -> Unbuffered {
        Unbuffered(std::array::from_fn(|_| std::array::from_fn(|_| VecDeque::with_capacity(slots))))
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flatten().flatten().copied()
    }

    fn forget(&mut self, slot: u16) {
        self.0.iter_mut().flatten().for_each(|queue| queue.retain(|other| *other != slot));
    }
}

/// A buffer for a body, as long as a quarter of its pool stays for replies; `may`: of which pools, by their slots.
pub(super) fn take_body(buffers: &mut Buffers, len: usize, may: impl Fn(Pool, u16) -> bool) -> Option<Span> {
    let spare = |b: &Buffers, pool| b.available(pool) > b.slots(pool) as usize / 4 && may(pool, b.slots(pool));
    BODY_POOLS.into_iter().find_map(|pool| {
        (buffers.slot_size(pool) as usize >= len && spare(buffers, pool)).then(|| buffers.take(pool))?
    })
}

impl Connection {
    /// Bytes that a buffer for its body must hold, as far as is known.
    pub fn body_size(&self, largest: u32) -> u32 {
        if self.is_chunked { largest } else { self.body_len }
    }

    /// A buffer into which a body is coming, and since when.
    pub fn receives_body(&self) -> Option<(Span, Mono)> {
        let comes = matches!(self.phase, Phase::Body | Phase::Chunks);
        self.body.filter(|_| comes).map(|body| (body, self.body_since))
    }

    /// The connection is being ended, and the buffer of its body comes back with that.
    pub fn is_giving_body_back(&self) -> bool {
        let ends = self.phase == Phase::Closing || self.phase == Phase::Sending && !self.keep_alive;
        ends && self.body.is_some()
    }
}

impl Worker {
    /// A head has been read. The body's buffer, if it needs one, is sought at once for whoever is no stranger; a body in chunks may be over
    /// before it needs one.
    pub(super) fn begin_body(&mut self, slot: u16, fits: bool, ops: &mut Ops) {
        let c = &self.connections.slots[slot as usize];
        let at_once = !fits && !c.is_chunked && !self.gate.is_stranger(c);
        if !at_once || self.take_body(slot) {
            self.go_on_with_body(slot, ops);
        }
    }

    /// The body has room: says so to a client that waits for the word, or reads on.
    fn go_on_with_body(&mut self, slot: u16, ops: &mut Ops) {
        if self.connections.slots[slot as usize].continuing {
            let from = self.buffers.whole(Pool::Reply, slot).first(CONTINUE.len() as u32);
            self.buffers.bytes_mut(from).copy_from_slice(CONTINUE);
            return ops.push(Op::Send { socket: Socket(slot as u32), from, then: None });
        }
        self.advance(slot, ops);
    }

    /// Finds a buffer for the body and moves into it what has been received; `false`: the connection waits for one.
    fn take_body(&mut self, slot: u16) -> bool {
        let found = self.find_body(slot);
        if !found {
            let c = &mut self.connections.slots[slot as usize];
            (c.phase, c.body_since) = (Phase::Unbuffered, self.now.mono);
            let class = class_of(c.body_size(self.limits.large.1), &self.buffers);
            let stranger = self.gate.is_stranger(c);
            self.connections.unbuffered.0[class][stranger as usize].push_back(slot);
        }
        found
    }

    fn find_body(&mut self, slot: u16) -> bool {
        let c = &mut self.connections.slots[slot as usize];
        let stranger = self.gate.is_stranger(c);
        let may = |pool, slots| !stranger || self.gate.may_hold(pool, slots);
        let size = c.body_size(self.limits.large.1);
        let Some(body) = take_body(&mut self.buffers, size as usize, may) else { return false };
        (c.body, c.body_since) = (Some(body), self.now.mono);
        self.gate.hold(c, body);
        c.body_len = if c.is_chunked { body.len } else { c.body_len };
        c.body_filled = (c.filled - c.head_len).min(c.body_len);
        let from = self.buffers.whole(Pool::Connection, slot).part(c.head_len, c.body_filled);
        c.filled = c.head_len;
        let (from, to) = self.buffers.pair(from, body.first(c.body_filled));
        to.copy_from_slice(from);
        true
    }

    /// Lets connections go on that wait for a buffer, as far as there are some.
    pub(super) fn buffer_waiting(&mut self, ops: &mut Ops) {
        // Who wants the most first, as the others find it easier; and strangers, who have a part of them at most, before those who could have all.
        for at in (0..BODY_POOLS.len() * 2).rev() {
            while let Some(slot) = self.connections.unbuffered.0[at / 2][at % 2].front().copied() {
                if !self.find_body(slot) {
                    break;
                }
                self.connections.unbuffered.0[at / 2][at % 2].pop_front();
                let c = &mut self.connections.slots[slot as usize];
                c.phase = if c.is_chunked { Phase::Chunks } else { Phase::Body };
                self.go_on_with_body(slot, ops);
            }
        }
    }

    /// A connection that waits for a buffer ends.
    pub(super) fn waits_no_more(&mut self, slot: u16) {
        self.connections.unbuffered.forget(slot);
    }

    /// Bytes of a body that must be there before it gets a buffer: it may have less room than that.
    fn begun(&self, slot: u16) -> u32 {
        let room = self.buffers.slot_size(Pool::Connection) - self.connections.slots[slot as usize].head_len;
        BEGUN.min(room)
    }

    pub(super) fn read_body(&mut self, slot: u16, ops: &mut Ops) {
        let (begun, size) = (self.begun(slot), self.buffers.slot_size(Pool::Connection));
        let c = &mut self.connections.slots[slot as usize];
        if c.body.is_none() {
            c.body_filled = (c.filled - c.head_len).min(c.body_len);
            let fits = c.head_len + c.body_len <= size;
            if !fits && c.body_filled >= begun && !self.take_body(slot) {
                return;
            }
        }
        let c = &self.connections.slots[slot as usize];
        let (filled, whole) = (c.body_filled, c.body_filled == c.body_len);
        self.feed_check(slot, filled);
        match whole {
            true => self.work(slot, ops),
            false => self.receive(slot, ops),
        }
    }

    pub(super) fn read_chunks(&mut self, slot: u16, ops: &mut Ops) {
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        let (text, filled) = match c.body {
            Some(body) => (body, c.body_filled),
            None => (whole.part(c.head_len, whole.len - c.head_len), c.filled - c.head_len),
        };
        match c.chunks.decode(self.buffers.bytes_mut(text.first(filled))) {
            Ok(chunked::Progress::More { decoded }) if c.body.is_some() && decoded as u32 == text.len => {
                self.refuse(slot, 413, "The request body is too long.", ops)
            }
            Ok(chunked::Progress::More { decoded }) => {
                let decoded = decoded as u32;
                c.body_filled = decoded;
                let unbuffered = c.body.is_none();
                if unbuffered {
                    c.filled = c.head_len + decoded;
                }
                self.feed_check(slot, decoded);
                if !unbuffered || decoded < self.begun(slot) || self.take_body(slot) {
                    self.receive(slot, ops);
                }
            }
            Err(refused) => self.refuse(slot, refused.status, refused.why, ops),
            Ok(chunked::Progress::Done { decoded, rest }) => {
                self.end_chunks(slot, text, decoded as u32, text.part(rest as u32, filled - rest as u32), ops)
            }
        }
    }

    /// A body in chunks is whole: the first `len` bytes of `text`. `rest`, behind the last chunk, is of the next request.
    fn end_chunks(&mut self, slot: u16, text: Span, len: u32, rest: Span, ops: &mut Ops) {
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        c.body_len = len;
        if c.body.is_some() {
            // It goes back behind this one's head.
            if c.head_len + rest.len > whole.len {
                return self.refuse(slot, 400, "Too much was sent ahead of the reply.", ops);
            }
            c.filled = c.head_len + rest.len;
            let (from, to) = self.buffers.pair(rest, whole.part(c.head_len, rest.len));
            to.copy_from_slice(from);
        } else {
            c.filled = c.head_len + len + rest.len;
            let from = (rest.at - text.at) as usize;
            self.buffers.bytes_mut(text).copy_within(from..from + rest.len as usize, len as usize);
        }
        self.feed_check(slot, len);
        self.work(slot, ops);
    }

    /// A body is whole: who has sent one that took a buffer is no stranger, where nobody signs anything.
    pub(super) fn note_earnest(&mut self, slot: u16) {
        let c = &mut self.connections.slots[slot as usize];
        if c.body.is_none() || self.gate.has_credentials() {
            return;
        }
        c.earnest = true;
        self.gate.release(c);
        if let Some((over, generation)) = c.over {
            self.connections.proven[over.0 as usize] = generation;
        }
    }

    /// The text of the request's body.
    pub(super) fn body_of(&self, slot: u16) -> Span {
        let c = &self.connections.slots[slot as usize];
        match c.body {
            Some(body) => body.first(c.body_len),
            None => self.buffers.whole(Pool::Connection, slot).part(c.head_len, c.body_len),
        }
    }

    /// The request has been decoded and nothing reads its text any more: a buffer that it has to itself goes back, as its answer may have to wait.
    pub(super) fn body_is_read(&mut self, slot: u16) {
        self.gate.release(&mut self.connections.slots[slot as usize]);
        let body = self.take_request_buffer(slot, 0);
        body.into_iter().for_each(|span| self.buffers.give(span));
    }

    /// Takes the buffer that the request's body has to itself, if it is at least `size` bytes long: nothing reads the request any more.
    pub(super) fn take_request_buffer(&mut self, slot: u16, size: usize) -> Option<Span> {
        let body = &mut self.connections.slots[slot as usize].body;
        let long_enough = body.is_some_and(|body| body.len as usize >= size);
        let taken = if long_enough { body.take() } else { None }?;
        // The head is all that is left of the request.
        self.connections.slots[slot as usize].body_len = 0;
        Some(taken)
    }
}

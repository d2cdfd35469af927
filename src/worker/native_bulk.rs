//! Bulk connections: what they send is received into buffers of whole blocks, and batches are written to the log from there.
//!
//! ```text
//!  inbox   │ in a commit │ in a commit │ underway │ being received …      │
//!                                      start      filled
//! ```
//!
//! A buffer that has no room for the next message is retired: it goes back to its pool when the log is durable behind all that lies in it.
//! Each connection may have two buffers, more only while half of them are free, so that nobody who dribbles takes them from others.

use super::Worker;
use super::native::{Native, Natives};
use super::pace::{BEGUN, buffer_for};
use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::op::Ops;
use crate::log::Log;
use crate::log::bulk::ROOM;
use crate::log::format::{HEADER, Position, header_at};
use crate::native::message::{BLOCK, Header};
use std::collections::VecDeque;

/// Buffers of one connection at most.
const BUFFERS_MAX: usize = 4;
const BUFFERS_FAIR: usize = 2;

/// What a bulk connection receives into, and what of it is on its way to the disk.
#[derive(Default)]
pub(super) struct Bulk {
    pub inbox: Option<Span>,
    retired: Vec<Span>,
    runs: VecDeque<Run>,
    /// Bytes of the last message: as many are expected of the next.
    usual: u32,
}

/// Frames in a buffer that are in a log, durable there below `until`.
struct Run {
    buffer: Span,
    /// Index of the log.
    log: usize,
    until: Position,
}

fn is_same(a: &Span, b: &Span) -> bool {
    (a.pool, a.slot) == (b.pool, b.slot)
}

impl Bulk {
    /// Takes what is durable off, and gives back the buffers in which there is nothing else. Of a log that has failed nothing more is waited for
    /// than that the kernel has let go of it.
    fn release(&mut self, logs: &mut [Log], buffers: &mut Buffers) {
        self.runs.retain(|run| {
            let log = &mut logs[run.log];
            let over = log.durable() >= run.until || log.failed().is_some() && !log.in_flight();
            if over {
                log.let_go(run.until);
            }
            !over
        });
        let runs = &self.runs;
        self.retired.retain(|span| {
            let held = runs.iter().any(|run| is_same(&run.buffer, span));
            if !held {
                buffers.give(*span);
            }
            held
        });
    }

    /// What the next receive goes into, behind the `filled` bytes that are there, and whether nothing less than all of it is of use: the rest of a
    /// message whose size is known. Of a large one not, as buffers for those are lent against a pace, which what the kernel keeps would not show.
    /// Otherwise messages like the last one would end where this does, so that none of them lies over the buffer's end, and has to be copied.
    pub fn rest(&self, start: u32, filled: u32, stride: Option<u32>) -> Option<(Span, bool)> {
        let inbox = self.inbox?;
        if let Some(stride) = stride.filter(|stride| inbox.pool == Pool::Bulk && start + stride <= inbox.len) {
            return Some((inbox.part(filled, start + stride - filled), true));
        }
        let whole = (inbox.len - start).checked_div(self.usual).map_or(inbox.len, |times| start + times * self.usual);
        let end = if whole > filled { whole } else { inbox.len };
        Some((inbox.part(filled, end - filled), false))
    }

    /// Nothing more is received into the buffer.
    fn retire(&mut self) {
        self.retired.extend(self.inbox.take());
    }

    /// Gives everything back that may be given back, as the connection has gone; whether that is all.
    pub fn ends(&mut self, logs: &mut [Log], buffers: &mut Buffers) -> bool {
        self.retire();
        self.release(logs, buffers);
        self.runs.is_empty()
    }
}

impl Native {
    /// Whether the connection may have one more buffer.
    fn may_take(&self, buffers: &Buffers) -> bool {
        let held = self.bulk.as_ref().map_or(0, |bulk| bulk.retired.len() + bulk.inbox.is_some() as usize);
        let many = buffers.available(Pool::Bulk) * 2 > buffers.slots(Pool::Bulk) as usize;
        held < if many { BUFFERS_MAX } else { BUFFERS_FAIR }
    }
}

impl Natives {
    /// Bulk connections that may still be had.
    fn bulks_left(&self, buffers: &Buffers) -> usize {
        let open = self.slots.iter().filter(|native| native.bulk.is_some()).count();
        (buffers.slots(Pool::Bulk) as usize / BUFFERS_FAIR).saturating_sub(open)
    }
}

impl Worker {
    /// Makes the connection one of bulk, if that can be.
    pub(super) fn native_begin_bulk(&mut self, place: u16) {
        let native = &self.natives.slots[place as usize];
        if self.connections.slots[native.socket as usize].secure {
            // What is decrypted is copied anyway.
            return;
        }
        let blocks = self.logs.iter().all(|log| log.settings().block <= BLOCK);
        if blocks && self.natives.bulks_left(&self.buffers) > 0 {
            self.natives.slots[place as usize].bulk = Some(Box::default());
        }
    }

    /// The next message, if it is whole; if not, more is received.
    pub(super) fn native_bulk_message(&mut self, place: u16, ops: &mut Ops) -> Option<(Header, Span)> {
        let native = &self.natives.slots[place as usize];
        let bulk = native.bulk.as_ref()?;
        let there = native.filled - native.start;
        let header = match (native.header, bulk.inbox) {
            (Some(header), _) => Some(header),
            (None, Some(inbox)) if there >= ROOM => {
                let bytes = self.buffers.bytes(inbox.part(native.start + HEADER as u32, HEADER as u32));
                match self.native_header(place, header_at(bytes, 0).expect("it is that long")) {
                    Ok(header) => Some(header),
                    Err(fault) => {
                        self.native_leave(place, fault);
                        return None;
                    }
                }
            }
            (None, _) => None,
        };
        let usual = bulk.usual.clamp(BLOCK, self.buffers.slot_size(Pool::Bulk));
        let native = &mut self.natives.slots[place as usize];
        native.header = header;
        if there == 0 {
            // None has been begun, though a buffer may have been waited for.
            native.since = None;
        }
        let size = match header {
            Some(header) if there < BEGUN && header.stride > self.buffers.slot_size(Pool::Bulk) => BEGUN,
            Some(header) => header.stride,
            None if there == 0 => usual,
            None => BLOCK,
        };
        let Some(inbox) = self.native_inbox(place, size) else {
            self.native_waits_for_buffer(place, size);
            return None;
        };
        match header {
            Some(header) if there >= header.stride => {
                let native = &mut self.natives.slots[place as usize];
                let start = native.start;
                native.earnest |= inbox.pool != Pool::Bulk;
                native.bulk.as_mut()?.usual = size;
                Some((header, inbox.part(start + ROOM, header.body)))
            }
            _ => {
                self.native_receive(place, ops);
                None
            }
        }
    }

    /// A buffer with room for a message of `size` bytes, with what is there of it at its beginning where it is another one than before.
    fn native_inbox(&mut self, place: u16, size: u32) -> Option<Span> {
        let Worker { natives, buffers, logs, .. } = self;
        let native = &mut natives.slots[place as usize];
        let bulk = native.bulk.as_mut()?;
        if let Some(inbox) = bulk.inbox.filter(|inbox| native.start + size <= inbox.len) {
            return Some(inbox);
        }
        bulk.release(logs, buffers);
        let (former, there) = (bulk.inbox, native.filled - native.start);
        let empty = |inbox: &Span| there == 0 && !bulk.runs.iter().any(|run| is_same(&run.buffer, inbox));
        if let Some(inbox) = former.filter(|inbox| inbox.pool == Pool::Bulk && size <= inbox.len && empty(inbox)) {
            (native.start, native.filled) = (0, 0);
            return Some(inbox);
        }
        let next = if size > buffers.slot_size(Pool::Bulk) {
            // It alone lies there.
            buffer_for(buffers, size, native.earnest)?.first(size)
        } else {
            Some(()).filter(|()| native.may_take(buffers))?;
            buffers.take(Pool::Bulk)?
        };
        if let Some(former) = former.filter(|_| there > 0) {
            let (from, to) = buffers.pair(former.part(native.start, there), next.first(there));
            to.copy_from_slice(from);
        }
        let bulk = native.bulk.as_mut()?;
        bulk.retire();
        bulk.inbox = Some(next);
        bulk.release(logs, buffers);
        (native.start, native.filled) = (0, there);
        Some(next)
    }

    /// A frame that begins with the room before `body` is in log `log`, durable there below `until`.
    pub(super) fn native_in_place(&mut self, place: u16, body: Span, log: usize, until: Position) {
        let Some(bulk) = &mut self.natives.slots[place as usize].bulk else { return };
        match bulk.runs.back_mut().filter(|run| run.log == log && is_same(&run.buffer, &body)) {
            Some(run) => run.until = until,
            None => bulk.runs.push_back(Run { buffer: body, log, until }),
        }
    }

    /// Gives back what the log does not need any more: when those who wait for what has become durable have read it, from there.
    pub(super) fn natives_release_bulk(&mut self) {
        let Worker { natives, buffers, logs, .. } = self;
        while let Some(place) = natives.releasing.pop() {
            if let Some(bulk) = &mut natives.slots[place as usize].bulk {
                bulk.release(logs, buffers);
            }
        }
    }

    /// Frees the places of bulk clients that have gone as soon as nothing of theirs is on its way.
    pub(super) fn natives_part(&mut self) {
        for at in (0..self.natives.parting.len()).rev() {
            let place = self.natives.parting[at];
            self.native_free(place);
        }
    }
}

//! Frames for native readers, at the worker that has the log: gathered as GetRecords gathers records (`get.rs`), but not looked into.
//!
//! They are copied, header, body and padding, one behind the other into a buffer that is lent and sent whole. They are not sent from where they lie: a
//! send lasts as long as its client takes to read, up to a minute, and memory that is being sent cannot be used again. In log memory that would let
//! one slow reader stop the commits of all; and of a read from a segment, commit headers and other shards' frames lie between those wanted, and
//! the rest of it is the next answer's.
//!
//! Measured: one subscription that reads 90 MB again and again from log memory, a worker on a core of its own, over loopback. Batches of 900 KB come at
//! 4.4 GB/s, for 0.22 s of the worker's time a GB; of that the copy takes 14 % and the kernel's sending nearly all the rest, so without it there
//! would be 16 % more at best. Batches of 2 KB come at 2.4 GB/s, for 0.38 s a GB, 31 % of it in the copy, which there is what brings them from
//! memory, and that the kernel's copy would have to do in its place; and each would take a send of its own, as other shards' frames lie between
//! them. What several readers want is gathered once for all, so the copy is a smaller part the more there are.

use super::Worker;
use super::event::Event;
use super::fanout::Outcome;
use super::get::End;
use super::get_answer::Made;
use super::mailbox::GetCall;
use crate::catalog::state::Shard;
use crate::io::buffers::Span;
use crate::io::op::Ops;
use crate::log::format::{FrameHeader, HEADER, stride};
use crate::observe::counter::Counter;

impl Worker {
    /// Adds a frame, which the log's reader has checked; `false`: a limit was met.
    pub(super) fn frames_gather(&mut self, slot: usize, header: &FrameHeader, body: Span) -> bool {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let Made::Frames(used, records) = get.made else { unreachable!("frames are gathered for who wants them") };
        if header.next() <= get.next {
            return true;
        }
        if header.arrival < get.call.floor {
            get.next = header.next();
            return true;
        }
        // Not the frame's own stride, which may leave room for what only the log needs.
        let size = stride(header.body) as u32;
        let full =
            get.bytes + size as usize > get.bytes_max || records as u64 + header.count as u64 > get.call.limit as u64;
        if records > 0 && full {
            return false;
        }
        if used + size > get.out.len && !self.get_grow(slot, (used + size) as usize) {
            return false;
        }
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let whole = Span { at: body.at - HEADER as u32, len: HEADER as u32 + header.body, ..body };
        let (from, to) = self.buffers.pair(whole, get.out.part(used, size));
        to[..from.len()].copy_from_slice(from);
        to[from.len()..].fill(0);
        get.made = Made::Frames(used + size, records + header.count);
        get.bytes += size as usize;
        (get.next, get.arrival) = (header.next(), header.arrival);
        true
    }

    /// What was gathered goes to those who asked for it; those who wait for the first frame go on waiting.
    pub(super) fn frames_finish(&mut self, slot: usize, end: End, ops: &mut Ops) {
        let behind_ms = self.get_behind(slot, end);
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        let Event { takers, due, .. } = get.event.take().expect("frames are made for readers");
        let (next, records, len) = (get.next, get.made.records(), get.made.len());
        let again = GetCall { sequence: next, floor: get.floor_asked, ..get.call };
        let stands = next == get.call.sequence;
        let caught_up = end == End::CaughtUp;
        let ends = caught_up && self.shard_of_get(&again).is_some_and(Shard::is_closed);
        if records > 0 {
            if end == End::Full {
                self.get_keep(slot, ops);
            }
            let get = self.get_end(slot);
            let span = get.out.first(len as u32);
            self.counters.add(Counter::NativeGathered, 1);
            self.fanout.lend(span, takers.len());
            for taker in takers {
                let outcome = Outcome::Frames { span, next, caught_up, ends, behind_ms };
                self.deliver(taker.worker, taker.who, outcome, ops);
            }
            return;
        }
        let get = self.get_end(slot);
        self.buffers.give(get.out);
        let starved = end == End::Full && stands;
        let moved = matches!(end, End::PartOver(_));
        if starved || caught_up && !ends && !due {
            return self.pulls_wait(&again, takers, starved);
        }
        let change = self.state().applied;
        for taker in takers {
            let outcome = match moved {
                true => Outcome::Moved { change, next },
                false => Outcome::Nothing { next, caught_up, ends },
            };
            self.deliver(taker.worker, taker.who, outcome, ops);
        }
    }

    /// What comes next is damaged. What lies before it goes out first; its reader then comes to the damage again, and is told.
    pub(super) fn frames_damaged(&mut self, slot: usize, ops: &mut Ops) {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        if get.made.records() > 0 {
            return self.frames_finish(slot, End::Full, ops);
        }
        let next = get.next.max(get.reader.sequence());
        let mut get = self.get_end(slot);
        self.buffers.give(get.out);
        let Event { takers, .. } = get.event.take().expect("frames are made for readers");
        for taker in takers {
            self.deliver(taker.worker, taker.who, Outcome::Unreadable { next }, ops);
        }
    }
}

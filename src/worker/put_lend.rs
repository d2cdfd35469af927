//! Frames for other workers: decoded into a buffer that is lent to their owners, who copy them.
//!
//! A put lends one buffer at a time, for as long as its owners copy. Frames that find no buffer, or no room at their owner, wait for a later
//! turn, and no longer than somebody waits for the put.

use super::Worker;
use super::mailbox::{Asker, Batch, Message, PutId, PutRefusal};
use super::put::FrameState;
use crate::io::op::Ops;

impl Worker {
    /// Decodes the frames that wait for it into one lent buffer, and asks their owners. What finds no buffer, or no room at its owner,
    /// waits for a later turn.
    pub(super) fn put_lend(&mut self, id: PutId) {
        let put = &self.puts.slots[id.0 as usize];
        let bytes: usize = put.unlent().map(|(_, frame)| frame.body().next_multiple_of(64)).sum();
        if bytes == 0 {
            return;
        }
        debug_assert!(put.lent.is_none(), "one buffer is lent at a time");
        if let Some(buffer) = self.buffers.take_for(bytes) {
            let mut at = 0;
            for frame in 0..self.puts.slots[id.0 as usize].frames.len() {
                let f = self.puts.slots[id.0 as usize].frames[frame];
                let owner = self.owner_of(f.log);
                if f.state != FrameState::Unlent || !self.mail.may_ask(owner, 1) {
                    continue;
                }
                let body = buffer.part(at, f.body() as u32);
                at += f.body().next_multiple_of(64) as u32;
                self.puts.fill(id, frame as u16, &mut self.buffers, body);
                let put = &mut self.puts.slots[id.0 as usize];
                put.frames[frame].state = FrameState::Asked;
                put.lent = Some((buffer, put.lent.map_or(0, |(_, n)| n) + 1));
                let seen = self.state().applied;
                let asker = Asker::Put { put: id, frame: frame as u16 };
                let (shard, count) = (f.shard, f.count);
                let batch = Batch { shard, count, body, producer: 0, number: 0, body_crc: None, in_place: false };
                self.mail.ask(owner, Message::Put { asker, batch, seen });
            }
            if self.puts.slots[id.0 as usize].lent.is_none() {
                self.buffers.give(buffer);
            }
        }
        let put = &mut self.puts.slots[id.0 as usize];
        if !put.waits_to_lend && put.unlent().next().is_some() {
            put.waits_to_lend = true;
            self.puts.unlent.push_back(id);
        }
    }

    /// Lends what could not be lent before, as far as there is room now; what nobody waits for any more is refused.
    pub(super) fn put_unlent(&mut self, ops: &mut Ops) {
        for _ in 0..self.puts.unlent.len() {
            let Some(id) = self.puts.unlent.pop_front() else { return };
            let put = &mut self.puts.slots[id.0 as usize];
            // The owners still copy the last buffer.
            if put.lent.is_some() {
                self.puts.unlent.push_back(id);
                continue;
            }
            put.waits_to_lend = false;
            if put.connection.is_some() && !self.stopping {
                self.put_lend(id);
                continue;
            }
            let given_up: Vec<u16> = put.unlent().map(|(frame, _)| frame).collect();
            // None where they were lent meanwhile, together with frames that were routed again: then the slot may be another put's.
            let any = !given_up.is_empty();
            for frame in given_up {
                self.frame_refused(id, frame, PutRefusal::Failed);
            }
            if any {
                self.put_progress(id, ops);
            }
        }
    }

    /// An owner has copied a lent frame, or refused it.
    pub(super) fn put_loan_ended(&mut self, id: PutId) {
        let put = &mut self.puts.slots[id.0 as usize];
        let (span, left) = put.lent.take().expect("an answer for a frame that was lent");
        match left {
            1 => self.buffers.give(span),
            _ => put.lent = Some((span, left - 1)),
        }
    }
}

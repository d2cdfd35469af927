//! Frames into the logs of this worker: of its own puts and native clients, and of other workers'.
//!
//! A frame that cannot be appended at once (log memory is in flight, the shard is closing, the log is about to be trimmed) waits here, in
//! order, until its deadline; whatever may have changed that is followed by another try at the end of the turn.

use super::WhenFull;
use super::Worker;
use super::mailbox::{Asker, Batch, Message, NativeId, PutId, PutRefusal};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::log::bulk::ROOM;
use crate::log::format::{FrameKind, Position, ShardKey, round_up};
use crate::log::producers::{Claim, Verdict};
use crate::log::{Refusal, Stamp};
use crate::native::message::BLOCK;
use crate::observe::counter::Counter;
use crate::shard::{Admission, OwnedShard};

/// How long an owner keeps a frame of another worker waiting.
pub const HELD_MS: u64 = 15_000;
/// A frame by itself is written from where it was received if it is this part of the buffer there, or more.
const IN_PLACE_PART: u32 = 16;

/// A frame that waits to be appended.
#[derive(Clone, Copy, Debug)]
pub enum Pending {
    Local {
        put: PutId,
        frame: u16,
        deadline: Mono,
    },
    /// Of a native client of this worker.
    Native {
        id: NativeId,
        batch: Batch,
        deadline: Mono,
    },
    Remote {
        worker: u16,
        asker: Asker,
        batch: Batch,
        seen: u64,
        deadline: Mono,
    },
}

/// Where a frame has gone: durable when log `log` is below `position`.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    pub log: u32,
    /// Number of its first record.
    pub first: u64,
    pub arrival: u64,
    pub position: Position,
}

/// What became of a frame.
enum Outcome {
    Appended(Appended),
    /// For a reason that holds for this log at the moment.
    LogWaits(usize),
    /// For a reason of its shard.
    ShardWaits,
    Refused(PutRefusal),
}

impl Pending {
    /// Of a native batch that has one; else 0.
    fn producer(&self) -> u64 {
        match self {
            Pending::Local { .. } => 0,
            Pending::Native { batch, .. } | Pending::Remote { batch, .. } => batch.producer,
        }
    }
}

impl Worker {
    /// Appends the frame, or lets it wait behind others.
    pub(super) fn append_or_wait(&mut self, pending: Pending) {
        // Behind a frame that waits for the same log no other overtakes: a small one would for ever.
        if self.pending.is_empty() || !self.log_has_waiting(&pending) {
            match self.append(pending) {
                Outcome::LogWaits(_) | Outcome::ShardWaits => {}
                settled => return self.settle(pending, settled),
            }
        }
        self.pending.push_back(pending);
    }

    fn log_has_waiting(&self, pending: &Pending) -> bool {
        let log = self.log_of(pending);
        self.pending.iter().any(|other| self.log_of(other) == log)
    }

    fn shard_of(&self, pending: &Pending) -> ShardKey {
        match *pending {
            Pending::Local { put, frame, .. } => self.put_of(put).frames[frame as usize].shard,
            Pending::Native { batch, .. } | Pending::Remote { batch, .. } => batch.shard,
        }
    }

    fn log_of(&self, pending: &Pending) -> Option<usize> {
        self.shards.get(self.shard_of(pending)).map(|shard| shard.log)
    }

    /// Tries again what waits, in order; for a log that still does not take a frame, no later one.
    pub(super) fn append_waiting(&mut self, ops: &mut Ops) {
        let mut blocked: u64 = 0;
        for _ in 0..self.pending.len() {
            let Some(pending) = self.pending.pop_front() else { return };
            let log = self.log_of(&pending);
            if log.is_some_and(|log| blocked & (1 << (log % 64)) != 0) && !self.overdue(&pending) {
                self.pending.push_back(pending);
                continue;
            }
            match self.append(pending) {
                Outcome::LogWaits(_) | Outcome::ShardWaits if self.overdue(&pending) => {
                    self.settle(pending, Outcome::Refused(PutRefusal::Failed));
                }
                Outcome::LogWaits(log) => {
                    blocked |= 1 << (log % 64);
                    self.pending.push_back(pending);
                    continue;
                }
                Outcome::ShardWaits => {
                    self.pending.push_back(pending);
                    continue;
                }
                settled => self.settle(pending, settled),
            }
            if let Pending::Local { put, .. } = pending {
                self.put_progress(put, ops);
            }
        }
    }

    fn overdue(&self, pending: &Pending) -> bool {
        let (Pending::Local { deadline, .. } | Pending::Native { deadline, .. } | Pending::Remote { deadline, .. }) =
            *pending;
        deadline <= self.now.mono || self.stopping
    }

    fn settle(&mut self, pending: Pending, outcome: Outcome) {
        match (pending, outcome) {
            (Pending::Local { put, frame, .. }, Outcome::Appended(appended)) => {
                self.frame_appended(put, frame, appended)
            }
            (Pending::Local { put, frame, .. }, Outcome::Refused(why)) => self.frame_refused(put, frame, why),
            (Pending::Native { id, .. }, Outcome::Appended(appended)) => self.native_appended(id, appended),
            (Pending::Native { id, .. }, Outcome::Refused(why)) => self.native_refused(id, why),
            (Pending::Remote { worker, asker, .. }, Outcome::Appended(appended)) => {
                let Appended { log, first, arrival, position } = appended;
                let index = self.log_index(log).expect("it was appended to a log of this worker");
                self.tell[index].expects(worker, position);
                self.mail.answer(worker, Message::Appended { asker, log, first, arrival, position });
            }
            (Pending::Remote { worker, asker, .. }, Outcome::Refused(why)) => {
                self.mail.answer(worker, Message::PutRefused { asker, why });
            }
            (_, Outcome::LogWaits(_) | Outcome::ShardWaits) => unreachable!("what waits is not settled"),
        }
    }

    /// Writes the body of a frame; gives what a native client has said of it: producer, number, CRC.
    fn fill(&mut self, pending: Pending, to: Span) -> (u64, u32, Option<u32>) {
        match pending {
            Pending::Local { put, frame, .. } => {
                self.puts.fill(put, frame, &mut self.buffers, to);
                (0, 0, None)
            }
            Pending::Native { batch, .. } => {
                let (from, to) = self.buffers.pair(batch.body, to);
                to.copy_from_slice(from);
                (batch.producer, batch.number, batch.body_crc)
            }
            Pending::Remote { worker, batch, .. } => {
                let from = self.loans[worker as usize].bytes(batch.body);
                self.buffers.bytes_mut(to).copy_from_slice(from);
                (batch.producer, batch.number, batch.body_crc)
            }
        }
    }

    /// What becomes of a batch of a producer, unless it is to be appended.
    fn judged(&self, key: ShardKey, pending: &Pending) -> Option<Outcome> {
        let (Pending::Native { batch, .. } | Pending::Remote { batch, .. }) = *pending else { return None };
        let log = self.shards.get(key).filter(|_| batch.producer != 0)?.log;
        let Batch { producer, number, count, body_crc, .. } = batch;
        let body_crc = body_crc.expect("a native batch comes with one");
        let claim = Claim { shard: key, producer, number, count: count as u32, body_crc };
        let log = &self.logs[log];
        match log.judge(&claim, self.retention.stamp(self.now)) {
            Verdict::Next => None,
            Verdict::Rejected(why) => Some(Outcome::Refused(PutRefusal::Producer(why))),
            Verdict::Stored { first, arrival, position } => {
                self.counters.add(Counter::NativeRepeated, 1);
                Some(Outcome::Appended(Appended { log: log.settings().number, first, arrival, position }))
            }
        }
    }

    /// The log has not taken a frame.
    fn not_taken(&mut self, log: usize, refusal: Refusal) -> Outcome {
        match refusal {
            Refusal::Busy => Outcome::LogWaits(log),
            Refusal::Full if self.options.when_full == WhenFull::Trim && !self.space[log].stuck => {
                self.space[log].wants_trim = true;
                Outcome::LogWaits(log)
            }
            Refusal::Full => {
                self.counters.add(Counter::LogFull, 1);
                Outcome::Refused(PutRefusal::Full)
            }
            Refusal::Failed | Refusal::TooLarge => Outcome::Refused(PutRefusal::Failed),
        }
    }

    /// The blocks of a batch that is written from where it lies: one of some size, or right behind one that is. Small ones by themselves are
    /// gathered in log memory, where others' come as well: a copy costs less than a write.
    fn in_place(&self, batch: &Batch, log: usize) -> Option<Span> {
        let body = Some(batch.body).filter(|_| batch.in_place)?;
        let len = round_up((ROOM + body.len) as u64, BLOCK as u64) as u32;
        let span = Span { at: body.at - ROOM, len, ..body };
        let large = len >= self.buffers.slot_size(Pool::Bulk) / IN_PLACE_PART;
        (large || self.logs[log].goes_on_at(span)).then_some(span)
    }

    /// Appends a batch of a bulk connection from where it was received.
    fn append_in_place(&mut self, id: NativeId, batch: &Batch, span: Span, log: usize) -> Outcome {
        let &Batch { body, producer, number, body_crc, .. } = batch;
        let (shard, stamp) = self.stamp(batch.shard, batch.count, (producer, number, body_crc));
        let position = match self.logs[log].append_in_place(span, body.len, &stamp, &mut self.buffers) {
            Ok(position) => position,
            Err(refusal) => return self.not_taken(log, refusal),
        };
        self.native_in_place(id.place, body, log, position);
        self.counters.add(Counter::NativeInPlace, 1);
        self.taken(shard, &stamp, position)
    }

    /// What the header of a shard's next frame says, and the shard as it is when a log has taken that. `claim`: producer, number and CRC of the
    /// body, by a native client.
    fn stamp(&self, key: ShardKey, count: u16, claim: (u64, u32, Option<u32>)) -> (OwnedShard, Stamp) {
        let (producer, number, body_crc) = claim;
        let mut shard = *self.shards.get(key).expect("its log was looked up");
        let count = count as u32;
        let (sequence, arrival) = shard.assign(count, self.retention.stamp(self.now));
        let kind = FrameKind::Batch;
        (shard, Stamp { kind, shard: key, sequence, arrival, count, producer, number, body_crc })
    }

    /// A frame with that stamp is in the log of its shard, durable there below `position`.
    fn taken(&mut self, shard: OwnedShard, stamp: &Stamp, position: Position) -> Outcome {
        let &Stamp { shard: key, sequence: first, arrival, .. } = stamp;
        let log = shard.log;
        *self.shards.get_mut(key).expect("its log was looked up") = OwnedShard { end: position, ..shard };
        self.fanout.appended(log, position, key);
        Outcome::Appended(Appended { log: self.logs[log].settings().number, first, arrival, position })
    }

    fn append(&mut self, pending: Pending) -> Outcome {
        let key = self.shard_of(&pending);
        let (count, size, seen) = match pending {
            Pending::Local { put, frame, .. } => {
                let put = self.put_of(put);
                if !put.is_awaited() {
                    return Outcome::Refused(PutRefusal::Failed);
                }
                let frame = &put.frames[frame as usize];
                (frame.count, frame.body(), self.state().applied)
            }
            // Its client has gone, and its bytes with it.
            Pending::Native { id, .. } if !self.natives.is_there(id) => return Outcome::Refused(PutRefusal::Failed),
            Pending::Native { batch, .. } => (batch.count, batch.body.len as usize, self.state().applied),
            Pending::Remote { batch, seen, .. } => (batch.count, batch.body.len as usize, seen),
        };
        let applied = self.state().applied;
        if applied < seen {
            return Outcome::ShardWaits;
        }
        // Also of a closed shard: what it has is answered as before.
        if let Some(outcome) = self.judged(key, &pending) {
            return outcome;
        }
        let log = match self.shards.get(key).map(|shard| (shard.admission, shard.log)) {
            Some((Admission::Open, log)) => log,
            // Its last records are never durable: whether it closes or not, it takes nothing before a restart.
            Some((Admission::Closing { .. }, log)) if self.logs[log].failed().is_some() => {
                return Outcome::Refused(PutRefusal::Failed);
            }
            Some((Admission::Closing { .. }, _)) => return Outcome::ShardWaits,
            Some((Admission::Closed { .. }, _)) if pending.producer() != 0 => {
                return Outcome::Refused(PutRefusal::Closed);
            }
            Some((Admission::Closed { .. }, _)) | None => {
                return Outcome::Refused(PutRefusal::Moved { change: applied });
            }
        };
        if let Pending::Native { id, batch, .. } = pending
            && let Some(span) = self.in_place(&batch, log)
        {
            return self.append_in_place(id, &batch, span, log);
        }
        let open = match self.logs[log].open_frame(size as u32, &mut self.buffers) {
            Ok(open) => open,
            Err(refusal) => return self.not_taken(log, refusal),
        };
        let to = self.logs[log].body(&open);
        let claim = self.fill(pending, to);
        let (shard, stamp) = self.stamp(key, count, claim);
        let position = self.logs[log].close_frame(open, stamp, &mut self.buffers);
        self.taken(shard, &stamp, position)
    }
}

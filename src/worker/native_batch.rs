//! A batch of a native client, from its last byte to the log that it is appended to.
//!
//! Its bytes stay where they were received until it is settled whether it was appended; only for another worker's log they are copied into a buffer
//! of their own first, where they lie in the connection's slot.

use super::Worker;
use super::append::{Appended, Pending};
use super::mailbox::{Asker, Batch, Message, NativeId, PutRefusal};
use super::native::{Answer, Phase, Settled, Stage, Underway};
use crate::auth::ask::Resource;
use crate::catalog::state::{ShardState, StreamStatus};
use crate::io::buffers::Span;
use crate::log::format::records;
use crate::log::producers::Rejection;
use crate::native::batch::check_body;
use crate::native::message::Header;
use crate::native::refusal::{Code, Fault};
use crate::observe::counter::Counter;

/// What a user must be allowed to do with the stream.
pub(super) const ACTION: &str = "kinesis:PutRecords";
/// A batch that is not on its way into a log by then is refused.
const APPEND_MS: u64 = 20_000;
/// When a client may try again what a full disk did not take.
const FULL_WAIT_MS: u32 = 1_000;
/// When a new producer may try again that there is no room for.
const CROWDED_WAIT_MS: u32 = 60_000;

const CLOSED: Fault = Fault { code: Code::ShardClosed, why: "The shard is closed: its hash keys are its children's." };
const UNKNOWN: Fault = Fault { code: Code::UnknownShard, why: "The stream has no such shard." };
const FULL: Fault = Fault { code: Code::Full, why: "The log is full: records must expire first, or a stream go." };
const UNAVAILABLE: Fault =
    Fault { code: Code::Unavailable, why: "The shard's log has failed, or did not take the batch in time." };
pub(super) const GONE: Fault = Fault { code: Code::StreamGone, why: "The stream was deleted." };
const DENIED: Fault = Fault { code: Code::Denied, why: "The policies do not allow to put records into this stream." };
pub(super) const EXPIRED: Fault =
    Fault { code: Code::NotProved, why: "The session token of the access key has expired." };

const ELSEWHERE: Fault =
    Fault { code: Code::BadBatch, why: "The partition key of a record belongs to another shard than the batch names." };

/// What is said of a producer's batch that is not its next one.
fn rejected(why: Rejection) -> Fault {
    let (code, why) = match why {
        Rejection::Unknown => {
            (Code::UnknownProducer, "The shard knows nothing of this producer: begin a new epoch, with batch 0.")
        }
        Rejection::Fenced => (Code::Fenced, "The producer has begun a higher epoch, maybe in another process."),
        Rejection::OutOfOrder => {
            (Code::OutOfOrder, "The batch is neither the producer's next one nor one of its last in this shard.")
        }
        Rejection::Other => {
            (Code::OutOfOrder, "The shard has another batch of this number: two processes are one producer.")
        }
        Rejection::Crowded => (
            Code::TooManyProducers,
            "The log knows as many producers as it can; the one that was idle longest will go.",
        ),
    };
    Fault { code, why }
}

/// Where a batch goes.
enum Way {
    /// To this log.
    Log(u32),
    Refused(Fault),
    /// The stream is no more.
    Gone,
}

impl Worker {
    /// A batch is whole.
    pub(super) fn native_batch(&mut self, place: u16, header: &Header, body: Span) {
        let native = &mut self.natives.slots[place as usize];
        let (owned, in_slot) = match native.into.take() {
            Some(buffer) => {
                native.earnest = true;
                (Some(buffer), 0)
            }
            None => (None, header.stride),
        };
        let batch = Batch {
            shard: header.shard,
            count: header.count as u16,
            body,
            producer: header.producer,
            number: header.number,
            body_crc: Some(header.body_crc),
            in_place: native.bulk.is_some(),
        };
        let since = self.now.mono;
        native.underway = Some(Underway { batch, owned, in_slot, payload: 0, stage: Stage::Unlent, since });
        self.counters.add(Counter::NativeBatches, 1);
        match self.native_check(place, header, body) {
            Err(fault) if matches!(fault.code, Code::StreamGone | Code::NotProved) => self.native_give_up(place, fault),
            Err(fault) => self.native_settled(place, Settled::Refused { fault, wait_ms: 0 }),
            Ok(payload) => {
                if let Some(underway) = &mut self.natives.slots[place as usize].underway {
                    underway.payload = payload;
                }
                self.native_route(place);
            }
        }
    }

    /// Whether the batch is one, and its client may put it here; gives its bytes of keys and data.
    fn native_check(&mut self, place: u16, header: &Header, body: Span) -> Result<u32, Fault> {
        let native = &self.natives.slots[place as usize];
        let stream = self.state().stream_by_number(native.stream).ok_or(GONE)?;
        let payload = check_body(header, self.buffers.bytes(body), stream.max_record_kib * 1024)?;
        if let (Some(table), Some(key)) = (self.gate.table(), native.key) {
            if !table.is_valid(key, self.now.wall.seconds()) {
                return Err(EXPIRED);
            }
            self.authorize(native.socket, ACTION, Resource::Stream(&stream.name)).map_err(|_| DENIED)?;
        }
        if self.options.verify_keys {
            self.native_check_keys(header, body)?;
        }
        Ok(payload)
    }

    /// Whether all records belong to the shard; those without a key do.
    fn native_check_keys(&mut self, header: &Header, body: Span) -> Result<(), Fault> {
        let state = if let Some(control) = &self.control { control.catalog.state() } else { &self.view };
        // What is not there is refused as such, behind this.
        let Some(range) = state.shard(header.shard).map(|shard| shard.range) else { return Ok(()) };
        let Worker { natives, buffers, .. } = self;
        let mut all_here = true;
        let mut look = |_, hash| all_here &= (range.first..=range.last).contains(&hash);
        let records = records(buffers.bytes(body), header.count).expect("it was checked");
        records.filter_map(|record| record.key).for_each(|key| natives.lanes.push(0, key, &mut look));
        natives.lanes.flush(&mut look);
        match all_here {
            true => Ok(()),
            false => Err(ELSEWHERE),
        }
    }

    /// The connection ends, and the batch, which nobody has taken, with it: what the `Goodbye` says holds for it.
    fn native_give_up(&mut self, place: u16, fault: Fault) {
        self.native_consume(place);
        self.native_leave(place, fault);
    }

    fn native_way(&self, batch: &Batch) -> Way {
        let shard = batch.shard;
        let stream = self.state().stream_by_number(shard.stream());
        let Some(stream) = stream.filter(|stream| stream.status != StreamStatus::Deleting) else { return Way::Gone };
        match stream.shards.get(&shard.shard()) {
            None => Way::Refused(UNKNOWN),
            // Where there is a producer its owner is asked: it may have the batch.
            Some(shard) if matches!(shard.state, ShardState::Closed { .. }) && batch.producer == 0 => {
                Way::Refused(CLOSED)
            }
            Some(shard) => Way::Log(shard.log),
        }
    }

    /// Gives the batch to the owner of its shard's log.
    fn native_route(&mut self, place: u16) {
        let Some(underway) = &mut self.natives.slots[place as usize].underway else { return };
        let (batch, since) = (underway.batch, underway.since);
        let log = match self.native_way(&batch) {
            Way::Log(log) => log,
            Way::Refused(fault) => return self.native_settled(place, Settled::Refused { fault, wait_ms: 0 }),
            Way::Gone => return self.native_give_up(place, GONE),
        };
        let id = self.natives.id(place);
        if self.log_index(log).is_some() {
            self.native_stage(place, Stage::Here);
            let deadline = since.plus_ms(APPEND_MS);
            return self.append_or_wait(Pending::Native { id, batch, deadline });
        }
        let owner = self.owner_of(log);
        self.native_stage(place, Stage::Unlent);
        let batch = if self.mail.may_ask(owner, 1) { self.native_lend(place) } else { None };
        match batch {
            Some(batch) => {
                self.native_stage(place, Stage::Lent);
                let seen = self.state().applied;
                self.mail.ask(owner, Message::Put { asker: Asker::Native(id), batch, seen });
            }
            None => self.natives.wait(place),
        }
    }

    fn native_stage(&mut self, place: u16, stage: Stage) {
        if let Some(underway) = &mut self.natives.slots[place as usize].underway {
            underway.stage = stage;
        }
    }

    /// The batch in a buffer that can be lent: the connection's slot cannot, as it is another connection's when this one ends.
    fn native_lend(&mut self, place: u16) -> Option<Batch> {
        let Worker { natives, buffers, .. } = self;
        let underway = natives.slots[place as usize].underway.as_mut()?;
        // A bulk connection's buffer is kept for as long as it is lent.
        if underway.owned.is_none() && !underway.batch.in_place {
            let len = underway.batch.body.len;
            let buffer = buffers.take_for(len as usize)?;
            let (from, to) = buffers.pair(underway.batch.body, buffer.first(len));
            to.copy_from_slice(from);
            (underway.owned, underway.batch.body) = (Some(buffer), buffer.first(len));
        }
        Some(underway.batch)
    }

    /// Tries again what waited for a buffer, for room at another worker, or for the catalog.
    pub(super) fn native_retry(&mut self, place: u16) {
        let native = &self.natives.slots[place as usize];
        // A message that waits for a buffer is looked at as the connection goes on.
        let Some(underway) = &native.underway else { return };
        let (stage, since) = (underway.stage, underway.since);
        if !matches!(native.phase, Phase::Open | Phase::Leaving) || matches!(stage, Stage::Lent | Stage::Here) {
            return;
        }
        if since.plus_ms(APPEND_MS) < self.now.mono || self.stopping {
            return self.native_settled(place, Settled::Refused { fault: UNAVAILABLE, wait_ms: 0 });
        }
        match stage {
            Stage::Moved(change) if self.state().applied < change => self.natives.wait(place),
            _ => self.native_route(place),
        }
    }

    /// The batch is in a log, and is answered when it is durable there.
    pub(super) fn native_appended(&mut self, id: NativeId, appended: Appended) {
        if self.native_returned(id) {
            self.native_settled(id.place, Settled::Appended(appended));
        }
    }

    pub(super) fn native_refused(&mut self, id: NativeId, why: PutRefusal) {
        if !self.native_returned(id) {
            return;
        }
        let (fault, wait_ms) = match why {
            PutRefusal::Moved { change } => {
                self.native_stage(id.place, Stage::Moved(change));
                return self.natives.wait(id.place);
            }
            PutRefusal::Full => (FULL, FULL_WAIT_MS),
            PutRefusal::Failed => (UNAVAILABLE, 0),
            PutRefusal::Closed => (CLOSED, 0),
            PutRefusal::Producer(Rejection::Crowded) => (rejected(Rejection::Crowded), CROWDED_WAIT_MS),
            PutRefusal::Producer(why) => (rejected(why), 0),
        };
        self.native_settled(id.place, Settled::Refused { fault, wait_ms });
    }

    /// Nobody reads the batch any more; `false`: nor does its client wait for the answer.
    fn native_returned(&mut self, id: NativeId) -> bool {
        if self.natives.is_there(id) {
            return true;
        }
        // Its place is kept for as long as its batch is lent, and no longer.
        if self.natives.id(id.place) == id {
            self.native_stage(id.place, Stage::Here);
            self.native_free(id.place);
        }
        false
    }

    /// It is settled what the batch is answered with; its bytes are not needed any more.
    fn native_settled(&mut self, place: u16, settled: Settled) {
        let Some(underway) = self.native_consume(place) else { return };
        let Underway { batch: Batch { shard, number, count, .. }, payload, since, .. } = underway;
        let native = &mut self.natives.slots[place as usize];
        native.answers.push_back(Answer { shard, number, count: count as u32, payload, since, settled });
        if !std::mem::replace(&mut native.answering, true) {
            self.natives.answering.push(place);
        }
        self.natives.stir(place);
    }

    fn native_consume(&mut self, place: u16) -> Option<Underway> {
        let native = &mut self.natives.slots[place as usize];
        let underway = native.underway.take()?;
        native.start += underway.in_slot;
        underway.owned.into_iter().for_each(|span| self.buffers.give(span));
        Some(underway)
    }
}

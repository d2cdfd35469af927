//! The answers of settled puts.

use super::Worker;
use super::mailbox::{ConnectionId, PutId, PutRefusal};
use super::put::{Frame, FrameState, Puts};
use super::serve::{Body, Reply};
use crate::io::buffers::Span;
use crate::io::op::Ops;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::put_record::{self, ANSWER_MAX};
use crate::kinesis::put_records;
use crate::kinesis::sequence::{Run, SequenceNumber};
use crate::log::format::ShardKey;
use crate::observe::counter::Counter;

impl Worker {
    /// Answers a settled put; `false`: there is no buffer for the answer now.
    pub(super) fn put_answer(&mut self, id: PutId, connection: ConnectionId, ops: &mut Ops) -> bool {
        if !self.connections.awaits(connection) {
            return true;
        }
        let buffer = match self.put_of(id).single() {
            true => None,
            false => match self.answer_buffer(id, connection.slot) {
                Some(span) => Some(span),
                None => return false,
            },
        };
        let put = self.put_of(id);
        let mut acked = (0, 0);
        for frame in &put.frames {
            if matches!(frame.state, FrameState::Appended { .. }) {
                acked = (acked.0 + frame.count as u64, acked.1 + frame.payload as u64);
            }
        }
        self.counters.add(Counter::RecordsAcked, acked.0);
        self.counters.add(Counter::BytesAcked, acked.1);
        match buffer {
            None => self.answer_single(id, connection.slot, ops),
            Some(span) => self.answer_many(id, connection.slot, span, ops),
        }
        true
    }

    /// Where the answer is written: over the request, whose text is not needed any more, where that has a buffer of its own and is long
    /// enough; else into a free buffer.
    fn answer_buffer(&mut self, id: PutId, slot: u16) -> Option<Span> {
        let size = put_records::size_max(self.put_of(id).places.len(), self.failed_records(id));
        self.take_request_buffer(slot, size).or_else(|| self.buffers.take_for(size))
    }

    fn failed_records(&self, id: PutId) -> usize {
        let refused = |f: &&Frame| matches!(f.state, FrameState::Refused(_));
        self.put_of(id).frames.iter().filter(refused).map(|f| f.count as usize).sum()
    }

    fn answer_single(&mut self, id: PutId, slot: u16, ops: &mut Ops) {
        let put = self.put_of(id);
        let frame = &put.frames[put.places[0].frame as usize];
        let reply = match frame.state {
            FrameState::Appended { first, arrival, .. } => {
                let sequence = number(frame.created, frame.shard, first, arrival);
                let mut out = [0; ANSWER_MAX];
                let len = put_record::answer(put.scan.encoding, &mut out, &sequence);
                Reply { body: Body::Short(out, len), ..Reply::json(Vec::new()) }
            }
            FrameState::Refused(why) => Reply::error(&self.put_error(frame.shard, why)),
            FrameState::Unlent | FrameState::Asked | FrameState::Rerouted => unreachable!("the put is settled"),
        };
        self.reply(slot, reply, ops);
    }

    fn answer_many(&mut self, id: PutId, slot: u16, span: Span, ops: &mut Ops) {
        let failed = self.failed_records(id);
        let errors: Vec<(PutRefusal, ShardKey, Error)> = match failed {
            0 => Vec::new(),
            _ => self.entry_errors(id),
        };
        let Puts { slots, runs, .. } = &mut self.puts;
        let put = &slots[id.0 as usize];
        runs.clear();
        runs.extend(put.frames.iter().map(run));
        let out = self.buffers.bytes_mut(span);
        let mut answer = put_records::Answer::begin(put.scan.encoding, out, failed);
        for place in &put.places {
            let frame = &put.frames[place.frame as usize];
            match (&runs[place.frame as usize], frame.state) {
                (Some(run), _) => answer.stored(run, place.ordinal as u32),
                (None, FrameState::Refused(why)) => {
                    let found = errors.iter().find(|(w, shard, _)| *w == why && *shard == frame.shard);
                    let (_, _, error) = found.expect("an error was made for each refused frame");
                    answer.refused(error.kind.name(), &error.message);
                }
                (None, _) => unreachable!("the put is settled"),
            }
        }
        let len = answer.finish();
        self.counters.add(Counter::RecordsRefused, failed as u64);
        self.reply(slot, Reply::span(span.first(len as u32)), ops);
    }

    fn entry_errors(&self, id: PutId) -> Vec<(PutRefusal, ShardKey, Error)> {
        let frames = self.put_of(id).frames.iter();
        let refused = frames.filter_map(|f| match f.state {
            FrameState::Refused(why) => Some((why, f.shard)),
            _ => None,
        });
        refused.map(|(why, shard)| (why, shard, self.put_error(shard, why))).collect()
    }

    fn put_error(&self, shard: ShardKey, why: PutRefusal) -> Error {
        match why {
            PutRefusal::Full => {
                let stream = self.state().stream_by_number(shard.stream()).map_or("", |s| &s.name);
                let text = format!(
                    "The log is full: nothing can be written to shard shardId-{:012} in stream {stream} under account {} until records expire \
                     or a stream is deleted.",
                    shard.shard(),
                    self.identity.account
                );
                Error::new(Kind::ProvisionedThroughputExceeded, text)
            }
            // The last two are for producers, which no put has.
            PutRefusal::Failed | PutRefusal::Moved { .. } | PutRefusal::Closed | PutRefusal::Producer(_) => {
                Error::new(Kind::InternalFailure, "Internal Service Failure")
            }
        }
    }
}

/// The sequence numbers of a frame's records, if it was appended.
fn run(frame: &Frame) -> Option<Run> {
    match frame.state {
        FrameState::Appended { first, arrival, .. } => {
            Some(Run::new(number(frame.created, frame.shard, first, arrival)))
        }
        _ => None,
    }
}

fn number(created: u64, shard: ShardKey, number: u64, arrival: u64) -> SequenceNumber {
    SequenceNumber { created, shard: shard.shard(), number, at: arrival / 1_000_000 }
}

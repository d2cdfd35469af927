//! What a writer makes of the messages of a native server.

use super::ledger::{Fate, Place};
use super::native::{KEY_WANTED, Native, QUIET_NS, Stage};
use super::outbox::count_ack;
use super::shared::Shared;
use super::writer::{Speech, Writer};
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::Now;
use crate::io::op::Ops;
use crate::log::format::{HEADER, header_at, stride};
use crate::native::batch::Ack;
use crate::native::message::{Header, Kind};
use crate::native::refusal::{Code, Outcome, Refusal};
use crate::native::welcome::Welcome;

/// Longest message from a server that is no batch.
const BODY_MAX: usize = 8 << 10;

impl Native {
    /// A server ends a connection on which nothing comes.
    pub fn ping_if_quiet(&mut self, quiet: u64, control: Span, buffers: &mut Buffers) {
        if self.stage == Stage::Ready && quiet > QUIET_NS && self.pending.is_none() {
            self.say(Kind::Ping, control, buffers);
        }
    }
}

impl Writer {
    /// Takes whole messages; gives how many bytes they had.
    pub(super) fn native_received(
        &mut self,
        shared: &mut Shared,
        now: Now,
        ops: &mut Ops,
    ) -> Result<u32, &'static str> {
        let held = self.link.held();
        let mut at = 0;
        loop {
            let bytes = shared.buffers.bytes(held);
            let Some(head) = header_at(bytes, at) else { break };
            let header = Header::decode(head).map_err(|_| "what came from the native port is no message")?;
            if header.body as usize > BODY_MAX {
                return Err("a message of the native port is longer than it can be");
            }
            let end = at + stride(header.body) as usize;
            if end > bytes.len() {
                break;
            }
            let from = held.part((at + HEADER) as u32, header.body);
            at = end;
            match header.kind {
                // By far the most, and without a body.
                Kind::Ack => self.on_ack(shared, now, &header),
                _ => {
                    let mut room = [0; BODY_MAX];
                    let body = &mut room[..header.body as usize];
                    body.copy_from_slice(shared.buffers.bytes(from));
                    header.check_body(body).map_err(|_| "a message of the native port was damaged on the way")?;
                    self.on_message(shared, &header, body, ops)?;
                }
            }
        }
        Ok(at as u32)
    }

    fn on_message(
        &mut self,
        shared: &mut Shared,
        header: &Header,
        body: &[u8],
        ops: &mut Ops,
    ) -> Result<(), &'static str> {
        let Speech::Native(native) = &mut self.speech else { return Ok(()) };
        match header.kind {
            Kind::Refused => self.on_refused(shared, header, body, ops)?,
            Kind::Challenge if native.prove(&shared.plan, body, self.control, &mut shared.buffers) => {}
            Kind::Challenge => {
                shared.fatal = Some(KEY_WANTED.to_string());
            }
            Kind::Welcome => {
                let welcome = Welcome::decode(header, body).ok_or("a Welcome is not one")?;
                let was_known = native.producer != 0 && welcome.producer == 0;
                native.welcome(&welcome);
                if was_known {
                    // Another server, which could store twice what is sent again.
                    self.give_up(shared, Fate::Unknown);
                }
            }
            Kind::Shards => self.on_shards(shared, header, body)?,
            Kind::Goodbye => self.on_goodbye(shared, body, ops)?,
            _ => {}
        }
        Ok(())
    }

    fn on_ack(&mut self, shared: &mut Shared, now: Now, header: &Header) {
        let Ack { shard, number, first, .. } = Ack::of(header);
        let Some((request, place)) = self.outbox.answer(|r| r.shard == shard.0 && r.number == number) else {
            shared.complain("the server has answered a batch that was not sent, or twice".to_string());
            return;
        };
        let stored = |at| Some(Place { shard: shard.shard(), number: first + at as u64 });
        self.settle_stored(shared, place, |_| Fate::Acked, stored);
        count_ack(&mut shared.tally, &shared.plan, &request, shared.begun.map_or(0, |begun| now.mono - begun.mono));
        self.link.is_good();
        if let Some(lane) = self.lanes.of_shard(shard.shard()) {
            lane.unanswered = lane.unanswered.saturating_sub(1);
            lane.stopped &= lane.unanswered > 0;
        }
    }

    fn on_refused(
        &mut self,
        shared: &mut Shared,
        header: &Header,
        body: &[u8],
        ops: &mut Ops,
    ) -> Result<(), &'static str> {
        let refusal = Refusal::decode(body).ok_or("a Refused is not one")?;
        let (shard, number) = (header.shard, header.number);
        let found = self.outbox.answer(|r| r.shard == shard.0 && r.number == number);
        let Some((request, place)) = found else { return Ok(()) };
        // What was sent before may still come by the connection that has ended.
        let fate = if request.again { Fate::Unknown } else { fate(refusal.outcome) };
        self.settle_records(shared, place, |_| fate);
        let throttled =
            matches!(refusal.code, Ok(Code::Full | Code::Throttled | Code::Unavailable | Code::TooManyProducers));
        shared.count_failure(&request, fate, throttled);
        let code = refusal.code.map_or_else(|number| format!("code {number}"), |code| format!("{code:?}"));
        shared.complain(format!("a batch was refused: {code}: {}", refusal.text));
        let Speech::Native(native) = &mut self.speech else { return Ok(()) };
        if native.producer != 0 && request.again {
            native.ends_epoch = true;
            self.link.close(ops);
            return Ok(());
        }
        if let Some(lane) = self.lanes.of_shard(shard.shard()) {
            lane.unanswered = lane.unanswered.saturating_sub(1);
            // A producer's numbers have no gap: the next batch takes the place of the first one that was refused.
            if native.producer != 0 && fate == Fate::Refused {
                lane.next = if lane.stopped { lane.next.min(number) } else { number };
                lane.stopped = true;
            }
            lane.stopped &= lane.unanswered > 0;
        }
        if matches!(refusal.code, Ok(Code::ShardClosed | Code::UnknownShard)) && native.stage == Stage::Ready {
            native.stage = Stage::Mapping;
            native.say_map(self.control, &mut shared.buffers);
        }
        Ok(())
    }

    fn on_shards(&mut self, shared: &mut Shared, header: &Header, body: &[u8]) -> Result<(), &'static str> {
        let Speech::Native(native) = &mut self.speech else { return Ok(()) };
        let Some(lines) = native.shards(header, body).ok_or("a map of shards is not one")? else { return Ok(()) };
        let lines = lines.to_vec();
        native.stage = Stage::Ready;
        self.route(shared, &lines);
        self.ready = true;
        Ok(())
    }

    fn on_goodbye(&mut self, shared: &mut Shared, body: &[u8], ops: &mut Ops) -> Result<(), &'static str> {
        let refusal = Refusal::decode(body).ok_or("a Goodbye is not one")?;
        let text = format!("the server has ended a connection: {}", refusal.text);
        let comes_again =
            matches!(refusal.code, Ok(Code::Busy | Code::Stopping | Code::Idle | Code::CredentialsChanged));
        match comes_again || self.ready {
            true => shared.complain(text),
            false => shared.fatal = Some(text),
        }
        self.farewell = Some(fate(refusal.outcome));
        self.link.close(ops);
        Ok(())
    }
}

fn fate(outcome: Outcome) -> Fate {
    match outcome {
        Outcome::NotStored => Fate::Refused,
        Outcome::Stored => Fate::Acked,
        Outcome::Unknown | Outcome::Nothing => Fate::Unknown,
    }
}

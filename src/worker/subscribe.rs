//! SubscribeToShard, until its stream has begun: where it starts, and whether it may.

use super::Worker;
use super::connection::Phase;
use super::fanout::Letter;
use super::mailbox::Message;
use super::registrar::{Claim, SubscriptionId, Verdict};
use super::serve::Reply;
use super::subscription::{Stage, Subscription};
use crate::http::response::{ContentType, Head, write_head};
use crate::io::buffers::Pool;
use crate::io::clock::Mono;
use crate::io::op::{Op, Ops, Socket};
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::event_stream::initial_chunk;
use crate::kinesis::get_shard_iterator::Start;
use crate::kinesis::subscribe_to_shard::SubscribeToShard;
use crate::log::format::ShardKey;
use crate::observe::counter::Counter;

impl Worker {
    /// The worker that knows who has a subscription to a shard.
    pub(super) fn registrar_of(&self, shard: ShardKey) -> u16 {
        (shard.stream().wrapping_add(shard.shard()) % self.workers as u32) as u16
    }

    /// A SubscribeToShard request of connection `slot`.
    pub(super) fn subscribe(&mut self, slot: u16, request: SubscribeToShard, ops: &mut Ops) {
        let resolved = match request.resolve(self.state(), &self.context()) {
            Ok(resolved) => resolved,
            Err(error) => return self.refuse_subscription(slot, &error, ops),
        };
        let key = ShardKey::new(resolved.stream.number, resolved.shard.number);
        let (log, start, claim) = (resolved.shard.log, resolved.start, (key, resolved.consumer));
        if self.subscriptions.slots[slot as usize].is_none() {
            if !self.subscriptions.has_room(slot, self.connections.carriers) {
                let text = "This worker has as many subscriptions as it can have; try again.";
                return self.reply(slot, Reply::error(&Error::new(Kind::LimitExceeded, text)), ops);
            }
            self.subscriptions.count(slot, true);
            self.counters.set(Counter::SubscriptionsNow, self.subscriptions.open as u64);
        }
        self.subscriptions.numbered += 1;
        let mut held = Subscription::new(self.subscriptions.numbered, request, claim);
        (held.next, held.floor) = match start {
            Start::At(number) => (number, 0),
            Start::After(number) => (number + 1, 0),
            Start::TrimHorizon | Start::Latest => (0, 0),
            Start::AtTimestamp(at) => (0, at),
        };
        self.subscriptions.slots[slot as usize] = Some(Box::new(held));
        if start != Start::Latest {
            return self.claim(slot, ops);
        }
        if !self.ask_latest(slot, key, log, ops) {
            self.refuse_subscription(slot, &busy(), ops);
        }
    }

    /// Whether the request of connection `slot` is a SubscribeToShard that has not been answered.
    pub(super) fn is_subscribing(&self, slot: u16) -> bool {
        self.subscriptions.slots[slot as usize].as_ref().is_some_and(|held| held.stage == Stage::Asking)
    }

    /// The shard has moved while its latest number was asked for.
    pub(super) fn subscribe_again(&mut self, slot: u16, ops: &mut Ops) {
        let held = self.subscriptions.slots[slot as usize].as_ref().expect("the caller has looked");
        let request = held.request.clone();
        self.subscribe(slot, request, ops);
    }

    /// The first number that is not durable; `None`: the shard's log has failed.
    pub(super) fn subscribe_latest(&mut self, slot: u16, latest: Option<u64>, ops: &mut Ops) {
        let held = self.subscriptions.slots[slot as usize].as_mut().expect("the caller has looked");
        match latest {
            Some(number) => {
                held.next = number;
                self.claim(slot, ops);
            }
            None => {
                let text = "The shard's log has failed: it has no latest record before a restart.";
                self.refuse_subscription(slot, &Error::new(Kind::InternalFailure, text), ops);
            }
        }
    }

    fn refuse_subscription(&mut self, slot: u16, error: &Error, ops: &mut Ops) {
        self.subscription_over(slot, Counter::SubscriptionsLost);
        self.reply(slot, Reply::error(error), ops);
    }

    /// Asks whether the subscription may begin.
    fn claim(&mut self, slot: u16, ops: &mut Ops) {
        let held = self.subscriptions.slots[slot as usize].as_ref().expect("it was just made");
        let (claim, id) = (held.claim, SubscriptionId { slot, number: held.number });
        let registrar = self.registrar_of(claim.0);
        if registrar == self.id {
            self.claimed(registrar, claim, id, ops);
        } else if self.mail.may_ask(registrar, 1) {
            self.mail.ask(registrar, Message::Fanout(Letter::Claim { claim, id }));
        } else {
            self.refuse_subscription(slot, &busy(), ops);
        }
    }

    /// At the registrar: a subscription of worker `worker` wants to begin.
    pub(super) fn claimed(&mut self, worker: u16, claim: Claim, id: SubscriptionId, ops: &mut Ops) {
        let (verdict, ousted) = self.registrar.claim(self.now.mono, claim, worker, id);
        match ousted {
            Some((worker, id)) if worker == self.id => self.ousted(id, ops),
            Some((worker, id)) => self.fanout.owe(worker, Letter::Ousted { id }),
            None => {}
        }
        match worker == self.id {
            true => self.claim_answered(id, verdict, ops),
            false => self.mail.answer(worker, Message::Fanout(Letter::Claimed { id, verdict })),
        }
    }

    /// A subscription may begin, or not. One that is not there any more has said so to the registrar.
    pub(super) fn claim_answered(&mut self, id: SubscriptionId, verdict: Verdict, ops: &mut Ops) {
        let Some(held) = self.subscriptions.get(id).filter(|held| held.stage == Stage::Asking) else { return };
        let request = held.request.clone();
        // What it asks for may have gone meanwhile; from now on changes of the catalog end it.
        let verdict = match verdict {
            Verdict::Granted => request.resolve(self.state(), &self.context()).map(|_| ()),
            Verdict::Taken => Err(request.taken(&self.identity)),
            Verdict::TooOften => Err(request.too_often(&self.identity)),
        };
        match verdict {
            Ok(()) => self.stream_begin(id.slot, ops),
            Err(error) => self.refuse_subscription(id.slot, &error, ops),
        }
    }

    /// Sends the head and the initial response: clients wait for both before they take the first event.
    fn stream_begin(&mut self, slot: u16, ops: &mut Ops) {
        self.counters.add(Counter::Requests, 1);
        let head = Head {
            status: 200,
            content_type: Some(ContentType::EventStream),
            content_length: None,
            request_id: self.next_request_id(),
            date: &self.date,
            close: !self.connections.slots[slot as usize].keep_alive || self.stopping,
        };
        let whole = self.buffers.whole(Pool::Reply, slot);
        let out = self.buffers.bytes_mut(whole);
        let used = write_head(out, &head);
        let initial = initial_chunk();
        out[used..used + initial.len()].copy_from_slice(&initial);
        let from = whole.first((used + initial.len()) as u32);
        let now = self.now.mono;
        let held = self.subscriptions.slots[slot as usize].as_mut().expect("it was just granted");
        (held.stage, held.sending) = (Stage::Streaming, Some(now));
        held.ends = now.plus_ms(self.limits.subscription_ms);
        let c = &mut self.connections.slots[slot as usize];
        (c.phase, c.deadline) = (Phase::Streaming, Mono(u64::MAX));
        self.answered(slot);
        ops.push(Op::Send { socket: Socket(slot as u32), from, then: None });
        self.watch(slot, ops);
        self.pull(slot);
    }
}

fn busy() -> Error {
    Error::new(Kind::LimitExceeded, "The shard's worker is busy; try again.")
}

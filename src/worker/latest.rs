//! LATEST iterators: asked at the worker with the connection, answered by the shard's owner when all that is assigned is durable.

use super::Worker;
use super::ack::LatestWait;
use super::mailbox::{ConnectionId, Message};
use super::serve::Reply;
use crate::catalog::state::StreamStatus;
use crate::io::op::Ops;
use crate::kinesis::error::{Error, Kind};
use crate::log::format::ShardKey;

/// Why the owner gives no number.
pub enum LatestRefusal {
    /// The shard is not here any more: ask again with the catalog as of `change`.
    Moved { shard: ShardKey, change: u64 },
    /// What was assigned to the shard will never be durable: its log has failed.
    Lost { shard: ShardKey },
}

/// The shard, and its first number that is not durable.
pub type Latest = Result<(ShardKey, u64), LatestRefusal>;

impl Worker {
    /// Asks the owner of a shard on log `log` for its first number that is not durable; `false`: the owner has too much to do.
    pub(super) fn ask_latest(&mut self, slot: u16, shard: ShardKey, log: u32, ops: &mut Ops) -> bool {
        let (from, owner, seen) = (self.connections.id(slot), self.owner_of(log), self.state().applied);
        if owner == self.id {
            self.latest_asked(owner, from, shard, seen, ops);
            return true;
        }
        let may = self.mail.may_ask(owner, 1);
        if may {
            self.mail.ask(owner, Message::Latest { from, shard, seen });
        }
        may
    }

    pub(super) fn iterator_latest(&mut self, slot: u16, shard: ShardKey, log: u32, ops: &mut Ops) {
        if !self.ask_latest(slot, shard, log, ops) {
            let error = Error::new(Kind::ProvisionedThroughputExceeded, "The shard's worker is busy; try again.");
            self.reply(slot, Reply::error(&error), ops);
        }
    }

    /// The shard has moved, or has gone with its stream.
    fn iterator_again(&mut self, slot: u16, shard: ShardKey, ops: &mut Ops) {
        let stream = self.state().stream_by_number(shard.stream());
        let stays = stream.filter(|stream| stream.status != StreamStatus::Deleting);
        match stays.and_then(|stream| stream.shards.get(&shard.shard())).map(|shard| shard.log) {
            Some(log) => self.iterator_latest(slot, shard, log, ops),
            None => {
                let error = Error::new(Kind::ResourceNotFound, "The shard does not exist any more.");
                self.reply(slot, Reply::error(&error), ops);
            }
        }
    }

    /// A LATEST iterator was asked for: the first number that is not durable, as soon as all that are assigned now are.
    pub(super) fn latest_asked(&mut self, worker: u16, to: ConnectionId, shard: ShardKey, seen: u64, ops: &mut Ops) {
        let applied = self.state().applied;
        if applied < seen {
            self.latest_early.push_back((worker, to, shard, seen));
            return;
        }
        let Some(owned) = self.shards.get(shard) else {
            return self.latest_answer(worker, to, Err(LatestRefusal::Moved { shard, change: applied }), ops);
        };
        let wait = LatestWait { log: owned.log, position: owned.end, worker, to, shard, next: owned.next };
        match self.logs[wait.log].durable() >= wait.position {
            true => self.latest_is(wait, ops),
            false => self.latest.push_back(wait),
        }
    }

    /// Asks again for those whose asker knew more of the catalog than this worker did, and those whose owner knew more than this one.
    pub(super) fn latest_again(&mut self, ops: &mut Ops) {
        for _ in 0..self.latest_early.len() {
            let Some((worker, to, shard, seen)) = self.latest_early.pop_front() else { break };
            if self.is_overdue_here(worker, to) {
                continue;
            }
            self.latest_asked(worker, to, shard, seen, ops);
        }
        for _ in 0..self.latest_moved.len() {
            let Some((to, shard, change)) = self.latest_moved.pop_front() else { break };
            match self.state().applied >= change {
                _ if !self.connections.awaits(to) => {}
                true if self.natives.at(to.slot).is_some() => {
                    self.native_latest(to.slot, Err(LatestRefusal::Moved { shard, change }), ops)
                }
                true if self.is_subscribing(to.slot) => self.subscribe_again(to.slot, ops),
                true => self.iterator_again(to.slot, shard, ops),
                false => self.latest_moved.push_back((to, shard, change)),
            }
        }
    }

    pub(super) fn latest_is(&mut self, wait: LatestWait, ops: &mut Ops) {
        self.latest_answer(wait.worker, wait.to, Ok((wait.shard, wait.next)), ops);
    }

    pub(super) fn latest_is_lost(&mut self, wait: LatestWait, ops: &mut Ops) {
        self.latest_answer(wait.worker, wait.to, Err(LatestRefusal::Lost { shard: wait.shard }), ops);
    }

    fn latest_answer(&mut self, worker: u16, to: ConnectionId, result: Latest, ops: &mut Ops) {
        match worker == self.id {
            true => self.latest_got(to, result, ops),
            false => self.mail.answer(worker, Message::LatestIs { to, result }),
        }
    }

    /// Answers the GetShardIterator that waited for it.
    pub(super) fn latest_got(&mut self, to: ConnectionId, result: Latest, ops: &mut Ops) {
        if !self.connections.awaits(to) {
            return;
        }
        match result {
            Err(LatestRefusal::Moved { shard, change }) => self.latest_moved.push_back((to, shard, change)),
            result if self.natives.at(to.slot).is_some() => self.native_latest(to.slot, result, ops),
            result if self.is_subscribing(to.slot) => {
                self.subscribe_latest(to.slot, result.ok().map(|(_, number)| number), ops)
            }
            Err(LatestRefusal::Lost { .. }) => {
                let text = "The shard's log has failed: it has no latest record before a restart.";
                self.reply(to.slot, Reply::error(&Error::new(Kind::InternalFailure, text)), ops);
            }
            Ok((shard, sequence)) => self.reply_iterator(to.slot, shard, sequence, 0, ops),
        }
    }
}

//! Changes of the catalog: decided and journaled at worker 0, applied by every worker in order.

use super::Worker;
use super::handover::Handover;
use super::mailbox::{ConnectionId, Message};
use super::notice::Notice;
use super::rebalance::Wanted;
use super::room::no_room;
use super::serve::Reply;
use super::stream_news::StreamNews;
use crate::catalog::change::Change;
use crate::catalog::decide::{Decide, NewStream};
use crate::catalog::identity::Identity;
use crate::catalog::journal::{Catalog, Event};
use crate::catalog::reserve::Cover;
use crate::catalog::state::{State, StreamStatus};
use crate::io::clock::{Mono, Wall};
use crate::io::op::Ops;
use crate::kinesis::consumer::NamedConsumer;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::register_stream_consumer;
use crate::kinesis::request::Mutation;
use crate::log::format::ShardKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Mutations that may wait at worker 0; beyond it, callers are told to come again.
const MUTATIONS_MAX: usize = 1024;
/// How long a caller waits for children to open before it is answered all the same, as AWS does at once.
const RESHARD_MS: u64 = 2_000;

/// Who asked for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    worker: u16,
    connection: ConnectionId,
}

/// A change that is to be judged by the state that all earlier ones leave, durable or not.
pub(super) enum Wish {
    Mutate(Asker, Box<Mutation>),
    Resharded { stream: u32 },
    Gone { stream: u32 },
    Move(Wanted),
    Moved { stream: u32 },
    Expired { stream: u32, shards: Vec<u32> },
    ForgetFormers { stream: u32, horizon: u64 },
}

/// What happens once every worker has applied a change.
pub(super) enum Then {
    /// With this body.
    Answer(Asker, Vec<u8>),
    /// A refusal, judged by changes that were not durable yet.
    Refuse(Asker, Box<Error>),
    /// A deleted stream: its owners have let go of it.
    Gone {
        stream: u32,
        asker: Option<Asker>,
    },
    /// A resharding has begun: its caller is answered when it has ended.
    Closing {
        stream: u32,
        asker: Asker,
    },
    Opened {
        stream: u32,
    },
    /// A resharding has ended where it began.
    Stayed {
        stream: u32,
    },
    /// A shard takes records at another log.
    Moved {
        stream: u32,
    },
}

/// Worker 0's part of the catalog.
pub struct Control {
    pub catalog: Catalog,
    /// By worker: the last change that it has applied.
    applied: Vec<u64>,
    /// By worker: changes it has not been sent, for want of room.
    unsent: Vec<VecDeque<Arc<(u64, Change)>>>,
    pub(super) wishes: VecDeque<Wish>,
    pub(super) thens: VecDeque<(u64, Then)>,
    /// Changes of live segments under way: (number, worker, log).
    journals: VecDeque<(u64, u16, u32)>,
    /// Closing or moving shards whose owner has said how they end: as in `Message::ShardEnd`.
    pub(super) ends: BTreeMap<ShardKey, Option<(u64, Wall)>>,
    /// A shard that is moving to a log which cannot take it.
    pub(super) stays: Option<ShardKey>,
    resharding: Vec<(u32, Asker, Mono)>,
    deleting: BTreeMap<u32, Asker>,
    /// Nothing can be journaled any more.
    pub(super) failed: bool,
}

impl Control {
    pub fn new(catalog: Catalog, workers: u16) -> Control {
        let n = workers as usize;
        Control {
            catalog,
            applied: vec![0; n],
            unsent: (0..n).map(|_| VecDeque::new()).collect(),
            wishes: VecDeque::new(),
            thens: VecDeque::new(),
            journals: VecDeque::new(),
            ends: BTreeMap::new(),
            stays: None,
            resharding: Vec::new(),
            deleting: BTreeMap::new(),
            failed: false,
        }
    }

    /// Every worker starts with the recovered state; what was under way goes on.
    pub fn begin(&mut self) {
        let state = self.catalog.state();
        self.applied.iter_mut().for_each(|n| *n = state.applied);
        let deleting = state.streams.values().filter(|s| s.status == StreamStatus::Deleting).map(|s| s.number);
        self.wishes.extend(deleting.map(|stream| Wish::Gone { stream }));
    }

    /// Whether nothing can be journaled any more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    pub fn note_applied(&mut self, worker: u16, number: u64) {
        self.applied[worker as usize] = number;
    }

    /// Whether something that comes again by itself may be wished for.
    pub(super) fn may_wish(&self) -> bool {
        !self.failed && self.wishes.len() < MUTATIONS_MAX
    }

    /// The end of a resharding; `None`: not every parent has ended, or the stream was deleted meanwhile.
    fn judge_end(&mut self, stream: u32, now: Wall) -> Option<(Change, Then)> {
        let word = |parent| self.ends.get(&ShardKey::new(stream, parent)).copied();
        let change = self.catalog.ahead().stream_by_number(stream)?.end_of_resharding(word, now)?;
        self.ends.retain(|key, _| key.stream() != stream);
        let then = match change {
            Change::ParentsStay { .. } => Then::Stayed { stream },
            _ => Then::Opened { stream },
        };
        Some((change, then))
    }
}

impl Worker {
    /// The catalog as this worker has applied it.
    pub(super) fn state(&self) -> &State {
        match &self.control {
            Some(control) => control.catalog.state(),
            None => &self.view,
        }
    }

    /// Sends a mutation to worker 0, or queues it there.
    pub(super) fn mutate(&mut self, slot: u16, mutation: Mutation, ops: &mut Ops) {
        let connection = self.connections.id(slot);
        if self.control.is_some() {
            return self.wish_mutation(0, connection, Box::new(mutation), ops);
        }
        match self.mail.may_ask(0, 1) {
            true => self.mail.ask(0, Message::Mutate { from: connection, mutation: Box::new(mutation) }),
            false => self.reply(slot, Reply::error(&busy()), ops),
        }
    }

    pub(super) fn wish_mutation(
        &mut self,
        worker: u16,
        connection: ConnectionId,
        mutation: Box<Mutation>,
        ops: &mut Ops,
    ) {
        let asker = Asker { worker, connection };
        let control = self.control.as_mut().expect("mutations go to worker 0");
        if control.wishes.len() >= MUTATIONS_MAX {
            return self.answer_mutation(asker, Err(Box::new(busy())), ops);
        }
        control.wishes.push_back(Wish::Mutate(asker, mutation));
    }

    /// Journals a change of live segments for worker `worker`: it conflicts with no other change, so it does not queue.
    pub(super) fn journal(&mut self, worker: u16, log: u32, change: Change, ops: &mut Ops) {
        let control = self.control.as_mut().expect("journals go to worker 0");
        if control.failed {
            return self.answer_journal(worker, log, false);
        }
        let number = control.catalog.propose(change, &mut self.buffers, ops);
        control.journals.push_back((number, worker, log));
    }

    fn answer_journal(&mut self, worker: u16, log: u32, done: bool) {
        match worker == self.id {
            true => self.journaled(log, done),
            false => self.mail.answer(worker, Message::Journaled { log, done }),
        }
    }

    /// Worker 0: the owner of a closing or moving shard says how it ends.
    pub(super) fn note_end(&mut self, shard: ShardKey, end: Option<(u64, Wall)>, stays: bool) {
        let control = self.control.as_mut().expect("closings go to worker 0");
        // A stream that was deleted meanwhile waits for nothing.
        let Some(of) = control.catalog.state().stream_by_number(shard.stream()) else { return };
        let stream = of.number;
        let wish = match (&of.moving, &of.resharding) {
            (Some(_), _) => Wish::Moved { stream },
            (None, Some(_)) => Wish::Resharded { stream },
            (None, None) => return,
        };
        control.ends.insert(shard, end);
        control.stays = stays.then_some(shard).or(control.stays);
        control.wishes.push_back(wish);
    }

    /// Worker 0's share of a turn: durable changes go out, wishes are judged, callers are answered.
    pub(super) fn run_control(&mut self, ops: &mut Ops) {
        if self.control.is_none() {
            return;
        }
        while let Some(event) = self.control.as_mut().and_then(|control| control.catalog.event()) {
            match event {
                Event::Durable(number, change) => self.change_durable(number, change, ops),
                Event::Room { back } => self.catalog_room(back),
                // Before the node serves there is nobody to answer: the start ends.
                Event::Failed { what, errno } if !self.serving => self.refuse_log(format!("{what}: {errno}")),
                Event::Failed { what, errno } => {
                    self.catalog_failed(what, errno);
                    self.answer_lost(ops);
                }
                other => self.boot_event(other, ops),
            }
        }
        self.run_rebalance(ops);
        self.run_snapshot(ops);
        self.judge_wishes(ops);
        self.run_tables(ops);
        self.send_changes();
        self.finish_applied(ops);
        self.answer_late_reshardings(ops);
    }

    fn change_durable(&mut self, number: u64, change: Change, ops: &mut Ops) {
        let control = self.control.as_mut().expect("worker 0");
        if let Some(at) = control.journals.iter().position(|(n, ..)| *n == number) {
            let (_, worker, log) = control.journals.remove(at).expect("found above");
            self.answer_journal(worker, log, true);
        }
        let control = self.control.as_mut().expect("worker 0");
        let change = Arc::new((number, change));
        let sent = match change.1 {
            // Others have no tables: they learn the number.
            Change::Tables(_) => Arc::new((number, Change::Tables(Vec::new()))),
            _ => change.clone(),
        };
        for worker in (0..self.workers).filter(|worker| *worker != self.id) {
            let unsent = &mut control.unsent[worker as usize];
            // The last number says all that those before it say.
            let is_table = |change: &mut Arc<(u64, Change)>| matches!(change.1, Change::Tables(_));
            if is_table(&mut sent.clone()) {
                unsent.pop_back_if(is_table);
            }
            unsent.push_back(sent.clone());
        }
        control.applied[self.id as usize] = number;
        self.follow_change(&change.1);
        if let Some(news) = StreamNews::of(&change.1, self.state()) {
            self.tell_operator(Notice::Stream(news));
        }
        let _ = ops;
    }

    /// Judges wishes one by one, each by the state that the one before it left.
    fn judge_wishes(&mut self, ops: &mut Ops) {
        // A snapshot is taken between two of them.
        let holds = self.changes_wait() || self.refuse_where_the_catalog_waits(ops);
        loop {
            let control = self.control.as_mut().expect("worker 0");
            if !self.serving || holds {
                return;
            }
            let Some(wish) = control.wishes.pop_front() else { return };
            if control.failed {
                if let Wish::Mutate(asker, _) = wish {
                    self.answer_mutation(asker, Err(Box::new(failed())), ops);
                }
                continue;
            }
            let now = self.retention.stamp(self.now);
            match wish {
                Wish::Move(wanted) => self.judge_move(&wanted, ops),
                Wish::Moved { stream } => self.judge_moved(stream, ops),
                Wish::Mutate(asker, mutation) => match self.cover(&mutation, ops) {
                    Cover::Given => self.judge_mutation(asker, *mutation, now, ops),
                    Cover::Missing => self.answer_mutation(asker, Err(Box::new(no_room())), ops),
                    Cover::Soon => {
                        let control = self.control.as_mut().expect("worker 0");
                        return control.wishes.push_front(Wish::Mutate(asker, mutation));
                    }
                },
                Wish::Gone { stream } => {
                    control.ends.retain(|key, _| key.stream() != stream);
                    let then = control.deleting.remove(&stream).map(|asker| Then::Answer(asker, Vec::new()));
                    self.propose(Change::StreamGone { stream }, then, ops);
                }
                Wish::Expired { stream, shards } => self.propose(Change::ShardsExpired { stream, shards }, None, ops),
                Wish::ForgetFormers { stream, horizon } => {
                    let of = control.catalog.ahead().stream_by_number(stream);
                    if let Some(change) = of.and_then(|of| of.forget_formers(horizon)) {
                        self.propose(change, None, ops);
                    }
                }
                Wish::Resharded { stream } => {
                    if let Some((change, then)) = control.judge_end(stream, now) {
                        self.propose(change, Some(then), ops);
                    }
                }
            }
        }
    }

    fn judge_mutation(&mut self, asker: Asker, mutation: Mutation, now: Wall, ops: &mut Ops) {
        let control = self.control.as_mut().expect("worker 0");
        let decide = Decide { state: control.catalog.ahead(), identity: &self.identity, logs: &self.places };
        match decide_mutation(&decide, mutation, now) {
            Ok(change) => {
                let then = follow_up(&change, asker, decide.state, decide.identity);
                self.propose(change, Some(then), ops);
            }
            // What it was judged by may be lost in a crash: the refusal goes out when that is durable.
            Err(error) => {
                let by = control.catalog.ahead().applied;
                control.thens.push_back((by, Then::Refuse(asker, Box::new(error))));
            }
        }
    }

    /// Journals a change; `then` follows when every worker has applied it.
    pub(super) fn propose(&mut self, change: Change, then: Option<Then>, ops: &mut Ops) {
        let control = self.control.as_mut().expect("worker 0");
        let number = control.catalog.propose(change, &mut self.buffers, ops);
        control.thens.extend(then.map(|then| (number, then)));
    }

    /// The catalog has failed: whoever waits for a change that is not durable is told, and nobody waits for what cannot come.
    fn answer_lost(&mut self, ops: &mut Ops) {
        let control = self.control.as_mut().expect("worker 0");
        control.failed = true;
        for (_, worker, log) in std::mem::take(&mut control.journals) {
            self.answer_journal(worker, log, false);
        }
        let control = self.control.as_mut().expect("worker 0");
        let durable = control.catalog.state().applied;
        let (kept, lost) = std::mem::take(&mut control.thens).into_iter().partition(|(number, _)| *number <= durable);
        control.thens = kept;
        let deleted = std::mem::take(&mut control.deleting);
        let lost: VecDeque<(u64, Then)> = lost;
        for (_, then) in lost {
            match then {
                Then::Answer(asker, _)
                | Then::Refuse(asker, _)
                | Then::Closing { asker, .. }
                | Then::Gone { asker: Some(asker), .. } => {
                    self.answer_mutation(asker, Err(Box::new(failed())), ops);
                }
                Then::Gone { asker: None, .. } | Then::Moved { .. } | Then::Opened { .. } | Then::Stayed { .. } => {}
            }
        }
        // Their deletion is durable; it is finished after a restart.
        for asker in deleted.into_values() {
            self.answer_mutation(asker, Ok(Vec::new()), ops);
        }
    }

    fn send_changes(&mut self) {
        let control = self.control.as_mut().expect("worker 0");
        for worker in 0..self.workers {
            let unsent = &mut control.unsent[worker as usize];
            while let Some(change) = unsent.front() {
                if self.mail.offer(worker, Message::Apply(change.clone())).is_err() {
                    break;
                }
                unsent.pop_front();
            }
        }
    }

    /// Does what was to follow changes that every worker has applied.
    fn finish_applied(&mut self, ops: &mut Ops) {
        loop {
            let control = self.control.as_mut().expect("worker 0");
            let everywhere = *control.applied.iter().min().expect("there is a worker");
            let Some((number, then)) = control.thens.pop_front_if(|(number, _)| *number <= everywhere) else { return };
            match then {
                Then::Answer(asker, body) => self.answer_mutation(asker, Ok(body), ops),
                Then::Refuse(asker, error) => self.answer_mutation(asker, Err(error), ops),
                // What is left of a deletion waits for a restart then.
                Then::Gone { asker: Some(asker), .. } if control.failed => {
                    self.answer_mutation(asker, Ok(Vec::new()), ops)
                }
                Then::Gone { stream, asker } => {
                    self.move_ended(stream, number);
                    let control = self.control.as_mut().expect("worker 0");
                    control.deleting.extend(asker.map(|asker| (stream, asker)));
                    control.wishes.push_back(Wish::Gone { stream });
                }
                Then::Closing { stream, asker } => {
                    control.resharding.push((stream, asker, self.now.mono.plus_ms(RESHARD_MS)));
                }
                Then::Moved { stream } => self.move_ended(stream, number),
                Then::Opened { stream } => self.answer_reshardings(|number, _| number == stream, Ok(Vec::new()), ops),
                Then::Stayed { stream } => {
                    self.answer_reshardings(|number, _| number == stream, Err(Box::new(stayed())), ops);
                }
            }
        }
    }

    fn answer_late_reshardings(&mut self, ops: &mut Ops) {
        let now = self.now.mono;
        self.answer_reshardings(|_, deadline| deadline <= now, Ok(Vec::new()), ops);
    }

    fn answer_reshardings(
        &mut self,
        which: impl Fn(u32, Mono) -> bool,
        result: Result<Vec<u8>, Box<Error>>,
        ops: &mut Ops,
    ) {
        let control = self.control.as_mut().expect("worker 0");
        let ended: Vec<_> =
            control.resharding.extract_if(.., |(stream, _, deadline)| which(*stream, *deadline)).collect();
        for (_, asker, _) in ended {
            self.answer_mutation(asker, result.clone(), ops);
        }
    }

    pub(super) fn answer_mutation(&mut self, asker: Asker, result: Result<Vec<u8>, Box<Error>>, ops: &mut Ops) {
        match asker.worker == self.id {
            true => self.mutated(asker.connection, result, ops),
            false => self.mail.answer(asker.worker, Message::Mutated { to: asker.connection, result }),
        }
    }

    /// The answer to a mutation that a connection of this worker asked for.
    pub(super) fn mutated(&mut self, to: ConnectionId, result: Result<Vec<u8>, Box<Error>>, ops: &mut Ops) {
        if self.connections.awaits(to) {
            let reply = match result {
                Ok(body) if body.is_empty() => Reply::empty(),
                Ok(body) => Reply::json(body),
                Err(error) => Reply::error(&error),
            };
            self.reply(to.slot, reply, ops);
        }
    }

    /// Applies a change to this worker's copy, and to what it owns.
    pub(super) fn apply_change(&mut self, number: u64, change: &Change) {
        self.view.apply(number, change);
        self.follow_change(change);
        self.applied_untold = Some(number);
    }

    /// Owned shards follow the catalog.
    pub(super) fn follow_change(&mut self, change: &Change) {
        self.fanout.note(change);
        let stream = match change {
            Change::CreateStream { number, .. } => *number,
            Change::DeleteStream { stream }
            | Change::StreamGone { stream }
            | Change::CloseShards { stream, .. }
            | Change::OpenChildren { stream, .. }
            | Change::ParentsStay { stream, .. }
            | Change::MoveShard { stream, .. }
            | Change::MovedShard { stream, .. }
            | Change::ShardsExpired { stream, .. } => *stream,
            Change::Retention { .. }
            | Change::LiveSegments { .. }
            | Change::Logs { .. }
            | Change::FormersExpired { .. }
            | Change::RetentionClock { .. }
            | Change::RegisterConsumer { .. }
            | Change::DeregisterConsumer { .. }
            | Change::Policy { .. }
            | Change::Scrubbed { .. }
            | Change::Tables(_) => return,
        };
        self.follow_stream(stream);
        if matches!(change, Change::DeleteStream { .. } | Change::StreamGone { .. }) {
            self.space.iter_mut().for_each(|space| space.look = true);
            self.logs.iter_mut().for_each(|log| log.forget_producers(|shard| shard.stream() == stream));
        }
    }

    pub(super) fn follow_stream(&mut self, stream: u32) {
        let state = match &self.control {
            Some(control) => control.catalog.state(),
            None => &self.view,
        };
        let logs = &self.logs;
        let index = |number: u32| logs.iter().position(|log| log.settings().number == number);
        let resume = |key: ShardKey| {
            let held = state.resume.get(&key).map(|r| (r.next, r.arrival));
            let found = self.found.get(&key).copied();
            match (held, found) {
                (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            }
        };
        self.shards.follow(state, stream, index, resume);
    }

    /// Tells worker 0 of closing shards whose records are all durable, or never will be in this run.
    pub(super) fn tell_ends(&mut self) {
        use crate::shard::Admission;
        let mut ended: Vec<(ShardKey, Option<(u64, Wall)>)> = Vec::new();
        for (key, shard) in self.shards.iter() {
            let log = &self.logs[shard.log];
            let durable = log.durable() >= shard.end;
            if shard.admission == (Admission::Closing { told: false }) && (durable || log.failed().is_some()) {
                ended.push((key, durable.then_some((shard.next - 1, Wall(shard.arrival)))));
            }
        }
        for (shard, end) in ended {
            let handover = end.map_or(Handover::Done, |_| self.hand_over(shard));
            if handover == Handover::Waits {
                continue;
            }
            let stays = handover == Handover::Refused;
            self.shards.get_mut(shard).expect("just seen").admission = Admission::Closing { told: true };
            if self.control.is_some() {
                self.note_end(shard, end, stays);
            } else if self.mail.offer(0, Message::ShardEnd { shard, end, stays }).is_err() {
                self.shards.get_mut(shard).expect("just seen").admission = Admission::Closing { told: false };
            }
        }
    }
}

/// What follows a mutation's change once every worker has applied it.
fn follow_up(change: &Change, asker: Asker, ahead: &State, identity: &Identity) -> Then {
    match change {
        Change::DeleteStream { stream } => Then::Gone { stream: *stream, asker: Some(asker) },
        Change::CloseShards { stream, .. } => Then::Closing { stream: *stream, asker },
        _ => Then::Answer(asker, body_of(change, ahead, identity)),
    }
}

/// What a mutation is answered with, by the state before its change; most have no body.
fn body_of(change: &Change, ahead: &State, identity: &Identity) -> Vec<u8> {
    let Change::RegisterConsumer { stream, name, created, .. } = change else { return Vec::new() };
    let stream = ahead.stream_by_number(*stream).map_or("", |stream| &stream.name);
    // Names and numbers are always written.
    register_stream_consumer::answer(identity, stream, name, *created).unwrap_or_default()
}

fn decide_mutation(decide: &Decide<'_>, mutation: Mutation, now: Wall) -> Result<Change, Error> {
    match mutation {
        Mutation::CreateStream { stream, shard_count, mode, tags, max_record_kib } => {
            let request = NewStream { name: stream, shard_count, mode, tags, max_record_kib };
            decide.create_stream(&request, now)
        }
        Mutation::DeleteStream { stream, enforce } => decide.delete_stream(&stream, enforce),
        Mutation::SplitShard { stream, shard, new_start } => decide.split(&stream, shard, new_start, now),
        Mutation::MergeShards { stream, shard, adjacent } => decide.merge(&stream, shard, adjacent, now),
        Mutation::IncreaseRetention { stream, hours } => decide.increase_retention(&stream, hours.into()),
        Mutation::PutResourcePolicy { arn, policy } => decide.put_policy(&arn, policy),
        Mutation::DeleteResourcePolicy { arn } => decide.delete_policy(&arn),
        Mutation::DecreaseRetention { stream, hours } => decide.decrease_retention(&stream, hours.into()),
        Mutation::RegisterConsumer { stream, name, tags } => decide.register_consumer(&stream, &name, tags, now),
        Mutation::DeregisterConsumer(NamedConsumer { stream, name, created }) => {
            decide.deregister_consumer(&stream, &name, created)
        }
    }
}

/// A split or merge has ended where it began.
fn stayed() -> Error {
    let text = "The log of a parent has failed meanwhile: the shards stay as they were. The server's log says why.";
    Error::new(Kind::InternalFailure, text)
}

/// Said of a change and of a write to a lease table.
pub(super) const FAILED: &str =
    "The catalog cannot be written: what was asked for may be done or not after a restart. The server's log says why.";

fn failed() -> Error {
    Error::new(Kind::InternalFailure, FAILED)
}

fn busy() -> Error {
    Error::new(Kind::LimitExceeded, "Too many control requests are waiting; try again.")
}

//! Subscriptions at the worker that has the log: calls for the next event of a shard wait here until there is one.
//!
//! The worker with the connection keeps a subscription's position and asks for one event at a time, as if each were a GetRecords call that may
//! wait (`subscription.rs`). So a subscriber that does not read asks for nothing, and costs nothing here; one whose shard has moved asks
//! elsewhere; and an event is made by what makes answers of GetRecords, from memory or by reads of segments. Calls of a shard that want the
//! same number share one event: it is encoded once, and lent to all.
//!
//! Nobody looks at all that wait: a frame that is appended notes its shard if somebody waits there, and when the log is durable past it, the
//! calls of that shard are looked at in the same turn.

use super::Worker;
use super::event::{Event, Mode, Taker, Who};
use super::mailbox::{GetCall, Message};
use super::native_read::ReaderId;
use super::registrar::{Claim, SubscriptionId, Verdict};
use crate::catalog::change::Change;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::kinesis::object::Encoding;
use crate::limits::GET_RECORDS_MAX;
use crate::log::format::{Position, ShardKey};
use crate::shard::Admission;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

/// After so long without a record a subscriber gets an event without any. Looked for every second, so that it has come after five.
const QUIET_MS: u64 = 3_900;
/// Rounds of a turn in which calls are looked at: a subscriber here that takes an event asks for the next one at once.
const ROUNDS: usize = 3;

/// What comes next of a shard, wanted by a subscription, or by a reader of a native client.
#[derive(Clone, Copy, Debug)]
pub struct Pull {
    pub who: Who,
    pub mode: Mode,
    /// Of frames: as many as these, but at least one.
    pub bytes: u32,
    pub records: u32,
    pub shard: ShardKey,
    /// Number of the log that has it, by the asker's catalog.
    pub log: u32,
    /// First number wanted, and the time (µs) before which records are not.
    pub sequence: u64,
    pub floor: u64,
    /// Number of the change that the asker has applied.
    pub seen: u64,
}

/// What a call for an event is answered with.
#[derive(Debug)]
pub enum Outcome {
    /// A frame and its line end, lent until it is returned; `next`: the first number behind it. `caught_up`: it has all that is durable;
    /// `ends`: nothing will follow; `since`: when its first record arrived (µs).
    Event { span: Span, records: u32, next: u64, caught_up: bool, ends: bool, since: u64 },
    /// What comes next, from number `next` on, is elsewhere by change `change` of the catalog.
    Moved { change: u64, next: u64 },
    /// The shard or its stream is not there any more.
    Gone,
    /// A segment could not be read.
    Failed(String),
    /// To native readers. Frames as they are stored, one behind the other, lent until they are returned; `next`: the first number behind them.
    /// `caught_up`: they are all that is durable; `ends`: nothing will follow; `behind_ms`: how far the last one is behind the newest.
    Frames { span: Span, next: u64, caught_up: bool, ends: bool, behind_ms: u64 },
    /// No frame, up to number `next`: of one that does not wait, or has waited for long.
    Nothing { next: u64, caught_up: bool, ends: bool },
    /// There may be something, for one that watches.
    News,
    /// What is wanted is damaged; what lies behind it begins at `next`.
    Unreadable { next: u64 },
}

/// What workers tell each other about subscriptions.
pub enum Letter {
    /// May this subscription begin? Answered by `Claimed`.
    Claim {
        claim: Claim,
        id: SubscriptionId,
    },
    Claimed {
        id: SubscriptionId,
        verdict: Verdict,
    },
    /// Another one has taken over.
    Ousted {
        id: SubscriptionId,
    },
    /// It has ended.
    Over {
        claim: Claim,
        id: SubscriptionId,
    },
    Pull(Pull),
    Outcome {
        who: Who,
        outcome: Outcome,
    },
    /// A reader has gone: its pull, if it waits, is to be answered at once.
    Forget {
        shard: ShardKey,
        id: ReaderId,
    },
    /// My buffers are held by events that are not taken: end a subscription that does not.
    Shed,
}

/// A call that waits.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    taker: Taker,
    log: u32,
    sequence: u64,
    floor: u64,
    /// There may be something for it; `due`: it gets an event in any case.
    look: bool,
    due: bool,
}

/// A worker's part of subscriptions to the shards on its logs.
#[derive(Default)]
pub struct Fanout {
    waiting: BTreeMap<ShardKey, Vec<Waiter>>,
    /// Shards with calls to be looked at.
    ready: BTreeSet<ShardKey>,
    /// Shards whose calls found no buffer or slot, and since when.
    starved: BTreeSet<ShardKey>,
    /// The one of them that was looked at again last. Each alone: if all read at once, what each has read into would be what the others want for.
    retried: Option<ShardKey>,
    starved_since: Option<Mono>,
    /// Calls by workers that have applied more changes.
    early: VecDeque<(u16, Pull)>,
    /// By log of this worker: shards with calls that wait, and the position that will be news for them.
    news: Vec<BTreeSet<(Position, ShardKey)>>,
    /// Events that are lent: how many have not been returned.
    lent: BTreeMap<(Pool, u16), usize>,
    /// Streams that have changed for readers.
    changed: Vec<u32>,
    /// By worker: what it has not been sent for want of room.
    owed: Vec<VecDeque<Letter>>,
}

impl Fanout {
    pub fn new(workers: u16) -> Fanout {
        Fanout { owed: (0..workers).map(|_| VecDeque::new()).collect(), ..Fanout::default() }
    }

    /// A frame of `shard` has been appended to log `log` of this worker, and will be durable when that is up to `position`.
    pub fn appended(&mut self, log: usize, position: Position, shard: ShardKey) {
        if !self.waiting.is_empty() && self.waiting.contains_key(&shard) {
            self.news_at(log, position, shard);
        }
    }

    fn news_at(&mut self, log: usize, position: Position, shard: ShardKey) {
        if self.news.len() <= log {
            self.news.resize_with(log + 1, BTreeSet::new);
        }
        self.news[log].insert((position, shard));
    }

    /// The catalog has changed: what matters to subscriptions.
    pub fn note(&mut self, change: &Change) {
        if let Change::DeleteStream { stream }
        | Change::StreamGone { stream }
        | Change::OpenChildren { stream, .. }
        | Change::MovedShard { stream, .. }
        | Change::ShardsExpired { stream, .. }
        | Change::DeregisterConsumer { stream, .. } = change
        {
            self.changed.push(*stream);
        }
    }

    /// Streams that have changed since the last call.
    pub fn changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Looks at all calls of a shard.
    fn look_at(&mut self, shard: ShardKey) {
        if let Some(waiters) = self.waiting.get_mut(&shard) {
            waiters.iter_mut().for_each(|waiter| waiter.look = true);
            self.ready.insert(shard);
        }
    }

    fn wait(&mut self, shard: ShardKey, waiter: Waiter) {
        self.waiting.entry(shard).or_default().push(waiter);
        if waiter.look {
            self.ready.insert(shard);
        }
    }

    /// An event is lent to `takers`.
    pub fn lend(&mut self, span: Span, takers: usize) {
        self.lent.insert((span.pool, span.slot), takers);
    }

    /// One who was lent a span has returned it; whether it is free now. What is no event is lent once.
    pub fn returned(&mut self, span: Span) -> bool {
        let place = (span.pool, span.slot);
        let Some(count) = self.lent.get_mut(&place) else { return true };
        *count -= 1;
        if *count == 0 {
            self.lent.remove(&place);
        }
        !self.lent.contains_key(&place)
    }

    /// Since when some have found no buffer.
    pub fn starves_since(&self) -> Option<Mono> {
        self.starved_since
    }

    pub fn owe(&mut self, worker: u16, letter: Letter) {
        self.owed[worker as usize].push_back(letter);
    }

    /// Whether the next turn must be at once, and whether it must be soon.
    pub fn goes_on(&self) -> (bool, bool) {
        let waits = !self.early.is_empty() || !self.starved.is_empty() || self.owed.iter().any(|owed| !owed.is_empty());
        (!self.ready.is_empty() || !self.changed.is_empty(), waits)
    }
}

impl Worker {
    /// A subscription wants the next event of a shard.
    pub(super) fn pulled(&mut self, worker: u16, pull: Pull) {
        if self.state().applied < pull.seen {
            return self.fanout.early.push_back((worker, pull));
        }
        let Pull { who, mode, bytes, records, shard, log, sequence, floor, .. } = pull;
        let owned = self.shards.get(shard).filter(|owned| {
            let open = !matches!(owned.admission, Admission::Closed { .. });
            open && self.logs[owned.log].settings().number == log
        });
        let taker = Taker { worker, who, mode, bytes, records, since: self.now.mono };
        // Where nothing has been assigned that it wants, nothing needs to be read to know that it waits.
        let mut waits = mode != Mode::FramesNow && owned.is_some_and(|owned| sequence >= owned.next);
        if let Some(owned) = owned.filter(|_| mode == Mode::Watch && !waits)
            && self.logs[owned.log].durable() < owned.end
        {
            // It has read what is durable.
            waits = true;
            self.fanout.news_at(owned.log, owned.end, shard);
        }
        self.fanout.wait(shard, Waiter { taker, log, sequence, floor, look: !waits, due: false });
    }

    /// A reader of worker `worker` has gone: its place is free there when its pull is answered.
    fn forgotten(&mut self, worker: u16, shard: ShardKey, id: ReaderId, ops: &mut Ops) {
        let is_it = |who: Who| who == Who::Reader(id);
        let early = self.fanout.early.iter().position(|(from, pull)| *from == worker && is_it(pull.who));
        if early.and_then(|at| self.fanout.early.remove(at)).is_some() {
            let outcome = Outcome::Nothing { next: 0, caught_up: false, ends: false };
            return self.deliver(worker, Who::Reader(id), outcome, ops);
        }
        let Some(waiters) = self.fanout.waiting.get_mut(&shard) else { return };
        let Some(at) = waiters.iter().position(|waiter| waiter.taker.worker == worker && is_it(waiter.taker.who))
        else {
            return;
        };
        waiters.swap_remove(at);
        if waiters.is_empty() {
            self.fanout.waiting.remove(&shard);
        }
        let outcome = Outcome::Nothing { next: 0, caught_up: false, ends: false };
        self.deliver(worker, Who::Reader(id), outcome, ops);
    }

    /// A native reader here has gone while owner `owner` had its pull.
    pub(super) fn forget_pull(&mut self, owner: u16, shard: ShardKey, id: ReaderId, ops: &mut Ops) {
        match owner == self.id {
            true => self.forgotten(owner, shard, id, ops),
            false => self.fanout.owe(owner, Letter::Forget { shard, id }),
        }
    }

    /// Calls that found nothing wait, or go on waiting; those that have found no buffer (`starved`) are looked at again soon.
    pub(super) fn pulls_wait(&mut self, call: &GetCall, takers: Vec<Taker>, starved: bool) {
        let (shard, sequence, floor) = (call.shard, call.sequence, call.floor);
        let waiters = self.fanout.waiting.entry(shard).or_default();
        let log = call.log;
        waiters.extend(takers.into_iter().map(|taker| Waiter {
            taker,
            log,
            sequence,
            floor,
            look: starved,
            due: false,
        }));
        if starved {
            return self.starves(shard);
        }
        // What was appended before they waited is news as well.
        if let Some(owned) = self.shards.get(shard)
            && owned.next > sequence
            && self.logs[owned.log].durable() < owned.end
        {
            self.fanout.news_at(owned.log, owned.end, shard);
        }
    }

    /// Calls of the shards that a log has news for, now that it is durable further.
    pub(super) fn fanout_durable(&mut self, log: usize) {
        let durable = self.logs[log].durable();
        let Some(news) = self.fanout.news.get_mut(log).filter(|news| !news.is_empty()) else { return };
        let later = news.split_off(&(Position(durable.0 + 1), ShardKey::new(0, 0)));
        for (_, shard) in std::mem::replace(news, later) {
            self.fanout.look_at(shard);
        }
    }

    /// A turn's part, when the acks have been released.
    pub(super) fn fanout_turn(&mut self, ops: &mut Ops) {
        for stream in self.fanout.changed() {
            let range = ShardKey::new(stream, 0)..=ShardKey::new(stream, u32::MAX);
            let shards: Vec<ShardKey> = self.fanout.waiting.range(range).map(|(shard, _)| *shard).collect();
            shards.into_iter().for_each(|shard| self.fanout.look_at(shard));
            self.subscriptions_follow(stream, ops);
            self.native_readers_follow(stream);
        }
        for _ in 0..self.fanout.early.len() {
            let Some((worker, pull)) = self.fanout.early.pop_front() else { break };
            self.pulled(worker, pull);
        }
        self.subscriptions_moved(ops);
        self.retry_starved();
        for _ in 0..ROUNDS {
            for shard in std::mem::take(&mut self.fanout.ready) {
                self.pump(shard, ops);
            }
        }
        let retries = self.fanout.retried.is_some_and(|shard| self.gets.makes_events_of(shard));
        if self.fanout.starved.is_empty() && !retries {
            (self.fanout.starved_since, self.fanout.retried) = (None, None);
        }
        self.send_owed();
    }

    fn send_owed(&mut self) {
        for worker in 0..self.workers {
            while let Some(letter) = self.fanout.owed[worker as usize].pop_front() {
                if let Err(Message::Fanout(letter)) = self.mail.offer(worker, Message::Fanout(letter)) {
                    self.fanout.owed[worker as usize].push_front(letter);
                    break;
                }
            }
        }
    }

    /// Begins an event for each number that is wanted, for all who want it.
    fn pump(&mut self, shard: ShardKey, ops: &mut Ops) {
        // Its turn comes.
        if self.fanout.starved.contains(&shard) {
            return;
        }
        let Some(waiters) = self.fanout.waiting.get_mut(&shard) else { return };
        let mut calls: Vec<Waiter> = waiters.extract_if(.., |waiter| waiter.look).collect();
        if waiters.is_empty() {
            self.fanout.waiting.remove(&shard);
        }
        for call in calls.extract_if(.., |call| call.taker.mode == Mode::Watch) {
            self.deliver(call.taker.worker, call.taker.who, Outcome::News, ops);
        }
        let key = |call: &Waiter| (call.sequence, call.floor, call.log, call.taker.mode);
        calls.sort_by_key(key);
        for calls in calls.chunk_by(|a, b| key(a) == key(b)) {
            let Waiter { log, sequence, floor, .. } = calls[0];
            let Some(out) = self.gets.has_room().then(|| self.event_buffer()).flatten() else {
                // They keep their place: the next turn looks at them again.
                self.fanout.waiting.entry(shard).or_default().extend(calls);
                self.starves(shard);
                continue;
            };
            let takers: Vec<Taker> = calls.iter().map(|call| call.taker).collect();
            let mode = takers[0].mode;
            // Of frames each takes what it may; the most that one of them may are read.
            let bytes = takers.iter().map(|taker| taker.bytes).max().filter(|_| mode != Mode::Event);
            let limit = match mode {
                Mode::Event => GET_RECORDS_MAX as u32,
                _ => takers.iter().map(|taker| taker.records).max().expect("one at least"),
            };
            let seen = self.state().applied;
            let call = GetCall { shard, log, sequence, floor, limit, seen, encoding: Encoding::Json };
            let due = mode == Mode::FramesNow || calls.iter().any(|call| call.due);
            let event = Event { takers, due, bytes };
            self.event_begin(call, event, out, ops);
        }
    }

    /// Lets the next shard be looked at again whose calls have found no buffer, when what the one before it has begun is over.
    fn retry_starved(&mut self) {
        if self.fanout.starved.is_empty() || self.fanout.retried.is_some_and(|shard| self.gets.makes_events_of(shard)) {
            return;
        }
        let Fanout { starved, retried, ready, .. } = &mut self.fanout;
        let behind = retried.and_then(|last| starved.range((Excluded(last), Unbounded)).next());
        let next = behind.or_else(|| starved.first()).copied();
        *retried = next;
        if let Some(shard) = next {
            starved.remove(&shard);
            ready.insert(shard);
        }
    }

    fn starves(&mut self, shard: ShardKey) {
        self.fanout.starved.insert(shard);
        self.fanout.starved_since.get_or_insert(self.now.mono);
    }

    /// A first buffer for an event, as long as half of its pool is left to others.
    fn event_buffer(&mut self) -> Option<Span> {
        [Pool::Small, Pool::Medium].into_iter().find_map(|pool| self.event_buffer_of(pool))
    }

    pub(super) fn event_buffer_of(&mut self, pool: Pool) -> Option<Span> {
        let spare = self.buffers.available(pool) * 2 > self.buffers.slots(pool) as usize;
        spare.then(|| self.buffers.take(pool)).flatten()
    }

    /// Who has heard nothing for long gets an event without records; who holds buffers and takes nothing ends. Once a second.
    pub(super) fn fanout_tick(&mut self, ops: &mut Ops) {
        let now = self.now.mono;
        self.registrar.sweep(now);
        let Fanout { waiting, ready, .. } = &mut self.fanout;
        let mut quiet = Vec::new();
        waiting.retain(|shard, waiters| {
            let waited = |waiter: &mut Waiter| waiter.taker.since.plus_ms(QUIET_MS) <= now;
            for waiter in waiters.iter_mut().filter(|waiter| waiter.taker.mode == Mode::Event) {
                if waited(waiter) {
                    (waiter.look, waiter.due) = (true, true);
                    ready.insert(*shard);
                }
            }
            let native = |waiter: &mut Waiter| waiter.taker.mode != Mode::Event && waited(waiter);
            quiet.extend(waiters.extract_if(.., native));
            !waiters.is_empty()
        });
        for waiter in quiet {
            // It asks again, if it is still there; nothing is sent.
            // One that waits for a buffer has not come to the end.
            let outcome = Outcome::Nothing { next: waiter.sequence, caught_up: !waiter.look, ends: false };
            self.deliver(waiter.taker.worker, waiter.taker.who, outcome, ops);
        }
        if self.fanout.starved_since.is_some_and(|since| since.plus_ms(1_000) <= now) {
            for worker in (0..self.workers).filter(|worker| *worker != self.id) {
                self.fanout.owe(worker, Letter::Shed);
            }
            self.shed(self.id, ops);
        }
    }

    /// Answers a pull of worker `worker`.
    pub(super) fn deliver(&mut self, worker: u16, who: Who, outcome: Outcome, ops: &mut Ops) {
        match (worker == self.id, who) {
            (true, Who::Subscription(id)) => self.outcome_arrived(id, outcome, ops),
            (true, Who::Reader(id)) => self.reader_outcome(id, outcome, ops),
            (false, _) => self.fanout.owe(worker, Letter::Outcome { who, outcome }),
        }
    }

    pub(super) fn on_fanout_letter(&mut self, from: u16, letter: Letter, ops: &mut Ops) {
        match letter {
            Letter::Claim { claim, id } => self.claimed(from, claim, id, ops),
            Letter::Claimed { id, verdict } => {
                self.mail.answered(from);
                self.claim_answered(id, verdict, ops);
            }
            Letter::Ousted { id } => self.ousted(id, ops),
            Letter::Over { claim, id } => self.registrar.over(claim, from, id),
            Letter::Pull(pull) => self.pulled(from, pull),
            Letter::Outcome { who, outcome } => self.deliver(self.id, who, outcome, ops),
            Letter::Forget { shard, id } => self.forgotten(from, shard, id, ops),
            Letter::Shed => self.shed(from, ops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardKey = ShardKey::new(1, 2);

    fn waiter(number: u64, look: bool) -> Waiter {
        let who = Who::Subscription(SubscriptionId { slot: 1, number });
        let taker = Taker { worker: 0, who, mode: Mode::Event, bytes: 0, records: 0, since: Mono(0) };
        Waiter { taker, log: 0, sequence: 7, floor: 0, look, due: false }
    }

    #[test]
    fn a_lent_event_is_free_when_all_have_returned_it() {
        let mut fanout = Fanout::new(1);
        let span = Span { worker: 0, pool: Pool::Small, slot: 3, at: 0, len: 100 };
        fanout.lend(span, 3);
        assert_eq!([(); 3].map(|()| fanout.returned(span)), [false, false, true]);
        // What is no event, or another use of the same slot, is lent once.
        assert!(fanout.returned(span));
        fanout.lend(span, 1);
        assert!(fanout.returned(Span { at: 50, len: 1, ..span }));
    }

    #[test]
    fn an_append_is_news_only_where_somebody_waits() {
        let mut fanout = Fanout::new(1);
        fanout.appended(0, Position(100), SHARD);
        assert!(fanout.news.is_empty());
        fanout.wait(SHARD, waiter(1, false));
        assert_eq!(fanout.goes_on(), (false, false), "nothing is to do for those who wait");
        for _ in 0..3 {
            fanout.appended(1, Position(200), SHARD);
            fanout.appended(1, Position(200), ShardKey::new(1, 3));
        }
        assert_eq!(fanout.news[1].iter().collect::<Vec<_>>(), [&(Position(200), SHARD)]);
        fanout.look_at(SHARD);
        assert_eq!(fanout.goes_on(), (true, false));
    }

    #[test]
    fn changes_that_matter_to_readers_are_noted() {
        let mut fanout = Fanout::new(1);
        fanout.note(&Change::Retention { stream: 4, hours: 48 });
        fanout.note(&Change::DeregisterConsumer { stream: 5, consumer: 0 });
        fanout.note(&Change::OpenChildren { stream: 6, closed: Vec::new() });
        assert_eq!((fanout.changed(), fanout.changed()), (vec![5, 6], vec![]));
    }
}

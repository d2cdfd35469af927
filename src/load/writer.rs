//! A connection that writes: makes what is due, sends what is made, and counts what becomes of it.

use super::http::{self, Speaker};
use super::http2::Http2;
use super::http2_writer;
use super::lanes::Lanes;
use super::ledger::{Fate, Place};
use super::link::Link;
use super::native::{CONTROL, Made, Native, Stage};
use super::outbox::{Outbox, Request};
use super::plan::{Plan, Wire};
use super::random::Random;
use super::schedule::Schedule;
use super::shared::Shared;
use super::tally;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, Ops, Socket};

/// Bytes that are made in a turn, after which the clock is read again and answers are looked at.
const TURN_BYTES: u32 = 256 << 10;
/// Requests of a turn.
const TURN_REQUESTS: u32 = 64;
/// A prebuilt request is signed anew after so long: a signature is good for five minutes.
const SIGNED_NS: u64 = 60_000_000_000;
/// How long a request may be without an answer, or a connection without a greeting, before the connection is given up. A server of ours answers a batch
/// within 40 s.
const PATIENCE_NS: u64 = 50_000_000_000;

pub(super) enum Speech {
    Native(Native),
    Http(Speaker),
    Http2(Speaker, Box<Http2>),
}

/// A request that stays in its place to be sent again.
pub(super) struct Built {
    pub made: Made,
    /// What follows what is in its place, where that is not all.
    pub rest: Option<Span>,
    pub lane: u16,
    pub at: u64,
}

pub struct Writer {
    pub(super) link: Link,
    pub(super) speech: Speech,
    pub(super) outbox: Outbox,
    pub(super) lanes: Lanes,
    keys: Vec<u32>,
    schedule: Option<Schedule>,
    pub(super) random: Random,
    /// For messages that are no requests.
    pub(super) control: Span,
    /// Of HTTP/2, what is being sent of a request.
    pub(super) partial: Span,
    /// By place.
    built: Vec<Option<Built>>,
    /// Something was due and could not be made; and until when that was so, ns of the run.
    blocked: bool,
    free_since: u64,
    /// The connection may be used.
    pub(super) ready: bool,
    /// When the connection was made, and when something was sent last.
    since: Mono,
    spoke: Mono,
    /// What the server has said of requests that it has not answered.
    pub(super) farewell: Option<Fate>,
}

impl Writer {
    /// Connection `number` of its thread, with these keys; `part`: of the rate of the whole run, that its keys have.
    pub fn new(shared: &Shared, number: u16, socket: Socket, keys: Vec<u32>, part: f64, stream: u64) -> Writer {
        let plan: &Plan = &shared.plan;
        let whole = |pool| shared.buffers.whole(pool, number);
        let random = Random::stream(plan.seed, stream);
        let outbox = Outbox::new(
            whole(Pool::Small).first(plan.request_max() * plan.places()),
            plan.request_max(),
            if plan.is_verified() { plan.batch } else { 0 },
        );
        let speech = match plan.wire {
            // 48 bits that no other connection of any run has, and an epoch.
            Wire::Native => {
                let producer = (Random::stream(plan.run, stream).next() >> 16) << 16 | 1;
                Speech::Native(Native::new(producer, plan.bulk))
            }
            wire => {
                let signer = plan.identity.as_ref().map(|identity| identity.signer());
                let speaker = Speaker::new(plan.host.clone(), signer, wire.name());
                match plan.http2 {
                    true => Speech::Http2(speaker, Box::new(Http2::new())),
                    false => Speech::Http(speaker),
                }
            }
        };
        Writer {
            link: Link::new(socket, plan.to, whole(Pool::Connection), Random::stream(plan.seed ^ 3, stream)),
            speech,
            built: (0..plan.places()).map(|_| None).collect(),
            outbox,
            lanes: match plan.wire {
                Wire::Native => Lanes::default(),
                // Streams pass one another: in order are only those of which one waits for the other.
                _ if plan.http2 && plan.is_verified() => Lanes::apart(plan, &keys, plan.outstanding()),
                _ => Lanes::one(plan, &keys),
            },
            keys,
            schedule: plan.schedule(part, stream),
            random,
            control: whole(Pool::Reply).first(CONTROL),
            partial: whole(Pool::Reply).first(0),
            blocked: false,
            free_since: 0,
            ready: false,
            since: Mono(0),
            spoke: Mono(0),
            farewell: None,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether nothing of it is unanswered.
    pub fn is_idle(&self) -> bool {
        self.outbox.unanswered() == 0
    }

    pub fn turn(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        self.link.turn(now.mono, ops);
        if self.overdue(shared).is_some_and(|at| at <= now.mono) {
            shared.complain(format!("no answer within {} s", PATIENCE_NS / 1_000_000_000));
            self.link.close(ops);
        }
        if shared.begun.is_some() {
            self.make(shared, now);
        }
        self.send(shared, now, ops);
        self.link.receive(ops);
    }

    /// When its next turn must be.
    pub fn deadline(&self, shared: &Shared) -> Option<Mono> {
        // Behind the end nothing is due, and that the run ends others know.
        let next = || self.schedule.as_ref().map(Schedule::due).filter(|due| *due < shared.plan.end);
        let due = || Some(shared.begun?.mono + next()?);
        let makes = self.ready && !self.blocked;
        self.link.deadline().into_iter().chain(due().filter(|_| makes)).chain(self.overdue(shared)).min()
    }

    /// When the server has had time enough for what it has not answered.
    fn overdue(&self, shared: &Shared) -> Option<Mono> {
        let since = match (self.outbox.oldest(), shared.begun) {
            // Sent again on this connection, if it is older.
            (Some(request), Some(begun)) => self.since.max(begun.mono + request.made),
            _ if !self.ready => self.since,
            _ => return None,
        };
        self.link.is_up().then_some(since + PATIENCE_NS)
    }

    /// The run is over: what was due and never sent is counted.
    pub fn finish(&mut self, shared: &mut Shared) {
        let Some(schedule) = &mut self.schedule else { return };
        while schedule.due() < shared.plan.end {
            let due = schedule.take();
            shared.tally.counts.due += shared.plan.counts(due) as u64;
        }
    }

    fn make(&mut self, shared: &mut Shared, now: Now) {
        let elapsed = shared.elapsed(now);
        let mut budget = (TURN_BYTES, TURN_REQUESTS);
        while budget.0 > 0 && budget.1 > 0 {
            let due = match &self.schedule {
                Some(schedule) => schedule.due(),
                None => elapsed,
            };
            if due > elapsed || due >= shared.plan.end || elapsed >= shared.plan.end {
                return;
            }
            let Some((lane, place)) = self.next(shared) else {
                self.blocked = true;
                return;
            };
            if std::mem::take(&mut self.blocked) {
                self.free_since = elapsed;
            }
            self.schedule.as_mut().map(Schedule::take);
            self.lanes.taken();
            let len = self.make_one(shared, now, (lane, place), due);
            budget = (budget.0.saturating_sub(len), budget.1 - 1);
        }
    }

    /// The lane and the place of the next request, if it may be made now.
    fn next(&mut self, shared: &Shared) -> Option<(u16, u32)> {
        if !self.ready || self.lanes.is_empty() {
            return None;
        }
        let place = self.outbox.next_place()?;
        let lane = match &self.built[place as usize] {
            Some(built) if shared.plan.prebuilt => built.lane,
            _ if shared.plan.http2 && shared.plan.is_verified() => self.lanes.next_free(&mut self.random)?,
            _ => self.lanes.next(&mut self.random),
        };
        let allowed = match &self.speech {
            Speech::Native(native) => {
                let (count, bytes) = (self.outbox.unanswered(), self.outbox.unanswered_bytes());
                let most = native.unanswered_bytes as u64;
                let fits = most == 0 || count == 0 || bytes + shared.plan.request_max() as u64 <= most;
                native.takes(self.lanes.lane(lane)) && count < native.unanswered && fits
            }
            Speech::Http(_) => true,
            Speech::Http2(_, http2) => http2_writer::takes(http2, self.outbox.unanswered(), shared.plan.outstanding()),
        };
        allowed.then_some((lane, place))
    }

    /// Makes the request that is due at `due`; gives its bytes.
    fn make_one(&mut self, shared: &mut Shared, now: Now, (lane, place): (u16, u32), due: u64) -> u32 {
        let elapsed = shared.elapsed(now);
        let again =
            self.built[place as usize].take().filter(|built| shared.plan.prebuilt && self.is_fresh(built, elapsed));
        let built = match again {
            Some(mut built) => {
                if let Speech::Native(native) = &self.speech {
                    let span = self.outbox.span(place);
                    native.make_again(&mut built.made, self.lanes.lane(lane), span, &mut shared.buffers);
                }
                built
            }
            None => {
                let (made, rest) = self.build(shared, now, (lane, place), due);
                Built { made, rest, lane, at: elapsed }
            }
        };
        let counted = shared.plan.counts(due);
        let Made { header, len, bytes } = built.made;
        let number = self.number(self.outbox.span(place).first(len), &mut shared.buffers);
        let request = Request {
            lane,
            shard: header.shard.0,
            number: number.unwrap_or(header.number),
            records: shared.plan.batch,
            bytes,
            len,
            rest: built.rest,
            due,
            made: elapsed,
            counted,
            again: false,
        };
        self.outbox.push(request);
        let lane = self.lanes.lane(lane);
        lane.next = lane.next.wrapping_add(1);
        lane.unanswered += 1;
        if counted {
            shared.tally.counts.due += 1;
            shared.tally.counts.sent += 1;
            tally::record(&mut shared.tally.lag, elapsed - due.max(self.free_since).min(elapsed));
        }
        self.built[place as usize] = Some(built);
        len
    }

    fn is_fresh(&self, built: &Built, elapsed: u64) -> bool {
        matches!(self.speech, Speech::Native(_)) || elapsed - built.at < SIGNED_NS
    }

    /// Makes a request, in its place but for what is given back.
    fn build(&mut self, shared: &mut Shared, now: Now, (lane, place): (u16, u32), due: u64) -> (Made, Option<Span>) {
        let span = self.outbox.span(place);
        let Writer { speech, lanes, outbox, random, .. } = self;
        let references = outbox.references(place);
        let lane = lanes.lane(lane);
        let made = match speech {
            Speech::Native(native) => {
                if let Some((mut made, common)) = native.common(shared, random, lane, due) {
                    native.make_again(&mut made, lane, span, &mut shared.buffers);
                    return (made, Some(common.part(native.head(), made.len - native.head())));
                }
                native.make(shared, random, lane, span, due, references)
            }
            Speech::Http(speaker) | Speech::Http2(speaker, _) => {
                super::http_writer::make(speaker, shared, random, lane, span, (due, now), references)
            }
        };
        (made, None)
    }

    fn send(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        if !self.link.is_up() || self.link.is_sending() {
            return;
        }
        if let Speech::Native(native) = &mut self.speech {
            native.ping_if_quiet(now.mono - self.spoke, self.control, &mut shared.buffers);
            if let Some(message) = native.pending.take() {
                self.spoke = now.mono;
                self.link.send(message, None, ops);
                return;
            }
        }
        let unsent = match &self.speech {
            Speech::Http2(..) => self.http2_unsent(shared),
            _ if self.ready => self.outbox.take_unsent(),
            _ => None,
        };
        if let Some((first, then)) = unsent {
            self.spoke = now.mono;
            self.link.send(first, then, ops);
        }
    }

    pub fn on_connected(&mut self, shared: &mut Shared, now: Now, result: Result<(), Errno>) {
        if !self.link.connected(now.mono, result) {
            return;
        }
        (self.since, self.spoke) = (now.mono, now.mono);
        match &mut self.speech {
            Speech::Native(native) => native.greet(&shared.plan, self.control, &mut shared.buffers),
            Speech::Http(_) => self.ready = true,
            Speech::Http2(_, http2) => **http2 = Http2::new(),
        }
    }

    pub fn on_sent(&mut self, result: Result<(), Errno>, ops: &mut Ops) {
        self.outbox.sent();
        self.link.sent(result, ops);
        self.outbox.settle(self.link.is_sending());
    }

    pub fn on_received(&mut self, shared: &mut Shared, now: Now, result: Result<u32, Errno>, ops: &mut Ops) {
        if !self.link.received(result, ops) {
            return;
        }
        let taken = match &self.speech {
            Speech::Native(_) => self.native_received(shared, now, ops),
            Speech::Http(_) => self.http_received(shared, now, ops),
            Speech::Http2(..) => self.http2_received(shared, now, ops),
        };
        match taken {
            Ok(taken) => {
                let held = self.link.held();
                shared.buffers.bytes_mut(held).copy_within(taken as usize.., 0);
                self.link.taken(taken);
                if self.link.is_full() {
                    shared.complain("the server's answer is longer than any should be".to_string());
                    self.link.close(ops);
                }
            }
            Err(why) => {
                shared.complain(why.to_string());
                self.link.close(ops);
            }
        }
        self.outbox.settle(self.link.is_sending());
    }

    /// The connection is over: what it has not answered is sent again on the next one, where the server knows what it has already.
    pub fn on_closed(&mut self, shared: &mut Shared, now: Now) {
        self.link.closed(now.mono);
        if std::mem::take(&mut self.ready) && shared.is_running(now) {
            shared.tally.counts.disconnects += 1;
        }
        if let Speech::Native(native) = &mut self.speech {
            native.pending = None;
            native.stage = Stage::Greeting;
            if std::mem::take(&mut native.ends_epoch) {
                native.begin_epoch();
                self.lanes.begin_epoch();
            } else if native.producer != 0 {
                // Also where the server has said that they are not stored: that makes no duplicate.
                self.farewell = None;
                self.outbox.send_again();
                return;
            }
        }
        let fate = self.farewell.take().unwrap_or(Fate::Unknown);
        self.give_up(shared, fate);
    }

    /// What is unanswered stays so, and has had this fate.
    pub(super) fn give_up(&mut self, shared: &mut Shared, fate: Fate) {
        let open: Vec<(Request, u32)> = self.outbox.unanswered_requests().collect();
        for (request, place) in open {
            self.settle_records(shared, place, |_| fate);
            shared.count_failure(&request, fate, false);
        }
        self.outbox.forget();
        self.lanes.forget();
    }

    /// Tells the ledger what became of the records of the request at `place`.
    pub(super) fn settle_records(&mut self, shared: &mut Shared, place: u32, fate: impl Fn(usize) -> Fate) {
        self.settle_stored(shared, place, fate, |_| None);
    }

    /// The same; `stored`: where the server has said that they are.
    pub(super) fn settle_stored(
        &mut self,
        shared: &mut Shared,
        place: u32,
        fate: impl Fn(usize) -> Fate,
        stored: impl Fn(usize) -> Option<Place>,
    ) {
        let Some(ledger) = &mut shared.ledger else { return };
        for (at, (key, number)) in self.outbox.references(place).iter().enumerate() {
            ledger.answer(*key, *number, fate(at), stored(at));
        }
    }

    /// The map of shards has come.
    pub(super) fn route(&mut self, shared: &mut Shared, lines: &[crate::native::welcome::ShardLine]) {
        self.lanes = Lanes::by_shard(&shared.plan, &self.keys, lines, &self.lanes);
        self.built.iter_mut().for_each(|built| *built = None);
        if self.lanes.is_empty() {
            shared.complain("the stream has no open shard for the keys of a connection".to_string());
        }
    }

    /// For those that read the answers of HTTP.
    pub(super) fn answer_in(&self, shared: &Shared) -> Result<Option<http::Answer>, &'static str> {
        http::answer(shared.buffers.bytes(self.link.held()))
    }
}

impl Writer {
    pub(super) fn close(&mut self, ops: &mut Ops) {
        self.ready = false;
        self.link.close(ops);
    }

    pub(super) fn is_down(&self) -> bool {
        self.link.is_down()
    }

    /// The run is over and the server is gone: what it has not answered stays so.
    pub(super) fn is_lost(&self) -> bool {
        self.link.is_down() && self.link.error.is_some()
    }
}

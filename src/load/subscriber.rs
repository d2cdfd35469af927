//! Reads the shards of a thread over the native protocol, along with the writing: one connection, a subscription to each shard.
//! `subscription.rs` says what is asked of a shard; here it is sent, and what comes is taken apart.

use super::ledger::Place;
use super::link::Link;
use super::native::{CONTROL, Native, QUIET_NS, Stage};
use super::random::Random;
use super::shared::Shared;
use super::subscription::{News, Subscription};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, Ops, Socket};
use crate::log::format::{HEADER, header_at, records, stride};
use crate::native::message::{CONTROL_MAX, Header, Kind};
use crate::native::reading::Done;
use crate::native::refusal::{Code, Refusal};
use crate::native::welcome::{ShardLine, Welcome};

/// Bytes that are received at once, so that writers have their turn between them.
const TURN_BYTES: u32 = 256 << 10;
/// Room for what is asked, behind that of a greeting; and for one message of it at the least.
const ASKS: u32 = 8 << 10;
const ASK_MAX: usize = 2 * HEADER;
/// Number of the first record of a shard.
const FIRST: u64 = 1;

/// Room that a subscriber needs beside what it receives into.
pub const ROOM: u32 = CONTROL + ASKS;

pub struct Subscriber {
    link: Link,
    native: Native,
    control: Span,
    shards: Vec<Subscription>,
    shards_max: usize,
    /// A shard has ended, and the map that names its children has not come; and whether it has been asked for.
    seeks_children: bool,
    map_asked: bool,
    /// The number of the stream, which a later one of its name does not have.
    stream: Option<u32>,
    spoke: Mono,
    /// The writers are done.
    ends: bool,
    is_incomplete: bool,
}

impl Subscriber {
    /// Of these shards, from what is written after it is ready; it follows them to `shards_max` shards.
    pub fn new(shared: &Shared, socket: Socket, shards: &[u32], shards_max: usize) -> Subscriber {
        let plan = &shared.plan;
        let to = plan.read.expect("a run that reads knows where from");
        let room = shared.buffers.whole(Pool::Large, 0);
        Subscriber {
            link: Link::new(socket, to, room, Random::stream(plan.seed ^ 4, socket.0 as u64)),
            native: Native::new(0, false),
            control: shared.buffers.whole(Pool::Reply, socket.0 as u16),
            shards: shards.iter().map(|shard| Subscription::new(*shard, None)).collect(),
            shards_max,
            seeks_children: false,
            map_asked: false,
            stream: None,
            spoke: Mono(0),
            ends: false,
            is_incomplete: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.native.stage == Stage::Ready && self.shards.iter().all(Subscription::is_ready)
    }

    pub fn has_all(&self, since: Mono) -> bool {
        !self.seeks_children && self.shards.iter().all(|shard| shard.has_all(since))
    }

    /// Whether it is proved that the record at this place was trimmed before it came.
    pub fn is_trimmed(&self, place: Place) -> bool {
        self.shards.iter().any(|shard| shard.shard == place.shard && shard.is_trimmed(place.number))
    }

    /// Something could not be followed, or has gone untold.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete || self.shards.iter().any(|shard| shard.is_incomplete())
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    pub fn deadline(&self) -> Option<Mono> {
        let asks = self.link.is_up() && self.native.stage == Stage::Ready && !self.link.is_sending();
        let shards = self.shards.iter().filter(|_| asks).filter_map(|shard| shard.deadline(self.ends)).min();
        let ping = asks.then_some(self.spoke + QUIET_NS + 1);
        self.link.deadline().into_iter().chain(shards).chain(ping).min()
    }

    /// `ends`: nothing more is written, so what is left is looked for.
    pub fn turn(&mut self, shared: &mut Shared, now: Now, ends: bool, ops: &mut Ops) {
        self.ends = ends;
        self.link.turn(now.mono, ops);
        if let Some(late) = self.shards.iter().find(|shard| shard.is_overdue(now.mono)).filter(|_| self.link.is_up()) {
            shared.complain(format!("reading shard {}: no answer came in time", late.shard));
            self.link.close(ops);
        }
        self.send(shared, now, ops);
        self.link.receive_at_most(TURN_BYTES, ops);
    }

    fn send(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        if !self.link.is_up() || self.link.is_sending() {
            return;
        }
        self.native.ping_if_quiet(now.mono - self.spoke, self.control, &mut shared.buffers);
        if self.seeks_children && !self.map_asked && self.native.stage == Stage::Ready && self.native.pending.is_none()
        {
            self.map_asked = true;
            self.native.say_map(self.control, &mut shared.buffers);
        }
        let message = self.native.pending.take().or_else(|| self.asks(shared, now.mono));
        if let Some(message) = message {
            self.spoke = now.mono;
            self.link.send(message, None, ops);
        }
    }

    /// What shards have to ask, as far as there is room.
    fn asks(&mut self, shared: &mut Shared, now: Mono) -> Option<Span> {
        if self.native.stage != Stage::Ready {
            return None;
        }
        let span = self.control.part(CONTROL, ASKS);
        let out = shared.buffers.bytes_mut(span);
        let mut at = 0;
        for shard in &mut self.shards {
            if out.len() - at < ASK_MAX {
                break;
            }
            at += shard.ask(self.native.stream, now, self.ends, &mut out[at..]).unwrap_or(0);
        }
        (at > 0).then(|| span.first(at as u32))
    }

    pub fn on_connected(&mut self, shared: &mut Shared, now: Now, result: Result<(), Errno>) {
        if self.link.connected(now.mono, result) {
            self.spoke = now.mono;
            self.native.greet(&shared.plan, self.control, &mut shared.buffers);
        }
    }

    pub fn on_sent(&mut self, result: Result<(), Errno>, ops: &mut Ops) {
        self.link.sent(result, ops);
    }

    pub fn on_closed(&mut self, now: Now) {
        self.link.closed(now.mono);
        self.native.pending = None;
        self.native.stage = Stage::Greeting;
        self.map_asked = false;
        self.shards.iter_mut().for_each(Subscription::lose);
    }

    pub fn close(&mut self, ops: &mut Ops) {
        self.link.close(ops);
    }

    pub fn on_received(&mut self, shared: &mut Shared, now: Now, result: Result<u32, Errno>, ops: &mut Ops) {
        if !self.link.received(result, ops) {
            return;
        }
        match self.take(shared, now, ops) {
            Ok(0) if self.link.is_full() => {
                shared.complain("a message of the native port is longer than a reader takes".to_string());
                self.link.close(ops);
            }
            Ok(0) => {}
            Ok(taken) => {
                let held = self.link.held();
                shared.buffers.bytes_mut(held).copy_within(taken as usize.., 0);
                self.link.taken(taken);
            }
            Err(why) => {
                shared.complain(format!("reading: {why}"));
                self.link.close(ops);
            }
        }
    }

    /// Takes whole messages; gives how many bytes they had.
    fn take(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) -> Result<u32, &'static str> {
        let held = self.link.held();
        let mut at = 0;
        while let Some(head) = header_at(shared.buffers.bytes(held), at) {
            let header = Header::decode(head).map_err(|_| "what came from the native port is no message")?;
            let size = stride(header.body);
            if held.len as u64 - (at as u64) < size {
                break;
            }
            let from = held.part((at + HEADER) as u32, header.body);
            at += size as usize;
            header
                .check_body(shared.buffers.bytes(from))
                .map_err(|_| "a message of the native port was damaged on the way")?;
            match header.kind {
                Kind::Batch => self.on_batch(shared, now, &header, from)?,
                _ => self.on_message(shared, now, &header, from, ops)?,
            }
        }
        Ok(at as u32)
    }

    fn on_batch(&mut self, shared: &mut Shared, now: Now, header: &Header, from: Span) -> Result<(), &'static str> {
        let Some(shard) = self.shards.iter_mut().find(|known| known.shard == header.shard.shard()) else {
            return Ok(());
        };
        let bytes = stride(header.body) as u32;
        let Some(passed) = shard.on_batch(now.mono, header.sequence, header.count, bytes) else { return Ok(()) };
        let elapsed = shared.elapsed(now);
        let (buffers, mut reading) = shared.reading(elapsed);
        let records = records(buffers.bytes(from), header.count).map_err(|_| "a batch is not made as it should be")?;
        records.after(passed).for_each(|record| reading.take(record.data));
        self.link.is_good();
        Ok(())
    }

    fn on_message(
        &mut self,
        shared: &mut Shared,
        now: Now,
        header: &Header,
        from: Span,
        ops: &mut Ops,
    ) -> Result<(), &'static str> {
        if header.body > CONTROL_MAX {
            return Err("a message of the native port is longer than it can be");
        }
        let body = shared.buffers.bytes(from).to_vec();
        match header.kind {
            Kind::Challenge if !self.native.prove(&shared.plan, &body, self.control, &mut shared.buffers) => {
                shared.fatal = Some(super::native::KEY_WANTED.to_string());
            }
            Kind::Welcome => {
                let welcome = Welcome::decode(header, &body).ok_or("a Welcome is not one")?;
                self.native.welcome(&welcome);
                if self.stream.replace(welcome.stream).is_some_and(|known| known != welcome.stream) {
                    shared.complain("the stream was deleted, and made anew".to_string());
                }
            }
            Kind::Shards => {
                if let Some(lines) = self.native.shards(header, &body).ok_or("a map of shards is not one")? {
                    let lines = lines.to_vec();
                    self.native.stage = Stage::Ready;
                    self.follow(shared, &lines);
                }
            }
            Kind::Done => self.on_done(shared, now, &Done::decode(header, &body).ok_or("a Done is not one")?),
            Kind::Encrypted => {
                self.is_incomplete = true;
                shared.complain("records are encrypted: they cannot be verified".to_string());
            }
            Kind::Goodbye => {
                let refusal = Refusal::decode(&body).ok_or("a Goodbye is not one")?;
                let text = format!("the server has ended a connection that reads: {}", refusal.text);
                let passes = [Code::Busy, Code::Stopping, Code::Idle, Code::CredentialsChanged].map(Ok);
                match shared.begun.is_some() || passes.contains(&refusal.code) {
                    true => shared.complain(text),
                    false => shared.fatal = Some(text),
                }
                self.link.close(ops);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_done(&mut self, shared: &mut Shared, now: Now, done: &Done) {
        let Some(shard) = self.shards.iter_mut().find(|known| known.shard == done.shard.shard()) else { return };
        match shard.on_done(now.mono, done, shared.plan.poll) {
            News::Nothing => self.link.is_good(),
            News::Complaint(text) => shared.complain(text),
            News::Denied(text) if shared.begun.is_some() => shared.complain(text),
            News::Denied(text) => shared.fatal = Some(format!("{text}: the checking reads may not be made")),
            // A map that is on its way may be of before.
            News::Closed => (self.seeks_children, self.map_asked) = (true, false),
        }
    }

    /// Children of shards that have ended are read: of a merge when both parents have, as far as they are read here.
    fn follow(&mut self, shared: &mut Shared, lines: &[ShardLine]) {
        self.seeks_children &= !self.map_asked;
        for line in lines {
            let known = |number: u32| self.shards.iter().find(|known| known.shard == number);
            let parents = || line.parents.iter().flatten().filter_map(|parent| known(*parent));
            if known(line.shard).is_some() || parents().count() == 0 || !parents().all(Subscription::is_ended) {
                continue;
            }
            if self.shards.len() == self.shards_max {
                self.is_incomplete = true;
                shared.complain(format!("shard {} is not read: more have come than a run follows", line.shard));
                continue;
            }
            self.shards.push(Subscription::new(line.shard, Some(FIRST)));
        }
    }
}

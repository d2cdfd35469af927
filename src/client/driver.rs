//! The thread of a producer: its connections, which lane goes over which, and what is done when one breaks.

use super::connection::{Connection, Endpoint, Message, Receiver, Sender};
use super::error::{Error, PutError};
use super::lane::{Batch, Bounds, Item, Lane, Verdict, cost};
use super::map::Map;
use super::now;
use super::producer::{Placed, Settings, Shared, lock};
use crate::log::format::{Entry, HEADER, ROOT, ShardKey, body_size, stride, write_index};
use crate::native::batch::Ack;
use crate::native::message::{BLOCK, Header, Kind, blank, seal};
use crate::native::refusal::{Outcome, Refusal};
use crate::native::welcome::{ShardState, Welcome, decode_shards};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches of a shard under way at once: what comes meanwhile goes into the next. One without a producer, so that none passes another.
const WINDOW: usize = 4;
/// Further connections that are opened at once in search of a worker, beyond two for each.
const TRIES: usize = 6;
/// How soon workers are looked for again that no connection was found at, and a map is asked for again that did not help.
const LOOKS_AGAIN: Duration = Duration::from_secs(10);
const ASKS_AGAIN: Duration = Duration::from_millis(200);
/// Between two tries to connect; doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What has come over a connection.
pub(super) enum Event {
    Came { link: u64, message: Message },
    Broke { link: u64, error: Error },
}

/// A connection that is in use.
struct Link {
    id: u64,
    worker: u16,
    sender: Sender,
    unanswered: usize,
    said: Instant,
}

pub(super) struct Driver {
    endpoint: Endpoint,
    stream: String,
    settings: Settings,
    shared: Arc<Shared>,
    /// Id and epoch as on the wire; 0: none.
    producer: u64,
    welcome: Welcome,
    map: Map,
    lanes: BTreeMap<u32, Lane>,
    links: Vec<Link>,
    numbered: u64,
    /// Records for which the map has no shard at the moment.
    unrouted: VecDeque<Item>,
    /// The map is to be asked for, and when it may be.
    map_due: bool,
    map_asked: Option<Instant>,
    looks_at: Instant,
    connects_at: Instant,
    pause: Duration,
    ended: Option<String>,
    out: Vec<u8>,
}

impl Driver {
    pub fn new(
        endpoint: Endpoint,
        stream: &str,
        settings: Settings,
        producer: u64,
        shared: Arc<Shared>,
        connection: Connection,
    ) -> Driver {
        let now = now();
        let mut driver = Driver {
            endpoint,
            stream: stream.to_owned(),
            settings,
            shared,
            producer,
            welcome: connection.welcome,
            map: connection.map.clone(),
            lanes: BTreeMap::new(),
            links: Vec::new(),
            numbered: 0,
            unrouted: VecDeque::new(),
            map_due: false,
            map_asked: None,
            looks_at: now,
            connects_at: now,
            pause: PAUSE.0,
            ended: None,
            out: Vec::new(),
        };
        driver.take_on(connection);
        driver
    }

    /// Whether what is sent again is stored once.
    fn idempotent(&self) -> bool {
        self.welcome.producer != 0
    }

    pub fn run(mut self) {
        let _ended = Ended(self.shared.clone());
        loop {
            let (items, events, closing, dropped) = self.wait();
            events.into_iter().for_each(|event| self.on_event(event));
            items.into_iter().for_each(|item| self.route(item));
            if dropped {
                self.ended.get_or_insert_with(|| "it was dropped before it was closed".to_owned());
            }
            if self.ended.is_none() {
                self.advance();
            }
            if self.ended.is_some() || closing && self.is_idle() && lock(&self.shared.inner).incoming.is_empty() {
                break;
            }
        }
        self.links.iter_mut().for_each(|link| link.sender.end());
        self.give_up();
    }

    /// Waits for something to do, and takes it.
    fn wait(&self) -> (VecDeque<Item>, VecDeque<Event>, bool, bool) {
        let (until, idle) = (self.wakes(), self.is_idle());
        let mut inner = lock(&self.shared.inner);
        while inner.incoming.is_empty() && inner.events.is_empty() && !inner.dropped && !(inner.closing && idle) {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.wake.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        (std::mem::take(&mut inner.incoming), std::mem::take(&mut inner.events), inner.closing, inner.dropped)
    }

    /// Nothing waits for an answer.
    fn is_idle(&self) -> bool {
        self.unrouted.is_empty() && self.lanes.values().all(Lane::is_empty)
    }

    /// When something is to be looked at though nothing comes.
    fn wakes(&self) -> Instant {
        let now = now();
        let busy = !self.is_idle();
        let look = now + if busy { Duration::from_millis(500) } else { self.idle_after() };
        let lanes = self.lanes.values().filter_map(Lane::wakes).filter(|at| *at > now).min();
        let connects = (busy && self.links.is_empty()).then_some(self.connects_at);
        let map =
            (self.map_due && busy).then(|| self.map_asked.map_or(now, |at| at + ASKS_AGAIN)).filter(|at| *at > now);
        [lanes, connects, map].into_iter().flatten().fold(look, Instant::min)
    }

    /// A connection that has said nothing for so long says a ping.
    fn idle_after(&self) -> Duration {
        Duration::from_secs(self.welcome.idle_seconds.max(3) as u64 / 3)
    }

    fn advance(&mut self) {
        let now = now();
        self.expire(now);
        self.end_silent(now);
        self.reroute();
        if self.links.is_empty() && now >= self.connects_at && !self.is_idle() {
            self.connect(now);
        }
        if self.ended.is_some() || self.links.is_empty() {
            return;
        }
        self.ask_map(now);
        self.restart();
        self.look_for_workers(now);
        self.send(now);
    }

    fn take_on(&mut self, connection: Connection) {
        let Connection { receiver, sender, welcome, map } = connection;
        self.numbered += 1;
        let id = self.numbered;
        (self.welcome, self.map) = (welcome, map);
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new()
            .name("penstock-receiver".to_owned())
            .spawn(move || listen(receiver, id, &shared));
        if spawned.is_ok() {
            self.links.push(Link { id, worker: welcome.worker, sender, unanswered: 0, said: now() });
        }
        (self.map_due, self.map_asked) = (false, None);
        self.close_lanes();
    }

    fn connect(&mut self, now: Instant) {
        match Connection::open(&self.endpoint, &self.stream, self.producer, self.settings.bulk) {
            Ok(connection) => {
                self.take_on(connection);
                (self.pause, self.looks_at) = (PAUSE.0, now);
            }
            Err(error) if error.may_pass() => {
                self.connects_at = super::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
            Err(error) => self.ended = Some(error.to_string()),
        }
    }

    /// Opens connections until there is one at each worker that has shards, or often enough. What comes to another worker takes a detour.
    fn look_for_workers(&mut self, now: Instant) {
        let has = |links: &[Link], worker: u16| links.iter().any(|link| link.worker == worker);
        let missing = self.map.owners().into_iter().filter(|worker| !has(&self.links, *worker)).count();
        if missing == 0 || now < self.looks_at {
            return;
        }
        self.looks_at = now + LOOKS_AGAIN;
        for _ in 0..2 * self.welcome.workers as usize + TRIES {
            let owners = self.map.owners();
            if owners.iter().all(|worker| has(&self.links, *worker)) {
                return;
            }
            let Ok(mut connection) = Connection::open(&self.endpoint, &self.stream, self.producer, self.settings.bulk)
            else {
                return;
            };
            let worker = connection.welcome.worker;
            match owners.contains(&worker) && !has(&self.links, worker) {
                true => self.take_on(connection),
                false => connection.sender.end(),
            }
        }
    }

    fn route(&mut self, item: Item) {
        // Of a shard that has closed, behind what is left of it: its children get all of that in order.
        let covers =
            |shard: &u32| self.map.shards.get(shard).is_some_and(|line| (line.first..=line.last).contains(&item.hash));
        let before = self.lanes.iter().find(|(shard, lane)| lane.closed && covers(shard)).map(|(shard, _)| *shard);
        let Some(shard) = before.or_else(|| self.map.route(item.hash)) else {
            self.map_due = true;
            return self.unrouted.push_back(item);
        };
        let idempotent = self.idempotent();
        self.lanes.entry(shard).or_insert_with(|| Lane::new(idempotent)).push(item);
    }

    /// Lanes of shards that the map calls closed, or does not have, take nothing more.
    fn close_lanes(&mut self) {
        for (shard, lane) in &mut self.lanes {
            let line = self.map.shards.get(shard);
            lane.closed |= line.is_none_or(|line| line.state == ShardState::Closed);
        }
    }

    /// What closed lanes have left goes to the shards that follow, as far as the map names them; so does what had none.
    fn reroute(&mut self) {
        let closed = self.lanes.iter().filter(|(shard, lane)| {
            let line = self.map.shards.get(shard);
            lane.closed && line.is_none_or(|line| line.state == ShardState::Closed)
        });
        let shards: Vec<u32> = closed.map(|(shard, _)| *shard).collect();
        self.map_due |= self.lanes.values().filter(|lane| lane.closed).count() > shards.len();
        for shard in shards {
            let Some(lane) = self.lanes.get_mut(&shard).filter(|lane| lane.is_sure()) else { continue };
            let left = lane.leftover();
            self.lanes.remove(&shard);
            left.into_iter().for_each(|item| self.route(item));
        }
        for item in std::mem::take(&mut self.unrouted) {
            self.route(item);
        }
    }

    fn ask_map(&mut self, now: Instant) {
        let may = self.map_asked.is_none_or(|at| at + ASKS_AGAIN <= now);
        if !self.map_due || !may {
            return;
        }
        self.map_asked = Some(now);
        self.say(0, blank(Kind::Map));
    }

    /// Says something over a link; one that does not take it is gone.
    fn say(&mut self, at: usize, header: Header) {
        let link = &mut self.links[at];
        link.said = now();
        if link.sender.say(header).is_err() {
            let id = link.id;
            self.drop_link(id, false);
        }
    }

    /// Numbers of another epoch, when all that may be stored is answered.
    fn restart(&mut self) {
        let broken = self.lanes.values().any(|lane| lane.broken);
        if !broken || !self.lanes.values().all(Lane::is_sure) {
            return;
        }
        self.lanes.values_mut().for_each(Lane::restart);
        if self.producer == 0 {
            return;
        }
        self.producer = match self.producer & 0xffff {
            // Ids are many: the next one has all epochs before it.
            0xffff => (self.producer >> 16).wrapping_add(1).max(1) << 16,
            _ => self.producer + 1,
        };
        self.links.iter_mut().for_each(|link| link.sender.end());
        self.links.clear();
        self.connect(now());
    }

    fn send(&mut self, now: Instant) {
        let window = if self.idempotent() { WINDOW } else { 1 };
        let lead = if self.settings.bulk { BLOCK as usize } else { HEADER };
        let most = (self.welcome.largest as usize).saturating_sub(HEADER + lead + ROOT);
        let records = self.welcome.records as usize;
        let bounds = Bounds { bytes: self.settings.batch_bytes.min(most), records, window };
        let restarts = self.lanes.values().any(|lane| lane.broken);
        let shards: Vec<u32> = self.lanes.keys().copied().collect();
        for shard in shards {
            while let Some(at) = self.link_of(shard) {
                let key = ShardKey::new(self.welcome.stream, shard);
                let lane = self.lanes.get_mut(&shard).expect("its key was listed");
                let Some(batch) = lane.send(&bounds, restarts, now) else { break };
                encode(batch, key, self.welcome.producer, &mut self.out);
                let link = &mut self.links[at];
                (link.unanswered, link.said) = (link.unanswered + 1, now);
                lane.link = Some(link.id);
                if link.sender.send(&self.out).is_err() {
                    let id = link.id;
                    self.drop_link(id, false);
                }
            }
        }
        let idle = self.idle_after();
        for at in (0..self.links.len()).rev() {
            if self.links[at].said + idle <= now {
                self.say(at, blank(Kind::Ping));
            }
        }
    }

    /// The link that a lane's next batch goes over: the one that what is under way is on, else one at the shard's worker, else any.
    fn link_of(&self, shard: u32) -> Option<usize> {
        let lane = self.lanes.get(&shard)?;
        let free = |link: &Link| link.unanswered < self.welcome.unanswered.0 as usize;
        let at = match lane.link.filter(|_| !lane.flight.is_empty()) {
            Some(id) => self.links.iter().position(|link| link.id == id),
            None => {
                let worker = self.map.shards.get(&shard).map(|line| line.worker);
                let best = self.links.iter().position(|link| Some(link.worker) == worker);
                best.or_else(|| self.links.iter().position(free))
            }
        };
        at.filter(|at| free(&self.links[*at]))
    }

    fn on_event(&mut self, event: Event) {
        let (link, message) = match event {
            Event::Came { link, message } => (link, message),
            Event::Broke { link, error } => {
                if self.drop_link(link, false) && !error.may_pass() {
                    self.ended = Some(error.to_string());
                }
                return;
            }
        };
        if !self.links.iter().any(|known| known.id == link) {
            return;
        }
        let sound = match message.header.kind {
            Kind::Ack => self.acked(link, &message.header),
            Kind::Refused => self.refused(link, &message),
            Kind::Shards => self.mapped(&message),
            Kind::Goodbye => {
                self.goodbye(link, &message);
                true
            }
            _ => true,
        };
        if !sound {
            self.drop_link(link, false);
        }
    }

    fn goodbye(&mut self, link: u64, message: &Message) {
        let said = Refusal::decode(&message.body);
        let sure = said.as_ref().is_some_and(|said| said.outcome == Outcome::NotStored);
        self.drop_link(link, sure);
        let error = said.as_ref().map(Error::refused);
        if let Some(error) = error.filter(|error| !error.may_pass()) {
            self.ended = Some(error.to_string());
        }
    }

    fn answered_on(&mut self, link: u64) {
        if let Some(link) = self.links.iter_mut().find(|known| known.id == link) {
            link.unanswered = link.unanswered.saturating_sub(1);
        }
    }

    fn acked(&mut self, link: u64, header: &Header) -> bool {
        self.answered_on(link);
        let ack = Ack::of(header);
        let shard = ack.shard.shard();
        let lane = self.lanes.get_mut(&shard).filter(|lane| lane.link == Some(link));
        let Some(batch) = lane.and_then(|lane| lane.acked(ack.number)) else { return false };
        let whole = batch.items.len() == ack.count as usize;
        let items = batch.items.into_iter().zip(ack.first..).map(|(item, sequence)| match whole {
            true => (item, Ok(Placed { shard, sequence, arrival: ack.arrival })),
            false => (item, Err(PutError::Unknown { why: "the ack is of another number of records".to_owned() })),
        });
        settle(&self.shared, items);
        whole
    }

    fn refused(&mut self, link: u64, message: &Message) -> bool {
        self.answered_on(link);
        let Some(said) = Refusal::decode(&message.body) else { return false };
        let number = message.header.number;
        let lane = self.lanes.get_mut(&message.header.shard.shard()).filter(|lane| lane.link == Some(link));
        let Some(lane) = lane else { return false };
        let verdict = lane.verdict(number, said.code, said.outcome, said.wait_ms, said.text);
        let failed = lane.refused(number, said.code, said.text, &verdict, now());
        match verdict {
            Verdict::Reroute => self.map_due = true,
            Verdict::Fail(error) => settle(&self.shared, failed.into_iter().map(|item| (item, Err(error.clone())))),
            Verdict::Fenced => {
                let why = format!("another producer has its id in a later epoch ({})", said.text);
                let error = PutError::Closed { why: why.clone() };
                settle(&self.shared, failed.into_iter().map(|item| (item, Err(error.clone()))));
                self.ended = Some(why);
            }
            Verdict::Again(_) | Verdict::Unsure => {}
        }
        true
    }

    fn mapped(&mut self, message: &Message) -> bool {
        let lines = decode_shards(&message.header, &message.body).and_then(|lines| lines.collect::<Option<Vec<_>>>());
        let Some(lines) = lines else { return false };
        let learned = self.map.learn(&lines, message.header.number == 0);
        if learned == Some(true) {
            self.map_due = false;
            self.close_lanes();
        }
        learned.is_some()
    }

    /// A link is gone; `false`: it was already. `sure`: what was unanswered on it is not stored.
    fn drop_link(&mut self, id: u64, sure: bool) -> bool {
        let Some(at) = self.links.iter().position(|link| link.id == id) else { return false };
        self.links.remove(at).sender.end();
        for lane in self.lanes.values_mut().filter(|lane| lane.link == Some(id)) {
            let why = "the connection broke before its answer came".to_owned();
            let unknown = PutError::Unknown { why };
            settle(&self.shared, lane.lost(sure).into_iter().map(|item| (item, Err(unknown.clone()))));
        }
        true
    }

    /// Ends links over which an answer is overdue.
    fn end_silent(&mut self, now: Instant) {
        let timeout = self.endpoint.answer_timeout;
        let late = |lane: &&Lane| lane.flight.front().is_some_and(|batch| batch.sent + timeout < now);
        let silent: Vec<u64> = self.lanes.values().filter(late).filter_map(|lane| lane.link).collect();
        for link in silent {
            self.drop_link(link, false);
        }
    }

    fn expire(&mut self, now: Instant) {
        let patience = self.settings.put_timeout;
        for lane in self.lanes.values_mut() {
            let expired = lane.expire(now, patience);
            settle(&self.shared, expired.into_iter().map(|(item, error)| (item, Err(error))));
        }
        let (expired, rest) = std::mem::take(&mut self.unrouted).into_iter().partition(|item| item.deadline <= now);
        self.unrouted = rest;
        let expired: VecDeque<Item> = expired;
        let error = PutError::TimedOut { why: "no shard took its key in time".to_owned() };
        settle(&self.shared, expired.into_iter().map(|item| (item, Err(error.clone()))));
    }

    /// Answers all that is left.
    fn give_up(&mut self) {
        let why = self.ended.clone().unwrap_or_else(|| "it was closed".to_owned());
        let incoming = {
            let mut inner = lock(&self.shared.inner);
            (inner.closing, inner.ended) = (true, Some(why.clone()));
            std::mem::take(&mut inner.incoming)
        };
        let left = self.lanes.values_mut().flat_map(Lane::give_up);
        let left = left.chain(incoming.into_iter().chain(std::mem::take(&mut self.unrouted)).map(|item| (item, false)));
        let left: Vec<(Item, bool)> = left.collect();
        let error = |unsure| match unsure {
            true => PutError::Unknown { why: format!("the producer has ended: {why}") },
            false => PutError::Closed { why: why.clone() },
        };
        settle(&self.shared, left.into_iter().map(|(item, unsure)| (item, Err(error(unsure)))));
    }
}

/// Says that the driver has ended, however it has: nobody waits for room or for a flush any more.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        inner.ended.get_or_insert_with(|| "its thread has ended".to_owned());
        // Whoever had these is answered as they are dropped.
        inner.incoming.clear();
        inner.held = 0;
        self.0.room.notify_all();
    }
}

/// Answers records, and gives back the room that they had.
fn settle(shared: &Shared, items: impl Iterator<Item = (Item, Result<Placed, PutError>)>) {
    let mut bytes = 0;
    for (item, result) in items {
        bytes += cost(&item.key, &item.data);
        item.reply.answer(result);
    }
    if bytes > 0 {
        let mut inner = lock(&shared.inner);
        inner.held = inner.held.saturating_sub(bytes);
        drop(inner);
        shared.room.notify_all();
    }
}

/// Makes the message of a batch in `out`.
fn encode(batch: &Batch, shard: ShardKey, producer: u64, out: &mut Vec<u8>) {
    let payload: usize = batch.items.iter().map(|item| item.key.len() + item.data.len()).sum();
    let body = body_size(payload, batch.items.len());
    out.clear();
    out.resize(stride(body as u32) as usize, 0);
    let (mut at, mut entries) = (0, Vec::with_capacity(batch.items.len()));
    for item in &batch.items {
        entries.push(Entry::new(at as u32, Some(item.key.len() as u16), item.data.len() as u32));
        for part in [item.key.as_bytes(), &item.data] {
            out[HEADER + at..HEADER + at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
    write_index(&mut out[HEADER..HEADER + body], payload, &entries);
    let header =
        Header { count: batch.items.len() as u32, shard, producer, number: batch.number, ..blank(Kind::Batch) };
    seal(out, header, body);
}

/// Receives until the connection ends.
fn listen(mut receiver: Receiver, link: u64, shared: &Shared) {
    // The driver decides what is late, and then ends the connection.
    const LONG: Duration = Duration::from_secs(3600);
    loop {
        let event = match receiver.receive(now() + LONG) {
            Ok(None) => continue,
            Ok(Some(message)) if message.header.kind == Kind::Pong => continue,
            Ok(Some(message)) => Event::Came { link, message },
            Err(error) => Event::Broke { link, error },
        };
        let over = matches!(event, Event::Broke { .. });
        lock(&shared.inner).events.push_back(event);
        shared.wake.notify_one();
        if over {
            return;
        }
    }
}

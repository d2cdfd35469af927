//! Reading: subscriptions to all shards of a stream, or to one, over a connection to each worker that owns some (`links.rs`). When one breaks they are made again.
//!
//! What a caller has not asked for waits in the sockets, and behind them in the server's log: a consumer holds a batch for each connection, and one more. A
//! shard is read when its parents have been read to their end.

use super::connection::{Connection, Endpoint, Message};
use super::error::Error;
use super::links::Links;
use super::map::ENDLESS;
use super::now;
use super::position::{Next, Position};
use crate::log::format::{HEADER, ShardKey, records, stride};
use crate::native::message::{Header, Kind, blank};
use crate::native::reading::{Credit, Done, LATEST, Want};
use crate::native::refusal::{Code, Refusal};
use crate::native::welcome::{ShardState, decode_shards};
use crate::stdx::text::is_utf8;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Bytes that a subscription may have on its way.
const CREDIT: u32 = 1 << 20;
/// Between two tries to connect; doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How soon what could not be read, or had no place, is asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a consumer that has no position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record of each shard, parents first.
    Oldest,
    /// Behind the newest one of each.
    Latest,
    /// At what has arrived then or later, in µs since 1970: to the batch.
    AtTime(u64),
    /// Behind this number of the shard. For one shard only.
    After(u64),
}

/// A record of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the shard.
    pub sequence: u64,
    /// `None`: it was put without one.
    pub key: Option<&'a str>,
    pub data: &'a [u8],
    /// When it came, in µs since 1970.
    pub arrival: u64,
}

/// Records of one shard, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub shard: u32,
    header: Header,
    body: Vec<u8>,
    /// First number that is wanted of it.
    from: u64,
}

impl Batch {
    /// Of what has come; `from`: the first number that is wanted of it. `None`: it is no batch.
    pub(super) fn new(message: Message, from: u64) -> Option<Batch> {
        let Message { header, body } = message;
        let batch = Batch { shard: header.shard.shard(), header, body, from };
        batch.check().map(|()| batch)
    }

    /// Its records.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let first = self.header.sequence;
        let skipped = self.from.saturating_sub(first) as u32;
        let all = records(&self.body, self.header.count).expect("it was checked when it came").after(skipped);
        all.map(move |record| Record {
            sequence: first + record.ordinal as u64,
            key: record.key.map(|key| std::str::from_utf8(key).expect("it was checked when it came")),
            data: record.data,
            arrival: self.header.arrival + record.arrival_delta as u64,
        })
    }

    fn check(&self) -> Option<()> {
        let mut all = records(&self.body, self.header.count).ok()?;
        all.all(|record| record.key.is_none_or(is_utf8)).then_some(())
    }
}

/// What a consumer is given.
#[derive(Clone, Debug)]
pub enum Event {
    Batch(Batch),
    /// A shard was split or merged, and all of it has been given; its children follow by themselves.
    ShardEnded {
        shard: u32,
    },
    /// Records of the shard, from `from` on, are damaged on the server's disk; it goes on at `next`.
    Damaged {
        shard: u32,
        from: u64,
        next: u64,
    },
}

/// Reads a stream, or one shard of it. What [`Consumer::next`] has given counts as read in [`Consumer::position`].
pub struct Consumer {
    endpoint: Endpoint,
    stream: String,
    /// The only shard that is read.
    only: Option<u32>,
    /// Arrival (µs) below which nothing is wanted.
    floor: u64,
    position: Position,
    links: Option<Links>,
    /// Shards that are subscribed to, each with the connection that it comes over, and the bytes that have come and not been credited.
    subscribed: BTreeMap<u32, (usize, u32)>,
    /// Those that are to be asked for again, then.
    later: BTreeMap<u32, Instant>,
    map_asked: bool,
    pause: Duration,
    connects_at: Instant,
}

impl Consumer {
    /// Reads all shards.
    ///
    /// # Errors
    /// Why the server could not be reached, or does not let this consumer read; [`Start::After`] is of one shard.
    pub fn open(endpoint: Endpoint, stream: &str, start: Start) -> Result<Consumer, Error> {
        if matches!(start, Start::After(_)) {
            let why =
                "a number is of one shard: Consumer::of_shard begins behind one, Consumer::resume in all".to_owned();
            return Err(Error::Position(why));
        }
        Consumer::begin(endpoint, stream, None, start)
    }

    /// Reads one shard, and nothing else when that ends.
    ///
    /// # Errors
    /// As [`Consumer::open`].
    pub fn of_shard(endpoint: Endpoint, stream: &str, shard: u32, start: Start) -> Result<Consumer, Error> {
        Consumer::begin(endpoint, stream, Some(shard), start)
    }

    /// Goes on where a consumer of all shards was, or of those that are in its position.
    ///
    /// # Errors
    /// As [`Consumer::open`]; [`Error::Position`] where the position is of an earlier stream of that name.
    pub fn resume(endpoint: Endpoint, stream: &str, position: Position) -> Result<Consumer, Error> {
        let connection = Connection::open(&endpoint, stream, 0, false)?;
        if connection.welcome.stream != position.stream {
            let (then, now) = (position.stream, connection.welcome.stream);
            let why =
                format!("the position is of an earlier stream of the name {stream} (number {then}, now it is {now})");
            return Err(Error::Position(why));
        }
        let mut consumer = Consumer::new(endpoint, stream, None, position);
        consumer.take_on(connection)?;
        Ok(consumer)
    }

    fn new(endpoint: Endpoint, stream: &str, only: Option<u32>, position: Position) -> Consumer {
        Consumer {
            endpoint,
            stream: stream.to_owned(),
            only,
            floor: 0,
            position,
            links: None,
            subscribed: BTreeMap::new(),
            later: BTreeMap::new(),
            map_asked: false,
            pause: PAUSE.0,
            connects_at: now(),
        }
    }

    fn begin(endpoint: Endpoint, stream: &str, only: Option<u32>, start: Start) -> Result<Consumer, Error> {
        let mut connection = Connection::open(&endpoint, stream, 0, false)?;
        let mut position = Position { stream: connection.welcome.stream, shards: BTreeMap::new() };
        let lines: Vec<_> =
            connection.map.shards.values().filter(|line| only.is_none_or(|only| line.shard == only)).copied().collect();
        for line in lines {
            let next = match start {
                Start::Oldest | Start::AtTime(_) => Next::At(0),
                Start::After(number) => Next::At(number.saturating_add(1)),
                Start::Latest if line.state == ShardState::Closed => Next::Ended,
                Start::Latest => Next::At(latest(&mut connection, line.shard, &endpoint)?),
            };
            position.shards.insert(line.shard, next);
        }
        if let Some(shard) = only.filter(|shard| !position.shards.contains_key(shard)) {
            return Err(Error::Position(format!("stream {stream} has no shard {shard}")));
        }
        let mut consumer = Consumer::new(endpoint, stream, only, position);
        consumer.floor = if let Start::AtTime(floor) = start { floor } else { 0 };
        consumer.take_on(connection)?;
        Ok(consumer)
    }

    /// Where a consumer goes on that has done with all that this one was given.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// The next event; `None`: there is none within `timeout`, or nothing will come any more, as [`Consumer::is_over`] says. A broken connection is
    /// made again meanwhile, for as long as `timeout` lasts and in later calls.
    ///
    /// # Errors
    /// Why reading cannot go on: the stream was deleted, this user may not read it (any more), or the server is none. The consumer may be asked again.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        let until = now() + timeout;
        loop {
            if self.is_over() {
                return Ok(None);
            }
            match self.step(until) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) if now() >= until => return Ok(None),
                Ok(None) => {}
                Err(error) => {
                    self.disconnect();
                    if !error.may_pass() {
                        return Err(error);
                    }
                    self.connects_at = now() + self.pause;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Every shard has been read to its end, and no more will come: the one shard of [`Consumer::of_shard`] has.
    pub fn is_over(&self) -> bool {
        self.only.is_some_and(|only| self.position.shards.get(&only) == Some(&Next::Ended))
    }

    /// One thing that is done: connecting, or a message; `None`: nothing for the caller has come of it.
    fn step(&mut self, until: Instant) -> Result<Option<Event>, Error> {
        let Some(links) = &mut self.links else {
            let at = self.connects_at.min(until);
            std::thread::sleep(at.saturating_duration_since(now()));
            if now() >= self.connects_at {
                let connection = Connection::open(&self.endpoint, &self.stream, 0, false)?;
                if connection.welcome.stream != self.position.stream {
                    return Err(Error::Position(format!("the stream {} was deleted, and made anew", self.stream)));
                }
                self.take_on(connection)?;
                self.pause = PAUSE.0;
            }
            return Ok(None);
        };
        links.ping()?;
        let soon = self.later.values().min().copied().unwrap_or(until);
        let message = links.receive(until.min(soon).min(links.idle_at()))?;
        self.ask_again()?;
        let Some(message) = message else { return Ok(None) };
        match message.header.kind {
            Kind::Batch => self.batch(message),
            Kind::Done => self.done(&message),
            Kind::Shards => self.mapped(&message).map(|()| None),
            Kind::Goodbye => Err(Refusal::decode(&message.body)
                .map_or_else(|| self.wrong("a goodbye is too short"), |said| Error::refused(&said))),
            _ => Ok(None),
        }
    }

    fn wrong(&self, what: &'static str) -> Error {
        Error::Protocol { what, address: self.endpoint.address.clone() }
    }

    /// Asks again for what could not be read, when it is time.
    fn ask_again(&mut self) -> Result<(), Error> {
        let now = now();
        let due: Vec<u32> = self.later.iter().filter(|(_, at)| **at <= now).map(|(shard, _)| *shard).collect();
        self.later.retain(|_, at| *at > now);
        if due.is_empty() { Ok(()) } else { self.subscribe() }
    }

    fn take_on(&mut self, connection: Connection) -> Result<(), Error> {
        let only = self.only;
        let reads = |shard| only.is_none_or(|only| only == shard);
        self.links = Some(Links::new(&self.endpoint, &self.stream, connection, reads)?);
        self.map_asked = false;
        self.learn();
        self.subscribe()
    }

    fn disconnect(&mut self) {
        self.links = None;
        self.subscribed.clear();
        self.later.clear();
    }

    /// Shards that have come since are read from their oldest record on; what has gone has expired.
    fn learn(&mut self) {
        let Some(Links { map, .. }) = &self.links else { return };
        if self.only.is_none() {
            for shard in map.shards.keys() {
                self.position.shards.entry(*shard).or_insert(Next::At(0));
            }
        }
        self.position.shards.retain(|shard, _| self.only == Some(*shard) || map.shards.contains_key(shard));
    }

    /// Subscribes to what may be read: parents come first.
    fn subscribe(&mut self) -> Result<(), Error> {
        let Some(links) = &mut self.links else { return Ok(()) };
        let mut wanted = Vec::new();
        for (shard, next) in &self.position.shards {
            let &Next::At(number) = next else { continue };
            let line = links.map.shards.get(shard);
            let parents = line.into_iter().flat_map(|line| line.parents.into_iter().flatten());
            let waits = |parent: u32| matches!(self.position.shards.get(&parent), Some(Next::At(_)));
            let free = !self.subscribed.contains_key(shard) && !self.later.contains_key(shard);
            if free && (self.only.is_some() || !parents.into_iter().any(waits)) {
                wanted.push((*shard, number));
            }
        }
        let mut out = [0; 2 * HEADER];
        for (shard, number) in wanted {
            let key = ShardKey::new(self.position.stream, shard);
            let want = Want { shard: key, sequence: number, records: 0, bytes: CREDIT, floor: self.floor };
            let len = want.encode(&mut out, Kind::Subscribe);
            let at = links.of_shard(shard);
            links.send(at, &out[..len])?;
            self.subscribed.insert(shard, (at, 0));
        }
        Ok(())
    }

    fn batch(&mut self, message: Message) -> Result<Option<Event>, Error> {
        let header = message.header;
        let shard = header.shard.shard();
        let known = (self.subscribed.get_mut(&shard), self.position.shards.get(&shard), &mut self.links);
        let (Some((at, used)), Some(&Next::At(from)), Some(links)) = known else { return Ok(None) };
        *used += stride(header.body) as u32;
        let credit = if *used >= CREDIT / 2 { std::mem::take(used) } else { 0 };
        let Some(batch) = Batch::new(message, from) else { return Err(self.wrong("a batch is none")) };
        if credit > 0 {
            let mut out = [0; 2 * HEADER];
            let len = Credit { shard: header.shard, bytes: credit }.encode(&mut out);
            links.send(*at, &out[..len])?;
        }
        self.position.shards.insert(shard, Next::At(header.next()));
        Ok(Some(Event::Batch(batch)))
    }

    fn done(&mut self, message: &Message) -> Result<Option<Event>, Error> {
        let done = Done::decode(&message.header, &message.body);
        let done = done.ok_or_else(|| self.wrong("the end of a reading is too short"))?;
        let shard = done.shard.shard();
        self.subscribed.remove(&shard);
        let Some(&Next::At(from)) = self.position.shards.get(&shard) else { return Ok(None) };
        match done.code {
            Ok(Code::ShardClosed) => {
                self.position.shards.insert(shard, Next::Ended);
                if let Some(links) = self.links.as_mut().filter(|_| self.only.is_none())
                    && !std::mem::replace(&mut self.map_asked, true)
                {
                    links.say(blank(Kind::Map))?;
                }
                Ok(Some(Event::ShardEnded { shard }))
            }
            Ok(Code::Unreadable) => {
                self.position.shards.insert(shard, Next::At(done.next.max(from)));
                self.subscribe()?;
                Ok(Some(Event::Damaged { shard, from, next: done.next }))
            }
            // All of its records have expired meanwhile.
            Ok(Code::UnknownShard) => {
                self.position.shards.insert(shard, Next::Ended);
                self.subscribe()?;
                Ok(Some(Event::ShardEnded { shard }))
            }
            Ok(Code::Ended | Code::Unavailable | Code::ReaderBusy | Code::ReadersFull) => {
                self.later.insert(shard, now() + AGAIN);
                Ok(None)
            }
            code => {
                let text = format!("shard {shard} of {} cannot be read", self.stream);
                let outcome = crate::native::refusal::Outcome::Nothing;
                Err(Error::Refused { code, outcome, wait_ms: 0, text })
            }
        }
    }

    fn mapped(&mut self, message: &Message) -> Result<(), Error> {
        let lines = decode_shards(&message.header, &message.body).and_then(|lines| lines.collect::<Option<Vec<_>>>());
        let lines = lines.ok_or_else(|| self.wrong("a line of the map is none"))?;
        let Some(links) = &mut self.links else { return Ok(()) };
        let learned = links.map.learn(&lines, message.header.number == 0);
        if learned.ok_or_else(|| self.wrong(ENDLESS))? {
            let Some(links) = &mut self.links else { return Ok(()) };
            links.look_again(|_| true)?;
            self.map_asked = false;
            self.learn();
            self.subscribe()?;
        }
        Ok(())
    }

    /// Shards that are being read now.
    pub fn shards(&self) -> BTreeSet<u32> {
        self.subscribed.keys().copied().collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// The number behind the newest durable record of a shard.
fn latest(connection: &mut Connection, shard: u32, endpoint: &Endpoint) -> Result<u64, Error> {
    let key = ShardKey::new(connection.welcome.stream, shard);
    let mut out = [0; 2 * HEADER];
    let want = Want { shard: key, sequence: LATEST, records: 1, bytes: 1, floor: 0 };
    let len = want.encode(&mut out, Kind::Read);
    connection.sender.send(&out[..len])?;
    let until = now() + endpoint.answer_timeout;
    // One that has come since is behind what was newest.
    let mut came = u64::MAX;
    loop {
        let message = connection.receiver.expect(until, "the newest number of a shard")?;
        if message.header.kind != Kind::Done {
            came = if message.header.kind == Kind::Batch { came.min(message.header.sequence) } else { came };
            continue;
        }
        let done = Done::decode(&message.header, &message.body);
        return match done {
            Some(Done { code: Ok(Code::Ended | Code::ShardClosed), next, .. }) => Ok(next.min(came)),
            Some(Done { code, .. }) => {
                let text = format!("what is newest in shard {shard} cannot be told");
                Err(Error::Refused { code, outcome: crate::native::refusal::Outcome::Nothing, wait_ms: 0, text })
            }
            None => {
                Err(Error::Protocol { what: "the end of a reading is too short", address: endpoint.address.clone() })
            }
        };
    }
}

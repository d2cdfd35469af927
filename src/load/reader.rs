//! Reads a shard along with the writing, by GetRecords in CBOR: any Kinesis endpoint has both.
//!
//! ```text
//!   asks for an iterator ─► has one ─► asks for records ─► has some: asks again at once
//!            ▲                            ▲    │                    none: waits
//!            │                            └────┴─ numbers are missing: asks what is the oldest there is
//!            └─ expired, or the server was another one
//! ```
//!
//! It begins behind the newest record, before anything is written. Numbers of records rise by one in a shard of penstock, so a gap shows what was
//! trimmed before it was read; but only if there is nothing older than what follows the gap: else it is a loss.

use super::http::{self, Speaker};
use super::link::Link;
use super::put::is_text;
use super::shared::Shared;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, Ops, Socket};
use crate::kinesis::cbor::{self, Parts, Walk};
use crate::kinesis::sequence::SequenceNumber;

/// Bytes that a record's answer may take at most, whatever its size: an answer has 10 MiB of data.
const LIMIT_BYTES: u32 = 1 << 20;
/// An iterator is a token of the server's.
const ITERATOR_MAX: usize = 1024;
/// Room in front of a body for its head.
const HEAD: usize = 8 << 10;
/// So much earlier than the run a lost reader begins: the clocks of two hosts differ.
const LEAD_MS: u64 = 60_000;
/// How long an answer may take before the connection is given up.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Where a shard is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Latest,
    Oldest,
    /// Behind this number.
    After(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Iterator,
    Records,
    /// Of the oldest record that there is: first an iterator, then one record.
    OldestIterator,
    OldestRecord,
}

pub struct Reader {
    link: Link,
    speaker: Speaker,
    /// As the API calls it.
    shard: String,
    control: Span,
    from: From,
    iterator: Vec<u8>,
    /// Of the oldest record, while it is asked for.
    oldest: Vec<u8>,
    asked: Asked,
    /// When the next call is made, and when the answer of one must have come.
    at: Mono,
    until: Mono,
    /// Number of the record that comes next, in a shard of penstock.
    next: Option<u64>,
    /// Numbers that were not there, up to the second, until it is known whether they were trimmed.
    gap: Option<(u64, u64)>,
    /// The last answer was empty, and was asked for then.
    caught_up: Option<Mono>,
    asked_at: Mono,
    /// A closed shard has been read to its end.
    pub ended: bool,
    /// Records that had been trimmed before they were read.
    pub trimmed: u64,
}

/// A shard that goes on where one has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Child {
    pub shard: String,
    pub parents: Vec<String>,
}

impl Reader {
    pub fn new(shared: &Shared, number: u16, socket: Socket, shard: String, is_child: bool) -> Reader {
        let plan = &shared.plan;
        let to = plan.read.expect("a run that reads knows where from");
        let signer = plan.identity.as_ref().map(|identity| identity.signer());
        let room = shared.buffers.whole(Pool::Large, number);
        let random = super::random::Random::stream(plan.seed ^ 4, socket.0 as u64);
        Reader {
            link: Link::new(socket, to, room, random),
            speaker: Speaker::new(plan.host.clone(), signer, "cbor"),
            shard,
            control: shared.buffers.whole(Pool::Reply, socket.0 as u16),
            from: if is_child { From::Oldest } else { From::Latest },
            iterator: Vec::with_capacity(ITERATOR_MAX),
            oldest: Vec::with_capacity(ITERATOR_MAX),
            asked: Asked::Nothing,
            at: Mono(0),
            until: Mono(0),
            next: None,
            gap: None,
            caught_up: None,
            asked_at: Mono(0),
            ended: false,
            trimmed: 0,
        }
    }

    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// Whether it knows where to read from.
    pub fn is_ready(&self) -> bool {
        !self.iterator.is_empty()
    }

    /// Whether everything that was there at `since` has been read.
    pub fn has_all(&self, since: Mono) -> bool {
        self.ended || self.caught_up.is_some_and(|at| at > since)
    }

    pub fn deadline(&self) -> Option<Mono> {
        if self.ended {
            return None;
        }
        let own = match self.asked {
            Asked::Nothing if self.link.is_up() => Some(self.at),
            Asked::Nothing => None,
            _ => Some(self.until),
        };
        self.link.deadline().into_iter().chain(own).min()
    }

    pub fn turn(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        if self.ended {
            return;
        }
        self.link.turn(now.mono, ops);
        if self.asked != Asked::Nothing && self.until <= now.mono && self.link.is_up() {
            shared.complain(format!("{}: no answer within {} s", self.shard, PATIENCE_NS / 1_000_000_000));
            self.link.close(ops);
        }
        if self.link.is_up() && !self.link.is_sending() && self.asked == Asked::Nothing && self.at <= now.mono {
            self.ask(shared, now, ops);
        }
        self.link.receive(ops);
    }

    fn ask(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        let asked = match (self.gap.is_some(), self.oldest.is_empty(), self.iterator.is_empty()) {
            (true, true, _) => Asked::OldestIterator,
            (true, false, _) => Asked::OldestRecord,
            (false, _, true) => Asked::Iterator,
            (false, _, false) => Asked::Records,
        };
        let limit = (LIMIT_BYTES / shared.plan.sizes.most().max(1)).clamp(1, 10_000) as u64;
        let (stream, begun) = (shared.plan.stream.clone(), shared.begun);
        let out = shared.buffers.bytes_mut(self.control);
        let mut body = Members::begin(&mut out[HEAD..]);
        let operation = match asked {
            Asked::Iterator | Asked::OldestIterator | Asked::Nothing => {
                body.text("StreamName", stream.as_bytes());
                body.text("ShardId", self.shard.as_bytes());
                let kind = match &self.from {
                    _ if asked == Asked::OldestIterator => "TRIM_HORIZON",
                    // An iterator was lost before anything was read: what has been written since the beginning is wanted.
                    From::Latest if begun.is_some() => {
                        body.time("Timestamp", begun.map_or(0, |begun| begun.wall.millis().saturating_sub(LEAD_MS)));
                        "AT_TIMESTAMP"
                    }
                    From::Latest => "LATEST",
                    From::Oldest => "TRIM_HORIZON",
                    From::After(number) => {
                        body.text("StartingSequenceNumber", number);
                        "AFTER_SEQUENCE_NUMBER"
                    }
                };
                body.text("ShardIteratorType", kind.as_bytes());
                "GetShardIterator"
            }
            Asked::Records | Asked::OldestRecord => {
                let oldest = asked == Asked::OldestRecord;
                body.text("ShardIterator", if oldest { &self.oldest } else { &self.iterator });
                body.number("Limit", if oldest { 1 } else { limit });
                "GetRecords"
            }
        };
        let len = body.end();
        let begin = self.speaker.head(out, HEAD, len, operation, now.wall.seconds());
        let request = self.control.part(begin as u32, (HEAD + len - begin) as u32);
        (self.asked, self.asked_at, self.until) = (asked, now.mono, now.mono + PATIENCE_NS);
        self.link.send(request, None, ops);
    }

    pub fn on_connected(&mut self, now: Now, result: Result<(), Errno>) {
        if self.link.connected(now.mono, result) {
            self.asked = Asked::Nothing;
        }
    }

    pub fn on_sent(&mut self, result: Result<(), Errno>, ops: &mut Ops) {
        self.link.sent(result, ops);
    }

    /// Gives the shards that go on where this one has ended.
    pub fn on_received(
        &mut self,
        shared: &mut Shared,
        now: Now,
        result: Result<u32, Errno>,
        ops: &mut Ops,
    ) -> Vec<Child> {
        if !self.link.received(result, ops) {
            return Vec::new();
        }
        let answer = match http::answer(shared.buffers.bytes(self.link.held())) {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                if self.link.is_full() {
                    shared.complain(format!("{}: an answer is longer than a reader takes", self.shard));
                    self.link.close(ops);
                }
                return Vec::new();
            }
            Err(why) => {
                shared.complain(format!("{}: {why}", self.shard));
                self.link.close(ops);
                return Vec::new();
            }
        };
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        let body = self.link.held().part(answer.begin, answer.end - answer.begin);
        let children = match answer.status {
            200 => self.on_answer(shared, now, asked, body),
            status => {
                self.on_error(shared, now, asked, status, body);
                Some(Vec::new())
            }
        };
        self.link.taken(answer.end);
        if answer.closes || children.is_none() {
            self.link.close(ops);
        }
        children.unwrap_or_else(|| {
            shared.complain(format!("{}: an answer cannot be read", self.shard));
            Vec::new()
        })
    }

    fn on_error(&mut self, shared: &mut Shared, now: Now, asked: Asked, status: u16, body: Span) {
        let text = String::from_utf8_lossy(shared.buffers.bytes(body)).into_owned();
        // Asking too often is not a failure where a service has a quota of calls.
        let throttled = text.contains("ProvisionedThroughputExceeded") || text.contains("LimitExceeded");
        if !throttled {
            let plain: String = text.chars().filter(|c| !c.is_control() && c.is_ascii()).take(200).collect();
            shared.complain(format!("{}: reading: status {status}: {plain}", self.shard));
        }
        if asked == Asked::Records && status == 400 && !throttled {
            self.iterator.clear();
        }
        self.oldest.clear();
        self.at = now.mono + shared.plan.poll.max(100_000_000);
    }

    /// `None`: it is no answer to what was asked.
    fn on_answer(&mut self, shared: &mut Shared, now: Now, asked: Asked, body: Span) -> Option<Vec<Child>> {
        match asked {
            Asked::Iterator => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                take_text(member(body, "ShardIterator")?, &mut self.iterator)?;
            }
            Asked::OldestIterator => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                take_text(member(body, "ShardIterator")?, &mut self.oldest)?;
            }
            Asked::OldestRecord => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                let first = Parts::of(member(body, "Records")?).next();
                let number = first.and_then(|(_, record)| number_of(record));
                // No record is older than what follows the gap: what lay in it was trimmed.
                if let Some((from, to)) = self.gap.take()
                    && number.is_none_or(|oldest| oldest >= to)
                {
                    self.trimmed += to - from;
                }
                self.oldest.clear();
            }
            Asked::Records => return self.on_records(shared, now, body),
            Asked::Nothing => return None,
        }
        self.link.is_good();
        Some(Vec::new())
    }

    fn on_records(&mut self, shared: &mut Shared, now: Now, body: Span) -> Option<Vec<Child>> {
        let (poll, elapsed) = (shared.plan.poll, shared.elapsed(now));
        let (buffers, mut reading) = shared.reading(elapsed);
        let body = buffers.bytes(body);
        let (mut count, mut last): (u64, Option<&[u8]>) = (0, None);
        let (mut next, mut behind, mut children) = (None, None, Vec::new());
        for (name, value) in Parts::of(cbor::document(body)?) {
            if is_text(name, "Records") {
                for (_, record) in Parts::of(value) {
                    let mut number = None;
                    let mut data: Option<&[u8]> = None;
                    for (name, value) in Parts::of(record) {
                        if is_text(name, "SequenceNumber") {
                            number = text_of(value);
                        } else if is_text(name, "Data") {
                            data = bytes_of(value);
                        }
                    }
                    count += 1;
                    reading.take(data.unwrap_or_default());
                    last = number.or(last);
                    self.follow(number);
                }
            } else if is_text(name, "NextShardIterator") {
                next = text_of(value);
            } else if is_text(name, "MillisBehindLatest") {
                behind = Walk::new(value).head();
            } else if is_text(name, "ChildShards") {
                children = Parts::of(value).filter_map(|(_, child)| child_of(child)).collect();
            }
        }
        if let Some(last) = last {
            self.from = From::After(last.to_vec());
        }
        self.iterator.clear();
        match next {
            Some(token) => self.iterator.extend_from_slice(token.get(..token.len().min(ITERATOR_MAX))?),
            None => self.ended = true,
        }
        let is_last = count == 0 && behind == Some(cbor::Head::Unsigned(0));
        if is_last {
            self.caught_up = Some(self.asked_at);
        }
        self.at = if is_last { now.mono + poll } else { now.mono };
        self.link.is_good();
        Some(children)
    }

    /// Whether a number follows the one before.
    fn follow(&mut self, number: Option<&[u8]>) {
        let Some(number) = number.and_then(SequenceNumber::parse).map(|parsed| parsed.number) else { return };
        if let Some(next) = self.next
            && number > next
            && self.gap.is_none()
        {
            self.gap = Some((next, number));
        }
        self.next = Some(number + 1);
    }

    pub fn on_closed(&mut self, now: Now) {
        self.link.closed(now.mono);
        self.asked = Asked::Nothing;
        // The next server may be another process: its iterators too.
        if self.from != From::Latest {
            self.iterator.clear();
        }
    }

    pub fn close(&mut self, ops: &mut Ops) {
        self.link.close(ops);
    }

    pub fn link(&self) -> &Link {
        &self.link
    }
}

fn member<'b>(map: &'b [u8], name: &str) -> Option<&'b [u8]> {
    Parts::of(map).find(|(called, _)| is_text(called, name)).map(|(_, value)| value)
}

fn text_of(item: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::new(item);
    match walk.head()? {
        cbor::Head::Text(Some(len)) => walk.take(len),
        _ => None,
    }
}

fn bytes_of(item: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::new(item);
    match walk.head()? {
        cbor::Head::Bytes(Some(len)) => walk.take(len),
        _ => None,
    }
}

fn take_text(item: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let text = text_of(item).filter(|text| text.len() <= ITERATOR_MAX)?;
    into.clear();
    into.extend_from_slice(text);
    Some(())
}

fn number_of(record: &[u8]) -> Option<u64> {
    SequenceNumber::parse(text_of(member(record, "SequenceNumber")?)?).map(|parsed| parsed.number)
}

fn child_of(child: &[u8]) -> Option<Child> {
    let text = |item| Some(String::from_utf8_lossy(text_of(item)?).into_owned());
    let parents = Parts::of(member(child, "ParentShards")?).filter_map(|(_, parent)| text(parent)).collect();
    Some(Child { shard: text(member(child, "ShardId")?)?, parents })
}

/// The members of a request in CBOR.
struct Members<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Members<'o> {
    fn begin(out: &'o mut [u8]) -> Members<'o> {
        out[0] = cbor::OPEN_MAP;
        Members { out, at: 1 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn head(&mut self, major: u8, value: u64) {
        let (bytes, used) = cbor::head(major, value);
        self.put(&bytes[..used]);
    }

    fn name(&mut self, name: &str) {
        self.head(cbor::TEXT, name.len() as u64);
        self.put(name.as_bytes());
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.head(cbor::TEXT, text.len() as u64);
        self.put(text);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.head(cbor::UNSIGNED, number);
    }

    /// In ms since 1970.
    fn time(&mut self, name: &str, time: u64) {
        self.name(name);
        self.head(cbor::TAG, cbor::TIME);
        self.head(cbor::UNSIGNED, time);
    }

    fn end(mut self) -> usize {
        self.put(&[cbor::BREAK]);
        self.at
    }
}

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
//! trimmed before it was read, or lost (`gaps.rs`). What is missing behind all that came shows none: at the end of a run, or of the shard, it asks
//! for an iterator behind the newest record, whose number stands in the token.

use super::gaps::Gaps;
use super::http::{self, Speaker};
use super::items::{Members, bytes_of, is_text, member, text_of};
use super::ledger::Place;
use super::link::Link;
use super::shared::Shared;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Errno, Ops, Socket};
use crate::kinesis::cbor::{self, Parts, Walk};
use crate::kinesis::iterator;
use crate::kinesis::sequence::SequenceNumber;
use crate::kinesis::shard_id::ShardId;

/// Records are asked for up to so many bytes of data, so that writers have their turn between answers.
const LIMIT_BYTES: u32 = 1 << 20;
/// An iterator is a token of the server's.
const ITERATOR_MAX: usize = 1024;
/// Room in front of a body for its head.
const HEAD: usize = 8 << 10;
/// So much earlier than the run a lost reader begins: the clocks of two hosts differ.
const LEAD_MS: u64 = 60_000;
/// How long an answer may take before the connection is given up.
const PATIENCE_NS: u64 = 30_000_000_000;
/// Number of the first record of a shard.
const FIRST: u64 = 1;

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
    /// Behind the newest record, at the end.
    NewestIterator,
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
    /// Numbers that were not there.
    gaps: Gaps,
    /// The number behind the newest record: what does not come of it when all is read is missing. 0: the service does not tell.
    newest: Option<u64>,
    /// Nothing more is written.
    ends: bool,
    /// All that a closed shard has was read; what goes on where it has ended.
    closed: Option<Vec<Child>>,
    /// The last answer was empty, and was asked for then.
    caught_up: Option<Mono>,
    asked_at: Mono,
    /// A closed shard has been read to its end.
    pub ended: bool,
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
            gaps: Gaps::default(),
            newest: None,
            ends: false,
            closed: None,
            caught_up: None,
            asked_at: Mono(0),
            ended: false,
        }
    }

    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// Whether it is proved that the record at this place was trimmed before it was read.
    pub fn is_trimmed(&self, place: Place) -> bool {
        ShardId::parse(&self.shard) == Some(ShardId(place.shard)) && self.gaps.is_trimmed(place.number)
    }

    /// Some of it has gone that cannot be told.
    pub fn is_incomplete(&self) -> bool {
        self.gaps.is_full()
    }

    /// Whether it knows where to read from.
    pub fn is_ready(&self) -> bool {
        !self.iterator.is_empty()
    }

    /// Whether everything that was there at `since` has been read.
    pub fn has_all(&self, since: Mono) -> bool {
        self.ended || self.closed.is_none() && self.caught_up.is_some_and(|at| at > since)
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

    /// `ends`: nothing more is written.
    pub fn turn(&mut self, shared: &mut Shared, now: Now, ends: bool, ops: &mut Ops) {
        self.ends = ends;
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

    fn next_question(&self) -> Asked {
        let is_last = self.closed.is_some() || self.ends && !self.iterator.is_empty();
        match self.gaps.is_open() {
            true if self.oldest.is_empty() => Asked::OldestIterator,
            true => Asked::OldestRecord,
            // Where numbers are not known there is nothing to compare it with.
            false if is_last && self.newest.is_none() && self.next.is_some() => Asked::NewestIterator,
            false if self.iterator.is_empty() => Asked::Iterator,
            false => Asked::Records,
        }
    }

    fn ask(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) {
        let asked = self.next_question();
        let limit = (LIMIT_BYTES / shared.plan.sizes.most().max(1)).clamp(1, 10_000) as u64;
        let (stream, begun) = (shared.plan.stream.clone(), shared.begun);
        let out = shared.buffers.bytes_mut(self.control);
        let mut body = Members::begin(&mut out[HEAD..]);
        let operation = match asked {
            Asked::Iterator | Asked::OldestIterator | Asked::NewestIterator | Asked::Nothing => {
                body.text("StreamName", stream.as_bytes());
                body.text("ShardId", self.shard.as_bytes());
                let kind = match &self.from {
                    _ if asked == Asked::OldestIterator => "TRIM_HORIZON",
                    _ if asked == Asked::NewestIterator => "LATEST",
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
        let sound = match answer.status {
            200 => self.on_answer(shared, now, asked, body).is_some(),
            status => {
                self.on_error(shared, now, asked, status, body);
                true
            }
        };
        self.link.taken(answer.end);
        if !sound {
            shared.complain(format!("{}: an answer cannot be read", self.shard));
        }
        if answer.closes || !sound {
            self.link.close(ops);
        }
        self.end()
    }

    /// Whether a closed shard is done with: gives what goes on there.
    fn end(&mut self) -> Vec<Child> {
        if self.closed.is_none() || self.gaps.is_open() || self.next.is_some() && self.newest.is_none() {
            return Vec::new();
        }
        self.ended = true;
        self.closed.take().unwrap_or_default()
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
        if asked == Asked::NewestIterator && status == 400 && !throttled {
            self.newest = Some(0);
        }
        self.oldest.clear();
        self.at = now.mono + shared.plan.poll.max(100_000_000);
    }

    /// `None`: it is no answer to what was asked.
    fn on_answer(&mut self, shared: &mut Shared, now: Now, asked: Asked, body: Span) -> Option<()> {
        match asked {
            Asked::Iterator => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                take_text(member(body, "ShardIterator")?, &mut self.iterator)?;
                let place = iterator::place(&self.iterator).filter(|_| self.next.is_none());
                self.next = match (&self.from, place) {
                    (From::Latest, Some((_, number))) if shared.begun.is_none() => Some(number),
                    (From::Oldest, Some(_)) => Some(FIRST),
                    _ => self.next,
                };
            }
            Asked::NewestIterator => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                let place = iterator::place(text_of(member(body, "ShardIterator")?)?);
                self.newest = Some(place.map_or(0, |(_, number)| number));
                if self.closed.is_some() {
                    self.gaps.misses(&mut self.next, self.newest);
                }
            }
            Asked::OldestIterator => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                take_text(member(body, "ShardIterator")?, &mut self.oldest)?;
            }
            Asked::OldestRecord => {
                let body = cbor::document(shared.buffers.bytes(body))?;
                let first = Parts::of(member(body, "Records")?).next();
                let number = first.and_then(|(_, record)| number_of(record));
                self.gaps.settle(number);
                self.oldest.clear();
            }
            Asked::Records => return self.on_records(shared, now, body),
            Asked::Nothing => return None,
        }
        self.link.is_good();
        Some(())
    }

    fn on_records(&mut self, shared: &mut Shared, now: Now, body: Span) -> Option<()> {
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
            None => (self.closed, self.newest) = (Some(children), None),
        }
        let is_last =
            count == 0 && behind == Some(cbor::Head::Unsigned(0)) && !self.gaps.misses(&mut self.next, self.newest);
        if is_last {
            (self.caught_up, self.newest) = (Some(self.asked_at), None);
        }
        self.at = if is_last { now.mono + poll } else { now.mono };
        self.link.is_good();
        Some(())
    }

    /// Whether a number follows the one before.
    fn follow(&mut self, number: Option<&[u8]>) {
        let Some(number) = number.and_then(SequenceNumber::parse).map(|parsed| parsed.number) else { return };
        if let Some(next) = self.next
            && number > next
        {
            self.gaps.note(next, number);
        }
        self.next = Some(self.next.unwrap_or(0).max(number + 1));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::Buffers;
    use crate::io::clock::Wall;
    use crate::kinesis::iterator::ShardIterator;
    use crate::kinesis::sequence::DIGITS;
    use crate::load::client::Client;
    use crate::load::plan::{Plan, Share, Wire};
    use crate::load::plan_tests::plan;
    use serde_json::{Value, json};
    use std::sync::Arc;

    const NOW: Now = Now { mono: Mono(5), wall: Wall(1_700_000_000_000_000) };

    fn reader(is_child: bool) -> (Shared, Reader) {
        let plan = Arc::new(Plan { wire: Wire::Cbor, ..plan() });
        let share = Share { thread: 0, connections: vec![vec![0]], shards: vec![7] };
        let buffers = Buffers::new(0, Client::layouts(&plan, &share).0);
        let shared = Shared::new(plan, buffers, &share);
        let reader = Reader::new(&shared, 0, Socket(1), ShardId(7).to_string(), is_child);
        (shared, reader)
    }

    /// What the reader asks next is answered like this.
    fn answer(shared: &mut Shared, reader: &mut Reader, asked: Asked, value: &Value) -> Vec<Child> {
        assert_eq!(reader.next_question(), asked);
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("memory takes it");
        let span = shared.buffers.whole(Pool::Large, 0).first(bytes.len() as u32);
        shared.buffers.bytes_mut(span).copy_from_slice(&bytes);
        reader.on_answer(shared, NOW, asked, span).expect("it is an answer");
        reader.end()
    }

    fn token(sequence: u64) -> Value {
        let mut out = [0; crate::kinesis::iterator::TOKEN_LEN];
        let token = ShardIterator { stream: 1, shard: 7, sequence, arrival_floor: 0, issued: NOW, nonce: 0 };
        token.seal(&[0; 16], &mut out);
        json!({ "ShardIterator": std::str::from_utf8(&out).expect("text") })
    }

    /// Records with these numbers, and whether the shard goes on.
    fn records(numbers: &[u64], goes_on: bool) -> Value {
        let record = |number: &u64| {
            let mut digits = [0; DIGITS];
            SequenceNumber { created: 1, shard: 7, number: *number, at: 1 }.write(&mut digits);
            json!({ "SequenceNumber": std::str::from_utf8(&digits).expect("digits") })
        };
        let records: Vec<Value> = numbers.iter().map(record).collect();
        match goes_on {
            true => json!({ "Records": records, "NextShardIterator": "x", "MillisBehindLatest": 0 }),
            false => json!({ "Records": records, "MillisBehindLatest": 0, "ChildShards":
                [{ "ShardId": "shardId-000000000008", "ParentShards": ["shardId-000000000007"] }] }),
        }
    }

    #[test]
    fn what_is_missing_is_trimmed_if_that_is_proved_also_behind_all_that_came() {
        for closed in [false, true] {
            for (newest, oldest, trimmed) in
                [(25, vec![], 12..25), (25, vec![3], 0..0), (25, vec![25], 12..25), (12, vec![], 0..0)]
            {
                let (mut shared, mut reader) = reader(false);
                reader.asked_at = NOW.mono;
                let mut say = |reader: &mut Reader, asked, value| answer(&mut shared, reader, asked, &value);
                say(&mut reader, Asked::Iterator, token(10));
                say(&mut reader, Asked::Records, records(&[10, 11], true));
                reader.ends = !closed;
                if closed {
                    assert!(say(&mut reader, Asked::Records, records(&[], false)).is_empty() && !reader.ended);
                }
                let mut children = say(&mut reader, Asked::NewestIterator, token(newest));
                if !closed {
                    say(&mut reader, Asked::Records, records(&[], true));
                }
                assert_eq!(reader.has_all(Mono(0)) || reader.ended, newest == 12);
                if newest > 12 {
                    say(&mut reader, Asked::OldestIterator, token(0));
                    children = say(&mut reader, Asked::OldestRecord, records(&oldest, true));
                }
                if !closed {
                    let asked = if newest > 12 { Asked::Records } else { Asked::NewestIterator };
                    assert_eq!(reader.next_question(), asked);
                }
                assert_eq!((reader.ended, children.len()), (closed, closed as usize));
                let found = (0..40).filter(|number| reader.is_trimmed(Place { shard: 7, number: *number }));
                assert_eq!(found.collect::<Vec<_>>(), trimmed.collect::<Vec<_>>(), "{closed} {newest} {oldest:?}");
                assert!(!reader.is_trimmed(Place { shard: 8, number: 13 }));
            }
        }
    }

    #[test]
    fn a_shard_that_has_just_come_has_its_first_record_and_of_two_gaps_both_are_looked_into() {
        let (mut shared, mut reader) = reader(true);
        let mut say = |reader: &mut Reader, asked, value| answer(&mut shared, reader, asked, &value);
        say(&mut reader, Asked::Iterator, token(0));
        say(&mut reader, Asked::Records, records(&[3, 6], true));
        say(&mut reader, Asked::OldestIterator, token(0));
        say(&mut reader, Asked::OldestRecord, records(&[6], true));
        let found = (0..9).filter(|number| reader.is_trimmed(Place { shard: 7, number: *number }));
        assert_eq!(found.collect::<Vec<_>>(), [1, 2, 4, 5]);
        // Where the service has tokens of another kind nothing is known of numbers.
        let (mut shared, mut reader) = self::reader(true);
        answer(&mut shared, &mut reader, Asked::Iterator, &json!({ "ShardIterator": "AAAA" }));
        assert_eq!(answer(&mut shared, &mut reader, Asked::Records, &records(&[], false)).len(), 1);
        assert!(reader.ended);
    }
}

//! The role that reads over the native protocol: reads and subscriptions of several shards at once on one connection, judged record by record.
//!
//! What has no answer of its own is sent with a ping behind it, whose pong is one.

use super::client::{Role, Shared};
use super::clock::SECOND;
use super::native::{
    GONE, GOODBYE, HELLO, Message, NO_BATCH, SHARDS, State, WELCOME, first, may_end, message, u32_at, u64_at,
};
use super::net;
use super::oracle::{From, Life, Number, Record};
use super::random::Random;
use super::world::World;
use penstock::kinesis::sequence::{DIGITS, SequenceNumber};
use std::collections::BTreeMap;

const BATCH: u8 = 1;
const PING: u8 = 73;
const PONG: u8 = 74;
const READ: u8 = 80;
const DONE: u8 = 81;
const SUBSCRIBE: u8 = 82;
const CREDIT: u8 = 83;
const UNSUBSCRIBE: u8 = 84;

/// The number of the call that waits for the welcome and the map.
const BEGINNING: u32 = NO_BATCH;
/// A subscription ends by itself before anybody loses patience.
const LASTS: u64 = 34 * SECOND;
/// A record that was acked so long ago has come to who is subscribed, and has credit for it.
const LATE: u64 = 30 * SECOND;
const PLENTY: u32 = 1 << 30;

struct Reading {
    call: u32,
    from: From,
    /// Records below this number come only because their batch has one from there on.
    wanted: u64,
    /// `None`: a read; `Some`: the credit that is left.
    credit: Option<i64>,
    /// Nothing bounds it but the end of what is there.
    whole: bool,
    known: Vec<(u32, Number, u64)>,
    since: u64,
    leaves: bool,
    /// Number behind the last record that came.
    next: u64,
}

pub struct NativeReader {
    state: State,
    stream: usize,
    stream_number: u64,
    held: Vec<u8>,
    calls: u32,
    readings: BTreeMap<u32, Reading>,
    /// Where a shard is read on, mostly.
    marks: BTreeMap<(usize, u32), (From, u64)>,
}

fn want(kind: u8, shard: u64, sequence: u64, count: u32, bytes: u32) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[..4].copy_from_slice(&bytes.to_le_bytes());
    let mut bytes = message(kind, &body, count, shard, 0);
    bytes[24..32].copy_from_slice(&sequence.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Records of a batch: key and data, and the arrival of each in µs.
fn records_of<'a>(message: &Message<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8], u64)> {
    let body = message.body;
    let index = body.len() - 8 - 16 * message.count as usize;
    assert_eq!(u32_at(body, body.len() - 4), message.count, "the root of a batch");
    let arrival = message.arrival;
    body[index..body.len() - 8].chunks_exact(16).map(move |entry| {
        let (at, data, key) =
            (u32_at(entry, 0) as usize, u32_at(entry, 4) as usize, entry[8] as usize | (entry[9] as usize) << 8);
        (&body[at..at + key], &body[at + key..at + key + data], arrival + u32_at(entry, 12) as u64)
    })
}

impl NativeReader {
    pub fn new() -> NativeReader {
        NativeReader {
            state: State::Silent,
            stream: 0,
            stream_number: 0,
            held: Vec::new(),
            calls: 0,
            readings: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// What it says next, and the number of the call that is.
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<(Vec<u8>, u32)> {
        match self.state {
            State::Silent => self.hello(random, shared),
            State::Greeting | State::Over => None,
            State::Open => self.speak(random, shared),
        }
    }

    fn hello(&mut self, random: &mut Random, shared: &Shared) -> Option<(Vec<u8>, u32)> {
        let streams = &shared.oracle.streams;
        let live: Vec<usize> = (0..streams.len()).filter(|at| streams[*at].life == Life::Live).collect();
        if live.is_empty() {
            return None;
        }
        self.stream = *random.pick(&live);
        self.state = State::Greeting;
        let name = streams[self.stream].name.as_bytes();
        let mut body = vec![1, 0, 1, 0, 0, 0, 0, 0, name.len() as u8, 0, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(name);
        Some((message(HELLO, &body, 0, 0, 0), BEGINNING))
    }

    fn wire(&self, shard: u32) -> u64 {
        self.stream_number << 32 | shard as u64
    }

    /// A message without an answer, and a ping.
    fn pinged(&mut self, mut bytes: Vec<u8>) -> Option<(Vec<u8>, u32)> {
        self.calls += 1;
        bytes.extend(message(PING, &[], 0, 0, self.calls));
        Some((bytes, self.calls))
    }

    fn speak(&mut self, random: &mut Random, shared: &mut Shared) -> Option<(Vec<u8>, u32)> {
        let subscribed = self.readings.iter().filter(|(_, reading)| reading.credit.is_some() && !reading.leaves);
        let subscribed: Vec<(u32, u64)> = subscribed.map(|(shard, reading)| (*shard, reading.since)).collect();
        let over = subscribed.iter().find(|(_, since)| shared.now - since > LASTS).copied();
        let leaves = over.or_else(|| random.chance(60).then(|| subscribed.first().copied()).flatten());
        if let Some((shard, _)) = leaves {
            self.readings.get_mut(&shard).expect("subscribed").leaves = true;
            return self.pinged(message(UNSUBSCRIBE, &[], 0, self.wire(shard), 0));
        }
        let poor = |shard: &u32| self.readings[shard].credit.is_some_and(|credit| credit < 20_000);
        let poor = subscribed.iter().map(|(shard, _)| *shard).find(poor);
        if let Some(shard) = poor.filter(|_| random.chance(500)) {
            let more = *random.pick(&[1, 300, 40_000]);
            *self.readings.get_mut(&shard).and_then(|reading| reading.credit.as_mut()).expect("subscribed") +=
                more as i64;
            let body = [u32::to_le_bytes(more), [0; 4]].concat();
            return self.pinged(message(CREDIT, &body, 0, self.wire(shard), 0));
        }
        if self.readings.len() >= 4 {
            return self.pinged(Vec::new());
        }
        if random.chance(8) {
            self.state = State::Over;
            return Some((message(GOODBYE, &[], 0, 0, 0), BEGINNING));
        }
        self.begin(random, shared)
    }

    fn begin(&mut self, random: &mut Random, shared: &mut Shared) -> Option<(Vec<u8>, u32)> {
        let known: Vec<u32> = shared.oracle.streams[self.stream].shards.keys().copied().collect();
        let free: Vec<u32> = known.into_iter().filter(|shard| !self.readings.contains_key(shard)).collect();
        if free.is_empty() {
            return self.pinged(Vec::new());
        }
        let shard = *random.pick(&free);
        let placed = shared.oracle.known(self.stream, shard);
        let number = |text: &Number| SequenceNumber::parse(text.0.as_bytes()).expect("a number of the server's").number;
        let mark = self.marks.get(&(self.stream, shard)).cloned();
        let (from, wanted) = match random.below(8) {
            0 if !placed.is_empty() => {
                let at = &random.pick(&placed).1;
                (From::At(at.clone()), number(at))
            }
            1 if !placed.is_empty() => {
                let after = &random.pick(&placed).1;
                (From::After(after.clone()), number(after) + 1)
            }
            2 => (shared.oracle.highest(self.stream, shard).map_or(From::Anywhere, From::Above), u64::MAX),
            3..=5 if mark.is_some() => mark.expect("just seen"),
            _ => (From::Horizon, 0),
        };
        let subscribes = random.chance(600);
        let bytes = if random.chance(500) { PLENTY } else { *random.pick(&[0, 1, 500, 30_000, 200_000]) };
        let count = *random.pick(&[0, 0, 0, 1, 7]);
        self.calls += 1;
        let whole = bytes == PLENTY && (subscribes || count == 0);
        let reading = Reading {
            call: self.calls,
            from,
            wanted: if wanted == u64::MAX { 0 } else { wanted },
            credit: subscribes.then_some(bytes as i64),
            whole,
            known: placed,
            since: shared.now,
            leaves: false,
            next: wanted,
        };
        self.readings.insert(shard, reading);
        let kind = if subscribes { SUBSCRIBE } else { READ };
        Some((want(kind, self.wire(shard), wanted, if subscribes { 0 } else { count }, bytes), self.calls))
    }

    /// Bytes have come: the numbers of the calls that they answer.
    pub fn receive(&mut self, bytes: &[u8], shared: &mut Shared) -> Vec<u32> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let (mut at, mut answered) = (0, Vec::new());
        while let Some((message, size)) = first(&held[at..]) {
            at += size;
            self.on_message(&message, size, shared, &mut answered);
        }
        self.held = held.split_off(at);
        answered
    }

    fn on_message(&mut self, message: &Message<'_>, size: usize, shared: &mut Shared, answered: &mut Vec<u32>) {
        match message.kind {
            WELCOME => self.stream_number = u32_at(message.body, 36) as u64,
            SHARDS if message.number == 0 => {
                self.state = State::Open;
                answered.push(BEGINNING);
            }
            SHARDS => {}
            PONG => answered.push(message.number),
            BATCH => self.batch(message, size, shared),
            DONE => answered.push(self.done(message, shared)),
            GOODBYE => self.goodbye(message.body, shared, answered),
            other => panic!("a message that nobody has asked for: {other}"),
        }
    }

    fn batch(&mut self, message: &Message<'_>, size: usize, shared: &mut Shared) {
        let shard = message.shard as u32;
        assert_eq!(message.shard, self.wire(shard), "a batch of another stream");
        let reading =
            self.readings.get_mut(&shard).unwrap_or_else(|| panic!("a batch of shard {shard}, which is not read"));
        if let Some(credit) = &mut reading.credit {
            assert!(*credit > 0, "a batch beyond the credit");
            *credit -= size as i64;
        }
        let seen = &shared.oracle.streams[self.stream].shards[&shard];
        let created = SequenceNumber::parse(seen.starting.0.as_bytes()).expect("a number of the server's").created;
        let mut records = Vec::new();
        for ((key, data, arrival), number) in records_of(message).zip(message.sequence..) {
            if number < reading.wanted {
                continue;
            }
            let mut digits = [0; DIGITS];
            SequenceNumber { created, shard, number, at: arrival / 1_000_000 }.write(&mut digits);
            records.push(Record {
                number: Number::parse(std::str::from_utf8(&digits).expect("digits")),
                key: String::from_utf8(key.to_vec()).expect("keys are text"),
                data: data.to_vec(),
                arrival: arrival as f64 / 1e6,
            });
        }
        assert!(!records.is_empty(), "a batch up to number {} is not wanted", message.sequence + message.count as u64);
        shared.read_natively += records.len() as u64;
        reading.from = shared.oracle.read(self.stream, shard, reading.from.clone(), &records, shared.now);
        reading.next = message.sequence + message.count as u64;
        reading.wanted = reading.next;
    }

    fn done(&mut self, message: &Message<'_>, shared: &mut Shared) -> u32 {
        let shard = message.shard as u32;
        let code = u16::from_le_bytes([message.body[0], message.body[1]]);
        let reading = self.readings.remove(&shard).unwrap_or_else(|| panic!("the end of what is not read: {shard}"));
        let going = shared.oracle.streams[self.stream].life == Life::Going;
        let ending = shared.oracle.streams[self.stream].shards.get(&shard).is_some_and(|seen| seen.ending.is_some());
        let (stream, now) = (self.stream, shared.now);
        match code {
            0 if reading.credit.is_none() && reading.whole => {
                shared.oracle.read_to_end(stream, shard, &reading.from, false, now, &reading.known)
            }
            0 if reading.credit.is_some() && reading.whole && !shared.settings.pauses => {
                assert!(reading.leaves, "a subscription has ended by itself");
                let acked = shared.oracle.acked_before(stream, shard, now.saturating_sub(LATE));
                let old = reading.since + LATE < now;
                let known = if old { acked } else { Vec::new() };
                shared.oracle.read_to_end(stream, shard, &reading.from, false, now, &known);
            }
            0 => {}
            1 => shared.oracle.read_to_end(stream, shard, &reading.from, true, now, &[]),
            2 => assert!(going || ending, "shard {shard} is not known, though it is there"),
            8 => {
                let excused = shared.lenient || shared.stopping || going;
                assert!(excused, "shard {shard} could not be read though nothing was wrong");
            }
            20 => assert!(shared.oracle.damaged, "shard {shard} is damaged though nothing was"),
            // As many as a worker takes.
            23 => {}
            _ => panic!("a reading ended with {code}"),
        }
        assert!(message.sequence >= reading.next || reading.next == u64::MAX, "it would go on before where it is");
        if matches!(reading.from, From::After(_)) && message.sequence == reading.next {
            self.marks.insert((stream, shard), (reading.from, reading.next));
        }
        reading.call
    }

    fn goodbye(&mut self, body: &[u8], shared: &Shared, answered: &mut Vec<u32>) {
        let code = u16::from_le_bytes([body[0], body[1]]);
        let said = String::from_utf8_lossy(&body[8..]);
        assert!(may_end(code, self.state, self.stream, shared), "a Goodbye with {code}: {said}");
        self.readings.clear();
        self.state = State::Over;
        answered.push(GONE);
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        let lives = std::mem::take(&mut self.readings);
        for (shard, reading) in lives.into_iter().filter(|(_, reading)| matches!(reading.from, From::After(_))) {
            self.marks.insert((self.stream, shard), (reading.from, reading.next));
        }
        *self = NativeReader { marks: std::mem::take(&mut self.marks), calls: self.calls, ..NativeReader::new() };
    }
}

impl World<'_> {
    /// A native client is being sent records: they are durable.
    pub(super) fn check_read_natively(&self, id: net::Id, mut bytes: &[u8]) {
        let Some(client) = self.client_of(id) else { return };
        let Role::NativeReader(_) = &self.clients[client].role else { return };
        while let Some((message, size)) = first(bytes) {
            bytes = &bytes[size..];
            if message.kind != BATCH {
                continue;
            }
            for (_, data, _) in records_of(&message) {
                let mark =
                    super::audit::mark_of(data).filter(|mark| (*mark as usize) < self.shared.oracle.attempts.len());
                assert!(
                    self.holds(mark.expect("a record that was put")),
                    "a record is shown before it is durable: {mark:x?}"
                );
            }
        }
        assert!(bytes.is_empty(), "a send ends in the middle of a message");
    }
}

#[test]
fn a_number_of_a_want_is_in_its_header() {
    let bytes = want(READ, 1 << 32, 77, 3, 9);
    assert_eq!((u64_at(&bytes, 24), bytes[3]), (77, READ));
    assert!(first(&bytes).is_some_and(|(message, size)| message.sequence == 77 && size == bytes.len()));
}

//! The role that stores over the native protocol: its own messages, written here, so that an error in the server's is not an error in both.
//! As a producer it sends again, on the next connection, what had no answer on the last one; a record that is then stored twice, or not at all
//! though it was acked, the oracle finds.
//!
//! A `Goodbye`, and each refusal, says what became of what was sent; the oracle holds the server to it. An ack tells the number in the shard
//! alone: the place of the record is what a reader says, and by the end of the audit every one that was acked must have been read.

use super::call::{Call, Kind};
use super::client::{Role, Shared};
use super::clock::SECOND;
use super::net;
use super::oracle::{Fate, Life, Number, Oracle};
use super::random::Random;
use super::world::World;
use md5::{Digest, Md5};
use penstock::kinesis::sequence::SequenceNumber;
use std::collections::{BTreeMap, VecDeque};

const BATCH: u8 = 1;
pub const HELLO: u8 = 64;
pub const WELCOME: u8 = 67;
const MAP: u8 = 68;
pub const SHARDS: u8 = 69;
const ACK: u8 = 70;
const REFUSED: u8 = 71;
pub const GOODBYE: u8 = 72;

const NOT_STORED: u8 = 1;
const UNKNOWN: u8 = 3;

/// The number of the call that is no batch.
pub const NO_BATCH: u32 = u32::MAX;
/// Data and keys of one batch, at most.
const BATCH_MAX: u64 = 20_000;

pub struct Message<'a> {
    pub kind: u8,
    pub count: u32,
    pub shard: u64,
    pub sequence: u64,
    pub arrival: u64,
    pub number: u32,
    pub body: &'a [u8],
}

pub fn message(kind: u8, body: &[u8], count: u32, shard: u64, number: u32) -> Vec<u8> {
    let size = (64 + body.len()).next_multiple_of(64);
    let mut bytes = vec![0; size];
    bytes[..4].copy_from_slice(&[b'p', b'f', 1, kind]);
    bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..24].copy_from_slice(&shard.to_le_bytes());
    bytes[48..52].copy_from_slice(&number.to_le_bytes());
    bytes[56..60].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    bytes[64..64 + body.len()].copy_from_slice(body);
    bytes
}

/// The message as a bulk connection takes it: with 64 zeros before it, and whole blocks, sometimes more than it needs.
fn in_blocks(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let body = u32_at(bytes, 8) as usize;
    let spare = if random.chance(100) { 4096 } else { 0 };
    let size = (128 + body).next_multiple_of(4096) + spare;
    let mut blocks = vec![0; 64];
    blocks.extend_from_slice(&bytes[..64 + body]);
    blocks.resize(size, 0);
    blocks[68..72].copy_from_slice(&(size as u32).to_le_bytes());
    let sum = crc32c::crc32c(&blocks[64..124]);
    blocks[124..128].copy_from_slice(&sum.to_le_bytes());
    blocks
}

/// The message, of a producer.
fn produced(mut bytes: Vec<u8>, producer: u64) -> Vec<u8> {
    bytes[40..48].copy_from_slice(&producer.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}

/// The message that begins the bytes, if it is whole, and its length.
pub fn first(bytes: &[u8]) -> Option<(Message<'_>, usize)> {
    let head = bytes.get(..64)?;
    assert!(head[..3] == *b"pf\x01" && u32_at(head, 60) == crc32c::crc32c(&head[..60]), "no header: {head:02x?}");
    let body = bytes.get(64..64 + u32_at(head, 8) as usize)?;
    assert_eq!(u32_at(head, 56), crc32c::crc32c(body), "the checksum of a body");
    let size = (64 + body.len()).next_multiple_of(64);
    bytes.get(..size)?;
    let (shard, sequence, number) = (u64_at(head, 16), u64_at(head, 24), u32_at(head, 48));
    let (count, arrival) = (u32_at(head, 12), u64_at(head, 32));
    Some((Message { kind: head[3], count, shard, sequence, arrival, number, body }, size))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Silent,
    /// Waits for a Welcome, and the map behind it.
    Greeting,
    Open,
    /// The server has said its Goodbye, or the client has.
    Over,
}

/// A shard of the map: open, and its hash keys.
type Mapped = (bool, u128, u128);

/// Whether the server may end the connection with this code, of a client in this state that asked for this stream.
pub fn may_end(code: u16, state: State, stream: usize, shared: &Shared) -> bool {
    match code {
        // It was said first by the client.
        0 => state == State::Over,
        34 | 40 => shared.oracle.streams[stream].life != Life::Live,
        36 => true,
        37 => shared.stopping,
        // It has connected when there was no stream, and said nothing, or too late.
        39 => shared.settings.pauses || state != State::Open,
        _ => false,
    }
}

struct Sent {
    shard: u32,
    number: u32,
    marks: Vec<u64>,
    /// The message, to be sent again.
    bytes: Vec<u8>,
    /// It was sent on an earlier connection too, and what is on its way there may still come.
    repeated: bool,
}

/// What a producer knows of one shard.
#[derive(Default)]
struct Line {
    next: u32,
    /// The lowest number that was refused: it is the next one, when all behind it has been answered.
    again: Option<u32>,
    /// Without an answer when the connection was lost, in order.
    doubts: VecDeque<Sent>,
    /// When something was acked last.
    heard: u64,
}

struct Producer {
    id: u64,
    epoch: u64,
    lines: BTreeMap<u32, Line>,
    /// A new epoch begins with the next connection.
    ends: bool,
}

/// Batches of a shard that may be without an answer.
const UNANSWERED: usize = 8;
/// A full table forgets nobody who has been heard within this time.
const REMEMBERED: u64 = 3600 * SECOND;

pub struct NativeWriter {
    prefix: usize,
    state: State,
    stream: usize,
    stream_number: u64,
    map: BTreeMap<u32, Mapped>,
    asks_map: bool,
    held: Vec<u8>,
    next: u32,
    /// By the number of the call.
    sent: BTreeMap<u32, Sent>,
    producer: Option<Producer>,
    /// The server takes whole blocks.
    bulk: bool,
}

impl NativeWriter {
    pub fn new(prefix: usize) -> NativeWriter {
        NativeWriter {
            prefix,
            state: State::Silent,
            stream: 0,
            stream_number: 0,
            map: BTreeMap::new(),
            asks_map: false,
            held: Vec::new(),
            next: 0,
            sent: BTreeMap::new(),
            bulk: false,
            // Two thirds of them are one.
            producer: (!prefix.is_multiple_of(3)).then(|| Producer {
                id: 40 + prefix as u64,
                epoch: 0,
                lines: BTreeMap::new(),
                ends: false,
            }),
        }
    }

    /// What it says next.
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared, idle: bool) -> Option<(Vec<u8>, Kind)> {
        let (bytes, kind) = self.say(random, shared, idle)?;
        Some((if self.bulk { in_blocks(&bytes, random) } else { bytes }, kind))
    }

    fn say(&mut self, random: &mut Random, shared: &mut Shared, idle: bool) -> Option<(Vec<u8>, Kind)> {
        match self.state {
            State::Silent => self.hello(random, shared),
            State::Greeting | State::Over => None,
            State::Open if self.asks_map && idle => {
                self.asks_map = false;
                self.state = State::Greeting;
                Some((message(MAP, &[], 0, 0, 0), Kind::Native { number: NO_BATCH }))
            }
            State::Open if self.asks_map => None,
            State::Open if self.ends() && !idle => None,
            State::Open if self.ends() || random.chance(10) => {
                self.state = State::Over;
                Some((message(GOODBYE, &[], 0, 0, 0), Kind::Native { number: NO_BATCH }))
            }
            State::Open => self.resend().or_else(|| self.batch(random, shared)),
        }
    }

    fn ends(&self) -> bool {
        self.producer.as_ref().is_some_and(|producer| producer.ends)
    }

    /// The next batch that has been sent before, of any shard.
    fn resend(&mut self) -> Option<(Vec<u8>, Kind)> {
        let lines = &mut self.producer.as_mut()?.lines;
        let sent = lines.values_mut().find_map(|line| line.doubts.pop_front())?;
        let sent = Sent { repeated: true, ..sent };
        let (call, bytes) = (self.next, sent.bytes.clone());
        self.next += 1;
        self.sent.insert(call, sent);
        Some((bytes, Kind::Native { number: call }))
    }

    /// The number of the producer's next batch for `shard`, if it may send one.
    fn next_number(&mut self, shard: u32) -> Option<u32> {
        let Some(producer) = &mut self.producer else { return Some(self.next) };
        let line = producer.lines.entry(shard).or_default();
        let waiting = self.sent.values().filter(|sent| sent.shard == shard).count();
        if waiting >= UNANSWERED || line.again.is_some() && waiting > 0 {
            return None;
        }
        line.next = line.again.take().unwrap_or(line.next);
        line.next += 1;
        Some(line.next - 1)
    }

    fn hello(&mut self, random: &mut Random, shared: &mut Shared) -> Option<(Vec<u8>, Kind)> {
        let streams = shared.oracle.streams.iter().enumerate();
        let live: Vec<usize> = streams.filter(|(_, stream)| stream.life == Life::Live).map(|(at, _)| at).collect();
        if live.is_empty() {
            return None;
        }
        self.begin(random, &live, shared);
        self.state = State::Greeting;
        let producer = self.producer.as_ref().map_or(0, |producer| producer.id << 16 | producer.epoch);
        let name = shared.oracle.streams[self.stream].name.as_bytes();
        let wants_bulk = random.chance(500) as u8;
        let mut body = vec![1, 0, 1, 0, wants_bulk, 0, 0, 0, name.len() as u8, 0, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(name);
        Some((produced(message(HELLO, &body, 0, 0, 0), producer), Kind::Native { number: NO_BATCH }))
    }

    /// Which stream the connection is for: as before where something is in doubt. A new epoch gives that up.
    fn begin(&mut self, random: &mut Random, live: &[usize], shared: &mut Shared) {
        let doubts = |producer: &Producer| producer.lines.values().any(|line| !line.doubts.is_empty());
        if let Some(producer) = &mut self.producer {
            if doubts(producer) && live.contains(&self.stream) && !producer.ends && !random.chance(40) {
                return;
            }
            let given_up = std::mem::take(&mut producer.lines).into_values().flat_map(|line| line.doubts);
            given_up.flat_map(|sent| sent.marks).for_each(|mark| shared.oracle.settle(mark, Fate::Unknown));
            (producer.epoch, producer.ends) = (producer.epoch + 1, false);
        }
        self.stream = *random.pick(live);
    }

    fn batch(&mut self, random: &mut Random, shared: &mut Shared) -> Option<(Vec<u8>, Kind)> {
        let key = format!("n{}-{}", self.prefix, random.below(6));
        let hash = u128::from_be_bytes(Md5::digest(key.as_bytes()).into());
        let open = self.map.iter().find(|(_, (open, first, last))| *open && (*first..=*last).contains(&hash));
        let Some((&shard, _)) = open else {
            // Its shard closes, and its children are not there yet.
            self.asks_map = true;
            return None;
        };
        let number = self.next_number(shard)?;
        let (mut payload, mut index, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let count = *random.pick(&[1u32, 1, 2, 5, 12]);
        for _ in 0..count {
            let most = *random.pick(&[0, 30, 200, 2_000, 14_000]).min(&(BATCH_MAX / count as u64));
            let size = random.between(0, most.max(1)) as usize;
            let (mark, data) = shared.oracle.attempt(self.stream, &key, hash, size, shared.now);
            marks.push(mark);
            index.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            index.extend_from_slice(&(data.len() as u32).to_le_bytes());
            index.extend_from_slice(&(key.len() as u64).to_le_bytes());
            payload.extend_from_slice(key.as_bytes());
            payload.extend_from_slice(&data);
        }
        let root = [(-(index.len() as i32)).to_le_bytes(), count.to_le_bytes()].concat();
        let body = [payload, index, root].concat();
        let call = self.next;
        self.next += 1;
        let producer = self.producer.as_ref().map_or(0, |producer| producer.id << 16 | producer.epoch);
        let bytes = message(BATCH, &body, count, self.stream_number << 32 | shard as u64, number);
        let bytes = produced(bytes, producer);
        self.sent.insert(call, Sent { shard, number, marks, bytes: bytes.clone(), repeated: false });
        Some((bytes, Kind::Native { number: call }))
    }

    /// Bytes have come: the numbers of the calls that they answer.
    pub fn receive(&mut self, bytes: &[u8], shared: &mut Shared) -> Vec<u32> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let (mut at, mut answered) = (0, Vec::new());
        while let Some((message, size)) = first(&held[at..]) {
            at += size;
            self.on_message(&message, shared, &mut answered);
        }
        self.held = held.split_off(at);
        answered
    }

    fn on_message(&mut self, message: &Message<'_>, shared: &mut Shared, answered: &mut Vec<u32>) {
        let Message { kind, shard, sequence, number, body, .. } = *message;
        match kind {
            WELCOME => {
                self.stream_number = u32_at(body, 36) as u64;
                self.bulk = u32_at(body, 4) == 1;
            }
            SHARDS => {
                for line in body.chunks_exact(48) {
                    self.map.insert(u32_at(line, 0), (line[4] == 1, u128_at(line, 16), u128_at(line, 32)));
                }
                if number == 0 {
                    self.state = State::Open;
                    answered.push(NO_BATCH);
                }
            }
            ACK | REFUSED => {
                let call = self.call_of(shard, number);
                let call = call.unwrap_or_else(|| panic!("an answer to no batch: {number} for {shard:x}"));
                let sent = self.sent.remove(&call).expect("just found");
                let earlier = self.sent.range(..call).find(|(_, other)| other.shard == sent.shard);
                assert!(earlier.is_none(), "batch {call} is answered before {:?}", earlier.map(|(call, _)| call));
                match kind {
                    ACK => {
                        if let Some(producer) = &mut self.producer {
                            producer.lines.entry(sent.shard).or_default().heard = shared.now;
                        }
                        for (mark, sequence) in sent.marks.iter().zip(sequence..) {
                            shared.oracle.ack_unplaced(*mark, (sent.shard, sequence), shared.now);
                            shared.natively += 1;
                        }
                    }
                    _ => self.refused(&sent, body, shared),
                }
                answered.push(call);
            }
            GOODBYE => self.goodbye(body, shared, answered),
            other => panic!("a message that nobody has asked for: {other}"),
        }
    }

    /// The call that an answer is for.
    fn call_of(&self, shard: u64, number: u32) -> Option<u32> {
        let is_it = |sent: &Sent| self.stream_number << 32 | sent.shard as u64 == shard && sent.number == number;
        self.sent.iter().find(|(_, sent)| is_it(sent)).map(|(call, _)| *call)
    }

    /// A batch of a producer was not taken for its number: right behind one that was refused, or where nothing is known any more.
    fn renumbered(&mut self, sent: &Sent, code: u16, shared: &Shared) -> Option<Fate> {
        let producer = self.producer.as_mut()?;
        let line = producer.lines.entry(sent.shard).or_default();
        match code {
            10 | 12 if line.again.is_some_and(|again| again < sent.number) => Some(Fate::Refused),
            10 => {
                // At a start the wall clock says how much time has passed.
                let forgotten = shared.settings.clock_steps || shared.now.saturating_sub(line.heard) >= REMEMBERED;
                let excused = forgotten || shared.lenient || shared.oracle.damaged;
                assert!(excused, "a producer is forgotten: batch {} for shard {}", sent.number, sent.shard);
                producer.ends = true;
                Some(Fate::Unknown)
            }
            // What was stored last is lost.
            12 if shared.oracle.damaged => {
                producer.ends = true;
                Some(Fate::Unknown)
            }
            14 if sent.number == 0 => Some(Fate::Refused),
            _ => None,
        }
    }

    fn refused(&mut self, sent: &Sent, body: &[u8], shared: &mut Shared) {
        let (code, outcome) = (u16::from_le_bytes([body[0], body[1]]), body[2]);
        if outcome == NOT_STORED
            && let Some(fate) = self.renumbered(sent, code, shared)
        {
            return self.settle(sent, fate, shared);
        }
        let fate = match (code, outcome) {
            // The shard is closed, or has gone since: the map says who goes on.
            (1 | 2, NOT_STORED) => {
                self.asks_map = true;
                Fate::Refused
            }
            (3, NOT_STORED) => Fate::Refused,
            (8, NOT_STORED) | (9, UNKNOWN) => {
                let going = shared.oracle.streams[self.stream].life == Life::Going;
                let excused = shared.lenient || shared.stopping || going;
                assert!(excused, "a batch was refused with {code} though nothing was wrong");
                sent.marks.iter().for_each(|mark| shared.note_failed_put(*mark));
                if code == 8 { Fate::Refused } else { Fate::Unknown }
            }
            _ => panic!("a right batch was refused with {code}: {}", String::from_utf8_lossy(&body[8..])),
        };
        self.settle(sent, fate, shared);
    }

    /// A batch was not acked: its number is not used up. What an earlier connection may still bring is stored or not, for all that is known, and
    /// no other batch may have its number.
    fn settle(&mut self, sent: &Sent, fate: Fate, shared: &mut Shared) {
        let fate = if sent.repeated { Fate::Unknown } else { fate };
        sent.marks.iter().for_each(|mark| shared.oracle.settle(*mark, fate));
        let Some(producer) = &mut self.producer else { return };
        producer.ends |= fate == Fate::Unknown;
        let line = producer.lines.entry(sent.shard).or_default();
        line.again = Some(line.again.map_or(sent.number, |again| again.min(sent.number)));
    }

    fn goodbye(&mut self, body: &[u8], shared: &mut Shared, answered: &mut Vec<u32>) {
        let (code, outcome) = (u16::from_le_bytes([body[0], body[1]]), body[2]);
        let lost = code == 9 && shared.lenient;
        let said = String::from_utf8_lossy(&body[8..]);
        assert!(lost || may_end(code, self.state, self.stream, shared), "a Goodbye with {code}: {said}");
        if outcome == NOT_STORED {
            for sent in std::mem::take(&mut self.sent).into_values() {
                self.settle(&sent, Fate::Refused, shared);
            }
        }
        self.doubt(shared);
        self.state = State::Over;
        answered.push(NO_BATCH);
        answered.push(GONE);
    }

    /// The connection is gone.
    pub fn lost(&mut self, shared: &mut Shared) {
        self.doubt(shared);
        let again =
            NativeWriter { producer: self.producer.take(), stream: self.stream, ..NativeWriter::new(self.prefix) };
        *self = again;
    }

    /// What has no answer may be stored or not. A producer sends it again, and all behind it that it has not sent again yet.
    fn doubt(&mut self, shared: &mut Shared) {
        for (_, sent) in std::mem::take(&mut self.sent).into_iter().rev() {
            match &mut self.producer {
                Some(producer) => producer.lines.entry(sent.shard).or_default().doubts.push_front(sent),
                None => sent.marks.iter().for_each(|mark| shared.oracle.settle(*mark, Fate::Unknown)),
            }
        }
    }

    /// Records that are being acked by a send of the server's: whole messages.
    pub fn acked_by(&self, mut bytes: &[u8]) -> Vec<u64> {
        let mut marks = Vec::new();
        while let Some((message, size)) = first(bytes) {
            bytes = &bytes[size..];
            if message.kind == ACK {
                let call = self.call_of(message.shard, message.number);
                marks.extend(call.and_then(|call| self.sent.get(&call)).into_iter().flat_map(|sent| &sent.marks));
            }
        }
        assert!(bytes.is_empty(), "a send ends in the middle of a message");
        marks
    }
}

/// All calls have been answered: by a `Goodbye`.
pub const GONE: u32 = u32::MAX - 1;

/// Takes the call that an answer is for out of those that wait.
pub fn take_call(outstanding: &mut VecDeque<Call>, number: u32) -> bool {
    let is_it = |call: &Call| matches!(call.kind, Kind::Native { number: of } if of == number);
    let at = outstanding.iter().position(is_it);
    at.map(|at| outstanding.remove(at)).is_some()
}

impl Oracle {
    /// An ack has come that tells the number in the shard.
    fn ack_unplaced(&mut self, mark: u64, told: (u32, u64), now: u64) {
        self.acked += 1;
        let attempt = &mut self.attempts[mark as usize];
        assert_eq!(attempt.fate, Fate::Sent, "one answer for each try");
        (attempt.fate, attempt.acked, attempt.told) = (Fate::Acked, now, Some(told));
        let (place, told) = (attempt.place.clone(), attempt.told);
        if let Some((shard, number)) = place {
            check_told(told, shard, &number);
        }
    }

    /// Everything has been read: what was acked has been.
    pub fn check_all_found(&self, now: u64) {
        for (mark, attempt) in self.attempts.iter().enumerate() {
            let lost = attempt.fate == Fate::Acked && attempt.place.is_none();
            assert!(!lost || self.may_vanish(mark as u64, now), "acked, and nowhere to be read: {mark:x} {attempt:?}");
        }
    }
}

/// A record is read under the number that its ack has told.
pub fn check_told(told: Option<(u32, u64)>, shard: u32, number: &Number) {
    let Some(told) = told else { return };
    let read = SequenceNumber::parse(number.0.as_bytes()).expect("a number of the server's").number;
    assert!(told == (shard, read), "acked as {told:?}, read in {shard} as {read}");
}

impl World<'_> {
    /// A native client is being told what is durable.
    pub(super) fn check_natively(&self, id: net::Id, bytes: &[u8]) {
        let Some(client) = self.client_of(id) else { return };
        let Role::Native(role) = &self.clients[client].role else { return self.check_read_natively(id, bytes) };
        for mark in role.acked_by(bytes) {
            assert!(self.holds(mark), "an ack is sent before its record is durable: {mark:x}");
        }
    }
}

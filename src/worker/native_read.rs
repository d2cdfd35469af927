//! Reads and subscriptions of native clients, at the worker with the connection: what is asked for, from where, and how each ends.
//!
//! ```text
//!   Latest ─► Ready ─► Pulling ─► Arrived ─► (sent) ─► Ready … or Idle, without credit
//!               ▲         │  nothing is there: Pulling again, to wait
//!               └─ Moved ◄┘                                     all of them ─► Ended ─► Done, and free
//! ```
//!
//! A reader asks the owner of its shard for what comes next (`fanout.rs`), as a subscription of the Kinesis API does, and gets frames in a lent buffer
//! (`native_read_gather.rs`); `native_read_send.rs` sends it. **Memory:** of one connection two readers at most have asked for frames
//! that are there, and the first four may wait with a promise of some. All further ones only watch: they are told that there is something, and ask
//! for it when it is their turn. So a client that does not read holds six buffers at most, however many shards it is subscribed to, and what
//! it has not asked for waits in the log.

use super::Worker;
use super::event::{Mode, Who};
use super::fanout::{Letter, Outcome, Pull};
use super::latest::LatestRefusal;
use super::mailbox::NativeId;
use super::native::Phase;
use super::native_batch::{EXPIRED, GONE};
use crate::auth::ask::Resource;
use crate::catalog::state::StreamStatus;
use crate::io::buffers::Span;
use crate::io::op::Ops;
use crate::log::format::ShardKey;
use crate::native::message::{Header, Kind};
use crate::native::reading::{Credit, Done, LATEST, Want};
use crate::native::refusal::{Code, Fault};
use crate::observe::counter::Counter;
use std::collections::{BTreeMap, VecDeque};

/// What a user must be allowed to do with the stream.
pub(super) const READS: &str = "kinesis:GetRecords";
pub(super) const SUBSCRIBES: &str = "kinesis:SubscribeToShard";
/// Readers of a connection that may wait with a promise of frames; the others watch.
const PROMISED: usize = 4;
/// Readers of a connection that have asked for frames that are there, or have got some.
const FETCHES: usize = 2;

const MALFORMED: Fault = Fault { code: Code::Malformed, why: "The body of a message about reading is not one." };

/// A reader at the worker that has its connection. One that comes later on the same connection and shard has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderId {
    pub native: NativeId,
    pub shard: u32,
    pub number: u32,
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for the number that comes after the newest: it is to be asked for, or has been.
    Unasked,
    Latest,
    /// In the row of those that ask next.
    Ready,
    /// It has no credit.
    Idle,
    /// It has asked this worker.
    Pulling {
        mode: Mode,
        owner: u16,
    },
    /// It asks again when this change of the catalog has been applied here.
    Moved(u64),
    /// It has frames to be sent, or they are being sent.
    Arrived(Arrived),
    Sending,
    /// Its `Done` is to be said.
    Ended(Code),
}

/// Frames that have come, and what their owner says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub span: Span,
    pub next: u64,
    pub caught_up: bool,
    pub ends: bool,
    pub behind_ms: u64,
}

/// A read or a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub number: u32,
    pub subscribes: bool,
    /// First number that has not been sent; arrival (µs) below which nothing is wanted.
    pub next: u64,
    pub floor: u64,
    /// Bytes that may still be sent, and of a read records.
    pub credit: i64,
    pub records: u32,
    pub stage: Stage,
    /// Something has been sent; how far the last of it was behind; all that was durable when it was looked for has been.
    pub sent: bool,
    pub behind_ms: u64,
    pub caught_up: bool,
    /// It was told that there is something.
    news: bool,
    /// It ends as soon as it is known where it would begin.
    leaves: bool,
}

/// The readers of a connection, by the number of their shard.
#[derive(Default)]
pub(super) struct Readers {
    pub of: BTreeMap<u32, Reader>,
    /// In order: those that ask next, those with frames to be sent, those whose `Done` is to be said.
    ready: VecDeque<u32>,
    pub arrived: VecDeque<u32>,
    pub ended: VecDeque<u32>,
    /// Those that have asked for frames that are there, or have got some.
    fetching: usize,
    /// Some wait for the catalog, or for room at another worker.
    waits: bool,
    numbered: u32,
}

#[cfg(test)]
impl Reader {
    pub fn for_tests(subscribes: bool) -> Reader {
        Reader {
            number: 1,
            subscribes,
            next: 1,
            floor: 0,
            credit: 1,
            records: u32::MAX,
            stage: Stage::Ready,
            sent: false,
            behind_ms: 0,
            caught_up: false,
            news: false,
            leaves: false,
        }
    }
}

impl Readers {
    /// The reader's next step is to ask, or, without credit, to wait for some.
    fn set_ready(&mut self, shard: u32) {
        let Some(reader) = self.of.get_mut(&shard) else { return };
        match reader.credit > 0 {
            true => {
                reader.stage = Stage::Ready;
                self.ready.push_back(shard);
            }
            false => reader.stage = Stage::Idle,
        }
    }

    pub fn end(&mut self, shard: u32, code: Code) {
        let Some(reader) = self.of.get_mut(&shard) else { return };
        if !matches!(reader.stage, Stage::Ended(_)) {
            reader.stage = Stage::Ended(code);
            self.ended.push_back(shard);
        }
    }

    /// What it had asked for has come, has been sent, or is dropped.
    fn fetched(&mut self) {
        self.fetching -= 1;
    }
}

impl Worker {
    /// A `Read` or a `Subscribe`.
    pub(super) fn native_wants(&mut self, place: u16, header: &Header, body: Span, ops: &mut Ops) {
        let Some(want) = Want::decode(header, self.buffers.bytes(body)) else {
            return self.native_leave(place, MALFORMED);
        };
        let subscribes = header.kind == Kind::Subscribe;
        let code = match self.native_may_read(place, &want, subscribes) {
            Ok(()) => return self.native_reader_begins(place, &want, subscribes, ops),
            Err(fault) if matches!(fault.code, Code::StreamGone | Code::NotProved) => {
                return self.native_leave(place, fault);
            }
            Err(fault) => fault.code,
        };
        let done = Done { shard: want.shard, next: want.sequence, code: Ok(code), behind_ms: 0 };
        self.natives.slots[place as usize].due.done = Some(done);
    }

    fn native_may_read(&self, place: u16, want: &Want, subscribes: bool) -> Result<(), Fault> {
        let refused = |code| Err(Fault { code, why: "" });
        let native = &self.natives.slots[place as usize];
        let stream = self.state().stream_by_number(native.stream);
        let stream = stream.filter(|stream| stream.status != StreamStatus::Deleting).ok_or(GONE)?;
        if let (Some(table), Some(key)) = (self.gate.table(), native.key) {
            if !table.is_valid(key, self.now.wall.seconds()) {
                return Err(EXPIRED);
            }
            let action = if subscribes { SUBSCRIBES } else { READS };
            if self.authorize(native.socket, action, Resource::Stream(&stream.name)).is_err() {
                return refused(Code::Denied);
            }
        }
        if want.shard.stream() != native.stream || !stream.shards.contains_key(&want.shard.shard()) {
            return refused(Code::UnknownShard);
        }
        let readers = &native.readers.of;
        if readers.contains_key(&want.shard.shard()) {
            return refused(Code::ReaderBusy);
        }
        let most = self.limits.native_readers;
        if self.natives.readers >= most || readers.len() >= most / 2 {
            return refused(Code::ReadersFull);
        }
        Ok(())
    }

    fn native_reader_begins(&mut self, place: u16, want: &Want, subscribes: bool, ops: &mut Ops) {
        self.native_readers_count(1);
        let readers = &mut self.natives.slots[place as usize].readers;
        readers.numbered = readers.numbered.wrapping_add(1);
        let shard = want.shard.shard();
        let reader = Reader {
            number: readers.numbered,
            subscribes,
            next: want.sequence,
            floor: want.floor,
            credit: if subscribes { want.bytes as i64 } else { want.bytes.max(1) as i64 },
            records: if subscribes || want.records == 0 { u32::MAX } else { want.records },
            stage: Stage::Unasked,
            sent: false,
            behind_ms: 0,
            caught_up: false,
            news: false,
            leaves: false,
        };
        readers.of.insert(shard, reader);
        match want.sequence {
            LATEST => self.native_ask_latest(place, shard, ops),
            _ => readers.set_ready(shard),
        }
    }

    fn native_readers_count(&mut self, change: isize) {
        self.natives.readers = self.natives.readers.checked_add_signed(change).expect("each is counted once");
        self.counters.set(Counter::NativeReadersNow, self.natives.readers as u64);
    }

    fn native_ask_latest(&mut self, place: u16, shard: u32, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        let key = ShardKey::new(native.stream, shard);
        let Some(reader) = native.readers.of.get_mut(&shard) else { return };
        // Before it is asked for: it may be answered at once.
        reader.stage = Stage::Latest;
        let socket = native.socket;
        let Some(log) = self.state().shard(key).map(|shard| shard.log) else {
            return self.natives.slots[place as usize].readers.end(shard, Code::UnknownShard);
        };
        if !self.ask_latest(socket, key, log, ops) {
            let readers = &mut self.natives.slots[place as usize].readers;
            readers.of.get_mut(&shard).expect("nobody has answered").stage = Stage::Unasked;
            readers.waits = true;
            self.natives.wait(place);
        }
    }

    /// The number after the newest one that is durable; the shard may have moved, or its log have failed.
    pub(super) fn native_latest(&mut self, socket: u16, answer: Result<(ShardKey, u64), LatestRefusal>, ops: &mut Ops) {
        let Some(place) = self.natives.at(socket) else { return };
        let native = &mut self.natives.slots[place as usize];
        let shard = match &answer {
            Ok((shard, _)) | Err(LatestRefusal::Moved { shard, .. } | LatestRefusal::Lost { shard }) => shard.shard(),
        };
        let readers = &mut native.readers;
        let Some(reader) = readers.of.get_mut(&shard).filter(|reader| reader.stage == Stage::Latest) else { return };
        match answer {
            Ok((_, number)) => {
                (reader.next, reader.caught_up) = (number, true);
                match reader.leaves {
                    true => readers.end(shard, Code::Ended),
                    false => readers.set_ready(shard),
                }
            }
            Err(LatestRefusal::Lost { .. }) => readers.end(shard, Code::Unavailable),
            Err(LatestRefusal::Moved { .. }) => return self.native_ask_latest(place, shard, ops),
        }
        self.native_readers_go_on(place, ops);
    }

    pub(super) fn native_credit(&mut self, place: u16, header: &Header, body: Span) {
        let Some(credit) = Credit::decode(header, self.buffers.bytes(body)) else {
            return self.native_leave(place, MALFORMED);
        };
        let native = &mut self.natives.slots[place as usize];
        let shard = credit.shard.shard();
        let known = native.readers.of.get_mut(&shard).filter(|reader| reader.subscribes);
        let Some(reader) = known.filter(|_| credit.shard.stream() == native.stream) else { return };
        reader.credit = reader.credit.saturating_add(credit.bytes as i64);
        if reader.stage == Stage::Idle {
            native.readers.set_ready(shard);
        }
    }

    pub(super) fn native_unsubscribe(&mut self, place: u16, header: &Header, ops: &mut Ops) {
        let native = &mut self.natives.slots[place as usize];
        let shard = header.shard.shard();
        if header.shard.stream() != native.stream {
            return;
        }
        let Some(reader) = native.readers.of.get_mut(&shard) else { return };
        // What is being sent comes first; and where it would begin is not known yet.
        if matches!(reader.stage, Stage::Sending | Stage::Latest | Stage::Unasked) {
            reader.leaves = true;
            return;
        }
        self.native_reader_stops(place, shard, ops);
        self.natives.slots[place as usize].readers.end(shard, Code::Ended);
    }

    /// Takes from a reader what it has asked for, or got and not sent.
    fn native_reader_stops(&mut self, place: u16, shard: u32, ops: &mut Ops) {
        let id = self.natives.id(place);
        let native = &mut self.natives.slots[place as usize];
        let key = ShardKey::new(native.stream, shard);
        let readers = &mut native.readers;
        let Some(reader) = readers.of.get_mut(&shard) else { return };
        let (stage, number) = (std::mem::replace(&mut reader.stage, Stage::Idle), reader.number);
        match stage {
            Stage::Pulling { mode, owner } => {
                if mode == Mode::FramesNow {
                    readers.fetched();
                }
                // The pull keeps a place until it is answered.
                self.native_readers_count(1);
                self.forget_pull(owner, key, ReaderId { native: id, shard, number }, ops);
            }
            Stage::Arrived(arrived) => {
                readers.fetched();
                readers.arrived.retain(|of| *of != shard);
                self.release(arrived.span);
            }
            Stage::Ready => readers.ready.retain(|of| *of != shard),
            Stage::Ended(_) => reader.stage = stage,
            Stage::Unasked | Stage::Latest | Stage::Idle | Stage::Moved(_) | Stage::Sending => {}
        }
    }

    /// The connection ends: nothing of what its readers have asked for will be sent.
    pub(super) fn native_readers_drop(&mut self, place: u16, ops: &mut Ops) {
        let shards: Vec<u32> = self.natives.slots[place as usize].readers.of.keys().copied().collect();
        shards.iter().for_each(|shard| self.native_reader_stops(place, *shard, ops));
        self.native_readers_count(-(shards.len() as isize));
        let numbered = self.natives.slots[place as usize].readers.numbered;
        self.natives.slots[place as usize].readers = Readers { numbered, ..Readers::default() };
    }

    /// Lets those ask whose turn it is.
    pub(super) fn native_readers_pull(&mut self, place: u16) {
        if !self.natives.slots[place as usize].is_open() {
            return;
        }
        for _ in 0..self.natives.slots[place as usize].readers.ready.len() {
            let readers = &mut self.natives.slots[place as usize].readers;
            let Some(shard) = readers.ready.pop_front() else { break };
            let Some(reader) = readers.of.get(&shard).filter(|reader| reader.stage == Stage::Ready) else { continue };
            let few = readers.of.len() <= PROMISED;
            let mode = match (reader.subscribes, reader.caught_up && !reader.news) {
                (true, _) if few => Mode::Frames,
                (true, true) => Mode::Watch,
                _ => Mode::FramesNow,
            };
            if mode == Mode::FramesNow && readers.fetching >= FETCHES {
                readers.ready.push_front(shard);
                break;
            }
            self.native_reader_pulls(place, shard, mode);
        }
    }

    fn native_reader_pulls(&mut self, place: u16, shard: u32, mode: Mode) {
        let native = self.natives.id(place);
        let stream = self.natives.slots[place as usize].stream;
        let key = ShardKey::new(stream, shard);
        let reader = self.natives.slots[place as usize].readers.of[&shard];
        let state = self.state();
        let Some(held) = state.shard(key) else { return self.native_reader_orphaned(place, shard) };
        let part = held.part_from(reader.next, reader.floor.max(self.horizon(stream)));
        let pull = Pull {
            who: Who::Reader(ReaderId { native, shard, number: reader.number }),
            mode,
            bytes: reader.credit.clamp(1, u32::MAX as i64) as u32,
            records: reader.records,
            shard: key,
            log: part.log,
            sequence: reader.next.max(part.first),
            floor: reader.floor,
            seen: state.applied,
        };
        let owner = self.owner_of(part.log);
        let readers = &mut self.natives.slots[place as usize].readers;
        readers.fetching += (mode == Mode::FramesNow) as usize;
        readers.of.get_mut(&shard).expect("looked at above").stage = Stage::Pulling { mode, owner };
        match owner == self.id {
            true => self.pulled(owner, pull),
            false => self.fanout.owe(owner, Letter::Pull(pull)),
        }
    }

    /// There is no such shard any more: with its stream gone the connection ends.
    fn native_reader_orphaned(&mut self, place: u16, shard: u32) {
        let native = &mut self.natives.slots[place as usize];
        native.readers.end(shard, Code::UnknownShard);
        let stream = native.stream;
        self.natives.stir(place);
        self.native_readers_follow(stream);
    }

    /// What a pull has come to.
    pub(super) fn reader_outcome(&mut self, id: ReaderId, outcome: Outcome, ops: &mut Ops) {
        let ReaderId { native: NativeId { place, .. }, shard, number } = id;
        let there = self.natives.id(place) == id.native;
        let readers = &mut self.natives.slots[place as usize].readers;
        let known = readers.of.get_mut(&shard).filter(|reader| there && reader.number == number);
        let pulling = known.as_ref().and_then(|reader| match reader.stage {
            Stage::Pulling { mode, .. } => Some(mode),
            _ => None,
        });
        let (Some(reader), Some(mode)) = (known, pulling) else {
            self.native_readers_count(-1);
            if let Outcome::Frames { span, .. } = outcome {
                self.release(span);
            }
            return;
        };
        reader.news = matches!(outcome, Outcome::News);
        let brings = matches!(outcome, Outcome::Frames { .. });
        match (mode == Mode::FramesNow, brings) {
            (true, false) => readers.fetching -= 1,
            (false, true) => readers.fetching += 1,
            _ => {}
        }
        match outcome {
            Outcome::Frames { span, next, caught_up, ends, behind_ms } => {
                reader.stage = Stage::Arrived(Arrived { span, next, caught_up, ends, behind_ms });
                readers.arrived.push_back(shard);
            }
            Outcome::Nothing { next, caught_up, ends } => {
                (reader.next, reader.caught_up) = (reader.next.max(next), caught_up);
                match (ends, caught_up && !reader.subscribes) {
                    (true, _) => readers.end(shard, Code::ShardClosed),
                    (_, true) => readers.end(shard, Code::Ended),
                    _ => readers.set_ready(shard),
                }
            }
            Outcome::News => readers.set_ready(shard),
            Outcome::Moved { change, next } => {
                (reader.next, reader.stage) = (reader.next.max(next), Stage::Moved(change));
                readers.waits = true;
                self.natives.wait(place);
            }
            Outcome::Gone => return self.native_reader_orphaned(place, shard),
            Outcome::Failed(_) => readers.end(shard, Code::Unavailable),
            Outcome::Unreadable { next } => {
                reader.next = reader.next.max(next);
                readers.end(shard, Code::Unreadable);
            }
            Outcome::Event { .. } => unreachable!("a reader asks for frames"),
        }
        self.native_readers_go_on(place, ops);
    }

    /// Sends what has come and asks for more.
    pub(super) fn native_readers_go_on(&mut self, place: u16, ops: &mut Ops) {
        self.native_flush(place, ops);
        self.native_readers_pull(place);
    }

    /// Some wait for a change of the catalog, or for room at another worker.
    pub(super) fn native_readers_retry(&mut self, place: u16, ops: &mut Ops) {
        if !std::mem::take(&mut self.natives.slots[place as usize].readers.waits) {
            return;
        }
        let applied = self.state().applied;
        let readers = &mut self.natives.slots[place as usize].readers;
        let mut unasked = Vec::new();
        let mut ready = Vec::new();
        for (shard, reader) in &readers.of {
            match reader.stage {
                Stage::Unasked => unasked.push(*shard),
                Stage::Moved(change) if change <= applied => ready.push(*shard),
                Stage::Moved(_) => readers.waits = true,
                _ => {}
            }
        }
        ready.into_iter().for_each(|shard| readers.set_ready(shard));
        if readers.waits {
            self.natives.wait(place);
        }
        for shard in unasked {
            self.native_ask_latest(place, shard, ops);
        }
    }

    /// A frame or more of a reader have been sent.
    pub(super) fn native_reader_sent(&mut self, place: u16, shard: u32, arrived: &Arrived) {
        let readers = &mut self.natives.slots[place as usize].readers;
        let Some(reader) = readers.of.get_mut(&shard).filter(|reader| reader.stage == Stage::Sending) else { return };
        let met = !reader.subscribes && (reader.credit <= 0 || reader.records == 0 || arrived.caught_up);
        let code = match reader.leaves {
            true => Some(Code::Ended),
            false if arrived.ends => Some(Code::ShardClosed),
            false => met.then_some(Code::Ended),
        };
        reader.caught_up = arrived.caught_up;
        readers.fetched();
        match code {
            Some(code) => readers.end(shard, code),
            None => readers.set_ready(shard),
        }
    }

    /// A `Done` has been written: its reader's place is free.
    pub(super) fn native_reader_done(&mut self, place: u16, shard: u32) {
        if self.natives.slots[place as usize].readers.of.remove(&shard).is_some() {
            self.native_readers_count(-1);
        }
    }

    /// A stream has changed for readers: where it has gone, its connections with readers end.
    pub(super) fn native_readers_follow(&mut self, stream: u32) {
        let status = self.state().stream_by_number(stream).map(|stream| stream.status);
        if status.is_some_and(|status| status != StreamStatus::Deleting) {
            return;
        }
        for place in 0..self.natives.slots.len() as u16 {
            let native = &self.natives.slots[place as usize];
            if native.is_open() && native.stream == stream && !native.readers.of.is_empty() {
                self.native_leave(place, GONE);
            }
        }
    }

    /// Whether those who read still may. Once a second.
    pub(super) fn native_readers_ask(&mut self, place: u16, ops: &mut Ops) {
        let native = &self.natives.slots[place as usize];
        let (Some(table), Some(key)) = (self.gate.table(), native.key) else { return };
        if native.phase != Phase::Open || native.readers.of.is_empty() {
            return;
        }
        if !table.is_valid(key, self.now.wall.seconds()) {
            return self.native_leave(place, EXPIRED);
        }
        let (socket, stream) = (native.socket, native.stream);
        let denied = |action: &str| {
            let stream = self.state().stream_by_number(stream);
            stream.is_some_and(|stream| self.weigh(socket, action, Resource::Stream(&stream.name), None).is_err())
        };
        // Reads end by themselves, soon.
        if !denied(SUBSCRIBES) {
            return;
        }
        let subscribed = native.readers.of.iter().filter(|(_, reader)| reader.subscribes);
        for shard in subscribed.map(|(shard, _)| *shard).collect::<Vec<_>>() {
            let readers = &mut self.natives.slots[place as usize].readers;
            if readers.of[&shard].stage == Stage::Sending {
                readers.of.get_mut(&shard).expect("just seen").leaves = true;
                continue;
            }
            self.native_reader_stops(place, shard, ops);
            self.natives.slots[place as usize].readers.end(shard, Code::Denied);
        }
        self.natives.stir(place);
    }
}

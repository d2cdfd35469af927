//! PutRecord and PutRecords, from a whole request to its frames and back to its answer.
//!
//! A put is scanned and routed at the worker that has the connection. Frames for its own logs are decoded straight into log memory, those
//! for others into one lent buffer, which each owner copies from once. The answer is written when every frame has been appended or
//! refused, and all that were appended are durable.

use super::Worker;
use super::append::{Appended, Pending};
use super::mailbox::{ConnectionId, PutId, PutRefusal};
use super::serve::Reply;
use crate::catalog::state::{Stream, StreamStatus};
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::kinesis::base64;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::object::Encoding;
use crate::kinesis::put_diagnosis::{self, Shape};
use crate::kinesis::put_scan::Scan;
use crate::kinesis::sequence::Run;
use crate::limits::{RECORDS_PER_REQUEST_MAX, SHARDS_PER_STREAM_MAX};
use crate::log::format::{self, Entry, Position, ShardKey};
use std::collections::VecDeque;

/// A put must be answered this long after it began: what is not stored by then is refused, and what may be is called a failure.
const PUT_MS: u64 = 20_000;

/// Where a record of a put went.
#[derive(Clone, Copy, Default)]
pub struct Place {
    pub frame: u16,
    /// Its place in the frame.
    pub ordinal: u16,
    /// The next record of the same frame; `u16::MAX`: none.
    next: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameState {
    /// For another worker: waits for a buffer to lend, or for room at that worker.
    Unlent,
    /// Waits at its owner.
    Asked,
    /// Durable when `log` is durable below `position`.
    Appended {
        first: u64,
        arrival: u64,
        position: Position,
    },
    Refused(PutRefusal),
    /// Its records were routed again, to later frames.
    Rerouted,
}

/// The records of a put that go to one shard.
#[derive(Clone, Copy)]
pub struct Frame {
    pub shard: ShardKey,
    /// Index of the shard's route when the frame was made.
    route: u16,
    pub log: u32,
    /// Creation second of the shard.
    pub created: u64,
    pub count: u16,
    pub payload: u32,
    head: u16,
    tail: u16,
    pub state: FrameState,
}

impl Frame {
    pub fn body(&self) -> usize {
        format::body_size(self.payload as usize, self.count as usize)
    }
}

/// One put under way.
pub struct Put {
    pub scan: Scan,
    single: bool,
    /// Whom to answer; `None` once that has been done.
    pub(super) connection: Option<ConnectionId>,
    text: Span,
    stream: u32,
    pub frames: Vec<Frame>,
    pub places: Vec<Place>,
    /// Frames without an answer of their owner.
    unresolved: usize,
    /// Waits for durability.
    pub undurable: usize,
    /// The buffer of remote frames, and how many of them still read it.
    pub(super) lent: Option<(Span, usize)>,
    /// Whether it is in [`Puts::unlent`].
    pub(super) waits_to_lend: bool,
    deadline: Mono,
}

/// The puts of a worker.
pub struct Puts {
    pub slots: Vec<Put>,
    free: Vec<u16>,
    /// Connections whose put waits for a slot, in order.
    queue: VecDeque<ConnectionId>,
    /// Frame of the put being routed, by index of the route; `u16::MAX`: none yet.
    frame_of_route: Vec<u16>,
    pub entries: Vec<Entry>,
    /// The sequence numbers of each frame of the put that is being answered; `None`: it was not appended.
    pub runs: Vec<Option<Run>>,
    /// Settled puts that found no buffer for their answer.
    unanswered: VecDeque<PutId>,
    /// Frames to route again when the catalog has come to a change: (put, frame, change).
    moved: VecDeque<(PutId, u16, u64)>,
    /// Puts with frames that could not be lent yet.
    pub(super) unlent: VecDeque<PutId>,
}

impl Puts {
    pub fn new(slots: usize, connections: usize) -> Puts {
        let put = || Put {
            scan: Scan::new(),
            single: false,
            connection: None,
            text: Span { worker: 0, pool: crate::io::buffers::Pool::Connection, slot: 0, at: 0, len: 0 },
            stream: 0,
            frames: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            places: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            unresolved: 0,
            undurable: 0,
            lent: None,
            waits_to_lend: false,
            deadline: Mono(u64::MAX),
        };
        Puts {
            slots: (0..slots).map(|_| put()).collect(),
            free: (0..slots as u16).rev().collect(),
            queue: VecDeque::with_capacity(connections),
            frame_of_route: vec![u16::MAX; SHARDS_PER_STREAM_MAX],
            entries: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            runs: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            unanswered: VecDeque::with_capacity(slots),
            moved: VecDeque::with_capacity(slots),
            unlent: VecDeque::with_capacity(slots),
        }
    }

    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Writes the body of frame `frame` of put `id`: payload, then index.
    pub fn fill(&mut self, id: PutId, frame: u16, buffers: &mut Buffers, to: Span) {
        let put = &self.slots[id.0 as usize];
        let (text, out) = buffers.pair(put.text, to);
        self.entries.clear();
        let mut at = 0usize;
        let mut record = put.frames[frame as usize].head;
        while record != u16::MAX {
            let r = &put.scan.records[record as usize];
            let (key, data) = (r.key.of(text), r.data_len as usize);
            out[at..at + key.len()].copy_from_slice(key);
            self.entries.push(Entry::new(at as u32, Some(key.len() as u16), r.data_len));
            at += key.len();
            match put.scan.encoding {
                Encoding::Json => base64::decode_into(r.text.of(text), &mut out[at..at + data]),
                Encoding::Cbor => out[at..at + data].copy_from_slice(r.text.of(text)),
            }
            at += data;
            record = put.places[record as usize].next;
        }
        format::write_index(out, at, &self.entries);
    }
}

impl Worker {
    /// Takes up the put in the request of connection `slot`, or queues it until a slot of the puts is free.
    pub(super) fn put_begin(&mut self, slot: u16, single: bool, ops: &mut Ops) {
        let connection = self.connections.id(slot);
        let Some(index) = self.puts.free.pop() else {
            self.puts.queue.push_back(connection);
            return;
        };
        let (text, encoding) = (self.body_of(slot), self.connections.slots[slot as usize].encoding);
        let put = &mut self.puts.slots[index as usize];
        (put.single, put.connection, put.text) = (single, Some(connection), text);
        (put.unresolved, put.undurable, put.lent) = (0, 0, None);
        put.frames.clear();
        put.places.clear();
        put.deadline = self.now.mono.plus_ms(PUT_MS);
        let text = self.buffers.bytes_mut(text);
        let shape = if single { Shape::One } else { Shape::Many };
        let scanned = put.scan.scan(encoding, text, shape);
        let id = PutId(index);
        match scanned.and_then(|()| self.put_check(id)) {
            Err(error) => {
                self.put_free(id);
                self.reply(slot, Reply::error(&error), ops);
            }
            Ok(()) => {
                // From here on the put's own deadline counts: its text stays until it is settled, or not read any more.
                self.connections.slots[slot as usize].deadline = Mono(u64::MAX);
                self.put_route_all(id);
                self.put_hand_out(id, 0, ops);
            }
        }
    }

    /// Lets queued puts begin, as far as slots are free.
    pub(super) fn put_queued(&mut self, ops: &mut Ops) {
        while !self.puts.free.is_empty() {
            let Some(connection) = self.puts.queue.pop_front() else { return };
            if !self.connections.awaits(connection) {
                continue;
            }
            let single = self.is_single_put(connection.slot);
            self.put_begin(connection.slot, single, ops);
        }
    }

    fn put_free(&mut self, id: PutId) {
        let put = &mut self.puts.slots[id.0 as usize];
        put.connection = None;
        put.deadline = Mono(u64::MAX);
        self.puts.free.push(id.0);
    }

    /// The checks that need the catalog: stream, size of records, the ordering number.
    fn put_check(&mut self, id: PutId) -> Result<(), Error> {
        let put = &self.puts.slots[id.0 as usize];
        let text = self.buffers.bytes(put.text);
        let part = |extent: Option<crate::kinesis::put_scan::Extent>| extent.map(|e| e.text(text));
        let slot = put.connection.expect("it has just begun").slot;
        let action = if put.single { "kinesis:PutRecord" } else { "kinesis:PutRecords" };
        let stream = self.permitted_stream(slot, action, part(put.scan.stream), part(put.scan.arn))?;
        if let Some(hash) = part(put.scan.beyond_hashes) {
            return Err(put_diagnosis::beyond_hashes(hash));
        }
        let (number, most) = (stream.number, stream.max_record_kib as usize * 1024);
        for (at, r) in put.scan.records.iter().enumerate() {
            let size = r.key.len as usize + r.data_len as usize;
            if size > most {
                return Err(too_large(put.single, at, size, most));
            }
        }
        if let Some(ordering) = put.scan.ordering {
            let text = ordering.text(text);
            crate::kinesis::put_record::check_ordering(text, &stream.name, &self.identity, self.now.wall)?;
        }
        if put.scan.dry_run {
            return Err(Error::new(Kind::DryRunOperation, "Request would have succeeded, but DryRun flag is set."));
        }
        self.puts.slots[id.0 as usize].stream = number;
        Ok(())
    }

    /// Every record to its shard; one frame for each shard touched.
    fn put_route_all(&mut self, id: PutId) {
        let count = self.puts.slots[id.0 as usize].scan.records.len() as u16;
        self.puts.slots[id.0 as usize].places.resize(count as usize, Place::default());
        let state = if let Some(control) = &self.control { control.catalog.state() } else { &self.view };
        let Puts { slots, frame_of_route, .. } = &mut self.puts;
        let put = &mut slots[id.0 as usize];
        let stream = state.stream_by_number(put.stream).expect("the stream was found in this turn");
        for record in 0..count {
            put.route(record, stream, frame_of_route);
        }
        self.put_routed(id, 0);
    }

    /// Forgets which frames the routes had, for the next put.
    fn put_routed(&mut self, id: PutId, from: usize) {
        for frame in &self.puts.slots[id.0 as usize].frames[from..] {
            self.puts.frame_of_route[frame.route as usize] = u16::MAX;
        }
    }

    /// Gives the frames from `from` on to their owners.
    fn put_hand_out(&mut self, id: PutId, from: usize, ops: &mut Ops) {
        let frames = self.puts.slots[id.0 as usize].frames.len();
        self.puts.slots[id.0 as usize].unresolved += frames - from;
        let deadline = self.puts.slots[id.0 as usize].deadline;
        for frame in from..frames {
            match self.log_index(self.puts.slots[id.0 as usize].frames[frame].log) {
                Some(_) => self.append_or_wait(Pending::Local { put: id, frame: frame as u16, deadline }),
                None => self.puts.slots[id.0 as usize].frames[frame].state = FrameState::Unlent,
            }
        }
        self.put_lend(id);
        self.put_progress(id, ops);
    }

    /// Frame `frame` is in log `log`, which is another than it was routed to where its shard has moved meanwhile without leaving its owner;
    /// the put waits until it is durable.
    pub(super) fn frame_appended(&mut self, id: PutId, frame: u16, appended: Appended) {
        let Appended { log, first, arrival, position } = appended;
        let put = &mut self.puts.slots[id.0 as usize];
        let f = &mut put.frames[frame as usize];
        f.log = log;
        f.state = FrameState::Appended { first, arrival, position };
        put.unresolved -= 1;
        if self.acks.wait(f.log, position, id) {
            put.undurable += 1;
        }
    }

    pub(super) fn frame_refused(&mut self, id: PutId, frame: u16, why: PutRefusal) {
        if let PutRefusal::Moved { change } = why {
            self.puts.moved.push_back((id, frame, change));
            return;
        }
        let put = &mut self.puts.slots[id.0 as usize];
        put.frames[frame as usize].state = FrameState::Refused(why);
        put.unresolved -= 1;
    }

    /// Routes again what owners did not have any more, as soon as this worker knows as much as they did.
    pub(super) fn put_moved(&mut self, ops: &mut Ops) {
        for _ in 0..self.puts.moved.len() {
            let Some((id, frame, change)) = self.puts.moved.pop_front() else { return };
            // One buffer is lent at a time: a frame that another worker may get waits until the owners have copied the others.
            if self.state().applied < change || self.puts.slots[id.0 as usize].lent.is_some() {
                self.puts.moved.push_back((id, frame, change));
                continue;
            }
            let stream = self.puts.slots[id.0 as usize].stream;
            // While a stream is being deleted its owners refuse at once: asking again would go round in circles until it is gone.
            let gone = self.state().stream_by_number(stream).is_none_or(|s| s.status == StreamStatus::Deleting);
            if gone || self.puts.slots[id.0 as usize].connection.is_none() {
                self.frame_refused(id, frame, PutRefusal::Failed);
                self.put_progress(id, ops);
                continue;
            }
            self.put_reroute(id, frame, ops);
        }
    }

    fn put_reroute(&mut self, id: PutId, frame: u16, ops: &mut Ops) {
        let state = if let Some(control) = &self.control { control.catalog.state() } else { &self.view };
        let Puts { slots, frame_of_route, .. } = &mut self.puts;
        let put = &mut slots[id.0 as usize];
        let stream = state.stream_by_number(put.stream).expect("the caller has looked");
        put.frames[frame as usize].state = FrameState::Rerouted;
        put.unresolved -= 1;
        let from = put.frames.len();
        let mut record = put.frames[frame as usize].head;
        while record != u16::MAX {
            let next = put.places[record as usize].next;
            put.route(record, stream, frame_of_route);
            record = next;
        }
        self.put_routed(id, from);
        self.put_hand_out(id, from, ops);
    }

    /// Answers the put if everything about it is settled.
    pub(super) fn put_progress(&mut self, id: PutId, ops: &mut Ops) {
        let put = &self.puts.slots[id.0 as usize];
        if put.unresolved > 0 || put.undurable > 0 {
            return;
        }
        let connection = put.connection;
        match connection {
            Some(connection) if !self.put_answer(id, connection, ops) => self.puts.unanswered.push_back(id),
            _ => self.put_free(id),
        }
    }

    /// Tries again to answer what found no buffer.
    pub(super) fn put_unanswered(&mut self, ops: &mut Ops) {
        for _ in 0..self.puts.unanswered.len() {
            let Some(id) = self.puts.unanswered.pop_front() else { return };
            self.put_progress(id, ops);
        }
    }

    /// Refuses what has waited too long. Once a second.
    pub(super) fn sweep_puts(&mut self, ops: &mut Ops) {
        for index in 0..self.puts.slots.len() {
            let put = &mut self.puts.slots[index];
            if put.deadline >= self.now.mono {
                continue;
            }
            put.deadline = Mono(u64::MAX);
            if let Some(connection) = put.connection.take() {
                let error = Error::new(
                    Kind::InternalFailure,
                    "The records were not durable in time; they may be stored or not.",
                );
                self.reply(connection.slot, Reply::error(&error), ops);
            }
        }
    }

    pub(super) fn put_of(&self, id: PutId) -> &Put {
        &self.puts.slots[id.0 as usize]
    }
}

impl Put {
    /// Puts record `record` into the frame that `frame_of_route` has for its shard, or into a new one.
    fn route(&mut self, record: u16, stream: &Stream, frame_of_route: &mut [u16]) {
        let scanned = &self.scan.records[record as usize];
        let route = stream.routes.index(scanned.hash).expect("routes cover every hash");
        let slot = &mut frame_of_route[route];
        if *slot == u16::MAX {
            *slot = self.frames.len() as u16;
            let shard = &stream.shards[&stream.routes.table().1[route]];
            self.frames.push(Frame {
                shard: ShardKey::new(self.stream, shard.number),
                route: route as u16,
                log: shard.log,
                created: shard.created,
                count: 0,
                payload: 0,
                head: u16::MAX,
                tail: u16::MAX,
                state: FrameState::Asked,
            });
        }
        let frame = &mut self.frames[*slot as usize];
        self.places[record as usize] = Place { frame: *slot, ordinal: frame.count, next: u16::MAX };
        match frame.tail {
            u16::MAX => frame.head = record,
            tail => self.places[tail as usize].next = record,
        }
        frame.tail = record;
        frame.count += 1;
        frame.payload += scanned.key.len + scanned.data_len;
    }

    /// Frames that wait to be lent.
    pub(super) fn unlent(&self) -> impl Iterator<Item = (u16, &Frame)> {
        let numbered = self.frames.iter().enumerate().map(|(number, frame)| (number as u16, frame));
        numbered.filter(|(_, frame)| frame.state == FrameState::Unlent)
    }

    pub fn single(&self) -> bool {
        self.single
    }
    /// Whether somebody still waits for its answer; if not, its text may be gone.
    pub fn is_awaited(&self) -> bool {
        self.connection.is_some()
    }
    pub fn stream(&self) -> u32 {
        self.stream
    }
}

fn too_large(single: bool, at: usize, size: usize, most: usize) -> Error {
    let which = if single { "The record".to_string() } else { format!("Record {}", at + 1) };
    let text = format!("{which} is too large: data and partition key have {size} bytes, the stream takes {most}.");
    Error::new(Kind::InvalidArgument, text)
}

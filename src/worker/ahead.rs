//! What cold readers have ahead of the calls that want it.
//!
//! **Between calls.** A GetRecords call that a limit ends leaves its reader to the next one of the same consumer: its place, the runs around it and
//! which of them are damaged, and what was read and has not been returned yet. A kept reader pins nothing and its buffer is free, only taken last
//! (`Buffers::park`): nobody waits or is refused because of it. What it knows may be old, and every answer is right all the same:
//!
//! * The segment has gone, by expiry, trimming or relocation, or its file is used again: place, bytes and reads on their way carry the incarnation,
//!   which is never given twice. The reader finds no such segment, and looks its number up.
//! * Its records were moved: the copies stay until the segment goes, and are the same. Where they have been damaged since, the reader sees
//!   that another segment owns the number, and goes there.
//! * A half of a mirror was repaired, or the bytes are those of before a repair: whatever a kept reader finds damaged, a new one looks for.
//! * Records have expired: the floor is each call's own, and each record is compared with it.
//! * The shard has moved, ended or gone: each call asks the catalog first, and stops at the last number of the part. A kept reader belongs to one log,
//!   and to one number.
//!
//! **Read-ahead.** For a consumer that has come back, or a call that will need more, the read behind the one that is being encoded is on its way
//! already: one for each reader, a few for a worker, as commits queue at the same device. While it is on its way its buffer is in use; when it
//! has come it is parked. It counts for the call that uses it; a call that wants it while it is on its way waits for it.

use super::Worker;
use super::get::GET_TOKEN;
use super::mailbox::GetCall;
use crate::io::buffers::{Parked, Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::{Errno, Op, Ops, Token};
use crate::log::format::ShardKey;
use crate::log::reader::{Asked, Reader};
use crate::observe::counter::Counter;
use std::collections::BTreeMap;

/// A consumer that has not come back for so long reads something else, or waits for more to come.
const UNUSED_MS: u64 = 5_000;

/// Where the next call has to go on to get a kept reader: shard, log, number.
type Place = (ShardKey, u32, u64);

/// Reads ahead of a worker that are on their way.
const IN_FLIGHT_MAX: usize = 8;

/// Marks the tokens of reads ahead.
const AHEAD_BIT: u64 = 1 << 32;

/// A reader without a call.
struct Kept {
    reader: Reader,
    /// What its last read brought.
    read: Option<Parked>,
    ahead: Option<Ahead>,
    since: Mono,
}

/// A read ahead of its reader.
pub(super) struct Ahead {
    asked: Asked,
    state: State,
}

enum State {
    /// Its place among those on their way.
    InFlight(usize),
    /// So many bytes have come.
    Landed(Parked, u32),
}

/// A read ahead on its way, and who has it.
struct Flight {
    asked: Asked,
    span: Span,
    holder: Holder,
}

enum Holder {
    Call(usize),
    Kept(Place),
    /// Who had it does not want it any more.
    Nobody,
}

/// What became of a read that a call wants.
pub(super) enum Wanted {
    /// It was not read ahead.
    NotYet,
    OnItsWay,
    /// It is in the call's buffer: so many bytes.
    Here(u32),
}

/// Readers without a call, and reads ahead on their way.
pub struct Aheads {
    kept: BTreeMap<Place, Kept>,
    most: usize,
    flights: [Option<Flight>; IN_FLIGHT_MAX],
}

impl Aheads {
    /// Keeps at most `most` readers.
    pub fn new(most: usize) -> Aheads {
        Aheads { kept: BTreeMap::new(), most, flights: Default::default() }
    }

    pub fn in_flight(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    fn hand_over(&mut self, ahead: &Option<Ahead>, holder: Holder) {
        if let Some(Ahead { state: State::InFlight(flight), .. }) = ahead {
            self.flights[*flight].as_mut().expect("it is on its way").holder = holder;
        }
    }
}

impl Worker {
    /// The reader that a call has left which ended where this one, at `slot`, begins: with the buffer that it read into, and its read ahead.
    pub(super) fn get_resumed(&mut self, call: &GetCall, slot: usize) -> Option<(Reader, Option<Span>, Option<Ahead>)> {
        let kept = self.gets.aheads.kept.remove(&(call.shard, call.log, call.sequence))?;
        let Kept { mut reader, read, ahead, .. } = kept;
        self.counters.add(Counter::ReadersResumed, 1);
        let read = read.and_then(|read| self.buffers.unpark(read));
        if read.is_none() {
            reader.forget_bytes();
        }
        self.gets.aheads.hand_over(&ahead, Holder::Call(slot));
        Some((reader, read, ahead))
    }

    /// Keeps the reader of a call that ends where the next one goes on, if it has read from segments.
    pub(super) fn get_keep(&mut self, slot: usize, ops: &mut Ops) {
        if self.gets.slots[slot].as_ref().is_some_and(|get| get.follows) {
            self.get_look_ahead(slot, ops);
        }
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        if get.read.is_none() || !get.reader.goes_on_from(get.next) {
            return;
        }
        let place = (get.call.shard, get.call.log, get.next);
        let reader = std::mem::replace(&mut get.reader, Reader::new(get.call.shard, get.next));
        let read = get.read.take().map(|span| self.buffers.park(span));
        let kept = Kept { reader, read, ahead: get.ahead.take(), since: self.now.mono };
        let all = &self.gets.aheads.kept;
        if all.len() == self.gets.aheads.most && !all.contains_key(&place) {
            let oldest = all.iter().min_by_key(|(_, kept)| kept.since).map(|(place, _)| *place);
            oldest.into_iter().for_each(|place| self.forget_reader(place));
        }
        self.forget_reader(place);
        self.gets.aheads.hand_over(&kept.ahead, Holder::Kept(place));
        self.gets.aheads.kept.insert(place, kept);
    }

    /// Forgets readers whose consumers have not come back. Once a second.
    pub(super) fn forget_readers(&mut self) {
        let unused = |kept: &Kept| kept.since.plus_ms(UNUSED_MS) <= self.now.mono;
        let kept = self.gets.aheads.kept.iter();
        let gone: Vec<Place> = kept.filter(|(_, kept)| unused(kept)).map(|(place, _)| *place).collect();
        gone.into_iter().for_each(|place| self.forget_reader(place));
    }

    fn forget_reader(&mut self, place: Place) {
        let Some(kept) = self.gets.aheads.kept.remove(&place) else { return };
        self.forget_parked(kept.read);
        self.drop_ahead(kept.ahead);
    }

    /// Its bytes are not worth more than any others any more.
    fn forget_parked(&mut self, parked: Option<Parked>) {
        let span = parked.and_then(|parked| self.buffers.unpark(parked));
        span.into_iter().for_each(|span| self.buffers.give(span));
    }

    /// Nobody wants this read ahead any more.
    pub(super) fn drop_ahead(&mut self, ahead: Option<Ahead>) {
        self.gets.aheads.hand_over(&ahead, Holder::Nobody);
        if let Some(Ahead { asked, state: State::Landed(parked, _) }) = ahead {
            self.counters.add(Counter::ColdReadBytesUnused, asked.len as u64);
            self.forget_parked(Some(parked));
        }
    }

    /// Emits the read that comes behind what a call is at, if it is worth it, and if nobody else wants for a buffer; whether it has.
    pub(super) fn get_look_ahead(&mut self, slot: usize, ops: &mut Ops) -> bool {
        let get = self.gets.slots[slot].as_ref().expect("a call under way");
        if get.ahead.is_some() || !get.needs_more() || self.gets.is_hungry() {
            return false;
        }
        let spare = self.buffers.available(Pool::Medium) * 2 > self.buffers.slots(Pool::Medium) as usize;
        let free = self.gets.aheads.flights.iter().position(Option::is_none).filter(|_| spare);
        let (Some(flight), Some(log)) = (free, self.log_index(get.call.log)) else { return false };
        let asked = get.reader.ahead(&self.logs[log], &self.buffers);
        let Some(asked) = asked.filter(|asked| asked.len <= self.buffers.slot_size(Pool::Medium)) else { return false };
        let span = self.buffers.take(Pool::Medium).expect("looked at above").first(asked.len);
        let token = Token((GET_TOKEN as u64) << 56 | AHEAD_BIT | flight as u64);
        ops.push(Op::ReadAt { file: asked.file, at: asked.at as u64, into: span, token });
        self.gets.aheads.flights[flight] = Some(Flight { asked, span, holder: Holder::Call(slot) });
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        get.ahead = Some(Ahead { asked, state: State::InFlight(flight) });
        true
    }

    /// A read ahead is over, if `token` is one's; one that failed is asked for again by whoever needs it.
    pub(super) fn is_read_ahead(&mut self, token: Token, result: Result<u32, Errno>, ops: &mut Ops) -> bool {
        if token.0 & AHEAD_BIT == 0 {
            return false;
        }
        let flight = self.gets.aheads.flights[(token.0 & 0xff) as usize].take();
        let Flight { asked, span, holder } = flight.expect("it was on its way");
        let wanted = !matches!(holder, Holder::Nobody);
        let ahead = match result {
            Ok(bytes) if wanted => Some(Ahead { asked, state: State::Landed(self.buffers.park(span), bytes) }),
            _ => {
                self.counters.add(Counter::ColdReadBytesUnused, asked.len as u64);
                self.buffers.give(span);
                None
            }
        };
        match holder {
            Holder::Nobody => {}
            Holder::Kept(place) => self.gets.aheads.kept.get_mut(&place).expect("it has the read").ahead = ahead,
            Holder::Call(slot) => {
                self.gets.slots[slot].as_mut().expect("it has the read").ahead = ahead;
                // If it waits for it.
                self.get_read(slot, ops);
            }
        }
        true
    }

    /// Looks for a read that a call wants among what was read ahead for it; what was read in vain is dropped.
    pub(super) fn get_from_ahead(&mut self, slot: usize, wanted: Asked) -> Wanted {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        match get.ahead.take() {
            Some(ahead) if ahead.asked != wanted => {
                self.drop_ahead(Some(ahead));
                Wanted::NotYet
            }
            Some(ahead @ Ahead { state: State::InFlight(_), .. }) => {
                get.ahead = Some(ahead);
                Wanted::OnItsWay
            }
            Some(Ahead { state: State::Landed(parked, bytes), .. }) => {
                let Some(span) = self.buffers.unpark(parked) else {
                    self.counters.add(Counter::ColdReadBytesUnused, wanted.len as u64);
                    return Wanted::NotYet;
                };
                let whole = self.buffers.whole(span.pool, span.slot);
                let before = get.read.replace(whole);
                before.into_iter().for_each(|span| self.buffers.give(span));
                self.counters.add(Counter::ColdReadsAhead, 1);
                Wanted::Here(bytes)
            }
            None => Wanted::NotYet,
        }
    }
}

//! What a GetRecords call leaves for the next one of the same consumer: its reader, which knows its place, the runs around it and which of them
//! are damaged, and what was read and has not been returned yet.
//!
//! A kept reader pins nothing and its buffer is free, only taken last ([`Buffers::park`]): nobody waits or is refused because of it. What it
//! knows may be old, and every answer is right all the same:
//!
//! * The segment has gone, by expiry, trimming or relocation, or its file is used again: both the place and the bytes carry the incarnation, which
//!   is never given twice. The reader finds no such segment, and looks its number up.
//! * Its records were moved: the copies stay until the segment goes, and are the same. Where they have been damaged since, the reader sees
//!   that another segment owns the number, and goes there.
//! * A half of a mirror was repaired, or the bytes are those of before a repair: whatever a kept reader finds damaged, a new one looks for.
//! * Records have expired: the floor is each call's own, and each record is compared with it.
//! * The shard has moved, ended or gone: each call asks the catalog first, and stops at the last number of the part. A kept reader belongs to one log,
//!   and to one number.

use super::Worker;
use super::mailbox::GetCall;
use crate::io::buffers::{Buffers, Parked, Span};
use crate::io::clock::Mono;
use crate::log::format::ShardKey;
use crate::log::reader::Reader;
use crate::observe::counter::Counter;
use std::collections::BTreeMap;

/// A consumer that has not come back for so long reads something else, or waits for more to come.
const UNUSED_MS: u64 = 5_000;

/// Where the next call has to go on to get a kept reader: shard, log, number.
type Place = (ShardKey, u32, u64);

/// A reader without a call.
struct Kept {
    reader: Reader,
    /// What its last read brought.
    read: Option<Parked>,
    since: Mono,
}

impl Kept {
    fn release(self, buffers: &mut Buffers) {
        // It is not worth more than others any more.
        let read = self.read.and_then(|read| buffers.unpark(read));
        read.into_iter().for_each(|span| buffers.give(span));
    }
}

/// The readers that calls have left behind.
pub struct KeptReaders {
    by_place: BTreeMap<Place, Kept>,
    most: usize,
}

impl KeptReaders {
    /// At most `most` readers.
    pub fn new(most: usize) -> KeptReaders {
        KeptReaders { by_place: BTreeMap::new(), most }
    }

    fn keep(&mut self, place: Place, kept: Kept, buffers: &mut Buffers) {
        if self.by_place.len() == self.most && !self.by_place.contains_key(&place) {
            let oldest = self.by_place.iter().min_by_key(|(_, kept)| kept.since).map(|(place, _)| *place);
            self.forget(oldest, buffers);
        }
        let before = self.by_place.insert(place, kept);
        before.into_iter().for_each(|kept| kept.release(buffers));
    }

    fn forget(&mut self, places: impl IntoIterator<Item = Place>, buffers: &mut Buffers) {
        let gone = places.into_iter().filter_map(|place| self.by_place.remove(&place));
        gone.for_each(|kept| kept.release(buffers));
    }
}

impl Worker {
    /// The reader that a call has left which ended where this one begins, with the buffer that it read into.
    pub(super) fn get_resumed(&mut self, call: &GetCall) -> Option<(Reader, Option<Span>)> {
        let Kept { mut reader, read, .. } = self.gets.kept.by_place.remove(&(call.shard, call.log, call.sequence))?;
        self.counters.add(Counter::ReadersResumed, 1);
        let read = read.and_then(|read| self.buffers.unpark(read));
        if read.is_none() {
            reader.forget_bytes();
        }
        Some((reader, read))
    }

    /// Keeps the reader of a call that ends where the next one goes on, if it has read from segments.
    pub(super) fn get_keep(&mut self, slot: usize) {
        let get = self.gets.slots[slot].as_mut().expect("a call under way");
        if get.read.is_none() || !get.reader.goes_on_from(get.next) {
            return;
        }
        let reader = std::mem::replace(&mut get.reader, Reader::new(get.call.shard, get.next));
        let read = get.read.take().map(|span| self.buffers.park(span));
        let kept = Kept { reader, read, since: self.now.mono };
        self.gets.kept.keep((get.call.shard, get.call.log, get.next), kept, &mut self.buffers);
    }

    /// Forgets readers whose consumers have not come back. Once a second.
    pub(super) fn forget_readers(&mut self) {
        let kept = &mut self.gets.kept;
        let unused = |kept: &Kept| kept.since.plus_ms(UNUSED_MS) <= self.now.mono;
        let gone: Vec<Place> = kept.by_place.iter().filter(|(_, kept)| unused(kept)).map(|(place, _)| *place).collect();
        kept.forget(gone, &mut self.buffers);
    }
}

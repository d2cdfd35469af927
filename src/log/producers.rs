//! Producers of native batches: which number each shard takes next from each of them, and how its last batches were answered.
//!
//! The table is kept in the log that it is about. A segment begins with it, as a frame of its own, unless it is empty: so it outlives the
//! frames that it was made of, and recovery, which walks the newest segment anyway, finds there what the frames behind it are added to. (In
//! footers, which are derived and may be missing, it would have been the only thing that cannot be made again.)

use super::format::{FrameHeader, Position, ShardKey};
use crate::io::clock::Wall;
use rkyv::api::low;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer;
use rkyv::{Archive, Serialize};
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// Batches of a producer, epoch and shard that are remembered: as many as may be without an answer.
pub const KEPT: usize = 8;
/// How long after its newest batch a producer is known, µs.
const KNOWN_US: u64 = 24 * 3600 * 1_000_000;
/// In a full table the one that has been idle longest makes room for a new one, if it has been for this time, µs.
const IDLE_US: u64 = 3600 * 1_000_000;
/// Most entries of a table.
const ENTRIES_MAX: u64 = 8192;
/// Bytes of an entry in a frame.
pub const ENTRY_SIZE: usize = size_of::<ArchivedEntryV1>();
/// `number` of a frame that says what is known of the producers of one shard; 0: of all. (Every shard's key may be one, 0 as well.)
pub const OF_SHARD: u32 = 1;
const NONE: u32 = u32::MAX;

// Archived types are never edited: a second version would be a frame of another kind.

#[derive(Archive, Serialize, Clone, Copy, Default)]
struct BatchV1 {
    sequence: u64,
    arrival: u64,
    count: u32,
    body_crc: u32,
}

#[derive(Archive, Serialize)]
struct EntryV1 {
    shard: u64,
    producer: u64,
    /// Of the newest batch; it and the `kept` - 1 before it are below, each at the place that its number has modulo [`KEPT`].
    number: u32,
    kept: u32,
    batches: [BatchV1; KEPT],
}

/// What a producer says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub shard: ShardKey,
    /// Id << 16 | epoch.
    pub producer: u64,
    pub number: u32,
    pub count: u32,
    pub body_crc: u32,
}

/// Why a batch of a producer is not taken. None of them is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nothing is known of the producer, and this is not its first batch.
    Unknown,
    /// The producer has a higher epoch by now.
    Fenced,
    /// Neither the next number nor one of the last.
    OutOfOrder,
    /// The number is taken, by a batch with other content.
    Other,
    /// The table is full of producers that have been active lately.
    Crowded,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Next,
    /// It is stored: number of its first record and arrival (µs); durable when the log is below the position.
    Stored {
        first: u64,
        arrival: u64,
        position: Position,
    },
    Rejected(Rejection),
}

/// One producer in one shard.
#[derive(Clone, Copy)]
struct Entry {
    shard: ShardKey,
    producer: u64,
    number: u32,
    kept: u32,
    batches: [BatchV1; KEPT],
    /// All of it is durable below.
    until: Position,
    /// Neighbours in the order of their newest batches.
    older: u32,
    newer: u32,
}

impl Entry {
    fn newest(&self) -> &BatchV1 {
        &self.batches[self.number as usize % KEPT]
    }

    fn push(&mut self, number: u32, batch: BatchV1, until: Position) {
        let follows = self.kept > 0 && self.number.checked_add(1) == Some(number);
        self.kept = if follows { (self.kept + 1).min(KEPT as u32) } else { 1 };
        self.number = number;
        self.batches[number as usize % KEPT] = batch;
        self.until = self.until.max(until);
    }
}

/// Whether it may make room for another one.
fn is_idle(entry: &Entry, now: Wall) -> bool {
    entry.newest().arrival.saturating_add(IDLE_US) < now.0
}

/// Keyed by the directory's secret number: clients choose their ids.
#[derive(Clone, Copy)]
struct Key(u64);

impl BuildHasher for Key {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, 0)
    }
}

/// A table. Its memory is taken once.
pub struct Producers {
    entries: Vec<Entry>,
    /// Places of `entries` that nobody has.
    free: Vec<u32>,
    by_id: HashMap<Id, u32, Key>,
    /// The ends of the row of entries by their newest batches.
    oldest: u32,
    newest: u32,
    /// Entries at most.
    most: usize,
    /// During recovery: shards of which nothing is taken in.
    gone: Option<Box<Gone>>,
}

/// Whether a shard has gone, and its number is never used again.
pub type Gone = dyn Fn(ShardKey) -> bool + Send;

/// A producer without its epoch, in a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Id(ShardKey, u64);

fn id_of(shard: ShardKey, producer: u64) -> Id {
    Id(shard, producer >> 16)
}

/// Entries of the table of a log with such segments and commits: so many that what a segment begins with is a small part of it, yet a few.
pub fn most_entries(segment_size: u64, commit_max: u32) -> usize {
    let bytes = (segment_size / 64).max(4096).min(commit_max as u64 / 4);
    (bytes / ENTRY_SIZE as u64).min(ENTRIES_MAX) as usize
}

impl Producers {
    /// `secret`: known to no client.
    pub fn new(most: usize, secret: u64) -> Producers {
        Producers {
            entries: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            // Twice the room, so that what was removed never makes it grow.
            by_id: HashMap::with_capacity_and_hasher(most * 2, Key(secret)),
            oldest: NONE,
            newest: NONE,
            most,
            gone: None,
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Entries at most.
    pub fn most(&self) -> usize {
        self.most
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What becomes of a batch that came at `now`. What is stored of it is the caller's to say, with [`Producers::stored`].
    pub fn judge(&self, claim: &Claim, now: Wall) -> Verdict {
        let known = self.by_id.get(&id_of(claim.shard, claim.producer)).map(|place| &self.entries[*place as usize]);
        let Some(entry) = known.filter(|entry| entry.newest().arrival.saturating_add(KNOWN_US) >= now.0) else {
            return match claim.number {
                0 if known.is_some() || self.has_room(now) => Verdict::Next,
                0 => Verdict::Rejected(Rejection::Crowded),
                _ => Verdict::Rejected(Rejection::Unknown),
            };
        };
        if claim.producer < entry.producer {
            return Verdict::Rejected(Rejection::Fenced);
        }
        let is_next = match claim.producer == entry.producer {
            true => entry.number.checked_add(1) == Some(claim.number),
            false => claim.number == 0,
        };
        if is_next {
            return Verdict::Next;
        }
        let kept = claim.producer == entry.producer
            && claim.number <= entry.number
            && entry.number - claim.number < entry.kept;
        if !kept {
            return Verdict::Rejected(Rejection::OutOfOrder);
        }
        let batch = &entry.batches[claim.number as usize % KEPT];
        match (batch.count, batch.body_crc) == (claim.count, claim.body_crc) {
            true => Verdict::Stored { first: batch.sequence, arrival: batch.arrival, position: entry.until },
            false => Verdict::Rejected(Rejection::Other),
        }
    }

    fn has_room(&self, now: Wall) -> bool {
        self.len() < self.most || self.entries.get(self.oldest as usize).is_some_and(|entry| is_idle(entry, now))
    }

    /// Whether there is room for what `body`, a frame's, knows of `shard`, in the place of what is known of that here, with nobody forgotten who has
    /// been active lately: one of those could send a batch again that is stored, and nothing would be known of it.
    pub fn has_room_for(&self, shard: ShardKey, body: &[u8], now: Wall) -> bool {
        let come = body.len() / ENTRY_SIZE;
        let over = (self.len() + come).saturating_sub(self.in_order(Some(shard)).count() + self.most);
        come <= self.most
            && self.in_order(None).filter(|entry| entry.shard != shard).take(over).all(|entry| is_idle(entry, now))
    }

    /// A batch was appended, or found by recovery, in the order of the log; durable below `until`.
    pub fn stored(&mut self, header: &FrameHeader, until: Position) {
        let &FrameHeader { shard, producer, number, sequence, arrival, count, body_crc, .. } = header;
        let batch = BatchV1 { sequence, arrival, count, body_crc };
        let id = id_of(shard, producer);
        let place = match self.by_id.get(&id) {
            Some(&place) => {
                let entry = &mut self.entries[place as usize];
                if producer != entry.producer {
                    // A new epoch, or one after so long a time that nothing was known any more.
                    (entry.producer, entry.kept) = (producer, 0);
                }
                self.unlink(place);
                place
            }
            None if self.most == 0 => return,
            None => self.take_place(id, producer),
        };
        self.entries[place as usize].push(number, batch, until);
        self.link(place);
    }

    /// A free place, or that of the one that has been idle longest.
    fn take_place(&mut self, id: Id, producer: u64) -> u32 {
        if self.len() >= self.most {
            self.remove(self.oldest);
        }
        let entry = Entry {
            shard: id.0,
            producer,
            number: 0,
            kept: 0,
            batches: [BatchV1::default(); KEPT],
            until: Position(0),
            older: NONE,
            newer: NONE,
        };
        let place = self.free.pop().unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(place as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        self.by_id.insert(id, place);
        place
    }

    fn link(&mut self, place: u32) {
        (self.entries[place as usize].older, self.entries[place as usize].newer) = (self.newest, NONE);
        match self.entries.get_mut(self.newest as usize) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let Entry { older, newer, .. } = self.entries[place as usize];
        match self.entries.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(behind) => behind.older = older,
            None => self.newest = older,
        }
    }

    fn remove(&mut self, place: u32) {
        self.unlink(place);
        let entry = &self.entries[place as usize];
        self.by_id.remove(&id_of(entry.shard, entry.producer));
        self.free.push(place);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
        self.by_id.clear();
        (self.oldest, self.newest) = (NONE, NONE);
    }

    /// Forgets those of whom nothing is known any more at `now`.
    pub fn expire(&mut self, now: Wall) {
        let over = |entry: &Entry| entry.newest().arrival.saturating_add(KNOWN_US) < now.0;
        while self.entries.get(self.oldest as usize).is_some_and(over) {
            self.remove(self.oldest);
        }
    }

    /// From now on nothing is taken in of the shards for which `gone` says so; `None`: of all it is. What was forgotten of them before a restart lies
    /// in the log still, and would take the places of others.
    pub fn pass_over(&mut self, gone: Option<Box<Gone>>) {
        self.gone = gone;
    }

    /// Whether nothing is taken in of a shard.
    pub fn passes_over(&self, shard: ShardKey) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone(shard))
    }

    /// Forgets the shards for which `gone` says so: their numbers are never used again.
    pub fn forget(&mut self, gone: impl Fn(ShardKey) -> bool) {
        let mut at = self.oldest;
        while let Some(entry) = self.entries.get(at as usize) {
            let (place, shard) = (at, entry.shard);
            at = entry.newer;
            if gone(shard) {
                self.remove(place);
            }
        }
    }

    /// Entries in the order of their newest batches, those of `shard` only where one is named.
    fn in_order(&self, shard: Option<ShardKey>) -> impl Iterator<Item = &Entry> {
        let first = self.entries.get(self.oldest as usize);
        let row = std::iter::successors(first, |entry| self.entries.get(entry.newer as usize));
        row.filter(move |entry| shard.is_none_or(|shard| shard == entry.shard))
    }

    /// Bytes that [`Producers::encode`] writes.
    pub fn encoded(&self, shard: Option<ShardKey>) -> usize {
        let entries = if shard.is_some() { self.in_order(shard).count() } else { self.len() };
        entries * ENTRY_SIZE
    }

    /// Writes the table, or what it knows of one shard, into `out` of just that size: the body of a frame.
    pub fn encode(&self, shard: Option<ShardKey>, out: &mut [u8]) {
        for (entry, slot) in self.in_order(shard).zip(out.chunks_exact_mut(ENTRY_SIZE)) {
            let &Entry { shard, producer, number, kept, batches, .. } = entry;
            let entry = EntryV1 { shard: shard.0, producer, number, kept, batches };
            low::to_bytes_in_with_alloc::<_, _, Failure>(&entry, Buffer::from(slot), SubAllocator::empty())
                .expect("a slot has the size of an entry");
        }
    }

    /// Adds what a frame says, which is durable below `until`; `false` where it is not one.
    #[must_use]
    pub fn decode(&mut self, body: &[u8], until: Position) -> bool {
        if !body.len().is_multiple_of(ENTRY_SIZE) {
            return false;
        }
        for bytes in body.chunks_exact(ENTRY_SIZE) {
            let Ok(entry) = rkyv::access::<ArchivedEntryV1, Failure>(bytes) else { return false };
            let (number, kept) = (entry.number.to_native(), entry.kept.to_native());
            if kept == 0 || kept as usize > KEPT || number < kept - 1 {
                return false;
            }
            self.adopt(entry, until);
        }
        true
    }

    /// An entry of a frame takes the place of what is known, unless that is newer.
    fn adopt(&mut self, entry: &ArchivedEntryV1, until: Position) {
        let (shard, producer) = (ShardKey(entry.shard.to_native()), entry.producer.to_native());
        let (number, id) = (entry.number.to_native(), id_of(shard, producer));
        if self.passes_over(shard) {
            return;
        }
        let place = match self.by_id.get(&id) {
            Some(&place) => {
                let arrival = entry.batches[number as usize % KEPT].arrival.to_native();
                if self.entries[place as usize].newest().arrival > arrival {
                    return;
                }
                self.unlink(place);
                place
            }
            None if self.most == 0 => return,
            None => self.take_place(id, producer),
        };
        let batch = |batch: &ArchivedBatchV1| BatchV1 {
            sequence: batch.sequence.to_native(),
            arrival: batch.arrival.to_native(),
            count: batch.count.to_native(),
            body_crc: batch.body_crc.to_native(),
        };
        let slot = &mut self.entries[place as usize];
        (slot.producer, slot.number, slot.kept) = (producer, number, entry.kept.to_native());
        slot.batches = std::array::from_fn(|at| batch(&entry.batches[at]));
        slot.until = slot.until.max(until);
        self.link(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::FrameKind;

    const SHARD: ShardKey = ShardKey::new(3, 1);
    const SECOND: u64 = 1_000_000;

    fn claim(id: u64, epoch: u64, number: u32) -> Claim {
        Claim { shard: SHARD, producer: id << 16 | epoch, number, count: 2, body_crc: number ^ id as u32 }
    }

    fn header(claim: &Claim, sequence: u64, arrival: u64) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Batch,
            stride: 128,
            body: 60,
            count: claim.count,
            shard: claim.shard,
            sequence,
            arrival,
            producer: claim.producer,
            number: claim.number,
            incarnation: 1,
            body_crc: claim.body_crc,
        }
    }

    fn stored(table: &mut Producers, claim: &Claim, arrival: u64) {
        table.stored(&header(claim, 1 + claim.number as u64 * 2, arrival), Position(arrival));
    }

    fn rejected(table: &Producers, claim: &Claim, now: u64) -> Rejection {
        match table.judge(claim, Wall(now)) {
            Verdict::Rejected(why) => why,
            other => panic!("{claim:?} at {now}: {other:?}"),
        }
    }

    #[test]
    fn the_next_number_is_stored_the_last_eight_are_known_and_all_others_refused() {
        let mut table = Producers::new(4, 9);
        assert_eq!(rejected(&table, &claim(1, 0, 1), 5), Rejection::Unknown);
        for number in 0..20 {
            assert_eq!(table.judge(&claim(1, 0, number), Wall(5)), Verdict::Next);
            stored(&mut table, &claim(1, 0, number), 5 + number as u64);
        }
        for number in 12..20 {
            let (first, arrival) = (1 + number as u64 * 2, 5 + number as u64);
            let known = Verdict::Stored { first, arrival, position: Position(24) };
            assert_eq!(table.judge(&claim(1, 0, number), Wall(30)), known);
        }
        for number in [0, 11, 21, u32::MAX] {
            assert_eq!(rejected(&table, &claim(1, 0, number), 30), Rejection::OutOfOrder, "{number}");
        }
        let other = Claim { body_crc: 77, ..claim(1, 0, 19) };
        assert_eq!(rejected(&table, &other, 30), Rejection::Other, "two producers have one id and epoch");
        let elsewhere = Claim { shard: ShardKey::new(3, 2), ..claim(1, 0, 20) };
        assert_eq!(rejected(&table, &elsewhere, 30), Rejection::Unknown, "numbers are of a shard");
    }

    #[test]
    fn a_new_epoch_begins_at_number_0_and_fences_those_below() {
        let mut table = Producers::new(4, 9);
        stored(&mut table, &claim(1, 3, 0), 10);
        stored(&mut table, &claim(1, 3, 1), 11);
        assert_eq!(rejected(&table, &claim(1, 2, 2), 12), Rejection::Fenced);
        assert_eq!(rejected(&table, &claim(1, 4, 2), 12), Rejection::OutOfOrder);
        assert_eq!(table.judge(&claim(1, 4, 0), Wall(12)), Verdict::Next);
        stored(&mut table, &claim(1, 4, 0), 12);
        assert_eq!(rejected(&table, &claim(1, 3, 1), 13), Rejection::Fenced, "though it was stored");
        assert_eq!(rejected(&table, &claim(1, 4, 7), 13), Rejection::OutOfOrder);
        assert!(matches!(table.judge(&claim(1, 4, 0), Wall(13)), Verdict::Stored { first: 1, .. }));
    }

    #[test]
    fn after_a_day_nothing_is_known_and_a_full_table_forgets_only_who_has_been_idle() {
        let mut table = Producers::new(2, 9);
        stored(&mut table, &claim(1, 3, 0), SECOND);
        stored(&mut table, &claim(2, 0, 0), 2 * SECOND);
        assert_eq!(rejected(&table, &claim(3, 0, 0), 3_000 * SECOND), Rejection::Crowded);
        assert_eq!(table.judge(&claim(1, 3, 1), Wall(3_000 * SECOND)), Verdict::Next, "who is known goes on");
        stored(&mut table, &claim(1, 3, 1), 3_000 * SECOND);
        let hour = 3_603 * SECOND;
        assert_eq!(table.judge(&claim(3, 0, 0), Wall(hour)), Verdict::Next);
        stored(&mut table, &claim(3, 0, 0), hour);
        assert_eq!((table.len(), rejected(&table, &claim(2, 0, 1), hour)), (2, Rejection::Unknown), "it made room");
        assert!(matches!(table.judge(&claim(1, 3, 0), Wall(hour)), Verdict::Stored { .. }));
        let day = 3_000 * SECOND + KNOWN_US;
        assert_eq!(table.judge(&claim(1, 3, 2), Wall(day)), Verdict::Next);
        assert_eq!(rejected(&table, &claim(1, 3, 2), day + 1), Rejection::Unknown);
        assert_eq!(table.judge(&claim(1, 2, 0), Wall(day + 1)), Verdict::Next, "whatever its epoch");
        stored(&mut table, &claim(1, 2, 0), day + 1);
        assert_eq!(table.judge(&claim(1, 2, 1), Wall(day + 2)), Verdict::Next);
        table.forget(|shard| shard == SHARD);
        assert!(table.is_empty() && rejected(&table, &claim(1, 2, 1), day + 2) == Rejection::Unknown);
        stored(&mut table, &claim(4, 0, 0), day + 3);
        assert_eq!(table.judge(&claim(4, 0, 1), Wall(day + 3)), Verdict::Next);
    }

    #[test]
    fn what_another_log_knew_of_a_shard_is_taken_over_only_where_nobody_active_goes_for_it() {
        let (hour, moved) = (3_601 * SECOND, ShardKey::new(3, 2));
        let mut here = Producers::new(4, 9);
        (0..4).for_each(|id| stored(&mut here, &claim(id, 0, 0), id * SECOND));
        let mut there = Producers::new(8, 9);
        let mut come = |id| {
            stored(&mut there, &Claim { shard: moved, ..claim(id, 0, 0) }, 100 * SECOND);
            let mut body = vec![0; there.encoded(Some(moved))];
            there.encode(Some(moved), &mut body);
            body
        };
        let (one, two) = (come(7), come(8));
        assert!(!here.has_room_for(moved, &one, Wall(hour - SECOND)), "all have been active within the hour");
        assert!(here.has_room_for(moved, &one, Wall(hour)) && !here.has_room_for(moved, &two, Wall(hour)));
        assert!(here.has_room_for(moved, &two, Wall(hour + SECOND)));
        assert!(here.has_room_for(moved, &[], Wall(0)));
        assert!(here.decode(&one, Position(0)), "one of those that were here goes");
        assert_eq!(here.judge(&claim(1, 0, 1), Wall(hour)), Verdict::Next);
        assert!(here.has_room_for(moved, &one, Wall(SECOND)), "it takes the place of what is known of the shard");
        assert!(!here.has_room_for(moved, &two, Wall(SECOND)) && here.has_room_for(moved, &two, Wall(hour + SECOND)));
        let [.., more] = [come(9), come(10), come(11)];
        assert!(!here.has_room_for(moved, &more, Wall(u64::MAX)), "more than the table holds");
    }

    #[test]
    fn a_frame_gives_the_table_again_and_adds_to_one_only_what_is_newer() {
        let mut table = Producers::new(8, 9);
        for id in 1..=5 {
            (0..id as u32 * 3).for_each(|number| stored(&mut table, &claim(id, 1, number), id * 10 + number as u64));
        }
        let mut body = vec![0; table.encoded(None)];
        table.encode(None, &mut body);
        assert_eq!(body.len(), 5 * ENTRY_SIZE);
        let mut again = Producers::new(8, 1);
        assert!(again.decode(&body, Position(0)));
        for id in 1..=5 {
            for number in 0..16 {
                let (one, two) = (claim(id, 1, number), Wall(100));
                let durable = |verdict| match verdict {
                    Verdict::Stored { first, arrival, .. } => Verdict::Stored { first, arrival, position: Position(0) },
                    other => other,
                };
                assert_eq!(durable(table.judge(&one, two)), again.judge(&one, two), "{id} {number}");
            }
        }
        stored(&mut table, &claim(2, 1, 6), 90);
        assert!(table.decode(&body, Position(0)));
        assert_eq!(table.judge(&claim(2, 1, 7), Wall(100)), Verdict::Next);
        let mut smaller = Producers::new(3, 1);
        assert!(smaller.decode(&body, Position(0)) && smaller.len() == 3);
        assert_eq!(rejected(&smaller, &claim(2, 1, 6), 100), Rejection::Unknown, "the oldest make room");
        assert_eq!(smaller.judge(&claim(5, 1, 15), Wall(100)), Verdict::Next);
        assert!(!again.decode(&body[1..], Position(0)), "no whole entries");
        body[20] = 9;
        assert!(!again.decode(&body, Position(0)), "more batches than are kept");
    }
}

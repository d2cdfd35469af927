//! What was written of each key, what became of it, and what was read back: loss, duplicates and wrong order follow from the two.
//!
//! A record is held from when it is written until it is both answered and read, so the ledger is as long as the reader is behind. Its size is
//! bounded: beyond that, the oldest of a key are given up, and count as not verified.

use super::chain::{Stamp, Strange};
use std::collections::VecDeque;

/// Records held by one thread at most; eight bytes each.
const HELD_MAX: usize = 16 << 20;

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// Written, not answered.
    Open = 0,
    /// The server has said that it is durable.
    Acked = 1,
    /// The server has said that it is not stored.
    Refused = 2,
    /// Nobody has said: the connection ended, or the server does not know.
    Unknown = 3,
}

/// A word of a record that is held: its fate, whether it was read, and its place from the fourth bit on.
const FATE: u64 = 3;
const READ: u64 = 4;
const PLACE: u32 = 3;
/// Bits of a number in its shard.
const NUMBER: u32 = 40;

/// Where the server has said that a record is: number in a shard, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: u32,
    pub number: u64,
}

impl Place {
    /// As it lies in a word; 0: a million million records of a shard, or two million shards, do not fit, and count as not told.
    fn packed(place: Option<Place>) -> u64 {
        let fits = |place: &Place| place.number >> NUMBER == 0 && place.shard >> (64 - NUMBER - PLACE) == 0;
        place.filter(fits).map_or(0, |place| ((place.shard as u64) << NUMBER | place.number) << PLACE)
    }

    fn of(word: u64) -> Option<Place> {
        let packed = word >> PLACE;
        let number = packed & ((1 << NUMBER) - 1);
        (number > 0).then_some(Place { shard: (packed >> NUMBER) as u32, number })
    }
}

/// What reading back has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Read for the first time, as they were written.
    pub verified: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Read again, or never written.
    pub duplicated: u64,
    /// Read behind a later one of their key, or not behind the one that their chain names.
    pub reordered: u64,
    /// Acknowledged; whether they are there could not be found out.
    pub unverified: u64,
    /// Changed on the way; what they were counts as lost.
    pub damaged: u64,
    /// There, though refused.
    pub stored_though_refused: u64,
    /// Never answered, and found to be stored.
    pub unknown_stored: u64,
}

impl Findings {
    pub fn add(&mut self, other: &Findings) {
        self.verified += other.verified;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.unverified += other.unverified;
        self.damaged += other.damaged;
        self.stored_though_refused += other.stored_though_refused;
        self.unknown_stored += other.unknown_stored;
    }

    /// Whether something is there, or missing, that must not be.
    pub fn is_bad(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.damaged + self.stored_though_refused > 0
    }
}

/// What a record is that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// One of this run, of a key that this thread writes.
    Own(Stamp),
    /// One of this run that another thread has written. That one reads the shard too, and judges it.
    Others,
    /// Somebody else's, or changed on the way.
    Strange,
}

#[derive(Clone, Debug, Default)]
struct Book {
    /// This thread writes the key.
    own: bool,
    /// Number of the next record, and hash of the last one.
    next: u64,
    before: u64,
    /// Number of the first one held.
    base: u64,
    held: VecDeque<u64>,
    /// Number and hash of the highest one read.
    read: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub struct Ledger {
    run: u64,
    /// By key.
    books: Vec<Book>,
    held: usize,
    held_max: usize,
    findings: Findings,
}

impl Ledger {
    /// Of the keys 0 to `keys` of run `run`, of which this thread writes `own`: where shards are merged that two threads read, both read what follows.
    pub fn new(run: u64, keys: u32, own: impl IntoIterator<Item = u32>) -> Ledger {
        let mut books = vec![Book::default(); keys as usize];
        own.into_iter().for_each(|key| books[key as usize].own = true);
        Ledger { run, books, held: 0, held_max: HELD_MAX, findings: Findings::default() }
    }

    /// Stamps the next record of `key`, whose filler is there; gives its number.
    pub fn write(&mut self, key: u32, sent: u64, data: &mut [u8]) -> u64 {
        let book = &mut self.books[key as usize];
        let number = book.next;
        book.before = Stamp { run: self.run, key, number, sent, before: book.before }.seal(data);
        book.next += 1;
        book.held.push_back(Fate::Open as u64);
        self.held += 1;
        if self.held > self.held_max {
            self.give_up(key);
        }
        number
    }

    /// What became of record `number` of `key`, and where it is, if the server has said so.
    pub fn answer(&mut self, key: u32, number: u64, fate: Fate, place: Option<Place>) {
        let book = &mut self.books[key as usize];
        let Some(at) = number.checked_sub(book.base) else { return };
        let Some(state) = book.held.get_mut(at as usize) else { return };
        let read = *state & READ;
        *state = fate as u64 | read | Place::packed(place);
        if read != 0 {
            match fate {
                Fate::Refused => self.findings.stored_though_refused += 1,
                Fate::Unknown => self.findings.unknown_stored += 1,
                Fate::Open | Fate::Acked => {}
            }
        }
        self.settle(key);
    }

    /// A record has been read. One that was changed on the way counts for each thread that reads it, as nobody can say whose it was.
    pub fn read(&mut self, data: &[u8]) -> Came {
        let (stamp, hash) = match Stamp::open(self.run, data) {
            Ok(opened) => opened,
            Err(Strange::Foreign) => return Came::Strange,
            Err(Strange::Damaged) => {
                self.findings.damaged += 1;
                return Came::Strange;
            }
        };
        let (key, number) = (stamp.key, stamp.number);
        let Some(book) = self.books.get_mut(key as usize) else {
            self.findings.damaged += 1;
            return Came::Strange;
        };
        if !book.own {
            return Came::Others;
        }
        let state = number.checked_sub(book.base).and_then(|at| book.held.get_mut(at as usize));
        let Some(state) = state.filter(|state| **state & READ == 0) else {
            self.findings.duplicated += 1;
            return Came::Own(stamp);
        };
        match *state & FATE {
            fate if fate == Fate::Refused as u64 => self.findings.stored_though_refused += 1,
            fate if fate == Fate::Unknown as u64 => self.findings.unknown_stored += 1,
            _ => {}
        }
        *state |= READ;
        let behind = match book.read {
            Some((highest, _)) if number < highest => false,
            Some((highest, hash)) if number == highest + 1 => stamp.before == hash,
            None if number == 0 => stamp.before == 0,
            _ => true,
        };
        self.findings.verified += 1;
        self.findings.reordered += !behind as u64;
        if book.read.is_none_or(|(highest, _)| number > highest) {
            book.read = Some((number, hash));
        }
        self.settle(key);
        Came::Own(stamp)
    }

    /// Everything that will be read has been. An acknowledged record that was not is lost, unless `trimmed` says of its place that it had gone before
    /// it was read, or not all was read: `whole` means that readers have come to the end of their shards.
    pub fn close(&mut self, trimmed: impl Fn(Place) -> bool, whole: bool) -> Findings {
        let states = self.books.iter().flat_map(|book| &book.held);
        for state in states.filter(|state| **state & (FATE | READ) == Fate::Acked as u64) {
            match !whole || Place::of(*state).is_some_and(&trimmed) {
                true => self.findings.unverified += 1,
                false => self.findings.lost += 1,
            }
        }
        self.books.iter_mut().for_each(|book| {
            book.base += book.held.len() as u64;
            book.held.clear();
        });
        self.held = 0;
        self.findings
    }

    /// So far.
    pub fn findings(&self) -> Findings {
        self.findings
    }

    /// Whether every acknowledged record has been read.
    pub fn is_settled(&self) -> bool {
        self.held == 0
    }

    /// Lets go of the oldest ones that are done.
    fn settle(&mut self, key: u32) {
        let book = &mut self.books[key as usize];
        while let Some(state) = book.held.front() {
            let past = book.read.is_some_and(|(highest, _)| book.base < highest);
            let done = match (*state & FATE, *state & READ != 0) {
                (fate, _) if fate == Fate::Open as u64 => false,
                (_, true) => true,
                // Not there, as it should be, or as it may be.
                (fate, false) => fate != Fate::Acked as u64 && past,
            };
            if !done {
                return;
            }
            book.held.pop_front();
            book.base += 1;
            self.held -= 1;
        }
    }

    /// The reader is too far behind: the older half of what is held of a key is not looked for any more.
    fn give_up(&mut self, key: u32) {
        let book = &mut self.books[key as usize];
        for _ in 0..book.held.len().div_ceil(2) {
            let Some(state) = book.held.pop_front() else { break };
            book.base += 1;
            self.held -= 1;
            self.findings.unverified += (state & READ == 0) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::chain::STAMP;

    /// A ledger of two keys, and all records that were written.
    fn written(count: usize) -> (Ledger, Vec<[u8; STAMP + 8]>) {
        let mut ledger = Ledger::new(9, 2, 0..2);
        let records = (0..count).map(|n| {
            let mut data = [n as u8; STAMP + 8];
            ledger.write((n % 2) as u32, 5, &mut data);
            data
        });
        let records = records.collect();
        (ledger, records)
    }

    fn read_these(ledger: &mut Ledger, records: &[[u8; STAMP + 8]], which: impl IntoIterator<Item = usize>) {
        which.into_iter().for_each(|n| {
            ledger.read(&records[n]);
        });
    }

    fn ack_all(ledger: &mut Ledger, count: usize) {
        (0..count).for_each(|n| ledger.answer((n % 2) as u32, n as u64 / 2, Fate::Acked, at(n)));
    }

    /// Where [`ack_all`] says that the records are.
    fn at(n: usize) -> Option<Place> {
        Some(Place { shard: 3, number: n as u64 + 1 })
    }

    #[test]
    fn what_is_written_acked_and_read_in_order_is_verified() {
        for read_first in [false, true] {
            let (mut ledger, records) = written(10);
            if !read_first {
                ack_all(&mut ledger, 10);
            }
            assert!(records.iter().all(|record| matches!(ledger.read(record), Came::Own(_))));
            if read_first {
                assert!(!ledger.is_settled());
                ack_all(&mut ledger, 10);
            }
            assert!(ledger.is_settled());
            assert_eq!(ledger.close(|_| false, true), Findings { verified: 10, ..Findings::default() });
        }
    }

    #[test]
    fn what_is_missing_is_lost_unless_it_was_trimmed_or_could_not_be_read() {
        // 3 and 9 are not there; of 5 nobody has said where it is. What was trimmed excuses nothing else, however much that is.
        type Trimmed = fn(usize) -> bool;
        let trimmed: [(Trimmed, bool, u64, u64); 6] = [
            (|_| false, true, 3, 0),
            (|n| n == 3, true, 2, 1),
            (|n| n == 9, true, 2, 1),
            (|n| n != 3, true, 2, 1),
            (|_| true, true, 1, 2),
            (|_| false, false, 0, 3),
        ];
        for (trimmed, whole, lost, unverified) in trimmed {
            let (mut ledger, records) = written(10);
            ack_all(&mut ledger, 10);
            ledger.answer(1, 2, Fate::Acked, None);
            read_these(&mut ledger, &records, (0..10).filter(|n| ![3, 5, 9].contains(n)));
            let findings = ledger.close(|place| place.shard == 3 && trimmed(place.number as usize - 1), whole);
            assert_eq!(findings, Findings { verified: 7, lost, unverified, ..Findings::default() });
            assert_eq!(findings.is_bad(), lost > 0);
        }
    }

    #[test]
    fn a_place_that_does_not_fit_is_not_known() {
        let place = |shard, number| Some(Place { shard, number });
        for sound in [place(0, 1), place(7, (1 << 40) - 1), place((1 << 21) - 1, 5), None] {
            assert_eq!(Place::of(Place::packed(sound) | Fate::Acked as u64 | READ), sound);
        }
        for large in [place(0, 1 << 40), place(1 << 21, 1)] {
            assert_eq!(Place::packed(large), 0);
        }
    }

    #[test]
    fn what_another_thread_has_written_is_left_to_it() {
        let (_, records) = written(10);
        let (mut ledger, mut other) = (Ledger::new(9, 2, [0]), Ledger::new(9, 2, [1]));
        for number in 0..5 {
            assert_eq!(ledger.write(0, 5, &mut [0; STAMP + 8]), number);
        }
        (0..5).for_each(|number| ledger.answer(0, number, Fate::Acked, None));
        for number in 0..5 {
            assert_eq!(other.write(1, 5, &mut [0; STAMP + 8]), number);
        }
        (0..5).for_each(|number| other.answer(1, number, Fate::Acked, None));
        for (at, record) in records.iter().enumerate() {
            let came = [ledger.read(record), other.read(record)];
            assert!(matches!(came[at % 2], Came::Own(_)) && came[1 - at % 2] == Came::Others, "{at}: {came:?}");
        }
        for mut ledger in [ledger, other] {
            assert_eq!(ledger.close(|_| false, true), Findings { verified: 5, ..Findings::default() });
        }
    }

    #[test]
    fn a_second_copy_is_a_duplicate_soon_or_late() {
        let (mut ledger, records) = written(10);
        ack_all(&mut ledger, 10);
        ledger.read(&records[0]);
        ledger.read(&records[0]);
        read_these(&mut ledger, &records, 1..10);
        ledger.read(&records[4]);
        assert_eq!(ledger.close(|_| false, true), Findings { verified: 10, duplicated: 2, ..Findings::default() });
    }

    #[test]
    fn a_later_record_before_an_earlier_one_of_its_key_is_reordered_of_another_key_not() {
        let (mut ledger, records) = written(8);
        ack_all(&mut ledger, 8);
        // Keys change places: nothing is wrong with that.
        read_these(&mut ledger, &records, [1, 0, 3, 2]);
        assert_eq!(ledger.findings().reordered, 0);
        // 6 is of the key of 4.
        read_these(&mut ledger, &records, [6, 4, 5, 7]);
        assert_eq!(ledger.close(|_| false, true), Findings { verified: 8, reordered: 1, ..Findings::default() });
    }

    #[test]
    fn refused_records_are_not_missed_but_must_not_be_there_and_unknown_ones_may() {
        let (mut ledger, records) = written(8);
        for (n, fate) in [
            Fate::Acked,
            Fate::Acked,
            Fate::Refused,
            Fate::Refused,
            Fate::Unknown,
            Fate::Unknown,
            Fate::Acked,
            Fate::Acked,
        ]
        .into_iter()
        .enumerate()
        {
            ledger.answer((n % 2) as u32, n as u64 / 2, fate, None);
        }
        // 2 was refused and is there; 4 is there, 5 is not: both may be.
        read_these(&mut ledger, &records, [0, 1, 2, 4, 6, 7]);
        let expected = Findings { verified: 6, stored_though_refused: 1, unknown_stored: 1, ..Findings::default() };
        assert_eq!(ledger.close(|_| false, true), expected);
        assert!(expected.is_bad());
    }

    #[test]
    fn a_changed_record_is_damaged_and_what_it_was_is_lost() {
        let (mut ledger, mut records) = written(4);
        ack_all(&mut ledger, 4);
        records[2][STAMP] ^= 1;
        read_these(&mut ledger, &records, 0..4);
        ledger.read(b"somebody else's");
        assert_eq!(ledger.close(|_| false, true), Findings { verified: 3, lost: 1, damaged: 1, ..Findings::default() });
    }

    #[test]
    fn a_substitute_that_is_not_of_the_chain_is_noticed() {
        let (mut ledger, mut records) = written(4);
        ack_all(&mut ledger, 4);
        let (stamp, _) = Stamp::open(9, &records[2]).expect("of this run");
        Stamp { before: 77, ..stamp }.seal(&mut records[2]);
        read_these(&mut ledger, &records, 0..4);
        assert_eq!(ledger.close(|_| false, true).reordered, 1);
    }

    #[test]
    fn a_reader_that_is_too_far_behind_leaves_records_unverified_and_memory_bounded() {
        let mut ledger = Ledger { held_max: 100, ..Ledger::new(9, 1, 0..1) };
        for number in 0..1000 {
            ledger.write(0, 5, &mut [0; STAMP]);
            ledger.answer(0, number, Fate::Acked, None);
            assert!(ledger.held <= 100);
        }
        let findings = ledger.close(|_| false, true);
        assert_eq!(findings.unverified + findings.lost, 1000);
        assert!(findings.unverified >= 900);
    }
}

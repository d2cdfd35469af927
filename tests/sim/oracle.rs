//! What must be true: every record that a client was told is stored is there once, under its number, with its bytes; what was read once
//! stays; order is kept; nothing is skipped. A violation panics with what was expected.

use super::clock::SECOND;
use super::disk::MARK;
use super::native::check_told;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// A sequence number as it is written: decimal, so longer is larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(pub String);

impl Ord for Number {
    fn cmp(&self, other: &Number) -> std::cmp::Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Number {
    pub fn parse(text: &str) -> Number {
        let digits =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        assert!(digits && text.len() <= 129, "not a sequence number: {text:?}");
        Number(text.to_string())
    }
}

/// One try to put one record. Its number stands in the record's data, so that each stored copy is known.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub stream: usize,
    pub key: String,
    pub hash: u128,
    pub data: Vec<u8>,
    /// When the client sent it (boot clock).
    pub issued: u64,
    pub fate: Fate,
    /// When its ack came.
    pub(super) acked: u64,
    /// Shard and number in it, where a native ack has told them.
    pub(super) told: Option<(u32, u64)>,
    /// Shard and number, once an ack or a read has told them.
    pub place: Option<(u32, Number)>,
    /// The key's highest number that was acked before this was sent.
    floor: Option<Number>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    Acked,
    /// The server said that it is not stored.
    Refused,
    /// No answer, or one that promises nothing.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSeen {
    pub number: u32,
    pub parents: Vec<u32>,
    pub first: u128,
    pub last: u128,
    pub starting: Number,
    pub ending: Option<Number>,
    /// When this was answered: the first time of its end, once that is known.
    pub at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its creation is not confirmed.
    Coming,
    Live,
    /// A DeleteStream is under way or done.
    Going,
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub life: Life,
    /// A CreateStream was answered.
    pub created: bool,
    /// In ns: the shortest retention that has been in force.
    pub retention: u64,
    /// The longest one.
    pub retention_most: u64,
    pub hours: u32,
    pub shards: BTreeMap<u32, ShardSeen>,
    /// Records by place.
    places: BTreeMap<(u32, Number), u64>,
    /// Stretches of each shard that some reader has passed: above the first number (none: from the horizon), up to the second.
    passed: BTreeMap<u32, Vec<(Option<Number>, Number)>>,
    /// The highest acked number of each key.
    keys: BTreeMap<String, Number>,
}

/// A record as a reader got it.
#[derive(Clone, Debug)]
pub struct Record {
    pub number: Number,
    pub key: String,
    pub data: Vec<u8>,
    /// Seconds since 1970.
    pub arrival: f64,
}

impl Record {
    /// The number of the try that put it.
    fn mark(&self) -> Option<u64> {
        let digits = self.data.get(MARK.len()..MARK.len() + 12)?;
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// From where a reader reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The oldest record there is.
    Horizon,
    /// Right behind this number.
    After(Number),
    /// This number itself.
    At(Number),
    /// Somewhere above this number: nothing is known of what lies between.
    Above(Number),
    /// Nothing is known.
    Anywhere,
}

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub attempts: Vec<Attempt>,
    pub streams: Vec<Stream>,
    /// Records of before this time (boot clock) may have been recycled early, because a log was full.
    pub trimmed_until: u64,
    /// Loss is accepted: the disk was damaged behind the node's back.
    pub damaged: bool,
    /// Something was missing that only the damage excuses.
    pub damage_shown: Cell<bool>,
    pub acked: u64,
    pub reads: u64,
}

impl Oracle {
    /// A put is about to be sent: gives its mark, and the data to send.
    pub fn attempt(&mut self, stream: usize, key: &str, hash: u128, size: usize, now: u64) -> (u64, Vec<u8>) {
        let mark = self.attempts.len() as u64;
        let mut data = [MARK, format!("{mark:012x}").as_bytes()].concat();
        let fill = (mark as u8).wrapping_mul(31);
        data.extend((0..size).map(|at| fill.wrapping_add(at as u8)));
        let floor = self.streams[stream].keys.get(key).cloned();
        let attempt = Attempt {
            stream,
            key: key.into(),
            hash,
            data: data.clone(),
            issued: now,
            fate: Fate::Sent,
            acked: 0,
            told: None,
            place: None,
            floor,
        };
        self.attempts.push(attempt);
        (mark, data)
    }

    /// An ack has come.
    pub fn ack(&mut self, mark: u64, shard: u32, number: Number, now: u64) {
        let attempt = &mut self.attempts[mark as usize];
        assert_eq!(attempt.fate, Fate::Sent, "one answer for each try");
        attempt.fate = Fate::Acked;
        attempt.acked = now;
        self.acked += 1;
        // After damage a number may be given out again: what stood there is lost, and that has been told.
        if let Some(floor) = attempt.floor.as_ref().filter(|_| !self.damaged) {
            assert!(number > *floor, "key {:?}: acked {number:?}, yet an earlier put was acked {floor:?}", attempt.key);
        }
        let stream = &mut self.streams[attempt.stream];
        let highest = stream.keys.entry(attempt.key.clone()).or_insert_with(|| number.clone());
        *highest = number.clone().max(highest.clone());
        self.place(mark, shard, number, now);
    }

    /// Puts of `key` with hash keys of several shards follow: they have no order among them.
    pub fn forget_order(&mut self, key: &str) {
        self.streams.iter_mut().for_each(|stream| drop(stream.keys.remove(key)));
    }

    pub fn settle(&mut self, mark: u64, fate: Fate) {
        let attempt = &mut self.attempts[mark as usize];
        if attempt.fate == Fate::Sent {
            attempt.fate = fate;
            let contradiction = fate == Fate::Refused && attempt.place.is_some();
            assert!(!contradiction, "refused, yet it has been read: {attempt:?}");
        }
    }

    /// A record is known to be at a place: it may be nowhere else, and nothing else may be there.
    fn place(&mut self, mark: u64, shard: u32, number: Number, now: u64) {
        let attempt = &mut self.attempts[mark as usize];
        let place = (shard, number);
        if let Some(known) = &attempt.place {
            assert_eq!(*known, place, "one record in two places: {:?}", attempt.key);
            return;
        }
        attempt.place = Some(place.clone());
        check_told(attempt.told.filter(|_| !self.damaged), shard, &place.1);
        let stream = &mut self.streams[attempt.stream];
        if let Some(other) = stream.places.get(&place).filter(|_| !self.damaged) {
            panic!("two records under one number {place:?}: marks {other:x} and {mark:x}");
        }
        if let Some(seen) = stream.shards.get(&shard) {
            seen.check_record(attempt, &place.1);
        }
        stream.places.insert(place.clone(), mark);
        let stretches = self.streams[attempt.stream].passed.get(&shard).into_iter().flatten();
        for (first, last) in stretches {
            let inside = place.1 <= *last && first.as_ref().is_none_or(|first| place.1 > *first);
            // An ack may come late: after its record has expired, and readers have passed.
            let right = !inside || self.may_vanish(mark, now);
            assert!(right, "a reader passed from {first:?} to {last:?} of shard {shard} without record {place:?}");
        }
    }

    /// Whether a record may be gone at `now`.
    pub fn may_vanish(&self, mark: u64, now: u64) -> bool {
        let attempt = &self.attempts[mark as usize];
        let stream = &self.streams[attempt.stream];
        let expired = now.saturating_sub(attempt.issued) >= stream.retention;
        if expired || attempt.issued < self.trimmed_until || stream.life == Life::Going {
            return true;
        }
        self.damage_shown.set(self.damage_shown.get() || self.damaged);
        self.damaged
    }

    /// What has been expired for a while is not shown to one who asked at `issued`.
    pub fn check_expired(&self, stream: usize, records: &[Record], issued: u64) {
        let life = self.streams[stream].retention_most.saturating_add(5 * SECOND);
        for record in records {
            let attempt = record.mark().and_then(|mark| self.attempts.get(mark as usize));
            let old = attempt.is_some_and(|a| a.fate == Fate::Acked && issued.saturating_sub(a.acked) > life);
            assert!(!old, "a record that has expired is shown: {record:?}");
        }
    }

    /// A reader got `records` from `from` on, at `now`. Gives the number behind which it reads on.
    pub fn read(&mut self, stream: usize, shard: u32, from: From, records: &[Record], now: u64) -> From {
        self.reads += records.len() as u64;
        for pair in records.windows(2) {
            assert!(pair[0].number < pair[1].number, "numbers do not rise in a reply: {pair:?}");
        }
        for record in records {
            self.check_read(stream, shard, record, now);
        }
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return from };
        match &from {
            From::After(number) | From::Above(number) => {
                assert!(first.number > *number, "reading behind {number:?} gave {:?}", first.number)
            }
            From::At(number) => assert!(first.number >= *number, "reading at {number:?} gave {:?}", first.number),
            From::Horizon | From::Anywhere => {}
        }
        self.check_no_gap(stream, shard, &from, records, now);
        let start = match from {
            From::Horizon => None,
            From::After(number) => Some(number),
            // The record itself was looked for, so the stretch begins just below it; the first one got is a safe start otherwise.
            From::At(_) | From::Above(_) | From::Anywhere => Some(first.number.clone()),
        };
        pass(self.streams[stream].passed.entry(shard).or_default(), start, last.number.clone());
        From::After(last.number.clone())
    }

    /// The record is one that was put, with its bytes; from now on it is known to be where it is.
    fn check_read(&mut self, stream: usize, shard: u32, record: &Record, now: u64) {
        let mark = record.mark();
        let mark = mark.unwrap_or_else(|| panic!("a record that nobody put: {record:?}"));
        let attempt =
            self.attempts.get(mark as usize).unwrap_or_else(|| panic!("a record that nobody put: {record:?}"));
        assert_eq!(attempt.stream, stream, "a record of another stream: {record:?}");
        assert!(attempt.data == record.data && attempt.key == record.key, "read {record:?}, but put {attempt:?}");
        assert_ne!(attempt.fate, Fate::Refused, "a refused record is there: {record:?}");
        self.place(mark, shard, record.number.clone(), now);
    }

    /// Every record known to lie between `from` and the last one got is among them.
    fn check_no_gap(&self, stream: usize, shard: u32, from: &From, records: &[Record], now: u64) {
        let last = &records[records.len() - 1].number;
        let low = match from {
            From::Horizon => Included((shard, Number(String::new()))),
            From::After(number) => Excluded((shard, number.clone())),
            From::At(number) => Included((shard, number.clone())),
            From::Above(_) | From::Anywhere => Included((shard, records[0].number.clone())),
        };
        let mut got = records.iter().map(|record| &record.number).peekable();
        for ((_, number), mark) in self.streams[stream].places.range((low, Included((shard, last.clone())))) {
            while got.peek().is_some_and(|at| *at < number) {
                got.next();
            }
            let there = got.peek() == Some(&number);
            assert!(
                there || self.may_vanish(*mark, now),
                "shard {shard}: a read from {from:?} to {last:?} lacks {number:?} ({mark:x})"
            );
        }
    }

    /// Reading a shard has come to the end: of a closed shard (`closed`), or of what was durable when the reader asked at `issued`.
    /// Every record acked before that, or read before that, must have been passed.
    pub fn read_to_end(
        &mut self,
        stream: usize,
        shard: u32,
        from: &From,
        closed: bool,
        now: u64,
        acked: &[(u32, Number, u64)],
    ) {
        let low = match from {
            From::After(number) => number.clone(),
            From::Horizon => Number(String::new()),
            _ => return,
        };
        for (at, number, mark) in acked.iter().filter(|(at, number, _)| *at == shard && *number > low) {
            assert!(
                self.may_vanish(*mark, now),
                "shard {at} ended at {from:?}, yet {number:?} ({mark:x}) was acked or read before"
            );
        }
        if closed && let From::After(_) | From::Horizon = from {
            let above = self.streams[stream].places.range((Excluded((shard, low.clone())), Unbounded));
            for ((_, number), mark) in above.take_while(|((at, _), _)| *at == shard) {
                assert!(
                    self.may_vanish(*mark, now),
                    "closed shard {shard} ended at {from:?}, yet {number:?} ({mark:x}) is there"
                );
            }
            pass(self.streams[stream].passed.entry(shard).or_default(), Some(low), Number("9".repeat(140)));
        }
    }

    /// A LATEST iterator, answered at `since`, has given `first` as its first record: nothing put after that was passed over.
    pub fn check_latest(&self, stream: usize, shard: u32, first: &Number, since: u64, now: u64) {
        for (_, number, mark) in self.known(stream, shard) {
            let issued = self.attempts[mark as usize].issued;
            assert!(
                number >= *first || issued <= since || self.may_vanish(mark, now),
                "LATEST of {since} began at {first:?}, past {number:?} put at {issued}"
            );
        }
    }

    /// All shards of a stream have been read from the horizon to the end: what is known of shards that are not listed must have expired.
    pub fn check_complete(&self, stream: usize, listed: &[u32], now: u64) {
        for ((shard, number), mark) in &self.streams[stream].places {
            let there = listed.contains(shard) || self.may_vanish(*mark, now);
            assert!(there, "shard {shard} is not listed any more, yet it holds {number:?} ({mark:x})");
        }
    }

    /// Records of a shard whose place is known: what a reader that asks now must come by.
    pub fn known(&self, stream: usize, shard: u32) -> Vec<(u32, Number, u64)> {
        let all = self.streams[stream].places.range((Included((shard, Number(String::new()))), Unbounded));
        all.take_while(|((at, _), _)| *at == shard).map(|((at, number), mark)| (*at, number.clone(), *mark)).collect()
    }

    /// Those of them that were acked before a time.
    pub fn acked_before(&self, stream: usize, shard: u32, time: u64) -> Vec<(u32, Number, u64)> {
        let acked = |mark: u64| {
            let attempt = &self.attempts[mark as usize];
            attempt.fate == Fate::Acked && attempt.acked <= time
        };
        self.known(stream, shard).into_iter().filter(|(_, _, mark)| acked(*mark)).collect()
    }

    /// The highest number of a shard that is known.
    pub fn highest(&self, stream: usize, shard: u32) -> Option<Number> {
        let below = self.streams[stream].places.range(..(shard + 1, Number(String::new())));
        below.last().filter(|((at, _), _)| *at == shard).map(|((_, number), _)| number.clone())
    }

    /// A list of shards was answered; `whole`: from the first to the last, in one reply, without a filter.
    pub fn list(&mut self, stream: usize, shards: Vec<ShardSeen>, whole: bool, issued: u64) {
        if whole {
            check_cover(&shards);
        }
        for seen in shards {
            let known = &mut self.streams[stream].shards;
            if let Some(before) = known.get(&seen.number) {
                let fixed = |s: &ShardSeen| (s.parents.clone(), s.first, s.last, s.starting.clone());
                assert_eq!(fixed(before), fixed(&seen), "a shard has changed");
                let reopened = before.ending.is_some() && before.ending != seen.ending;
                if reopened && issued <= before.at {
                    // The reply was on its way when another one told the end.
                    continue;
                }
                assert!(!reopened, "the end of a shard has changed: {before:?} {seen:?}");
                if before.ending.is_some() {
                    continue;
                }
            }
            for parent in seen.parents.iter().filter_map(|parent| known.get(parent)) {
                assert!(
                    seen.starting > parent.starting,
                    "a child's numbers are not above its parent's: {seen:?} {parent:?}"
                );
                if let Some(ending) = &parent.ending {
                    assert!(seen.starting > *ending, "a child starts below its parent's end: {seen:?} {parent:?}");
                }
            }
            let number = seen.number;
            known.insert(number, seen);
            let seen = &self.streams[stream].shards[&number];
            let places = self.streams[stream].places.range((number, Number(String::new()))..);
            for ((_, place), mark) in places.take_while(|((at, _), _)| *at == number) {
                seen.check_record(&self.attempts[*mark as usize], place);
            }
        }
    }
}

impl Stream {
    pub fn new(name: &str, retention: u64) -> Stream {
        Stream {
            name: name.into(),
            life: Life::Coming,
            created: false,
            retention,
            retention_most: retention,
            hours: 24,
            shards: BTreeMap::new(),
            places: BTreeMap::new(),
            passed: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
}

impl ShardSeen {
    /// A record lies in the shard of its hash key, between its first and its last number.
    fn check_record(&self, attempt: &Attempt, number: &Number) {
        let inside = (self.first..=self.last).contains(&attempt.hash);
        assert!(inside, "key {:?} with hash {} went to {self:?}", attempt.key, attempt.hash);
        assert!(*number > self.starting, "record {number:?} is not above the start of {self:?}");
        if let Some(ending) = &self.ending {
            assert!(number <= ending, "record {number:?} is above the end of {self:?}");
        }
    }
}

/// Adds a stretch, and joins what touches.
fn pass(passed: &mut Vec<(Option<Number>, Number)>, mut first: Option<Number>, mut last: Number) {
    passed.retain(|(low, high)| {
        let apart = low.as_ref().is_some_and(|low| *low > last) || first.as_ref().is_some_and(|first| first > high);
        if !apart {
            first = first.take().min(low.clone());
            last = last.clone().max(high.clone());
        }
        apart
    });
    passed.push((first, last));
}

/// The open shards hold every hash key exactly once.
fn check_cover(shards: &[ShardSeen]) {
    let mut ranges: Vec<(u128, u128)> =
        shards.iter().filter(|s| s.ending.is_none()).map(|s| (s.first, s.last)).collect();
    ranges.sort_unstable();
    let mut next = Some(0u128);
    for (first, last) in &ranges {
        assert!(next == Some(*first) && first <= last, "open shards do not cover the keys exactly once: {ranges:?}");
        next = last.checked_add(1);
    }
    assert!(next.is_none() && !ranges.is_empty(), "open shards do not cover the keys: {ranges:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn number(n: u32) -> Number {
        Number::parse(&n.to_string())
    }

    fn oracle() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.streams.push(Stream::new("s", u64::MAX));
        oracle
    }

    /// Puts and acks a record as number `n` of shard 0.
    fn put(oracle: &mut Oracle, key: &str, n: u32) -> Record {
        let (mark, data) = oracle.attempt(0, key, 0, 3, 0);
        oracle.ack(mark, 0, number(n), 0);
        Record { number: number(n), key: key.into(), data, arrival: 0.0 }
    }

    fn violates(oracle: &mut Oracle, act: impl FnOnce(&mut Oracle)) -> bool {
        catch_unwind(AssertUnwindSafe(|| act(oracle))).is_err()
    }

    #[test]
    fn what_is_right_passes() {
        let mut o = oracle();
        let records = [put(&mut o, "a", 1), put(&mut o, "b", 2), put(&mut o, "a", 3)];
        let from = o.read(0, 0, From::Horizon, &records[..2], 0);
        assert_eq!(from, From::After(number(2)));
        let known = o.known(0, 0);
        let from = o.read(0, 0, from, &records[2..], 0);
        o.read_to_end(0, 0, &from, true, 0, &known);
        assert_eq!(o.highest(0, 0), Some(number(3)));
    }

    #[test]
    fn each_wrong_is_found() {
        let mut o = oracle();
        let records = [put(&mut o, "a", 1), put(&mut o, "b", 5), put(&mut o, "a", 9)];
        assert!(violates(&mut o, |o| drop(put(o, "a", 7))), "order of a key");
        assert!(violates(&mut o, |o| drop(put(o, "c", 5))), "one number twice");
        let without = [records[0].clone(), records[2].clone()];
        assert!(violates(&mut o, |o| drop(o.read(0, 0, From::Horizon, &without, 0))), "a gap");
        let mut other = records[1].clone();
        other.data.push(0);
        assert!(violates(&mut o, |o| drop(o.read(0, 0, From::Horizon, &[other], 0))), "other bytes");
        let moved = Record { number: number(6), ..records[1].clone() };
        assert!(violates(&mut o, |o| drop(o.read(0, 0, From::Anywhere, &[moved], 0))), "twice");
        let known = o.known(0, 0);
        assert!(
            violates(&mut o, |o| o.read_to_end(0, 0, &From::After(number(5)), false, 0, &known)),
            "an end too early"
        );
    }

    #[test]
    fn a_record_that_appears_behind_a_reader_is_found() {
        let mut o = oracle();
        let records = [put(&mut o, "a", 1), put(&mut o, "b", 5)];
        o.read(0, 0, From::Horizon, &records, 0);
        assert!(violates(&mut o, |o| drop(put(o, "c", 3))));
        let mut refused = oracle();
        let (mark, data) = refused.attempt(0, "a", 0, 3, 0);
        refused.settle(mark, Fate::Refused);
        let record = Record { number: number(1), key: "a".into(), data, arrival: 0.0 };
        assert!(violates(&mut refused, |o| drop(o.read(0, 0, From::Horizon, &[record], 0))), "a refused record");
    }

    #[test]
    fn stretches_join() {
        let mut passed = Vec::new();
        for (first, last) in [(Some(1), 3), (Some(7), 9), (Some(3), 7), (Some(20), 22)] {
            pass(&mut passed, first.map(number), number(last));
        }
        assert_eq!(passed, [(Some(number(1)), number(9)), (Some(number(20)), number(22))]);
        pass(&mut passed, None, number(30));
        assert_eq!(passed, [(None, number(30))]);
    }

    #[test]
    fn open_shards_must_cover_all_keys_once() {
        let shard = |n, first, last, ending: Option<u32>| ShardSeen {
            number: n,
            parents: Vec::new(),
            first,
            last,
            starting: number(n + 1),
            ending: ending.map(number),
            at: 0,
        };
        let mut o = oracle();
        let half = u128::MAX / 2;
        o.list(0, vec![shard(0, 0, half, None), shard(1, half + 1, u128::MAX, None)], true, 1);
        assert!(violates(&mut oracle(), |o| o.list(0, vec![shard(0, 0, half, None)], true, 1)));
        assert!(violates(&mut oracle(), |o| {
            o.list(0, vec![shard(0, 0, half, None), shard(1, half, u128::MAX, None)], true, 1)
        }));
        assert!(violates(&mut o, |o| o.list(0, vec![shard(0, 0, half - 1, None)], false, 1)), "a range that changes");
    }
}

//! The batches of one shard on their way, by number: what is sent when, and what each answer means. Pure: time is an argument.
//!
//! With a producer's number the server stores a batch once, whatever is sent again; a number that is refused is not used up, and what was sent behind it is
//! refused too. So all that is under way is awaited after a refusal, and then sent again from the first refused one on. What a connection
//! took along when it broke keeps its number until it is acked: it may come later still.

use super::error::PutError;
use super::producer::Reply;
use crate::native::refusal::{Code, Outcome};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A record that waits for its ack.
pub(super) struct Item {
    pub key: String,
    pub hash: u128,
    pub data: Vec<u8>,
    pub reply: Reply,
    /// It is given up then, unless it may have been stored.
    pub deadline: Instant,
}

/// Bytes that a record takes in a batch: key, data, and its entry of the index.
pub(super) fn cost(key: &str, data: &[u8]) -> usize {
    key.len() + data.len() + crate::log::format::ENTRY
}

pub(super) struct Batch {
    pub number: u32,
    pub items: Vec<Item>,
    /// A connection broke while it was under way: it may be stored already, or be so later.
    pub resent: bool,
    pub sent: Instant,
}

/// What becomes of a batch that was not acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent again after this time, under the same number.
    Again(Duration),
    /// The same, and it may be stored already.
    Unsure,
    /// Its shard is closed: its records go to the children.
    Reroute,
    Fail(PutError),
    /// The producer has another epoch already, elsewhere: it ends.
    Fenced,
}

/// How much a batch may hold, and how many may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub bytes: usize,
    pub records: usize,
    pub window: usize,
}

pub(super) struct Lane {
    queue: VecDeque<Item>,
    pub flight: VecDeque<Batch>,
    /// Batches that are to be sent again, by number.
    again: VecDeque<Batch>,
    /// Number of the next new batch, and the one that the server expects when nothing is under way.
    next: u32,
    expected: u32,
    /// What is under way is awaited before anything is sent again.
    rewinds: bool,
    not_before: Option<Instant>,
    /// The shard takes nothing more.
    pub closed: bool,
    /// Something has been given up that may be stored: numbers go on in another epoch only.
    pub broken: bool,
    /// Why the last batch was refused that is tried again.
    why: Option<(Result<Code, u16>, String)>,
    /// The connection that what is under way is on.
    pub link: Option<u64>,
    /// Without a producer the server does not know numbers, and nothing that may be stored is sent again.
    idempotent: bool,
}

impl Lane {
    pub fn new(idempotent: bool) -> Lane {
        Lane {
            queue: VecDeque::new(),
            flight: VecDeque::new(),
            again: VecDeque::new(),
            next: 0,
            expected: 0,
            rewinds: false,
            not_before: None,
            closed: false,
            broken: false,
            why: None,
            link: None,
            idempotent,
        }
    }

    pub fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty() && self.again.is_empty()
    }

    /// Nothing of it may be stored without having been acked.
    pub fn is_sure(&self) -> bool {
        self.flight.is_empty() && !self.again.iter().any(|batch| batch.resent)
    }

    /// Moves the next batch among those under way, and gives it, if one may be sent. `restarts`: another epoch is about to begin, so only what may
    /// be stored already is sent.
    pub fn send(&mut self, bounds: &Bounds, restarts: bool, now: Instant) -> Option<&Batch> {
        if self.flight.len() >= bounds.window || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        if self.rewinds {
            if !self.flight.is_empty() {
                return None;
            }
            self.rewound();
        }
        let sends_again = self.again.front().is_some_and(|batch| batch.resent || !self.closed && !restarts);
        let mut batch = match self.again.pop_front_if(|_| sends_again) {
            Some(batch) => batch,
            None if !self.again.is_empty() || self.closed || restarts => return None,
            None => self.gather(bounds, now)?,
        };
        batch.sent = now;
        self.flight.push_back(batch);
        self.flight.back()
    }

    /// All that was under way is answered: what is sent again has the numbers that the server expects.
    fn rewound(&mut self) {
        (self.rewinds, self.not_before) = (false, None);
        let mut number = self.expected;
        for batch in &mut self.again {
            // One that may be stored has its number already: what was given up before it has ended the epoch.
            if !batch.resent {
                batch.number = number;
            }
            number = batch.number.wrapping_add(1);
        }
        self.next = number;
        if number == u32::MAX {
            self.broken = true;
        }
    }

    fn gather(&mut self, bounds: &Bounds, now: Instant) -> Option<Batch> {
        let (mut bytes, mut count) = (0, 0);
        for item in &self.queue {
            bytes += cost(&item.key, &item.data);
            if count > 0 && (bytes > bounds.bytes || count >= bounds.records) {
                break;
            }
            count += 1;
        }
        if count == 0 || self.broken {
            return None;
        }
        let items = self.queue.drain(..count).collect();
        let number = self.next;
        // Behind the last number comes a new epoch.
        self.broken = number == u32::MAX;
        self.next = number.wrapping_add(1);
        Some(Batch { number, items, resent: false, sent: now })
    }

    fn answered(&mut self, number: u32) -> Option<Batch> {
        let at = self.flight.iter().position(|batch| batch.number == number)?;
        self.flight.remove(at)
    }

    /// The batch is durable.
    pub fn acked(&mut self, number: u32) -> Option<Batch> {
        let batch = self.answered(number)?;
        self.expected = number.wrapping_add(1);
        self.why = None;
        Some(batch)
    }

    /// What the answer to a batch that was not stored, or may be, means.
    pub fn verdict(&self, number: u32, code: Result<Code, u16>, outcome: Outcome, wait_ms: u32, text: &str) -> Verdict {
        let resent = self.flight.iter().any(|batch| batch.number == number && batch.resent);
        let wait = Duration::from_millis(if wait_ms == 0 { 100 } else { wait_ms.min(5_000) as u64 });
        let refused = || Verdict::Fail(PutError::Refused { code, text: text.to_owned() });
        match code {
            Ok(Code::ShardClosed | Code::UnknownShard) => Verdict::Reroute,
            Ok(Code::Full | Code::Throttled | Code::Unavailable | Code::TooManyProducers | Code::BadChecksum) => {
                Verdict::Again(wait)
            }
            // It is behind one that was refused.
            Ok(Code::OutOfOrder | Code::UnknownProducer) if self.rewinds => Verdict::Again(Duration::ZERO),
            Ok(Code::UnknownProducer) if !resent => Verdict::Again(Duration::ZERO),
            Ok(Code::UnknownProducer) => Verdict::Fail(PutError::Unknown { why: text.to_owned() }),
            Ok(Code::Fenced) => Verdict::Fenced,
            _ if outcome == Outcome::NotStored => refused(),
            _ if self.idempotent => Verdict::Unsure,
            _ => Verdict::Fail(PutError::Unknown { why: text.to_owned() }),
        }
    }

    /// The batch was not acked: those of its records that have failed.
    pub fn refused(
        &mut self,
        number: u32,
        code: Result<Code, u16>,
        text: &str,
        verdict: &Verdict,
        now: Instant,
    ) -> Vec<Item> {
        let Some(mut batch) = self.answered(number) else { return Vec::new() };
        // The server has forgotten the producer: its numbers begin anew, in another epoch.
        let forgotten = code == Ok(Code::UnknownProducer) && !self.rewinds;
        self.rewinds = true;
        match verdict {
            Verdict::Again(wait) => {
                if !wait.is_zero() {
                    self.not_before = Some(now + *wait);
                    self.why = Some((code, text.to_owned()));
                }
                self.broken |= forgotten;
            }
            Verdict::Unsure => {
                (batch.resent, self.not_before) = (true, Some(now + Duration::from_millis(100)));
            }
            Verdict::Reroute => (batch.resent, self.closed) = (false, true),
            Verdict::Fail(_) | Verdict::Fenced => {
                // What the broken connection carried may come later, under this number.
                self.broken |= batch.resent && self.idempotent || forgotten;
                return batch.items;
            }
        }
        let at = self.again.partition_point(|other| other.number < batch.number);
        self.again.insert(at, batch);
        Vec::new()
    }

    /// The connection is gone. `sure`: the server has said that what was unanswered is not stored. Gives records that may be stored or not, and
    /// will not be sent again.
    pub fn lost(&mut self, sure: bool) -> Vec<Item> {
        (self.link, self.rewinds) = (None, true);
        let mut failed = Vec::new();
        while let Some(mut batch) = self.flight.pop_back() {
            batch.resent |= !sure;
            match batch.resent && !self.idempotent {
                true => failed.splice(0..0, batch.items).for_each(drop),
                false => {
                    let at = self.again.partition_point(|other| other.number < batch.number);
                    self.again.insert(at, batch);
                }
            }
        }
        failed
    }

    /// Records whose time is over, with what they have come to. Those of a batch that may be stored wait for its answer three times as long.
    pub fn expire(&mut self, now: Instant, patience: Duration) -> Vec<(Item, PutError)> {
        let error = match &self.why {
            Some((code, text)) => PutError::Refused { code: *code, text: text.clone() },
            None => PutError::TimedOut { why: "it could not be sent in time".to_owned() },
        };
        let mut expired: Vec<(Item, PutError)> = Vec::new();
        for batch in self.again.iter_mut().filter(|batch| !batch.resent) {
            expired.extend(batch.items.extract_if(.., |item| item.deadline <= now).map(|item| (item, error.clone())));
        }
        let over = |batch: &Batch| batch.resent && batch.items.iter().all(|item| item.deadline + 2 * patience <= now);
        let (given_up, again) = std::mem::take(&mut self.again).into_iter().partition(over);
        self.again = again;
        let given_up: VecDeque<Batch> = given_up;
        for batch in given_up {
            let unknown =
                PutError::Unknown { why: "a connection broke, and its answer did not come in time".to_owned() };
            expired.extend(batch.items.into_iter().map(|item| (item, unknown.clone())));
            self.broken = true;
        }
        if self.again.iter().any(|batch| batch.items.is_empty()) {
            self.again.retain(|batch| !batch.items.is_empty());
            // Those behind it take its number.
            self.rewinds = true;
        }
        // Most often none is: they come in the order of their deadlines, but for those that have been put back.
        if self.queue.iter().any(|item| item.deadline <= now) {
            let (late, rest) = std::mem::take(&mut self.queue).into_iter().partition(|item| item.deadline <= now);
            self.queue = rest;
            let late: VecDeque<Item> = late;
            expired.extend(late.into_iter().map(|item| (item, error.clone())));
        }
        expired
    }

    /// Of a closed shard, when nothing of it may be stored: all that is to go to others, in order.
    pub fn leftover(&mut self) -> Vec<Item> {
        if !self.closed || !self.is_sure() {
            return Vec::new();
        }
        let again = std::mem::take(&mut self.again).into_iter().flat_map(|batch| batch.items);
        again.chain(std::mem::take(&mut self.queue)).collect()
    }

    /// Another epoch has begun; nothing is under way.
    pub fn restart(&mut self) {
        debug_assert!(self.is_sure(), "what may be stored keeps its number");
        (self.broken, self.expected, self.link) = (false, 0, None);
        self.rewound();
    }

    /// All of its records: the producer ends. With them whether they may be stored.
    pub fn give_up(&mut self) -> Vec<(Item, bool)> {
        let flight = std::mem::take(&mut self.flight).into_iter().map(|batch| (batch, true));
        let again = std::mem::take(&mut self.again).into_iter().map(|batch| {
            let resent = batch.resent;
            (batch, resent)
        });
        let batches =
            flight.chain(again).flat_map(|(batch, unsure)| batch.items.into_iter().map(move |item| (item, unsure)));
        batches.chain(std::mem::take(&mut self.queue).into_iter().map(|item| (item, false))).collect()
    }

    /// When something is to be looked at though nothing comes.
    pub fn wakes(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.again.is_empty() || !self.queue.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::producer::reply_for_tests;

    const BOUNDS: Bounds = Bounds { bytes: 1_000, records: 3, window: 3 };
    const LONG: Duration = Duration::from_secs(60);

    fn lane(items: usize) -> (Lane, Instant) {
        let now = crate::client::now();
        let mut lane = Lane::new(true);
        (0..items).for_each(|number| lane.push(item(number, now + LONG)));
        (lane, now)
    }

    fn item(number: usize, deadline: Instant) -> Item {
        Item { key: format!("{number}"), hash: 0, data: Vec::new(), reply: reply_for_tests(), deadline }
    }

    fn keys(items: &[Item]) -> Vec<usize> {
        items.iter().map(|item| item.key.parse().expect("a number")).collect()
    }

    /// Sends what may be sent: each batch's number and keys.
    fn sends(lane: &mut Lane, now: Instant) -> Vec<(u32, Vec<usize>)> {
        let mut sent = Vec::new();
        while let Some(batch) = lane.send(&BOUNDS, false, now) {
            sent.push((batch.number, keys(&batch.items)));
        }
        sent
    }

    fn refuse(lane: &mut Lane, number: u32, code: Code, now: Instant) -> (Verdict, Vec<usize>) {
        let verdict = lane.verdict(number, Ok(code), code.outcome(), 0, "so");
        let failed = lane.refused(number, Ok(code), "so", &verdict, now);
        (verdict, keys(&failed))
    }

    #[test]
    fn what_has_come_goes_into_the_next_batch_and_so_many_are_under_way() {
        let (mut lane, now) = lane(11);
        assert_eq!(sends(&mut lane, now), [(0, vec![0, 1, 2]), (1, vec![3, 4, 5]), (2, vec![6, 7, 8])]);
        assert_eq!(keys(&lane.acked(0).expect("it was under way").items), [0, 1, 2]);
        assert!(lane.acked(0).is_none(), "it has been acked");
        assert_eq!(sends(&mut lane, now), [(3, vec![9, 10])]);
        for number in 1..4 {
            assert!(!lane.is_empty());
            lane.acked(number).expect("it was under way");
        }
        assert!(lane.is_empty());
    }

    #[test]
    fn what_was_refused_and_what_is_behind_it_is_sent_again_in_order_with_its_numbers() {
        let (mut lane, now) = lane(12);
        sends(&mut lane, now);
        assert_eq!(refuse(&mut lane, 0, Code::Full, now), (Verdict::Again(Duration::from_millis(100)), vec![]));
        assert_eq!(sends(&mut lane, now), [], "what is under way is awaited");
        for number in [1, 2] {
            assert_eq!(refuse(&mut lane, number, Code::OutOfOrder, now).0, Verdict::Again(Duration::ZERO));
        }
        assert_eq!(sends(&mut lane, now), [], "it waits a little");
        let later = now + Duration::from_millis(100);
        assert_eq!(sends(&mut lane, later), [(0, vec![0, 1, 2]), (1, vec![3, 4, 5]), (2, vec![6, 7, 8])]);
        (0..3).for_each(|number| drop(lane.acked(number).expect("under way")));
        assert_eq!(sends(&mut lane, later), [(3, vec![9, 10, 11])]);
    }

    #[test]
    fn the_number_of_a_batch_that_failed_is_the_next_one_s() {
        let (mut lane, now) = lane(9);
        sends(&mut lane, now);
        lane.acked(0).expect("under way");
        assert!(
            matches!(refuse(&mut lane, 1, Code::RecordTooLarge, now), (Verdict::Fail(_), failed) if failed == [3, 4, 5])
        );
        refuse(&mut lane, 2, Code::OutOfOrder, now);
        lane.push(item(9, now + LONG));
        assert_eq!(sends(&mut lane, now), [(1, vec![6, 7, 8]), (2, vec![9])]);
        assert!(!lane.broken);
    }

    #[test]
    fn a_broken_connection_s_batches_keep_their_numbers_and_go_first() {
        let (mut lane, now) = lane(7);
        sends(&mut lane, now);
        assert!(lane.lost(false).is_empty() && !lane.is_sure());
        lane.push(item(7, now + LONG));
        assert_eq!(sends(&mut lane, now), [(0, vec![0, 1, 2]), (1, vec![3, 4, 5]), (2, vec![6])]);
        // The first one is refused meanwhile: what the broken connection carried may still come.
        refuse(&mut lane, 0, Code::Full, now);
        refuse(&mut lane, 1, Code::OutOfOrder, now);
        refuse(&mut lane, 2, Code::OutOfOrder, now);
        let later = now + LONG / 2;
        assert_eq!(sends(&mut lane, later)[0], (0, vec![0, 1, 2]));
        let expired = lane.expire(now + 2 * LONG, LONG);
        assert_eq!(expired.len(), 1, "those that may be stored wait longer than one that was never sent");
        lane.lost(false);
        let expired = lane.expire(now + 4 * LONG, LONG);
        assert!(expired.iter().filter(|(_, error)| error.outcome() == Outcome::Unknown).count() == 7);
        assert!(lane.broken, "its numbers may be used: others begin with another epoch");
    }

    #[test]
    fn without_a_producer_what_may_be_stored_is_not_sent_again() {
        let now = crate::client::now();
        let mut lane = Lane::new(false);
        (0..7).for_each(|number| lane.push(item(number, now + LONG)));
        let one = Bounds { window: 1, ..BOUNDS };
        lane.send(&one, false, now).expect("a batch");
        assert!(lane.send(&one, false, now).is_none());
        assert_eq!(keys(&lane.lost(false)), [0, 1, 2]);
        lane.send(&one, false, now).expect("a batch");
        assert!(lane.lost(true).is_empty(), "the server has said that it is not stored");
        assert_eq!(lane.send(&one, false, now).map(|batch| keys(&batch.items)), Some(vec![3, 4, 5]));
        let number = lane.flight[0].number;
        assert!(
            matches!(refuse(&mut lane, number, Code::Lost, now), (Verdict::Fail(PutError::Unknown { .. }), failed) if failed == [3, 4, 5])
        );
    }

    #[test]
    fn a_closed_shard_s_records_go_on_in_order_when_none_may_be_stored() {
        let (mut lane, now) = lane(8);
        sends(&mut lane, now);
        lane.lost(false);
        sends(&mut lane, now);
        lane.acked(0).expect("it was stored before the close");
        assert_eq!(refuse(&mut lane, 1, Code::ShardClosed, now).0, Verdict::Reroute);
        assert!(lane.leftover().is_empty(), "one is under way");
        lane.push(item(8, now + LONG));
        refuse(&mut lane, 2, Code::ShardClosed, now);
        assert_eq!(sends(&mut lane, now), []);
        assert_eq!(keys(&lane.leftover()), [3, 4, 5, 6, 7, 8]);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_forgotten_producer_begins_another_epoch_with_number_0() {
        let (mut lane, now) = lane(9);
        sends(&mut lane, now);
        (0..3).for_each(|number| drop(lane.acked(number).expect("under way")));
        (9..12).for_each(|number| lane.push(item(number, now + LONG)));
        assert_eq!(sends(&mut lane, now), [(3, vec![9, 10, 11])]);
        assert_eq!(refuse(&mut lane, 3, Code::UnknownProducer, now).0, Verdict::Again(Duration::ZERO));
        assert!(lane.broken && lane.is_sure());
        assert!(lane.send(&BOUNDS, true, now).is_none());
        lane.restart();
        assert_eq!(sends(&mut lane, now), [(0, vec![9, 10, 11])]);
    }

    #[test]
    fn records_that_nobody_took_expire_with_the_reason() {
        let (mut lane, now) = lane(4);
        sends(&mut lane, now);
        refuse(&mut lane, 0, Code::Full, now);
        refuse(&mut lane, 1, Code::OutOfOrder, now);
        lane.push(item(4, now + 2 * LONG));
        let expired = lane.expire(now + LONG, LONG);
        assert_eq!(expired.len(), 4);
        assert!(expired.iter().all(|(_, error)| matches!(error, PutError::Refused { code: Ok(Code::Full), .. })));
        assert_eq!(sends(&mut lane, now + LONG), [(0, vec![4])]);
    }
}

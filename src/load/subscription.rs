//! One shard that is read over the native protocol: what is asked next, and what each answer means. Pure: it sends nothing itself.
//!
//! ```text
//!   idle ─► latest ─► idle ─► subscribed ─► leaving ─► idle ─► oldest ─► idle                     after a gap in the numbers
//!                               │                       └────► newest ─► idle ─► the rest ─► idle    when a run is over
//!                               └─ the shard is closed ─► newest, and all of it has come ─► ended
//! ```
//!
//! A subscription does not say that there is nothing more, so at the end of a run it is given up, and what is left is read until a read brings nothing.
//! Numbers rise by one, so a gap shows what was trimmed before it came, or lost (`gaps.rs`). What is missing behind all that came shows no gap: at the end
//! the shard is asked for its newest number before what is left is read.

use super::gaps::Gaps;
use crate::io::clock::Mono;
use crate::log::format::ShardKey;
use crate::native::message::{Header, Kind, blank, seal_header};
use crate::native::reading::{Credit, Done, LATEST, Want};
use crate::native::refusal::Code;

/// Bytes that a subscription may have on its way; it is given more when half of that has come.
const CREDIT: u32 = 4 << 20;
/// Bytes of a read of the rest.
const REST: u32 = 4 << 20;
/// How long nothing comes of a subscription before the rest is asked for, when a run is over.
const QUIET_NS: u64 = 200_000_000;
/// How soon what could not be read, or had no place, is asked for again.
const AGAIN_NS: u64 = 500_000_000;
/// How long an answer may take before the connection is given up.
const PATIENCE_NS: u64 = 30_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is asked, and nothing will be before that.
    Idle {
        at: Mono,
    },
    /// The number behind the newest record is; what has come of it meanwhile begins with that number.
    Latest {
        came: u64,
    },
    Subscribed,
    /// The number behind the newest record, at the end.
    Newest,
    /// A subscription has been told to end.
    Leaving,
    /// What is there at the moment.
    Rest {
        came: bool,
    },
    /// The oldest record.
    Oldest {
        first: Option<u64>,
    },
    /// All of a closed shard has come, or nothing of it is there any more.
    Ended,
}

/// What became of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Nothing,
    /// It is closed, and all of it has come.
    Closed,
    /// Something is wrong that people should know.
    Complaint(String),
    /// It may not be read.
    Denied(String),
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub shard: u32,
    stage: Stage,
    /// Number of the record that comes next; `None`: the one behind the newest, which is not known yet.
    next: Option<u64>,
    /// Numbers that were not there.
    gaps: Gaps,
    /// Of what has come, bytes that no new credit was given for.
    used: u32,
    /// When something was asked, and when something came.
    asked: Mono,
    came: Mono,
    /// The run is over and the subscription has been given up: what is left is read.
    winds_up: bool,
    /// The shard is closed, and what there is of it has come.
    is_closed: bool,
    /// The number behind the newest record: what does not come of it when all is read is missing.
    newest: Option<u64>,
    /// A read has brought nothing, and was asked for then.
    caught_up: Option<Mono>,
    /// Some of it has gone that cannot be told.
    is_incomplete: bool,
}

impl Subscription {
    /// From `next` on; `None`: behind the newest record.
    pub fn new(shard: u32, next: Option<u64>) -> Subscription {
        Subscription {
            shard,
            stage: Stage::Idle { at: Mono(0) },
            next,
            gaps: Gaps::default(),
            used: 0,
            asked: Mono(0),
            came: Mono(0),
            winds_up: false,
            is_closed: false,
            newest: None,
            caught_up: None,
            is_incomplete: false,
        }
    }

    /// Whether it is known where it is read from, and it is.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Subscribed | Stage::Ended)
    }

    pub fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Some of it has gone that cannot be told.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete || self.gaps.is_full()
    }

    /// Whether it is proved that this number was trimmed before it came.
    pub fn is_trimmed(&self, number: u64) -> bool {
        self.gaps.is_trimmed(number)
    }

    /// Whether everything that was there at `since` has come.
    pub fn has_all(&self, since: Mono) -> bool {
        self.is_ended() || self.caught_up.is_some_and(|at| at > since)
    }

    /// An answer is overdue.
    pub fn is_overdue(&self, now: Mono) -> bool {
        let waits = !matches!(self.stage, Stage::Idle { .. } | Stage::Subscribed | Stage::Ended);
        waits && self.asked + PATIENCE_NS <= now
    }

    /// When [`Subscription::ask`] has something to say though nothing comes. `ends`: the run is over.
    pub fn deadline(&self, ends: bool) -> Option<Mono> {
        match self.stage {
            Stage::Idle { at } => Some(at),
            Stage::Subscribed => ends.then_some(self.came.max(self.asked) + QUIET_NS),
            Stage::Ended => None,
            _ => Some(self.asked + PATIENCE_NS),
        }
    }

    /// Writes what is to be asked now, if anything is; gives its length. `ends`: the run is over, and nothing more is written.
    pub fn ask(&mut self, stream: u32, now: Mono, ends: bool, out: &mut [u8]) -> Option<usize> {
        let shard = ShardKey::new(stream, self.shard);
        match self.stage {
            Stage::Idle { at } if at <= now => {
                let want = |sequence, records, bytes| Want { shard, sequence, records, bytes, floor: 0 };
                let is_last = self.winds_up || self.is_closed;
                let (stage, want, kind) = match self.next {
                    None => (Stage::Latest { came: u64::MAX }, want(LATEST, 1, 1), Kind::Read),
                    Some(_) if self.gaps.is_open() => (Stage::Oldest { first: None }, want(0, 1, 1), Kind::Read),
                    Some(_) if is_last && self.newest.is_none() => (Stage::Newest, want(LATEST, 1, 1), Kind::Read),
                    Some(next) if self.winds_up => (Stage::Rest { came: false }, want(next, 0, REST), Kind::Read),
                    Some(next) => (Stage::Subscribed, want(next, 0, CREDIT), Kind::Subscribe),
                };
                (self.stage, self.asked, self.used) = (stage, now, 0);
                Some(want.encode(out, kind))
            }
            Stage::Subscribed if self.gaps.is_open() || ends && self.is_quiet(now) => {
                self.winds_up = ends;
                (self.stage, self.asked) = (Stage::Leaving, now);
                Some(seal_header(out, Header { shard, ..blank(Kind::Unsubscribe) }))
            }
            Stage::Subscribed if self.used >= CREDIT / 2 => {
                Some(Credit { shard, bytes: std::mem::take(&mut self.used) }.encode(out))
            }
            _ => None,
        }
    }

    fn is_quiet(&self, now: Mono) -> bool {
        self.came.max(self.asked) + QUIET_NS <= now
    }

    /// A batch of `count` records has come, from number `first` on, which takes `bytes` of credit. Gives how many of its records are passed over, as they were
    /// there before or are not wanted; `None`: all.
    pub fn on_batch(&mut self, now: Mono, first: u64, count: u32, bytes: u32) -> Option<u32> {
        match &mut self.stage {
            Stage::Latest { came } => {
                *came = first.min(*came);
                return None;
            }
            Stage::Oldest { first: oldest } => {
                oldest.get_or_insert(first);
                return None;
            }
            Stage::Rest { came } => *came = true,
            Stage::Subscribed | Stage::Leaving => self.used = self.used.saturating_add(bytes),
            // What has come since is read from where it begins.
            Stage::Newest | Stage::Idle { .. } | Stage::Ended => return None,
        }
        self.came = now;
        let next = self.next.unwrap_or(first);
        if first > next {
            self.gaps.note(next, first);
        }
        let end = first + count as u64;
        self.next = Some(next.max(end));
        (end > next).then(|| next.saturating_sub(first) as u32)
    }

    /// What was asked has been done, or cannot be.
    pub fn on_done(&mut self, now: Mono, done: &Done, poll: u64) -> News {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle { at: now });
        match (done.code, stage) {
            (_, Stage::Idle { .. } | Stage::Ended) => {
                self.stage = stage;
                News::Nothing
            }
            (Ok(Code::Ended | Code::ShardClosed), Stage::Latest { came }) => {
                self.next = Some(done.next.min(came));
                News::Nothing
            }
            (Ok(Code::Ended | Code::ShardClosed), Stage::Oldest { first }) => {
                self.gaps.settle(first);
                News::Nothing
            }
            (Ok(Code::Ended | Code::ShardClosed), Stage::Newest) => {
                self.newest = Some(done.next);
                News::Nothing
            }
            (Ok(Code::Ended), Stage::Rest { came: false }) if !self.gaps.is_open() => {
                if !self.gaps.misses(&mut self.next, self.newest) {
                    (self.caught_up, self.newest) = (Some(self.asked), None);
                    self.stage = Stage::Idle { at: now + poll };
                }
                News::Nothing
            }
            (Ok(Code::ShardClosed), _) if self.gaps.is_open() => News::Nothing,
            (Ok(Code::ShardClosed), _) if self.newest.is_none() || self.gaps.misses(&mut self.next, self.newest) => {
                self.is_closed = true;
                News::Nothing
            }
            (Ok(Code::ShardClosed), _) => {
                self.stage = Stage::Ended;
                News::Closed
            }
            (Ok(Code::Ended), _) => News::Nothing,
            (code, _) => self.on_refused(now, code, done.next),
        }
    }

    fn on_refused(&mut self, now: Mono, code: Result<Code, u16>, next: u64) -> News {
        let said = code.map_or_else(|number| format!("code {number}"), |code| format!("{code:?}"));
        let text = format!("reading shard {}: {said}", self.shard);
        match code {
            // What did not come of it stays missing.
            Ok(Code::Unreadable) => self.next = self.next.max(Some(next)),
            Ok(Code::UnknownShard) => (self.stage, self.is_incomplete) = (Stage::Ended, true),
            Ok(Code::Unavailable | Code::ReaderBusy | Code::ReadersFull) => {
                self.stage = Stage::Idle { at: now + AGAIN_NS };
            }
            _ => {
                self.stage = Stage::Idle { at: now + 4 * AGAIN_NS };
                return News::Denied(text);
            }
        }
        News::Complaint(text)
    }

    /// The connection is gone: all is asked anew on the next one.
    pub fn lose(&mut self) {
        if !self.is_ended() {
            (self.stage, self.newest) = (Stage::Idle { at: Mono(0) }, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::message::Header;

    const AGES: u64 = 10_000_000_000;

    fn at(ms: u64) -> Mono {
        Mono(1 + ms * 1_000_000)
    }

    /// What is asked: its kind, and the number that it names.
    fn asks(of: &mut Subscription, now: Mono, ends: bool) -> Option<(Kind, u64)> {
        let mut out = [0; 256];
        of.ask(1, now, ends, &mut out)?;
        let header = Header::decode(out.first_chunk().expect("a header")).expect("a message");
        assert_eq!(header.shard, ShardKey::new(1, 7));
        Some((header.kind, header.sequence))
    }

    fn done(of: &mut Subscription, now: Mono, code: Code, next: u64) -> News {
        let done = Done { shard: ShardKey::new(1, 7), next, code: Ok(code), behind_ms: 0 };
        of.on_done(now, &done, 1)
    }

    fn subscribed(next: u64) -> Subscription {
        let mut of = Subscription::new(7, Some(next));
        assert_eq!(asks(&mut of, at(0), false), Some((Kind::Subscribe, next)));
        of
    }

    #[test]
    fn it_begins_behind_the_newest_record_or_at_what_came_meanwhile() {
        for (came, from) in [(None, 40), (Some(38), 38)] {
            let mut of = Subscription::new(7, None);
            assert_eq!(asks(&mut of, at(0), false), Some((Kind::Read, LATEST)));
            assert!(asks(&mut of, at(0), false).is_none() && !of.is_ready());
            came.map(|first| assert_eq!(of.on_batch(at(1), first, 1, 64), None)).unwrap_or(());
            assert_eq!(done(&mut of, at(1), Code::Ended, 40), News::Nothing);
            assert_eq!(asks(&mut of, at(1), false), Some((Kind::Subscribe, from)));
            assert!(of.is_ready());
        }
    }

    #[test]
    fn what_was_there_before_is_passed_over_and_credit_is_given_for_what_came() {
        let mut of = subscribed(10);
        assert_eq!(of.on_batch(at(1), 8, 4, 64), Some(2));
        assert_eq!(of.on_batch(at(1), 8, 4, 64), None, "all of it a second time");
        assert_eq!(of.on_batch(at(1), 12, 1, CREDIT / 2), Some(0));
        assert_eq!(asks(&mut of, at(1), false), Some((Kind::Credit, 0)));
        assert_eq!(asks(&mut of, at(1), false), None);
    }

    #[test]
    fn a_gap_was_trimmed_only_if_nothing_is_older_than_what_follows_it() {
        for (oldest, trimmed) in [(Some(15), 5), (Some(12), 0), (Some(20), 5), (None, 5)] {
            let mut of = subscribed(10);
            assert_eq!(of.on_batch(at(1), 15, 5, 64), Some(0));
            assert_eq!(asks(&mut of, at(1), false), Some((Kind::Unsubscribe, 0)));
            assert_eq!(of.on_batch(at(2), 20, 1, 64), Some(0), "it was on its way");
            done(&mut of, at(2), Code::Ended, 21);
            assert_eq!(asks(&mut of, at(2), false), Some((Kind::Read, 0)));
            oldest.map(|first| of.on_batch(at(3), first, 1, 64));
            done(&mut of, at(3), Code::Ended, 0);
            assert_eq!((10..15).filter(|number| of.is_trimmed(*number)).count(), trimmed, "{oldest:?}");
            assert_eq!(asks(&mut of, at(3), false), Some((Kind::Subscribe, 21)));
        }
    }

    #[test]
    fn at_the_end_of_a_run_the_rest_is_read_until_a_read_brings_nothing() {
        let mut of = subscribed(10);
        of.on_batch(at(1), 10, 1, 64);
        assert_eq!(asks(&mut of, at(100), true), None, "something has just come");
        assert_eq!(asks(&mut of, at(300), true), Some((Kind::Unsubscribe, 0)));
        done(&mut of, at(301), Code::Ended, 11);
        assert_eq!(asks(&mut of, at(301), true), Some((Kind::Read, LATEST)));
        done(&mut of, at(301), Code::Ended, 11);
        assert_eq!(asks(&mut of, at(301), true), Some((Kind::Read, 11)));
        assert_eq!(of.on_batch(at(601), 11, 2, 64), Some(0));
        done(&mut of, at(601), Code::Ended, 13);
        assert!(!of.has_all(Mono(0)), "it has brought something");
        assert_eq!(asks(&mut of, at(602), true), Some((Kind::Read, 13)));
        done(&mut of, at(901), Code::Ended, 13);
        assert!(of.has_all(at(601)) && !of.has_all(at(602)));
        // What was acknowledged later is looked for as well.
        assert_eq!(asks(&mut of, at(950), true), Some((Kind::Read, LATEST)));
        done(&mut of, at(951), Code::Ended, 13);
        assert_eq!(asks(&mut of, at(952), true), Some((Kind::Read, 13)));
        done(&mut of, at(953), Code::Ended, 13);
        assert!(of.has_all(at(951)));
    }

    #[test]
    fn what_is_missing_behind_all_that_came_is_a_gap_when_nothing_more_comes() {
        for (newest, oldest, trimmed) in
            [(15, None, 4), (15, Some(10), 0), (15, Some(15), 4), (11, None, 0), (1, None, 0)]
        {
            for closed in [false, true] {
                let mut of = subscribed(10);
                of.on_batch(at(1), 10, 1, 64);
                match closed {
                    true => assert_eq!(done(&mut of, at(300), Code::ShardClosed, 11), News::Nothing),
                    false => {
                        assert_eq!(asks(&mut of, at(300), true), Some((Kind::Unsubscribe, 0)));
                        done(&mut of, at(300), Code::Ended, 11);
                    }
                }
                let end = if closed { Code::ShardClosed } else { Code::Ended };
                let kind = if closed { Kind::Subscribe } else { Kind::Read };
                let asked = asks(&mut of, at(301), !closed);
                assert_eq!(asked, Some((Kind::Read, LATEST)));
                done(&mut of, at(301), end, newest);
                assert_eq!(asks(&mut of, at(302), !closed), Some((kind, 11)));
                done(&mut of, at(302), end, 11);
                if newest > 11 {
                    assert!(!of.has_all(Mono(0)));
                    assert_eq!(asks(&mut of, at(303), !closed), Some((Kind::Read, 0)));
                    oldest.map(|first| of.on_batch(at(303), first, 1, 64));
                    done(&mut of, at(303), Code::Ended, 0);
                    assert_eq!(asks(&mut of, at(304), !closed), Some((kind, newest)));
                    done(&mut of, at(304), end, newest);
                }
                assert!(of.has_all(at(301)) && of.is_ended() == closed);
                let found = (0..20).filter(|number| of.is_trimmed(*number)).count();
                assert_eq!(found, trimmed, "{newest} {oldest:?} {closed}");
            }
        }
    }

    #[test]
    fn a_shard_ends_once_all_of_it_has_come_and_a_gap_before_that_is_looked_into() {
        let mut of = subscribed(10);
        of.on_batch(at(1), 12, 1, 64);
        assert_eq!(done(&mut of, at(1), Code::ShardClosed, 13), News::Nothing);
        assert_eq!(asks(&mut of, at(1), false), Some((Kind::Read, 0)));
        of.on_batch(at(1), 12, 1, 64);
        done(&mut of, at(1), Code::Ended, 13);
        assert_eq!(asks(&mut of, at(1), false), Some((Kind::Subscribe, 13)));
        assert_eq!(done(&mut of, at(2), Code::ShardClosed, 13), News::Nothing);
        assert_eq!(asks(&mut of, at(2), false), Some((Kind::Read, LATEST)));
        done(&mut of, at(2), Code::ShardClosed, 13);
        assert_eq!(asks(&mut of, at(2), false), Some((Kind::Subscribe, 13)));
        assert_eq!(done(&mut of, at(2), Code::ShardClosed, 13), News::Closed);
        assert!(of.is_ended() && of.has_all(Mono(AGES)));
        assert_eq!([10, 11, 12].map(|number| of.is_trimmed(number)), [true, true, false]);
        of.lose();
        assert!(asks(&mut of, at(3), false).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_told_and_asked_for_again() {
        let mut of = subscribed(10);
        assert!(matches!(done(&mut of, at(1), Code::Unavailable, 10), News::Complaint(_)));
        assert_eq!(asks(&mut of, at(2), false), None);
        assert_eq!(asks(&mut of, at(502), false), Some((Kind::Subscribe, 10)));
        // What is damaged is passed over, and stays missing.
        assert!(matches!(done(&mut of, at(503), Code::Unreadable, 20), News::Complaint(_)));
        assert_eq!(asks(&mut of, at(503), false), Some((Kind::Subscribe, 20)));
        assert!((0..30).all(|number| !of.is_trimmed(number)));
        assert!(matches!(done(&mut of, at(504), Code::Denied, 0), News::Denied(_)));
        of.lose();
        assert_eq!(asks(&mut of, at(504), false), Some((Kind::Subscribe, 20)));
        assert!(matches!(done(&mut of, at(505), Code::UnknownShard, 0), News::Complaint(_)));
        assert!(of.is_ended() && of.is_incomplete());
    }

    #[test]
    fn an_answer_that_does_not_come_is_overdue_but_a_subscription_may_be_silent() {
        let mut of = Subscription::new(7, None);
        asks(&mut of, at(0), false);
        assert!(!of.is_overdue(at(29_000)) && of.is_overdue(at(30_000)));
        done(&mut of, at(1), Code::Ended, 1);
        asks(&mut of, at(1), false);
        assert!(!of.is_overdue(at(90_000)));
    }
}

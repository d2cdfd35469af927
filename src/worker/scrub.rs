//! Scrubbing: every stored byte is verified within a period, by the companion, one segment at a time, the longest unverified first.
//!
//! Segments stand in one line, in the order in which they were first written to or verified last; the first one goes, and comes back to the
//! end. Of the one that is being written, what is durable then is verified; the rest is younger. The steps are such that a pass takes four
//! fifths of the period.
//!
//! The line goes on over a restart: the catalog keeps, for each log, since when nothing of each segment has been verified, in retention
//! time, which counts downtime and does not go back. That is made durable a hundredth of the period apart, and before a clean stop.

use super::Worker;
use super::mailbox::Message;
use super::notice::Notice;
use crate::catalog::change::Change;
use crate::catalog::state::{Scrubs, Unverified};
use crate::io::clock::{Mono, Wall};
use crate::io::op::{FileName, Op, Ops, Token};
use crate::io::scrub::{Finding, Report, Segment};
use crate::log::Log;
use crate::observe::counter::Counter;
use std::collections::VecDeque;
use std::fmt;

/// Owner of the tokens of scrubs.
pub const SCRUB_TOKEN: u8 = 0x56;
/// Bytes a second: a segment is not spread over hours, and a pass disturbs nobody (a hundredth of what an NVMe drive gives).
const RATE_MIN: u64 = 4 << 20;
pub const RATE_MAX: u64 = 64 << 20;
/// A pass takes so many hundredths of the period: the rest is for waiting behind preparations.
const PASS_PERCENT: u64 = 80;
/// A line that stood still for longer does not hurry for the rest: the next segments keep their distance.
const CREDIT_NS: u64 = 10_000_000_000;
/// A segment counts as if it held one in so many of its bytes, at least: what is nearly empty is not verified over and over.
const WEIGHT_MIN: u64 = 16;
/// So many times in a period the catalog is told how far a log has come, at most.
const LISTS_A_PERIOD: u64 = 100;
/// A clean stop waits so long, in ms, for the catalog to hold that.
const STOP_MS: u64 = 2_000;
/// Findings that are not told again.
const FINDINGS_REMEMBERED: usize = 256;

/// What scrubbing has to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// `bytes` bytes are not what was written. `at`: byte of the file.
    Damage { file: FileName, position: u64, at: u64, bytes: u64, why: String },
    /// There are so many more places in the file.
    More { file: FileName, count: u32 },
    /// Something has not been verified for longer than the period. `age`, `period` in ns; `rate` in bytes a second, at most.
    Late { age: u64, period: u64, bytes: u64, rate: u64 },
    /// There is no companion to do it.
    Off { worker: u16 },
}

/// A segment that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    /// Place of its log among the worker's.
    log: usize,
    incarnation: u32,
    /// Retention time since which nothing of it has been verified; what has been written to it since is younger.
    since: Wall,
}

/// A log's part of the line, and what the catalog has of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    /// The newest incarnation that has been put into the line.
    newest: u32,
    /// The catalog is to be told.
    has_changed: bool,
    /// The list on its way to the catalog, by its time.
    listing: Option<Wall>,
}

/// What is being verified, and what comes next.
#[derive(Default)]
pub struct Scrub {
    line: VecDeque<Waiting>,
    /// By log.
    parts: Vec<Part>,
    /// With the companion, and since when.
    under_way: Option<(Segment, Waiting, Wall)>,
    pace: Pace,
    /// There is no companion: nothing is verified in this run.
    idle: bool,
    late: bool,
    /// A clean stop does not wait for the catalog any longer.
    stops: Option<Mono>,
    /// (log, incarnation, byte, bytes) of what has been told.
    told: VecDeque<(u32, u32, u64, u64)>,
}

/// When the next segment may begin: the one before was due at `at`, and has `bytes` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pace {
    at: Mono,
    bytes: u32,
}

impl Pace {
    /// At `rate` bytes a second, which may have risen since the last one began.
    fn due(self, rate: u64) -> Mono {
        self.at + (self.bytes as u128 * 1_000_000_000 / rate.max(1) as u128) as u64
    }

    /// The next one, of `bytes` bytes, begins `now`. What was missed is made up for, but no more than [`CREDIT_NS`] of it.
    fn begin(self, now: Mono, rate: u64, bytes: u32) -> Pace {
        Pace { at: self.due(rate).max(Mono(now.0.saturating_sub(CREDIT_NS))), bytes }
    }
}

/// Bytes a second that verify `bytes` in `period` ns.
pub fn rate_for(bytes: u64, period: u64) -> u64 {
    let rate = bytes as u128 * 1_000_000_000 * 100 / (period.max(1) as u128 * PASS_PERCENT as u128);
    rate.clamp(1, u64::MAX as u128) as u64
}

/// Nanoseconds of retention time since `since`.
fn age(now: Wall, since: Wall) -> u64 {
    now.0.saturating_sub(since.0).saturating_mul(1_000)
}

/// The line that a start begins with: the longest unverified first, as the catalog has it. `found`: what there is, by log, with the log's
/// entry in the catalog. Without one nothing of the log has been verified, and it counts as written now. What was verified by a clock that
/// was ahead, and does not count any more, counts as verified now; the order stays.
fn line_of<'a>(found: impl Iterator<Item = (usize, u32, Option<&'a Scrubs>)>, now: Wall) -> VecDeque<Waiting> {
    let since = |scrubs: Option<&Scrubs>, incarnation| scrubs.map_or(now, |scrubs| scrubs.since(incarnation));
    let mut line: VecDeque<Waiting> = found
        .map(|(log, incarnation, scrubs)| Waiting { log, incarnation, since: since(scrubs, incarnation) })
        .collect();
    line.make_contiguous().sort_by_key(|waiting| waiting.since);
    let mut latest = now;
    for waiting in line.iter_mut().rev() {
        waiting.since = waiting.since.min(latest);
        latest = Wall(waiting.since.0.saturating_sub(1));
    }
    line
}

impl Worker {
    /// Once a second: what has been begun joins the line, what is due is verified, and the catalog is told how far that is.
    pub(super) fn scrub(&mut self, ops: &mut Ops) {
        let Some(period) = self.options.scrub else { return };
        if !self.serving || self.stopping {
            return;
        }
        self.scrub_line();
        let first = self.scrub.line.front().map(|waiting| waiting.since);
        let since = first.into_iter().chain(self.scrub.under_way.map(|(_, waiting, _)| waiting.since)).min();
        let age = since.map_or(0, |since| age(self.retention.now(), since));
        self.counters.set(Counter::ScrubAgeSecondsNow, age / 1_000_000_000);
        if age > period && !self.scrub.late {
            let bytes = self.scrub_bytes();
            self.tell_operator(Notice::Scrub(Told::Late { age, period, bytes, rate: RATE_MAX }));
        }
        self.scrub.late = age > period;
        self.scrub_next(period, ops);
        self.list_scrubs(period / LISTS_A_PERIOD, ops);
    }

    /// New segments go to the end of the line; what the log has recycled leaves it.
    fn scrub_line(&mut self) {
        let now = self.retention.now();
        if self.scrub.parts.is_empty() {
            self.scrub.line = self.scrub_line_found(now);
            self.scrub.parts = vec![Part { has_changed: true, ..Part::default() }; self.logs.len()];
            let newest = |log: &Log| log.durable_after(0).last().map_or(0, |segment| segment.incarnation);
            self.scrub.parts.iter_mut().zip(&self.logs).for_each(|(part, log)| part.newest = newest(log));
        }
        let Worker { scrub, logs, .. } = self;
        for (log, part) in scrub.parts.iter_mut().enumerate() {
            for segment in logs[log].durable_after(part.newest) {
                (part.newest, part.has_changed) = (segment.incarnation, true);
                scrub.line.push_back(Waiting { log, incarnation: segment.incarnation, since: now });
            }
        }
        let held = |waiting: &Waiting| logs[waiting.log].durable_of(waiting.incarnation).is_some();
        let segments: usize = logs.iter().map(|log| log.segments() as usize).sum();
        if scrub.line.len() > 2 * segments {
            scrub.line.retain(held);
        }
        while scrub.line.front().is_some_and(|waiting| !held(waiting)) {
            scrub.line.pop_front();
        }
    }

    fn scrub_line_found(&self, now: Wall) -> VecDeque<Waiting> {
        let scrubs = &self.state().scrubs;
        let of_log = |(at, log): (usize, &Log)| {
            let listed = scrubs.get(&log.settings().number);
            let found = log.durable_after(0).map(move |segment| (at, segment.incarnation, listed));
            found.collect::<Vec<_>>()
        };
        line_of(self.logs.iter().enumerate().flat_map(of_log), now)
    }

    /// The catalog is told of logs that have something new, not again within `rest` ns.
    fn list_scrubs(&mut self, rest: u64, ops: &mut Ops) {
        let now = self.retention.now();
        for log in 0..self.scrub.parts.len() {
            let number = self.logs[log].settings().number;
            let at = self.state().scrubs.get(&number).map(|scrubs| scrubs.at);
            let part = &mut self.scrub.parts[log];
            part.listing = part.listing.filter(|sent| Some(*sent) != at);
            // A clock that was taken back leaves a list of a later time behind.
            let rested = at.is_none_or(|at| at > now || age(now, at) >= rest);
            if !part.has_changed || part.listing.is_some() || !rested {
                continue;
            }
            let change = Change::Scrubbed { log: number, scrubs: Scrubs { at: now, segments: self.unverified(log) } };
            if self.control.is_some() {
                self.keep_scrubs(change, ops);
            } else if self.mail.offer(0, Message::Scrubbed(Box::new(change))).is_err() {
                continue;
            }
            let part = &mut self.scrub.parts[log];
            (part.has_changed, part.listing) = (false, Some(now));
        }
    }

    fn unverified(&self, log: usize) -> Vec<Unverified> {
        let under_way = self.scrub.under_way.iter().map(|(_, waiting, _)| waiting);
        let waiting = self.scrub.line.iter().chain(under_way).filter(|waiting| waiting.log == log);
        let held = waiting.filter(|waiting| self.logs[log].durable_of(waiting.incarnation).is_some());
        let mut segments: Vec<Unverified> =
            held.map(|waiting| Unverified { incarnation: waiting.incarnation, since: waiting.since }).collect();
        segments.sort_unstable_by_key(|segment| segment.incarnation);
        segments
    }

    /// Worker 0: how far the scrubbing of a log has come is made durable. Nobody waits for an answer: its worker sees it in the catalog.
    pub(super) fn keep_scrubs(&mut self, change: Change, ops: &mut Ops) {
        if self.control.as_ref().is_some_and(|control| !control.has_failed()) {
            self.propose(change, None, ops);
        }
    }

    /// Whether a clean stop has to wait until the catalog holds how far scrubbing has come.
    pub(super) fn scrub_holds_stop(&mut self, ops: &mut Ops) -> bool {
        let until = *self.scrub.stops.get_or_insert(self.now.mono.plus_ms(STOP_MS));
        self.list_scrubs(0, ops);
        let is_kept = |part: &Part| !part.has_changed && part.listing.is_none();
        !self.scrub.parts.iter().all(is_kept) && self.now.mono < until
    }

    /// Bytes that a pass has to verify, at most.
    fn scrub_bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.segments() as u64 * log.settings().segment_size).sum()
    }

    /// The first in the line goes to the companion, if it is time and nothing is there.
    fn scrub_next(&mut self, period: u64, ops: &mut Ops) {
        let needed = rate_for(self.scrub_bytes(), period);
        if self.scrub.idle || self.scrub.under_way.is_some() {
            return;
        }
        let Some(waiting) = self.scrub.line.front().copied() else { return };
        // Where much has just been given back, what is left may have waited for most of a period that was shared with that.
        let latest = (period as u128 * PASS_PERCENT as u128 / 100) as u64;
        let now = self.retention.now();
        if self.now.mono < self.scrub.pace.due(needed) && age(now, waiting.since) < latest {
            return;
        }
        let Some(segment) = self.logs[waiting.log].durable_of(waiting.incarnation) else { return };
        self.scrub.line.pop_front();
        let weight = segment.end.max((segment.size / WEIGHT_MIN) as u32);
        self.scrub.pace = self.scrub.pace.begin(self.now.mono, needed, weight);
        self.scrub.under_way = Some((segment, waiting, now));
        let token = Token((SCRUB_TOKEN as u64) << 56 | segment.incarnation as u64);
        ops.push(Op::Scrub { segment, rate: needed.clamp(RATE_MIN, RATE_MAX), token });
    }

    /// The companion has verified the segment; `None`: there is none, or it has ended.
    pub(super) fn scrubbed(&mut self, report: Option<Box<Report>>, ops: &mut Ops) {
        let Some((segment, waiting, began)) = self.scrub.under_way.take() else { return };
        let Some(report) = report else {
            self.scrub.idle = true;
            self.scrub.line.push_front(waiting);
            return self.tell_operator(Notice::Scrub(Told::Off { worker: self.id }));
        };
        self.counters.add(Counter::ScrubbedBytes, report.bytes);
        // One that was recycled meanwhile was overwritten while it was read: what was found says nothing.
        if self.logs[waiting.log].durable_of(segment.incarnation).is_some() {
            self.scrub.line.push_back(Waiting { since: began, ..waiting });
            self.scrub.parts[waiting.log].has_changed = true;
            report.findings.into_iter().for_each(|finding| self.scrub_found(&segment, finding));
            self.scrub_more(&segment, report.untold);
        }
        if let Some(period) = self.options.scrub.filter(|_| self.serving && !self.stopping) {
            self.scrub_next(period, ops);
        }
    }

    /// Once for each place, as far as they are remembered: every pass meets it again.
    fn scrub_found(&mut self, segment: &Segment, finding: Finding) {
        let Finding { at, bytes, why } = finding;
        if self.is_new_finding(segment, at, bytes) {
            self.count_findings(1);
            let (file, position) = (segment.file(), segment.incarnation as u64 * segment.size + at);
            self.tell_operator(Notice::Scrub(Told::Damage { file, position, at, bytes, why }));
        }
    }

    fn scrub_more(&mut self, segment: &Segment, count: u32) {
        if count > 0 && self.is_new_finding(segment, segment.size, count as u64) {
            self.count_findings(count as u64);
            self.tell_operator(Notice::Scrub(Told::More { file: segment.file(), count }));
        }
    }

    fn is_new_finding(&mut self, segment: &Segment, at: u64, bytes: u64) -> bool {
        let place = (segment.log, segment.incarnation, at, bytes);
        let told = &mut self.scrub.told;
        let is_new = !told.contains(&place);
        if is_new {
            if told.len() == FINDINGS_REMEMBERED {
                told.pop_front();
            }
            told.push_back(place);
        }
        is_new
    }

    fn count_findings(&mut self, count: u64) {
        self.counters.add(Counter::ScrubFindings, count);
        self.counters.add(Counter::Damaged, count);
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Damage { file, position, at, bytes, why } => write!(
                f,
                "DAMAGE in {file}, {bytes} bytes at {at} (position {position}), found by scrubbing: {why}; readers go on behind it; \
                 `penstock inspect segment` shows what is left; copy the file before its records expire"
            ),
            Told::More { file, count } => write!(f, "DAMAGE in {file}: scrubbing has found {count} more places"),
            Told::Late { age, period, bytes, rate } => write!(
                f,
                "scrubbing is late: something has not been verified for {}, and should be every {}; there are {} MiB at {} MiB/s at most; \
                 if the server was not down for that long, raise --scrub-days, or give the server more --cores",
                show_time(*age),
                show_time(*period),
                bytes >> 20,
                rate >> 20
            ),
            Told::Off { worker } => write!(
                f,
                "nothing of the logs of worker {worker} is scrubbed: it has no companion; what the companion said tells why"
            ),
        }
    }
}

/// `14 days`, `36 hours`, `90 s`, `20 ms`, from ns.
pub fn show_time(ns: u64) -> String {
    match ns / 1_000_000_000 {
        s if s >= 3 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 3 * 3_600 => format!("{} hours", s / 3_600),
        0 => format!("{} ms", ns / 1_000_000),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_four_fifths_of_the_period() {
        let day = 86_400 * 1_000_000_000;
        assert_eq!(rate_for(86_400 << 20, day), (1 << 20) * 100 / PASS_PERCENT);
        // Looked at once a second, what takes half of one is not put off: on average the distance holds.
        let second = 1_000_000_000;
        let (mut pace, mut now, mut begun) = (Pace { at: Mono(100 * second), bytes: 0 }, Mono(100 * second), 0);
        while now.0 < 200 * second {
            while pace.due(1 << 20) <= now {
                pace = pace.begin(now, 1 << 20, 1 << 19);
                begun += 1;
            }
            now = now + second;
        }
        assert!((199..=201).contains(&begun), "{begun} halves of a second in 100");
        // More to verify brings the next one forward, and a long rest is not made up for.
        let pace = Pace { at: Mono(100 * second), bytes: 1 << 20 };
        assert_eq!((pace.due(1 << 10), pace.due(1 << 20)), (Mono(1124 * second), Mono(101 * second)));
        assert_eq!(pace.begin(Mono(900 * second), 1 << 20, 7), Pace { at: Mono(890 * second), bytes: 7 });
        // Nothing to do is no division by zero, nor is no time.
        assert_eq!((rate_for(0, day), rate_for(1, 0)), (1, 1_250_000_000));
    }

    #[test]
    fn a_start_goes_on_where_the_last_run_had_come_to() {
        let scrubs = |at, segments: &[(u32, u64)]| Scrubs {
            at: Wall(at),
            segments: segments
                .iter()
                .map(|&(incarnation, since)| Unverified { incarnation, since: Wall(since) })
                .collect(),
        };
        // Of log 0 segment 4 came after the list; of log 1 the clock was ahead when 8 and 9 were verified; nothing is known of log 2.
        let (first, second) = (scrubs(70, &[(1, 60), (2, 10), (3, 40)]), scrubs(30, &[(7, 20), (8, 900), (9, 800)]));
        let found = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 7), (1, 8), (1, 9), (2, 1)];
        let listed = |log| [Some(&first), Some(&second), None][log];
        let line = line_of(found.iter().map(|&(log, incarnation)| (log, incarnation, listed(log))), Wall(100));
        let line: Vec<_> = line.iter().map(|waiting| (waiting.log, waiting.incarnation, waiting.since.0)).collect();
        let expected =
            [(0, 2, 10), (1, 7, 20), (0, 3, 40), (0, 1, 60), (0, 4, 70), (2, 1, 98), (1, 9, 99), (1, 8, 100)];
        assert_eq!(line, expected);
    }
}

//! Scrubbing: every sealed byte is verified within a period, by the companion, one segment at a time, the longest unverified first.
//!
//! Segments stand in one line, in the order in which they were sealed or verified last; the first one goes, and comes back to the end. How
//! far that is, is forgotten by a restart, which begins with the oldest. The steps are such that a pass takes four fifths of the period.

use super::Worker;
use super::notice::Notice;
use crate::io::clock::Mono;
use crate::io::op::{FileName, Op, Ops, Token};
use crate::io::scrub::{Finding, Report, Segment};
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
    /// Since when nothing of it has been verified, in this run.
    since: Mono,
}

/// What is being verified, and what comes next.
#[derive(Default)]
pub struct Scrub {
    line: VecDeque<Waiting>,
    /// The newest incarnation of each log that has been put into the line.
    known: Vec<u32>,
    /// With the companion, and since when.
    under_way: Option<(Segment, Waiting, Mono)>,
    pace: Pace,
    /// There is no companion: nothing is verified in this run.
    idle: bool,
    late: bool,
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

impl Worker {
    /// Once a second: what was sealed joins the line, and what is due begins.
    pub(super) fn scrub(&mut self, ops: &mut Ops) {
        let Some(period) = self.options.scrub else { return };
        if !self.serving || self.stopping {
            return;
        }
        self.scrub_line();
        let first = self.scrub.line.front().map(|waiting| waiting.since);
        let since = first.into_iter().chain(self.scrub.under_way.map(|(_, waiting, _)| waiting.since)).min();
        let age = since.map_or(0, |since| self.now.mono - since);
        self.counters.set(Counter::ScrubAgeSecondsNow, age / 1_000_000_000);
        if age > period && !self.scrub.late {
            let bytes = self.scrub_bytes();
            self.tell_operator(Notice::Scrub(Told::Late { age, period, bytes, rate: RATE_MAX }));
        }
        self.scrub.late = age > period;
        self.scrub_next(period, ops);
    }

    /// New segments go to the end of the line; what the log has recycled leaves it.
    fn scrub_line(&mut self) {
        let Worker { scrub, logs, now, .. } = self;
        scrub.known.resize(logs.len(), 0);
        for (log, known) in scrub.known.iter_mut().enumerate() {
            for segment in logs[log].sealed_after(*known) {
                *known = segment.incarnation;
                scrub.line.push_back(Waiting { log, incarnation: segment.incarnation, since: now.mono });
            }
        }
        let held = |waiting: &Waiting| logs[waiting.log].sealed(waiting.incarnation).is_some();
        let segments: usize = logs.iter().map(|log| log.segments() as usize).sum();
        if scrub.line.len() > 2 * segments {
            scrub.line.retain(held);
        }
        while scrub.line.front().is_some_and(|waiting| !held(waiting)) {
            scrub.line.pop_front();
        }
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
        let latest = waiting.since + (period as u128 * PASS_PERCENT as u128 / 100) as u64;
        if self.now.mono < self.scrub.pace.due(needed).min(latest) {
            return;
        }
        let Some(segment) = self.logs[waiting.log].sealed(waiting.incarnation) else { return };
        self.scrub.line.pop_front();
        self.scrub.pace = self.scrub.pace.begin(self.now.mono, needed, segment.end);
        self.scrub.under_way = Some((segment, waiting, self.now.mono));
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
        if self.logs[waiting.log].sealed(segment.incarnation).is_some() {
            self.scrub.line.push_back(Waiting { since: began, ..waiting });
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
                 raise --scrub-days, or give the server more --cores",
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
}

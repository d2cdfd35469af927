//! Whether emptying segments is worth it now, and which.
//!
//! A record that is moved is written again, so it should be moved once. Commits of lone small puts are mostly padding: a segment that takes both
//! them and moved frames holds little as soon as it is sealed, and all that was moved would be moved again. So moves come in *bursts*: one
//! begins with a segment, when there is enough to fill most of it, and goes through all candidates.
//!
//! What it may cost depends on the need. A log in which little is written ([`Need::Quiet`]) is packed well. One that has space, or that may
//! trim, gives moves a tenth of what is written ([`Need::Steady`]): much of what is sparse today will have expired when its space is wanted.
//! One that runs out of segments ([`Need::Short`]) moves what has to be moved, as puts would be refused.

use super::Log;
use crate::io::clock::{Mono, Now};

/// Shares of a segment, in percent, below which it is worth emptying: usually, and where the device has nothing better to do or puts would be
/// refused. Half costs a byte for each one won, four fifths cost four.
const WORTH_PERCENT: (u64, u64) = (50, 80);
/// Of what is written, moves may add so much while there is space.
const ALLOWED_PERCENT: u64 = 10;
/// A burst begins when it fills so much of a segment, in percent, or gives back so many.
const FILLS_PERCENT: u64 = 75;
const GIVES_SEGMENTS: u64 = 8;
/// And while at most this part of the active segment is used.
const BEGUN_PART: u64 = 8;
/// A log is quiet when less than this part of a segment is written in a second.
const QUIET_PART: u64 = 64;
/// Free segments, beside those in reserve, below which it is short of them: so many, or this part of all.
const SHORT_SEGMENTS: u32 = 3;
const SHORT_PART: u32 = 8;
const SECOND_NS: u64 = 1_000_000_000;

/// What moves are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Little is written: the device has nothing better to do.
    Quiet,
    /// There is space, or a full log may trim.
    Steady,
    /// Puts will be refused. `now`: the next segment may be too late.
    Short { now: bool },
}

/// What is known for the decision. Bytes.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// Segments that hold little, by the last survey, with what would be moved: the sparsest last.
    candidates: Vec<(u32, u64)>,
    /// A burst is under way.
    bursting: bool,
    /// Moved commits that what was written has earned; below zero: what is owed.
    allowance: i64,
    /// Data commits lately: halved every second.
    recent: u64,
    halved: Mono,
    /// All that is wanted is that a segment begins.
    pub awaits_segment: bool,
}

/// Whether to go on.
pub(super) enum Verdict {
    /// With this segment.
    Empty(u32),
    /// With a new segment first.
    Turn,
    NotNow,
}

impl Policy {
    /// A commit of data is durable.
    pub fn wrote(&mut self, bytes: u64, segment: u64) {
        self.recent += bytes;
        self.allowance = (self.allowance + (bytes * ALLOWED_PERCENT / 100) as i64).min(segment as i64);
    }

    /// A commit of moved frames is durable.
    pub fn moved(&mut self, bytes: u64, segment: u64) {
        // What a full or a quiet log needs is not held against it for ever.
        self.allowance = (self.allowance - bytes as i64).max(-(segment as i64));
    }

    /// What a survey has found.
    pub fn found(&mut self, mut candidates: Vec<(u32, u64)>) {
        candidates.sort_unstable_by_key(|(incarnation, live)| std::cmp::Reverse((*live, *incarnation)));
        self.candidates = candidates;
    }

    /// A segment that could not be emptied to its end now: the next one again.
    pub fn put_back(&mut self, incarnation: u32) {
        self.candidates.push((incarnation, 0));
    }

    pub fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// The burst is over: what is left waits for the next survey.
    pub fn end_burst(&mut self) {
        self.bursting = false;
        self.candidates.clear();
    }

    fn halve(&mut self, now: Mono) {
        let seconds = (now - self.halved.min(now)) / SECOND_NS;
        if seconds > 0 {
            self.recent = self.recent.checked_shr(seconds as u32).unwrap_or(0);
            self.halved = now;
        }
    }

    /// What emptying all candidates that are worth it comes to: (bytes to be moved, bytes given back).
    fn sum(&self, worth: u64, segment: u64) -> (u64, u64) {
        let lives = self.candidates.iter().map(|(_, live)| *live).filter(|live| *live < worth);
        lives.fold((0, 0), |(moved, given), live| (moved + live, given + segment - live))
    }
}

/// Below this many bytes a segment may be worth emptying.
pub(super) fn worth_most(segment: u64) -> u64 {
    segment * WORTH_PERCENT.1 / 100
}

impl Log {
    fn need(&self, trims: bool) -> Need {
        let free = self.files.free();
        let short = self.reserve() + SHORT_SEGMENTS.max(self.settings.files / SHORT_PART);
        if free < short && !trims {
            return Need::Short { now: free < self.reserve() + SHORT_SEGMENTS };
        }
        match self.policy.recent < self.settings.segment_size / QUIET_PART {
            true => Need::Quiet,
            false => Need::Steady,
        }
    }

    /// Which segment to empty next, if any. `trims`: a full log gives back its oldest segment instead of refusing puts.
    pub(super) fn next_to_empty(&mut self, now: Now, trims: bool) -> Verdict {
        self.policy.halve(now.mono);
        self.policy.awaits_segment = false;
        let (need, size) = (self.need(trims), self.settings.segment_size);
        let worth = match need {
            Need::Steady | Need::Short { now: false } => size * WORTH_PERCENT.0 / 100,
            Need::Quiet | Need::Short { now: true } => size * WORTH_PERCENT.1 / 100,
        };
        if !self.policy.bursting {
            let (moved, given) = self.policy.sum(worth, size);
            let fills = moved >= size * FILLS_PERCENT / 100;
            let earned = self.policy.allowance >= moved.min(size * FILLS_PERCENT / 100) as i64;
            let begins = self.active && self.at as u64 <= size / BEGUN_PART;
            let much = fills || given >= size * GIVES_SEGMENTS;
            let (wanted, at_begin) = match need {
                Need::Quiet => (given >= size, fills),
                Need::Steady => (much && earned, true),
                Need::Short { now } => (much || now && moved > 0, !now),
            };
            if !wanted {
                return Verdict::NotNow;
            }
            if at_begin && !begins {
                match need {
                    // Nobody else is about to fill the active one.
                    Need::Quiet if self.files.free() > self.reserve() + 1 => return Verdict::Turn,
                    Need::Quiet => {}
                    Need::Steady | Need::Short { .. } => {
                        self.policy.awaits_segment = true;
                        return Verdict::NotNow;
                    }
                }
            }
            self.policy.bursting = true;
        }
        let paid = need != Need::Steady || self.policy.allowance > 0;
        match self.policy.candidates.pop() {
            Some((incarnation, live)) if paid && live < worth => Verdict::Empty(incarnation),
            _ => {
                self.policy.end_burst();
                Verdict::NotNow
            }
        }
    }
}

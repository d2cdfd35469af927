//! What a start says of the wall clock, beside the one that is not synchronised.

use super::Worker;
use super::notice::Notice;
use crate::catalog::change::Change;
use crate::io::clock::Wall;
use crate::io::op::Ops;
use std::fmt;

/// From here on it is worth a line that the wall clock and retention time are apart, in seconds.
const APART_TOLD_S: u64 = 3600;

/// How the wall clock and the retention time of the last run lie to each other, where that is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockNews {
    /// `--accept-clock`: retention time moves from the last run's by so many seconds, back where negative.
    Accepted { moved_seconds: i64, synchronised: bool },
    /// The wall clock lies before the retention time of the last run, which goes on from there.
    Behind { seconds: u64 },
}

impl Worker {
    /// Worker 0, at start: retention time goes on from the wall clock or from `persisted`; gives it, in µs since 1970.
    pub(super) fn settle_clock(&mut self, persisted: Wall) -> u64 {
        let (wall, accepted, synchronised) =
            (self.now.wall, self.options.accept_clock, self.options.clock_synchronised);
        let settled = self.retention.settle(self.now, persisted, synchronised, accepted);
        let behind_seconds = wall.0.saturating_sub(settled) / 1_000_000;
        let ahead_seconds = settled.saturating_sub(wall.0) / 1_000_000;
        let is_new = self.boot.as_ref().is_some_and(|boot| boot.is_new);
        let doubtful = !synchronised || wall < persisted;
        if accepted && doubtful && !is_new {
            let moved_seconds = (wall.0 as i64 - persisted.0 as i64) / 1_000_000;
            self.tell_operator(Notice::Clock(ClockNews::Accepted { moved_seconds, synchronised }));
        }
        if behind_seconds > APART_TOLD_S {
            self.tell_operator(Notice::ClockNotBelieved { behind_seconds });
        }
        if ahead_seconds > APART_TOLD_S {
            self.tell_operator(Notice::Clock(ClockNews::Behind { seconds: ahead_seconds }));
        }
        settled
    }

    /// Worker 0: a clock that was accepted although it goes back is what the next start goes on from, flag or not. The superblock says so
    /// already; the catalog's time, which is the higher one, must follow.
    pub(super) fn keep_accepted_clock(&mut self, ops: &mut Ops) {
        let wall = self.retention.now();
        let Some(control) = self.control.as_mut().filter(|control| !control.failed) else { return };
        if wall < control.catalog.state().retention_wall {
            control.catalog.propose(Change::RetentionClock { wall }, &mut self.buffers, ops);
        }
    }
}

impl fmt::Display for ClockNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ClockNews::Accepted { moved_seconds, synchronised } => {
                let seconds = moved_seconds.unsigned_abs();
                let (way, effect) = match moved_seconds < 0 {
                    true => ("BACK", "live that much longer"),
                    false => ("on", "expire by it"),
                };
                let doubt = if synchronised { "" } else { ", though the kernel does not call it synchronised" };
                write!(
                    f,
                    "--accept-clock: the clock is believed as it is{doubt}: retention time goes {way} by {seconds} s, and records {effect}"
                )
            }
            ClockNews::Behind { seconds } => write!(
                f,
                "the clock lies {seconds} s before the retention time of the last run, from which retention goes on: records expire that much \
                 early; if it is the clock that is right, start with --accept-clock"
            ),
        }
    }
}

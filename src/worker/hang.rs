//! A drive that does not answer: nobody can hurry it, but the operator is told while puts still wait.

use super::Worker;
use super::notice::Notice;
use crate::io::clock::Mono;
use crate::log::format::Position;
use crate::observe::counter::Counter;
use std::fmt;

/// A commit on its way for so long, in ms, is worth a word: a drive that cleans up takes a second, a put is refused after twenty.
const HANGS_AFTER_MS: u64 = 5_000;

/// What is told of a log's drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HangNews {
    /// A commit has been on its way for `seconds` at least.
    Hangs { log: u32, path: Option<String>, seconds: u64 },
    /// It has arrived, `seconds` after it was first seen on its way.
    Answers { log: u32, path: Option<String>, seconds: u64 },
}

/// How long a log has waited for its drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hang {
    durable: Position,
    /// Since when it has been seen with something on its way, and nothing has arrived.
    since: Option<Mono>,
    told: bool,
}

impl Hang {
    /// Looks at a log, once a second: whether it hangs, if that is news, and seconds.
    fn look(&mut self, now: Mono, durable: Position, in_flight: bool) -> Option<(bool, u64)> {
        if !in_flight || durable != self.durable {
            let before = std::mem::replace(self, Hang { durable, since: in_flight.then_some(now), told: false });
            return before.since.filter(|_| before.told).map(|since| (false, (now - since) / 1_000_000_000));
        }
        let since = *self.since.get_or_insert(now);
        let news = !self.told && since.plus_ms(HANGS_AFTER_MS) <= now;
        self.told |= news;
        news.then(|| (true, (now - since) / 1_000_000_000))
    }
}

impl Worker {
    /// Once a second.
    pub(super) fn look_for_hangs(&mut self) {
        self.hangs.resize(self.logs.len(), Hang::default());
        for at in 0..self.logs.len() {
            let log = &self.logs[at];
            let (number, waits) = (log.settings().number, log.in_flight() && log.failed().is_none());
            let Some((hangs, seconds)) = self.hangs[at].look(self.now.mono, log.durable(), waits) else { continue };
            let path = self.path_of(number);
            self.tell_operator(Notice::Hang(match hangs {
                true => HangNews::Hangs { log: number, path, seconds },
                false => HangNews::Answers { log: number, path, seconds },
            }));
        }
        self.counters.set(Counter::LogsHangingNow, self.hangs.iter().filter(|hang| hang.told).count() as u64);
    }
}

impl fmt::Display for HangNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (HangNews::Hangs { log, path, .. } | HangNews::Answers { log, path, .. }) = self;
        let place = path.as_ref().map(|path| format!(" in {path}")).unwrap_or_default();
        match self {
            HangNews::Hangs { seconds, .. } => write!(
                f,
                "THE DRIVE OF log {log}{place} DOES NOT ANSWER: a commit has been on its way for {seconds} s; puts to its shards wait, and fail \
                 after 20 s; look at the device and the kernel's log (of two halves of a mirror it may be either)"
            ),
            HangNews::Answers { seconds, .. } => {
                write!(f, "the drive of log {log}{place} answers again, after {seconds} s")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_does_not_answer_is_told_once_and_so_is_that_it_does_again() {
        let mut hang = Hang::default();
        let mut look = |second: u64, durable: u64, in_flight| {
            hang.look(Mono(second * 1_000_000_000), Position(durable), in_flight)
        };
        // Busy, but it goes on; then idle for long.
        for second in 0..20 {
            assert_eq!(look(second, second, true), None);
        }
        for second in 20..40 {
            assert_eq!(look(second, 19, false), None);
        }
        for second in 40..45 {
            assert_eq!(look(second, 19, true), None);
        }
        assert_eq!(look(45, 19, true), Some((true, 5)));
        for second in 46..60 {
            assert_eq!(look(second, 19, true), None);
        }
        assert_eq!(look(60, 20, true), Some((false, 20)));
        assert_eq!((look(61, 20, true), look(64, 20, true)), (None, None));
        assert_eq!(look(65, 20, true), Some((true, 5)));
        // It fails, or all has arrived.
        assert_eq!(look(66, 20, false), Some((false, 6)));
    }
}

//! Numbers of a shard that were not there when it was read: trimmed, if no record that is older than what follows them is left; else lost.

/// Stretches that are kept of each kind. Readers that are overtaken again and again have so many, hardly anybody else.
const GAPS_MAX: usize = 4096;

/// From a number to before another.
type Gap = (u64, u64);

#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// Not looked into yet, and known to be trimmed; each in rising order.
    open: Vec<Gap>,
    trimmed: Vec<Gap>,
    is_full: bool,
}

impl Gaps {
    /// `from` was to come next, and `to` did. Both are higher than in any call before.
    pub fn note(&mut self, from: u64, to: u64) {
        self.is_full |= !push(&mut self.open, (from, to));
    }

    /// Whether there were newer records than have come, though nothing more comes: that is a gap too, and `next` is behind it then. `newest`: the
    /// number behind the newest.
    pub fn misses(&mut self, next: &mut Option<u64>, newest: Option<u64>) -> bool {
        let (Some(from), Some(to)) = (*next, newest) else { return false };
        if to > from {
            self.note(from, to);
            *next = newest;
        }
        to > from
    }

    /// Whether it is to be found out what the oldest record is.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// What the oldest record is that there is now; `None`: there is none. What it is older than was not trimmed, and stays missing.
    pub fn settle(&mut self, oldest: Option<u64>) {
        for gap in std::mem::take(&mut self.open) {
            if oldest.is_none_or(|oldest| oldest >= gap.1) {
                self.is_full |= !push(&mut self.trimmed, gap);
            }
        }
    }

    /// Whether this number was trimmed before it was read, which is proved.
    pub fn is_trimmed(&self, number: u64) -> bool {
        let behind = self.trimmed.partition_point(|(from, _)| *from <= number);
        behind > 0 && number < self.trimmed[behind - 1].1
    }

    /// There were too many to keep.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

/// Adds a gap behind the others, to the last one if they touch; `false`: there is no room.
fn push(gaps: &mut Vec<Gap>, (from, to): Gap) -> bool {
    let has_room = gaps.len() < GAPS_MAX;
    match gaps.last_mut() {
        Some(last) if last.1 == from => last.1 = to,
        _ if has_room => gaps.push((from, to)),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(gaps: &Gaps) -> Vec<u64> {
        (0..60).filter(|number| gaps.is_trimmed(*number)).collect()
    }

    #[test]
    fn a_number_was_trimmed_if_nothing_is_older_than_what_follows_its_gap() {
        for (oldest, proved) in [
            (None, vec![10, 11, 20, 21, 22]),
            (Some(50), vec![10, 11, 20, 21, 22]),
            (Some(23), vec![10, 11, 20, 21, 22]),
            (Some(22), vec![10, 11]),
            (Some(12), vec![10, 11]),
            (Some(11), vec![]),
            (Some(1), vec![]),
        ] {
            let mut gaps = Gaps::default();
            gaps.note(10, 12);
            gaps.note(20, 22);
            // One message behind the other is missing: a gap that grows.
            gaps.note(22, 23);
            assert!(gaps.is_open() && trimmed(&gaps).is_empty());
            gaps.settle(oldest);
            assert!(!gaps.is_open());
            assert_eq!(trimmed(&gaps), proved, "{oldest:?}");
        }
    }

    #[test]
    fn what_was_once_lost_is_not_trimmed_later_and_memory_is_bounded() {
        let mut gaps = Gaps::default();
        gaps.note(10, 12);
        gaps.settle(Some(5));
        gaps.note(30, 31);
        gaps.settle(None);
        assert_eq!(trimmed(&gaps), [30]);
        (20..20 + 2 * GAPS_MAX as u64).for_each(|at| gaps.note(2 * at, 2 * at + 1));
        assert!(gaps.is_full() && gaps.open.len() == GAPS_MAX);
    }
}

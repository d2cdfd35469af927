//! Whether the records of earlier runs that a stream still has are whole: by what they say of themselves, without knowing what was acknowledged.

use super::chain::Stamp;
use std::collections::BTreeMap;

/// Keys and runs that are followed at most; gaps of one of them.
const BOOKS_MAX: usize = 1 << 21;
const GAPS_MAX: usize = 4096;

/// What the records of a run show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub records: u64,
    pub keys: u64,
    /// Before the first one of a key that is there: expired, or trimmed.
    pub before: u64,
    /// Between those that are there: lost, unless they were refused.
    pub missing: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub damaged: u64,
}

impl Shown {
    /// Whether something is there that must not be, or is not what was written. Missing ones may have been refused.
    pub fn is_bad(&self) -> bool {
        self.duplicated + self.reordered + self.damaged > 0
    }
}

#[derive(Clone, Debug)]
struct Book {
    next: u64,
    hash: u64,
    /// Numbers that were passed over, from the first to before the second.
    gaps: Vec<(u64, u64)>,
}

/// Takes records shard by shard, each in its order.
#[derive(Default)]
pub struct Audit {
    books: BTreeMap<(u64, u32), Book>,
    runs: BTreeMap<u64, Shown>,
    /// Records that no run has written.
    pub others: u64,
}

impl Audit {
    /// The next record. The text says why it cannot be followed.
    pub fn record(&mut self, data: &[u8]) -> Result<(), String> {
        let Some(run) = Stamp::run(data) else {
            self.others += 1;
            return Ok(());
        };
        let shown = self.runs.entry(run).or_default();
        let Ok((stamp, hash)) = Stamp::open(run, data) else {
            shown.damaged += 1;
            return Ok(());
        };
        shown.records += 1;
        let full = self.books.len() >= BOOKS_MAX;
        let Some(book) = self.books.get_mut(&(run, stamp.key)) else {
            if full {
                return Err(format!("there are more than {BOOKS_MAX} keys"));
            }
            shown.keys += 1;
            shown.before += stamp.number;
            self.books.insert((run, stamp.key), Book { next: stamp.number + 1, hash, gaps: Vec::new() });
            return Ok(());
        };
        if stamp.number < book.next {
            match book.gaps.iter().position(|(from, to)| (*from..*to).contains(&stamp.number)) {
                None => shown.duplicated += 1,
                Some(at) => {
                    shown.reordered += 1;
                    shown.missing -= 1;
                    let (from, to) = book.gaps.remove(at);
                    let parts = [(from, stamp.number), (stamp.number + 1, to)];
                    book.gaps.extend(parts.into_iter().filter(|(from, to)| from < to));
                }
            }
            return Ok(());
        }
        match stamp.number - book.next {
            0 => shown.reordered += (stamp.before != book.hash) as u64,
            passed => {
                shown.missing += passed;
                if book.gaps.len() < GAPS_MAX {
                    book.gaps.push((book.next, stamp.number));
                }
            }
        }
        (book.next, book.hash) = (stamp.number + 1, hash);
        Ok(())
    }

    /// By run.
    pub fn shown(&self) -> impl Iterator<Item = (u64, Shown)> {
        self.runs.iter().map(|(run, shown)| (*run, *shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::chain::STAMP;

    fn records(run: u64, count: u64) -> Vec<Vec<u8>> {
        let mut before = 0;
        let record = |number| {
            let mut data = vec![number as u8; STAMP + 4];
            before = Stamp { run, key: 1, number, sent: 1, before }.seal(&mut data);
            data
        };
        (0..count).map(record).collect()
    }

    fn shown(records: &[Vec<u8>], order: &[usize]) -> Shown {
        let mut audit = Audit::default();
        order.iter().for_each(|at| audit.record(&records[*at]).expect("few keys"));
        audit.record(b"somebody else's").expect("few keys");
        assert_eq!(audit.others, 1);
        let all: Vec<_> = audit.shown().collect();
        assert_eq!((all.len(), all[0].0), (1, 7));
        all[0].1
    }

    #[test]
    fn what_is_there_is_told_from_what_is_not() {
        let records = records(7, 8);
        let whole = Shown { records: 8, keys: 1, ..Shown::default() };
        assert_eq!(shown(&records, &[0, 1, 2, 3, 4, 5, 6, 7]), whole);
        assert_eq!(shown(&records, &[2, 3, 4, 7]), Shown { records: 4, before: 2, missing: 2, ..whole });
        assert_eq!(shown(&records, &[0, 1, 2, 2, 3, 4, 5, 6, 7]), Shown { records: 9, duplicated: 1, ..whole });
        assert_eq!(shown(&records, &[0, 2, 1, 3, 4, 5, 6, 7]), Shown { reordered: 1, ..whole });
        let mut changed = records.clone();
        changed[4][STAMP] ^= 1;
        let told = shown(&changed, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(told, Shown { records: 7, damaged: 1, missing: 1, ..whole });
        assert!(told.is_bad() && !whole.is_bad());
    }

    #[test]
    fn a_gap_is_closed_piece_by_piece() {
        let records = records(7, 8);
        assert_eq!(
            shown(&records, &[0, 6, 3, 7, 2]),
            Shown { records: 5, keys: 1, missing: 3, reordered: 2, ..Shown::default() }
        );
    }
}

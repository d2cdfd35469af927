//! Which files of the catalog's directory count at a start.
//!
//! A rotation makes snapshot N durable under its name, then journal N, then removes what is older. So the newest snapshot counts; its
//! journal may be missing only while an older one is still there.

use crate::io::op::FileName;

/// What a start reads, makes and removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Number of the snapshot that counts and of its journal.
    pub number: u64,
    /// Bytes of the snapshot; `None`: the journal begins with an empty state.
    pub snapshot: Option<u64>,
    /// Bytes of the journal; `None`: it is to be made.
    pub journal: Option<u64>,
    /// Drafts, and files older than the snapshot.
    pub leftovers: Vec<FileName>,
}

impl Inventory {
    /// Of the files listed; `is_new` when the directory has never served. The error names what is missing.
    pub fn of(files: &[(FileName, u64)], is_new: bool) -> Result<Inventory, String> {
        let mut snapshots = Vec::new();
        let mut journals = Vec::new();
        let mut leftovers = Vec::new();
        for (file, size) in files {
            match file {
                FileName::Snapshot { number } => snapshots.push((*number, *size)),
                FileName::Journal { number } => journals.push((*number, *size)),
                FileName::SnapshotDraft { .. } => leftovers.push(*file),
                _ => {}
            }
        }
        let snapshot = snapshots.iter().max().copied();
        let number = snapshot.map_or(0, |(number, _)| number);
        let journal = journals.iter().find(|(journal, _)| *journal == number).map(|(_, size)| *size);
        if let Some((orphan, _)) = journals.iter().find(|(journal, _)| *journal > number) {
            return Err(format!(
                "{} is missing, which {} goes on from",
                FileName::Snapshot { number: *orphan },
                FileName::Journal { number: *orphan }
            ));
        }
        let has_older = journals.iter().any(|(journal, _)| *journal < number);
        let is_created = snapshot.is_none() && is_new;
        if journal.is_none() && !has_older && !is_created {
            return Err(format!("{} is missing", FileName::Journal { number }));
        }
        let old = |numbers: Vec<(u64, u64)>| numbers.into_iter().map(|(old, _)| old).filter(move |old| *old < number);
        leftovers.extend(old(journals).map(|number| FileName::Journal { number }));
        leftovers.extend(old(snapshots).map(|number| FileName::Snapshot { number }));
        Ok(Inventory { number, snapshot: snapshot.map(|(_, size)| size), journal, leftovers })
    }
}

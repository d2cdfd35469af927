//! The start: which files of the catalog's directory count, and what they say.
//!
//! A rotation makes snapshot N durable under its name, then journal N, then spares of what is older. So the newest snapshot counts; its
//! journal may be missing only while an older one is still there.

use super::entry;
use super::journal::{Catalog, Event, Stage};
use super::reserve;
use crate::io::op::{DirName, FileName, OpenHow, Spare};
use crate::log::steps::Step;

/// What a start reads, makes and removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Number of the snapshot that counts and of its journal.
    pub number: u64,
    /// Bytes of the snapshot; `None`: the journal begins with an empty state.
    pub snapshot: Option<u64>,
    /// Bytes of the journal; `None`: it is to be made.
    pub journal: Option<u64>,
    /// Bytes of the spares.
    pub snapshot_spare: Option<u64>,
    pub journal_spare: Option<u64>,
    /// Journals and snapshots older than the snapshot, with their bytes.
    pub older: Vec<(FileName, u64)>,
    pub drafts: Vec<FileName>,
}

impl Inventory {
    /// Of the files listed; `is_new` when the directory has never served. The error names what is missing.
    pub fn of(files: &[(FileName, u64)], is_new: bool) -> Result<Inventory, String> {
        let mut found = Inventory::default();
        let (mut snapshots, mut journals) = (Vec::new(), Vec::new());
        for (file, size) in files {
            match file {
                FileName::Snapshot { number } => snapshots.push((*number, *size)),
                FileName::Journal { number } => journals.push((*number, *size)),
                FileName::Spare(Spare::Snapshot) => found.snapshot_spare = Some(*size),
                FileName::Spare(Spare::Journal) => found.journal_spare = Some(*size),
                FileName::SpareDraft(_) => found.drafts.push(*file),
                _ => {}
            }
        }
        let snapshot = snapshots.iter().max().copied();
        let number = snapshot.map_or(0, |(number, _)| number);
        (found.number, found.snapshot) = (number, snapshot.map(|(_, size)| size));
        found.journal = journals.iter().find(|(journal, _)| *journal == number).map(|(_, size)| *size);
        if let Some((orphan, _)) = journals.iter().find(|(journal, _)| *journal > number) {
            return Err(format!(
                "{} is missing, which {} goes on from",
                FileName::Snapshot { number: *orphan },
                FileName::Journal { number: *orphan }
            ));
        }
        let has_older = journals.iter().any(|(journal, _)| *journal < number);
        let is_created = snapshot.is_none() && is_new;
        if found.journal.is_none() && !has_older && !is_created {
            return Err(format!("{} is missing", FileName::Journal { number }));
        }
        let older = |(other, _): &(u64, u64)| *other < number;
        let journals = journals.into_iter().filter(older).map(|(number, size)| (FileName::Journal { number }, size));
        let snapshots = snapshots.into_iter().filter(older).map(|(number, size)| (FileName::Snapshot { number }, size));
        found.older.extend(journals.chain(snapshots));
        Ok(found)
    }
}

impl Catalog {
    pub(super) fn listed(&mut self, files: &[(FileName, u64)]) {
        let Stage::Start { is_new } = self.stage else { return };
        let inventory = match Inventory::of(files, is_new) {
            Ok(inventory) => inventory,
            Err(why) => return self.refuse(why),
        };
        self.journal.number = inventory.number;
        match inventory.snapshot {
            Some(size) => {
                let file = FileName::Snapshot { number: inventory.number };
                self.read(file, size);
                self.steps.push(Step::Close(file));
                self.stage = Stage::ReadSnapshot(inventory);
            }
            None => self.open_journal(inventory),
        }
    }

    fn read(&mut self, file: FileName, size: u64) {
        self.steps.push(Step::Open { file, how: OpenHow::Existing });
        if size > 0 {
            self.steps.push(Step::Read { file, limit: size.next_multiple_of(self.settings.block as u64) });
        }
    }

    pub(super) fn snapshot_read(&mut self, inventory: Inventory) {
        let bytes = self.steps.take_read();
        match entry::decode_snapshot(self.place(inventory.number), &bytes) {
            Ok((state, crc)) => {
                self.state = state;
                self.journal.crc = crc;
                self.journal.snapshot = inventory.snapshot;
                self.open_journal(inventory);
            }
            Err(damage) => self.damaged(FileName::Snapshot { number: inventory.number }, damage),
        }
    }

    fn open_journal(&mut self, mut inventory: Inventory) {
        let file = FileName::Journal { number: inventory.number };
        if let Some(size) = inventory.journal {
            self.journal.size = self.whole_blocks(size);
            self.read(file, size);
            self.stage = Stage::ReadJournal(inventory);
            return;
        }
        if inventory.snapshot.is_none() {
            self.steps.push(Step::MakeDir(DirName::Catalog));
            self.steps.push(Step::SyncDir(DirName::Top));
        }
        inventory.drafts.drain(..).for_each(|draft| self.steps.push(Step::Unlink(draft)));
        // A file that is there takes no room: the spare, or else a journal that the snapshot has replaced.
        let older = inventory.older.iter().position(|(older, _)| matches!(older, FileName::Journal { .. }));
        let (source, size, how) = match (inventory.journal_spare.take(), older) {
            (Some(size), _) => (FileName::Spare(Spare::Journal), self.whole_blocks(size), OpenHow::Existing),
            (None, Some(older)) => {
                let (file, size) = inventory.older.swap_remove(older);
                (file, self.whole_blocks(size), OpenHow::Existing)
            }
            (None, None) => {
                let size = self.settings.journal_bytes;
                (FileName::SpareDraft(Spare::Journal), size, OpenHow::Create { size })
            }
        };
        self.journal.size = size;
        self.steps.push(Step::Open { file: source, how });
        if size > 0 {
            self.steps.push(Step::Zeros { file: source, until: size });
        }
        self.steps.push(Step::Fsync(source));
        self.steps.push(Step::Rename { from: source, to: file });
        self.settle(inventory, false);
    }

    fn whole_blocks(&self, size: u64) -> u64 {
        size / self.settings.block as u64 * self.settings.block as u64
    }

    pub(super) fn journal_read(&mut self, inventory: Inventory) {
        let bytes = self.steps.take_read();
        let file = FileName::Journal { number: inventory.number };
        match entry::decode_journal(self.place(inventory.number), self.journal.crc, &bytes) {
            Ok(found) => {
                for (number, change) in &found.changes {
                    self.state.apply(*number, change);
                }
                self.journal.end = found.end;
                self.journal.crc = found.crc;
                self.settle(inventory, found.is_torn);
            }
            Err(damage) => self.damaged(file, damage),
        }
    }

    /// What was read may be in the device's cache only: it is flushed before anything is built on it. Then older files become the spares,
    /// where those are missing, and leftovers go.
    fn settle(&mut self, inventory: Inventory, is_torn: bool) {
        let file = FileName::Journal { number: inventory.number };
        self.steps.push(Step::Fsync(file));
        self.steps.push(Step::SyncDir(DirName::Catalog));
        let (mut snapshot, mut journal) = (inventory.snapshot_spare, inventory.journal_spare);
        for (older, size) in inventory.older {
            let (spare, kept) = match older {
                FileName::Journal { .. } => (Spare::Journal, &mut journal),
                _ => (Spare::Snapshot, &mut snapshot),
            };
            if kept.is_none() {
                *kept = Some(size);
                self.steps.push(Step::Rename { from: older, to: FileName::Spare(spare) });
            } else {
                self.steps.push(Step::Unlink(older));
            }
        }
        inventory.drafts.into_iter().for_each(|draft| self.steps.push(Step::Unlink(draft)));
        self.steps.push(Step::SyncDir(DirName::Catalog));
        self.spares.sizes = reserve::Sizes {
            snapshot: self.whole_blocks(snapshot.unwrap_or(0)),
            journal: self.whole_blocks(journal.unwrap_or(0)),
        };
        self.stage = Stage::Settle { torn: is_torn.then_some(file) };
    }

    pub(super) fn settled(&mut self, torn: Option<FileName>) {
        self.ahead = self.state.clone();
        self.need = reserve::need(&self.ahead);
        self.is_recovered = true;
        self.events.push_back(Event::Recovered { torn });
    }
}

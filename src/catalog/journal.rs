//! The catalog of worker 0: changes made durable in order, and the state that they make.
//!
//! Calling order: [`Catalog::recover`] once; every completion of an owned token to [`Catalog::on_done`] or [`Catalog::on_listed`]; changes
//! to [`Catalog::propose`]; then drain [`Catalog::event`].
//!
//! One operation is in flight at most, and one entry: the changes proposed meanwhile share the next. When an entry does not fit into the
//! journal any more, the state becomes a snapshot: draft written and flushed, renamed, directory synced; next journal made and flushed,
//! directory synced; only then are older files removed. An error is final: what the disk holds is then unknown, and the next start tells.

use super::change::Change;
use super::entry::{self, Encoded, Place};
use super::recover::Inventory;
use super::state::State;
use crate::io::buffers::Buffers;
use crate::io::op::{DirName, Errno, FileName, OpenHow, Ops, Sync, Token};
use crate::log::steps::{Progress, Step, Steps};
use std::collections::VecDeque;

/// Bytes of a journal, but for one whose first entry is larger.
pub const JOURNAL_BYTES: u64 = 1 << 20;
/// Changes that one entry takes at most.
const CHANGES_PER_ENTRY: usize = 64;
const ENOENT: i32 = 2;

/// What the catalog has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state is there and durable. `torn`: the journal had an end that was never acknowledged.
    Recovered { torn: Option<FileName> },
    /// This start cannot go on; nothing was altered. `why` names file and remedy.
    Refused { why: String },
    /// The change is durable and applied; in the order of numbers.
    Durable(u64, Change),
    /// No change becomes durable any more.
    Failed { what: String, errno: Errno },
}

/// What the machine is given once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Top byte of every token.
    pub owner: u8,
    /// Of the superblock.
    pub block: u32,
    pub directory: u64,
    /// [`JOURNAL_BYTES`], or less in a test; whole blocks.
    pub journal_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Start {
        is_new: bool,
    },
    ReadSnapshot(Inventory),
    ReadJournal(Inventory),
    /// The journal is made, or flushed, and leftovers go.
    Settle {
        torn: Option<FileName>,
    },
    Ready,
    /// An entry is being written; it ends at this byte and has this header CRC.
    Write {
        end: u64,
        crc: u32,
    },
    /// To the journal of this number, of this size, behind a snapshot of this header CRC.
    Rotate {
        number: u64,
        size: u64,
        crc: u32,
    },
    /// Refused or failed.
    Over,
}

/// The journal in use.
#[derive(Clone, Copy, Debug, Default)]
struct Journal {
    number: u64,
    /// Byte that the next entry goes to.
    end: u64,
    /// Bytes of the file.
    size: u64,
    /// Header CRC of the last entry, or of the snapshot before.
    crc: u32,
    /// Whether a snapshot of the same number is before it.
    has_snapshot: bool,
}

/// State, journal, and what is on its way.
pub struct Catalog {
    settings: Settings,
    steps: Steps,
    stage: Stage,
    is_recovered: bool,
    state: State,
    /// `state` with everything proposed.
    ahead: State,
    journal: Journal,
    /// Proposed, in order, not being written yet.
    pending: VecDeque<Change>,
    /// Changes of the entry being written, or held back by a rotation; they follow `state.applied`.
    writing: Vec<Change>,
    events: VecDeque<Event>,
}

impl Catalog {
    /// Takes a block slot for good; `None` when none is free. A slot holds at least a block.
    pub fn new(settings: Settings, buffers: &mut Buffers) -> Option<Catalog> {
        Some(Catalog {
            settings,
            steps: Steps::new(settings.owner, buffers)?,
            stage: Stage::Start { is_new: false },
            is_recovered: false,
            state: State::default(),
            ahead: State::default(),
            journal: Journal::default(),
            pending: VecDeque::new(),
            writing: Vec::new(),
            events: VecDeque::new(),
        })
    }

    /// Begins to read the catalog: ends in `Recovered`, `Refused` or `Failed`. `is_new`: the directory has never served (its epoch is the
    /// first), so an absent catalog is made; otherwise it is missed.
    pub fn recover(&mut self, is_new: bool, buffers: &mut Buffers, ops: &mut Ops) {
        self.stage = Stage::Start { is_new };
        self.steps.push(Step::List(DirName::Catalog));
        self.steps.go(buffers, ops);
    }

    /// Queues a change and gives its number. It is in [`Catalog::ahead`] at once; an event tells when it is durable. After `Recovered`
    /// only; after `Failed` nothing is kept. The queue holds one change for each request and log that waits for it, so it is bounded by
    /// them.
    pub fn propose(&mut self, change: Change, buffers: &mut Buffers, ops: &mut Ops) -> u64 {
        assert!(
            self.is_recovered || self.stage == Stage::Over,
            "a change is proposed to a state that has been recovered"
        );
        let number = self.ahead.applied + 1;
        if self.stage != Stage::Over {
            self.ahead.apply(number, &change);
            self.pending.push_back(change);
        }
        self.proceed(buffers, ops);
        number
    }

    /// Takes the completion of an owned operation.
    pub fn on_done(&mut self, token: Token, result: Result<u32, Errno>, buffers: &mut Buffers, ops: &mut Ops) {
        match self.steps.done(token, result, buffers) {
            Progress::NotMine | Progress::More => {}
            Progress::Finished => self.finished(),
            Progress::Failed(step, errno) => self.end(Event::Failed { what: step.to_string(), errno }),
        }
        self.proceed(buffers, ops);
    }

    /// Takes the listing of an owned operation.
    pub fn on_listed(
        &mut self,
        token: Token,
        result: Result<Vec<(FileName, u64)>, Errno>,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        let (files, result) = match result {
            Ok(files) => (files, Ok(0)),
            Err(Errno(ENOENT)) => (Vec::new(), Ok(0)),
            Err(errno) => (Vec::new(), Err(errno)),
        };
        match self.steps.done(token, result, buffers) {
            Progress::NotMine => return,
            Progress::Failed(step, errno) => self.end(Event::Failed { what: step.to_string(), errno }),
            Progress::More | Progress::Finished => self.listed(&files),
        }
        self.proceed(buffers, ops);
    }

    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn owns(&self, token: Token) -> bool {
        self.steps.owns(token)
    }

    /// Everything durable: what workers are told, and reads are answered from.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Everything proposed: what the next request is judged against.
    pub fn ahead(&self) -> &State {
        &self.ahead
    }

    /// The durable state as a snapshot of the server holds it: its number, the bytes of the snapshot with that number, and of its empty journal.
    pub fn capture(&self) -> (u64, Vec<u8>, Vec<u8>) {
        let number = self.state.applied;
        let Encoded { bytes, .. } = entry::encode_snapshot(self.place(number), &self.state.of_copy());
        (number, bytes, vec![0; self.settings.block as usize])
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.steps.is_idle() && self.pending.is_empty() && self.writing.is_empty()
    }

    fn place(&self, file: u64) -> Place {
        Place { block: self.settings.block, directory: self.settings.directory, file }
    }

    fn end(&mut self, event: Event) {
        self.stage = Stage::Over;
        self.events.push_back(event);
    }

    fn refuse(&mut self, why: String) {
        let why = format!("the catalog cannot be used: {why}; nothing was altered; restore the file from a copy");
        self.end(Event::Refused { why });
    }

    fn damaged(&mut self, file: FileName, damage: entry::Damage) {
        self.refuse(format!("{file} at byte {}: {}", damage.at, damage.why));
    }

    /// Goes on with the steps, or with what is proposed.
    fn proceed(&mut self, buffers: &mut Buffers, ops: &mut Ops) {
        if self.stage == Stage::Ready && !(self.pending.is_empty() && self.writing.is_empty()) {
            self.write_or_rotate();
        }
        self.steps.go(buffers, ops);
    }

    /// A list of steps has been carried out.
    fn finished(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Ready) {
            Stage::ReadSnapshot(inventory) => self.snapshot_read(inventory),
            Stage::ReadJournal(inventory) => self.journal_read(inventory),
            Stage::Settle { torn } => {
                self.ahead = self.state.clone();
                self.is_recovered = true;
                self.events.push_back(Event::Recovered { torn });
            }
            Stage::Write { end, crc } => {
                self.journal.end = end;
                self.journal.crc = crc;
                for change in self.writing.drain(..) {
                    let number = self.state.applied + 1;
                    self.state.apply(number, &change);
                    self.events.push_back(Event::Durable(number, change));
                }
            }
            Stage::Rotate { number, size, crc } => {
                self.journal = Journal { number, end: 0, size, crc, has_snapshot: true };
            }
            stage @ (Stage::Start { .. } | Stage::Ready | Stage::Over) => self.stage = stage,
        }
    }

    fn listed(&mut self, files: &[(FileName, u64)]) {
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

    fn snapshot_read(&mut self, inventory: Inventory) {
        let bytes = self.steps.take_read();
        match entry::decode_snapshot(self.place(inventory.number), &bytes) {
            Ok((state, crc)) => {
                self.state = state;
                self.journal.crc = crc;
                self.journal.has_snapshot = true;
                self.open_journal(inventory);
            }
            Err(damage) => self.damaged(FileName::Snapshot { number: inventory.number }, damage),
        }
    }

    /// Reads the journal, or makes it: in a new directory, or where a rotation had come to.
    fn open_journal(&mut self, inventory: Inventory) {
        let file = FileName::Journal { number: inventory.number };
        if let Some(size) = inventory.journal {
            self.journal.size = size;
            self.read(file, size);
            self.stage = Stage::ReadJournal(inventory);
            return;
        }
        if inventory.snapshot.is_none() {
            self.steps.push(Step::MakeDir(DirName::Catalog));
            self.steps.push(Step::SyncDir(DirName::Top));
        }
        self.journal.size = self.settings.journal_bytes;
        self.steps.push(Step::Open { file, how: OpenHow::Create { size: self.journal.size } });
        self.settle(inventory, false);
    }

    fn journal_read(&mut self, inventory: Inventory) {
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

    /// What was read may be in the device's cache only: it is flushed before anything is built on it. Then leftovers go.
    fn settle(&mut self, inventory: Inventory, is_torn: bool) {
        let file = FileName::Journal { number: inventory.number };
        self.steps.push(Step::Fsync(file));
        self.steps.push(Step::SyncDir(DirName::Catalog));
        for leftover in inventory.leftovers {
            self.steps.push(Step::Unlink(leftover));
        }
        self.steps.push(Step::SyncDir(DirName::Catalog));
        self.stage = Stage::Settle { torn: is_torn.then_some(file) };
    }

    fn write_or_rotate(&mut self) {
        let room = CHANGES_PER_ENTRY - self.writing.len();
        self.writing.extend(self.pending.drain(..room.min(self.pending.len())));
        let Journal { number, end, size, crc, .. } = self.journal;
        let Encoded { bytes, crc } =
            entry::encode_changes(self.place(number), crc, self.state.applied + 1, &self.writing);
        let after = end + bytes.len() as u64;
        // The first entry of a journal goes in whatever its size: the file grows.
        if after > size && end > 0 {
            return self.rotate((bytes.len() as u64).max(self.settings.journal_bytes));
        }
        self.journal.size = size.max(after);
        self.steps.push(Step::Write { file: FileName::Journal { number }, at: end, bytes, sync: Sync::Durable });
        self.stage = Stage::Write { end: after, crc };
    }

    fn rotate(&mut self, size: u64) {
        let number = self.state.applied;
        let old = self.journal;
        let Encoded { bytes, crc } = entry::encode_snapshot(self.place(number), &self.state);
        let (draft, snapshot) = (FileName::SnapshotDraft { number }, FileName::Snapshot { number });
        let journal = FileName::Journal { number };
        let old_journal = FileName::Journal { number: old.number };
        let steps = [
            Step::Open { file: draft, how: OpenHow::Create { size: 0 } },
            Step::Write { file: draft, at: 0, bytes, sync: Sync::Later },
            Step::Fsync(draft),
            Step::Rename { from: draft, to: snapshot },
            Step::SyncDir(DirName::Catalog),
            Step::Close(snapshot),
            Step::Open { file: journal, how: OpenHow::Create { size } },
            Step::Fsync(journal),
            Step::SyncDir(DirName::Catalog),
            Step::Close(old_journal),
            Step::Unlink(old_journal),
        ];
        steps.into_iter().for_each(|step| self.steps.push(step));
        if old.has_snapshot {
            self.steps.push(Step::Unlink(FileName::Snapshot { number: old.number }));
        }
        self.steps.push(Step::SyncDir(DirName::Catalog));
        self.stage = Stage::Rotate { number, size, crc };
    }
}

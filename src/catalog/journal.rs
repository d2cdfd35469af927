//! The catalog of worker 0: changes made durable in order, and the state that they make.
//!
//! Calling order: [`Catalog::recover`] once; every completion of an owned token to [`Catalog::on_done`] or [`Catalog::on_listed`]; changes
//! to [`Catalog::propose`]; then drain [`Catalog::event`].
//!
//! One operation is in flight at most, and one entry: the changes proposed meanwhile share the next. When an entry does not fit into the
//! journal any more, the state becomes a snapshot: written into the spare and flushed, renamed, directory synced; the other spare becomes
//! the next journal, directory synced; only then are older files made spares (see [`super::reserve`]). What counts is never made longer,
//! so nothing of this needs room. Where a spare is missing and there is no room for one, changes wait for it. Any other error is final: what
//! the disk holds is then unknown, and the next start tells.

use super::change::Change;
use super::entry::{self, Encoded, Place};
use super::recover::Inventory;
use super::reserve::{self, Cover, Sizes, Spares, Work};
use super::state::State;
use crate::io::buffers::Buffers;
use crate::io::clock::Mono;
use crate::io::op::{DirName, Errno, FileName, OpenHow, Ops, Spare, Sync, Token};
use crate::log::segment::NO_ROOM;
use crate::log::steps::{Progress, Step, Steps};
use std::collections::VecDeque;

/// Bytes of a journal. One whose first entry is larger holds nothing else.
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
    /// The file system has no room for a spare, or (`back`) has it again.
    Room { back: bool },
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
pub(super) enum Stage {
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
    /// The state is being written into the spare, which becomes the snapshot of this number, with this header CRC.
    Snapshot {
        number: u64,
        crc: u32,
    },
    /// The other spare becomes the journal behind that snapshot.
    Rotate {
        number: u64,
        crc: u32,
    },
    /// The spare takes the place of a journal that is empty and too small.
    Replace,
    /// A spare is being made (`is_new`) or cleaned.
    Spare {
        spare: Spare,
        size: u64,
        is_new: bool,
    },
    /// What could not be made for want of room is taken away.
    Clear,
    /// Refused or failed.
    Over,
}

/// The journal in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Journal {
    pub number: u64,
    /// Byte that the next entry goes to.
    pub end: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Header CRC of the last entry, or of the snapshot before.
    pub crc: u32,
    /// Bytes of the snapshot of the same number before it, if there is one.
    pub snapshot: Option<u64>,
}

/// State, journal, and what is on its way.
pub struct Catalog {
    pub(super) settings: Settings,
    pub(super) steps: Steps,
    pub(super) stage: Stage,
    pub(super) is_recovered: bool,
    pub(super) state: State,
    /// `state` with everything proposed.
    pub(super) ahead: State,
    pub(super) journal: Journal,
    pub(super) spares: Spares,
    /// What `ahead` can need of the spares, in bytes, and what was asked for.
    pub(super) need: u64,
    asked: u64,
    /// Whoever only reads the catalog needs no spares: they are kept from the first change on, or when room is looked for.
    keeps_spares: bool,
    /// Changes wait for a spare.
    waits: bool,
    /// Proposed, in order, not being written yet.
    pending: VecDeque<Change>,
    /// Changes of the entry being written, or held back by a rotation; they follow `state.applied`.
    writing: Vec<Change>,
    pub(super) events: VecDeque<Event>,
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
            spares: Spares::default(),
            need: 0,
            asked: 0,
            keeps_spares: false,
            waits: false,
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
            self.need = reserve::need(&self.ahead);
            self.keeps_spares = true;
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
            Progress::Failed(step, errno) => self.failed(&step, errno),
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

    /// Where the file system had no room for a spare: tries again when it is time. Called every second or so.
    pub fn look_for_room(&mut self, now: Mono, buffers: &mut Buffers, ops: &mut Ops) {
        if self.is_recovered {
            self.keeps_spares = true;
            self.spares.look(now);
            self.proceed(buffers, ops);
        }
    }

    /// Whether `growth` more bytes ([`reserve::need`]) than what was proposed would be covered by the files that there are, in each
    /// rotation to come. What is not covered should not be proposed: changes that give room back could then wait for room. `Soon`: to be
    /// asked again.
    pub fn cover(&mut self, growth: u64, buffers: &mut Buffers, ops: &mut Ops) -> Cover {
        let wanted = self.need + growth;
        let least = Sizes::of(wanted, self.settings.journal_bytes);
        if self.stage == Stage::Over || self.spares.sizes.cover(least) && !self.outgrows(wanted) {
            self.asked = if self.waits { self.asked } else { 0 };
            return Cover::Given;
        }
        (self.asked, self.keeps_spares) = (wanted, true);
        self.proceed(buffers, ops);
        if self.spares.lacks_room { Cover::Missing } else { Cover::Soon }
    }

    /// Whether changes wait for the file system to have room.
    pub fn waits_for_room(&self) -> bool {
        self.waits && self.spares.lacks_room
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

    pub(super) fn place(&self, file: u64) -> Place {
        Place { block: self.settings.block, directory: self.settings.directory, file }
    }

    fn end(&mut self, event: Event) {
        self.stage = Stage::Over;
        self.events.push_back(event);
    }

    pub(super) fn refuse(&mut self, why: String) {
        let why = format!("the catalog cannot be used: {why}; nothing was altered; restore the file from a copy");
        self.end(Event::Refused { why });
    }

    pub(super) fn damaged(&mut self, file: FileName, damage: entry::Damage) {
        self.refuse(format!("{file} at byte {}: {}", damage.at, damage.why));
    }

    /// Goes on with the steps, or with what is next.
    fn proceed(&mut self, buffers: &mut Buffers, ops: &mut Ops) {
        if self.stage == Stage::Ready && self.keeps_spares {
            self.begin_next();
        }
        self.steps.go(buffers, ops);
    }

    /// Spares come before changes: so what a change may need is there before it counts.
    fn begin_next(&mut self) {
        let wanted = self.need.max(self.asked);
        if let Some(work) = self.work(wanted) {
            return self.begin_work(work);
        }
        if self.spares.retries() {
            self.room_is_given();
        }
        if self.outgrows(wanted) && !self.spares.lacks_room {
            return self.rotate(0);
        }
        let is_idle = self.pending.is_empty() && self.writing.is_empty();
        if !is_idle && !self.waits {
            self.write_or_rotate();
        }
    }

    fn work(&self, wanted: u64) -> Option<Work> {
        let Settings { journal_bytes, block, .. } = self.settings;
        self.spares.work(Sizes::of(wanted, journal_bytes), journal_bytes, block as u64)
    }

    /// Whether the files in use are too small to be the next spares, and may be replaced.
    fn outgrows(&self, wanted: u64) -> bool {
        let in_use = Sizes { snapshot: self.journal.snapshot.unwrap_or(0), journal: self.journal.size };
        self.journal.end > 0 && !in_use.cover(Sizes::of(wanted, self.settings.journal_bytes))
    }

    fn begin_work(&mut self, work: Work) {
        let (file, spare, size, is_new) = match work {
            Work::Clean { size } => (FileName::Spare(Spare::Journal), Spare::Journal, size, false),
            Work::Make { spare, size } => (FileName::SpareDraft(spare), spare, size, true),
        };
        let how = if is_new { OpenHow::Create { size } } else { OpenHow::Existing };
        self.push([Step::Open { file, how }, Step::Zeros { file, until: size }, Step::Fsync(file), Step::Close(file)]);
        if is_new {
            self.push([Step::Rename { from: file, to: FileName::Spare(spare) }, Step::SyncDir(DirName::Catalog)]);
        }
        self.stage = Stage::Spare { spare, size, is_new };
    }

    fn push<const N: usize>(&mut self, steps: [Step; N]) {
        steps.into_iter().for_each(|step| self.steps.push(step));
    }

    fn room_is_given(&mut self) {
        if self.spares.room_is_given() {
            self.events.push_back(Event::Room { back: true });
        }
    }

    /// A list of steps has been carried out.
    fn finished(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Ready) {
            Stage::ReadSnapshot(inventory) => self.snapshot_read(inventory),
            Stage::ReadJournal(inventory) => self.journal_read(inventory),
            Stage::Settle { torn } => self.settled(torn),
            Stage::Write { end, crc } => {
                self.journal.end = end;
                self.journal.crc = crc;
                for change in self.writing.drain(..) {
                    let number = self.state.applied + 1;
                    self.state.apply(number, &change);
                    self.events.push_back(Event::Durable(number, change));
                }
            }
            Stage::Snapshot { number, crc } => self.begin_journal(number, crc),
            Stage::Rotate { number, crc } => {
                let Sizes { snapshot, journal } = self.spares.sizes;
                let old = Sizes { snapshot: self.journal.snapshot.unwrap_or(0), journal: self.journal.size };
                self.journal = Journal { number, end: 0, size: journal, crc, snapshot: Some(snapshot) };
                (self.spares.sizes, self.spares.is_clean) = (old, false);
            }
            Stage::Replace => {
                self.journal.size = self.spares.sizes.journal;
                self.spares.is_lost(Spare::Journal);
            }
            Stage::Spare { spare, size, is_new } => {
                self.spares.is_made(spare, size);
                self.waits = false;
                if is_new {
                    self.room_is_given();
                }
            }
            Stage::Clear => {}
            stage @ (Stage::Start { .. } | Stage::Ready | Stage::Over) => self.stage = stage,
        }
    }

    /// A step has failed; the rest of the list is dropped. Want of room is no failure where nothing that counts has been touched.
    fn failed(&mut self, step: &Step, errno: Errno) {
        let spare = match self.stage {
            Stage::Spare { spare, .. } => spare,
            Stage::Snapshot { .. } => Spare::Snapshot,
            _ => return self.end(Event::Failed { what: step.to_string(), errno }),
        };
        if !NO_ROOM.contains(&errno) {
            return self.end(Event::Failed { what: step.to_string(), errno });
        }
        self.stage = Stage::Clear;
        let file = match *step {
            Step::Open { how: OpenHow::Create { .. }, file } => file,
            Step::Write { file, .. } | Step::Zeros { file, .. } | Step::Fsync(file) => {
                self.push([Step::Close(file)]);
                file
            }
            Step::Rename { from, .. } => {
                if from == FileName::Spare(spare) {
                    self.push([Step::Close(from)]);
                }
                from
            }
            _ => return self.end(Event::Failed { what: step.to_string(), errno }),
        };
        match (file, step) {
            // What was not made has left nothing.
            (_, Step::Open { .. }) => self.stage = Stage::Ready,
            (FileName::SpareDraft(_), _) => self.push([Step::Unlink(file), Step::SyncDir(DirName::Catalog)]),
            // Its blocks were not there after all: another one is made.
            _ => self.spares.is_lost(spare),
        }
        if self.spares.room_is_missing() {
            self.events.push_back(Event::Room { back: false });
        }
    }

    fn write_or_rotate(&mut self) {
        let room = CHANGES_PER_ENTRY - self.writing.len();
        self.writing.extend(self.pending.drain(..room.min(self.pending.len())));
        let Journal { number, end, size, crc, .. } = self.journal;
        let Encoded { bytes, crc } = loop {
            let first = self.state.applied + 1;
            let entry = entry::encode_changes(self.place(number), crc, first, &self.writing);
            let fits = entry.bytes.len() as u64 <= self.settings.journal_bytes;
            if fits || self.writing.len() == 1 {
                break entry;
            }
            // A journal takes a single change whatever its size, but several only within its bytes.
            for change in self.writing.drain(self.writing.len() / 2..).rev() {
                self.pending.push_front(change);
            }
        };
        let (len, after) = (bytes.len() as u64, end + bytes.len() as u64);
        // A large state takes its time to become a snapshot, so that is made after as many bytes of entries again.
        let room = self.settings.journal_bytes.max(self.need);
        if after <= size && (end == 0 || after <= room) {
            self.push([Step::Write { file: FileName::Journal { number }, at: end, bytes, sync: Sync::Durable }]);
            self.stage = Stage::Write { end: after, crc };
        } else if end > 0 {
            self.rotate(len);
        } else if self.may_use_spares(0, len) {
            self.replace();
        }
    }

    /// Whether the spares hold this much; otherwise changes wait for those that do.
    fn may_use_spares(&mut self, snapshot: u64, entry: u64) -> bool {
        self.waits = !self.spares.hold(snapshot, entry);
        if self.waits {
            self.asked = self.asked.max(snapshot).max(entry);
            if let Some(work) = self.work(self.asked) {
                self.begin_work(work);
            }
        }
        !self.waits
    }

    /// To a journal that takes `entry` bytes.
    fn rotate(&mut self, entry: u64) {
        let number = self.state.applied;
        let Encoded { bytes, crc } = entry::encode_snapshot(self.place(number), &self.state);
        if !self.may_use_spares(bytes.len() as u64, entry) {
            return;
        }
        let (spare, snapshot) = (FileName::Spare(Spare::Snapshot), FileName::Snapshot { number });
        self.push([
            Step::Open { file: spare, how: OpenHow::Existing },
            Step::Write { file: spare, at: 0, bytes, sync: Sync::Later },
            Step::Fsync(spare),
            Step::Rename { from: spare, to: snapshot },
        ]);
        self.stage = Stage::Snapshot { number, crc };
    }

    /// The snapshot has its name.
    fn begin_journal(&mut self, number: u64, crc: u32) {
        let old = self.journal;
        let (snapshot, journal) = (FileName::Snapshot { number }, FileName::Journal { number });
        let spare = FileName::Spare(Spare::Journal);
        let old_journal = FileName::Journal { number: old.number };
        self.push([
            Step::SyncDir(DirName::Catalog),
            Step::Close(snapshot),
            Step::Open { file: spare, how: OpenHow::Existing },
            Step::Rename { from: spare, to: journal },
            Step::SyncDir(DirName::Catalog),
            Step::Close(old_journal),
            Step::Rename { from: old_journal, to: spare },
        ]);
        if old.snapshot.is_some() {
            let from = FileName::Snapshot { number: old.number };
            self.push([Step::Rename { from, to: FileName::Spare(Spare::Snapshot) }]);
        }
        self.push([Step::SyncDir(DirName::Catalog)]);
        self.stage = Stage::Rotate { number, crc };
    }

    fn replace(&mut self) {
        let (spare, journal) = (FileName::Spare(Spare::Journal), FileName::Journal { number: self.journal.number });
        self.push([
            Step::Close(journal),
            Step::Open { file: spare, how: OpenHow::Existing },
            Step::Rename { from: spare, to: journal },
            Step::SyncDir(DirName::Catalog),
        ]);
        self.stage = Stage::Replace;
    }
}

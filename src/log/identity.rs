//! What says whose a further data directory is: one file in it, so that drives are recognised wherever they are mounted.
//!
//! The home has no identity, but the superblock. An identity appears under its name only when it is whole (draft, rename, sync), and is
//! durable before the superblock names the directory; so one that the superblock does not name belongs to an addition that did not end,
//! and a damaged one is damage. [`Identities`] reads those of all directories given to a start, one after another, then writes those of
//! the directories that are added.

use super::sealed::{Unusable, seal, unseal};
use super::steps::{Staged, Step, Steps};
use crate::io::buffers::Buffers;
use crate::io::op::{DirName, Errno, FileName, OpenHow, Ops, Sync};
use rkyv::{Archive, Deserialize, Serialize, rancor};

const MAGIC: u64 = u64::from_le_bytes(*b"pensdrct");
/// Bytes read of one: more than any has.
const LIMIT: u64 = 64 << 10;

/// Whose a further data directory is. Version 1.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `Superblock::directory` of its home.
    pub home: u64,
    /// Its own, random.
    pub id: u64,
    /// Its place in the home's list.
    pub number: u32,
    /// Where the home was when this was written, to name it to a person.
    pub home_path: String,
}

impl Identity {
    /// Whole blocks, ready to be written.
    pub fn encode(&self, block: u32) -> Vec<u8> {
        // Fails only without memory, or past 2 GiB.
        let body = rkyv::to_bytes::<rancor::Error>(self).expect("an identity is some hundred bytes");
        seal(MAGIC, self.number as u64, self.home, &body, block)
    }

    pub fn decode(bytes: &[u8]) -> Result<Identity, Unusable> {
        let body = unseal(MAGIC, bytes)?;
        rkyv::from_bytes::<Identity, rancor::Error>(body).map_err(|_| Unusable::Damaged("its body does not decode"))
    }
}

/// What a directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it has no identity.
    Nothing,
    Identity(Identity),
    /// Something that cannot be used, and why.
    Unusable(String),
}

/// What the machine has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What each directory says, in the order of this start.
    Read(Vec<Found>),
    /// All identities that were to be written are durable.
    Written,
    /// An operation in directory `given` failed.
    Failed { given: u8, what: String, errno: Errno },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Listing the directory, then reading its identity.
    List(u8),
    Read(u8),
    /// Writing into this directory.
    Write(u8),
}

/// The identities of the directories of a start.
pub struct Identities {
    steps: Steps,
    stage: Stage,
    count: u8,
    found: Vec<Found>,
    /// Directories in which a draft was found: it goes before a new one is made.
    drafts: Vec<u8>,
    /// Still to be written, the last one first: the directory and the bytes.
    due: Vec<(u8, Vec<u8>)>,
    event: Option<Event>,
}

impl Identities {
    /// Takes a block slot until [`Identities::release`]; there is one at start. `owner` becomes the top byte of every token.
    pub fn new(owner: u8, buffers: &mut Buffers) -> Option<Identities> {
        let steps = Steps::new(owner, buffers)?;
        let (found, drafts, due) = (Vec::new(), Vec::new(), Vec::new());
        Some(Identities { steps, stage: Stage::Idle, count: 0, found, drafts, due, event: None })
    }

    /// Gives the slot back; nothing may be under way.
    pub fn release(self, buffers: &mut Buffers) {
        self.steps.release(buffers);
    }

    /// Reads what the directories 0 .. `count` of this start say of themselves; changes nothing. Ends in an event.
    pub fn read(&mut self, count: u8, buffers: &mut Buffers, ops: &mut Ops) {
        self.count = count;
        self.list(0);
        self.steps.go(buffers, ops);
    }

    /// Makes identities durable, one after another, each over what the directory had before. `block`: what devices write at once. Ends in
    /// an event, after at least one.
    pub fn write(&mut self, due: Vec<(u8, Identity)>, block: u32, buffers: &mut Buffers, ops: &mut Ops) {
        assert!(!due.is_empty(), "nothing would be written");
        self.due = due.into_iter().rev().map(|(given, identity)| (given, identity.encode(block))).collect();
        self.write_next();
        self.steps.go(buffers, ops);
    }

    pub fn event(&mut self) -> Option<Event> {
        self.event.take()
    }

    fn list(&mut self, given: u8) {
        if given == self.count {
            self.stage = Stage::Idle;
            self.event = Some(Event::Read(std::mem::take(&mut self.found)));
            return;
        }
        self.stage = Stage::List(given);
        self.steps.push(Step::List(DirName::Given(given)));
    }

    fn found_files(&mut self, given: u8, files: &[(FileName, u64)]) {
        let has = |file| files.iter().any(|(name, _)| *name == file);
        if has(FileName::IdentityDraft { given }) {
            self.drafts.push(given);
        }
        let file = FileName::Identity { given };
        if !has(file) {
            self.found.push(Found::Nothing);
            return self.list(given + 1);
        }
        self.stage = Stage::Read(given);
        self.steps.push(Step::Open { file, how: OpenHow::Existing });
        self.steps.push(Step::Read { file, limit: LIMIT });
        // What a killed process wrote may be in the device's cache only; it is about to be trusted.
        self.steps.push(Step::Fsync(file));
        self.steps.push(Step::Close(file));
        self.steps.push(Step::SyncDir(DirName::Given(given)));
    }

    fn write_next(&mut self) {
        let Some((given, bytes)) = self.due.pop() else {
            self.stage = Stage::Idle;
            self.event = Some(Event::Written);
            return;
        };
        self.stage = Stage::Write(given);
        let (draft, file) = (FileName::IdentityDraft { given }, FileName::Identity { given });
        if self.drafts.contains(&given) {
            self.steps.push(Step::Unlink(draft));
        }
        self.steps.push(Step::Open { file: draft, how: OpenHow::Create { size: bytes.len() as u64 } });
        self.steps.push(Step::Write { file: draft, at: 0, bytes, sync: Sync::Durable });
        self.steps.push(Step::Fsync(draft));
        self.steps.push(Step::Close(draft));
        self.steps.push(Step::Rename { from: draft, to: file });
        self.steps.push(Step::SyncDir(DirName::Given(given)));
    }
}

impl Staged for Identities {
    fn steps(&mut self) -> &mut Steps {
        &mut self.steps
    }

    fn finished(&mut self) {
        match self.stage {
            Stage::Read(given) => {
                let found = match Identity::decode(&self.steps.take_read()) {
                    Ok(identity) => Found::Identity(identity),
                    Err(why) => Found::Unusable(why.to_string()),
                };
                self.found.push(found);
                self.list(given + 1);
            }
            Stage::Write(_) => self.write_next(),
            Stage::Idle | Stage::List(_) => {}
        }
    }

    fn listed(&mut self, result: Result<Vec<(FileName, u64)>, (Step, Errno)>) {
        match (self.stage, result) {
            (Stage::List(given), Ok(files)) => self.found_files(given, &files),
            (_, Ok(_)) => {}
            (_, Err((step, errno))) => self.failed(&step, errno),
        }
    }

    fn failed(&mut self, step: &Step, errno: Errno) {
        let (Stage::List(given) | Stage::Read(given) | Stage::Write(given)) = self.stage else { return };
        self.stage = Stage::Idle;
        self.event = Some(Event::Failed { given, what: step.to_string(), errno });
    }
}

//! The superblock: what a data directory is, in two copies written alternately.
//!
//! A write goes to the copy that is not the newest, so a torn one leaves the newest as it was; the higher generation decides. Both copies
//! of a new directory are durable before it is said to be written; so a directory with one copy is a creation that did not end, or damage,
//! and the catalog, made later, tells which.
//!
//! Where there are several data directories, the copies lie in the first, the home, and list them all; each further one has an identity
//! (`identity.rs`), written before the superblock names it. The bytes of a copy: `sealed.rs`.

use super::sealed::{Unusable, seal, unseal};
use super::steps::{Staged, Step, Steps};
use crate::io::buffers::Buffers;
use crate::io::op::{DirName, Errno, FileName, OpenHow, Ops, Sync, Token};
use rkyv::rancor;
use rkyv::with::Skip;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::VecDeque;

/// Format that this build reads and writes. 0 is experimental: only data of the same [`REVISION`] is opened.
pub const FORMAT: u32 = 0;
/// Rises with every edit of something stored while the format is 0.
pub const REVISION: u32 = 8;

const MAGIC: u64 = u64::from_le_bytes(*b"penstock");
const ENOENT: i32 = 2;

/// Version 1 of the body.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Random, never sent to a client: client bytes on a block boundary cannot pass for ours.
    pub directory: u64,
    /// Opens so far.
    pub epoch: u32,
    /// Of the copy; set by [`Superblocks::write`].
    pub generation: u64,
    /// What the device writes without touching a neighbour, in bytes; a multiple of 4096, fixed.
    pub block: u32,
    /// Bytes of a segment file, fixed.
    pub segment_size: u64,
    /// Bytes that all logs together may use.
    pub disk: u64,
    /// The data directories by number; 0 is the home. None ever leaves.
    pub directories: Vec<Directory>,
    /// The number of the directory that each log lies in, by the log's number.
    pub logs: Vec<u32>,
    /// Authenticates shard iterators.
    pub iterator_key: [u8; 16],
    /// Ids below are reserved: given out, or lost with a crash.
    pub next_ids: u64,
    pub region: String,
    /// 12 digits.
    pub account: String,
    /// Seconds that an hour of retention lasts; 3600 but in tests.
    pub retention_hour: u32,
    /// Retention time at the last open, in µs since 1970.
    pub retention_wall: u64,
}

/// A data directory: it is recognised by its id, wherever it is mounted.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Random; in its identity too. The home's is that of the superblock.
    pub id: u64,
    /// Where it was at the last start, to name it when it is missing.
    pub path: String,
    /// Bytes that its logs together may use.
    pub space: u64,
    /// Which of the directories given to this start it is.
    #[rkyv(with = Skip)]
    pub given: u8,
}

impl Superblock {
    /// Whole blocks, ready to be written.
    pub fn encode(&self) -> Vec<u8> {
        // Fails only without memory, or past 2 GiB.
        let body = rkyv::to_bytes::<rancor::Error>(self).expect("a superblock is some hundred bytes");
        seal(MAGIC, self.generation, self.directory, &body, self.block)
    }

    /// How many logs there are.
    pub fn log_count(&self) -> u32 {
        self.logs.len() as u32
    }

    /// The directory that log `log` lies in.
    pub fn directory_of(&self, log: u32) -> &Directory {
        &self.directories[self.logs[log as usize] as usize]
    }

    /// How many logs lie in directory `number`.
    pub fn logs_in(&self, number: u32) -> u32 {
        self.logs.iter().filter(|directory| **directory == number).count() as u32
    }

    /// Segment files of each log in directory `number`, if it has `logs`.
    pub fn files_with(&self, number: u32, logs: u32) -> u32 {
        let files = self.directories[number as usize].space / (logs.max(1) as u64 * self.segment_size);
        files.min(u32::MAX as u64) as u32
    }

    /// Segment files of log `log`.
    pub fn files_of(&self, log: u32) -> u32 {
        let directory = self.logs[log as usize];
        self.files_with(directory, self.logs_in(directory))
    }

    /// The newer one of two copies as they lie in their files; `None`: neither can be used. For what has to be known before there are
    /// workers; they read it again.
    pub fn newest(copies: [&[u8]; 2]) -> Option<Superblock> {
        copies.iter().filter_map(|copy| Superblock::decode(copy).ok()).max_by_key(|superblock| superblock.generation)
    }

    fn decode(bytes: &[u8]) -> Result<Superblock, Unusable> {
        let body = unseal(MAGIC, bytes)?;
        let whole = rkyv::from_bytes::<Superblock, rancor::Error>(body).ok().filter(Superblock::is_sound);
        whole.ok_or(Unusable::Damaged("its body does not decode"))
    }

    /// There is a home, and every log lies in a directory that there is.
    fn is_sound(&self) -> bool {
        !self.directories.is_empty() && self.logs.iter().all(|number| (*number as usize) < self.directories.len())
    }
}

/// What the machine has to say. After `Newer`, `Incompatible`, `Damaged` and `Failed` nothing more is done, and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new directory: make a superblock and write it.
    Empty,
    /// The newest copy, and what is wrong with the other one, which the next write replaces.
    Found {
        superblock: Superblock,
        other: Option<(FileName, String)>,
    },
    /// Data of a newer build.
    Newer {
        format: u32,
    },
    /// Data of another experimental build.
    Incompatible {
        revision: u32,
    },
    /// No copy can be used.
    Damaged {
        why: String,
    },
    /// The last [`Superblocks::write`] is durable.
    Written,
    Failed {
        what: String,
        errno: Errno,
    },
}

impl Event {
    /// The line for the operator of an event that ends the start; `None` for the others.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Event::Empty | Event::Found { .. } | Event::Written => None,
            Event::Newer { format } => Some(format!(
                "the data is of format {format}, this build knows up to {FORMAT}: nothing was touched; use the newer build"
            )),
            Event::Incompatible { revision } => Some(format!(
                "the data was written by another experimental build (revision {revision}, this one writes {REVISION}): nothing was \
                 touched; use that build, or another data directory"
            )),
            Event::Damaged { why } => {
                Some(format!("no superblock can be used ({why}): nothing was touched; restore one from a copy"))
            }
            Event::Failed { what, errno } => Some(format!("superblock: {what}: {errno}")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Opening, then reading and flushing copy `0` or `1`.
    Open(u8),
    Read(u8),
    /// Neither copy is usable: the catalog's directory tells a new directory from a damaged one.
    Judge,
    Ready,
    Writing,
    /// Refused or failed.
    Over,
}

/// The two copies.
pub struct Superblocks {
    steps: Steps,
    stage: Stage,
    copies: [Result<Superblock, Unusable>; 2],
    /// Copies whose file is open.
    open: [bool; 2],
    generation: u64,
    /// The copy to write next.
    target: u8,
    events: VecDeque<Event>,
}

impl Superblocks {
    /// Takes a block slot for good; there is one at start. `owner` becomes the top byte of every token.
    pub fn new(owner: u8, buffers: &mut Buffers) -> Option<Superblocks> {
        Some(Superblocks {
            steps: Steps::new(owner, buffers)?,
            stage: Stage::Open(0),
            copies: [Err(Unusable::Missing), Err(Unusable::Missing)],
            open: [false; 2],
            generation: 0,
            target: 0,
            events: VecDeque::new(),
        })
    }

    /// Reads both copies: ends in an event.
    pub fn open(&mut self, buffers: &mut Buffers, ops: &mut Ops) {
        self.probe(0);
        self.steps.go(buffers, ops);
    }

    /// Makes `superblock` durable; its generation is set here. One write at a time, after `Empty`, `Found` or `Written`.
    pub fn write(&mut self, superblock: &Superblock, buffers: &mut Buffers, ops: &mut Ops) {
        assert_eq!(
            self.stage,
            Stage::Ready,
            "a superblock is written when the copies are known and no other write is under way"
        );
        self.stage = Stage::Writing;
        // Both copies of a new directory; copy 0 with its entry is durable before copy 1 is made.
        for _ in 0..if self.generation == 0 { 2 } else { 1 } {
            self.write_copy(superblock);
        }
        self.steps.go(buffers, ops);
    }

    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn owns(&self, token: Token) -> bool {
        self.steps.owns(token)
    }

    fn probe(&mut self, copy: u8) {
        self.stage = Stage::Open(copy);
        self.steps.push(Step::Open { file: FileName::Superblock(copy), how: OpenHow::Existing });
    }

    fn end(&mut self, event: Event) {
        self.stage = Stage::Over;
        self.events.push_back(event);
    }

    fn after(&mut self, copy: u8) {
        if copy == 0 {
            return self.probe(1);
        }
        for copy in &self.copies {
            match copy {
                Err(Unusable::Newer(format)) => return self.end(Event::Newer { format: *format }),
                Err(Unusable::Revision(revision)) => return self.end(Event::Incompatible { revision: *revision }),
                _ => {}
            }
        }
        let newest = match &self.copies {
            [Ok(a), Ok(b)] => (b.generation > a.generation) as usize,
            [Ok(_), Err(_)] => 0,
            [Err(_), Ok(_)] => 1,
            [Err(_), Err(_)] => {
                self.stage = Stage::Judge;
                return self.steps.push(Step::List(DirName::Catalog));
            }
        };
        let other = 1 - newest;
        let why = self.copies[other].as_ref().err().map(|why| (FileName::Superblock(other as u8), why.to_string()));
        if let Ok(superblock) = &self.copies[newest] {
            self.generation = superblock.generation;
            self.target = other as u8;
            self.stage = Stage::Ready;
            self.events.push_back(Event::Found { superblock: superblock.clone(), other: why });
        }
    }

    /// Neither copy is usable. Creation makes copy 0, then copy 1, then the rest of the directory.
    fn judged(&mut self, catalog_is_empty: bool) {
        let second_is_missing = self.copies[1] == Err(Unusable::Missing);
        if catalog_is_empty && second_is_missing {
            self.stage = Stage::Ready;
            self.events.push_back(Event::Empty);
            return;
        }
        let reasons = self.copies.iter().zip(0..).filter_map(|(copy, number)| {
            let why = copy.as_ref().err()?;
            Some(format!("{}: {why}", FileName::Superblock(number)))
        });
        let why = reasons.collect::<Vec<_>>().join("; ");
        self.end(Event::Damaged { why });
    }

    fn write_copy(&mut self, superblock: &Superblock) {
        let file = FileName::Superblock(self.target);
        self.generation += 1;
        let bytes = Superblock { generation: self.generation, ..superblock.clone() }.encode();
        let is_made = !self.open[self.target as usize];
        if is_made {
            self.steps.push(Step::Open { file, how: OpenHow::Create { size: bytes.len() as u64 } });
            self.open[self.target as usize] = true;
        }
        self.steps.push(Step::Write { file, at: 0, bytes, sync: Sync::Durable });
        if is_made {
            self.steps.push(Step::Fsync(file));
            self.steps.push(Step::SyncDir(DirName::Top));
        }
        self.target = 1 - self.target;
    }
}

impl Staged for Superblocks {
    fn steps(&mut self) -> &mut Steps {
        &mut self.steps
    }

    fn finished(&mut self) {
        match self.stage {
            Stage::Open(copy) => {
                self.open[copy as usize] = true;
                self.stage = Stage::Read(copy);
                let file = FileName::Superblock(copy);
                self.steps.push(Step::Read { file, limit: 64 << 10 });
                // What a killed process wrote may be in the device's cache only; it is about to be trusted.
                self.steps.push(Step::Fsync(file));
            }
            Stage::Read(copy) => {
                self.copies[copy as usize] = Superblock::decode(&self.steps.take_read());
                self.after(copy);
            }
            Stage::Writing => {
                self.stage = Stage::Ready;
                self.events.push_back(Event::Written);
            }
            Stage::Judge | Stage::Ready | Stage::Over => {}
        }
    }

    fn listed(&mut self, result: Result<Vec<(FileName, u64)>, (Step, Errno)>) {
        match result {
            Ok(files) => self.judged(files.is_empty()),
            Err((_, Errno(ENOENT))) => self.judged(true),
            Err((step, errno)) => self.failed(&step, errno),
        }
    }

    fn failed(&mut self, step: &Step, errno: Errno) {
        if let (Stage::Open(copy), ENOENT) = (self.stage, errno.0) {
            self.copies[copy as usize] = Err(Unusable::Missing);
            return self.after(copy);
        }
        self.end(Event::Failed { what: step.to_string(), errno });
    }
}

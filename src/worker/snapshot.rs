//! A snapshot of a running server, taken under `capture/` of each data directory; whoever asked for it takes it away.
//! Segments get their second names in the directory that their log lies in; all else is in the home's.
//!
//! Worker 0 leads. It clears what an earlier one has left, then holds back changes of streams and shards while every worker seals its logs
//! and waits until what is sealed is durable. At that moment it writes down the catalog: every record that the logs hold is of a shard in it,
//! and no shard in it was closed behind records that they lack. Changes go on; every worker gives its sealed segments a second name, oldest
//! first. Superblock, catalog and directories are made durable, and last the manifest, without which it is none.

use super::mailbox::{ConnectionId, Message};
use super::notice::Notice;
use super::pinning::PIN_MS;
use super::serve::{Body, Reply};
use super::{SNAPSHOT_TOKEN, Worker};
use crate::http::response::ContentType;
use crate::io::clock::Mono;
use crate::io::op::{DirName, Errno, FileName, Op, OpenHow, Ops, Piece, Sync, Token};
use crate::log::manifest::{Manifest, Part, Small};
use crate::log::steps::{Progress, Step, Steps};
use crate::log::superblock::Superblock;
use crate::observe::counter::Counter;
use std::collections::VecDeque;
use std::ops::Range;

/// How long a caller waits; a snapshot that takes longer is finished, and not answered.
pub const SNAPSHOT_MS: u64 = 600_000;

/// What a snapshot is made of, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub segments: u64,
    /// Of their commits.
    pub bytes: u64,
    /// Segments by how they got their second name.
    pub reflinks: u64,
    pub links: u64,
    pub copies: u64,
}

/// Why there is no snapshot.
pub type Why = String;

/// What workers tell each other of one.
pub enum Letter {
    /// To worker 0: a connection of mine wants one. Answered by `Taken`.
    Wanted {
        from: ConnectionId,
    },
    Taken {
        to: ConnectionId,
        result: Box<Result<Taken, Why>>,
    },
    /// Worker 0: seal your logs, and hold what they have. Answered by `Pinned`, when that is durable.
    Pin {
        serial: u32,
    },
    Pinned {
        serial: u32,
        held: Box<Result<Vec<Part>, Why>>,
    },
    /// Worker 0: give what you hold its second names. Answered by `Linked`.
    Link {
        serial: u32,
    },
    Linked {
        serial: u32,
        result: Box<Result<Taken, Why>>,
    },
}

/// Worker 0's part.
#[derive(Default)]
pub struct Snapshots {
    /// Of the home, as of its start.
    pub superblock: Option<Superblock>,
    serial: u32,
    taking: Option<Taking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Room is being made under `capture/`.
    Clear,
    /// Logs are being sealed, and changes wait.
    Seal,
    /// Segments get their second names.
    Link,
    /// The small files are being written.
    Write,
}

struct Taking {
    worker: u16,
    connection: ConnectionId,
    stage: Stage,
    /// Of the stage in which changes wait.
    deadline: Mono,
    steps: Steps,
    /// Workers that have not been asked in this stage, and how many owe an answer.
    unasked: VecDeque<u16>,
    owing: usize,
    manifest: Manifest,
    small: Vec<(FileName, Vec<u8>)>,
    taken: Taken,
    /// What went wrong first; it ends when nobody owes an answer any more.
    failed: Option<Why>,
}

impl Worker {
    pub(super) fn on_snapshot_letter(&mut self, from: u16, letter: Letter, ops: &mut Ops) {
        if let Letter::Taken { .. } | Letter::Pinned { .. } | Letter::Linked { .. } = letter {
            self.mail.answered(from);
        }
        match letter {
            Letter::Wanted { from: connection } => self.snapshot_asked(from, connection, ops),
            Letter::Taken { to, result } => self.snapshot_answered(to, *result, ops),
            Letter::Pin { serial } => self.pinning.pin(serial, self.now.mono, &mut self.logs),
            Letter::Pinned { serial, held } => self.snapshot_pinned(serial, *held),
            Letter::Link { serial } => self.pinning.link(serial),
            Letter::Linked { serial, result } => self.snapshot_linked(serial, *result),
        }
    }

    /// The request of connection `slot`.
    pub(super) fn snapshot_begin(&mut self, slot: u16, key: Option<[u8; 16]>, ops: &mut Ops) {
        if !self.is_admin(key) {
            return self.refuse_stranger(slot, ops);
        }
        let from = self.connections.id(slot);
        if self.id == 0 {
            return self.snapshot_asked(0, from, ops);
        }
        match self.mail.may_ask(0, 1) {
            true => self.mail.ask(0, Message::Snapshot(Letter::Wanted { from })),
            false => self.reply(slot, Reply::text(503, "Worker 0 is busy; try again.\n"), ops),
        }
    }

    /// Worker 0: `connection` of worker `worker` wants one.
    fn snapshot_asked(&mut self, worker: u16, connection: ConnectionId, ops: &mut Ops) {
        let failed: u64 = self.all_counters.iter().map(|counters| counters.get(Counter::LogsFailedNow)).sum();
        let control = self.control.as_ref().expect("snapshots are led by worker 0");
        let refusal = if self.snapshots.taking.is_some() {
            Some("another one is being taken; ask again when it is done")
        } else if failed > 0 || control.has_failed() {
            Some("a log or the catalog has failed: restart the server first")
        } else if self.stopping {
            Some("the server is being stopped")
        } else {
            self.first_half_missing(None)
        };
        let steps = match refusal {
            Some(why) => Err(why),
            None => Steps::new(SNAPSHOT_TOKEN, &mut self.buffers).ok_or("no memory is free for it; ask again"),
        };
        let mut steps = match steps {
            Ok(steps) => steps,
            Err(why) => return self.answer_snapshot(worker, connection, Err(why.to_string()), ops),
        };
        // The logs of others are known to this worker's files from here on.
        if let Some(superblock) = &self.snapshots.superblock {
            let given = |log| superblock.directory_of(log).given;
            (0..self.log_count).for_each(|log| ops.push(Op::Locate { log, given: given(log) }));
        }
        // The home's first: without its manifest, what is left in the others is none.
        for given in self.snapshots.given() {
            steps.push(Step::Clear(DirName::Capture(given)));
            steps.push(Step::MakeDir(DirName::Capture(given)));
            steps.push(Step::SyncDir(if given == 0 { DirName::Top } else { DirName::Given(given) }));
        }
        steps.push(Step::MakeDir(DirName::CaptureCatalog));
        (0..self.log_count).for_each(|log| steps.push(Step::MakeDir(DirName::CaptureLog(log))));
        steps.go(&mut self.buffers, ops);
        self.snapshots.serial += 1;
        self.snapshots.taking = Some(Taking {
            worker,
            connection,
            stage: Stage::Clear,
            deadline: self.now.mono,
            steps,
            unasked: VecDeque::new(),
            owing: 0,
            manifest: Manifest::default(),
            small: Vec::new(),
            taken: Taken::default(),
            failed: None,
        });
    }

    /// Whether a part of one may have something to do that no completion tells of.
    pub(super) fn snapshot_goes_on(&self) -> bool {
        self.snapshots.taking.is_some() || self.pinning.is_under_way()
    }

    /// Whether changes of streams and shards wait for a snapshot.
    pub(super) fn changes_wait(&self) -> bool {
        self.snapshots.taking.as_ref().is_some_and(|taking| taking.stage == Stage::Seal && taking.failed.is_none())
    }

    /// Worker 0: an operation of its steps has completed.
    pub(super) fn snapshot_done(&mut self, token: Token, result: Result<u32, Errno>, ops: &mut Ops) {
        let Some(taking) = &mut self.snapshots.taking else { return };
        match taking.steps.done(token, result, &self.buffers) {
            Progress::NotMine => {}
            Progress::More => taking.steps.go(&mut self.buffers, ops),
            Progress::Failed(step, errno) => {
                taking.fail(format!("{step}: {errno}"));
                if let Step::Write { file, .. } | Step::Fsync(file) = step {
                    taking.steps.push(Step::Close(file));
                    taking.steps.go(&mut self.buffers, ops);
                }
            }
            Progress::Finished if taking.failed.is_some() => {}
            Progress::Finished if taking.stage == Stage::Clear => {
                (taking.stage, taking.deadline) = (Stage::Seal, self.now.mono.plus_ms(PIN_MS));
                taking.ask_all(self.workers);
            }
            Progress::Finished => {
                let taken = taking.taken;
                self.snapshot_over(Ok(taken), ops);
            }
        }
    }

    /// Worker 0, every turn: asks who has not been asked, and goes on when all have answered.
    pub(super) fn run_snapshot(&mut self, ops: &mut Ops) {
        let Some(taking) = &mut self.snapshots.taking else { return };
        if self.stopping {
            taking.fail("the server is being stopped".to_string());
        }
        if taking.stage == Stage::Seal && self.now.mono >= taking.deadline {
            taking.fail(format!("the logs could not be sealed within {} s", PIN_MS / 1_000));
        }
        if taking.failed.is_some() {
            // Nothing may still land under a name that the next one uses.
            if taking.owing == 0 && taking.steps.is_idle() {
                let why = taking.failed.take().expect("it was just seen");
                self.snapshot_over(Err(why), ops);
            }
            return;
        }
        self.ask_for_snapshot();
        let Some(taking) = &self.snapshots.taking else { return };
        if taking.unasked.is_empty() && taking.owing == 0 {
            match taking.stage {
                Stage::Seal => self.write_down_catalog(),
                Stage::Link => self.write_small(ops),
                Stage::Clear | Stage::Write => {}
            }
        }
    }

    fn ask_for_snapshot(&mut self) {
        let serial = self.snapshots.serial;
        let Some(taking) = &mut self.snapshots.taking else { return };
        let seals = taking.stage == Stage::Seal;
        for _ in 0..taking.unasked.len() {
            let Some(worker) = taking.unasked.pop_front() else { return };
            if worker == self.id {
                taking.owing += 1;
                let now = self.now.mono;
                if seals { self.pinning.pin(serial, now, &mut self.logs) } else { self.pinning.link(serial) }
            } else if self.mail.may_ask(worker, 1) {
                taking.owing += 1;
                self.mail.ask(
                    worker,
                    Message::Snapshot(if seals { Letter::Pin { serial } } else { Letter::Link { serial } }),
                );
            } else {
                taking.unasked.push_back(worker);
            }
        }
    }

    /// Worker 0: a worker's logs are sealed and durable, or will not be.
    pub(super) fn snapshot_pinned(&mut self, serial: u32, held: Result<Vec<Part>, Why>) {
        let current = self.snapshots.serial;
        let Some(taking) = self.snapshots.taking.as_mut().filter(|_| serial == current) else { return };
        taking.owing -= 1;
        match held {
            Ok(parts) => taking.manifest.segments.extend(parts),
            Err(why) => taking.fail(why),
        }
    }

    /// Worker 0: a worker's segments have their second names, or do not get them.
    pub(super) fn snapshot_linked(&mut self, serial: u32, result: Result<Taken, Why>) {
        let current = self.snapshots.serial;
        let Some(taking) = self.snapshots.taking.as_mut().filter(|_| serial == current) else { return };
        taking.owing -= 1;
        match result {
            Ok(more) => taking.taken.add(&more),
            Err(why) => taking.fail(why),
        }
    }

    /// Worker 0: all logs are sealed, and no change has been begun since. From here on changes go on.
    fn write_down_catalog(&mut self) {
        let control = self.control.as_ref().expect("snapshots are led by worker 0");
        let superblock = self.snapshots.superblock.as_ref().expect("kept when it was written");
        let (number, state, journal) = control.catalog.capture();
        // Its time goes on from now.
        let retention_wall = self.retention.now().0;
        let copy = |generation| Superblock { generation, retention_wall, ..superblock.clone() };
        let taking = self.snapshots.taking.as_mut().expect("the caller has it");
        let place = |piece: Piece, bytes: Vec<u8>| (FileName::Captured(piece), bytes);
        taking.small = vec![
            place(Piece::Snapshot { number }, state),
            place(Piece::Journal { number }, journal),
            place(Piece::Superblock(0), copy(1).encode()),
            place(Piece::Superblock(1), copy(2).encode()),
        ];
        taking.manifest.taken = self.now.wall.0;
        taking.manifest.segments.sort_by_key(|part| (part.log, part.held.incarnation));
        taking.stage = Stage::Link;
        taking.ask_all(self.workers);
    }

    /// Worker 0: the small files, and the manifest when all else is durable.
    fn write_small(&mut self, ops: &mut Ops) {
        let block = self.snapshots.superblock.as_ref().map_or(4096, |superblock| superblock.block);
        let (logs, given) = (self.log_count, self.snapshots.given());
        let taking = self.snapshots.taking.as_mut().expect("the caller has it");
        taking.stage = Stage::Write;
        for (file, bytes) in std::mem::take(&mut taking.small) {
            if let FileName::Captured(piece) = file
                && let Some(original) = piece.original()
            {
                taking.manifest.files.push(Small::of(original.to_string(), &bytes));
            }
            taking.write(file, bytes);
        }
        taking.steps.push(Step::SyncDir(DirName::CaptureCatalog));
        (0..logs).for_each(|log| taking.steps.push(Step::SyncDir(DirName::CaptureLog(log))));
        // What is in all others is durable before the home's gets the manifest.
        given.rev().for_each(|given| taking.steps.push(Step::SyncDir(DirName::Capture(given))));
        let manifest = taking.manifest.encode(block);
        taking.write(FileName::Captured(Piece::Manifest), manifest);
        taking.steps.push(Step::SyncDir(DirName::Capture(0)));
        taking.steps.go(&mut self.buffers, ops);
    }

    fn snapshot_over(&mut self, result: Result<Taken, Why>, ops: &mut Ops) {
        let taking = self.snapshots.taking.take().expect("the caller has it");
        taking.steps.release(&mut self.buffers);
        self.tell_operator(match &result {
            Ok(taken) => Notice::SnapshotTaken { segments: taken.segments, bytes: taken.bytes },
            Err(why) => Notice::SnapshotFailed { why: why.clone() },
        });
        self.answer_snapshot(taking.worker, taking.connection, result, ops);
    }

    fn answer_snapshot(&mut self, worker: u16, to: ConnectionId, result: Result<Taken, Why>, ops: &mut Ops) {
        match worker == self.id {
            true => self.snapshot_answered(to, result, ops),
            false => self.mail.answer(worker, Message::Snapshot(Letter::Taken { to, result: Box::new(result) })),
        }
    }

    /// The answer to a request that a connection of this worker has made.
    fn snapshot_answered(&mut self, to: ConnectionId, result: Result<Taken, Why>, ops: &mut Ops) {
        if !self.connections.awaits(to) {
            return;
        }
        let (status, body) = match result {
            Ok(Taken { segments, bytes, reflinks, links, copies }) => (
                200,
                format!(
                    "{{\"segments\":{segments},\"bytes\":{bytes},\"reflinks\":{reflinks},\"links\":{links},\"copies\":{copies}}}\n"
                ),
            ),
            Err(why) => (503, format!("{{\"message\":{}}}\n", serde_json::Value::from(why))),
        };
        let reply = Reply { status, content_type: Some(ContentType::Json), body: Body::Bytes(body.into_bytes()) };
        self.reply(to.slot, reply, ops);
    }
}

impl Snapshots {
    /// The data directories, by their places in this start; the home, 0, first.
    fn given(&self) -> Range<u8> {
        // A start is given exactly those that the superblock then lists.
        0..self.superblock.as_ref().map_or(1, |superblock| superblock.directories.len() as u8)
    }
}

impl Taking {
    fn fail(&mut self, why: Why) {
        self.failed.get_or_insert(why);
        self.unasked.clear();
    }

    fn ask_all(&mut self, workers: u16) {
        self.unasked = (0..workers).collect();
    }

    fn write(&mut self, file: FileName, bytes: Vec<u8>) {
        self.steps.push(Step::Open { file, how: OpenHow::Create { size: bytes.len() as u64 } });
        self.steps.push(Step::Write { file, at: 0, bytes, sync: Sync::Later });
        self.steps.push(Step::Fsync(file));
        self.steps.push(Step::Close(file));
    }
}

impl Taken {
    pub fn add(&mut self, other: &Taken) {
        self.segments += other.segments;
        self.bytes += other.bytes;
        self.reflinks += other.reflinks;
        self.links += other.links;
        self.copies += other.copies;
    }
}

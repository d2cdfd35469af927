//! The layer over two disks in memory, driven as the core of a log drives it: files are made, written, flushed and left alone, a start lists
//! and reads them.

mod crash;

use super::news::News;
use super::{Mirror, Settings};
use crate::io::buffers::{Buffers, Layouts, Pool, Span};
use crate::io::clock::{Mono, Now, Wall};
use crate::io::op::{Completion, DirName, Errno, FileName, Op, OpenHow, Ops, Sync, Token};
use crate::log::checksum::crc;
use crate::log::format::{CommitHeader, CommitKind, FrameHeader, FrameKind, HEADER, Position, ShardKey};
use crate::log::memory_disk::{MemoryDisk, Random};
use std::collections::BTreeMap;

const LOG: u32 = 0;
const DIRECTORY: u64 = 7;
const BLOCK: u32 = 4096;
const SEGMENT: u64 = 64 << 10;
/// Of every commit.
const COMMIT: u32 = 2 * BLOCK;
/// Commits that the memory holds; more are not on their way at once.
const SLOTS: u64 = 8;
const QUIET_MS: u64 = 6_000;
/// Turns without an operation; while a copier waits for its pace there are some.
const IDLE_MAX: u32 = 1_000;
const EIO: Errno = Errno(5);
const ENOSPC: Errno = Errno(28);

/// What goes wrong in a life. Operations are counted from its beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// The power fails before this operation.
    crash_at: Option<u32>,
    /// This operation of a half fails: half, number.
    fails: Option<(usize, u32)>,
    /// Every operation of a half fails.
    gone: Option<usize>,
    /// A half has no room for another file before this time.
    no_room: Option<(usize, Mono)>,
    /// The operator says `--accept-degraded`.
    is_accepted: bool,
}

/// Why a life ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Crash,
    Refused,
}

struct Rig {
    mirror: Mirror,
    buffers: Buffers,
    disks: [MemoryDisk; 2],
    random: Random,
    now: Mono,
    trouble: Trouble,
    flights: Vec<Op>,
    /// Operations carried out in this life: all, and of each half.
    carried: u32,
    carried_by: [u32; 2],
    /// Turns in a row without an operation.
    idle: u32,
    serial: u64,
    done: BTreeMap<Token, Result<u32, Errno>>,
    listed: Vec<FileName>,
    news: Vec<News>,
}

/// What was answered, over all lives.
#[derive(Clone, Default)]
struct Model {
    /// Index of the file, byte, content.
    answered: Vec<(u32, u64, Vec<u8>)>,
    /// Where the next commit goes, by index of the file.
    next: BTreeMap<u32, u64>,
    commits: u64,
}

fn layer(accept_degraded: bool) -> (Mirror, Buffers) {
    let most = SLOTS as u32 * COMMIT;
    let (some, none, pages) = ((4, 16 << 10), (0, 4096), (1, 4096));
    let layouts = [pages, pages, pages, some, some, (1, most), none, (4, 2 * BLOCK), none];
    let mut buffers = Buffers::new(0, Layouts(layouts));
    let settings = Settings {
        blocks: vec![BLOCK],
        paths: vec![["/a".into(), "/b".into()]],
        accept_degraded,
        rebuild_rate: 1 << 30,
        random: 1,
        canary: false,
    };
    let mut mirror = Mirror::new(settings, &mut buffers);
    mirror.learn(DIRECTORY, SEGMENT);
    (mirror, buffers)
}

fn segment(index: u32) -> FileName {
    FileName::Segment { log: LOG, index }
}

/// A commit of one frame whose body is `number` over and over.
fn commit(index: u32, at: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; COMMIT as usize];
    let (from, len) = (2 * HEADER, COMMIT as usize - 2 * HEADER);
    bytes[from..].chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&number.to_le_bytes()));
    let incarnation = index + 1;
    let frame = FrameHeader {
        kind: FrameKind::Batch,
        stride: (len + HEADER) as u32,
        body: len as u32,
        count: 1,
        shard: ShardKey::new(1, 0),
        sequence: number + 1,
        arrival: 1,
        producer: 0,
        number: 0,
        incarnation,
        body_crc: crc(&bytes[from..]),
    };
    let into = &mut bytes[HEADER..2 * HEADER];
    frame.encode(into.try_into().expect("a header's bytes"));
    let header = CommitHeader {
        kind: CommitKind::Data,
        bytes: COMMIT,
        position: Position(incarnation as u64 * SEGMENT + at),
        durable: Position(0),
        epoch: 1,
        incarnation,
        log: LOG,
        frames: 1,
        previous: 0,
        directory: DIRECTORY,
    };
    header.seal(&mut bytes);
    bytes
}

impl Rig {
    fn new(seed: u64) -> Rig {
        let (mirror, buffers) = layer(false);
        Rig {
            mirror,
            buffers,
            disks: [MemoryDisk::default(), MemoryDisk::default()],
            random: Random(seed),
            now: Mono(1_000_000_000),
            trouble: Trouble::default(),
            flights: Vec::new(),
            carried: 0,
            carried_by: [0; 2],
            idle: 0,
            serial: 0,
            done: BTreeMap::new(),
            listed: Vec::new(),
            news: Vec::new(),
        }
    }

    /// Another process over the same disks.
    fn again(&mut self, trouble: Trouble) {
        (self.mirror, self.buffers) = layer(trouble.is_accepted);
        (self.trouble, self.carried, self.carried_by) = (trouble, 0, [0; 2]);
        self.flights.clear();
        self.disks.iter_mut().for_each(MemoryDisk::exit);
        self.done.clear();
        self.listed.clear();
        self.news.clear();
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: Wall(0) }
    }

    /// The core's part of a turn is over: it asks for `ops`.
    fn end_turn(&mut self, mut ops: Ops) {
        self.mirror.split(self.now(), &mut ops, &mut self.buffers);
        self.flights.extend(ops.into_iter().filter(|op| !matches!(op, Op::Locate { .. })));
        while let Some(news) = self.mirror.news() {
            self.news.push(news);
        }
        while self.mirror.repaired().is_some() {}
    }

    fn ask(&mut self, op: impl FnOnce(Token) -> Op) -> Token {
        self.serial += 1;
        let token = Token(0x4c << 56 | self.serial);
        self.end_turn(vec![op(token)]);
        token
    }

    /// Any operation that is on its way is carried out; where none is, time passes.
    fn go_on(&mut self) -> Result<(), Stop> {
        if self.news.iter().any(|news| matches!(news, News::Refused { .. })) {
            return Err(Stop::Refused);
        }
        let mut done = Vec::new();
        if self.flights.is_empty() {
            let due = self.mirror.deadline().expect("what is waited for comes");
            self.now = self.now.max(due);
            self.idle += 1;
            assert!(self.idle < IDLE_MAX, "what is waited for does not come: {:?}", self.news);
        } else if self.trouble.crash_at == Some(self.carried) {
            self.crash();
            return Err(Stop::Crash);
        } else {
            self.idle = 0;
            let next = self.random.below(self.flights.len() as u64) as usize;
            let op = self.flights.swap_remove(next);
            done.push(self.carry_out(&op));
        }
        self.mirror.join(self.now(), &mut done, &mut self.buffers);
        for completion in done {
            match completion {
                Completion::Done { token, result } => drop(self.done.insert(token, result)),
                Completion::Listed { token, result } => {
                    self.listed = result.unwrap_or_default().into_iter().map(|(file, _)| file).collect();
                    self.done.insert(token, Ok(0));
                }
                other => panic!("{other:?}"),
            }
        }
        self.end_turn(Vec::new());
        Ok(())
    }

    fn carry_out(&mut self, op: &Op) -> Completion {
        let token = op.token().expect("an operation on files");
        let half = token.half();
        let number = self.carried_by[half];
        self.carried += 1;
        self.carried_by[half] += 1;
        let is_full = self.trouble.no_room.is_some_and(|(full, until)| full == half && self.now < until);
        if is_full && matches!(op, Op::Open { file: FileName::Segment { .. }, how: OpenHow::Create { .. }, .. }) {
            return Completion::Done { token, result: Err(ENOSPC) };
        }
        if self.trouble.gone != Some(half) && self.trouble.fails != Some((half, number)) {
            return self.disks[half].run(op, &mut self.buffers);
        }
        match op {
            Op::List { .. } => Completion::Listed { token, result: Err(EIO) },
            _ => Completion::Done { token, result: Err(EIO) },
        }
    }

    /// The power fails: of what is not durable anything may have landed, on each half for itself.
    fn crash(&mut self) {
        for op in std::mem::take(&mut self.flights) {
            let half = op.token().expect("an operation on files").half();
            let op = match op {
                Op::WriteAt { file, at, from, token, .. } => Op::WriteAt { file, at, from, sync: Sync::Later, token },
                op if self.random.coin() => op,
                _ => continue,
            };
            if self.trouble.gone != Some(half) {
                self.disks[half].run(&op, &mut self.buffers);
            }
        }
        for disk in &mut self.disks {
            disk.crash(None, &mut self.buffers, &mut self.random);
        }
    }

    fn wait(&mut self, token: Token) -> Result<Result<u32, Errno>, Stop> {
        loop {
            if let Some(result) = self.done.remove(&token) {
                return Ok(result);
            }
            self.go_on()?;
        }
    }

    fn run(&mut self, op: impl FnOnce(Token) -> Op) -> Result<Result<u32, Errno>, Stop> {
        let token = self.ask(op);
        self.wait(token)
    }

    /// Until nothing is on its way, and all that is told has been.
    fn settle(&mut self) -> Result<(), Stop> {
        while !self.flights.is_empty() || self.mirror.deadline().is_some_and(|due| due <= self.now) {
            self.go_on()?;
        }
        Ok(())
    }

    /// Nothing is written for a while.
    fn rest(&mut self) -> Result<(), Stop> {
        self.settle()?;
        self.now = self.now.plus_ms(QUIET_MS);
        self.end_turn(Vec::new());
        self.settle()
    }

    fn has_told(&self, told: impl Fn(&News) -> bool) -> bool {
        self.news.iter().any(told)
    }

    fn memory(&self, slot: u64) -> Span {
        self.buffers.whole(Pool::Log, 0).part((slot % SLOTS) as u32 * COMMIT, COMMIT)
    }

    /// A start: all files are opened, and what was answered is there, on any half that is read.
    fn open(&mut self, model: &Model) -> Result<(), Stop> {
        self.end_turn(vec![Op::Locate { log: LOG, given: 0 }]);
        self.run(|token| Op::List { dir: DirName::Log(LOG), token })?.expect("a directory that is read");
        if self.mirror.degraded() == 0 {
            self.check_equal("after a start");
        }
        for file in self.listed.clone() {
            self.run(|token| Op::Open { file, how: OpenHow::Existing, token })?.expect("a file that was listed");
        }
        let into = self.memory(SLOTS - 1);
        for (index, at, content) in &model.answered {
            let (file, at) = (segment(*index), *at);
            let read = self.run(|token| Op::ReadAt { file, at, into, token })?;
            assert_eq!(read, Ok(COMMIT), "{file} at {at}: {:?} {:?} {:?}", self.news, self.trouble, self.listed);
            assert!(self.buffers.bytes(into) == content, "{file} at {at} was answered: {:?}", self.news);
        }
        Ok(())
    }

    /// Both halves hold the same segments.
    fn check_equal(&self, when: &str) {
        let segments = |half: usize| {
            let files = self.disks[half].files().into_iter();
            let mut files: BTreeMap<_, _> =
                files.filter(|(file, _)| matches!(file, FileName::Segment { .. })).collect();
            files.values_mut().for_each(|bytes| bytes.resize(SEGMENT as usize, 0));
            files
        };
        let (first, second) = (segments(0), segments(1));
        assert!(first.keys().eq(second.keys()), "{when}: {:?}, {:?}", first.keys(), second.keys());
        for (file, bytes) in &first {
            let differs = (0..SEGMENT as usize).find(|at| bytes[*at] != second[file][*at]);
            assert_eq!(differs, None, "{when}: {file}, first byte that differs: {:?}", self.news);
        }
    }

    /// Some commits at once, and what is told of them; with `later` a flush makes them durable.
    fn put(&mut self, model: &mut Model, index: u32, count: u64, later: bool) -> Result<(), Stop> {
        let sync = if later { Sync::Later } else { Sync::Durable };
        let mut asked = Vec::new();
        for _ in 0..count {
            let next = model.next.entry(index).or_default();
            let at = *next;
            *next += COMMIT as u64;
            let (content, from) = (commit(index, at, model.commits), self.memory(model.commits % (SLOTS - 1)));
            model.commits += 1;
            self.buffers.bytes_mut(from).copy_from_slice(&content);
            let token = self.ask(|token| Op::WriteAt { file: segment(index), at, from, sync, token });
            asked.push((token, at, content));
        }
        let mut written = Vec::new();
        for (token, at, content) in asked {
            assert_eq!(self.wait(token)?, Ok(COMMIT), "one half at least is sound: {:?}", self.news);
            written.push((index, at, content));
            if !later {
                model.answered.append(&mut written);
            }
        }
        if later {
            let flushed = self.run(|token| Op::Fsync { file: segment(index), token })?;
            assert!(flushed.is_ok(), "one half at least is sound: {:?}", self.news);
            model.answered.append(&mut written);
        }
        Ok(())
    }

    fn make(&mut self, index: u32) -> Result<(), Stop> {
        if !self.listed.contains(&segment(index)) {
            let how = OpenHow::Create { size: SEGMENT };
            self.run(|token| Op::Open { file: segment(index), how, token })?.expect("one half is sound");
            self.run(|token| Op::SyncDir { dir: DirName::Log(LOG), token })?.expect("one half is sound");
        }
        Ok(())
    }

    /// A start, puts to two files with quiet times between them, and whatever is rebuilt meanwhile.
    fn live(&mut self, model: &mut Model) -> Result<(), Stop> {
        self.open(model)?;
        self.make(0)?;
        self.put(model, 0, 2, false)?;
        self.make(1)?;
        self.put(model, 1, 2, true)?;
        self.rest()?;
        self.put(model, 0, 1, false)?;
        while self.mirror.deadline().is_some() || !self.flights.is_empty() {
            self.go_on()?;
        }
        self.rest()?;
        if self.has_told(|news| matches!(news, News::Rebuilt { .. })) {
            self.check_equal("after a rebuild");
        }
        for index in [0, 1] {
            self.run(|token| Op::CloseFile { file: segment(index), token })?.expect("it is open");
        }
        self.settle()
    }
}

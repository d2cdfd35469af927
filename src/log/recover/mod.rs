//! Following the chain at start.
//!
//! 1. The directory is listed; what a crash left of files in the making is removed; the end of each segment file is read, where it is known
//!    by a footer, else its start.
//! 2. Footers that did not come with that are read.
//! 3. The other segments are walked, commit by commit. A commit belongs to the chain when it stands where the one before it ends (or at
//!    the start of the next incarnation), names that one's CRC, and its epoch is not lower.
//! 4. Where the chain ends, everything behind is searched for a commit that calls this place durable. There is none after a crash: what
//!    stands here was never acknowledged, and is cut off after a copy to quarantine. If there is one, something acknowledged is damaged:
//!    it is told, copied, its frame headers still use up their numbers, and the chain goes on at the next whole commit that is vouched
//!    for. A segment whose predecessor was recycled does not say where that ended: there the search is of the predecessor's rest only.
//! 5. Walked files are flushed: a killed process may have left them in a cache that the next power cut empties. A vouch then says so, in
//!    the log itself, as soon as it is started.
//!
//! In a mirror the file is made equal on both halves before 4. judges it, and so is one of which nothing can be told: `doubt.rs`.
//!
//! One operation is on its way at a time, into the log's own memory, which nothing else uses yet. An unreadable device ends recovery
//! with nothing changed.

mod breach;
mod chain;
mod directory;
mod doubt;
mod quarantine;

use super::footer::Summary;
use super::format::{CommitKind, Position, ShardKey, Trailer};
use super::index::{Entry, KeyHasher};
use super::{Event, LiveSegment, Log, Newest, Phase, Purpose, token};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{DirName, Errno, FileName, Op, Ops, Token};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

/// Bytes read at once, unless the log's memory is smaller.
const WINDOW_BYTES: u32 = 32 << 20;
/// Bytes read of a file's start, an eighth at most: where no commit of ours begins in them, the rest is looked through. A damaged first
/// commit does not make a used file look like a free one.
const HEAD_BYTES: u32 = 64 << 10;
/// Bytes read of a file's end: the trailer, and mostly all of the footer but its runs.
const TAIL_BYTES: u32 = 32 << 10;
const NOT_THERE: Errno = Errno(2);
const ALREADY_THERE: Errno = Errno(17);

/// The operation on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    List,
    MakeDir,
    SyncTop,
    Open,
    Head,
    Tail,
    Close,
    Unlink,
    SyncRemoved,
    Footer,
    Window,
    /// Nothing: a file is being made equal on both halves.
    Ask(u32),
    /// The end of such a file.
    Trailer(u32),
    Copy(Copying),
    Flush,
}

/// The operation of a copy to quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    MakeDir,
    SyncTop,
    /// Only where a copy of that name is there.
    Unlink,
    Create,
    Read,
    Write,
    Flush,
    Close,
    SyncDir,
}

/// A segment file that may be part of the chain.
struct Candidate {
    file: u32,
    incarnation: u32,
    trailer: Option<Trailer>,
    footer: Option<(Summary, Vec<Entry>)>,
}

/// A byte of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    candidate: usize,
    byte: u32,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The next commit of the chain is expected here.
    Follow(At),
    /// The chain does not go on at `from`: does it at the start of candidate `next`?
    Cross { from: At, next: usize },
    /// It ends at `from`, unless something from `at` on says otherwise.
    Search { from: At, at: At, evidence_end: u32 },
    /// It goes on at candidate `next`, which does not say behind what: unless something from `at` on in the segment of `from` does not end it.
    Prove { from: At, at: At, next: usize },
    /// It was durable at `from`, and to `until`: the next whole commit from `at` on belongs to it.
    Resume { from: At, at: At, until: Position },
    /// It has ended with segment `at.candidate`, which has a footer: its frames say what is known of producers, up to byte `end`.
    Tell { at: At, end: u32 },
    /// It ends.
    End,
}

/// Part of a segment file in memory.
#[derive(Clone, Copy)]
struct Window {
    candidate: usize,
    from: u32,
    len: u32,
}

/// A part of a segment file that is copied to quarantine.
#[derive(Clone, Copy)]
struct Copy {
    file: u32,
    position: Position,
    /// Byte of the file, and how many are to be copied.
    from: u32,
    len: u32,
    copied: u32,
}

pub(super) struct Recovery {
    live: Vec<LiveSegment>,
    /// Whole blocks, at least the largest commit that any run of the log has written.
    memory: Span,
    step: Step,
    /// Files found, with their sizes; the first `opened` are dealt with.
    found: Vec<(u32, u64)>,
    opened: usize,
    /// Byte of the file being dealt with from which on a commit is looked for.
    head_from: u32,
    /// The trailer at its end, if that is not enough to know it by.
    trailer: Option<Trailer>,
    removals: Vec<FileName>,
    removed: usize,
    candidates: Vec<Candidate>,
    free: Vec<u32>,
    /// Files whose content cannot be told: of a first commit that a crash has torn, or, if anything is missing, what is left of it.
    unknown: Vec<u32>,
    /// Files that the other half has been asked for.
    asked: BTreeSet<u32>,
    /// Whether something acknowledged was found missing.
    damage: bool,
    /// Highest incarnation and epoch met anywhere.
    incarnation_max: u32,
    epoch_max: u32,
    mode: Mode,
    window: Option<Window>,
    /// The file whose footer is being read.
    reading: usize,
    /// The last segment of the chain so far, and the byte behind its last commit, where it was accepted by its footer.
    by_footer: Option<(usize, u32)>,
    /// Of the last commit accepted.
    last: Option<(CommitKind, u32)>,
    /// The highest position that anything read has called durable.
    vouched: Position,
    end: Position,
    copies: VecDeque<Copy>,
    flushes: Vec<u32>,
    /// Numbers used up by what damage left of frames, where no segment can say so.
    raised: BTreeMap<ShardKey, (u64, u64)>,
    /// Of each shard: the next number, and the last arrival.
    newest: HashMap<ShardKey, (u64, u64), BuildHasherDefault<KeyHasher>>,
    torn: u64,
}

impl Recovery {
    /// The newest incarnation that the catalog knows.
    fn newest_known(&self) -> u32 {
        self.live.last().map_or(0, |live| live.incarnation)
    }

    fn listed(&self, incarnation: u32) -> Option<&LiveSegment> {
        let index = self.live.binary_search_by_key(&incarnation, |live| live.incarnation).ok()?;
        Some(&self.live[index])
    }

    fn is_listed(&self, incarnation: u32) -> bool {
        self.listed(incarnation).is_some()
    }

    /// Byte behind the last commit of a segment, if the catalog knows it.
    fn end_of(&self, incarnation: u32) -> Option<u32> {
        self.listed(incarnation).map(|live| live.end).filter(|end| *end > 0)
    }

    /// Numbers of `shard` below `next` are used up.
    fn used_up(&mut self, shard: ShardKey, next: u64, arrival: u64) {
        let known = self.newest.entry(shard).or_default();
        *known = (known.0.max(next), known.1.max(arrival));
    }

    /// The same, though no frame that can be read says so.
    fn raise(&mut self, shard: ShardKey, next: u64, arrival: u64) {
        self.used_up(shard, next, arrival);
        let known = self.raised.entry(shard).or_default();
        *known = (known.0.max(next), known.1.max(arrival));
    }
}

impl Log {
    /// Begins: lists its directory, makes it if it is absent, follows the chain. `live`: incarnations that the catalog knows. `memory`: to read
    /// into, until it has recovered; more than its own where other logs are not in use yet.
    pub fn recover(&mut self, live: &[LiveSegment], memory: Span, ops: &mut Ops) {
        assert!(matches!(self.phase, Phase::New), "recovered once");
        let mut live = live.to_vec();
        live.sort_unstable_by_key(|live| live.incarnation);
        self.recovery = Some(Box::new(Recovery {
            live,
            memory,
            step: Step::List,
            found: Vec::new(),
            opened: 0,
            head_from: 0,
            trailer: None,
            removals: Vec::new(),
            removed: 0,
            candidates: Vec::new(),
            free: Vec::new(),
            unknown: Vec::new(),
            asked: BTreeSet::new(),
            damage: false,
            incarnation_max: 0,
            epoch_max: self.settings.epoch,
            mode: Mode::Follow(At { candidate: 0, byte: 0 }),
            window: None,
            reading: 0,
            by_footer: None,
            last: None,
            vouched: Position(0),
            end: Position(0),
            copies: VecDeque::new(),
            flushes: Vec::new(),
            raised: BTreeMap::new(),
            newest: HashMap::default(),
            torn: 0,
        }));
        ops.push(Op::List { dir: DirName::Log(self.settings.number), token: self.recovery_token() });
    }

    fn recovery_token(&self) -> Token {
        token(self.settings.tokens, Purpose::Recovery, 0)
    }

    /// The answer to its `Op::List`.
    pub fn on_listed(&mut self, _: Token, result: Result<Vec<(FileName, u64)>, Errno>, ops: &mut Ops) {
        let Some(mut r) = self.recovery.take() else { return };
        let dir = DirName::Log(self.settings.number);
        match result {
            Ok(files) => {
                for (file, size) in files {
                    match file {
                        FileName::Segment { index, .. } if size >= self.settings.block as u64 => {
                            r.found.push((index, size))
                        }
                        other => r.removals.push(other),
                    }
                }
                self.open_next(&mut r, ops);
            }
            Err(NOT_THERE) => {
                r.step = Step::MakeDir;
                ops.push(Op::MakeDir { dir, token: self.recovery_token() });
            }
            Err(errno) => return self.unreadable(None, format!("listing {dir}: {errno}")),
        }
        self.recovery = Some(r);
    }

    /// An operation of recovery has completed.
    pub(super) fn on_recovery(&mut self, result: Result<u32, Errno>, buffers: &Buffers, ops: &mut Ops) {
        let Some(mut r) = self.recovery.take() else { return };
        let bytes = match (r.step, result) {
            (_, Ok(bytes)) => bytes,
            (Step::Copy(Copying::Create), Err(ALREADY_THERE)) => {
                // Of an earlier start, which may have ended before its copy did, or of another torn tail at this place.
                if let Some(copy) = r.copies.front() {
                    r.step = Step::Copy(Copying::Unlink);
                    ops.push(Op::Unlink { file: self.copy_name(copy), token: self.recovery_token() });
                }
                self.recovery = Some(r);
                return;
            }
            // A sealed segment is known by its frames too.
            (Step::Footer | Step::Trailer(_), Err(_)) => 0,
            (step, Err(errno)) => {
                let file = self.file_of(&r);
                return self.unreadable(file, format!("{step:?} during recovery: {errno}"));
            }
        };
        match r.step {
            Step::List | Step::Ask(_) => {}
            Step::MakeDir => {
                r.step = Step::SyncTop;
                ops.push(Op::SyncDir { dir: DirName::Above(self.settings.number), token: self.recovery_token() });
            }
            Step::SyncTop => self.open_next(&mut r, ops),
            Step::Open => {
                self.files.opened(r.found[r.opened].0, bytes);
                self.read_opened(&mut r, ops);
            }
            Step::Head => {
                let head = r.memory.first(bytes.min(self.head_bytes(&r)));
                self.on_head(&mut r, buffers.bytes(head), ops);
            }
            Step::Tail => self.on_tail(&mut r, bytes, buffers, ops),
            Step::Close => self.unlink(&mut r, ops),
            Step::Unlink => {
                r.removed += 1;
                self.open_next(&mut r, ops);
            }
            Step::SyncRemoved => self.order(&mut r, buffers, ops),
            Step::Footer => {
                self.on_footer_read(&mut r, bytes, buffers);
                self.read_footers(&mut r, buffers, ops);
            }
            Step::Window => {
                if let Some(window) = &mut r.window {
                    window.len = bytes;
                }
                self.follow(&mut r, buffers, ops);
            }
            Step::Trailer(file) => self.on_trailer(&mut r, file, bytes, buffers, ops),
            Step::Copy(copying) => self.on_copied(&mut r, copying, ops),
            Step::Flush => {
                r.flushes.pop();
                self.flush_next(&mut r, ops);
            }
        }
        if !matches!(self.phase, Phase::Recovered) {
            self.recovery = Some(r);
        }
    }

    /// The file that the operation on its way concerns.
    fn file_of(&self, r: &Recovery) -> Option<FileName> {
        let index = match r.step {
            Step::Open | Step::Head | Step::Tail => r.found.get(r.opened)?.0,
            Step::Footer => r.candidates.get(r.reading)?.file,
            Step::Window => r.candidates.get(r.window?.candidate)?.file,
            Step::Copy(_) => r.copies.front()?.file,
            Step::Ask(file) | Step::Trailer(file) => file,
            Step::Flush => *r.flushes.last()?,
            _ => return None,
        };
        Some(self.files.name(index))
    }

    fn unreadable(&mut self, file: Option<FileName>, why: String) {
        self.events.push_back(Event::Unreadable { file, why });
    }

    fn flush_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        match r.flushes.last() {
            Some(&file) => {
                r.step = Step::Flush;
                ops.push(Op::Fsync { file: self.files.name(file), token: self.recovery_token() });
            }
            None => self.finish_recovery(r),
        }
    }

    fn finish_recovery(&mut self, r: &mut Recovery) {
        for candidate in &r.candidates {
            if self.segment_index(candidate.incarnation).is_none() {
                r.free.push(candidate.file);
            }
        }
        for file in std::mem::take(&mut r.unknown) {
            if r.damage {
                self.files.keep(file);
                self.damaged(r, file, Position(0), "it is neither empty nor known; the file is left alone".to_owned());
            }
            r.free.push(file);
        }
        for &file in &r.free {
            self.files.found_free(file);
        }
        let listed = |(shard, (next, arrival))| Newest { shard, next, arrival };
        self.raised = std::mem::take(&mut r.raised).into_iter().map(listed).collect();
        self.newest = std::mem::take(&mut r.newest).into_iter().map(listed).collect();
        self.newest.sort_unstable_by_key(|newest| newest.shard);
        self.next_incarnation = r.incarnation_max.max(r.newest_known()) + 1;
        self.epoch = r.epoch_max;
        self.durable = r.end;
        self.vouched = r.vouched;
        self.unvouched = self.active && !matches!(r.last, Some((CommitKind::Vouch | CommitKind::Stopped, _)) | None);
        self.producers.pass_over(None);
        self.phase = Phase::Recovered;
        self.events.push_back(Event::Recovered { records: self.records(), torn: r.torn });
    }
}

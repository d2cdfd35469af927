//! Scrubbing in the simulator: the companion's reads over the simulated disk, and the check that what was flipped is found.

use super::clock::SECOND;
use super::disk::{Disk, Request, Who};
use super::scenario::Settings;
use super::world::World;
use penstock::io::op::{FileName, Op, OpenHow, Token};
use penstock::io::scrub::{Report, Segment};
use penstock::log::format::{CommitHeader, HEADER, header_at};
use penstock::log::verify::Verifier;
use penstock::worker::scrub::Told;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one read.
const CHUNK: u32 = 16 << 10;
/// Bytes a second of the server's slowest pace.
const PACE_MIN: u64 = 4 << 20;
/// Until what was verified is durable in the catalog, where that is due: a tick, and what the disk takes.
const LIST_DELAY: u64 = 5 * SECOND;

/// A scrub under way: the file is opened for each chunk.
pub struct Job {
    pub worker: u16,
    pub token: Token,
    segment: Segment,
    rate: u64,
    verifier: Verifier,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Read,
    Close,
}

/// What comes after a step.
pub enum Next {
    /// The job, the number of its request, and its delay in ns.
    Step(Box<Job>, u64, u64),
    Done {
        worker: u16,
        token: Token,
        report: Report,
    },
}

/// One who only reads, and whom a file may lose its name under.
pub fn reads_only(who: Who) -> bool {
    who >= 2000
}

impl Job {
    pub fn new(worker: u16, segment: Segment, rate: u64, token: Token) -> Box<Job> {
        let verifier = Verifier::new(segment, CHUNK);
        Box::new(Job { worker, token, segment, rate, verifier, stage: Stage::Open })
    }

    /// Submits the present stage's request.
    pub fn begin(self: Box<Job>, disk: &mut Disk) -> Next {
        let file = self.segment.file();
        let Some((at, len)) = self.verifier.wants().or((self.stage == Stage::Close).then_some((0, 0))) else {
            return Next::Done { worker: self.worker, token: self.token, report: self.verifier.report() };
        };
        let (request, pause) = match self.stage {
            Stage::Open => (Request::Open { file, how: OpenHow::Existing }, len as u64 * 1_000_000_000 / self.rate),
            Stage::Read => (Request::Read { file, at, len: len as usize }, 0),
            Stage::Close => (Request::Close { file }, 0),
        };
        let (number, delay) = disk.submit(2000 + self.worker, request);
        Next::Step(self, number, delay + pause)
    }

    /// The request of the present stage is done.
    pub fn go_on(mut self: Box<Job>, disk: &mut Disk, number: u64) -> Next {
        self.stage = match (self.stage, disk.finish(number)) {
            (Stage::Open, Ok(_)) => Stage::Read,
            (Stage::Open, Err(errno)) => {
                self.verifier.unopened(errno);
                Stage::Open
            }
            (Stage::Read, result) => {
                match result {
                    Ok(answer) => self.verifier.read(&answer.bytes),
                    Err(errno) => self.verifier.unreadable(errno),
                }
                Stage::Close
            }
            (Stage::Close, _) => Stage::Open,
        };
        self.begin(disk)
    }
}

/// A use of a segment file, with the number of its log.
type Use = (u32, FileName, u32);

/// What scrubs must find, and in which order they must go.
#[derive(Default)]
pub struct Watch {
    /// By segment and half: bytes that were flipped where a checksum covers them when its last scrub began.
    owed: BTreeMap<(Use, usize), Vec<u64>>,
    /// (file, incarnation, first byte, byte behind) of what this life has told.
    told: Vec<(FileName, u32, u64, u64)>,
    /// Workers without a companion that have asked for one in this life, and those that have said so.
    refused: BTreeSet<u16>,
    off: BTreeSet<u16>,
    /// Flipped bytes that a scrub has found in time, or that were repaired from the other half.
    pub found: u64,
    /// By worker: what it is verifying.
    under_way: BTreeMap<u16, Use>,
    /// When segments were last verified in this life, and in those before it, as far as that cannot have been forgotten.
    verified: BTreeMap<Use, u64>,
    before: BTreeMap<Use, u64>,
    /// Of those that this life has come to, by log: the highest of these times, and the newest incarnation.
    came_to: BTreeMap<u32, (u64, u32)>,
    /// Since when this life serves; and whether it has gone on where an earlier one had come to, not with the oldest segment.
    pub serves: Option<u64>,
    pub gone_on: bool,
}

impl Watch {
    /// A life of the node ends at time `now`: what it has verified in its last `forgets` ns may not have been kept.
    fn end_life(&mut self, now: u64, forgets: u64) {
        self.before.append(&mut self.verified);
        let is_under_way = |of: &Use| self.under_way.values().any(|under_way| under_way == of);
        self.before.retain(|of, at| at.saturating_add(forgets) <= now && !is_under_way(of));
        let before = std::mem::take(&mut self.before);
        *self = Watch { before, found: self.found, gone_on: self.gone_on, ..Watch::default() };
    }

    /// A scrub of half `half` begins. The one of this segment before it has been answered, and the segment is still live, as it is scrubbed
    /// again: what was flipped before that one began must have been told, or be repaired.
    pub fn begins(&mut self, op: &Op, half: usize, disk: &Disk) {
        let Op::Scrub { segment, .. } = op else { return };
        let (file, incarnation) = (segment.file(), segment.incarnation);
        let this = ((segment.log, file, incarnation), half);
        let flipped = flipped(segment, disk);
        for byte in self.owed.remove(&this).unwrap_or_default() {
            let tells = |told: &&(FileName, u32, u64, u64)| {
                (told.0, told.1) == (file, incarnation) && told.2 <= byte && byte < told.3
            };
            let told = self.told.iter().any(|told| tells(&told)) || !flipped.contains(&byte);
            assert!(told, "a flipped bit in byte {byte} of {file} is not found by a scrub: {:?}", self.told);
            self.found += 1;
        }
        self.owed.insert(this, flipped);
    }

    /// A worker begins with a segment at time `now`. It comes to segments in the order in which it, or an earlier life, has verified them.
    pub fn goes_on(&mut self, worker: u16, op: &Op, now: u64) {
        let Op::Scrub { segment, .. } = op else { return };
        let this = (segment.log, segment.file(), segment.incarnation);
        match self.under_way.insert(worker, this) {
            // The other half, or once more after a repair.
            Some(before) if before == this && !self.verified.contains_key(&this) => return,
            Some(before) => drop(self.verified.insert(before, now)),
            None => {}
        }
        let Some(last) = self.before.remove(&this) else { return };
        let (latest, newest) = self.came_to.get(&segment.log).copied().unwrap_or_default();
        assert!(
            last >= latest,
            "{} was verified at {last}, and comes behind what was verified at {latest}",
            segment.file()
        );
        self.gone_on |= segment.incarnation < newest;
        self.came_to.insert(segment.log, (latest.max(last), newest.max(segment.incarnation)));
    }

    /// The other half of a file could not be repaired.
    pub fn is_not_repaired(&mut self, file: FileName) {
        self.owed.retain(|((_, owed, _), _), _| *owed != file);
    }

    /// There is no companion. Whoever has been told so does not ask again.
    pub fn refuses(&mut self, worker: u16) {
        assert!(self.refused.insert(worker), "worker {worker} goes on asking a companion that is not there");
    }

    pub fn has_refused(&self, worker: u16) -> bool {
        self.refused.contains(&worker)
    }

    pub fn tells(&mut self, told: &Told, segment_size: u64) {
        match told {
            Told::Damage { file, position, at, bytes, .. } => {
                self.told.push((*file, (position / segment_size) as u32, *at, at + bytes));
            }
            Told::More { file, .. } => {
                // Some of the rest of the file.
                self.owed.retain(|((_, owed, _), _), _| owed != file);
            }
            Told::Late { .. } => {}
            Told::Off { worker } => {
                let first = self.off.insert(*worker);
                assert!(
                    first && self.refused.contains(worker),
                    "there is a companion here, or it was said before: {told}"
                );
            }
        }
    }
}

impl World<'_> {
    /// A life ends. A clean stop keeps everything; where the catalog may have failed, nothing is expected.
    pub(super) fn end_scrubs(&mut self) {
        let rest = self.shared.settings.scrub.map_or(0, |period| period / 50 + LIST_DELAY);
        let forgets = match (self.shared.lenient, self.stopped_cleanly) {
            (true, _) => u64::MAX,
            (_, true) => 0,
            _ => rest,
        };
        self.scrubs.end_life(self.clock.mono(), forgets);
    }

    pub(super) fn scrub_begins(&mut self, worker: u16, op: &Op) {
        let half = op.token().map_or(0, Token::half);
        let disk = if half == 1 { self.twin.as_ref() } else { None };
        self.scrubs.begins(op, half, disk.unwrap_or(&self.disk));
        if !self.shared.lenient {
            self.scrubs.goes_on(worker, op, self.clock.mono());
        }
    }

    pub(super) fn scrub_told(&mut self, told: &Told) {
        let excused = self.shared.settings.harm || self.shared.lenient;
        let unproven = matches!(told, Told::Late { .. } | Told::Off { .. });
        let settings = &self.shared.settings;
        // Segments may have waited while the node was down, or have been written by a clock that was behind.
        let serves_for = self.scrubs.serves.map_or(0, |since| self.clock.mono() - since);
        if let &Told::Late { period, bytes, .. } = told {
            let quick = settings.scrub_slow == 1
                && !settings.pauses
                && !settings.no_companion
                && leaves_time(period, bytes, settings)
                && (self.life == 1 || period < serves_for);
            assert!(!quick, "a pass does not end within the period: {told}");
        }
        assert!(excused || unproven, "a scrub finds what is not there: {told}");
        self.damage_told |= !unproven;
        self.scrubs.tells(told, settings.segment);
    }
}

/// Whether a pass over `bytes` bytes can take a quarter of the period at most. The server begins with what is due once a second, and with the last of
/// a pass when four fifths of the period are over: of ten seconds it has one left then, for the eighth of the pass that became due meanwhile, and
/// for a request or two that take a hundred times as long as others. Of less than ten it may have none.
fn leaves_time(period: u64, bytes: u64, settings: &Settings) -> bool {
    // Of a mirror both halves are read. For each chunk there are three requests, and a pause where the server wants the slowest pace.
    let chunks = bytes.div_ceil(CHUNK as u64) * if settings.mirrored { 2 } else { 1 };
    let pass = chunks * (3 * 2 * settings.disk_typical + CHUNK as u64 * SECOND / PACE_MIN);
    period >= 10 * SECOND && pass <= period / 4
}

/// Bytes of the segment that differ from what was written, and that a checksum covers.
fn flipped(segment: &Segment, disk: &Disk) -> Vec<u64> {
    let (Some(now), Some(sound)) = (disk.content(segment.file()), disk.sound(segment.file())) else {
        return Vec::new();
    };
    let mut flipped = Vec::new();
    let mut at = 0;
    while at < segment.end as usize {
        let header = header_at(&sound, at).and_then(|head| CommitHeader::peek(head).ok());
        let Some(header) = header.filter(|h| h.bytes > 0 && at + h.bytes as usize <= segment.end as usize) else {
            break;
        };
        let commit = &sound[at..at + header.bytes as usize];
        let mut differs = |from: usize, len: usize| {
            let bytes = at + from..at + from + len;
            flipped.extend(bytes.filter(|byte| now[*byte] != sound[*byte]).map(|byte| byte as u64));
        };
        differs(0, HEADER);
        for (place, frame) in header.frames(commit).flatten() {
            differs(place, HEADER + frame.body as usize);
        }
        at += header.bytes as usize;
    }
    flipped
}

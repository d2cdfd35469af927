//! Scrubbing in the simulator: the companion's reads over the simulated disk, and the check that what was flipped is found.

use super::disk::{Disk, Request, Who};
use penstock::io::op::{FileName, Op, OpenHow, Token};
use penstock::io::scrub::{Report, Segment};
use penstock::log::format::{CommitHeader, HEADER, header_at};
use penstock::log::verify::Verifier;
use penstock::worker::scrub::Told;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one read.
const CHUNK: u32 = 16 << 10;

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

/// What scrubs must find, and what they have.
#[derive(Default)]
pub struct Watch {
    /// By segment: bytes that were flipped where a checksum covers them when its last scrub began.
    owed: BTreeMap<(FileName, u32), Vec<u64>>,
    /// (file, incarnation, first byte, byte behind) of what this life has told.
    told: Vec<(FileName, u32, u64, u64)>,
    /// Workers without a companion that have asked for one in this life, and those that have said so.
    refused: BTreeSet<u16>,
    off: BTreeSet<u16>,
    /// Flipped bytes that a scrub has found in time.
    pub found: u64,
}

impl Watch {
    /// A life of the node begins.
    pub fn begin_life(&mut self) {
        self.owed.clear();
        self.told.clear();
        self.refused.clear();
        self.off.clear();
    }

    /// A scrub begins. The one of this segment before it has been answered, and the segment is still live, as it is scrubbed again: what
    /// was flipped before that one began must have been told.
    pub fn begins(&mut self, op: &Op, disk: &Disk) {
        let Op::Scrub { segment, .. } = op else { return };
        let (file, incarnation) = (segment.file(), segment.incarnation);
        for byte in self.owed.remove(&(file, incarnation)).unwrap_or_default() {
            let tells = |told: &&(FileName, u32, u64, u64)| {
                (told.0, told.1) == (file, incarnation) && told.2 <= byte && byte < told.3
            };
            let told = self.told.iter().find(tells);
            assert!(told.is_some(), "a flipped bit in byte {byte} of {file} is not found by a scrub: {:?}", self.told);
            self.found += 1;
        }
        self.owed.insert((file, incarnation), flipped(segment, disk));
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
                self.owed.retain(|(owed, _), _| owed != file);
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

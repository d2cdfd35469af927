//! One operation of the core on its way to the halves, and what becomes of their answers.

use super::news::News;
use super::unit::{Half, Phase};
use super::{EIO, JOINT_TOKEN, Mirror};
use crate::io::op::{Completion, Errno, FileName, Op, OpenHow, Token};
use crate::io::scrub::{Finding, Report};
use crate::log::segment::NO_ROOM;

const ENOENT: Errno = Errno(2);

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Core,
    /// What one half has made goes again, as the other has no room for it; then the core is answered so. The first step closes the file.
    Undo {
        token: Token,
        errno: Errno,
        opened: bool,
    },
    /// Everything that was written to a file is made durable, before the mark forgets it.
    Retire {
        index: u32,
    },
}

pub(super) struct Joint {
    pub op: Op,
    pub unit: Option<usize>,
    pub sent: [bool; 2],
    results: [Option<Result<u32, Errno>>; 2],
    reports: [Option<Box<Report>>; 2],
    /// Writes without a promise that a flush covers.
    pub covers: u64,
    pub to: For,
    /// A scrub that has been followed by a repair: it is the second.
    pub mended: bool,
}

impl Joint {
    pub fn new(op: Op, unit: Option<usize>, sent: [bool; 2], covers: u64) -> Joint {
        Joint { op, unit, sent, results: [None; 2], reports: [None, None], covers, to: For::Core, mended: false }
    }

    pub fn waits_for(&self, half: usize) -> bool {
        self.sent[half] && self.results[half].is_none()
    }

    fn is_complete(&self) -> bool {
        !(0..2).any(|half| self.waits_for(half))
    }

    /// Whether half `half` has done all of it.
    fn has_done(&self, half: usize) -> bool {
        match (self.op, self.results[half]) {
            (Op::WriteAt { from, .. }, Some(Ok(bytes))) => bytes == from.len,
            (_, result) => matches!(result, Some(Ok(_))),
        }
    }

    /// Why it has not.
    fn errno(&self, half: usize) -> Errno {
        match self.results[half] {
            Some(Err(errno)) => errno,
            _ => EIO,
        }
    }

    /// It goes to both halves once more.
    pub fn again(&mut self) {
        (self.results, self.reports, self.mended) = ([None; 2], [None, None], true);
    }
}

/// Joints on their way.
#[derive(Default)]
pub(super) struct Joints {
    slots: Vec<Option<Joint>>,
    free: Vec<u32>,
}

impl Joints {
    pub fn put(&mut self, joint: Joint) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(joint);
        slot
    }

    pub fn get(&self, slot: u32) -> &Joint {
        self.slots[slot as usize].as_ref().expect("a joint is kept until it is answered")
    }

    pub fn get_mut(&mut self, slot: u32) -> &mut Joint {
        self.slots[slot as usize].as_mut().expect("a joint is kept until it is answered")
    }

    pub fn take(&mut self, slot: u32) -> Joint {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a joint is answered once")
    }
}

impl Mirror {
    /// One half has answered.
    pub(super) fn joint_done(&mut self, token: Token, completion: Completion) {
        let (slot, half) = (token.0 as u32, token.half());
        let joint = self.joints.get_mut(slot);
        match completion {
            Completion::Done { result, .. } => joint.results[half] = Some(result),
            Completion::Scrubbed { report, .. } => {
                joint.results[half] = Some(report.as_ref().map(|_| 0).ok_or(EIO));
                joint.reports[half] = report;
            }
            Completion::Listed { result, .. } => return self.listed(slot, half, result),
            _ => unreachable!("nothing else is asked for"),
        }
        if !joint.is_complete() {
            return;
        }
        match joint.op {
            Op::ReadAt { .. } => self.read_done(slot, half),
            Op::Scrub { .. } => self.scrub_done(slot),
            _ => self.change_done(slot),
        }
    }

    fn listed(&mut self, slot: u32, half: usize, result: Result<Vec<(FileName, u64)>, Errno>) {
        let joint = self.joints.get_mut(slot);
        let other = 1 - half;
        let is_whole = joint.unit.is_some_and(|unit| self.units[unit].halves[other] == Half::In);
        if result.as_ref().is_err_and(|errno| *errno != ENOENT) && is_whole && !joint.sent[other] {
            (joint.results[half], joint.sent[other]) = (Some(Err(EIO)), true);
            return self.emit(slot);
        }
        let joint = self.joints.take(slot);
        let token = joint.op.token().expect("a listing has one");
        let is_mark = |file: &FileName| matches!(file, FileName::Mark { .. } | FileName::LogMark { .. });
        let result = result.map(|files| files.into_iter().filter(|(file, _)| !is_mark(file)).collect());
        debug_assert!(joint.sent[half]);
        self.answers.push(Completion::Listed { token, result });
    }

    /// What one half does not give back, the other does.
    fn read_done(&mut self, slot: u32, half: usize) {
        let joint = self.joints.get_mut(slot);
        let other = 1 - half;
        let unit = joint.unit.expect("reads are of units");
        let may_turn = !joint.sent[other] && self.units[unit].halves[other] == Half::In;
        if matches!(joint.results[half], Some(Err(_))) && may_turn {
            joint.sent[other] = true;
            if let Some(file) = joint.op.file() {
                self.wants_mending(unit, file);
            }
            return self.emit(slot);
        }
        let joint = self.joints.take(slot);
        self.units[unit].answered(self.now.mono, &joint.op, slot, 0, true, false);
        let result = joint.results[half].expect("it has just been answered");
        let token = joint.op.token().expect("a read has one");
        self.answers.push(Completion::Done { token, result });
    }

    fn change_done(&mut self, slot: u32) {
        let joint = self.joints.take(slot);
        let Some(number) = joint.unit else {
            let done = (0..2).find(|half| joint.has_done(*half));
            let result = joint.results[done.unwrap_or(0)].expect("complete");
            let token = joint.op.token().expect("an operation on files");
            return self.answers.push(Completion::Done { token, result });
        };
        let unit = &self.units[number];
        let counts = [0, 1].map(|half| joint.sent[half] && unit.halves[half] == Half::In);
        let done = [0, 1].map(|half| counts[half] && joint.has_done(half));
        let lost = (0..2).find(|half| counts[*half] && !done[*half]);
        let good = (0..2).find(|half| done[*half]);
        let makes = matches!(joint.op, Op::Open { how: OpenHow::Create { .. }, .. } | Op::Prepare { .. });
        let no_room = [0, 1].map(|half| makes && joint.sent[half] && NO_ROOM.contains(&joint.errno(half)));
        // A file for which there is no room in a half that is rebuilt is copied later; one for which there is none anywhere is not there.
        let lacks = unit.target().filter(|half| no_room[*half] && good.is_some());
        let counts_out = |half: usize| unit.halves[half] == Half::Out || lacks == Some(half);
        let whole = (0..2).all(|half| !joint.sent[half] || counts_out(half) || joint.has_done(half));
        let both = (0..2).all(|half| joint.sent[half] && unit.halves[half] != Half::Out && joint.has_done(half));
        let all = good.is_some() && lost.is_none();
        self.units[number].answered(self.now.mono, &joint.op, slot, joint.covers, all && whole, both);
        let target = self.units[number].target().filter(|half| joint.sent[*half] && !joint.has_done(*half));
        if let (Some(half), Some((file, size))) = (lacks, made(&joint.op)) {
            self.copy_later(number, file, size, joint.errno(half));
        } else if let Some(target) = target.filter(|half| !no_room[*half] || good.is_some()) {
            let what = What(&joint.op).to_string();
            self.fail_half(number, target, what, joint.errno(target));
        }
        let Some(good) = good else {
            // Where the halves differ in why, an absent file is the least of it.
            let why = (0..2).filter(|half| counts[*half]).map(|half| joint.errno(half));
            let errno = why.min_by_key(|errno| *errno == ENOENT).unwrap_or(EIO);
            return self.answered(number, &joint, Err(errno));
        };
        if let Some(lost) = lost {
            let errno = joint.errno(lost);
            if no_room[lost] && joint.to == For::Core {
                return self.undo(number, &joint, good, errno);
            }
            self.fail_half(number, lost, What(&joint.op).to_string(), errno);
        }
        let links = (0..2).filter(|half| done[*half]).filter_map(|half| joint.results[half]?.ok()).max();
        let result = Ok(links.unwrap_or(0));
        self.answered(number, &joint, result);
    }

    /// One half has no room for what the other has made.
    fn undo(&mut self, number: usize, joint: &Joint, good: usize, errno: Errno) {
        let token = joint.op.token().expect("an operation on files");
        let file = joint.op.file().expect("a file was made");
        let opened = matches!(joint.op, Op::Open { .. });
        self.units[number].opened.remove(&file);
        let op = if opened { Op::CloseFile { file, token } } else { Op::Unlink { file, token } };
        self.send_for(number, op, good, For::Undo { token, errno, opened });
    }

    fn send_for(&mut self, number: usize, op: Op, half: usize, to: For) {
        let mut halves = [false; 2];
        halves[half] = true;
        let slot = self.joints.put(Joint { to, ..Joint::new(op, Some(number), halves, 0) });
        self.units[number].sent(&op, slot);
        self.emit(slot);
    }

    /// An operation has come to its end on all halves that count.
    fn answered(&mut self, number: usize, joint: &Joint, result: Result<u32, Errno>) {
        let token = joint.op.token().expect("an operation on files");
        match joint.to {
            For::Core => {
                let completion = Completion::Done { token, result };
                match self.units[number].unsaid {
                    true => self.units[number].held.push_back(completion),
                    false => self.answers.push(completion),
                }
            }
            For::Undo { token, errno, opened: true } => {
                let file = joint.op.file().expect("a file was made");
                let half = usize::from(joint.sent[1]);
                self.send_for(number, Op::Unlink { file, token }, half, For::Undo { token, errno, opened: false });
            }
            // Whether or not it could be removed: the next attempt to make it will tell.
            For::Undo { token, errno, .. } => self.answers.push(Completion::Done { token, result: Err(errno) }),
            For::Retire { index } => self.retired(number, index, &joint.op, result.is_ok()),
        }
        if !self.units[number].queue.is_empty() && self.units[number].phase == Phase::Open {
            self.release(number);
        }
    }

    /// An operation of the layer's own on a unit, to all of its halves.
    pub(super) fn send_retire(&mut self, number: usize, op: Op, index: u32) {
        let unit = &mut self.units[number];
        let (halves, covers) = (unit.halves_for(&op), unit.covers(&op));
        let slot = self.joints.put(Joint { to: For::Retire { index }, ..Joint::new(op, Some(number), halves, covers) });
        self.units[number].sent(&op, slot);
        self.emit(slot);
    }

    /// Both halves are verified: what one has and the other has not is repaired, and looked at again.
    fn scrub_done(&mut self, slot: u32) {
        let joint = self.joints.get_mut(slot);
        let number = joint.unit.expect("scrubs are of units");
        let found = [0, 1].map(|half| joint.reports[half].as_ref().is_some_and(|report| !report.findings.is_empty()));
        let both = self.units[number].are_both_in() && joint.sent == [true; 2];
        let Op::Scrub { segment, .. } = joint.op else { unreachable!("a scrub") };
        if !joint.mended && both && found != [false; 2] {
            let footer = |half: usize| {
                let damaged = |finding: &Finding| finding.at >= segment.end as u64;
                joint.reports[half].as_ref().is_some_and(|report| report.findings.iter().any(damaged))
            };
            let prefer = usize::from(footer(0));
            return self.mend(number, segment.file(), prefer, Some(slot));
        }
        let mut joint = self.joints.take(slot);
        self.units[number].answered(self.now.mono, &joint.op, slot, 0, true, false);
        let token = joint.op.token().expect("a scrub has one");
        let whole = self.units[number].halves.map(|half| half == Half::In);
        let sent = [0, 1].map(|half| joint.sent[half] && whole[half]);
        let mut reports = [joint.reports[0].take(), joint.reports[1].take()];
        (0..2).filter(|half| !sent[*half]).for_each(|half| reports[half] = None);
        let missing = (0..2).any(|half| sent[half] && reports[half].is_none());
        let changed = self.scrubbing.take().is_some_and(|(.., changed)| changed);
        if let ([Some(first), Some(second)], false) = (&reports, changed) {
            for (half, one, other) in [(0, first, second), (1, second, first)] {
                if one.findings.iter().any(|finding| !is_in(finding, other)) {
                    let path = self.path(number, half);
                    self.news.push_back(News::NotRepaired { file: segment.file(), path });
                }
            }
        }
        let report = if missing { None } else { Some(Box::new(merge(reports))) };
        self.answers.push(Completion::Scrubbed { token, report });
    }
}

/// The file that an operation makes, and its size.
fn made(op: &Op) -> Option<(FileName, u64)> {
    match *op {
        Op::Open { file, how: OpenHow::Create { size }, .. } => Some((file, size)),
        Op::Prepare { log, index, size, .. } => Some((FileName::Segment { log, index }, size)),
        _ => None,
    }
}

/// Whether the other half is damaged there too.
fn is_in(finding: &Finding, other: &Report) -> bool {
    let meets = |found: &Finding| finding.at < found.at + found.bytes && found.at < finding.at + finding.bytes;
    other.untold > 0 || other.findings.iter().any(meets)
}

/// One report on two halves: only what neither has any more is damage.
fn merge(reports: [Option<Box<Report>>; 2]) -> Report {
    match reports {
        [Some(mut first), Some(second)] => {
            first.bytes += second.bytes;
            first.untold = first.untold.min(second.untold);
            first.findings.retain(|finding| is_in(finding, &second));
            *first
        }
        [Some(one), None] | [None, Some(one)] => *one,
        [None, None] => Report::default(),
    }
}

/// An operation, as a person calls it.
pub(super) struct What<'a>(pub &'a Op);

impl std::fmt::Display for What<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.0 {
            Op::Open { how: OpenHow::Create { .. }, .. } => "creating",
            Op::Open { .. } => "opening",
            Op::WriteAt { .. } => "writing",
            Op::ReadAt { .. } => "reading",
            Op::Fsync { .. } => "flushing",
            Op::Rename { .. } => "renaming",
            Op::Unlink { .. } => "removing",
            Op::CloseFile { .. } => "closing",
            Op::Prepare { .. } => "preparing",
            Op::Scrub { .. } => "verifying",
            Op::MakeDir { dir, .. } => return write!(f, "making {dir}"),
            Op::SyncDir { dir, .. } => return write!(f, "syncing {dir}"),
            Op::List { dir, .. } => return write!(f, "listing {dir}"),
            _ => "working on",
        };
        match self.0.file() {
            Some(file) => write!(f, "{what} {file}"),
            None => f.write_str(what),
        }
    }
}

const _: () = assert!(JOINT_TOKEN < 0x80, "the upper bit says which half");

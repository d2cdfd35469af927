//! Two directories for one: every operation of a worker on mirrored files goes to both halves, and is answered when both have done it.
//!
//! ```text
//!   Worker::step ── Op ──► split ──► Op for half 0, Op for half 1 ──► ring
//!                ◄─ Completion ── join ◄─ two completions ◄───────── ring
//! ```
//!
//! The layer stands at the border of the worker, so log, catalog and superblock know nothing of it. It is pure like them. What is mirrored
//! as one is a [`unit::Unit`]: each log, and what a directory holds beside its logs. What must hold:
//!
//! - Nothing is answered as done before both halves have done it, or the one that is left says durably, with a higher generation, that the
//!   other has been left behind ([`mark::Mark`]). From then on that one is not read, at no start, until it has been rebuilt.
//! - A segment file is changed only while the marks of both halves name it. After a crash the halves of one generation differ in named files
//!   only, and these are made equal before the unit is used (`level`), commit by commit, whichever half has it whole.
//! - A half that is rebuilt counts when all is copied and flushed, and its mark says so.

mod copy;
mod copying;
mod joint;
mod level;
pub mod mark;
mod marking;
pub mod news;
mod opening;
mod script;
#[cfg(test)]
mod tests;
mod tops;
pub mod unit;

use crate::io::buffers::Buffers;
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Completions, DirName, Errno, FileName, Op, Ops, Token};
use copy::Copier;
use joint::{Joint, Joints};
use news::News;
use opening::Opening;
use script::Script;
use std::collections::{BTreeMap, VecDeque};
use unit::{Half, Name, Phase, Unit};

/// Owners of the layer's tokens; the upper bit says which half.
const JOINT_TOKEN: u8 = 0x4d;
const SCRIPT_TOKEN: u8 = 0x4e;
const COPY_TOKEN: u8 = 0x4f;
const EIO: Errno = Errno(5);

/// Whether an operation makes halves equal: what it writes was written before.
pub const fn is_copy(token: Token) -> bool {
    (token.at_half(0).0 >> 56) as u8 == COPY_TOKEN
}

/// Whether an operation is not the core's: the layer learns and says by it what halves are worth, and makes them equal.
pub const fn is_own(token: Token) -> bool {
    matches!((token.at_half(0).0 >> 56) as u8, SCRIPT_TOKEN | COPY_TOKEN)
}

/// What the operator chose. The same for every worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the devices of each data directory's halves write without touching a neighbour, in bytes, by their place in this start.
    pub blocks: Vec<u32>,
    /// Where the halves of each lie, for messages.
    pub paths: Vec<[String; 2]>,
    /// A half that has no mark is rebuilt though its drive may only not be mounted; one that may have missed something is used where the
    /// other is not there.
    pub accept_degraded: bool,
    /// Bytes a second that a rebuild copies at most.
    pub rebuild_rate: u64,
    /// Random: the id of marks that are made.
    pub random: u64,
    /// A rule broken on purpose, by the simulator only: no mark says that a half has been left behind.
    pub canary: bool,
}

/// What waits for both scripts to be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Open(usize),
    Mark(usize),
    /// All is copied: the directory of the half that is rebuilt is made durable.
    Finish(usize),
}

/// The layer of one worker.
pub struct Mirror {
    settings: Settings,
    now: Now,
    units: Vec<Unit>,
    names: BTreeMap<Name, usize>,
    joints: Joints,
    scripts: [Script; 2],
    jobs: VecDeque<Job>,
    job: Option<Job>,
    opening: Option<Opening>,
    /// The mark that is being written.
    writing: mark::Mark,
    copier: Copier,
    /// `Superblock::directory`, when it is known.
    directory: u64,
    /// Bytes of a segment file.
    segment: u64,
    /// Operations of the layer's own, until the end of the turn.
    out: Ops,
    /// Completions for the core.
    answers: Completions,
    /// Files that have been looked through since that was last asked for.
    repaired: VecDeque<FileName>,
    asked: Ops,
    news: VecDeque<News>,
    /// The segment that is verified, one at a time: unit, index, and whether it has been changed since. Then what was found says nothing.
    scrubbing: Option<(usize, u32, bool)>,
}

impl Mirror {
    /// Takes two block slots for good; there are some at start.
    pub fn new(settings: Settings, buffers: &mut Buffers) -> Mirror {
        let mut script = |owner| Script::new(owner, buffers).expect("every block slot is free at start");
        let scripts = [script(SCRIPT_TOKEN), script(SCRIPT_TOKEN | 0x80)];
        Mirror {
            copier: Copier::new(settings.rebuild_rate),
            settings,
            now: Now::default(),
            units: Vec::new(),
            names: BTreeMap::new(),
            joints: Joints::default(),
            scripts,
            jobs: VecDeque::new(),
            job: None,
            opening: None,
            writing: mark::Mark::default(),
            directory: 0,
            segment: 0,
            out: Ops::new(),
            answers: Completions::new(),
            repaired: VecDeque::new(),
            asked: Ops::new(),
            news: VecDeque::new(),
            scrubbing: None,
        }
    }

    /// The directory's number, which the marks of logs carry; and the bytes of a segment file.
    pub fn learn(&mut self, directory: u64, segment: u64) {
        (self.directory, self.segment) = (directory, segment);
    }

    /// Something to tell, oldest first.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// When [`Mirror::join`] and [`Mirror::split`] must be called next, though nothing completes.
    pub fn deadline(&self) -> Option<Mono> {
        let soon =
            (!self.answers.is_empty() || !self.news.is_empty() || !self.repaired.is_empty()).then_some(self.now.mono);
        soon.or(self.copier.deadline())
    }

    /// A reader has met damage in a segment file: it is made equal on both halves, and what one has whole counts. `false`: there are not two.
    pub fn repair(&mut self, file: FileName) -> bool {
        let FileName::Segment { log, .. } = file else { return false };
        let unit = self.names.get(&Name::Log(log)).copied();
        let both = |unit: &usize| self.units[*unit].phase == Phase::Open && self.units[*unit].are_both_in();
        let Some(unit) = unit.filter(both) else { return false };
        self.mend(unit, file, 0, None);
        true
    }

    /// The same for a file that recovery is about to judge; `false` also where the opening of its unit has just made it equal.
    pub fn level_at_start(&mut self, file: FileName) -> bool {
        let FileName::Segment { log, index } = file else { return false };
        let unit = self.names.get(&Name::Log(log)).map(|unit| &self.units[*unit]);
        unit.is_some_and(|unit| !unit.levelled.contains(&index)) && self.repair(file)
    }

    /// A file that [`Mirror::repair`] was asked for has been looked through, or cannot be any more.
    pub fn repaired(&mut self) -> Option<FileName> {
        self.repaired.pop_front()
    }

    /// Whether the first half of a log, or of everything that is known here, is whole: snapshots are taken from it.
    pub fn has_first_half(&self, log: Option<u32>) -> bool {
        let counts = |unit: &&Unit| unit.phase != Phase::Closed && log.is_none_or(|log| unit.name == Name::Log(log));
        self.units.iter().filter(counts).all(|unit| unit.halves[0] == Half::In)
    }

    /// Units whose halves are not both whole.
    pub fn degraded(&self) -> usize {
        let is_degraded = |unit: &&Unit| unit.phase != Phase::Closed && !unit.are_both_in();
        self.units.iter().filter(is_degraded).count()
    }

    /// Half `half` of data directory `given` has failed for another worker's unit: it has for those of this one.
    pub fn leave_behind(&mut self, given: u8, half: usize, why: &str) {
        for unit in 0..self.units.len() {
            if self.units[unit].given == given && self.units[unit].phase == Phase::Open {
                self.fail_half(unit, half, why.to_string(), EIO);
            }
        }
    }

    /// Takes the completions of a turn, and leaves those that the core waits for.
    pub fn join(&mut self, now: Now, done: &mut Completions, buffers: &mut Buffers) {
        self.now = now;
        for completion in done.drain(..) {
            let token = match &completion {
                Completion::Done { token, .. }
                | Completion::Listed { token, .. }
                | Completion::Scrubbed { token, .. } => *token,
                _ => {
                    self.answers.push(completion);
                    continue;
                }
            };
            match (token.at_half(0).0 >> 56) as u8 {
                JOINT_TOKEN => self.joint_done(token, completion),
                SCRIPT_TOKEN => self.script_done(token, completion, buffers),
                COPY_TOKEN => self.copy_done(token, completion),
                _ => self.answers.push(completion),
            }
        }
        self.go_on(buffers);
        done.append(&mut self.answers);
    }

    /// Takes the operations of a turn, and leaves what the ring is to do.
    pub fn split(&mut self, now: Now, ops: &mut Ops, buffers: &mut Buffers) {
        self.now = now;
        std::mem::swap(ops, &mut self.asked);
        let mut asked = std::mem::take(&mut self.asked);
        for op in asked.drain(..) {
            self.dispatch(op);
        }
        self.asked = asked;
        self.retire_quiet();
        self.go_on(buffers);
        ops.append(&mut self.out);
    }

    fn dispatch(&mut self, op: Op) {
        if let Op::Locate { log, given } = op {
            let block = self.settings.blocks[given as usize];
            // A snapshot locates all again.
            if !self.names.contains_key(&Name::Log(log)) {
                self.add_unit(Unit::new(Name::Log(log), given, block));
            }
            return self.out.push(op);
        }
        let Some(dir) = op.dir() else { return self.out.push(op) };
        match (dir, Name::of(dir)) {
            (_, Some(name)) => {
                let unit = self.unit(name);
                self.dispatch_to(unit, op);
            }
            // Evidence: kept where it can be.
            (DirName::Quarantine | DirName::AboveQuarantine, None) => self.send(None, op, [true; 2]),
            // A snapshot is staged on the first halves.
            _ => self.out.push(op),
        }
    }

    fn unit(&mut self, name: Name) -> usize {
        match (self.names.get(&name), name) {
            (Some(unit), _) => *unit,
            (None, Name::Top(given)) => {
                let block = self.settings.blocks[given as usize];
                self.add_unit(Unit::new(name, given, block))
            }
            (None, Name::Log(log)) => unreachable!("log {log} is used before it is located"),
        }
    }

    fn add_unit(&mut self, unit: Unit) -> usize {
        let number = self.units.len();
        self.names.insert(unit.name, number);
        self.units.push(unit);
        number
    }

    fn dispatch_to(&mut self, number: usize, op: Op) {
        let unit = &mut self.units[number];
        match unit.phase {
            Phase::Closed => {
                unit.phase = Phase::Opening;
                unit.queue.push_back(op);
                self.jobs.push_back(Job::Open(number));
            }
            Phase::Opening => unit.queue.push_back(op),
            Phase::Dead if !matches!(op, Op::ReadAt { .. } | Op::CloseFile { .. } | Op::List { .. }) => {
                let token = op.token().expect("an operation on files");
                self.answers.push(Completion::Done { token, result: Err(EIO) });
            }
            Phase::Open | Phase::Dead => {
                if unit.phase == Phase::Open && unit.must_wait(&op) {
                    return unit.queue.push_back(op);
                }
                let halves = unit.halves_for(&op);
                match op {
                    // A snapshot is staged on the first half, which must be whole for that.
                    Op::Link { token, .. } if !halves[0] => {
                        self.answers.push(Completion::Done { token, result: Err(EIO) });
                    }
                    Op::Link { .. } => self.out.push(op),
                    _ => self.send(Some(number), op, halves),
                }
            }
        }
    }

    /// What waited in the queue of a unit is looked at again.
    fn release(&mut self, number: usize) {
        // What has to wait goes to the queue again, in the same order.
        for op in std::mem::take(&mut self.units[number].queue) {
            self.dispatch_to(number, op);
        }
    }

    /// Sends an operation to the halves that are to have it.
    fn send(&mut self, unit: Option<usize>, op: Op, halves: [bool; 2]) {
        if halves == [false; 2] {
            let token = op.token().expect("an operation on files");
            return self.answers.push(Completion::Done { token, result: Err(EIO) });
        }
        let covers = unit.map_or(0, |unit| self.units[unit].covers(&op));
        let number = self.joints.put(Joint::new(op, unit, halves, covers));
        if let (Some(unit), Op::Unlink { file, .. }) = (unit, op) {
            self.copier.forget(unit, file);
        }
        if let Some(unit) = unit {
            self.units[unit].sent(&op, number);
            self.notice_change(unit, &op);
        }
        self.emit(number);
    }

    fn notice_change(&mut self, unit: usize, op: &Op) {
        if let Op::Scrub { segment, .. } = op {
            self.scrubbing = Some((unit, segment.index, false));
        }
        if let Some((of, index, changed)) = &mut self.scrubbing {
            *changed |= *of == unit && unit::changed_segment(op) == Some(*index);
        }
    }

    fn emit(&mut self, number: u32) {
        let joint = self.joints.get(number);
        let token = Token((JOINT_TOKEN as u64) << 56 | number as u64);
        for half in (0..2).filter(|half| joint.waits_for(*half)) {
            self.out.push(joint.op.with_token(token.at_half(half)));
        }
    }

    fn script_done(&mut self, token: Token, completion: Completion, buffers: &mut Buffers) {
        let script = &mut self.scripts[token.half()];
        match completion {
            Completion::Done { result, .. } => script.on_done(token, result, buffers, &mut self.out),
            Completion::Listed { result, .. } => script.on_listed(token, result, buffers, &mut self.out),
            _ => unreachable!("scripts do nothing else"),
        }
    }

    /// Jobs that have come to their next stage, and the copier.
    fn go_on(&mut self, buffers: &mut Buffers) {
        while !self.scripts.iter().any(Script::is_running) {
            match self.job {
                None => match self.next_job() {
                    Some(job) => self.begin_job(job, buffers),
                    None => break,
                },
                Some(Job::Mark(unit)) => {
                    self.job = None;
                    self.mark_written(unit);
                }
                Some(Job::Finish(unit)) => {
                    self.job = None;
                    self.rebuilt(unit);
                }
                Some(Job::Open(unit)) => {
                    if !self.open_on(unit, buffers) {
                        break;
                    }
                }
            }
        }
        self.copy_on(buffers);
    }

    fn next_job(&mut self) -> Option<Job> {
        let is_due = |unit: &Unit| unit.mark_due && matches!(unit.phase, Phase::Open);
        if let Some(unit) = self.units.iter().position(is_due) {
            return Some(Job::Mark(unit));
        }
        self.jobs.pop_front()
    }

    fn begin_job(&mut self, job: Job, buffers: &mut Buffers) {
        self.job = Some(job);
        match job {
            Job::Open(unit) => self.begin_opening(unit, buffers),
            Job::Mark(unit) => self.begin_mark(unit, buffers),
            Job::Finish(unit) => self.begin_finish(unit, buffers),
        }
    }

    /// Half `half` has failed at something: the other one goes on without it, once that is durably said.
    fn fail_half(&mut self, number: usize, half: usize, what: String, errno: Errno) {
        let unit = &mut self.units[number];
        match unit.halves[half] {
            Half::Out => return,
            Half::Copying => {
                unit.halves[half] = Half::Out;
                unit.to_copy.clear();
                unit.copied.clear();
                self.news.push_back(News::RebuildFailed {
                    unit: unit.name,
                    path: self.path(number, half),
                    what,
                    errno,
                });
                return self.copier_stop(number);
            }
            Half::In if unit.halves[1 - half] != Half::In => return,
            Half::In => {}
        }
        unit.halves[half] = Half::Out;
        if !self.settings.canary {
            unit.mark.generation += 1;
            unit.mark.alone = true;
            (unit.unsaid, unit.mark_due) = (true, true);
        }
        let (name, given) = (unit.name, unit.given);
        self.news.push_back(News::Degraded { unit: name, given, half, path: self.path(number, half), what, errno });
        self.copier_stop(number);
        self.release(number);
    }

    fn path(&self, unit: usize, half: usize) -> String {
        self.settings.paths[self.units[unit].given as usize][half].clone()
    }
}

//! Writing marks: a half that is left behind, files that are about to be written to, a rebuild that has come to its end.

use super::mark::Mark;
use super::news::News;
use super::unit::{Half, Phase, Unit};
use super::{EIO, Mirror};
use crate::io::buffers::Buffers;
use crate::io::op::{Completion, DirName, FileName, Op, OpenHow, Sync, Token};
use crate::log::steps::Step;

impl Unit {
    /// What makes `mark` durable on half `half`.
    pub(super) fn mark_steps(&mut self, half: usize, mark: &Mark) -> Vec<Step> {
        let file = self.name.mark();
        let (at, bytes) = mark.place(self.block);
        let write = Step::Write { file, at, bytes, sync: Sync::Durable };
        if std::mem::replace(&mut self.mark_open[half], true) {
            return vec![write];
        }
        let how = OpenHow::Create { size: 2 * self.block as u64 };
        vec![Step::Open { file, how }, write, Step::Fsync(file), Step::SyncDir(file.dir())]
    }

    /// The next mark; it names the files that may be written to now.
    pub(super) fn next_mark(&mut self) -> Mark {
        self.mark.serial += 1;
        Mark { files: self.named(), ..self.mark.clone() }
    }
}

impl Mirror {
    /// Writes the mark of a unit that is open to every half that is whole.
    pub(super) fn begin_mark(&mut self, number: usize, buffers: &mut Buffers) {
        let unit = &mut self.units[number];
        unit.mark_due = false;
        self.writing = unit.next_mark();
        // What it does not name any more is not written to before another mark names it again.
        let named = &self.writing.files;
        unit.mark.files.retain(|file| named.contains(file));
        let halves = unit.halves;
        for half in (0..2).filter(|half| halves[*half] == Half::In) {
            let steps = unit.mark_steps(half, &self.writing);
            self.scripts[half].run(steps, buffers, &mut self.out);
        }
    }

    /// The scripts have ended.
    pub(super) fn mark_written(&mut self, number: usize) {
        let failed = [0, 1].map(|half| self.scripts[half].failed.take());
        for (half, failed) in failed.into_iter().enumerate() {
            let Some((step, errno)) = failed else { continue };
            let unit = &mut self.units[number];
            unit.mark_open[half] = false;
            match unit.halves[half] {
                Half::In if unit.halves[1 - half] == Half::In => self.fail_half(number, half, step.to_string(), errno),
                Half::In => return self.die(number, errno),
                Half::Out | Half::Copying => {}
            }
        }
        let unit = &mut self.units[number];
        // A half may have failed while it was written: then another one is due, and says more.
        if self.writing.generation != unit.mark.generation {
            return;
        }
        unit.mark.files.clone_from(&self.writing.files);
        unit.wanted.retain(|file| !self.writing.files.contains(file));
        unit.unsaid = false;
        let held = std::mem::take(&mut unit.held);
        self.answers.extend(held);
        self.release(number);
    }

    /// The last half cannot say that it is the last.
    fn die(&mut self, number: usize, errno: crate::io::op::Errno) {
        let unit = &mut self.units[number];
        unit.phase = Phase::Dead;
        self.news.push_back(News::Dead { unit: unit.name, errno });
        for held in std::mem::take(&mut unit.held) {
            let Completion::Done { token, .. } = held else { continue };
            self.answers.push(Completion::Done { token, result: Err(EIO) });
        }
        self.release(number);
    }

    /// Looks for files that nothing is written to any more: what was is made durable, and the mark forgets them.
    pub(super) fn retire_quiet(&mut self) {
        for number in 0..self.units.len() {
            let unit = &mut self.units[number];
            if unit.phase != Phase::Open {
                continue;
            }
            let Some((index, active)) = unit.quiet(self.now.mono) else { continue };
            let super::unit::Name::Log(log) = unit.name else { continue };
            let file = FileName::Segment { log, index };
            // Not again before this has been answered.
            if let Some(quiet) = unit.active.get_mut(&index) {
                quiet.last = self.now.mono;
            }
            let op = match active.flushed < active.written && unit.opened.contains(&file) && !unit.is_current(file) {
                true => Op::Fsync { file, token: Token(0) },
                false => Op::SyncDir { dir: DirName::Log(log), token: Token(0) },
            };
            self.send_retire(number, op, index);
        }
    }

    pub(super) fn retired(&mut self, number: usize, index: u32, op: &Op, good: bool) {
        let unit = &mut self.units[number];
        let Some(active) = unit.active.get(&index).copied().filter(|active| good && active.under_way == 0) else {
            return;
        };
        if let (Op::Fsync { .. }, super::unit::Name::Log(log)) = (op, unit.name) {
            return self.send_retire(number, Op::SyncDir { dir: DirName::Log(log), token: Token(0) }, index);
        }
        let file = op.file();
        debug_assert!(file.is_none(), "a directory is synced last");
        if active.flushed >= active.written || !unit.opened.iter().any(|open| is_segment(open, index)) {
            unit.active.remove(&index);
            unit.mark_due |= unit.are_both_in();
        }
    }

    /// All files are copied to the half that is rebuilt: their entries are made durable.
    pub(super) fn begin_finish(&mut self, number: usize, buffers: &mut Buffers) {
        let unit = &self.units[number];
        if let (Some(target), super::unit::Name::Log(log)) = (unit.target(), unit.name) {
            self.scripts[target].run([Step::SyncDir(DirName::Log(log))], buffers, &mut self.out);
        }
    }

    /// They are: from now on it counts, and both marks say so.
    pub(super) fn rebuilt(&mut self, number: usize) {
        let Some(target) = self.units[number].target() else { return };
        if let Some((step, errno)) = self.scripts[target].failed.take() {
            return self.fail_half(number, target, step.to_string(), errno);
        }
        if !self.units[number].to_copy.is_empty() {
            // A file has been made meanwhile for which there was no room.
            return;
        }
        let path = self.path(number, target);
        let bytes = self.copier.take_copied();
        let unit = &mut self.units[number];
        unit.halves[target] = Half::In;
        unit.mark.generation += 1;
        unit.mark.alone = false;
        unit.mark.files.clear();
        unit.mark_due = true;
        unit.copied.clear();
        unit.room_due = None;
        self.news.push_back(News::Rebuilt { unit: unit.name, path, bytes });
    }
}

fn is_segment(file: &FileName, index: u32) -> bool {
    matches!(file, FileName::Segment { index: other, .. } if *other == index)
}

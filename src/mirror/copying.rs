//! The copier at work: one file at a time, a window at a time. Writes of the core to the window wait; everything else goes on.

use super::copy::{Kind, Stage, Task};
use super::level::{self, Patch, compare};
use super::news::News;
use super::unit::{Current, Half, Name, Phase};
use super::{EIO, Job, Mirror};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{Completion, Errno, FileName, Op, OpenHow, Sync, Token};
use crate::log::segment::NO_ROOM;

/// Bytes of a rebuild that are copied at once: a commit that waits for them does not wait long.
const WINDOW: u32 = 256 << 10;
const ENOENT: Errno = Errno(2);
/// A rebuild whose half has no room tries again after this time.
const ROOM_AGAIN_MS: u64 = 60_000;
/// How long a repair waits for buffers, and until nobody opens or removes the file.
const PATIENCE_MS: u64 = 5_000;

impl Mirror {
    /// A reader has met something that one half does not give back.
    pub(super) fn wants_mending(&mut self, number: usize, file: FileName) {
        let unit = &self.units[number];
        if let (FileName::Segment { .. }, true, Phase::Open) = (file, unit.are_both_in(), unit.phase) {
            self.mend(number, file, 0, None);
        }
    }

    /// Makes both halves of a segment file equal again, and then repeats the scrub that asked for it.
    pub(super) fn mend(&mut self, number: usize, file: FileName, prefer: usize, scrub: Option<u32>) {
        self.copier.add(Task::level(number, file, self.segment, prefer, scrub));
    }

    /// Goes on with the file at hand, or begins the next.
    pub(super) fn copy_on(&mut self, buffers: &mut Buffers) {
        self.copier.woken();
        if self.copier.pending > 0 {
            return;
        }
        if self.copier.task.is_none() {
            self.copier.task = self.copier.next().or_else(|| self.next_copy());
        }
        let Some(mut task) = self.copier.task.take() else { return };
        let goes = self.copy_stage(&mut task, buffers);
        match goes {
            true => self.copier.task = Some(task),
            false => self.copy_ended(task, buffers),
        }
    }

    /// The next file of a rebuild, or its end.
    fn next_copy(&mut self) -> Option<Task> {
        for number in 0..self.units.len() {
            let unit = &mut self.units[number];
            if unit.phase != Phase::Open || unit.target().is_none() {
                continue;
            }
            let Some(from) = unit.survivor() else { continue };
            if let Some(due) = unit.room_due.filter(|due| *due > self.now.mono) {
                self.copier.wait_until(due);
                continue;
            }
            match unit.to_copy.pop_front() {
                Some((file, size)) => return Some(Task::copy(number, file, size, from)),
                None if self.job == Some(Job::Finish(number)) || self.jobs.contains(&Job::Finish(number)) => {}
                None => self.jobs.push_back(Job::Finish(number)),
            }
        }
        if self.jobs.is_empty() {
            return None;
        }
        // A job was just found to be due.
        self.copier.wait(self.now.mono);
        None
    }

    /// One stage after another, until an operation is on its way or something has to be waited for; `false`: the file is done.
    fn copy_stage(&mut self, task: &mut Task, buffers: &mut Buffers) -> bool {
        loop {
            if task.stopped && task.stage != Stage::Close {
                if task.stage == Stage::Open {
                    // It was stopped while they were being opened.
                    let opened = self.copier.results.map(|result| matches!(result, Some(Ok(_))));
                    task.open = [0, 1].map(|half| task.open[half] || opened[half]);
                }
                task.stage = Stage::Close;
                self.close(task);
            } else {
                match task.stage {
                    Stage::Begin => {
                        let since = *task.since.get_or_insert(self.now.mono);
                        if !self.begin_file(task, buffers) {
                            let is_level = matches!(task.kind, Kind::Level { .. });
                            if is_level && since.plus_ms(PATIENCE_MS) <= self.now.mono && self.is_open(task.unit) {
                                // Who waits for it goes on without.
                                return false;
                            }
                            self.copier.wait(self.now.mono);
                            return true;
                        }
                    }
                    Stage::Open => self.file_opened(task),
                    Stage::Read if task.len > 0 => self.window_read(task, buffers),
                    Stage::Read => {
                        if !self.begin_window(task) {
                            self.copier.wait(self.now.mono);
                            return true;
                        }
                    }
                    Stage::Write => self.patch_written(task),
                    Stage::Flush => self.flushed(task),
                    Stage::Close => return false,
                }
            }
            if self.copier.pending > 0 {
                return true;
            }
        }
    }

    fn is_open(&self, unit: usize) -> bool {
        self.units[unit].phase == Phase::Open
    }

    /// Buffers, and nobody opens or removes the file.
    fn begin_file(&mut self, task: &mut Task, buffers: &mut Buffers) -> bool {
        let unit = &mut self.units[task.unit];
        let is_busy = unit.busy.contains_key(&task.file) || unit.queue.iter().any(|op| op.file() == Some(task.file));
        if is_busy && unit.phase == Phase::Open || !self.copier.take_spans(task.kind, buffers) {
            return false;
        }
        unit.current = Some(Current { file: task.file, until: 0, window: None });
        task.was_open = unit.opened.contains(&task.file);
        task.stage = Stage::Open;
        for half in 0..2 {
            let how = match task.kind {
                Kind::Copy { from } if from != half => OpenHow::Create { size: task.size },
                _ => OpenHow::Existing,
            };
            match task.was_open && how == OpenHow::Existing {
                true => (self.copier.results[half], task.open[half]) = (Some(Ok(0)), true),
                false => {
                    let token = self.copier.token(half);
                    self.out.push(Op::Open { file: task.file, how, token });
                }
            }
        }
        true
    }

    fn file_opened(&mut self, task: &mut Task) {
        task.stage = Stage::Read;
        if self.copier.results == [Some(Err(ENOENT)); 2] {
            // It was removed while it waited for its turn.
            task.stopped = true;
            return;
        }
        for half in 0..2 {
            match self.copier.results[half] {
                Some(Ok(_)) => task.open[half] = true,
                Some(Err(errno)) if self.has_no_room(task, half, errno) => {
                    task.stopped = true;
                    self.copy_later(task.unit, task.file, task.size, errno);
                }
                Some(Err(errno)) => self.copy_failed(task, half, "opening", errno),
                None => {}
            }
        }
    }

    /// Whether the half that is rebuilt has no room for a file.
    fn has_no_room(&self, task: &Task, half: usize, errno: Errno) -> bool {
        self.units[task.unit].halves[half] == Half::Copying && NO_ROOM.contains(&errno)
    }

    /// There is no room for a file in the half that is rebuilt: it is copied when there is.
    pub(super) fn copy_later(&mut self, number: usize, file: FileName, size: u64, errno: Errno) {
        let unit = &mut self.units[number];
        unit.to_copy.push_back((file, size));
        let is_known = unit.room_due.replace(self.now.mono.plus_ms(ROOM_AGAIN_MS)).is_some();
        if let (Some(target), false) = (unit.target(), is_known) {
            let (unit, path) = (unit.name, self.path(number, target));
            self.news.push_back(News::RebuildWaits { unit, path, errno });
        }
    }

    /// Reads the next window, if nothing is being written there; from then on nothing is.
    fn begin_window(&mut self, task: &mut Task) -> bool {
        if task.at >= task.size {
            return self.begin_flush(task);
        }
        let is_copy = matches!(task.kind, Kind::Copy { .. });
        if is_copy && !self.copier.is_due(self.now.mono) {
            return false;
        }
        let spans = self.copier.spans.expect("taken when the file was begun");
        let most = if is_copy { WINDOW.min(spans[0].len) } else { spans[0].len };
        let unit = &mut self.units[task.unit];
        // What a crash has left of a file in the making may end anywhere.
        let len = ((task.size - task.at).min(most as u64) as u32).next_multiple_of(unit.block);
        let end = task.at + len as u64;
        let FileName::Segment { index, .. } = task.file else { unreachable!("segments only") };
        if let Some(current) = &mut unit.current {
            current.window = Some((task.at, end));
        }
        // New writes wait from now on; those on their way are waited for.
        if unit.is_written(index, task.at, end) {
            return false;
        }
        task.len = len;
        let halves = task.halves();
        for half in (0..2).filter(|half| halves[*half]) {
            let token = self.copier.token(half);
            self.out.push(Op::ReadAt { file: task.file, at: task.at, into: spans[half].first(len), token });
        }
        true
    }

    fn window_read(&mut self, task: &mut Task, buffers: &mut Buffers) {
        let spans = self.copier.spans.expect("taken when the file was begun");
        let halves = task.halves();
        let mut unread = [None; 2];
        for half in (0..2).filter(|half| halves[*half]) {
            let got = match self.copier.results[half] {
                Some(Ok(bytes)) => bytes,
                Some(Err(errno)) => {
                    unread[half] = Some(errno);
                    0
                }
                None => 0,
            };
            buffers.bytes_mut(spans[half].part(got, task.len - got)).fill(0);
        }
        match task.kind {
            Kind::Copy { from } => {
                if let Some(errno) = unread[from] {
                    self.news.push_back(News::Unread { file: task.file, at: task.at, bytes: task.len, errno });
                }
                task.patches.push_back(Patch { from, at: task.at, len: task.len });
            }
            Kind::Level { prefer } => {
                let settled = self.find_patches(task, unread, prefer, spans, buffers);
                task.len = settled;
            }
        }
        task.stage = Stage::Write;
        self.next_patch(task);
    }

    /// What differs in the window; gives how many bytes are settled.
    fn find_patches(
        &self,
        task: &mut Task,
        unread: [Option<Errno>; 2],
        prefer: usize,
        spans: [Span; 2],
        buffers: &Buffers,
    ) -> u32 {
        let len = task.len;
        match unread {
            [Some(_), Some(_)] => return len,
            [Some(_), None] | [None, Some(_)] => {
                let from = usize::from(unread[0].is_some());
                task.patches.push_back(Patch { from, at: task.at, len });
                return len;
            }
            [None, None] => {}
        }
        let unit = &self.units[task.unit];
        let Name::Log(log) = unit.name else { unreachable!("segments are of logs") };
        let segment = level::Segment { directory: unit.mark.id, log, block: unit.block, size: self.segment };
        let bytes = spans.map(|span| buffers.bytes(span.first(len)));
        let (patches, settled) = compare(&segment, task.at, bytes, prefer);
        let settled = if settled == 0 { len } else { settled };
        task.patches.extend(patches);
        let (reached, last) = (task.at + settled as u64, task.patches.back().map(|patch| patch.at + patch.len as u64));
        if let Some(short) = task.short.filter(|_| reached >= task.size && last != Some(reached)) {
            // Both end with zeros: the shorter file is made as long.
            let from = 1 - short;
            task.patches.push_back(Patch { from, at: reached - unit.block as u64, len: unit.block });
        }
        settled
    }

    fn next_patch(&mut self, task: &mut Task) {
        let Some(patch) = task.patches.front().copied() else { return self.window_done(task) };
        let to = 1 - patch.from;
        let spans = self.copier.spans.expect("taken when the file was begun");
        let from = spans[patch.from].part((patch.at - task.at) as u32, patch.len);
        let token = self.copier.token(to);
        self.out.push(Op::WriteAt { file: task.file, at: patch.at, from, sync: Sync::Later, token });
    }

    fn patch_written(&mut self, task: &mut Task) {
        let Some(patch) = task.patches.pop_front() else { return self.window_done(task) };
        let to = 1 - patch.from;
        match self.copier.results[to] {
            Some(Ok(bytes)) if bytes == patch.len => {
                task.written[to] += patch.len as u64;
                self.next_patch(task);
            }
            Some(Err(errno)) => self.copy_failed(task, to, "writing", errno),
            _ => self.copy_failed(task, to, "writing", EIO),
        }
    }

    fn window_done(&mut self, task: &mut Task) {
        task.at += task.len as u64;
        if matches!(task.kind, Kind::Copy { .. }) {
            self.copier.pace(self.now.mono, task.len);
        }
        task.len = 0;
        task.stage = Stage::Read;
        if let Some(current) = &mut self.units[task.unit].current {
            (current.until, current.window) = (task.at, None);
        }
        if self.units[task.unit].phase == Phase::Open {
            self.release(task.unit);
        }
    }

    /// Flushes what was copied, and what the core has written to it meanwhile: a flush of the core's goes to the whole half only until then.
    /// So nothing may be on its way to the file; `false`: something is.
    fn begin_flush(&mut self, task: &mut Task) -> bool {
        let unit = &mut self.units[task.unit];
        let FileName::Segment { index, .. } = task.file else { unreachable!("segments only") };
        if let Some(current) = &mut unit.current {
            current.window = Some((0, u64::MAX));
        }
        if unit.is_written(index, 0, u64::MAX) {
            return false;
        }
        task.stage = Stage::Flush;
        let halves = task.halves();
        for half in (0..2).filter(|half| halves[*half]) {
            let token = self.copier.token(half);
            self.out.push(Op::Fsync { file: task.file, token });
        }
        true
    }

    fn flushed(&mut self, task: &mut Task) {
        let halves = task.halves();
        for half in (0..2).filter(|half| halves[*half]) {
            if let Some(Err(errno)) = self.copier.results[half] {
                return self.copy_failed(task, half, "flushing", errno);
            }
        }
        task.stage = Stage::Close;
        let unit = &mut self.units[task.unit];
        if let (Kind::Copy { .. }, Some(_)) = (task.kind, unit.target()) {
            unit.copied.insert(task.file);
        }
        self.close(task);
    }

    fn close(&mut self, task: &mut Task) {
        // What the core has open stays so, on a half that counts.
        let target = match task.kind {
            Kind::Copy { from } => Some(1 - from),
            Kind::Level { .. } => None,
        };
        for half in 0..2 {
            let keeps = task.was_open && !(task.stopped && Some(half) == target);
            if std::mem::take(&mut task.open[half]) && !keeps {
                let token = self.copier.token(half);
                self.out.push(Op::CloseFile { file: task.file, token });
            }
        }
    }

    /// Half `half` fails the copier.
    fn copy_failed(&mut self, task: &mut Task, half: usize, doing: &str, errno: Errno) {
        task.stopped = true;
        task.stage = Stage::Read;
        let what = format!("{doing} {}", task.file);
        let can_lose = self.units[task.unit].halves[1 - half] == Half::In;
        if can_lose {
            return self.fail_half(task.unit, half, what, errno);
        }
        // The source cannot be opened: nothing can be rebuilt from it.
        self.fail_half(task.unit, 1 - half, what, errno);
    }

    /// A unit has lost a half: what is being done with both is given up.
    pub(super) fn copier_stop(&mut self, number: usize) {
        if let Some(task) = self.copier.task.as_mut().filter(|task| task.unit == number) {
            task.stopped = true;
        }
        for task in self.copier.give_up(number) {
            self.repaired.push_back(task.file);
            if let Some(scrub) = task.scrub {
                self.scrub_again(scrub);
            }
        }
    }

    fn copy_ended(&mut self, task: Task, buffers: &mut Buffers) {
        self.copier.give_spans(buffers);
        let unit = &mut self.units[task.unit];
        unit.current = None;
        // After a crash halves differ by nature; what is no part of a rebuild and was there on one half only is a loss at any time.
        let is_repair = match task.kind {
            Kind::Level { .. } => unit.phase == Phase::Open,
            Kind::Copy { .. } => unit.are_both_in(),
        };
        if is_repair {
            for (half, bytes) in task.written.into_iter().enumerate().filter(|(_, bytes)| *bytes > 0) {
                let path = self.path(task.unit, half);
                self.news.push_back(News::Repaired { file: task.file, path, bytes });
            }
        }
        if matches!(task.kind, Kind::Level { .. }) {
            self.repaired.push_back(task.file);
        }
        if let Some(scrub) = task.scrub {
            self.scrub_again(scrub);
        }
        if self.units[task.unit].phase == Phase::Open {
            self.release(task.unit);
        }
        // The next file, or the next stage of an opening, does not wait for a completion.
        self.copier.wait(self.now.mono);
    }

    /// A scrub is repeated after a repair; where a half has been lost meanwhile, on the other.
    fn scrub_again(&mut self, slot: u32) {
        let unit = self.joints.get(slot).unit.expect("scrubs are of units");
        let halves = self.units[unit].halves.map(|half| half == Half::In);
        let joint = self.joints.get_mut(slot);
        joint.again();
        joint.sent = halves;
        self.emit(slot);
    }

    pub(super) fn copy_done(&mut self, token: Token, completion: Completion) {
        let Completion::Done { result, .. } = completion else { unreachable!("the copier does nothing else") };
        self.copier.pending -= 1;
        self.copier.results[token.half()] = Some(result);
    }
}

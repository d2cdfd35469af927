//! Commits to the device, and what follows when they have arrived there.
//!
//! A commit is sealed when it is submitted: its header then says how far the log was durable at that moment. Commits become durable as a
//! prefix: one that lands before an older one releases nothing. A write makes itself durable (`Sync::Durable`), or a flush does for the
//! writes whose completions were seen before it was submitted.

use super::footer::{footer_room, footer_size, runs_size, write_footer};
use super::format::{CommitHeader, CommitKind, Position};
use super::{FooterState, Log, Phase, Purpose, SHORT_WRITE, token};
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::Now;
use crate::io::op::{Errno, Op, Ops, Sync};
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;

/// After this many ms without a commit, a log writes that it is durable to its end.
const VOUCH_AFTER_MS: u64 = 50;
/// The same behind a commit of moved frames.
const VOUCH_AFTER_MOVED_MS: u64 = 1_000;
/// So many times as many commits in place may be on their way as others.
const IN_PLACE: usize = 2;

impl Log {
    /// Submits the oldest commits that wait, as many as may be in flight; the filling one is finished by that.
    pub(super) fn submit(&mut self, now: Now, buffers: &mut Buffers, ops: &mut Ops) {
        while self.commits.submitted() < self.commits.end() {
            let number = self.commits.submitted();
            let commit = *self.commits.get(number);
            // One holds the frames of one connection only, not of all.
            let most = self.settings.in_flight * if commit.elsewhere.is_some() { IN_PLACE } else { 1 };
            if self.writing >= most || commit.open > 0 || !self.files.is_usable(commit.file) {
                break;
            }
            if commit.filling {
                self.finish_commit();
            }
            let bytes = self.commits.extent(&commit);
            let header = CommitHeader {
                kind: commit.kind,
                bytes,
                position: commit.position,
                durable: self.durable,
                epoch: self.epoch,
                incarnation: commit.incarnation,
                log: self.settings.number,
                frames: commit.frames,
                previous: self.last_crc,
                directory: self.settings.directory,
            };
            let from = self.memory_of(&commit);
            let memory = buffers.bytes_mut(from);
            memory[commit.used as usize..].fill(0);
            let crc = header.seal(memory);
            let index =
                self.segment_index(commit.incarnation).expect("a segment with an unwritten commit is in the chain");
            let segment = &mut self.segments[index];
            if commit.file_at == 0 {
                segment.first_previous = self.last_crc;
            }
            (segment.last_crc, segment.epoch) = (crc, self.epoch);
            self.last_crc = crc;
            if !self.files.is_prepared(commit.file) {
                self.counters.add(Counter::UnpreparedWrites, 1);
            }
            let sync = if self.settings.flush { Sync::Later } else { Sync::Durable };
            let token = token(self.settings.tokens, Purpose::Commit, number);
            ops.push(Op::WriteAt { file: self.files.name(commit.file), at: commit.file_at as u64, from, sync, token });
            self.commits.get_mut(number).vouches = self.durable;
            self.time(Latency::Queued, now, number);
            self.commits.submit();
            self.writing += 1;
            if self.settings.canary.ack_before_durable {
                self.durable = header.end();
            }
        }
    }

    /// A commit has come a stage further. Only those that acks wait for are counted.
    fn time(&mut self, stage: Latency, now: Now, number: u64) {
        let commit = self.commits.get_mut(number);
        if commit.kind == CommitKind::Data {
            self.counters.latencies.record(stage, now.mono.0.saturating_sub(commit.since.0));
            commit.since = now.mono;
        }
    }

    /// Makes the oldest written commits of one file durable, if no flush is on its way.
    pub(super) fn flush(&mut self, ops: &mut Ops) {
        let first = self.commits.durable();
        if !self.settings.flush || self.flushing.is_some() || first == self.commits.submitted() {
            return;
        }
        let file = self.commits.get(first).file;
        let covers = |number: &u64| {
            let commit = self.commits.get(*number);
            commit.written && commit.file == file
        };
        let end = (first..self.commits.submitted()).take_while(covers).last().map_or(first, |number| number + 1);
        if end > first {
            self.flushing = Some(end);
            let token = token(self.settings.tokens, Purpose::Flush, end);
            ops.push(Op::Fsync { file: self.files.name(file), token });
        }
    }

    pub(super) fn on_commit(&mut self, now: Now, number: u64, result: Result<u32, Errno>) {
        self.writing -= 1;
        let commit = *self.commits.get(number);
        match result {
            Ok(bytes) if bytes == self.commits.extent(&commit) => {
                self.commits.get_mut(number).written = true;
                self.time(Latency::Written, now, number);
            }
            Ok(_) => self.fail("a commit was written short", SHORT_WRITE),
            Err(errno) => self.fail("writing a commit", errno),
        }
        // What arrives beside a failed write is not told apart from it: nothing becomes durable any more.
        if self.failed.is_some() || self.settings.flush {
            return;
        }
        let first = self.commits.durable();
        let written = |number: &u64| self.commits.get(*number).written;
        if let Some(last) = (first..self.commits.submitted()).take_while(written).last() {
            self.settle(now, last + 1);
        }
    }

    pub(super) fn on_flush(&mut self, now: Now, result: Result<u32, Errno>) {
        let Some(end) = self.flushing.take() else { return };
        match result {
            // A failed flush is never believed later: what it should have covered may be gone from the cache that it reported on.
            Err(errno) => self.fail("flushing commits", errno),
            Ok(_) if self.failed.is_none() => self.settle(now, end),
            Ok(_) => {}
        }
    }

    /// The commits below `end` are durable.
    fn settle(&mut self, now: Now, end: u64) {
        let mut newest = CommitKind::Data;
        for number in self.commits.durable()..end {
            self.time(Latency::Durable, now, number);
            let commit = self.commits.get(number);
            let bytes = self.commits.extent(commit) as u64;
            let behind = Position(commit.position.0 + bytes);
            assert!(behind > self.durable || self.settings.canary.ack_before_durable, "durable only rises");
            self.durable = self.durable.max(behind);
            self.vouched = commit.vouches;
            newest = commit.kind;
            match newest {
                CommitKind::Vouch => self.counters.add(Counter::Vouches, 1),
                CommitKind::Moved => {
                    self.policy.moved(bytes, self.settings.segment_size);
                    self.counters.add(Counter::MovedBytes, bytes);
                }
                _ => {
                    self.counters.add(Counter::Commits, 1);
                    self.policy.wrote(bytes, self.settings.segment_size);
                    self.counters.add(Counter::CommitBytes, bytes);
                }
            }
        }
        self.commits.set_durable(end);
        if self.commits.is_settled() && matches!(self.phase, Phase::Running) {
            self.vouch_due = match newest {
                CommitKind::Vouch => None,
                // The next one will say so, unless there is none.
                CommitKind::Moved => Some(now.mono.plus_ms(VOUCH_AFTER_MOVED_MS)),
                _ => Some(now.mono.plus_ms(VOUCH_AFTER_MS)),
            };
        }
    }

    /// The commits without frames that are due: a vouch for what is durable, a `stopped` one at the end.
    pub(super) fn append_bare_commits(&mut self, now: Now, buffers: &mut Buffers) {
        if !self.commits.is_settled() {
            return;
        }
        match self.phase {
            Phase::Running if self.vouch_due.is_some_and(|due| due <= now.mono) => {
                self.vouch_due = None;
                self.append_bare(CommitKind::Vouch, buffers);
            }
            Phase::Closing => {
                self.phase = Phase::Stopping;
                if !self.segments.is_empty() {
                    self.append_bare(CommitKind::Stopped, buffers);
                }
            }
            _ => {}
        }
    }

    /// Appends a commit without frames. Without room for it the log does without: a start then reads more, and loses nothing.
    fn append_bare(&mut self, kind: CommitKind, buffers: &mut Buffers) {
        let block = self.settings.block;
        if (!self.active || self.at + block > self.data_end()) && self.next_segment(0, buffers).is_err() {
            return;
        }
        self.finish_commit();
        if self.commits.place(block) {
            self.begin_commit(kind);
            self.finish_commit();
        }
    }

    /// Writes the footers of sealed segments that are durable to their end, while memory for them is free.
    pub(super) fn write_footers(&mut self, buffers: &mut Buffers, ops: &mut Ops) {
        for index in 0..self.segments.len() {
            match self.segments[index].footer {
                FooterState::Due => {
                    let segment = &self.segments[index];
                    let end = self.position(segment.incarnation, segment.end);
                    if !segment.leaving && end <= self.durable && !self.begin_footer(index, buffers, ops) {
                        return;
                    }
                }
                FooterState::RestDue { from, runs_from, runs } => {
                    self.write_footer_part(index, runs_from + runs, from.part(runs, from.len - runs), Sync::Later, ops);
                    self.segments[index].footer = FooterState::Writing { from, runs_from, runs };
                }
                _ => {}
            }
        }
    }

    /// Begins the footer of a segment; `false`: there is no memory for it.
    fn begin_footer(&mut self, index: usize, buffers: &mut Buffers, ops: &mut Ops) -> bool {
        let (size, block) = (self.settings.segment_size, self.settings.block);
        let segment = &self.segments[index];
        let sealed = segment.sealed.as_ref().expect("kept until its footer is written");
        let bytes = footer_size(sealed, block);
        if !sealed.fits || bytes > footer_room(size, block) || self.files.is_shared(segment.file) {
            // Its runs stay in memory.
            self.segments[index].footer = FooterState::Settled;
            return true;
        }
        let Some(slot) = buffers.take_for(bytes as usize) else { return false };
        let from = slot.first(bytes as u32);
        let runs = if bytes > block as u64 { runs_size(sealed, block) as u32 } else { 0 };
        let summary = self.summary(segment);
        let place = (self.settings.directory, size, block);
        let runs_from = write_footer(buffers.bytes_mut(from), summary, sealed, place).runs_from;
        self.segments[index].footer = match runs {
            0 => {
                // Not a promise to anyone: a footer that a crash tears is rebuilt from the frames.
                self.write_footer_part(index, runs_from, from, Sync::Later, ops);
                FooterState::Writing { from, runs_from, runs }
            }
            _ => {
                self.write_footer_part(index, runs_from, from.first(runs), Sync::Durable, ops);
                FooterState::WritingRuns { from, runs_from, runs }
            }
        };
        true
    }

    fn write_footer_part(&self, index: usize, at: u32, from: Span, sync: Sync, ops: &mut Ops) {
        let segment = &self.segments[index];
        let token = token(self.settings.tokens, Purpose::Footer, segment.incarnation as u64);
        ops.push(Op::WriteAt { file: self.files.name(segment.file), at: at as u64, from, sync, token });
    }

    pub(super) fn on_footer(&mut self, incarnation: u32, result: Result<u32, Errno>, buffers: &mut Buffers) {
        let Some(index) = self.segment_index(incarnation) else { return };
        let (from, expected, next) = match self.segments[index].footer {
            FooterState::WritingRuns { from, runs_from, runs } => {
                (from, runs, FooterState::RestDue { from, runs_from, runs })
            }
            FooterState::Writing { from, runs, .. } => (from, from.len - runs, FooterState::Settled),
            _ => return,
        };
        if result == Ok(expected) {
            if let FooterState::Writing { runs_from, .. } = self.segments[index].footer {
                buffers.give(from);
                self.segments[index].runs_from = runs_from;
                self.segments[index].sealed = None;
            }
            self.segments[index].footer = next;
            return;
        }
        buffers.give(from);
        self.segments[index].footer = FooterState::Settled;
        match result {
            Ok(_) => self.fail("a footer was written short", SHORT_WRITE),
            Err(errno) => self.fail("writing a footer", errno),
        }
    }
}

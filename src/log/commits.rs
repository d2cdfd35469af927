//! The log's memory: a ring of commits, contiguous each, in the order of their positions.
//!
//! ```text
//!            ┌ cache of the tail ┐┌ on the way to the device ┐┌ filling ┐
//! commits    │ 41 │ 42 │ 43 │ 44 ││ 45 │ 46 │     47        ││   48 …  │
//!                               durable      submitted                 head
//! ```
//!
//! A durable commit stays readable until its memory is wanted for a new one. A commit never wraps: when the rest of the memory is too
//! short the next one begins at its start.

use super::format::{CommitKind, HEADER, Position, round_up};
use crate::io::buffers::Span;
use crate::io::clock::Mono;
use std::collections::VecDeque;

/// A commit in memory.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub position: Position,
    pub kind: CommitKind,
    /// First byte in the log's memory.
    pub at: u32,
    /// Bytes laid out so far, header counted.
    pub used: u32,
    pub frames: u32,
    /// Frames that are neither closed nor cancelled.
    pub open: u32,
    /// Index of the file, and the byte of it where the commit begins.
    pub file: u32,
    pub file_at: u32,
    pub incarnation: u32,
    /// Whether frames may still be added.
    pub filling: bool,
    /// Whether the device has written it.
    pub written: bool,
    /// Where it lies, if not in the ring: it is written from there, and read there until that is let go.
    pub elsewhere: Option<Span>,
    /// What its header calls durable, from when it was submitted.
    pub vouches: Position,
    /// Since when it has been filling, on its way, or waiting for those before it; 0 in its first turn.
    pub since: Mono,
}

/// The ring.
pub struct Commits {
    queue: VecDeque<Commit>,
    memory: u32,
    block: u32,
    /// Byte of the memory behind the newest commit.
    head: u32,
    /// Number of the oldest commit held; they are numbered from 0 as they are begun.
    first: u64,
    /// Number of the oldest commit that is not durable; of the oldest not submitted.
    durable: u64,
    submitted: u64,
    /// Of commits that lie elsewhere, those that begin below have been let go.
    let_go: Position,
}

impl Commits {
    pub fn new(memory: u32, block: u32) -> Commits {
        let queue = VecDeque::with_capacity((memory / block) as usize);
        Commits { queue, memory, block, head: 0, first: 0, durable: 0, submitted: 0, let_go: Position(0) }
    }

    fn blocks(&self, bytes: u32) -> u32 {
        round_up(bytes as u64, self.block as u64) as u32
    }

    /// Bytes of a commit, in whole blocks.
    pub fn extent(&self, commit: &Commit) -> u32 {
        self.blocks(commit.used)
    }

    /// Number of the commit that would be begun next.
    pub fn end(&self) -> u64 {
        self.first + self.queue.len() as u64
    }
    pub fn durable(&self) -> u64 {
        self.durable
    }
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Whether all that was appended is durable.
    pub fn is_settled(&self) -> bool {
        self.durable == self.end()
    }

    pub fn get(&self, number: u64) -> &Commit {
        &self.queue[(number - self.first) as usize]
    }
    pub fn get_mut(&mut self, number: u64) -> &mut Commit {
        &mut self.queue[(number - self.first) as usize]
    }

    /// Notes when the commits of this turn were begun.
    pub fn stamp(&mut self, now: Mono) {
        self.queue.iter_mut().rev().take_while(|commit| commit.since == Mono(0)).for_each(|commit| commit.since = now);
    }

    /// The newest commit, if frames may still be added to it.
    pub fn filling(&self) -> Option<&Commit> {
        self.queue.back().filter(|commit| commit.filling)
    }

    /// The newest commit.
    pub fn newest(&self) -> Option<&Commit> {
        self.queue.back()
    }
    pub fn newest_mut(&mut self) -> Option<&mut Commit> {
        self.queue.back_mut()
    }

    /// Number of a commit that is not durable and holds `position`: one of the newest, so it is looked for from there.
    pub fn pending_at(&self, position: Position) -> u64 {
        let newer = self.queue.iter().rev().take_while(|commit| commit.position > position).count();
        self.end() - 1 - newer as u64
    }

    /// The commit that holds `position`, if its bytes are still in memory. Of one of moved frames they are not, once it is written.
    pub fn holding(&self, position: Position) -> Option<&Commit> {
        let kept = |commit: &Commit| commit.kind == CommitKind::Data && commit.position >= self.let_go;
        self.at(position).filter(|commit| commit.elsewhere.is_none() || kept(commit))
    }

    /// What lies elsewhere and begins below `until` is read from the device from now on.
    pub fn let_go(&mut self, until: Position) {
        self.let_go = self.let_go.max(until);
    }

    /// The commit that holds `position`, if it is remembered.
    pub fn at(&self, position: Position) -> Option<&Commit> {
        let behind = self.queue.partition_point(|commit| commit.position <= position);
        let commit = self.queue.get(behind.checked_sub(1)?)?;
        (position.0 < commit.position.0 + self.extent(commit) as u64).then_some(commit)
    }

    /// Drops the oldest commits while they satisfy `wanted`; `false` when one of them is not durable.
    fn evict_while(&mut self, wanted: impl Fn(&Commit, u32) -> bool) -> bool {
        loop {
            // What lies elsewhere is in nobody's way: it goes as soon as it is the oldest.
            while self.first < self.durable && self.queue.front().is_some_and(|commit| commit.elsewhere.is_some()) {
                self.queue.pop_front();
                self.first += 1;
            }
            let in_ring = |commit: &&Commit| commit.elsewhere.is_none();
            let Some(oldest) = self.queue.iter().find(in_ring) else { break };
            if !wanted(oldest, self.blocks(oldest.used)) {
                break;
            }
            if self.first >= self.durable {
                return false;
            }
            self.queue.pop_front();
            self.first += 1;
        }
        true
    }

    fn clear(&mut self, from: u32, to: u32) -> bool {
        self.evict_while(|commit, extent| commit.at < to && from < commit.at + extent)
    }

    /// Finds memory for a new commit of at least `bytes`; `false` when it waits for the device.
    pub fn place(&mut self, bytes: u32) -> bool {
        let need = self.blocks(bytes);
        let head = self.head;
        if need > self.memory - head {
            // What lies between here and the end is older than what lies at the start: it goes first.
            if !self.evict_while(|commit, _| commit.at >= head) {
                return false;
            }
            self.head = 0;
        }
        self.clear(self.head, self.head + need)
    }

    /// Begins a commit where [`Commits::place`] found memory.
    pub fn begin(&mut self, kind: CommitKind, position: Position, file: u32, file_at: u32, incarnation: u32) {
        let at = self.head;
        self.queue.push_back(Commit {
            position,
            kind,
            at,
            used: HEADER as u32,
            frames: 0,
            open: 0,
            file,
            file_at,
            incarnation,
            filling: true,
            written: false,
            elsewhere: None,
            vouches: Position(0),
            since: Mono(0),
        });
        self.head = at + self.block;
    }

    /// Whether one more commit may be begun that lies elsewhere: it takes no memory of the ring, which alone bounds how many are remembered.
    pub fn has_place_elsewhere(&mut self) -> bool {
        while self.queue.len() >= (self.memory / self.block) as usize && self.first < self.durable {
            self.queue.pop_front();
            self.first += 1;
        }
        self.queue.len() < (self.memory / self.block) as usize
    }

    /// Begins a commit that lies at `span`, all its frames there already. `(used, frames)`: bytes, header counted. `(file, file_at)`: where it goes.
    pub fn begin_elsewhere(
        &mut self,
        kind: CommitKind,
        position: Position,
        span: Span,
        (used, frames): (u32, u32),
        (file, file_at): (u32, u32),
        incarnation: u32,
    ) {
        self.has_place_elsewhere();
        self.queue.push_back(Commit {
            position,
            kind,
            at: self.head,
            used,
            frames,
            open: 0,
            file,
            file_at,
            incarnation,
            filling: false,
            written: false,
            elsewhere: Some(span),
            vouches: Position(0),
            since: Mono(0),
        });
    }

    /// Lets the newest commit, which lies elsewhere, take a frame in that lies right behind it.
    pub fn extend_elsewhere(&mut self, stride: u32) {
        let commit = self.queue.back_mut().expect("it was just looked at");
        let span = commit.elsewhere.as_mut().expect("it lies elsewhere");
        span.len += stride;
        commit.used += stride;
        commit.frames += 1;
    }

    /// Whether the newest commit could be `stride` bytes longer without leaving the memory, `bytes_max`.
    pub fn could_grow(&self, stride: u32, bytes_max: u32) -> bool {
        self.filling().filter(|commit| commit.elsewhere.is_none()).is_some_and(|commit| {
            let bytes = self.blocks(commit.used + stride);
            bytes <= bytes_max && commit.at as u64 + bytes as u64 <= self.memory as u64
        })
    }

    /// Adds an open frame of `stride` bytes to the newest commit and returns where it begins in memory; `None` when the memory waits for
    /// the device.
    pub fn grow(&mut self, stride: u32) -> Option<u32> {
        let commit = *self.filling()?;
        let head = commit.at + self.blocks(commit.used + stride);
        if !self.clear(self.head, head) {
            return None;
        }
        self.head = head;
        let commit = self.queue.back_mut()?;
        let at = commit.at + commit.used;
        commit.used += stride;
        commit.frames += 1;
        commit.open += 1;
        Some(at)
    }

    /// Takes the newest frame, of `stride` bytes, back out of the newest commit; the commit goes with its last frame.
    pub fn shrink(&mut self, stride: u32) {
        let block = self.block;
        let Some(commit) = self.queue.back_mut() else { return };
        commit.used -= stride;
        commit.frames -= 1;
        commit.open -= 1;
        self.head = commit.at + round_up(commit.used as u64, block as u64) as u32;
        if commit.frames == 0 {
            self.head = commit.at;
            self.queue.pop_back();
        }
    }

    /// The oldest commit that was not submitted is on its way.
    pub fn submit(&mut self) {
        self.submitted += 1;
    }

    /// All commits below `number` are durable.
    pub fn set_durable(&mut self, number: u64) {
        self.durable = number;
    }
}

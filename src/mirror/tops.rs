//! The small files of a unit that is no log: made equal, or copied, one after another.
//!
//! Each half alone is what a crash may leave of one server; of the files that both have, the content that can be used counts. Nothing is
//! removed before it is written elsewhere: a torn copy leaves the half that it was copied from.

use super::opening::Opening;
use super::script::Script;
use super::unit::Half;
use crate::catalog::entry;
use crate::io::buffers::Buffers;
use crate::io::op::{Errno, FileName, OpenHow, Ops, Sync};
use crate::log::steps::Step;
use crate::log::superblock::Superblock;
use std::collections::VecDeque;

const BLOCK: usize = 4096;
const EIO: Errno = Errno(5);

enum Stage {
    Next,
    Read(FileName),
    Written,
}

pub(super) struct Tops {
    files: VecDeque<FileName>,
    sizes: [Vec<(FileName, u64)>; 2],
    /// The half whose files count, if they are usable.
    lead: usize,
    /// The other half is made anew.
    copies: bool,
    stage: Stage,
    unread: [bool; 2],
    superblock: Option<Superblock>,
    /// Of the catalog's snapshot: what its journal goes on from.
    snapshot_crc: u32,
}

/// A half that failed, at what, and why.
pub(super) type Failed = (usize, String, Errno);

impl Tops {
    /// Both halves are whole: what is in one only is what the last operation left, and goes with the first half.
    pub fn level(opening: &Opening) -> Tops {
        Tops::new(opening, 0, false)
    }

    pub fn copy(opening: &Opening, from: usize) -> Tops {
        Tops::new(opening, from, true)
    }

    fn new(opening: &Opening, lead: usize, copies: bool) -> Tops {
        let mut files: Vec<FileName> = opening.seen[lead].files.iter().map(|(file, _)| *file).collect();
        if !copies {
            let other = opening.seen[1 - lead].files.iter().map(|(file, _)| *file);
            files.extend(other.filter(|file| opening.seen[lead].size(*file).is_none()));
        }
        let rank = |file: &FileName| match file {
            // Those that go make room for what is copied.
            FileName::Spare(_) | FileName::SpareDraft(_) => 0,
            FileName::Superblock(_) => 1,
            FileName::Snapshot { .. } => 2,
            _ => 3,
        };
        files.sort_by_key(rank);
        let mut sizes = [0, 1].map(|half| opening.seen[half].files.clone());
        if copies {
            sizes[1 - lead].clear();
        }
        let (stage, superblock) = (Stage::Next, None);
        Tops { files: files.into(), sizes, lead, copies, stage, unread: [false; 2], superblock, snapshot_crc: 0 }
    }

    fn size(&self, half: usize, file: FileName) -> Option<u64> {
        self.sizes[half].iter().find(|(other, _)| *other == file).map(|(_, size)| *size)
    }

    /// Both scripts are free. `false`: all is done.
    pub fn go_on(
        &mut self,
        scripts: &mut [Script; 2],
        halves: [Half; 2],
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) -> Result<bool, Failed> {
        for (half, script) in scripts.iter_mut().enumerate() {
            match script.failed.take() {
                None => {}
                // What one half does not give back is judged as damaged.
                Some((Step::Read { file, .. }, _)) if !self.copies && halves == [Half::In; 2] => {
                    self.unread[half] = true;
                    script.run([Step::Close(file)], buffers, ops);
                    return Ok(true);
                }
                Some((step, errno)) => return Err((half, step.to_string(), errno)),
            }
        }
        match self.stage {
            Stage::Next | Stage::Written => {
                let Some(file) = self.files.pop_front() else { return Ok(false) };
                if matches!(file, FileName::Spare(_) | FileName::SpareDraft(_)) && !self.copies {
                    self.stage = Stage::Written;
                    self.level_spare(file, scripts, buffers, ops);
                    return Ok(true);
                }
                self.stage = Stage::Read(file);
                if self.size(self.lead, file).is_none() {
                    // The last operation has made it, or has not removed it: here only.
                    let steps = [Step::Unlink(file), Step::SyncDir(file.dir())];
                    self.stage = Stage::Written;
                    scripts[1 - self.lead].run(steps, buffers, ops);
                    return Ok(true);
                }
                for (half, script) in scripts.iter_mut().enumerate() {
                    let Some(size) = self.size(half, file).filter(|size| *size > 0) else { continue };
                    let limit = size.next_multiple_of(BLOCK as u64);
                    let open = Step::Open { file, how: OpenHow::Existing };
                    script.run([open, Step::Read { file, limit }, Step::Close(file)], buffers, ops);
                }
            }
            Stage::Read(file) => {
                self.stage = Stage::Written;
                let bytes = [0, 1].map(|half| scripts[half].take_read());
                let unread = std::mem::take(&mut self.unread);
                // The only one that has it does not give it back: what the other one has is what a crash may leave.
                if let Some(half) = (0..2).find(|half| unread[*half] && self.size(1 - half, file).is_none()) {
                    return Err((half, format!("reading {file}"), EIO));
                }
                match unread {
                    // Whoever reads it will meet the same.
                    [true, true] => {}
                    // What is there is not known: the other half's is written over it.
                    [true, false] => self.write(file, [Vec::new(), bytes[1].clone()], Some(1), scripts, buffers, ops),
                    [false, true] => self.write(file, [bytes[0].clone(), Vec::new()], Some(0), scripts, buffers, ops),
                    [false, false] => self.write(file, bytes, None, scripts, buffers, ops),
                }
            }
        }
        Ok(true)
    }

    /// What a spare holds does not count, and it must not take room that may not be there: one that both halves have serves, any other goes,
    /// and the catalog makes another.
    fn level_spare(&self, file: FileName, scripts: &mut [Script; 2], buffers: &mut Buffers, ops: &mut Ops) {
        let sizes = [0, 1].map(|half| self.size(half, file));
        if sizes[0] != sizes[1] {
            for half in (0..2).filter(|half| sizes[*half].is_some()) {
                scripts[half].run([Step::Unlink(file), Step::SyncDir(file.dir())], buffers, ops);
            }
        }
    }

    fn write(
        &mut self,
        file: FileName,
        bytes: [Vec<u8>; 2],
        only: Option<usize>,
        scripts: &mut [Script; 2],
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        let chosen = if self.copies { self.lead } else { self.choose(file, &bytes) };
        let from = only.unwrap_or(chosen);
        self.learn(file, &bytes[from]);
        let to = 1 - from;
        let there = self.size(to, file);
        if there.is_some() && bytes[from] == bytes[to] {
            return;
        }
        let mut content = bytes[from].clone();
        content.resize(content.len().max(bytes[to].len()).next_multiple_of(BLOCK), 0);
        let how = match there {
            Some(_) => OpenHow::Existing,
            None => OpenHow::Create { size: content.len() as u64 },
        };
        let mut steps = vec![Step::Open { file, how }];
        if !content.is_empty() {
            steps.push(Step::Write { file, at: 0, bytes: content, sync: Sync::Later });
        }
        steps.extend([Step::Fsync(file), Step::Close(file), Step::SyncDir(file.dir())]);
        scripts[to].run(steps, buffers, ops);
    }

    /// The half whose content of a file counts: the one that can be used; of two, the one that goes further.
    fn choose(&self, file: FileName, bytes: &[Vec<u8>; 2]) -> usize {
        let worth = |bytes: &Vec<u8>| -> u64 {
            let place = |number| entry::Place {
                block: self.superblock.as_ref().map_or(BLOCK as u32, |superblock| superblock.block),
                directory: self.superblock.as_ref().map_or(0, |superblock| superblock.directory),
                file: number,
            };
            match file {
                FileName::Superblock(_) => Superblock::newest([bytes, &[]]).map_or(0, |found| 1 + found.generation),
                FileName::Snapshot { number } => entry::decode_snapshot(place(number), bytes).is_ok() as u64,
                FileName::Journal { number } => {
                    let read = entry::decode_journal(place(number), self.snapshot_crc, bytes);
                    read.map_or(0, |journal| 1 + journal.end)
                }
                FileName::Identity { .. } => !bytes.is_empty() as u64,
                _ => 0,
            }
        };
        let [first, second] = [worth(&bytes[0]), worth(&bytes[1])];
        match first.cmp(&second) {
            std::cmp::Ordering::Greater => 0,
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => self.lead,
        }
    }

    fn learn(&mut self, file: FileName, bytes: &[u8]) {
        match file {
            FileName::Superblock(_) => {
                let found = Superblock::newest([bytes, &[]]);
                let newer =
                    found.filter(|found| self.superblock.as_ref().is_none_or(|s| found.generation > s.generation));
                self.superblock = newer.or(self.superblock.take());
            }
            FileName::Snapshot { number } => {
                if let Some(superblock) = &self.superblock {
                    let place = entry::Place { block: superblock.block, directory: superblock.directory, file: number };
                    self.snapshot_crc = entry::decode_snapshot(place, bytes).map_or(0, |(_, crc)| crc);
                }
            }
            _ => {}
        }
    }
}

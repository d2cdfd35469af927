//! The segment files of a log: which are free, which hold what, and what has to happen to a file before it can be written.

use crate::io::op::{DirName, Errno, FileName, Op, OpenHow, Ops, Token};

/// How many segments are kept ready ahead of the active one.
const AHEAD: usize = 2;

/// `ENOSPC`, `EDQUOT`.
const NO_ROOM: [Errno; 2] = [Errno(28), Errno(122)];

/// How far a file is from being usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Absent,
    /// The companion writes it.
    Preparing,
    /// It is there and being opened.
    Opening,
    /// It is being made without preparation: to be opened, flushed, and its directory synced.
    Creating(Making),
    Open,
    /// It is being closed, then removed.
    Removing(Making),
    /// Not to be touched in this run.
    Kept,
}

/// The step of making or removing a file that is due, or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    Due,
    Entry,
    Flush,
    Directory,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    access: Access,
    /// Of the segment that it holds.
    incarnation: Option<u32>,
    /// Whether its blocks were written before: writes into them are faster.
    prepared: bool,
    /// Whether the companion has failed to prepare it.
    refused: bool,
}

const ABSENT: Slot = Slot { access: Access::Absent, incarnation: None, prepared: false, refused: false };

/// Why there is no next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Full,
    Busy,
}

/// All files of a log.
pub struct Files {
    log: u32,
    size: u64,
    /// Files that the log may have; more can be there after its share was made smaller.
    allowed: u32,
    slots: Vec<Slot>,
}

impl Files {
    pub fn new(log: u32, size: u64, allowed: u32) -> Files {
        Files { log, size, allowed, slots: vec![ABSENT; allowed as usize] }
    }

    pub fn name(&self, index: u32) -> FileName {
        FileName::Segment { log: self.log, index }
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        if index as usize >= self.slots.len() {
            self.slots.resize(index as usize + 1, ABSENT);
        }
        &mut self.slots[index as usize]
    }

    /// Recovery has opened the file. `incarnation`: of the segment that it holds; `None`: it is free.
    pub fn found(&mut self, index: u32, incarnation: Option<u32>) {
        *self.slot(index) = Slot { access: Access::Open, incarnation, prepared: true, refused: false };
    }

    /// Recovery has opened the file, and nothing of the chain is in it.
    pub fn found_free(&mut self, index: u32) {
        let allowed = self.allowed;
        if self.slot(index).access != Access::Kept {
            self.found(index, None);
            if index >= allowed {
                self.slot(index).access = Access::Removing(Making::Due);
            }
        }
    }

    /// Recovery cannot tell what the file holds: it is left alone.
    pub fn keep(&mut self, index: u32) {
        self.slot(index).access = Access::Kept;
    }

    fn is_free(slot: &Slot) -> bool {
        slot.incarnation.is_none() && !matches!(slot.access, Access::Removing(_) | Access::Kept)
    }

    fn allowed(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().take(self.allowed as usize).enumerate().map(|(index, slot)| (index as u32, slot))
    }

    /// Files that hold no segment and may be used for one. A log that was made smaller has none until what it holds fits.
    pub fn free(&self) -> u32 {
        let free = self.allowed().filter(|(_, slot)| Files::is_free(slot)).count() as u32;
        let used = self.slots.iter().filter(|slot| slot.incarnation.is_some()).count() as u32;
        free.min(self.allowed.saturating_sub(used))
    }

    /// There may be `allowed` files from now on.
    pub fn allow(&mut self, allowed: u32) {
        self.allowed = allowed;
        self.slots.resize(self.slots.len().max(allowed as usize), ABSENT);
        for slot in self.slots.iter_mut().skip(allowed as usize) {
            if slot.access == Access::Open && slot.incarnation.is_none() {
                slot.access = Access::Removing(Making::Due);
            }
        }
    }

    /// Takes a free file for `incarnation`: a ready one, else one that has to be made first. `reserve`: how many must stay free.
    pub fn take(&mut self, incarnation: u32, reserve: u32) -> Result<u32, Wait> {
        if self.free() <= reserve {
            return Err(Wait::Full);
        }
        let find =
            |access| self.allowed().find(|(_, slot)| Files::is_free(slot) && slot.access == access).map(|(i, _)| i);
        let index = find(Access::Open).or_else(|| find(Access::Absent)).ok_or(Wait::Busy)?;
        let slot = self.slot(index);
        if slot.access == Access::Absent {
            slot.access = Access::Creating(Making::Due);
            slot.prepared = false;
        }
        slot.incarnation = Some(incarnation);
        Ok(index)
    }

    /// Whether commits may be written into the file.
    pub fn is_usable(&self, index: u32) -> bool {
        self.slots[index as usize].access == Access::Open
    }

    /// Whether its blocks had been written before this use.
    pub fn is_prepared(&self, index: u32) -> bool {
        self.slots[index as usize].prepared
    }

    /// The segment in it is gone: the file is free, or goes too if the log has become smaller.
    pub fn release(&mut self, index: u32) {
        let allowed = self.allowed;
        let slot = self.slot(index);
        slot.incarnation = None;
        slot.prepared = true;
        if index >= allowed {
            slot.access = Access::Removing(Making::Due);
        }
    }

    /// Emits what the files need; `token` makes the token of a file's operation.
    pub fn advance(&mut self, token: impl Fn(u32) -> Token, ops: &mut Ops) {
        let (log, size) = (self.log, self.size);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let index = index as u32;
            let (file, token) = (FileName::Segment { log, index }, token(index));
            match slot.access {
                Access::Creating(Making::Due) => {
                    slot.access = Access::Creating(Making::Entry);
                    ops.push(Op::Open { file, how: OpenHow::Create { size }, token });
                }
                Access::Removing(Making::Due) => {
                    slot.access = Access::Removing(Making::Entry);
                    ops.push(Op::CloseFile { file, token });
                }
                _ => {}
            }
        }
        let coming = |slot: &Slot| {
            Files::is_free(slot) && matches!(slot.access, Access::Open | Access::Opening | Access::Preparing)
        };
        let mut ready = self.allowed().filter(|(_, slot)| coming(slot)).count();
        for index in 0..self.allowed {
            let slot = &mut self.slots[index as usize];
            if ready >= AHEAD {
                break;
            }
            if slot.access == Access::Absent && !slot.refused {
                slot.access = Access::Preparing;
                ops.push(Op::Prepare { log, index, size, token: token(index) });
                ready += 1;
            }
        }
    }

    /// An operation of a file has succeeded: the next one follows.
    pub fn on_done(&mut self, index: u32, token: Token, ops: &mut Ops) {
        let file = self.name(index);
        let dir = DirName::Log(self.log);
        let slot = self.slot(index);
        slot.access = match slot.access {
            Access::Preparing => {
                slot.prepared = true;
                ops.push(Op::Open { file, how: OpenHow::Existing, token });
                Access::Opening
            }
            Access::Opening => Access::Open,
            Access::Creating(Making::Entry) => {
                ops.push(Op::Fsync { file, token });
                Access::Creating(Making::Flush)
            }
            Access::Creating(Making::Flush) => {
                ops.push(Op::SyncDir { dir, token });
                Access::Creating(Making::Directory)
            }
            Access::Creating(_) => Access::Open,
            Access::Removing(Making::Entry) => {
                ops.push(Op::Unlink { file, token });
                Access::Removing(Making::Flush)
            }
            Access::Removing(_) => Access::Absent,
            other => other,
        };
    }

    /// An operation of a file has failed; `true` when the log cannot do without it.
    pub fn on_failed(&mut self, index: u32, errno: Errno) -> bool {
        let slot = self.slot(index);
        match slot.access {
            // The file system has less room than the log was promised: it does with the files that it has.
            Access::Preparing if NO_ROOM.contains(&errno) => {
                slot.access = Access::Kept;
                // Nor is there room for the others: making one of them without preparation would fail the log.
                for absent in self.slots.iter_mut().filter(|slot| slot.access == Access::Absent) {
                    absent.access = Access::Kept;
                }
                false
            }
            Access::Preparing => {
                slot.access = Access::Absent;
                slot.refused = true;
                false
            }
            Access::Removing(_) | Access::Opening => {
                slot.access = Access::Kept;
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_made_smaller_takes_no_file_until_what_it_holds_fits() {
        let mut files = Files::new(0, 1 << 20, 8);
        // What it holds lies at the end, and the free files at the beginning.
        (0..8).for_each(|index| files.found(index, (index >= 4).then_some(index)));
        files.allow(4);
        assert_eq!((files.free(), files.take(9, 0)), (0, Err(Wait::Full)));
        files.release(7);
        files.release(6);
        assert_eq!(files.free(), 2);
        let mut ops = Vec::new();
        files.advance(|index| Token(index as u64), &mut ops);
        let closed = |op: &Op| matches!(op, Op::CloseFile { file: FileName::Segment { index: 6 | 7, .. }, .. });
        assert_eq!(ops.iter().filter(|op| closed(op)).count(), 2, "what is beyond goes: {ops:?}");
    }
}

//! The segment files of a log: which are free, which hold what, and what has to happen to a file before it can be written.

use crate::io::clock::Mono;
use crate::io::op::{DirName, Errno, FileName, Op, OpenHow, Ops, Token};

/// How many segments are kept ready ahead of the active one.
pub const AHEAD: usize = 2;

/// `ENOSPC`, `EDQUOT`.
pub const NO_ROOM: [Errno; 2] = [Errno(28), Errno(122)];

/// How often a file is tried again for which the file system had no room.
const ROOM_AGAIN_MS: u64 = 10_000;

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
    /// The file system had no room for it: one is tried again now and then.
    NoRoom,
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
    /// It has more names than this one: a snapshot holds it. It is never written again, but replaced.
    shared: bool,
}

const ABSENT: Slot = Slot { access: Access::Absent, incarnation: None, prepared: false, refused: false, shared: false };

/// Whether the file system has room for another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Given,
    /// It had none; at this time it is tried again. `None`: at the next opportunity that knows the time, or a try is under way.
    Missing {
        again: Option<Mono>,
    },
}

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
    room: Room,
    /// Room has gone (`false`) or returned: told once.
    room_news: Option<bool>,
}

impl Files {
    pub fn new(log: u32, size: u64, allowed: u32) -> Files {
        Files { log, size, allowed, slots: vec![ABSENT; allowed as usize], room: Room::Given, room_news: None }
    }

    /// Whether the file system's room has gone or returned since the last call.
    pub fn room_news(&mut self) -> Option<bool> {
        self.room_news.take()
    }

    /// Whether the file system had no room for the last file.
    pub fn lacks_room(&self) -> bool {
        self.room != Room::Given
    }

    /// Opening the file told how many names it has.
    pub fn opened(&mut self, index: u32, links: u32) {
        self.slot(index).shared = links > 1;
    }

    /// The file is about to get another name, or has turned out to have none; gives what was true before.
    pub fn share(&mut self, index: u32, shared: bool) -> bool {
        std::mem::replace(&mut self.slot(index).shared, shared)
    }

    /// Whether a snapshot holds the file under another name.
    pub fn is_shared(&self, index: u32) -> bool {
        self.slots[index as usize].shared
    }

    /// Whether giving the file back would give no room to the log: a snapshot holds what is in it, and the file system is full.
    pub fn keeps_room(&self, index: u32) -> bool {
        self.lacks_room() && self.is_shared(index)
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
        let slot = self.slot(index);
        *slot = Slot { access: Access::Open, incarnation, prepared: true, refused: false, ..*slot };
    }

    /// Recovery has opened the file, and nothing of the chain is in it.
    pub fn found_free(&mut self, index: u32) {
        let allowed = self.allowed;
        if self.slot(index).access != Access::Kept {
            self.found(index, None);
            if index >= allowed || self.is_shared(index) {
                self.slot(index).access = Access::Removing(Making::Due);
            }
        }
    }

    /// Recovery cannot tell what the file holds: it is left alone.
    pub fn keep(&mut self, index: u32) {
        self.slot(index).access = Access::Kept;
    }

    fn is_free(slot: &Slot) -> bool {
        slot.incarnation.is_none() && !matches!(slot.access, Access::Removing(_) | Access::NoRoom | Access::Kept)
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

    /// The segment in it is gone: the file is free. It goes too if the log has become smaller, or if a snapshot holds what is in it.
    pub fn release(&mut self, index: u32) {
        let allowed = self.allowed;
        let slot = self.slot(index);
        slot.incarnation = None;
        slot.prepared = true;
        if index >= allowed || slot.shared {
            slot.access = Access::Removing(Making::Due);
        }
    }

    /// Emits what the files need; `token` makes the token of a file's operation.
    pub fn advance(&mut self, now: Mono, token: impl Fn(u32) -> Token, ops: &mut Ops) {
        let (log, size) = (self.log, self.size);
        let try_again = self.try_again(now);
        // What the log waits for goes first.
        let mut waits_for_room = self.lacks_room() && !try_again;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let index = index as u32;
            let (file, token) = (FileName::Segment { log, index }, token(index));
            match slot.access {
                Access::Creating(Making::Due) if !waits_for_room => {
                    waits_for_room = try_again;
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
            if waits_for_room || ready >= AHEAD && !try_again {
                break;
            }
            if matches!(slot.access, Access::Absent | Access::NoRoom) && !slot.refused {
                waits_for_room = try_again;
                slot.access = Access::Preparing;
                ops.push(Op::Prepare { log, index, size, token: token(index) });
                ready += 1;
            }
        }
    }

    /// Whether it is time to see, with one file, if the file system has room again.
    fn try_again(&mut self, now: Mono) -> bool {
        let Room::Missing { again } = &mut self.room else { return false };
        // Those that are made or removed meanwhile are not used unprepared: making one would only wait.
        self.slots
            .iter_mut()
            .filter(|slot| slot.access == Access::Absent)
            .for_each(|slot| slot.access = Access::NoRoom);
        let due = again.get_or_insert(now.plus_ms(ROOM_AGAIN_MS));
        let due = *due <= now;
        if due {
            *again = Some(now.plus_ms(ROOM_AGAIN_MS));
        }
        due
    }

    fn room_is_missing(&mut self) {
        if !self.lacks_room() {
            self.room = Room::Missing { again: None };
            self.room_news = Some(false);
        }
    }

    /// A file has been made: those that waited for room may be, too.
    fn room_is_given(&mut self) {
        if self.lacks_room() {
            self.room = Room::Given;
            self.room_news = Some(true);
            let waiting = self.slots.iter_mut().filter(|slot| slot.access == Access::NoRoom);
            waiting.for_each(|slot| slot.access = Access::Absent);
        }
    }

    /// An operation of a file has succeeded: the next one follows.
    pub fn on_done(&mut self, index: u32, token: Token, ops: &mut Ops) {
        if matches!(self.slot(index).access, Access::Preparing | Access::Creating(Making::Entry)) {
            self.room_is_given();
        }
        let file = self.name(index);
        let dir = DirName::Log(self.log);
        let slot = self.slot(index);
        slot.access = match slot.access {
            Access::Preparing => {
                (slot.prepared, slot.shared) = (true, false);
                ops.push(Op::Open { file, how: OpenHow::Existing, token });
                Access::Opening
            }
            Access::Opening => Access::Open,
            Access::Creating(Making::Entry) => {
                slot.shared = false;
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
                slot.access = Access::NoRoom;
                // Nor is there room for the others: making one of them without preparation would make the log wait.
                for absent in self.slots.iter_mut().filter(|slot| slot.access == Access::Absent) {
                    absent.access = Access::NoRoom;
                }
                self.room_is_missing();
                false
            }
            // Its first commits wait in memory, and are refused when their time is over.
            Access::Creating(Making::Entry) if NO_ROOM.contains(&errno) => {
                slot.access = Access::Creating(Making::Due);
                self.room_is_missing();
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
        files.advance(Mono(0), |index| Token(index as u64), &mut ops);
        let closed = |op: &Op| matches!(op, Op::CloseFile { file: FileName::Segment { index: 6 | 7, .. }, .. });
        assert_eq!(ops.iter().filter(|op| closed(op)).count(), 2, "what is beyond goes: {ops:?}");
    }

    /// Files that were asked to be prepared in a turn at `ms`.
    fn prepared_at(files: &mut Files, ms: u64) -> Vec<u32> {
        let mut ops = Vec::new();
        files.advance(Mono(0).plus_ms(ms), |index| Token(index as u64), &mut ops);
        let prepared = ops.iter().filter_map(|op| match op {
            Op::Prepare { index, .. } => Some(*index),
            _ => None,
        });
        prepared.collect()
    }

    #[test]
    fn where_there_was_no_room_one_file_is_tried_now_and_then_and_all_are_used_when_there_is() {
        let mut files = Files::new(0, 1 << 20, 6);
        assert_eq!(prepared_at(&mut files, 0), [0, 1]);
        for index in [0, 1] {
            assert!(!files.on_failed(index, NO_ROOM[0]), "the log is full, not failed");
        }
        assert_eq!((files.free(), files.take(1, 0), files.room_news()), (0, Err(Wait::Full), Some(false)));
        assert_eq!(prepared_at(&mut files, 1), [0; 0]);
        assert_eq!(prepared_at(&mut files, ROOM_AGAIN_MS), [0; 0]);
        assert_eq!(prepared_at(&mut files, ROOM_AGAIN_MS + 1).len(), 1);
        assert!(!files.on_failed(0, NO_ROOM[1]));
        assert_eq!(prepared_at(&mut files, ROOM_AGAIN_MS + 2), [0; 0]);
        assert_eq!((prepared_at(&mut files, 2 * ROOM_AGAIN_MS + 1).len(), files.room_news()), (1, None));
        files.on_done(0, Token(0), &mut Vec::new());
        assert_eq!((files.room_news(), files.free()), (Some(true), 6));
        assert_eq!(prepared_at(&mut files, 2 * ROOM_AGAIN_MS + 2), [1]);
    }

    #[test]
    fn a_file_that_a_snapshot_holds_is_replaced_and_not_used_again() {
        let mut files = Files::new(0, 1 << 20, 4);
        files.opened(1, 2);
        (0..4).for_each(|index| files.found(index, Some(index + 1)));
        assert!(files.is_shared(1) && !files.share(2, true));
        let (mut ops, token) = (Vec::new(), Token(0));
        for index in [1, 2] {
            files.release(index);
            assert_eq!((files.free(), files.take(9, 0)), (0, Err(Wait::Full)), "not to be written to");
            files.advance(Mono(0), |_| token, &mut ops);
            let file = files.name(index);
            assert_eq!(ops, [Op::CloseFile { file, token }]);
            files.on_done(index, token, &mut ops);
            assert_eq!(ops.pop(), Some(Op::Unlink { file, token }));
            files.on_done(index, token, &mut ops);
            ops.clear();
            assert_eq!(prepared_at(&mut files, 0), [index]);
            files.on_done(index, token, &mut ops);
            assert!(!files.is_shared(index), "it is another file now");
            files.on_done(index, token, &mut ops);
            assert_eq!((files.free(), files.take(9, 0)), (1, Ok(index)));
            ops.clear();
        }
        files.opened(3, 2);
        files.found_free(3);
        assert_eq!(files.free(), 0, "free, but not for use");
    }
}

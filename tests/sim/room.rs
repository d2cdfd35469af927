//! A file system without room: what it refuses, and what goes on all the same.

use super::disk::{Disk, Request};
use penstock::io::op::{DirName, FileName, OpenHow, Spare};

impl Disk {
    /// Whether a request needs room that a full file system does not have. A directory is not begun in one.
    pub(super) fn finds_no_room(&mut self, request: &Request, inode: Option<usize>) -> bool {
        match request {
            Request::Open { file, how: OpenHow::Create { .. } } => match file {
                FileName::Segment { .. } | FileName::Preparing { .. } | FileName::Captured(_) => true,
                FileName::SpareDraft(_) => self.has_journal(),
                _ => false,
            },
            Request::Write { file, at, bytes, .. } => {
                let size = inode.map_or(0, |inode| self.inodes[inode].live.len() as u64);
                file.dir() == DirName::Catalog && at + bytes.len() as u64 > size
            }
            Request::Rename { from: FileName::Spare(Spare::Snapshot), .. } => {
                self.rotated_full += 1;
                false
            }
            _ => false,
        }
    }

    fn has_journal(&self) -> bool {
        let is_journal = |file: &FileName| matches!(file, FileName::Journal { .. });
        self.directories.get(&DirName::Catalog).is_some_and(|catalog| catalog.entries.keys().any(is_journal))
    }
}

//! The disk's part of a snapshot: second names, their removal, and a disk restored from what was taken away.

use super::disk::{Answer, Change, Disk, EEXIST, ENOENT};
use super::inode::Inode;
use super::random::Random;
use penstock::io::op::{DirName, Errno, FileName, Linked, Piece};
use penstock::log::manifest::{Manifest, Small};
use std::collections::BTreeMap;

impl Disk {
    /// A second name for a file at rest, or a file of its own with the same bytes; durable but for the entry.
    pub(super) fn finish_link(&mut self, from: FileName, to: FileName) -> Result<Answer, Errno> {
        let inode = *self.directories[&from.dir()].entries.get(&from).ok_or(ENOENT)?;
        assert!(self.writes(Some(inode), 0, u64::MAX).next().is_none(), "{from} is linked while it is written to");
        let (made, size) = (self.events, self.inodes[inode].live.len());
        let (inode, linked) = match self.reflinks {
            true => {
                let mut copy = Inode::allocated(0);
                copy.write_durable(0, &self.inodes[inode].live);
                self.inodes.push(copy);
                (self.inodes.len() - 1, Linked::Reflink)
            }
            false => {
                let ranges = self.inodes[inode].flush(made, size);
                ranges.into_iter().for_each(|(at, len)| self.note_marks(inode, at, len));
                (inode, Linked::Hard)
            }
        };
        let directory = self.directories.get_mut(&to.dir()).ok_or(ENOENT)?;
        if directory.entries.contains_key(&to) {
            return Err(EEXIST);
        }
        directory.entries.insert(to, inode);
        directory.changes.push((made, Change::Add(to, inode)));
        Ok(Answer { count: linked as u32, ..Answer::default() })
    }

    pub(super) fn finish_clear(&mut self) -> Answer {
        let made = self.events;
        for (dir, directory) in self.directories.iter_mut().filter(|(dir, _)| is_of_capture(**dir)) {
            assert!(
                self.open.keys().all(|(_, open)| open.dir() != *dir),
                "{dir} is cleared while a file in it is open"
            );
            if *dir == DirName::Capture {
                directory.changes.clear();
                directory.entries_durable.clear();
            }
            for file in std::mem::take(&mut directory.entries).into_keys().filter(|_| *dir != DirName::Capture) {
                directory.changes.push((made, Change::Remove(file)));
            }
        }
        Answer::default()
    }

    /// Whether a snapshot with a manifest would be found now, after a power cut.
    pub fn has_capture(&self) -> bool {
        self.content(FileName::Captured(Piece::Manifest)).is_some_and(|bytes| Manifest::decode(bytes).is_ok())
    }

    /// Takes a whole snapshot away, as a rename of its directory does: what belongs to it, by name.
    pub fn take_capture(&mut self) -> BTreeMap<Piece, usize> {
        let mut pieces = BTreeMap::new();
        for (_, directory) in self.directories.iter_mut().filter(|(dir, _)| is_of_capture(**dir)) {
            assert!(directory.changes.is_empty(), "the snapshot is not durable: {:?}", directory.changes);
            for (file, inode) in std::mem::take(&mut directory.entries) {
                let FileName::Captured(piece) = file else { unreachable!("nothing else lies there") };
                pieces.insert(piece, inode);
            }
            directory.entries_durable.clear();
        }
        self.taken.extend(pieces.values());
        pieces
    }

    /// Disks with what a restore makes of a snapshot that was taken away; on the first one, the others are empty.
    pub fn restored(&self, pieces: &BTreeMap<Piece, usize>, drives: u8, random: Random) -> Disk {
        let manifest = &self.inodes[pieces[&Piece::Manifest]].durable;
        let manifest = Manifest::decode(manifest).unwrap_or_else(|why| panic!("the manifest: {why}"));
        assert_eq!(manifest.files.len() + manifest.segments.len() + 1, pieces.len(), "{manifest:?}");
        let mut disk = Disk::new(random, drives);
        (disk.typical, disk.block) = (self.typical, self.block);
        for (piece, inode) in pieces {
            let Some(file) = piece.original() else { continue };
            let bytes = &self.inodes[*inode].durable;
            if let Some(small) = manifest.files.iter().find(|small| small.path == file.to_string()) {
                assert_eq!(Small::of(file.to_string(), bytes), *small, "not what the manifest says");
            }
            let mut copy = Inode::allocated(0);
            copy.write_durable(0, bytes);
            disk.inodes.push(copy);
            let directory = disk.directories.entry(file.dir()).or_default();
            directory.durable = true;
            directory.entries.insert(file, disk.inodes.len() - 1);
            directory.entries_durable.insert(file, disk.inodes.len() - 1);
        }
        disk.note_all_marks();
        disk
    }
}

fn is_of_capture(dir: DirName) -> bool {
    matches!(dir, DirName::Capture | DirName::CaptureCatalog | DirName::CaptureLog(_))
}

//! The disk's part of a snapshot: second names, their removal, and a disk restored from what was taken away.

use super::disk::{Answer, Change, Disk, EEXIST, ENOENT};
use super::inode::Inode;
use super::random::Random;
use penstock::io::op::{DirName, Errno, FileName, Linked, Piece};
use penstock::log::identity::Identity;
use penstock::log::manifest::{Manifest, Small};
use penstock::log::superblock::Superblock;
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

    pub(super) fn finish_clear(&mut self, cleared: DirName) -> Answer {
        let (made, drive) = (self.events, self.drives.of(cleared));
        let directories = self.directories.iter_mut();
        for (dir, directory) in directories.filter(|(dir, at)| at.drive == drive && is_of_capture(**dir)) {
            assert!(
                self.open.keys().all(|(_, open)| open.dir() != *dir),
                "{dir} is cleared while a file in it is open"
            );
            if *dir == cleared {
                directory.changes.clear();
                directory.entries_durable.clear();
            }
            for file in std::mem::take(&mut directory.entries).into_keys().filter(|_| *dir != cleared) {
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

    /// The superblock of a snapshot that was taken away.
    pub fn superblock_of(&self, pieces: &BTreeMap<Piece, usize>) -> Superblock {
        let copy = |number| self.inodes[pieces[&Piece::Superblock(number)]].durable.as_slice();
        Superblock::newest([copy(0), copy(1)]).expect("a snapshot has whole superblocks")
    }

    /// Disks with what a restore makes of a snapshot that was taken away: directory n on drive n; further ones are empty.
    pub fn restored(&self, pieces: &BTreeMap<Piece, usize>, drives: u8, random: Random) -> Disk {
        let superblock = self.superblock_of(pieces);
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
            let drive = if let Piece::Segment { log, .. } = *piece { superblock.logs[log as usize] as u8 } else { 0 };
            disk.put_durable(file, drive, disk.inodes.len() - 1);
        }
        for (number, directory) in (0..).zip(&superblock.directories).skip(1) {
            let identity = Identity {
                home: superblock.directory,
                id: directory.id,
                number,
                home_path: superblock.directories[0].path.clone(),
            };
            let mut inode = Inode::allocated(0);
            inode.write_durable(0, &identity.encode(superblock.block));
            disk.inodes.push(inode);
            disk.put_durable(FileName::Identity { given: number as u8 }, number as u8, disk.inodes.len() - 1);
        }
        // Also of logs that held nothing.
        for (log, number) in (0..).zip(&superblock.logs) {
            let directory = disk.directories.entry(DirName::Log(log)).or_default();
            (directory.drive, directory.durable) = (*number as u8, true);
        }
        disk.note_all_marks();
        disk
    }
}

impl Disk {
    fn put_durable(&mut self, file: FileName, drive: u8, inode: usize) {
        let directory = self.directories.entry(file.dir()).or_default();
        (directory.drive, directory.durable) = (drive, true);
        directory.entries.insert(file, inode);
        directory.entries_durable.insert(file, inode);
    }
}

fn is_of_capture(dir: DirName) -> bool {
    matches!(dir, DirName::Capture(_) | DirName::CaptureCatalog | DirName::CaptureLog(_))
}

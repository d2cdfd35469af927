//! A small disk in memory: a completed durable write makes itself durable, a flush what had completed when it was submitted; at a crash
//! anything else is there or not, sector by sector.

use crate::io::buffers::{Buffers, Span};
use crate::io::op::{Completion, DirName, Errno, FileName, Op, OpenHow, Sync, Token};
use std::collections::{BTreeMap, BTreeSet};

const SECTOR: usize = 512;

/// Its own generator, so that a seed says everything.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Default)]
pub struct File {
    /// As reads see it, and as it is after a crash.
    pub bytes: Vec<u8>,
    pub durable: Vec<u8>,
    entry_durable: bool,
    /// Completed writes that are not durable: (byte, bytes).
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl File {
    /// Makes the unsynced writes durable that share a byte with a range.
    fn settle_below(&mut self, from: usize, len: usize) {
        let (older, others) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, bytes)| *at < from + len && from < *at + bytes.len());
        for (at, bytes) in older {
            self.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.unsynced = others;
    }
}

#[derive(Clone, Default)]
pub struct Disk {
    pub files: BTreeMap<FileName, File>,
    dirs: BTreeSet<DirName>,
    open: BTreeSet<FileName>,
    /// Reads fail that reach into these bytes of the file.
    pub unreadable: Option<(FileName, std::ops::Range<u64>)>,
    /// Files with another name elsewhere: nothing is written into them.
    pub linked: BTreeSet<FileName>,
}

/// An operation that was submitted: with the bytes of a write, or how many writes a flush covers.
#[derive(Clone)]
pub struct Submitted {
    pub op: Op,
    bytes: Vec<u8>,
    covers: usize,
}

impl Disk {
    pub fn submit(&self, op: Op, buffers: &Buffers) -> Submitted {
        let bytes = if let Op::WriteAt { from, .. } = op { buffers.bytes(from).to_vec() } else { Vec::new() };
        let covers = if let Op::Fsync { file, .. } = op { self.files[&file].unsynced.len() } else { 0 };
        Submitted { op, bytes, covers }
    }

    fn check_aligned(&self, file: FileName, at: u64, span: Span) {
        assert!(self.open.contains(&file), "{file} is used but not open");
        assert!(
            at.is_multiple_of(4096) && span.len.is_multiple_of(4096) && span.at.is_multiple_of(4096),
            "{file} {at} {span:?}"
        );
    }

    /// Carries a write out.
    fn write(&mut self, submitted: &Submitted, buffers: &Buffers) {
        let Op::WriteAt { file, at, from, sync, .. } = submitted.op else { unreachable!("only writes") };
        self.check_aligned(file, at, from);
        assert!(!self.linked.contains(&file), "{file} is written, though a snapshot holds it");
        assert_eq!(buffers.bytes(from), submitted.bytes, "bytes of a write changed while it was on its way");
        let inode = self.files.get_mut(&file).expect("an open file is there");
        let at = at as usize;
        assert!(at + submitted.bytes.len() <= inode.bytes.len(), "{file} would grow");
        inode.bytes[at..at + submitted.bytes.len()].copy_from_slice(&submitted.bytes);
        if sync == Sync::Durable {
            // A device does not put an older write over a newer one of the same place.
            inode.settle_below(at, submitted.bytes.len());
        }
        match sync {
            Sync::Durable => inode.durable[at..at + submitted.bytes.len()].copy_from_slice(&submitted.bytes),
            Sync::Later => inode.unsynced.push((at, submitted.bytes.clone())),
        }
    }

    /// Carries an operation out.
    pub fn complete(&mut self, submitted: &Submitted, buffers: &mut Buffers) -> Completion {
        let done = |token: Token, result| Completion::Done { token, result };
        match submitted.op {
            Op::WriteAt { token, from, .. } => {
                self.write(submitted, buffers);
                done(token, Ok(from.len))
            }
            Op::ReadAt { file, at, into, token } => {
                self.check_aligned(file, at, into);
                done(token, self.read(file, at, into, buffers))
            }
            Op::Fsync { file, token } => {
                assert!(self.open.contains(&file), "{file} is flushed but not open");
                let inode = self.files.get_mut(&file).expect("an open file is there");
                for (at, bytes) in inode.unsynced.drain(..submitted.covers.min(inode.unsynced.len())) {
                    inode.durable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                done(token, Ok(0))
            }
            Op::Open { file, how: OpenHow::Existing, token } => {
                self.open.insert(file);
                let links = || 1 + self.linked.contains(&file) as u32;
                done(token, self.files.get(&file).map(|_| links()).ok_or(Errno(2)))
            }
            Op::Open { file, how: OpenHow::Create { size }, token } => {
                assert!(self.dirs.contains(&file.dir()), "{file} in a directory that is not there");
                if self.files.contains_key(&file) {
                    return done(token, Err(Errno(17)));
                }
                let zeros = vec![0; size as usize];
                self.files.insert(file, File { bytes: zeros.clone(), durable: zeros, ..File::default() });
                self.open.insert(file);
                done(token, Ok(0))
            }
            Op::CloseFile { file, token } => {
                assert!(self.open.remove(&file), "{file} is closed but not open");
                done(token, Ok(0))
            }
            Op::Unlink { file, token } => {
                assert!(!self.open.contains(&file), "{file} is removed while open");
                self.files.remove(&file);
                self.linked.remove(&file);
                done(token, Ok(0))
            }
            Op::MakeDir { dir, token } => {
                self.dirs.insert(dir);
                done(token, Ok(0))
            }
            Op::SyncDir { dir, token } => {
                let inside = self.files.iter_mut().filter(|(name, _)| name.dir() == dir);
                inside.for_each(|(_, file)| file.entry_durable = true);
                done(token, Ok(0))
            }
            Op::List { dir, token } => {
                let list = self.files.iter().filter(|(name, _)| name.dir() == dir);
                let result = match self.dirs.contains(&dir) {
                    true => Ok(list.map(|(&name, file)| (name, file.bytes.len() as u64)).collect()),
                    false => Err(Errno(2)),
                };
                Completion::Listed { token, result }
            }
            Op::Prepare { log, index, size, token } => {
                let zeros = vec![0; size as usize];
                let file = File { bytes: zeros.clone(), durable: zeros, entry_durable: true, ..File::default() };
                self.files.insert(FileName::Segment { log, index }, file);
                done(token, Ok(0))
            }
            ref other => panic!("the log does not use {other:?}"),
        }
    }

    /// Reads without an operation.
    pub fn read(&self, file: FileName, at: u64, into: Span, buffers: &mut Buffers) -> Result<u32, Errno> {
        let fails = |(bad, bytes): &(FileName, std::ops::Range<u64>)| {
            *bad == file && at < bytes.end && bytes.start < at + into.len as u64
        };
        if self.unreadable.as_ref().is_some_and(fails) {
            return Err(Errno(5));
        }
        let bytes = &self.files[&file].bytes;
        let at = (at as usize).min(bytes.len());
        let len = (into.len as usize).min(bytes.len() - at);
        buffers.bytes_mut(into.first(len as u32)).copy_from_slice(&bytes[at..at + len]);
        Ok(len as u32)
    }

    /// The disk after a power cut in the middle of `pending`.
    pub fn crashed(&self, pending: &[Submitted], random: &mut Random) -> Disk {
        let mut disk = self.clone();
        disk.open.clear();
        disk.files.retain(|_, file| file.entry_durable || random.chance(50));
        for submitted in pending {
            if let Op::WriteAt { file, at, .. } = submitted.op
                && let Some(file) = disk.files.get_mut(&file)
            {
                file.unsynced.push((at as usize, submitted.bytes.clone()));
            }
        }
        // Each write: lost, whole, or torn at a sector.
        for file in disk.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                let how = random.below(3);
                for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                    if how == 1 || (how == 2 && random.chance(50)) {
                        let at = at + sector * SECTOR;
                        file.durable[at..at + piece.len()].copy_from_slice(piece);
                    }
                }
            }
            file.bytes = file.durable.clone();
            file.entry_durable = true;
        }
        disk
    }

    /// The disk after the process was killed: all that had completed is there, though not yet durable.
    pub fn killed(&self, pending: &[Submitted], random: &mut Random) -> Disk {
        let mut disk = self.clone();
        disk.open.clear();
        for submitted in pending {
            if let Op::WriteAt { file, at, .. } = submitted.op
                && random.chance(50)
                && let Some(file) = disk.files.get_mut(&file)
            {
                let at = at as usize;
                file.bytes[at..at + submitted.bytes.len()].copy_from_slice(&submitted.bytes);
                file.unsynced.push((at, submitted.bytes.clone()));
            }
        }
        disk
    }
}

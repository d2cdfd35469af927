//! A disk for tests of the small files: remembers what is durable, and on a crash keeps any part of what is not, torn at 512 bytes.

use crate::io::buffers::{Buffers, Layouts};
use crate::io::op::{Completion, DirName, Errno, FileName, Op, OpenHow, Sync};
use std::collections::{BTreeMap, BTreeSet};

const SECTOR: usize = 512;
const ENOENT: Errno = Errno(2);
pub const ENOSPC: Errno = Errno(28);
const EEXIST: Errno = Errno(17);
const EBADF: Errno = Errno(9);

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    /// Completed, not synced.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Inode {
    fn live(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.writes.iter().for_each(|(at, write)| put(&mut bytes, *at, write));
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, write: &[u8]) {
    let end = at as usize + write.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at as usize..end].copy_from_slice(write);
}

#[derive(Clone, Copy)]
enum Entry {
    Add(FileName, usize),
    Remove(FileName),
    Rename(FileName, FileName, usize),
}

impl Entry {
    fn dir(self) -> DirName {
        match self {
            Entry::Add(file, _) | Entry::Remove(file) | Entry::Rename(file, _, _) => file.dir(),
        }
    }
    fn apply(self, names: &mut BTreeMap<FileName, usize>) {
        match self {
            Entry::Add(file, inode) => drop(names.insert(file, inode)),
            Entry::Remove(file) => drop(names.remove(&file)),
            Entry::Rename(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }
}

#[derive(Clone, Default)]
pub struct MemoryDisk {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<FileName, usize>,
    entries: Vec<Entry>,
    open: BTreeSet<FileName>,
    has_catalog: bool,
    has_catalog_durably: bool,
    /// No file can be made or become longer.
    pub full: bool,
}

/// Memory for one machine or two: block slots of two blocks, so that larger writes go in pieces.
pub fn buffers() -> Buffers {
    Buffers::new(
        0,
        Layouts([(1, 4096), (1, 4096), (1, 4096), (1, 4096), (1, 4096), (1, 4096), (0, 4096), (4, 8192), (0, 4096)]),
    )
}

impl MemoryDisk {
    fn names(&self) -> BTreeMap<FileName, usize> {
        let mut names = self.durable_names.clone();
        self.entries.iter().for_each(|entry| entry.apply(&mut names));
        names
    }

    /// Every file and what it holds.
    pub fn files(&self) -> BTreeMap<FileName, Vec<u8>> {
        self.names().into_iter().map(|(file, inode)| (file, self.inodes[inode].live())).collect()
    }

    /// Makes a file what it is not, durably: a fault.
    pub fn overwrite(&mut self, file: FileName, how: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.names()[&file];
        let inode = &mut self.inodes[inode];
        inode.durable = inode.live();
        inode.writes.clear();
        how(&mut inode.durable);
    }

    pub fn remove(&mut self, file: FileName) {
        self.entries.push(Entry::Remove(file));
    }

    /// Carries an operation out.
    pub fn run(&mut self, op: &Op, buffers: &mut Buffers) -> Completion {
        match *op {
            Op::List { dir, token } => Completion::Listed { token, result: self.list(dir) },
            Op::Open { file, how, token } => done(token, self.open(file, how)),
            Op::WriteAt { file, at, from, sync, token } => {
                let bytes = buffers.bytes(from).to_vec();
                done(token, self.write(file, at, bytes, sync))
            }
            Op::ReadAt { file, at, into, token } => {
                let result = self.opened(file).map(|inode| {
                    let live = self.inodes[inode].live();
                    let part = &live[(at as usize).min(live.len())..live.len().min(at as usize + into.len as usize)];
                    buffers.bytes_mut(into.first(part.len() as u32)).copy_from_slice(part);
                    part.len() as u32
                });
                done(token, result)
            }
            Op::Fsync { file, token } => {
                let result = self.opened(file).map(|inode| {
                    let inode = &mut self.inodes[inode];
                    inode.durable = inode.live();
                    inode.writes.clear();
                    0
                });
                done(token, result)
            }
            Op::Rename { from, to, token } => {
                let result = self.names().get(&from).copied().ok_or(ENOENT).map(|inode| {
                    self.entries.push(Entry::Rename(from, to, inode));
                    if self.open.remove(&from) {
                        self.open.insert(to);
                    }
                    0
                });
                done(token, result)
            }
            Op::Unlink { file, token } => {
                assert!(!self.open.contains(&file), "{file} is removed while it is open");
                let result = self.names().get(&file).copied().ok_or(ENOENT).map(|_| {
                    self.entries.push(Entry::Remove(file));
                    0
                });
                done(token, result)
            }
            Op::CloseFile { file, token } => done(token, if self.open.remove(&file) { Ok(0) } else { Err(EBADF) }),
            Op::MakeDir { dir: DirName::Catalog, token } => {
                self.has_catalog = true;
                done(token, Ok(0))
            }
            // Others are always there.
            Op::MakeDir { token, .. } => done(token, Ok(0)),
            Op::SyncDir { dir, token } => {
                if dir == DirName::Top {
                    self.has_catalog_durably = self.has_catalog;
                }
                let (now, later): (Vec<_>, Vec<_>) = self.entries.iter().partition(|entry| entry.dir() == dir);
                now.into_iter().for_each(|entry: Entry| entry.apply(&mut self.durable_names));
                self.entries = later;
                done(token, Ok(0))
            }
            ref other => panic!("not an operation of these machines: {other:?}"),
        }
    }

    fn list(&self, dir: DirName) -> Result<Vec<(FileName, u64)>, Errno> {
        if dir == DirName::Catalog && !self.has_catalog {
            return Err(ENOENT);
        }
        let files = self.files().into_iter().filter(|(file, _)| file.dir() == dir);
        Ok(files.map(|(file, bytes)| (file, bytes.len() as u64)).collect())
    }

    fn opened(&self, file: FileName) -> Result<usize, Errno> {
        if self.open.contains(&file) { self.names().get(&file).copied().ok_or(ENOENT) } else { Err(EBADF) }
    }

    fn open(&mut self, file: FileName, how: OpenHow) -> Result<u32, Errno> {
        match (how, self.names().contains_key(&file)) {
            (OpenHow::Existing, false) => return Err(ENOENT),
            (OpenHow::Create { .. }, true) => return Err(EEXIST),
            (OpenHow::Existing, true) => {}
            (OpenHow::Create { .. }, false) if self.full => return Err(ENOSPC),
            (OpenHow::Create { size }, false) => {
                assert!(file.dir() != DirName::Catalog || self.has_catalog, "{file} in a directory that is not there");
                self.inodes.push(Inode { durable: Vec::new(), writes: vec![(0, vec![0; size as usize])] });
                self.entries.push(Entry::Add(file, self.inodes.len() - 1));
            }
        }
        self.open.insert(file);
        Ok(0)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: Vec<u8>, sync: Sync) -> Result<u32, Errno> {
        assert!(at.is_multiple_of(4096) && bytes.len().is_multiple_of(4096), "{file} is written in whole blocks");
        let inode = self.opened(file)?;
        let inode = &mut self.inodes[inode];
        if self.full && at as usize + bytes.len() > inode.live().len() {
            return Err(ENOSPC);
        }
        let len = bytes.len() as u32;
        match sync {
            Sync::Durable => {
                put(&mut inode.durable, at, &bytes);
                // Earlier writes of the same place are over, whatever becomes of the rest of them.
                for (from, earlier) in &mut inode.writes {
                    for (byte, i) in earlier.iter_mut().zip(*from..) {
                        let covering = i.checked_sub(at).and_then(|i| bytes.get(i as usize));
                        *byte = covering.copied().unwrap_or(*byte);
                    }
                }
            }
            Sync::Later => inode.writes.push((at, bytes)),
        }
        Ok(len)
    }

    /// The process ends.
    pub fn exit(&mut self) {
        self.open.clear();
    }

    /// Whether the power fails while `op` is in flight, as it does when as many as `fuse` have been carried out.
    pub fn fails(&mut self, op: &Op, buffers: &mut Buffers, fuse: &mut Option<u64>, random: &mut Random) -> bool {
        let fails = *fuse == Some(0);
        if fails {
            self.crash(Some(op), buffers, random);
        }
        *fuse = fuse.map(|left| left.saturating_sub(1));
        fails
    }

    /// The power fails while `op` is in flight: what is not durable is kept in any part, each sector, entry and write for itself.
    pub fn crash(&mut self, op: Option<&Op>, buffers: &mut Buffers, random: &mut Random) {
        match op {
            // Torn below, as any other write that is not durable.
            Some(&Op::WriteAt { file, at, from, token, .. }) => {
                self.run(&Op::WriteAt { file, at, from, sync: Sync::Later, token }, buffers);
            }
            Some(op) if random.coin() => drop(self.run(op, buffers)),
            _ => {}
        }
        for entry in std::mem::take(&mut self.entries) {
            if random.coin() {
                entry.apply(&mut self.durable_names);
            }
        }
        for inode in &mut self.inodes {
            for (at, bytes) in std::mem::take(&mut inode.writes) {
                let is_whole = random.below(4) == 0;
                for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                    if is_whole || random.coin() {
                        put(&mut inode.durable, at + (i * SECTOR) as u64, sector);
                    }
                }
            }
        }
        self.open.clear();
        // A directory whose own entry is not durable may be lost with everything in it.
        self.has_catalog &= self.has_catalog_durably || random.coin();
        if !self.has_catalog {
            self.durable_names.retain(|file, _| file.dir() != DirName::Catalog);
        }
        self.has_catalog_durably = self.has_catalog;
    }
}

fn done(token: crate::io::op::Token, result: Result<u32, Errno>) -> Completion {
    Completion::Done { token, result }
}

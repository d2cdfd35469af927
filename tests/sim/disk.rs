//! The disk, which outlives the node: files by name, directories whose entries are durable or not, requests in flight, and faults.
//!
//! A request takes effect when it is finished; a power cut decides about the rest. Names: until its directory is synced, a change of
//! entries may be there or not after a power cut, a rename as one; later changes of a name never without the earlier ones.

use super::drives::Drives;
use super::inode::{Inode, MOODS, Mood, SECTOR};
use super::random::Random;
use super::scrub::reads_only;
use penstock::io::op::{DirName, Errno, FileName, OpenHow, Sync};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub const EIO: Errno = Errno(5);
pub const ENOENT: Errno = Errno(2);
pub const EEXIST: Errno = Errno(17);
pub const ENOSPC: Errno = Errno(28);

/// O_DIRECT: places and lengths are multiples of this.
const ALIGNMENT: u64 = 4096;

/// Numbers of requests to second halves are not below.
pub const SECOND_HALF: u64 = 1 << 62;

/// Who has a file open: a worker by number, or the companion.
pub type Who = u16;

#[derive(Clone, Debug)]
pub enum Request {
    Open { file: FileName, how: OpenHow },
    Write { file: FileName, at: u64, bytes: Vec<u8>, sync: Sync },
    Read { file: FileName, at: u64, len: usize },
    Fsync { file: FileName },
    Rename { from: FileName, to: FileName },
    Unlink { file: FileName },
    Close { file: FileName },
    MakeDir { dir: DirName },
    SyncDir { dir: DirName },
    List { dir: DirName },
    Link { from: FileName, to: FileName },
    Clear { dir: DirName },
}

/// What a finished request gives.
#[derive(Debug, Default)]
pub struct Answer {
    /// Bytes moved, else 0.
    pub count: u32,
    pub bytes: Vec<u8>,
    pub files: Vec<(FileName, u64)>,
}

/// Faults, each in parts of 1,000 requests; all 0 on a sound disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub write_fails: u32,
    pub write_short: u32,
    pub flush_fails: u32,
    pub read_fails: u32,
    pub no_space: u32,
}

#[derive(Debug)]
struct Flight {
    who: Who,
    request: Request,
    /// The file it was submitted to, whatever its name is by now.
    inode: Option<usize>,
    /// Number of the disk's events at its submission.
    submitted: u64,
    /// Size of the file then.
    size: usize,
    fault: Option<Errno>,
    /// It goes to a drive that faults strike.
    exposed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    /// The drive that it lies on.
    pub(super) drive: u8,
    pub(super) durable: bool,
    made: u64,
    pub(super) entries: BTreeMap<FileName, usize>,
    pub(super) entries_durable: BTreeMap<FileName, usize>,
    /// Changes that are not durable, oldest first, each with the number of its event.
    pub(super) changes: Vec<(u64, Change)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Add(FileName, usize),
    Move(FileName, FileName),
    Remove(FileName),
}

#[derive(Debug)]
pub struct Disk {
    pub(super) inodes: Vec<Inode>,
    pub(super) directories: BTreeMap<DirName, Directory>,
    pub(super) open: BTreeMap<(Who, FileName), usize>,
    flights: BTreeMap<u64, Flight>,
    pub(super) events: u64,
    random: Random,
    pub drives: Drives,
    pub faults: Faults,
    /// The only drive that faults strike; `None`: all.
    pub faulty_drive: Option<u8>,
    /// Faults that were given since the last power cut.
    pub faults_given: u64,
    /// Marker → (inode, place): where a record's durable bytes are.
    places: HashMap<u64, Vec<(usize, usize)>>,
    /// Typical time of a request in ns.
    pub typical: u64,
    /// What the device writes without touching a neighbour, in bytes: nothing that is to stay shares one with a later write.
    pub block: u64,
    /// Whether a link shares extents, or is a second name of one file.
    pub reflinks: bool,
    /// The file system has no room.
    pub full: bool,
    /// Snapshots that the catalog has made meanwhile.
    pub rotated_full: u64,
    /// The next request makes halves of a mirror equal: that may be of a file that a snapshot holds, too.
    pub repairs: bool,
    /// The drive does not answer any more.
    pub dead: bool,
    /// Files of snapshots that were taken away: they have a name elsewhere.
    pub(super) taken: Vec<usize>,
}

/// Begins the data of every record of the simulation; 12 hexadecimal digits follow.
pub const MARK: &[u8] = b"~mark:";
pub const MARKED: usize = MARK.len() + 12;

impl Disk {
    /// `drives` empty data directories.
    pub fn new(random: Random, drives: u8) -> Disk {
        let top = |drive| Directory { drive, durable: true, ..Directory::default() };
        let further = (0..drives).map(|drive| (DirName::Given(drive), top(drive)));
        Disk {
            inodes: Vec::new(),
            directories: further.chain([(DirName::Top, top(0))]).collect(),
            open: BTreeMap::new(),
            flights: BTreeMap::new(),
            events: 0,
            random,
            drives: Drives::default(),
            faults: Faults::default(),
            faulty_drive: None,
            faults_given: 0,
            places: HashMap::new(),
            typical: 20_000,
            block: ALIGNMENT,
            reflinks: false,
            full: false,
            rotated_full: 0,
            repairs: false,
            dead: false,
            taken: Vec::new(),
        }
    }

    /// Another disk with the same manners, for the second halves of mirrors: its requests are numbered from [`SECOND_HALF`].
    pub fn second(&self, random: Random, drives: u8) -> Disk {
        let (typical, block, reflinks) = (self.typical, self.block, self.reflinks);
        Disk { typical, block, reflinks, events: SECOND_HALF, ..Disk::new(random, drives) }
    }

    /// Takes a request: its number, and after how many ns it is to be finished. Panics where a real disk or kernel would be misused.
    pub fn submit(&mut self, who: Who, request: Request) -> (u64, u64) {
        self.events += 1;
        let request = self.drives.placed(request);
        let inode = self.target(who, &request);
        self.check(inode, &request);
        let drive = self.drives.of(request.dir());
        if let Some(made) = self.directories.get(&request.dir()) {
            assert_eq!(made.drive, drive, "looked for on another drive: {request:?}");
        }
        let exposed = self.faulty_drive.is_none_or(|faulty| faulty == drive);
        let fault = self.draw_fault(&request, inode).filter(|_| exposed);
        self.faults_given += fault.is_some() as u64;
        let size = inode.map_or(0, |inode| self.inodes[inode].live.len());
        let number = self.events;
        self.flights.insert(number, Flight { who, request, inode, submitted: number, size, fault, exposed });
        (number, self.random.delay(self.typical))
    }

    /// The open file that a request works on.
    fn target(&self, who: Who, request: &Request) -> Option<usize> {
        use Request::{Close, Fsync, Read, Write};
        match *request {
            Write { file, .. } | Read { file, .. } | Fsync { file } | Close { file } => {
                let inode = self.open.get(&(who, file)).copied();
                // Evidence is given to both halves of a mirror, and one may not be there.
                let unseen = self.dead && matches!(file, FileName::Quarantine { .. });
                assert!(inode.is_some() || unseen, "{file} is not open: {request:?}");
                inode
            }
            _ => None,
        }
    }

    /// The rules of O_DIRECT and of the device's block, and no two writes on the same bytes at once.
    fn check(&self, inode: Option<usize>, request: &Request) {
        let (at, len, unit) = match request {
            // A draft holds nothing yet.
            Request::Write { file: FileName::Preparing { .. }, at, bytes, .. } => (*at, bytes.len() as u64, ALIGNMENT),
            Request::Write { at, bytes, .. } => (*at, bytes.len() as u64, self.block),
            Request::Read { at, len, .. } => (*at, *len as u64, ALIGNMENT),
            _ => return,
        };
        let whole = at.is_multiple_of(unit) && len.is_multiple_of(unit) && len > 0;
        assert!(whole, "not whole blocks: {len} bytes at {at} of {inode:?}");
        if let Request::Write { .. } = request {
            let names = inode.map_or(0, |inode| self.names(inode));
            assert!(names < 2 || self.repairs, "writes at {at} into a file that a snapshot holds: {inode:?}");
            let other = self.writes(inode, at, len).map(|(at, bytes)| (at, bytes.len())).next();
            assert!(other.is_none(), "two writes on the same bytes: {len} bytes at {at}, and {other:?}");
        }
    }

    /// Place and bytes of the writes in flight that touch `len` bytes at `at`.
    pub(super) fn writes(&self, inode: Option<usize>, at: u64, len: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let flights = self.flights.values().filter(move |flight| flight.inode == inode);
        let writes = flights.filter_map(|flight| match &flight.request {
            Request::Write { at, bytes, .. } => Some((*at, bytes.as_slice())),
            _ => None,
        });
        writes.filter(move |(other, bytes)| at < other + bytes.len() as u64 && *other < at + len)
    }

    /// Names that a file has, here and in snapshots that were taken away.
    fn names(&self, inode: usize) -> usize {
        let entries = self.directories.values().flat_map(|directory| directory.entries.values());
        entries.chain(&self.taken).filter(|other| **other == inode).count()
    }

    fn draw_fault(&mut self, request: &Request, inode: Option<usize>) -> Option<Errno> {
        if self.dead {
            return Some(EIO);
        }
        if self.full && self.finds_no_room(request, inode) {
            return Some(ENOSPC);
        }
        let (part, errno) = match request {
            Request::Write { .. } => (self.faults.write_fails, EIO),
            Request::Fsync { .. } => (self.faults.flush_fails, EIO),
            Request::Read { .. } => (self.faults.read_fails, EIO),
            Request::Open { how: OpenHow::Create { .. }, .. } => (self.faults.no_space, ENOSPC),
            _ => (0, EIO),
        };
        (part > 0 && self.random.chance(part)).then_some(errno)
    }

    /// Carries out a request whose time has come.
    pub fn finish(&mut self, number: u64) -> Result<Answer, Errno> {
        let mut flight = self.flights.remove(&number).expect("each request is finished once");
        self.events += 1;
        if let Some(errno) = flight.fault {
            self.fail(flight);
            return Err(errno);
        }
        let inode = flight.inode;
        match std::mem::replace(&mut flight.request, Request::List { dir: DirName::Top }) {
            Request::Open { file, how } => self.finish_open(flight.who, file, how),
            Request::Write { at, bytes, sync, .. } => {
                Ok(self.finish_write(inode.expect("a write has a file"), at, bytes, sync, flight.exposed))
            }
            Request::Read { at, len, .. } => Ok(self.finish_read(inode.expect("a read has a file"), at, len)),
            Request::Fsync { .. } => {
                let inode = inode.expect("a flush has a file");
                let ranges = self.inodes[inode].flush(flight.submitted, flight.size);
                ranges.into_iter().for_each(|(at, len)| self.note_marks(inode, at, len));
                Ok(Answer::default())
            }
            Request::Rename { from, to } => self.finish_rename(flight.who, from, to),
            Request::Unlink { file } => self.finish_unlink(file),
            Request::Close { file } => {
                self.open.remove(&(flight.who, file));
                Ok(Answer::default())
            }
            Request::MakeDir { dir } => {
                let (made, drive) = (self.events, self.drives.of(dir));
                self.directories.entry(dir).or_insert(Directory { drive, made, ..Directory::default() });
                Ok(Answer::default())
            }
            Request::SyncDir { dir } => self.finish_sync_dir(dir, flight.submitted),
            Request::List { dir } => {
                let directory = self.directories.get(&dir).ok_or(ENOENT)?;
                let size = |inode: &usize| self.inodes[*inode].live.len() as u64;
                let files =
                    directory.entries.iter().map(|(file, inode)| (self.drives.shown(*file), size(inode))).collect();
                Ok(Answer { files, ..Answer::default() })
            }
            Request::Link { from, to } => self.finish_link(from, to),
            Request::Clear { dir } => {
                assert!(matches!(dir, DirName::Capture(_)), "{dir:?} is cleared");
                Ok(self.finish_clear(dir))
            }
        }
    }

    /// A failed write may have got somewhere, and a failed flush gives up what it should have covered.
    fn fail(&mut self, flight: Flight) {
        match (flight.request, flight.inode) {
            (Request::Write { at, bytes, .. }, Some(inode)) => {
                let sectors = self.random.index(bytes.len() / SECTOR + 1);
                let done = bytes[..sectors * SECTOR].to_vec();
                if !done.is_empty() {
                    self.inodes[inode].write(at, done, self.events);
                    self.inodes[inode].give_up(self.events + 1);
                }
            }
            (Request::Fsync { .. }, Some(inode)) => self.inodes[inode].give_up(flight.submitted),
            _ => {}
        }
    }

    fn finish_open(&mut self, who: Who, file: FileName, how: OpenHow) -> Result<Answer, Errno> {
        assert!(!self.open.contains_key(&(who, file)), "{file} is opened twice");
        let made = self.events;
        let directory = self.directories.get_mut(&file.dir()).ok_or(ENOENT)?;
        let inode = match (directory.entries.get(&file), how) {
            (Some(inode), OpenHow::Existing) => *inode,
            (None, OpenHow::Existing) => return Err(ENOENT),
            (Some(_), OpenHow::Create { .. }) => return Err(EEXIST),
            (None, OpenHow::Create { size }) => {
                self.inodes.push(Inode::allocated(size));
                let inode = self.inodes.len() - 1;
                directory.entries.insert(file, inode);
                directory.changes.push((made, Change::Add(file, inode)));
                inode
            }
        };
        self.open.insert((who, file), inode);
        Ok(Answer { count: self.names(inode) as u32, ..Answer::default() })
    }

    /// A read of bytes that are being written sees each sector as it was or as it will be.
    fn finish_read(&mut self, inode: usize, at: u64, len: usize) -> Answer {
        let live = &self.inodes[inode].live;
        let start = (at as usize).min(live.len());
        let mut bytes = live[start..live.len().min(start + len)].to_vec();
        let end = at + bytes.len() as u64;
        let mut random = self.random.clone();
        for (place, written) in self.writes(Some(inode), at, bytes.len() as u64) {
            for (sector, new) in written.chunks(SECTOR).enumerate() {
                let to = place + (sector * SECTOR) as u64;
                if to >= at && to + SECTOR as u64 <= end && random.chance(500) {
                    bytes[(to - at) as usize..][..SECTOR].copy_from_slice(new);
                }
            }
        }
        self.random = random;
        Answer { count: bytes.len() as u32, bytes, ..Answer::default() }
    }

    fn finish_write(&mut self, inode: usize, at: u64, bytes: Vec<u8>, sync: Sync, exposed: bool) -> Answer {
        let short = exposed && self.faults.write_short > 0 && self.random.chance(self.faults.write_short);
        let mut done = bytes;
        if short {
            self.faults_given += 1;
            done.truncate(self.random.index(done.len() / SECTOR) * SECTOR);
        }
        let count = done.len();
        match sync {
            Sync::Durable => {
                self.inodes[inode].write_durable(at, &done);
                self.note_marks(inode, at as usize, count);
            }
            Sync::Later if count > 0 => self.inodes[inode].write(at, done, self.events),
            Sync::Later => {}
        }
        Answer { count: count as u32, ..Answer::default() }
    }

    fn finish_rename(&mut self, who: Who, from: FileName, to: FileName) -> Result<Answer, Errno> {
        assert_eq!(from.dir(), to.dir(), "a rename stays in its directory");
        let made = self.events;
        let directory = self.directories.get_mut(&from.dir()).ok_or(ENOENT)?;
        let inode = directory.entries.remove(&from).ok_or(ENOENT)?;
        directory.entries.insert(to, inode);
        directory.changes.push((made, Change::Move(from, to)));
        self.open.remove(&(who, to));
        if let Some(inode) = self.open.remove(&(who, from)) {
            self.open.insert((who, to), inode);
        }
        Ok(Answer::default())
    }

    fn finish_unlink(&mut self, file: FileName) -> Result<Answer, Errno> {
        assert!(!self.is_open(file), "{file} is unlinked while open");
        let made = self.events;
        let directory = self.directories.get_mut(&file.dir()).ok_or(ENOENT)?;
        directory.entries.remove(&file).ok_or(ENOENT)?;
        directory.changes.push((made, Change::Remove(file)));
        Ok(Answer::default())
    }

    fn finish_sync_dir(&mut self, dir: DirName, submitted: u64) -> Result<Answer, Errno> {
        let directory = self.directories.get_mut(&dir).ok_or(ENOENT)?;
        let (covered, rest) =
            std::mem::take(&mut directory.changes).into_iter().partition(|(made, _)| *made < submitted);
        directory.changes = rest;
        let covered: Vec<(u64, Change)> = covered;
        covered.iter().for_each(|(_, change)| change.apply(&mut directory.entries_durable));
        let drive = self.drives.of(dir);
        let is_in = |child: DirName| match child {
            DirName::CaptureCatalog | DirName::CaptureLog(_) => matches!(dir, DirName::Capture(_)),
            _ => matches!(dir, DirName::Top | DirName::Given(_)),
        };
        for (_, child) in self.directories.iter_mut().filter(|(name, child)| child.drive == drive && is_in(**name)) {
            child.durable |= child.made < submitted;
        }
        Ok(Answer::default())
    }

    /// A power cut: what is not durable is there or not, as the dice say; nothing is open or in flight any more.
    pub fn cut(&mut self) {
        self.open.clear();
        self.faults_given = 0;
        let mood = *self.random.pick(&MOODS);
        let flights = std::mem::take(&mut self.flights);
        let mut writes: BTreeMap<usize, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        for flight in flights.into_values() {
            match (flight.request, flight.inode) {
                (Request::Write { at, bytes, .. }, Some(inode)) => writes.entry(inode).or_default().push((at, bytes)),
                (Request::Fsync { .. }, Some(inode)) if self.random.chance(300) => {
                    let ranges = self.inodes[inode].flush(flight.submitted, flight.size);
                    ranges.into_iter().for_each(|(at, len)| self.note_marks(inode, at, len));
                }
                _ => {}
            }
        }
        for (inode, file) in self.inodes.iter_mut().enumerate() {
            file.cut(mood, writes.remove(&inode).unwrap_or_default(), &mut self.random);
        }
        self.cut_names(mood);
        self.note_all_marks();
    }

    /// Notes every record that is stored.
    pub(super) fn note_all_marks(&mut self) {
        self.places.clear();
        let segments: Vec<usize> =
            self.directories.values().flat_map(|directory| directory.entries.values().copied()).collect();
        for inode in segments {
            self.note_marks(inode, 0, self.inodes[inode].durable.len());
        }
    }

    fn cut_names(&mut self, mood: Mood) {
        let random = &mut self.random;
        let keep = |random: &mut Random| match mood {
            Mood::AllLost => false,
            Mood::AllKept => true,
            _ => random.chance(500),
        };
        self.directories.retain(|_, directory| directory.durable || keep(random));
        for directory in self.directories.values_mut() {
            directory.durable = true;
            let mut stale = BTreeSet::new();
            for (_, change) in std::mem::take(&mut directory.changes) {
                if change.names().any(|name| stale.contains(&name)) || !keep(random) {
                    stale.extend(change.names());
                } else {
                    change.apply(&mut directory.entries_durable);
                }
            }
            directory.entries = directory.entries_durable.clone();
        }
    }

    /// Notes where records have become durable in `len` bytes at `at`.
    pub(super) fn note_marks(&mut self, inode: usize, at: usize, len: usize) {
        let durable = &self.inodes[inode].durable[at..at + len];
        for found in memchr::memmem::find_iter(durable, MARK) {
            let digits = durable.get(found + MARK.len()..found + MARKED).and_then(|d| std::str::from_utf8(d).ok());
            if let Some(mark) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                // Also in several: a record that was moved, until its old place is written over.
                let places = self.places.entry(mark).or_default();
                if !places.contains(&(inode, at + found)) {
                    places.push((inode, at + found));
                }
            }
        }
    }

    /// Whether the durable bytes of a segment hold the record `mark`, whose whole data is `data`.
    pub fn holds(&self, mark: u64, data: &[u8]) -> bool {
        let there = |(inode, at): &(usize, usize)| self.inodes[*inode].durable[*at..].starts_with(data);
        self.places.get(&mark).is_some_and(|places| places.iter().any(there))
    }

    /// Flips a bit of a file; false when there is no such file, or no durable byte there.
    pub fn harm(&mut self, file: FileName, byte: u64, bit: u8) -> bool {
        let entries = self.directories.get(&file.dir()).map(|directory| &directory.entries);
        let Some(inode) = entries.and_then(|entries| entries.get(&file)).copied() else { return false };
        if byte as usize / SECTOR * SECTOR + SECTOR > self.inodes[inode].durable.len() {
            return false;
        }
        self.inodes[inode].harm(byte as usize, bit);
        true
    }

    /// Flips a bit near a record that is stored; false when none is.
    pub fn harm_record(&mut self) -> bool {
        let mut marks: Vec<u64> = self.places.keys().copied().collect();
        marks.sort_unstable();
        if marks.is_empty() {
            return false;
        }
        let (inode, at) = *self.places[self.random.pick(&marks)].last().expect("each has a place");
        let byte = (at + self.random.index(MARKED)).saturating_sub(self.random.index(200));
        let bit = self.random.below(8) as u8;
        if (byte / SECTOR + 1) * SECTOR > self.inodes[inode].durable.len() {
            return false;
        }
        self.inodes[inode].harm(byte, bit);
        true
    }

    /// Puts the block of one stored record where another's was, as a misdirected write would; false when there are no two.
    pub fn harm_block(&mut self) -> bool {
        let places = self.places.values().filter_map(|places| places.last());
        let mut blocks: Vec<(usize, usize)> =
            places.map(|(inode, at)| (*inode, at / self.block as usize * self.block as usize)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        if blocks.len() < 2 {
            return false;
        }
        self.random.shuffle(&mut blocks);
        let (((from, at), (to, victim)), block) = ((blocks[0], blocks[1]), self.block as usize);
        let bytes = self.inodes[from].durable[at..at + block].to_vec();
        self.inodes[to].put_harm(victim, bytes);
        true
    }

    /// A sound disk again; `harm`: also what it holds is as it was.
    pub fn heal(&mut self, harm: bool) {
        (self.faults, self.full, self.dead) = (Faults::default(), false, false);
        if harm {
            self.inodes.iter_mut().for_each(Inode::heal);
        }
        self.note_all_marks();
    }

    /// Names and sizes of the files of a directory, as the node sees them.
    pub fn files(&self, dir: DirName) -> Vec<(FileName, u64)> {
        let entries = self.directories.get(&dir).map(|directory| &directory.entries);
        entries.into_iter().flatten().map(|(file, inode)| (*file, self.inodes[*inode].live.len() as u64)).collect()
    }

    /// The bytes of a file, as the node sees them.
    pub fn content(&self, file: FileName) -> Option<&[u8]> {
        let inode = self.directories.get(&file.dir())?.entries.get(&file)?;
        Some(&self.inodes[*inode].live)
    }

    /// The bytes of a file without the harm that is still there.
    pub fn sound(&self, file: FileName) -> Option<Vec<u8>> {
        let inode = self.directories.get(&file.dir())?.entries.get(&file)?;
        Some(self.inodes[*inode].sound())
    }

    /// Whether a drive has logs.
    pub fn has_logs(&self, drive: u8) -> bool {
        self.directories.iter().any(|(dir, directory)| matches!(dir, DirName::Log(_)) && directory.drive == drive)
    }

    /// Whether someone writes to it; one who only reads may lose it.
    pub fn is_open(&self, file: FileName) -> bool {
        self.open.keys().any(|(who, open)| *open == file && !reads_only(*who))
    }
}

impl Change {
    fn names(&self) -> impl Iterator<Item = FileName> {
        let (one, other) = match *self {
            Change::Add(name, _) | Change::Remove(name) => (name, None),
            Change::Move(from, to) => (from, Some(to)),
        };
        std::iter::once(one).chain(other)
    }

    fn apply(&self, entries: &mut BTreeMap<FileName, usize>) {
        match *self {
            Change::Add(name, inode) => {
                entries.insert(name, inode);
            }
            Change::Remove(name) => {
                entries.remove(&name);
            }
            Change::Move(from, to) => {
                let inode = entries.remove(&from).expect("a change is not applied without the ones it stands on");
                entries.insert(to, inode);
            }
        }
    }
}

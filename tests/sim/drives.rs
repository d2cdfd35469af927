//! The drives below the data directories: which of them the node is given in this life, in what order, and where its logs lie.
//!
//! The disk keeps everything under a drive's own number; the node knows drives by their places in its present life.

use super::disk::Request;
use penstock::io::op::{DirName, FileName};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Drives {
    /// The drive at each place of this life; the home, drive 0, first.
    mounts: Vec<u8>,
    /// Where the node says that its logs lie: the drive of each.
    located: BTreeMap<u32, u8>,
}

impl Drives {
    /// A life begins.
    pub fn mount(&mut self, mounts: Vec<u8>) {
        self.mounts = mounts;
        self.located.clear();
    }

    pub fn locate(&mut self, log: u32, given: u8) {
        let drive = self.mounts[given as usize];
        let before = self.located.insert(log, drive);
        assert!(before.is_none_or(|before| before == drive), "log {log} lies on drives {before:?} and {drive}");
    }

    /// The drive that a log lies on; one that has not been located is not on any.
    pub fn of_log(&self, log: u32) -> u8 {
        *self.located.get(&log).unwrap_or_else(|| panic!("log {log} is used before it is located"))
    }

    /// The drive that a directory lies on.
    pub fn of(&self, dir: DirName) -> u8 {
        match dir {
            DirName::Top | DirName::Catalog | DirName::Quarantine | DirName::AboveQuarantine => 0,
            DirName::Log(log) | DirName::Above(log) | DirName::CaptureLog(log) => self.of_log(log),
            DirName::Given(drive) | DirName::Capture(drive) => drive,
            DirName::CaptureCatalog => 0,
        }
    }

    /// The place of a drive in this life.
    pub fn place(&self, drive: u8) -> u8 {
        let place = self.mounts.iter().position(|mounted| *mounted == drive);
        place.unwrap_or_else(|| panic!("drive {drive} is not given to this life")) as u8
    }

    fn dir(&self, dir: DirName) -> DirName {
        match dir {
            DirName::Above(log) if self.of_log(log) == 0 => DirName::Top,
            DirName::AboveQuarantine => DirName::Top,
            DirName::Above(log) => DirName::Given(self.of_log(log)),
            DirName::Given(given) => DirName::Given(self.mounts[given as usize]),
            DirName::Capture(given) => DirName::Capture(self.mounts[given as usize]),
            other => other,
        }
    }

    fn file(&self, file: FileName) -> FileName {
        match file {
            FileName::Identity { given } => FileName::Identity { given: self.mounts[given as usize] },
            FileName::IdentityDraft { given } => FileName::IdentityDraft { given: self.mounts[given as usize] },
            FileName::Mark { given } => FileName::Mark { given: self.mounts[given as usize] },
            other => other,
        }
    }

    /// The node's name of a file that is kept under its drive's number.
    pub fn shown(&self, file: FileName) -> FileName {
        match file {
            FileName::Identity { given } => FileName::Identity { given: self.place(given) },
            FileName::IdentityDraft { given } => FileName::IdentityDraft { given: self.place(given) },
            FileName::Mark { given } => FileName::Mark { given: self.place(given) },
            other => other,
        }
    }

    /// A request of the node's with drives' own numbers.
    pub fn placed(&self, request: Request) -> Request {
        match request {
            Request::Open { file, how } => Request::Open { file: self.file(file), how },
            Request::Write { file, at, bytes, sync } => Request::Write { file: self.file(file), at, bytes, sync },
            Request::Read { file, at, len } => Request::Read { file: self.file(file), at, len },
            Request::Fsync { file } => Request::Fsync { file: self.file(file) },
            Request::Rename { from, to } => Request::Rename { from: self.file(from), to: self.file(to) },
            Request::Unlink { file } => Request::Unlink { file: self.file(file) },
            Request::Close { file } => Request::Close { file: self.file(file) },
            Request::MakeDir { dir } => Request::MakeDir { dir: self.dir(dir) },
            Request::SyncDir { dir } => Request::SyncDir { dir: self.dir(dir) },
            Request::List { dir } => Request::List { dir: self.dir(dir) },
            Request::Link { from, to } => Request::Link { from, to },
            Request::Clear { dir } => Request::Clear { dir: self.dir(dir) },
        }
    }
}

impl Request {
    /// The directory that it is about.
    pub fn dir(&self) -> DirName {
        match *self {
            Request::Open { file, .. }
            | Request::Write { file, .. }
            | Request::Read { file, .. }
            | Request::Fsync { file }
            | Request::Unlink { file }
            | Request::Close { file }
            | Request::Rename { from: file, .. } => file.dir(),
            Request::Link { to, .. } => to.dir(),
            Request::MakeDir { dir } | Request::SyncDir { dir } | Request::List { dir } | Request::Clear { dir } => dir,
        }
    }
}

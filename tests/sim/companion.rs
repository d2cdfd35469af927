//! The actor that prepares segments for the node: zeros in steps under a draft's name, flush, rename, sync of the directory. A power cut
//! may come between any two.

use super::disk::{Disk, Request, Who};
use penstock::io::op::{Errno, FileName, OpenHow, Sync, Token};

/// Zeros written by one step.
const STEP: u64 = 32 << 10;

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub worker: u16,
    pub token: Token,
    log: u32,
    index: u32,
    size: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An unfinished draft of an earlier life goes away.
    Unlink,
    Create,
    Zeros {
        at: u64,
    },
    Flush,
    Rename,
    SyncDir,
    Close {
        result: Result<(), Errno>,
    },
}

/// What comes after a step.
pub enum Next {
    Step(Job, u64, u64),
    Done { worker: u16, token: Token, result: Result<u32, Errno> },
}

/// The companion of a worker is told apart from it on the disk.
fn who(worker: u16) -> Who {
    1000 + worker
}

impl Job {
    pub fn new(worker: u16, log: u32, index: u32, size: u64, token: Token) -> Job {
        Job { worker, token, log, index, size, stage: Stage::Unlink }
    }

    fn draft(&self) -> FileName {
        FileName::Preparing { log: self.log, index: self.index }
    }

    /// Submits the present stage's request.
    pub fn begin(self, disk: &mut Disk) -> Next {
        let segment = FileName::Segment { log: self.log, index: self.index };
        let request = match self.stage {
            Stage::Unlink => Request::Unlink { file: self.draft() },
            Stage::Create => Request::Open { file: self.draft(), how: OpenHow::Create { size: self.size } },
            Stage::Zeros { at } => {
                let bytes = vec![0; STEP.min(self.size - at) as usize];
                Request::Write { file: self.draft(), at, bytes, sync: Sync::Later }
            }
            Stage::Flush => Request::Fsync { file: self.draft() },
            Stage::Rename => {
                assert!(!disk.is_open(segment), "{segment} is prepared anew while it is in use");
                Request::Rename { from: self.draft(), to: segment }
            }
            Stage::SyncDir => Request::SyncDir { dir: segment.dir() },
            Stage::Close { result: Ok(()) } => Request::Close { file: segment },
            Stage::Close { .. } => Request::Close { file: self.draft() },
        };
        let (number, delay) = disk.submit(who(self.worker), request);
        Next::Step(self, number, delay)
    }

    /// The request of the present stage is done.
    pub fn go_on(mut self, disk: &mut Disk, number: u64) -> Next {
        let result = disk.finish(number).map(|answer| answer.count as u64);
        let failed = |errno| Stage::Close { result: Err(errno) };
        self.stage = match (self.stage, result) {
            (Stage::Unlink, _) => Stage::Create,
            (Stage::Create, Ok(_)) => Stage::Zeros { at: 0 },
            (Stage::Create, Err(errno)) => return self.done(Err(errno)),
            (Stage::Zeros { at }, Ok(count)) if count < STEP.min(self.size - at) => failed(super::disk::EIO),
            (Stage::Zeros { at }, Ok(count)) if at + count < self.size => Stage::Zeros { at: at + count },
            (Stage::Zeros { .. }, Ok(_)) => Stage::Flush,
            (Stage::Flush, Ok(_)) => Stage::Rename,
            (Stage::Rename, Ok(_)) => Stage::SyncDir,
            (Stage::SyncDir, Ok(_)) => Stage::Close { result: Ok(()) },
            (Stage::Close { result }, _) => return self.done(result),
            (_, Err(errno)) => failed(errno),
        };
        self.begin(disk)
    }

    fn done(self, result: Result<(), Errno>) -> Next {
        Next::Done { worker: self.worker, token: self.token, result: result.map(|()| 0) }
    }
}

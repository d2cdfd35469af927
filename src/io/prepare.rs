//! Preparing segments: written full of zeros before their first use, as writes into such space are 2 to 3 times faster than into fresh or
//! merely allocated space. A companion does it; a ring without one does it itself, one write of 1 MiB at a time, between everything else.

use super::companion;
use super::files::path_of;
use super::flight::Flight;
use super::op::{Errno, FileName, Token};
use super::uring::{Ring, again, opened, outcome};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes of one write: short enough that a commit behind it does not wait long.
pub const STEP: u32 = 1 << 20;

/// A segment wanted: file `index` of log `log`, of `size` bytes. `given`: the data directory that it lies in, by its place among the first
/// halves, then the second ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub given: u8,
    pub log: u32,
    pub index: u32,
    pub size: u64,
    pub token: Token,
}

impl Request {
    pub fn draft(&self) -> FileName {
        FileName::Preparing { log: self.log, index: self.index }
    }
    pub fn segment(&self) -> FileName {
        FileName::Segment { log: self.log, index: self.index }
    }
}

/// What completes next.
enum Stage {
    Open,
    Allocate,
    Write { at: u64 },
    Flush,
    Rename,
    SyncDir,
}

struct Job {
    request: Request,
    stage: Stage,
    fd: Option<OwnedFd>,
    draft: CString,
    segment: CString,
}

#[derive(Default)]
pub(super) struct Preparing {
    /// To be done by the ring, one after the other.
    waiting: VecDeque<Request>,
    job: Option<Job>,
    /// One step's worth; made when first needed.
    zeros: Vec<Page>,
}

impl Ring {
    pub(super) fn prepare(&mut self, log: u32, index: u32, size: u64, token: Token) -> io::Result<()> {
        let request = Request { given: self.files.place_of(log, token.half()), log, index, size, token };
        match self.ask_companion(companion::Request::Prepare(request)) {
            true => Ok(()),
            false => self.prepare_itself(request),
        }
    }

    /// What no companion does.
    pub(super) fn prepare_itself(&mut self, request: Request) -> io::Result<()> {
        self.preparing.waiting.push_back(request);
        self.prepare_next()
    }

    fn prepare_next(&mut self) -> io::Result<()> {
        if self.preparing.job.is_some() {
            return Ok(());
        }
        let Some(request) = self.preparing.waiting.pop_front() else { return Ok(()) };
        let (draft, segment) = (path_of(&request.draft()), path_of(&request.segment()));
        // A draft that a crash has left is written anew.
        let half = request.token.half();
        match self.open_entry(request.segment().dir(), half, &draft, libc::O_CREAT | libc::O_TRUNC) {
            Ok(entry) => {
                self.preparing.job = Some(Job { request, stage: Stage::Open, fd: None, draft, segment });
                self.launch(entry, Flight::Prepare)
            }
            Err(errno) => {
                self.answer(request.token, Err(errno))?;
                self.prepare_next()
            }
        }
    }

    /// One step has completed: the next one, or the answer.
    pub(super) fn prepared_step(&mut self, result: i32) -> io::Result<()> {
        let Some(mut job) = self.preparing.job.take() else { return Ok(()) };
        let next = match self.next_stage(&mut job, result) {
            Ok(Some(stage)) => self.stage_entry(&job, &stage).map(|entry| Some((stage, entry))),
            Ok(None) => Ok(None),
            Err(errno) => Err(errno),
        };
        let request = job.request;
        let result = match next {
            Ok(Some((stage, entry))) => {
                job.stage = stage;
                self.preparing.job = Some(job);
                return self.launch(entry, Flight::Prepare);
            }
            Ok(None) => Ok(0),
            Err(errno) => {
                self.files.discard(request.draft(), request.token.half());
                Err(errno)
            }
        };
        self.answer(request.token, result)?;
        self.prepare_next()
    }

    /// What comes after the stage that ended with `result`; `None` when all is done.
    fn next_stage(&mut self, job: &mut Job, result: i32) -> Result<Option<Stage>, Errno> {
        if let Stage::Write { at } = job.stage
            && again(result)
        {
            return Ok(Some(Stage::Write { at }));
        }
        if let (Stage::Allocate, Some(fd)) = (&job.stage, &job.fd) {
            self.allocated(fd, job.request.size, result)?;
            return Ok(Some(Stage::Write { at: 0 }));
        }
        let value = outcome(result)?;
        Ok(match job.stage {
            Stage::Open => {
                job.fd = Some(opened(value));
                Some(Stage::Allocate)
            }
            Stage::Write { .. } if value == 0 => return Err(Errno(libc::EIO)),
            Stage::Write { at } if at + (value as u64) < job.request.size => {
                Some(Stage::Write { at: at + value as u64 })
            }
            Stage::Write { .. } => Some(Stage::Flush),
            Stage::Flush => Some(Stage::Rename),
            Stage::Rename => Some(Stage::SyncDir),
            Stage::Allocate | Stage::SyncDir => None,
        })
    }

    fn stage_entry(&mut self, job: &Job, stage: &Stage) -> Result<squeue::Entry, Errno> {
        let fd = Fd(job.fd.as_ref().ok_or(Errno(libc::EBADF))?.as_raw_fd());
        let dir = job.request.segment().dir();
        let half = job.request.token.half();
        let top = self.files.top(dir, half)?;
        Ok(match *stage {
            Stage::Open => self.open_entry(dir, half, &job.draft, libc::O_CREAT | libc::O_TRUNC)?,
            Stage::Allocate => opcode::Fallocate::new(fd, job.request.size).build(),
            Stage::Write { at } => {
                let zeros = &mut self.preparing.zeros;
                zeros.resize(STEP as usize / size_of::<Page>(), Page([0; 4096]));
                let len = (job.request.size - at).min(STEP as u64) as u32;
                opcode::Write::new(fd, zeros[0].0.as_ptr(), len).offset(at).build()
            }
            Stage::Flush => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
            Stage::Rename => opcode::RenameAt::new(top, job.draft.as_ptr(), top, job.segment.as_ptr()).build(),
            Stage::SyncDir => opcode::Fsync::new(Fd(self.files.dir(dir, half)?)).build(),
        })
    }
}

/// Zeros, aligned for `O_DIRECT`.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

//! The files of data directories that no server has: the operations of a start are carried out without changing anything. What would be
//! written, made or removed is answered as if it had been; reads see what is there.

use super::buffers::Buffers;
use super::files::{errno, list};
use super::op::{Completion, DirName, Errno, FileName, Op, OpenHow, Token};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Directories at rest.
pub struct Still {
    /// The data directories, the home first.
    data: Vec<PathBuf>,
    /// Which of them each log lies in.
    logs: Vec<usize>,
    open: BTreeMap<FileName, File>,
}

impl Still {
    /// `data`: the data directories, the home first; `logs`: which of them each log lies in, by its number.
    pub fn new(data: Vec<PathBuf>, logs: Vec<usize>) -> Still {
        Still { data, logs, open: BTreeMap::new() }
    }

    /// The data directory that what is in `dir` lies in.
    pub fn top(&self, dir: DirName) -> &Path {
        let at = match dir {
            DirName::Log(log) | DirName::Above(log) | DirName::CaptureLog(log) => self.logs.get(log as usize).copied(),
            DirName::Given(given) | DirName::Capture(given) => Some(given as usize),
            DirName::Top
            | DirName::Catalog
            | DirName::Quarantine
            | DirName::AboveQuarantine
            | DirName::CaptureCatalog => None,
        };
        &self.data[at.unwrap_or(0)]
    }

    /// Carries out a file operation at once. `None`: it is none.
    pub fn carry(&mut self, op: &Op, buffers: &mut Buffers) -> Option<Completion> {
        let done = |token: Token, result| Some(Completion::Done { token, result });
        match *op {
            Op::List { dir, token } => {
                Some(Completion::Listed { token, result: list(&self.top(dir).join(dir.to_string()), dir) })
            }
            Op::Open { file, how: OpenHow::Existing, token } => {
                let opened = File::open(self.top(file.dir()).join(file.to_string())).map_err(errno);
                done(token, opened.map(|open| self.open.insert(file, open)).map(|_| 1))
            }
            Op::ReadAt { file, at, into, token } => {
                let bytes = buffers.bytes_mut(into);
                let read = self.open.get(&file).ok_or(Errno(libc::EBADF)).and_then(|file| read_at(file, at, bytes));
                done(token, read)
            }
            Op::CloseFile { file, token } => {
                self.open.remove(&file);
                done(token, Ok(0))
            }
            Op::WriteAt { from, token, .. } => done(token, Ok(from.len)),
            Op::Clear { token, .. }
            | Op::Fsync { token, .. }
            | Op::Link { token, .. }
            | Op::MakeDir { token, .. }
            | Op::Open { token, .. }
            | Op::Prepare { token, .. }
            | Op::Rename { token, .. }
            | Op::SyncDir { token, .. }
            | Op::Unlink { token, .. } => done(token, Ok(0)),
            Op::Accept
            | Op::Close { .. }
            | Op::Connect { .. }
            | Op::Locate { .. }
            | Op::Recv { .. }
            | Op::RecvAll { .. }
            | Op::Scrub { .. }
            | Op::Send { .. }
            | Op::Wake { .. } => None,
        }
    }
}

/// Fills `bytes`, less only at the end of the file.
fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> Result<u32, Errno> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(got as u32)
}

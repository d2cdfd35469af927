//! The files of a data directory that no server has: the operations of a start are carried out without changing anything. What would be
//! written, made or removed is answered as if it had been; reads see what is there.

use super::buffers::Buffers;
use super::files::{errno, list};
use super::op::{Completion, Errno, FileName, Op, OpenHow, Token};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A directory at rest.
pub struct Still {
    data: PathBuf,
    open: BTreeMap<FileName, File>,
}

impl Still {
    pub fn new(data: &Path) -> Still {
        Still { data: data.to_path_buf(), open: BTreeMap::new() }
    }

    /// Carries out a file operation at once. `None`: it is none.
    pub fn carry(&mut self, op: &Op, buffers: &mut Buffers) -> Option<Completion> {
        let done = |token: Token, result| Some(Completion::Done { token, result });
        match *op {
            Op::List { dir, token } => {
                Some(Completion::Listed { token, result: list(&self.data.join(dir.to_string()), dir) })
            }
            Op::Open { file, how: OpenHow::Existing, token } => {
                let opened = File::open(self.data.join(file.to_string())).map_err(errno);
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
            | Op::Locate { .. }
            | Op::Recv { .. }
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

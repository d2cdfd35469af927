//! Files of the data directories: opened by name with `O_DIRECT`, read and written at whole blocks.

use super::flight::{Flight, Transfer, TransferKind};
use super::op::{Completion, Completions, DirName, Errno, FileName, Op, OpenHow, Sync, Token};
use super::uring::{Ring, TRIES_MAX, again, opened, outcome};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Readable by the owner alone: records may be secrets.
const FILE_MODE: libc::mode_t = 0o600;
const DIR_MODE: libc::mode_t = 0o700;
/// Smallest unit of `O_DIRECT`: a count that is not whole ends the file.
const SECTOR: u32 = 512;

pub(super) struct Files {
    /// The data directories in the order of this start, the home first; each with the second half of its mirror, if it has one. A half
    /// whose drive is missing is not there.
    given: Vec<[Option<(PathBuf, OwnedFd)>; 2]>,
    /// Which of them a log lies in; one that is not listed lies in the home.
    located: BTreeMap<u32, u8>,
    open: BTreeMap<(FileName, usize), OwnedFd>,
    /// Kept open, as directories are synced again and again.
    dirs: BTreeMap<(DirName, usize), OwnedFd>,
}

impl Files {
    /// `data`: the first halves, then as many second ones, or none. Where there are two, one may be missing.
    pub fn new(data: &[PathBuf], count: usize) -> io::Result<Files> {
        let open = |path: &PathBuf| Ok((path.clone(), OwnedFd::from(File::open(path)?)));
        let pair = |place: usize| match data.get(count + place) {
            None => Ok([Some(open(&data[place])?), None]),
            Some(second) => match [open(&data[place]), open(second)] {
                [Err(error), Err(_)] => Err(error),
                halves => Ok(halves.map(Result::ok)),
            },
        };
        let given = (0..count).map(pair).collect::<io::Result<Vec<_>>>()?;
        Ok(Files { given, located: BTreeMap::new(), open: BTreeMap::new(), dirs: BTreeMap::new() })
    }

    pub fn locate(&mut self, log: u32, given: u8) {
        debug_assert!((given as usize) < self.given.len(), "log {log} is in a directory that was not given");
        self.located.insert(log, given);
    }

    /// Which data directory a log lies in.
    pub fn given(&self, log: u32) -> u8 {
        self.located.get(&log).copied().unwrap_or(0)
    }

    /// The place of a log's directory among all that a companion is given: first halves, then second ones.
    pub fn place_of(&self, log: u32, half: usize) -> u8 {
        self.given(log) + (half * self.given.len()) as u8
    }

    fn place(&self, dir: DirName, half: usize) -> Result<&(PathBuf, OwnedFd), Errno> {
        let given = match dir {
            DirName::Top | DirName::Catalog | DirName::Quarantine | DirName::AboveQuarantine => 0,
            DirName::Log(log) | DirName::Above(log) | DirName::CaptureLog(log) => self.given(log),
            DirName::Given(given) | DirName::Capture(given) => given,
            DirName::CaptureCatalog => 0,
        };
        self.given[given as usize][half].as_ref().ok_or(Errno(libc::ENODEV))
    }

    /// The data directory that paths of files in `dir` begin at.
    pub fn top(&self, dir: DirName, half: usize) -> Result<Fd, Errno> {
        Ok(Fd(self.place(dir, half)?.1.as_raw_fd()))
    }

    /// The data directory that names of files in `dir` begin at.
    pub fn top_path(&self, dir: DirName, half: usize) -> Result<&Path, Errno> {
        Ok(&self.place(dir, half)?.0)
    }

    /// The directory itself.
    pub fn path(&self, dir: DirName, half: usize) -> Result<PathBuf, Errno> {
        Ok(self.place(dir, half)?.0.join(dir.to_string()))
    }

    fn fd(&self, file: FileName, token: Token) -> Option<RawFd> {
        self.open.get(&(file, token.half())).map(AsRawFd::as_raw_fd)
    }

    pub fn dir(&mut self, dir: DirName, half: usize) -> Result<RawFd, Errno> {
        if let Some(fd) = self.dirs.get(&(dir, half)) {
            return Ok(fd.as_raw_fd());
        }
        let opened = File::open(self.path(dir, half)?).map_err(errno)?;
        let fd = opened.as_raw_fd();
        self.dirs.insert((dir, half), opened.into());
        Ok(fd)
    }

    /// The directories of captures are about to be others.
    pub fn forget_capture(&mut self) {
        self.dirs.retain(|(dir, _), _| {
            !matches!(dir, DirName::Capture(_) | DirName::CaptureCatalog | DirName::CaptureLog(_))
        });
    }

    /// Removes what a failed creation has left; a failure is told by the next attempt to create it.
    pub fn discard(&self, file: FileName, half: usize) {
        if let Ok((top, _)) = self.place(file.dir(), half) {
            let _ = std::fs::remove_file(top.join(file.to_string()));
        }
    }
}

impl Ring {
    pub(super) fn carry_file(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Open { file, how, token } => self.open(file, how, token),
            Op::WriteAt { file, at, from, sync, token } => {
                let kind = TransferKind::Write { durable: sync == Sync::Durable };
                let Some(fd) = self.files.fd(file, token) else { return self.not_open(token) };
                self.transfer(Transfer { fd, token, span: from, at, moved: 0, kind, tries: 0 })
            }
            Op::ReadAt { file, at, into, token } => {
                let Some(fd) = self.files.fd(file, token) else { return self.not_open(token) };
                self.transfer(Transfer { fd, token, span: into, at, moved: 0, kind: TransferKind::Read, tries: 0 })
            }
            Op::Fsync { file, token } => {
                let Some(fd) = self.files.fd(file, token) else { return self.not_open(token) };
                let entry = opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build();
                self.launch(entry, Flight::Plain { token, path: None })
            }
            Op::Rename { from, to, token } => {
                let (old, new) = (path_of(&from), path_of(&to));
                let half = token.half();
                let tops = self.files.top(from.dir(), half).and_then(|top| Ok((top, self.files.top(to.dir(), half)?)));
                let (source, target) = match tops {
                    Ok(tops) => tops,
                    Err(errno) => return self.answer(token, Err(errno)),
                };
                let entry = opcode::RenameAt::new(source, old.as_ptr(), target, new.as_ptr()).build();
                self.launch(entry, Flight::Rename { from, to, token, paths: (old, new) })
            }
            Op::Unlink { file, token } => {
                debug_assert!(self.files.fd(file, token).is_none(), "{file} is open");
                let path = path_of(&file);
                let top = match self.files.top(file.dir(), token.half()) {
                    Ok(top) => top,
                    Err(errno) => return self.answer(token, Err(errno)),
                };
                let entry = opcode::UnlinkAt::new(top, path.as_ptr()).build();
                self.launch(entry, Flight::Plain { token, path: Some(path) })
            }
            Op::CloseFile { file, token } => {
                let Some(fd) = self.files.open.remove(&(file, token.half())) else { return self.not_open(token) };
                let entry = opcode::Close::new(Fd(fd.into_raw_fd())).build();
                self.launch(entry, Flight::Plain { token, path: None })
            }
            Op::MakeDir { dir, token } => {
                let path = path_of(&dir);
                let top = match self.files.top(dir, token.half()) {
                    Ok(top) => top,
                    Err(errno) => return self.answer(token, Err(errno)),
                };
                let entry = opcode::MkDirAt::new(top, path.as_ptr()).mode(DIR_MODE).build();
                self.launch(entry, Flight::MakeDir { token, path })
            }
            Op::SyncDir { dir, token } => match self.files.dir(dir, token.half()) {
                Ok(fd) => self.launch(opcode::Fsync::new(Fd(fd)).build(), Flight::Plain { token, path: None }),
                Err(errno) => self.answer(token, Err(errno)),
            },
            other => unreachable!("not an operation on files: {other:?}"),
        }
    }

    fn open(&mut self, file: FileName, how: OpenHow, token: Token) -> io::Result<()> {
        let (size, create) = match how {
            OpenHow::Existing => (0, 0),
            OpenHow::Create { size } => (size, libc::O_CREAT | libc::O_EXCL),
        };
        let path = path_of(&file);
        match self.open_entry(file.dir(), token.half(), &path, create) {
            Ok(entry) => self.launch(entry, Flight::Open { file, flags: create, size, token, path }),
            Err(errno) => self.answer(token, Err(errno)),
        }
    }

    pub(super) fn open_entry(
        &self,
        dir: DirName,
        half: usize,
        path: &CString,
        flags: i32,
    ) -> Result<squeue::Entry, Errno> {
        let flags = flags | libc::O_RDWR | libc::O_DIRECT | libc::O_CLOEXEC;
        let top = self.files.top(dir, half)?;
        Ok(opcode::OpenAt::new(top, path.as_ptr()).flags(flags).mode(FILE_MODE).build())
    }

    /// Reads or writes what is left of `transfer`.
    fn transfer(&mut self, transfer: Transfer) -> io::Result<()> {
        let Transfer { span, moved, .. } = transfer;
        let left = span.part(moved, span.len - moved);
        let (fd, address, at) = (Fd(transfer.fd), self.address(left), transfer.at + moved as u64);
        let entry = match transfer.kind {
            TransferKind::Read => opcode::Read::new(fd, address, left.len).offset(at).build(),
            TransferKind::Write { durable } => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                if self.is_registered(left) {
                    opcode::WriteFixed::new(fd, address, left.len, 0).offset(at).rw_flags(flags).build()
                } else {
                    opcode::Write::new(fd, address, left.len).offset(at).rw_flags(flags).build()
                }
            }
        };
        self.launch(entry, Flight::Transfer(transfer))
    }

    fn transferred(&mut self, mut transfer: Transfer, result: i32, done: &mut Completions) -> io::Result<()> {
        let token = transfer.token;
        let result = match outcome(result) {
            Err(_) if again(result) && transfer.tries < TRIES_MAX => {
                transfer.tries += 1;
                return self.transfer(transfer);
            }
            Err(errno) => Err(errno),
            Ok(moved) => {
                transfer.moved += moved;
                let whole = transfer.moved == transfer.span.len;
                match transfer.kind {
                    _ if whole => Ok(transfer.moved),
                    // Nothing could be written, yet nothing was said: not to be tried for ever.
                    TransferKind::Write { .. } if moved == 0 => Err(Errno(libc::EIO)),
                    TransferKind::Read if moved == 0 || !moved.is_multiple_of(SECTOR) => Ok(transfer.moved),
                    _ => return self.transfer(transfer),
                }
            }
        };
        done.push(Completion::Done { token, result });
        Ok(())
    }

    pub(super) fn land_file(&mut self, flight: Flight, result: i32, done: &mut Completions) -> io::Result<()> {
        let (token, result) = match flight {
            Flight::Transfer(transfer) => return self.transferred(transfer, result, done),
            open @ Flight::Open { .. } => return self.opened(open, result, done),
            Flight::Allocate { file, fd, size, token } => match self.allocated(&fd, size, result) {
                Ok(()) => {
                    self.files.open.insert((file, token.half()), fd);
                    (token, Ok(1))
                }
                Err(errno) => {
                    self.files.discard(file, token.half());
                    (token, Err(errno))
                }
            },
            Flight::MakeDir { token, .. } if result == -libc::EEXIST => (token, Ok(0)),
            Flight::MakeDir { token, .. } | Flight::Plain { token, .. } => (token, outcome(result).map(|_| 0)),
            Flight::Rename { from, to, token, .. } => {
                if result >= 0 {
                    self.renamed(from, to, token.half());
                }
                (token, outcome(result).map(|_| 0))
            }
            _ => unreachable!("not an operation on files"),
        };
        done.push(Completion::Done { token, result });
        Ok(())
    }

    fn opened(&mut self, flight: Flight, result: i32, done: &mut Completions) -> io::Result<()> {
        let Flight::Open { file, flags, size, token, path } = flight else { unreachable!("not an open") };
        if again(result) {
            return match self.open_entry(file.dir(), token.half(), &path, flags) {
                Ok(entry) => self.launch(entry, Flight::Open { file, flags, size, token, path }),
                Err(errno) => self.answer(token, Err(errno)),
            };
        }
        let result = match outcome(result) {
            Err(errno) => Err(errno),
            Ok(fd) => {
                let fd = opened(fd);
                if size > 0 {
                    let entry = opcode::Fallocate::new(Fd(fd.as_raw_fd()), size).build();
                    return self.launch(entry, Flight::Allocate { file, fd, size, token });
                }
                let file_of_it = File::from(fd);
                let links = file_of_it.metadata().map_err(errno).map(|metadata| metadata.nlink() as u32);
                if links.is_ok() {
                    self.files.open.insert((file, token.half()), file_of_it.into());
                }
                links
            }
        };
        done.push(Completion::Done { token, result });
        Ok(())
    }

    /// A file system that cannot allocate gets a file of the right length with nothing in it.
    pub(super) fn allocated(&self, fd: &OwnedFd, size: u64, result: i32) -> Result<(), Errno> {
        if result != -libc::EOPNOTSUPP {
            return outcome(result).map(|_| ());
        }
        let grown = fd.try_clone().and_then(|fd| File::from(fd).set_len(size));
        grown.map_err(errno)
    }

    fn renamed(&mut self, from: FileName, to: FileName, half: usize) {
        self.files.open.remove(&(to, half));
        if let Some(fd) = self.files.open.remove(&(from, half)) {
            self.files.open.insert((to, half), fd);
        }
    }

    fn not_open(&mut self, token: Token) -> io::Result<()> {
        self.answer(token, Err(Errno(libc::EBADF)))
    }

    pub(super) fn answer(&mut self, token: Token, result: Result<u32, Errno>) -> io::Result<()> {
        self.early.push(Completion::Done { token, result });
        Ok(())
    }
}

/// Names and sizes of the files of directory `dir`, which lies at `path`; entries that are not ours are passed over.
pub(super) fn list(path: &Path, dir: DirName) -> Result<Vec<(FileName, u64)>, Errno> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let name = entry.file_name();
        if let Some(file) = name.to_str().and_then(|name| FileName::parse(dir, name)) {
            found.push((file, entry.metadata().map_err(errno)?.len()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn path_of(name: &dyn std::fmt::Display) -> CString {
    CString::new(name.to_string()).expect("names of ours have no zero byte")
}

pub(super) fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

//! Second names for segments, and the removal of what an earlier snapshot has left: reflinks and the removal of trees have no io_uring
//! opcode, and on another file system a segment is copied. A thread of its own does it, started with the first one asked for; it ends with
//! the ring.

use super::files::errno;
use super::op::{Completion, DirName, Errno, FileName, Linked, Token};
use super::process::{lower_priority, reflink};
use super::uring::Ring;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Readable by the owner alone: records may be secrets.
const FILE_MODE: u32 = 0o600;

enum Job {
    Link { from: PathBuf, to: PathBuf },
    Clear { dir: PathBuf },
}

type Asked = (Job, Token);
type Answer = (Token, Result<u32, Errno>);

/// The thread, once there is one, and how many answers it owes.
#[derive(Default)]
pub(super) struct Linking {
    thread: Option<(Sender<Asked>, Receiver<Answer>)>,
    owed: usize,
}

impl Ring {
    pub(super) fn link(&mut self, from: FileName, to: FileName, token: Token) -> io::Result<()> {
        let half = token.half();
        let path = |file: FileName| Ok(self.files.top_path(file.dir(), half)?.join(file.to_string()));
        match path(from).and_then(|from| Ok((from, path(to)?))) {
            Ok((from, to)) => self.hand_over(Job::Link { from, to }, token),
            Err(errno) => self.answer(token, Err(errno)),
        }
    }

    pub(super) fn clear(&mut self, dir: DirName, token: Token) -> io::Result<()> {
        self.files.forget_capture();
        match self.files.path(dir, token.half()) {
            Ok(dir) => self.hand_over(Job::Clear { dir }, token),
            Err(errno) => self.answer(token, Err(errno)),
        }
    }

    fn hand_over(&mut self, job: Job, token: Token) -> io::Result<()> {
        if self.linking.thread.is_none() {
            match self.start_linker() {
                Ok(thread) => self.linking.thread = Some(thread),
                Err(error) => return self.answer(token, Err(errno(error))),
            }
        }
        let (asking, _) = self.linking.thread.as_ref().expect("started above if there was none");
        if asking.send((job, token)).is_err() {
            self.linking.thread = None;
            return self.answer(token, Err(Errno(libc::ESRCH)));
        }
        self.linking.owed += 1;
        Ok(())
    }

    fn start_linker(&self) -> io::Result<(Sender<Asked>, Receiver<Answer>)> {
        let (asking, asked) = channel::<Asked>();
        let (answering, answers) = channel();
        let (peers, worker) = (self.peers.clone(), self.worker);
        let serve = move || {
            lower_priority();
            for (job, token) in asked {
                let result = carry_out(&job).map_err(errno);
                if answering.send((token, result)).is_err() {
                    return;
                }
                peers.peer(worker).wake();
            }
        };
        std::thread::Builder::new().name(format!("linker-{worker}")).spawn(serve)?;
        Ok((asking, answers))
    }

    /// Takes what the thread has done.
    pub(super) fn hear_linker(&mut self) {
        while self.linking.owed > 0
            && let Some((_, answers)) = &self.linking.thread
            && let Ok((token, result)) = answers.try_recv()
        {
            self.linking.owed -= 1;
            self.early.push(Completion::Done { token, result });
        }
    }
}

fn carry_out(job: &Job) -> io::Result<u32> {
    match job {
        Job::Link { from, to } => second_name(from, to).map(|linked| linked as u32),
        Job::Clear { dir } => remove_tree(dir).map(|()| 0),
    }
}

/// Gives `from` the second name `to`, by the cheapest way there is; what `to` names is durable then, its entry is not.
pub fn second_name(from: &Path, to: &Path) -> io::Result<Linked> {
    let source = File::open(from)?;
    if let Some(target) = share_extents(&source, to)? {
        target.sync_data()?;
        return Ok(Linked::Reflink);
    }
    match std::fs::hard_link(from, to) {
        Ok(()) => {
            // The footer of a segment is written without a promise.
            source.sync_data()?;
            Ok(Linked::Hard)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::StorageFull) => Err(error),
        Err(_) => copy(&source, to).map(|()| Linked::Copied),
    }
}

/// A file of its own with the content of `from`: a reflink or a copy, durable but for its entry.
pub fn duplicate(from: &Path, to: &Path) -> io::Result<Linked> {
    let source = File::open(from)?;
    if let Some(target) = share_extents(&source, to)? {
        target.sync_all()?;
        return Ok(Linked::Reflink);
    }
    copy(&source, to).map(|()| Linked::Copied)
}

fn create(to: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)
}

/// A reflink of `source`; `None`, and nothing left, where that cannot be.
fn share_extents(source: &File, to: &Path) -> io::Result<Option<File>> {
    let target = create(to)?;
    if reflink(source, &target).is_ok() {
        return Ok(Some(target));
    }
    std::fs::remove_file(to)?;
    Ok(None)
}

fn copy(mut source: &File, to: &Path) -> io::Result<()> {
    let mut target = create(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    if copied.is_err() {
        // A failure to remove is told by the next attempt to create.
        let _ = std::fs::remove_file(to);
    }
    copied
}

/// Removes a directory: its own files first, durably, so that what says that it is whole goes before what it says it of.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let entries: Vec<(PathBuf, bool)> = entries
        .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir()))))
        .collect::<io::Result<_>>()?;
    for (file, _) in entries.iter().filter(|(_, is_dir)| !is_dir) {
        std::fs::remove_file(file)?;
    }
    File::open(dir)?.sync_all()?;
    std::fs::remove_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_keeps_what_the_first_one_loses() {
        let dir = std::env::temp_dir().join(format!("penstock-link-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("capture/log-000")).expect("a directory");
        let (from, to) = (dir.join("segment"), dir.join("capture/log-000/segment"));
        std::fs::write(&from, b"records").expect("written");
        let linked = second_name(&from, &to).expect("linked");
        assert_ne!(linked, Linked::Copied, "the same file system");
        assert_eq!(second_name(&from, &to).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        let apart = dir.join("apart");
        assert_ne!(duplicate(&from, &apart).expect("copied"), Linked::Hard);
        std::fs::write(&from, b"other bytes").expect("written in place");
        assert_eq!(std::fs::read(&apart).expect("read"), b"records");
        std::fs::remove_file(&from).expect("removed");
        let kept = std::fs::read(&to).expect("read");
        assert_eq!(kept, if linked == Linked::Hard { b"other bytes".as_slice() } else { b"records" });
        remove_tree(&dir.join("capture")).expect("removed");
        remove_tree(&dir.join("capture")).expect("it is not there");
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 1);
        remove_tree(&dir).expect("removed");
    }
}

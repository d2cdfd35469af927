//! The companion of a worker: prepares segments, writing them full of zeros before the log uses them. Its thread waits in a plain queue and
//! starts its executor with the first request, so that an appliance that never fills a segment has none.

use super::watchdog::{Steps, Watchdog};
use crate::io::op::{DirName, Errno, FileName};
use crate::io::peers::Peers;
use crate::io::prepare::{Answer, Link, Request, STEP};
use crate::io::process::lower_priority;
use glommio::io::{Directory, DmaFile, OpenOptions};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// glommio registers this on each of its three rings, out of the limit of locked memory. Preparing needs none of it.
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 64;
/// Below 10 ms the executor would spend its time in timers.
const PREEMPT: Duration = Duration::from_millis(10);

/// Readable by the owner alone: records may be secrets.
const FILE_MODE: libc::mode_t = 0o600;

/// What a companion is given.
pub struct Post {
    /// The worker whose segments it prepares.
    pub worker: u16,
    /// The data directories in the order of this start.
    pub data: Vec<PathBuf>,
    /// The core to run on; at a lower priority, as it may be a worker's.
    pub core: usize,
    pub peers: Arc<Peers>,
    /// Where to say that it cannot start, or that it had to be woken.
    pub say: Box<dyn Fn(&str) + Send>,
}

/// Starts the thread; it ends when the link is dropped.
pub fn start(post: Post) -> io::Result<Link> {
    let (requests, asked) = channel();
    let (answering, answers) = channel();
    let name = format!("companion-{}", post.worker);
    std::thread::Builder::new().name(name).spawn(move || serve(post, &asked, answering))?;
    Ok(Link { requests, answers })
}

fn serve(post: Post, asked: &Receiver<Request>, answering: Sender<Answer>) {
    let Ok(first) = asked.recv() else { return };
    lower_priority();
    let begun = executor(&post).and_then(|executor| Ok((executor, Watchdog::start("watchdog")?)));
    let (executor, dog) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let worker = post.worker;
            (post.say)(&format!(
                "the companion of worker {worker} cannot start ({error}): the worker prepares its segments itself"
            ));
            // Closed before the worker looks: it then does what is owed.
            drop(answering);
            return post.peers.peer(worker).wake();
        }
    };
    let mut stalls = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        let result = executor.run(dog.watch(prepare(&post.data[request.given as usize], request, dog.steps())));
        if dog.stalls() > stalls {
            stalls = dog.stalls();
            (post.say)(&format!("the companion of worker {} had to be woken, {stalls} times so far", post.worker));
        }
        if answering.send(Answer { request, result }).is_err() {
            return;
        }
        post.peers.peer(post.worker).wake();
        next = asked.recv().ok();
    }
}

fn executor(post: &Post) -> io::Result<LocalExecutor> {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(post.core)).name("companion");
    Ok(builder.io_memory(IO_MEMORY).ring_depth(RING_DEPTH).preempt_timer(PREEMPT).make()?)
}

/// Writes the segment under its draft name, and renames it when it is durable; a failure leaves nothing.
async fn prepare(data: &Path, request: Request, steps: Steps) -> Result<(), Errno> {
    let path = |file: FileName| data.join(file.to_string());
    let (draft, segment) = (path(request.draft()), path(request.segment()));
    let result = write(&draft, &segment, request.size, &steps).await;
    let result = match result {
        Ok(()) => sync_dir(data, request.segment().dir()).await,
        failed => failed,
    };
    if result.is_err() {
        // A failure to remove is told by the next attempt to create.
        let _ = std::fs::remove_file(&draft);
    }
    result.map_err(|error| errno_of(&error))
}

async fn write(draft: &Path, segment: &Path, size: u64, steps: &Steps) -> Result<(), GlommioError<()>> {
    // A draft that a crash has left is not written to again: a last write of the dead companion may still be on its way into that file, which
    // would have become a segment by then.
    let _ = std::fs::remove_file(draft);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(FILE_MODE);
    let file = options.dma_open(draft).await?;
    let written = fill(&file, size, steps).await;
    let renamed = match written {
        Ok(()) => file.rename(segment).await,
        failed => failed,
    };
    file.close().await?;
    renamed
}

/// One write of a step at a time: a commit of the log behind it does not wait long.
async fn fill(file: &DmaFile, size: u64, steps: &Steps) -> Result<(), GlommioError<()>> {
    file.pre_allocate(size, false).await?;
    let mut at = 0;
    let mut zeros = zeros(file, STEP as usize);
    while at < size {
        let left = (size - at).min(STEP as u64) as usize;
        if left < zeros.len() {
            zeros = self::zeros(file, left);
        }
        let written = file.write_rc_at(zeros.clone(), at).await?;
        if written == 0 {
            return Err(io::Error::from_raw_os_error(libc::EIO).into());
        }
        at += written as u64;
        steps.made();
    }
    file.fdatasync().await
}

fn zeros(file: &DmaFile, len: usize) -> Rc<glommio::io::DmaBuffer> {
    let mut buffer = file.alloc_dma_buffer(len);
    buffer.as_bytes_mut().fill(0);
    Rc::new(buffer)
}

async fn sync_dir(data: &Path, dir: DirName) -> Result<(), GlommioError<()>> {
    let directory = Directory::open(data.join(dir.to_string())).await?;
    let synced = directory.sync().await;
    directory.close().await?;
    synced
}

fn errno_of(error: &GlommioError<()>) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::op::Token;
    use std::sync::Mutex;

    #[test]
    fn a_segment_is_prepared_and_a_failure_is_told() {
        let data = std::env::temp_dir().join(format!("penstock-companion-{}", std::process::id()));
        let dir = data.join("log-000");
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("segment-000004.preparing"), b"left by a crash").expect("written");
        let said = Arc::new(Mutex::new(Vec::new()));
        let hears = said.clone();
        let say = Box::new(move |text: &str| hears.lock().expect("no panic").push(text.to_string()));
        let peers = Peers::new(1).expect("eventfds");
        let link = start(Post { worker: 0, data: vec![data.clone()], core: 0, peers, say }).expect("a thread");
        let size = (3 << 20) + 8192;
        let ask = |log| {
            let request = Request { given: 0, log, index: 4, size, token: Token(9) };
            link.requests.send(request).expect("it listens");
            let answer = link.answers.recv_timeout(Duration::from_secs(20));
            answer.unwrap_or_else(|_| panic!("no answer; said: {:?}", said.lock())).result
        };
        assert_eq!(ask(0), Ok(()));
        assert_eq!(ask(7), Err(Errno(libc::ENOENT)));
        let bytes = std::fs::read(dir.join("segment-000004")).expect("it is there");
        assert!(bytes.len() as u64 == size && bytes.iter().all(|byte| *byte == 0));
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 1);
        std::fs::remove_dir_all(&data).expect("removed");
    }
}

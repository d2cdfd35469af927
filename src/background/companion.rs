//! The companion of a worker: prepares segments, writing them full of zeros before the log uses them, and between that scrubs what is stored,
//! chunk by chunk. Its thread waits in a plain queue and starts its executor with the first request, so that an appliance that never fills a
//! segment has none.

use super::scrub::Scrubbing;
use super::watchdog::{Steps, Watchdog};
use crate::io::clock::Clock;
use crate::io::companion::{Answer, Link, Request};
use crate::io::op::{DirName, Errno, FileName};
use crate::io::peers::Peers;
use crate::io::prepare::{self, STEP};
use crate::io::process::lower_priority;
use crate::observe::counter::Counters;
use glommio::io::{Directory, DmaFile, OpenOptions};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
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
    /// The worker whose segments it prepares and scrubs.
    pub worker: u16,
    /// The data directories in the order of this start.
    pub data: Vec<PathBuf>,
    /// The core to run on; at a lower priority, as it may be a worker's.
    pub core: usize,
    pub peers: Arc<Peers>,
    /// Of its worker; the companion counts its stalls in them, and nothing else.
    pub counters: Counters,
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
    let begun =
        executor(&post).and_then(|executor| Ok((executor, Watchdog::start("watchdog", post.counters.clone())?)));
    let (executor, dog) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let worker = post.worker;
            (post.say)(&format!(
                "the companion of worker {worker} cannot start ({error}): the worker prepares its segments itself, and scrubs none"
            ));
            // Closed before the worker looks: it then does what is owed.
            drop(answering);
            return post.peers.peer(worker).wake();
        }
    };
    let mut desk = Desk::default();
    desk.put(&post.data, first);
    let mut stalls = 0;
    while desk.fill(&post.data, asked) {
        let answer = desk.work(&post.data, &executor, &dog);
        if dog.stalls() > stalls {
            stalls = dog.stalls();
            (post.say)(&format!("the companion of worker {} had to be woken, {stalls} times so far", post.worker));
        }
        let Some(answer) = answer else { continue };
        if answering.send(answer).is_err() {
            return;
        }
        post.peers.peer(post.worker).wake();
    }
}

/// What has been asked and is not done. The log waits for a segment that is prepared, and nobody for a scrub.
#[derive(Default)]
struct Desk {
    prepares: VecDeque<prepare::Request>,
    scrubs: VecDeque<Scrubbing>,
}

impl Desk {
    fn put(&mut self, data: &[PathBuf], request: Request) {
        match request {
            Request::Prepare(request) => self.prepares.push_back(request),
            Request::Scrub(request) => self.scrubs.push_back(Scrubbing::new(&data[request.given as usize], request)),
        }
    }

    /// Takes what has been asked, and waits until something is to be done; `false`: nobody will ask any more.
    fn fill(&mut self, data: &[PathBuf], asked: &Receiver<Request>) -> bool {
        loop {
            let pause = match (self.prepares.front(), self.scrubs.front()) {
                (Some(_), _) => Some(Duration::ZERO),
                (None, Some(scrub)) => Some(scrub.pause(Clock.now().mono)),
                (None, None) => None,
            };
            let request = match pause {
                Some(pause) if pause.is_zero() => asked.try_recv().map_err(|e| e == TryRecvError::Disconnected),
                Some(pause) => asked.recv_timeout(pause).map_err(|e| e == RecvTimeoutError::Disconnected),
                None => asked.recv().map_err(|_| true),
            };
            match request {
                Ok(request) => self.put(data, request),
                Err(true) => return false,
                Err(false) if pause.is_some_and(|pause| pause.is_zero()) => return true,
                Err(false) => {}
            }
        }
    }

    /// Prepares a segment, or verifies one chunk of another.
    fn work(&mut self, data: &[PathBuf], executor: &LocalExecutor, dog: &Watchdog) -> Option<Answer> {
        if let Some(request) = self.prepares.pop_front() {
            let result = executor.run(dog.watch(prepare(&data[request.given as usize], request, dog.steps())));
            return Some(Answer::Prepared { request, result });
        }
        let scrub = self.scrubs.front_mut()?;
        executor.run(dog.watch(scrub.step(Clock.now().mono, dog.steps())));
        if !scrub.is_over() {
            return None;
        }
        let scrub = self.scrubs.pop_front()?;
        Some(Answer::Scrubbed { request: scrub.request, report: scrub.report() })
    }
}

fn executor(post: &Post) -> io::Result<LocalExecutor> {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(post.core)).name("companion");
    Ok(builder.io_memory(IO_MEMORY).ring_depth(RING_DEPTH).preempt_timer(PREEMPT).make()?)
}

/// Writes the segment under its draft name, and renames it when it is durable; a failure leaves nothing.
async fn prepare(data: &Path, request: prepare::Request, steps: Steps) -> Result<(), Errno> {
    let path = |file: FileName| data.join(file.to_string());
    let (draft, segment) = (path(request.draft()), path(request.segment()));
    learn_device(data).await;
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

/// glommio finds out whether a device can be polled by reading from the first file that it opens there, and believes the answer for good. An
/// empty file answers yes on a device that cannot, and every later read of a written one fails: so a written one comes first.
async fn learn_device(data: &Path) {
    // The first directory has these, the others that.
    for file in [FileName::Superblock(0), FileName::Superblock(1), FileName::Identity { given: 0 }] {
        let path = data.join(file.to_string());
        if let Ok(file) = OpenOptions::new().read(true).dma_open(path).await {
            // Only the probe was wanted; a superblock that cannot be closed is not this thread's to tell.
            let _ = file.close().await;
            return;
        }
    }
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

pub(super) fn errno_of(error: &GlommioError<()>) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::op::Token;
    use crate::io::scrub::{self, CHUNK, Report, Segment};
    use std::sync::Mutex;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        data: PathBuf,
        link: Link,
        said: Arc<Mutex<Vec<String>>>,
    }

    impl Scene {
        fn new(name: &str) -> Scene {
            let data = std::env::temp_dir().join(format!("penstock-companion-{name}-{}", std::process::id()));
            std::fs::create_dir_all(data.join("log-000")).expect("a directory");
            let said = Arc::new(Mutex::new(Vec::new()));
            let hears = said.clone();
            let say = Box::new(move |text: &str| hears.lock().expect("no panic").push(text.to_string()));
            let (peers, counters) = (Peers::new(1).expect("eventfds"), Counters::default());
            let post = Post { worker: 0, data: vec![data.clone()], core: 0, peers, counters, say };
            Scene { data, link: start(post).expect("a thread"), said }
        }

        fn ask(&self, request: Request) {
            self.link.requests.send(request).expect("it listens");
        }

        fn hear(&self) -> Answer {
            let answer = self.link.answers.recv_timeout(PATIENCE);
            answer.unwrap_or_else(|_| panic!("no answer; said: {:?}", self.said.lock()))
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }

    #[test]
    fn a_segment_is_prepared_and_a_failure_is_told() {
        let scene = Scene::new("prepares");
        let dir = scene.data.join("log-000");
        std::fs::write(dir.join("segment-000004.preparing"), b"left by a crash").expect("written");
        let size = (3 << 20) + 8192;
        for (log, result) in [(0, Ok(())), (7, Err(Errno(libc::ENOENT)))] {
            let request = prepare::Request { given: 0, log, index: 4, size, token: Token(9) };
            scene.ask(Request::Prepare(request));
            assert_eq!(scene.hear(), Answer::Prepared { request, result });
        }
        let bytes = std::fs::read(dir.join("segment-000004")).expect("it is there");
        assert!(bytes.len() as u64 == size && bytes.iter().all(|byte| *byte == 0));
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 1);
    }

    /// A file of zeros, in which no commit stands where one should: its log thinks that there are some.
    fn zeros(scene: &Scene) -> Segment {
        let (size, end) = (8 << 20, 5 * CHUNK + 4096);
        std::fs::write(scene.data.join("log-000/segment-000001"), vec![0; size]).expect("written");
        std::fs::write(scene.data.join("superblock-0"), vec![1; 4096]).expect("written");
        let (log, index, incarnation, size) = (0, 1, 3, size as u64);
        Segment { log, index, incarnation, directory: 7, block: 4096, size, end, footer: false }
    }

    #[test]
    fn a_preparation_goes_before_the_next_chunk_of_a_scrub() {
        let scene = Scene::new("yields");
        // A chunk in three days.
        let scrub = scrub::Request { given: 0, segment: zeros(&scene), rate: 1, token: Token(1) };
        scene.ask(Request::Scrub(scrub));
        let request = prepare::Request { given: 0, log: 0, index: 2, size: 1 << 20, token: Token(2) };
        scene.ask(Request::Prepare(request));
        assert_eq!(scene.hear(), Answer::Prepared { request, result: Ok(()) });
    }

    #[test]
    fn a_scrub_reads_all_that_was_asked_for_also_after_a_preparation() {
        let scene = Scene::new("scrubs");
        let segment = zeros(&scene);
        let request = prepare::Request { given: 0, log: 0, index: 2, size: 1 << 20, token: Token(2) };
        scene.ask(Request::Prepare(request));
        assert_eq!(scene.hear(), Answer::Prepared { request, result: Ok(()) });
        let scrub = |segment| {
            scene.ask(Request::Scrub(scrub::Request { given: 0, segment, rate: 1 << 40, token: Token(1) }));
            match scene.hear() {
                Answer::Scrubbed { report, .. } => report,
                other => panic!("{other:?}"),
            }
        };
        let Report { bytes, findings, .. } = scrub(segment);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((finding.at, finding.bytes), (0, segment.end as u64));
        assert_eq!(bytes, segment.end as u64, "the commits, and no footer: {finding:?}");
        let gone = scrub(Segment { index: 9, ..segment });
        assert!(gone.findings[0].why.contains("No such file"), "{gone:?}");
    }
}

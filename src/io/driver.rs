//! A worker's thread: pinned, it takes turns with its ring.
//!
//! ```text
//!   collect ─► step ─► tell ─► carry ─┬─ something happened within 30 µs, no commit on its way ─► poll, again
//!        ▲                            │
//!        └────────────────────────────┴─ else ─► bell: sleeping ─► no mail? ─► sleep until the deadline
//! ```

use super::buffers::Pool;
use super::clock::{Clock, Mono, Now};
use super::companion::Link;
use super::op::{Completion, Completions, Ops};
use super::peers::Peers;
use super::uring::{Ring, RingSetup, Wait};
use crate::front::{Front, Spoken};
use crate::worker::Worker;
use crate::worker::notice::Notice;
use crate::worker::setup::Setup;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

/// How long a worker with nothing to do looks around before it sleeps: waking costs 15 to 20 µs.
const SPIN_NS: u64 = 30_000;
/// Longest sleep when the worker has no deadline.
const SLEEP_NS: u64 = 1_000_000_000;
/// Room for the completions and operations of a busy turn.
const TURN: usize = 8192;

/// Something to tell the operator.
pub enum Event<'a> {
    Notice(&'a Notice),
    Text(&'a str),
}

/// Where events go; called from every worker's thread.
pub type Say = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// What a worker's thread is given.
pub struct Post {
    pub setup: Setup,
    /// The core to be pinned to.
    pub core: usize,
    /// The data directories, the home first; then, where they are mirrored, the second half of each.
    pub data: Vec<PathBuf>,
    pub listener: TcpListener,
    /// For clients of the native protocol, if they are served.
    pub native: Option<TcpListener>,
    /// Of the data directories.
    pub locks: Vec<Arc<File>>,
    pub peers: Arc<Peers>,
    pub companion: Option<Link>,
    pub spoken: Spoken,
    pub say: Say,
}

/// Runs the worker on this thread until it has stopped. Returns when all workers have, as their rings are written to by each other.
pub fn run(post: Post) -> io::Result<()> {
    let _guard = AbortOnPanic;
    let Post { setup, core, data, listener, native, locks, peers, companion, spoken, say } = post;
    let number = setup.worker;
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        say(Event::Text(&format!(
            "worker {number} could not be pinned to core {core}: it runs where the kernel puts it"
        )));
    }
    let (ring, notice) = Ring::new(RingSetup {
        worker: number,
        connections: setup.limits.connections,
        loans: setup.loans.clone(),
        log: Some(setup.buffers.whole(Pool::Log, 0)),
        data: &data,
        directories: setup.options.given.len(),
        listener: Some(listener),
        native,
        locks,
        peers: peers.clone(),
        companion,
    })?;
    if let Some(text) = notice {
        say(Event::Text(&text));
    }
    let front = Front::new(&setup.limits, spoken);
    let (done, ops) = (Completions::with_capacity(TURN), Ops::with_capacity(TURN));
    let worker = Worker::new(setup);
    let mut driver = Driver {
        number,
        ring,
        front,
        worker,
        peers,
        say,
        done,
        ops,
        natives: Completions::new(),
        stopping: false,
        access: 0,
    };
    driver.turns()?;
    driver.peers.ended();
    Ok(())
}

struct Driver {
    number: u16,
    ring: Ring,
    front: Front,
    worker: Worker,
    peers: Arc<Peers>,
    say: Say,
    done: Completions,
    ops: Ops,
    /// Native clients that have just come.
    natives: Completions,
    stopping: bool,
    /// Generation of the credentials that the worker has.
    access: u64,
}

impl Driver {
    fn turns(&mut self) -> io::Result<()> {
        // When something happened last.
        let mut active = Mono(0);
        loop {
            let (now, busy) = self.turn()?;
            if busy {
                active = now.mono;
            }
            if self.worker.stopped() {
                // What the last turn asked for, wakes of others foremost.
                return self.ring.enter(Wait::Poll);
            }
            // While a commit is on its way something will come soon, and is slept for at once: a look around between would be a turn for nothing.
            let waits = self.worker.waits_for_disk() && !self.front.has_news();
            let spinning = !waits && now.mono - active < SPIN_NS;
            match self.sleep_ns(now) {
                _ if spinning => self.ring.enter(Wait::Poll)?,
                0 => self.ring.enter(Wait::Poll)?,
                ns => self.sleep(ns)?,
            }
        }
    }

    /// One turn of the worker, and whether anything happened in it.
    fn turn(&mut self) -> io::Result<(Now, bool)> {
        self.ring.collect(&mut self.done)?;
        if !self.stopping && self.peers.stopping() {
            self.stopping = true;
            self.ring.stop_accepting()?;
            self.front.stop();
            self.worker.stop();
        }
        // Before the first request is looked at, as this is so before the first turn.
        if let Some(access) = self.peers.new_access(&mut self.access) {
            self.done.insert(0, Completion::Access(access));
        }
        let came = !self.done.is_empty();
        let now = Clock.now();
        // Without TLS they are none of the front's, and come behind what it tells of connections that had their numbers before.
        if !self.front.takes_natives() {
            let is_native = |completion: &mut Completion| matches!(completion, Completion::NativeAccepted { .. });
            self.natives.extend(self.done.extract_if(.., is_native));
            self.front.note_natives(self.natives.len());
        }
        self.front.receive(now, &mut self.done, &mut self.worker.memory());
        self.done.append(&mut self.natives);
        self.worker.note_carriers(self.front.carried());
        self.worker.step(now, &mut self.done, &mut self.ops);
        debug_assert!(self.done.is_empty(), "a turn takes all completions");
        self.worker.note_turn(Clock.now().mono - now.mono);
        while let Some(notice) = self.worker.notice() {
            (self.say)(Event::Notice(&notice));
        }
        self.front.send(now, &mut self.ops, &mut self.worker.memory());
        let busy = came || !self.ops.is_empty() || self.front.has_news();
        self.ring.carry(&mut self.ops)?;
        Ok((now, busy))
    }

    /// The sleep protocol of [`crate::stdx::spsc`].
    fn sleep(&mut self, ns: u64) -> io::Result<()> {
        let bell = &self.peers.peer(self.number).bell;
        bell.about_to_sleep();
        let slept = self.ring.enter(if self.worker.mail_waits() { Wait::Poll } else { Wait::Sleep(ns) });
        bell.awake();
        slept
    }

    /// Nanoseconds until the worker's next turn must be; 0: at once.
    fn sleep_ns(&self, now: Now) -> u64 {
        self.worker.deadline().map_or(SLEEP_NS, |deadline| deadline - now.mono)
    }
}

/// A worker that panics leaves records in an unknown state: the process ends, and recovery finds what is durable.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

//! How workers wake each other, and how any other thread wakes a worker.

use super::process::eventfd;
use crate::auth::credentials::Access;
use crate::stdx::spsc::Doorbell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

const NO_RING: i32 = -1;

/// What others know of a worker's ring.
pub struct Peer {
    /// Whether the worker sleeps, and so must be woken.
    pub bell: Doorbell,
    /// Descriptor of its ring, once there is one. Rings are closed only when all workers have ended.
    ring: AtomicI32,
    /// An eventfd that its ring reads: for threads that have no ring.
    event: File,
}

/// One for each worker, by number, and the word to stop.
pub struct Peers {
    peers: Vec<Peer>,
    stopping: AtomicBool,
    /// The operator's credentials, and how often they have been set.
    access: Mutex<Option<Arc<Access>>>,
    access_generation: AtomicU64,
    end: Barrier,
}

impl Peers {
    pub fn new(workers: u16) -> io::Result<Arc<Peers>> {
        let peer = |_| Ok(Peer { bell: Doorbell::new(), ring: AtomicI32::new(NO_RING), event: eventfd()? });
        let peers = (0..workers).map(peer).collect::<io::Result<_>>()?;
        let end = Barrier::new(workers as usize);
        let access = Mutex::new(None);
        Ok(Arc::new(Peers {
            peers,
            stopping: AtomicBool::new(false),
            access,
            access_generation: AtomicU64::new(0),
            end,
        }))
    }

    pub fn peer(&self, worker: u16) -> &Peer {
        &self.peers[worker as usize]
    }

    /// Asks every worker to stop, and wakes it.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.peers.iter().for_each(Peer::wake);
    }

    /// Gives new credentials to every worker, before its next turn.
    pub fn set_access(&self, access: Arc<Access>) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Some(access);
        self.access_generation.fetch_add(1, Ordering::Release);
        self.peers.iter().for_each(Peer::wake);
    }

    /// The credentials, if they have been set since `seen`, which is brought up to date.
    pub(super) fn new_access(&self, seen: &mut u64) -> Option<Arc<Access>> {
        let generation = self.access_generation.load(Ordering::Acquire);
        if generation == *seen {
            return None;
        }
        *seen = generation;
        self.access.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A worker has stopped: waits for all others. Its ring is kept until then.
    pub(super) fn ended(&self) {
        self.end.wait();
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl Peer {
    /// Wakes the worker, whether it sleeps or not: a system call.
    pub fn wake(&self) {
        // A full counter (EAGAIN) means that it is awake or about to be: nothing is lost.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }

    pub(super) fn opened(&self, ring: RawFd) {
        self.ring.store(ring, Ordering::Release);
    }

    /// Descriptor of its ring; `None` before it has one.
    pub(super) fn ring(&self) -> Option<RawFd> {
        let fd = self.ring.load(Ordering::Acquire);
        (fd != NO_RING).then_some(fd)
    }

    pub(super) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Takes what has been rung, so that the next wake rings again.
    pub(super) fn hush(&self) {
        let mut count = [0; 8];
        let _ = (&self.event).read(&mut count);
    }
}

//! A worker's ring: operations in, completions out. Made and used by the worker's own thread (`SINGLE_ISSUER`, `DEFER_TASKRUN`): the kernel
//! does its part of the work when the thread enters it, never in between.
//!
//! ```text
//!   carry(ops) ─► submission queue ─► enter() ─► completion queue ─► collect(done)
//! ```
//!
//! This file has the queues; `socket`, `files` and `prepare` have what an operation of each kind takes to be carried out.

use super::buffers::{Loans, Pool, Span};
use super::companion::{Companion, Link};
use super::files::{Files, list};
use super::flight::{Flight, Flights};
use super::link::Linking;
use super::op::{Completion, Completions, Errno, Op, Ops};
use super::peers::Peers;
use super::prepare::Preparing;
use super::scrub;
use super::socket::{Door, Sockets};
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Entries of the submission queue; a fuller turn submits in between.
const SUBMISSIONS: u32 = 1024;
/// Room for completions; what does not fit, the kernel keeps and hands over at the next entry.
const COMPLETIONS: u32 = 16 << 10;
/// File operations in flight beside those of sockets: commits, reads, journal, and their like.
const FILE_FLIGHTS: usize = 1024;
/// How often an operation is tried again when the kernel says so.
pub(super) const TRIES_MAX: u8 = 100;
/// Longest sleep, nanoseconds: no wait is without an end.
const SLEEP_MAX_NS: u64 = 1_000_000_000;

/// `user_data` that is not a slot of the table.
const WOKEN: u64 = u64::MAX;
const RUNG: u64 = u64::MAX - 1;
const IGNORED: u64 = u64::MAX - 2;
/// A wake that failed; the worker's number is added.
const WAKE_FAILED: u64 = u64::MAX - (1 << 17);

/// What a ring is made of.
pub struct RingSetup<'a> {
    pub worker: u16,
    /// Sockets at once.
    pub connections: u16,
    /// Memory of every worker, by number.
    pub loans: Vec<Loans>,
    /// The worker's log memory, to be registered.
    pub log: Option<Span>,
    /// The data directories, the home first; then, where they are mirrored, the second half of each.
    pub data: &'a [PathBuf],
    /// How many of them are first halves.
    pub directories: usize,
    pub listener: Option<TcpListener>,
    /// For clients of the native protocol.
    pub native: Option<TcpListener>,
    /// The locks of the data directories. The ring holds them too, for a killed process is gone before its ring is: the kernel takes a ring
    /// apart when the last of its operations has ended, and until then a write of the dead may still land in the log.
    pub locks: Vec<Arc<File>>,
    pub peers: Arc<Peers>,
    /// Who prepares segments; without it the ring does.
    pub companion: Option<Link>,
}

/// Whether [`Ring::enter`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Submits, and takes what is there.
    Poll,
    /// Submits, and sleeps until something completes or these nanoseconds are over.
    Sleep(u64),
}

pub struct Ring {
    ring: IoUring,
    pub(super) worker: u16,
    pub(super) peers: Arc<Peers>,
    loans: Vec<Loans>,
    /// Whether [`Pool::Log`] of this worker is registered, as buffer 0.
    registered: bool,
    pub(super) flights: Flights,
    pub(super) sockets: Sockets,
    pub(super) files: Files,
    pub(super) preparing: Preparing,
    pub(super) companion: Companion,
    pub(super) linking: Linking,
    /// Completions of the kernel that have not been turned into ours.
    taken: Vec<cqueue::Entry>,
    /// Answers that need no kernel.
    pub(super) early: Completions,
}

impl Ring {
    /// Makes the ring on the thread that will use it. The text tells what works with less than it could.
    pub fn new(setup: RingSetup<'_>) -> io::Result<(Ring, Option<String>)> {
        let ring = build(SUBMISSIONS, COMPLETIONS)?;
        let held: Vec<RawFd> = setup.locks.iter().map(|lock| lock.as_raw_fd()).collect();
        ring.submitter().register_files_sparse(setup.connections as u32 + held.len() as u32)?;
        if !held.is_empty() {
            ring.submitter().register_files_update(setup.connections as u32, &held)?;
        }
        let mut notice = None;
        let mut registered = false;
        if let Some(log) = setup.log {
            debug_assert_eq!((log.worker, log.pool), (setup.worker, Pool::Log), "only the log's memory is registered");
            let base = setup.loans[setup.worker as usize].address(log).cast();
            let buffer = libc::iovec { iov_base: base, iov_len: log.len as usize };
            // SAFETY: the memory is held by `loans` for as long as the ring lives.
            match unsafe { ring.submitter().register_buffers(&[buffer]) } {
                Ok(()) => registered = true,
                Err(error) => notice = Some(unregistered(setup.worker, log.len, &error)),
            }
        }
        let flights = Flights::new(3 * setup.connections as usize + FILE_FLIGHTS);
        let mut made = Ring {
            worker: setup.worker,
            loans: setup.loans,
            registered,
            flights,
            sockets: Sockets::new(setup.connections, setup.listener, setup.native),
            files: Files::new(setup.data, setup.directories)?,
            preparing: Preparing::default(),
            companion: Companion::new(setup.companion),
            linking: Linking::default(),
            taken: Vec::with_capacity(COMPLETIONS as usize),
            early: Completions::with_capacity(64),
            ring,
            peers: setup.peers,
        };
        made.listen_for_bell()?;
        made.peers.peer(made.worker).opened(made.ring.as_raw_fd());
        Ok((made, notice))
    }

    /// Queues the operations, in order; clears `ops`. They reach the kernel at the next [`Ring::enter`], or before.
    pub fn carry(&mut self, ops: &mut Ops) -> io::Result<()> {
        for op in ops.drain(..) {
            self.carry_one(op)?;
        }
        Ok(())
    }

    fn carry_one(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Accept => {
                self.accept(Door::Http)?;
                self.accept(Door::Native)
            }
            Op::Connect { socket, to } => self.connect(socket, to),
            Op::Recv { socket, into } => self.recv(socket, into, false),
            Op::RecvAll { socket, into } => self.recv(socket, into, true),
            Op::Send { socket, from, then } => self.send(socket, from, then),
            Op::Close { socket } => self.close(socket),
            Op::Prepare { log, index, size, token } => self.prepare(log, index, size, token),
            Op::Link { from, to, token } => self.link(from, to, token),
            Op::Clear { dir, token } => self.clear(dir, token),
            Op::Scrub { segment, rate, token } => {
                let given = self.files.place_of(segment.log, token.half());
                self.scrub(scrub::Request { given, segment, rate, token });
                Ok(())
            }
            Op::Locate { log, given } => {
                self.files.locate(log, given);
                Ok(())
            }
            Op::Wake { worker } => self.wake(worker),
            Op::List { dir, token } => {
                let result = self.files.path(dir, token.half()).and_then(|path| list(&path, dir));
                self.early.push(Completion::Listed { token, result });
                Ok(())
            }
            file => self.carry_file(file),
        }
    }

    /// Hands the queue to the kernel, lets it work, and waits as told.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let nothing_due = self.early.is_empty() && self.taken.is_empty();
        let entered = match wait {
            Wait::Sleep(ns) if nothing_due && ns > 0 => {
                let ns = ns.min(SLEEP_MAX_NS);
                let limit = Timespec::new().sec(ns / 1_000_000_000).nsec((ns % 1_000_000_000) as u32);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
            _ => self.poll(),
        };
        self.entered(entered)
    }

    /// Turns what has completed into completions, after those of operations that needed no kernel.
    pub fn collect(&mut self, done: &mut Completions) -> io::Result<()> {
        self.hear_companion()?;
        self.hear_linker();
        self.take_completions();
        // By index: a completion may submit its continuation, which may take further completions into the same list.
        let mut next = 0;
        while next < self.taken.len() {
            let cqe = self.taken[next].clone();
            next += 1;
            self.complete(&cqe, done)?;
        }
        self.taken.clear();
        done.append(&mut self.early);
        Ok(())
    }

    /// Takes no further connection; those that wait in the listeners are reset.
    pub fn stop_accepting(&mut self) -> io::Result<()> {
        for user_data in self.sockets.stop_accepting().into_iter().flatten() {
            self.push(opcode::AsyncCancel::new(user_data).build().user_data(IGNORED))?;
        }
        Ok(())
    }

    /// Operations that the kernel has not answered yet.
    pub fn in_flight(&self) -> usize {
        self.flights.count()
    }

    fn complete(&mut self, cqe: &cqueue::Entry, done: &mut Completions) -> io::Result<()> {
        let result = cqe.result();
        match cqe.user_data() {
            WOKEN => done.push(Completion::Woken),
            RUNG => {
                self.peers.peer(self.worker).hush();
                done.push(Completion::Woken);
                if !cqueue::more(cqe.flags()) {
                    self.listen_for_bell()?;
                }
            }
            IGNORED => {}
            failed @ WAKE_FAILED..=u64::MAX => self.peers.peer((failed - WAKE_FAILED) as u16).wake(),
            slot if cqueue::more(cqe.flags()) => {
                let Some(&Flight::Accept { at }) = self.flights.get(slot) else {
                    debug_assert!(false, "only accepts are answered more than once");
                    return Ok(());
                };
                self.accepted(at, result, done)?;
            }
            slot => {
                let Some(flight) = self.flights.take(slot) else {
                    debug_assert!(false, "a completion of nothing: {cqe:?}");
                    return Ok(());
                };
                self.land(flight, result, done)?;
            }
        }
        Ok(())
    }

    fn land(&mut self, flight: Flight, result: i32, done: &mut Completions) -> io::Result<()> {
        match flight {
            Flight::Accept { at } => self.accept_ended(at, result, done),
            Flight::AcceptLater { at } => self.accept(at),
            Flight::Peer { socket } => {
                self.peer_is(socket, result, done);
                Ok(())
            }
            Flight::Make { socket } => self.made(socket, result, done),
            Flight::Connect { socket } => self.connected(socket, result, done),
            Flight::NoDelay { socket } => self.without_delay(socket, done),
            Flight::Unmake { socket, errno } => {
                self.unmade(socket, errno, done);
                Ok(())
            }
            Flight::Recv { socket, into, all } => self.received(socket, into, all, result, done),
            Flight::Send { socket, from, then } => self.sent(socket, from, then, result, done),
            Flight::Shutdown { socket } => self.shut(socket),
            Flight::CloseSocket { socket } => {
                done.push(self.sockets.closed(socket));
                Ok(())
            }
            Flight::Prepare => self.prepared_step(result),
            file => self.land_file(file, result, done),
        }
    }

    /// Wakes another worker if it sleeps.
    fn wake(&mut self, worker: u16) -> io::Result<()> {
        let peer = self.peers.peer(worker);
        if !peer.bell.must_wake() {
            return Ok(());
        }
        let Some(ring) = peer.ring() else {
            peer.wake();
            return Ok(());
        };
        let letter = opcode::MsgRingData::new(types::Fd(ring), 0, WOKEN, None).build();
        self.push(letter.flags(squeue::Flags::SKIP_SUCCESS).user_data(WAKE_FAILED + worker as u64))
    }

    fn listen_for_bell(&mut self) -> io::Result<()> {
        let bell = types::Fd(self.peers.peer(self.worker).event());
        self.push(opcode::PollAdd::new(bell, libc::POLLIN as u32).multi(true).build().user_data(RUNG))
    }

    /// Where the kernel finds `span`, whoever owns it.
    pub(super) fn address(&self, span: Span) -> *mut u8 {
        self.loans[span.worker as usize].address(span)
    }

    /// Whether a write from `span` may name registered buffer 0.
    pub(super) fn is_registered(&self, span: Span) -> bool {
        self.registered && span.worker == self.worker && span.pool == Pool::Log
    }

    /// Queues `entry` as `flight`.
    pub(super) fn launch(&mut self, entry: squeue::Entry, flight: Flight) -> io::Result<()> {
        let user_data = self.flights.put(flight);
        self.push(entry.user_data(user_data))
    }

    /// Queues an entry, submitting first when the queue is full.
    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to outlives it: memory of pools is held by `loans` and left alone by the core until the answer;
            // paths, message headers and time-outs are held by the table of flights, by `sockets` and by `preparing`.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            let entered = self.ring.submit();
            self.entered(entered)?;
        }
    }

    /// Submits what is queued and lets the kernel do deferred work, without waiting.
    fn poll(&mut self) -> io::Result<usize> {
        const GETEVENTS: u32 = 1;
        let submission = self.ring.submission();
        let queued = submission.len() as u32;
        if queued == 0 && !submission.taskrun() && !submission.cq_overflow() {
            // The kernel has nothing for us either: a spinning worker makes no system call.
            return Ok(0);
        }
        drop(submission);
        // SAFETY: no argument is passed.
        unsafe { self.ring.submitter().enter::<()>(queued, 0, GETEVENTS, None) }
    }

    fn entered(&mut self, entered: io::Result<usize>) -> io::Result<()> {
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME) => Ok(()),
                // Too many completions are waiting, or memory is short: room is made and the next entry goes on.
                Some(libc::EBUSY | libc::EAGAIN) => {
                    self.take_completions();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    fn take_completions(&mut self) {
        let Ring { ring, taken, .. } = self;
        taken.extend(ring.completion());
    }
}

/// A ring as every worker has it.
pub(super) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_clamp().setup_cqsize(completions);
    builder.build(submissions)
}

fn unregistered(worker: u16, bytes: u32, error: &io::Error) -> String {
    format!(
        "worker {worker}: its {} MiB of log memory could not be registered with the kernel ({error}): writes cost a little more; \
         raise the limit of locked memory (ulimit -l, LimitMEMLOCK=infinity, --ulimit memlock=-1)",
        bytes >> 20
    )
}

/// The kernel's negative result as an error.
pub(super) fn outcome(result: i32) -> Result<u32, Errno> {
    if result < 0 { Err(Errno(-result)) } else { Ok(result as u32) }
}

/// Whether the kernel asks to try again.
pub(super) fn again(result: i32) -> bool {
    matches!(-result, libc::EINTR | libc::EAGAIN)
}

/// Submits all entries and waits until all have completed, each with `expected`. What they point to outlives the call.
pub(super) fn complete(ring: &mut IoUring, entries: &[squeue::Entry], expected: i32) -> io::Result<()> {
    // SAFETY: the caller holds the memory for the length of this call, which returns when the kernel has done with it.
    unsafe { ring.submission().push_multiple(entries) }.map_err(io::Error::other)?;
    let mut seen = 0;
    let mut failed = None;
    while seen < entries.len() {
        match ring.submit_and_wait(entries.len() - seen) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for cqe in ring.completion() {
            seen += 1;
            if cqe.result() != expected {
                failed = Some(cqe.result());
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        Some(_) => Err(io::Error::other("a write of one block was cut short")),
    }
}

/// Keeps entries in flight, one for each of `depth` slots: `next` gives the one for a slot, or none when it is over; `landed` hears of each that
/// has completed with `expected`. What they point to outlives the call.
pub(super) fn keep(
    ring: &mut IoUring,
    depth: u64,
    expected: i32,
    next: &mut dyn FnMut(u64) -> Option<squeue::Entry>,
    landed: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut idle: Vec<u64> = (0..depth).rev().collect();
    let mut failed = None;
    loop {
        while let Some(slot) = idle.last().copied().filter(|_| failed.is_none()) {
            let Some(entry) = next(slot) else { break };
            // SAFETY: the caller holds the memory for the length of this call, which returns when nothing is in flight any more.
            unsafe { ring.submission().push(&entry.user_data(slot)) }.map_err(io::Error::other)?;
            idle.pop();
        }
        if idle.len() as u64 == depth {
            break;
        }
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for cqe in ring.completion() {
            idle.push(cqe.user_data());
            match cqe.result() {
                result if result == expected => landed(cqe.user_data()),
                result => failed = failed.or(Some(result)),
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        Some(_) => Err(io::Error::other("a write was cut short")),
    }
}

/// A descriptor that the kernel has answered an open with.
pub(super) fn opened(fd: u32) -> OwnedFd {
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

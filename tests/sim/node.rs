//! The node: workers over the simulated outside. Carries out their operations and hands back completions.

use super::clock::Clock;
use super::companion::{Job, Next};
use super::disk::{Disk, Request};
use super::net::{self, Net};
use super::random::Random;
use super::scenario::{Canary, Settings};
use super::scrub;
use super::wire;
use penstock::io::buffers::{ALL_POOLS, Buffers, Span};
use penstock::io::op::{Completion, Completions, Op, Ops, Token};
use penstock::log;
use penstock::log::directories::Given;
use penstock::mirror;
use penstock::observe::counter::Counters;
use penstock::worker::mailbox::connect;
use penstock::worker::{Options, Setup, Worker};
use std::collections::BTreeMap;

/// Of memory that the disk reads or writes, in bytes.
const ALIGNMENT: u32 = 4096;

pub struct Node {
    pub seats: Vec<Seat>,
    /// Disk requests on their way.
    waiting: BTreeMap<u64, Waiting>,
    pub ready: bool,
    pub stopping: bool,
    pub counters: Vec<Counters>,
    scrub_slow: u64,
}

/// A worker and what it is about to be told.
pub struct Seat {
    pub worker: Worker,
    pub done: Completions,
    pub ops: Ops,
    /// When its next turn is planned.
    pub turn: Option<u64>,
    /// It stands still until then.
    pub paused: u64,
    /// Turns at one moment, to find one that never rests.
    pub restless: u32,
}

/// What a disk request was for.
enum Waiting {
    Write { worker: u16, token: Token, from: Span, bytes: Vec<u8> },
    Read { worker: u16, token: Token, into: Span },
    List { worker: u16, token: Token },
    Other { worker: u16, token: Token },
    Prepare(Job),
    Scrub(Box<scrub::Job>),
}

impl Node {
    /// `given`: the data directories of this life, the home first; `disk`: what the operator says with `--disk`.
    pub fn start(
        settings: &Settings,
        workers: u16,
        given: Vec<Given>,
        disk: Option<u64>,
        mirror: Option<mirror::Settings>,
        random: &mut Random,
    ) -> Node {
        let canary = |which| settings.canary == Some(which);
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
        let options = Options {
            disk,
            given,
            nodes: (0..workers).map(|worker| Some(worker as u32 % 2)).collect(),
            when_full: settings.when_full,
            region: None,
            account: None,
            retention_hour: Some(settings.retention_hour),
            segment: Some(settings.segment),
            random: bytes,
            admin_key: wire::ADMIN_KEY.to_be_bytes(),
            verify_keys: true,
            clock_synchronised: true,
            accept_clock: settings.accepts_clock,
            scrub: settings.scrub,
            mirror,
            canary: log::Canary {
                ack_before_durable: canary(Canary::AckBeforeDurable),
                read_undurable: canary(Canary::ReadUndurable),
                forget_next_sequence: canary(Canary::ForgetNextSequence),
                events_skip: canary(Canary::EventsSkip),
            },
            no_epoch_bump: canary(Canary::NoEpochBump),
        };
        let memory: Vec<Buffers> = (0..workers).map(|worker| Buffers::new(worker, settings.limits.layouts())).collect();
        let loans: Vec<_> = memory.iter().map(Buffers::loans).collect();
        let counters: Vec<Counters> = (0..workers).map(|_| Counters::default()).collect();
        let mailboxes = connect(workers, settings.limits.mailbox);
        let seats = memory.into_iter().zip(mailboxes).enumerate().map(|(worker, (buffers, mailboxes))| {
            let setup = Setup {
                worker: worker as u16,
                workers,
                limits: settings.limits,
                options: options.clone(),
                buffers,
                loans: loans.clone(),
                counters: counters.clone(),
                mailboxes,
            };
            let worker = Worker::new(setup);
            Seat { worker, done: Vec::new(), ops: Vec::new(), turn: None, paused: 0, restless: 0 }
        });
        let seats = seats.collect();
        Node {
            seats,
            waiting: BTreeMap::new(),
            ready: false,
            stopping: false,
            counters,
            scrub_slow: settings.scrub_slow,
        }
    }

    /// The bytes of a span of `worker`'s memory, or of what it has been lent.
    pub fn bytes(&self, worker: u16, span: Span) -> &[u8] {
        let seat = &self.seats[worker as usize].worker;
        match span.worker == worker {
            true => seat.buffers().bytes(span),
            false => seat.loans(span.worker).bytes(span),
        }
    }

    /// The bytes of a send that is in flight, as they are now.
    pub fn sending(&self, net: &Net, id: net::Id) -> Vec<u8> {
        let Some((worker, first, then)) = net.sending(id) else { return Vec::new() };
        self.both(worker, first, then)
    }

    pub fn both(&self, worker: u16, first: Span, then: Option<Span>) -> Vec<u8> {
        let mut bytes = self.bytes(worker, first).to_vec();
        bytes.extend(then.into_iter().flat_map(|then| self.bytes(worker, then)));
        bytes
    }

    /// Submits a file operation: the request's number and its delay.
    pub fn submit(&mut self, worker: u16, op: Op, disk: &mut Disk) -> (u64, u64) {
        let aligned = |span: Span| assert!(span.at.is_multiple_of(ALIGNMENT), "not aligned: {op:?}");
        let (request, waiting) = match op {
            Op::Open { file, how, token } => (Request::Open { file, how }, Waiting::Other { worker, token }),
            Op::WriteAt { file, at, from, sync, token } => {
                aligned(from);
                let bytes = self.bytes(worker, from).to_vec();
                (Request::Write { file, at, bytes: bytes.clone(), sync }, Waiting::Write { worker, token, from, bytes })
            }
            Op::ReadAt { file, at, into, token } => {
                aligned(into);
                // The device may touch the memory at any time before the completion.
                self.seats[worker as usize].worker.buffers_mut().bytes_mut(into).fill(0xd5);
                (Request::Read { file, at, len: into.len as usize }, Waiting::Read { worker, token, into })
            }
            Op::Fsync { file, token } => (Request::Fsync { file }, Waiting::Other { worker, token }),
            Op::Rename { from, to, token } => (Request::Rename { from, to }, Waiting::Other { worker, token }),
            Op::Unlink { file, token } => (Request::Unlink { file }, Waiting::Other { worker, token }),
            Op::CloseFile { file, token } => (Request::Close { file }, Waiting::Other { worker, token }),
            Op::MakeDir { dir, token } => (Request::MakeDir { dir }, Waiting::Other { worker, token }),
            Op::SyncDir { dir, token } => (Request::SyncDir { dir }, Waiting::Other { worker, token }),
            Op::Link { from, to, token } => (Request::Link { from, to }, Waiting::Other { worker, token }),
            Op::Clear { dir, token } => (Request::Clear { dir }, Waiting::Other { worker, token }),
            Op::List { dir, token } => (Request::List { dir }, Waiting::List { worker, token }),
            Op::Prepare { log, index, size, token } => {
                let Next::Step(job, number, delay) = Job::new(worker, log, index, size, token).begin(disk) else {
                    unreachable!("a job begins with a step")
                };
                self.waiting.insert(number, Waiting::Prepare(job));
                return (number, delay);
            }
            Op::Scrub { segment, rate, token } => {
                let scrub::Next::Step(job, number, delay) =
                    scrub::Job::new(worker, segment, rate / self.scrub_slow, token).begin(disk)
                else {
                    unreachable!("a segment has bytes")
                };
                self.waiting.insert(number, Waiting::Scrub(job));
                return (number, delay);
            }
            Op::Accept
            | Op::Connect { .. }
            | Op::Recv { .. }
            | Op::RecvAll { .. }
            | Op::Send { .. }
            | Op::Close { .. }
            | Op::Locate { .. }
            | Op::Wake { .. } => unreachable!("not a file operation"),
        };
        let (number, delay) = disk.submit(worker, request);
        self.waiting.insert(number, waiting);
        (number, delay)
    }

    /// A disk request's time has come: the worker to tell and what, or the companion's next step.
    pub fn finish(&mut self, number: u64, disk: &mut Disk) -> Result<(u16, Completion), (u64, u64)> {
        match self.waiting.remove(&number).expect("each request is answered once") {
            Waiting::Write { worker, token, from, bytes } => {
                assert!(bytes == self.bytes(worker, from), "bytes changed while they were being written: {from:?}");
                let result = disk.finish(number).map(|answer| answer.count);
                Ok((worker, Completion::Done { token, result }))
            }
            Waiting::Read { worker, token, into } => {
                let result = disk.finish(number).map(|answer| {
                    let to = self.seats[worker as usize].worker.buffers_mut().bytes_mut(into);
                    to[..answer.bytes.len()].copy_from_slice(&answer.bytes);
                    answer.count
                });
                Ok((worker, Completion::Done { token, result }))
            }
            Waiting::List { worker, token } => {
                let result = disk.finish(number).map(|answer| answer.files);
                Ok((worker, Completion::Listed { token, result }))
            }
            Waiting::Other { worker, token } => {
                let result = disk.finish(number).map(|answer| answer.count);
                Ok((worker, Completion::Done { token, result }))
            }
            Waiting::Scrub(job) => match job.go_on(disk, number) {
                scrub::Next::Step(job, number, delay) => {
                    self.waiting.insert(number, Waiting::Scrub(job));
                    Err((number, delay))
                }
                scrub::Next::Done { worker, token, report } => {
                    Ok((worker, Completion::Scrubbed { token, report: Some(Box::new(report)) }))
                }
            },
            Waiting::Prepare(job) => match job.go_on(disk, number) {
                Next::Step(job, number, delay) => {
                    self.waiting.insert(number, Waiting::Prepare(job));
                    Err((number, delay))
                }
                Next::Done { worker, token, result } => Ok((worker, Completion::Done { token, result })),
            },
        }
    }

    pub fn stopped(&self) -> bool {
        self.seats.iter().all(|seat| seat.worker.stopped())
    }

    /// When a worker wants its next turn, in the simulator's time.
    pub fn deadline(&self, worker: u16) -> Option<u64> {
        self.seats[worker as usize].worker.deadline().map(Clock::from_deadline)
    }

    /// Slots taken from each pool of each worker.
    pub fn taken(&self) -> Vec<Vec<usize>> {
        let of = |seat: &Seat| {
            let buffers = seat.worker.buffers();
            ALL_POOLS.iter().map(|pool| buffers.slots(*pool) as usize - buffers.available(*pool)).collect()
        };
        self.seats.iter().map(of).collect()
    }
}

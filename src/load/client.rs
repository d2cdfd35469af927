//! The core of a load thread: connections that write, connections that read, one turn after the other. No clock, no system call.
//!
//! ```text
//!   connecting ─all ready─► waiting ─begin()─► running ─end of the plan─► draining ─answered, read─► closing ─► done
//! ```

use super::ledger::{Fate, Findings, Ledger};
use super::plan::{Plan, Share};
use super::readers::Readers;
use super::shared::Shared;
use super::tally::Tally;
use super::writer::Writer;
use crate::io::buffers::{Buffers, Layouts};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Completions, Ops, Socket};
use crate::native;
use std::sync::Arc;

/// How long connections may take until all may be used.
const READY_NS: u64 = 10_000_000_000;
/// After the end: how long answers are waited for, and how long readers may take to catch up.
const DRAIN_NS: u64 = 45_000_000_000;
/// How long connections may take to close.
const CLOSE_NS: u64 = 5_000_000_000;
/// Of a connection that writes: room for answers. Those to 500 records have 70 KB.
const ANSWER: u32 = 256 << 10;
/// Of a connection that reads.
const RECORDS: u32 = 16 << 20;
/// Of a connection in TLS: what is encrypted, each way.
const WIRE: u32 = 64 << 10;
/// Room for a request of a reader, and for what is no request of a writer.
pub(super) const CONTROL: u32 = 24 << 10;
const BLOCK: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting { until: Option<Mono> },
    Waiting,
    Running,
    Draining { since: Mono },
    Closing { since: Mono },
    Done,
}

pub struct Client {
    shared: Shared,
    writers: Vec<Writer>,
    readers: Readers,
    phase: Phase,
    /// A reader has not come to the end.
    incomplete: bool,
    findings: Findings,
    /// When the last answer that counts came, ns from the beginning; and when a writer heard anything.
    last: u64,
    heard: Mono,
}

impl Client {
    /// The memory that a share of a plan needs, and its sockets.
    pub fn layouts(plan: &Plan, share: &Share) -> (Layouts, u16) {
        let writers = share.connections.len();
        let readers = Readers::sockets(plan, share);
        let sockets = (writers + readers) as u16;
        let outbox = (plan.request_max() * plan.places()).next_multiple_of(BLOCK);
        let none = (0, BLOCK);
        let (writers, readers) = (writers as u16, readers as u16);
        let wire = if plan.tls { (sockets, WIRE) } else { none };
        let pools = [
            (writers, ANSWER),
            (sockets, CONTROL),
            (writers, outbox),
            none,
            (readers, RECORDS),
            none,
            wire,
            none,
            (plan.common(), plan.request_max().next_multiple_of(BLOCK)),
        ];
        (Layouts(pools), sockets)
    }

    pub fn new(plan: Arc<Plan>, share: &Share, buffers: Buffers) -> Client {
        let shared = Shared::new(plan.clone(), buffers, share);
        let whole: f64 = (0..plan.keys).map(|key| plan.popularity.weight(key, plan.keys)).sum();
        let writers = share.connections.iter().enumerate().map(|(number, keys)| {
            let part = keys.iter().map(|key| plan.popularity.weight(*key, plan.keys)).sum::<f64>() / whole;
            let stream = (share.thread as u64) << 32 | number as u64;
            Writer::new(&shared, number as u16, Socket(number as u32), keys.clone(), part, stream)
        });
        let writers: Vec<Writer> = writers.collect();
        let readers = Readers::new(&shared, share, writers.len() as u32);
        Client {
            shared,
            writers,
            readers,
            phase: Phase::Connecting { until: None },
            incomplete: false,
            findings: Findings::default(),
            last: 0,
            heard: Mono(0),
        }
    }

    /// A turn: takes what has completed, and gives what is to be done.
    pub fn step(&mut self, now: Now, done: &mut Completions, ops: &mut Ops) {
        for completion in done.drain(..) {
            self.complete(now, completion, ops);
        }
        self.change_phase(now, ops);
        if matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            return;
        }
        for writer in &mut self.writers {
            writer.turn(&mut self.shared, now, ops);
        }
        let ends = matches!(self.phase, Phase::Draining { .. }) && self.is_written();
        self.readers.turn(&mut self.shared, now, ends, ops);
    }

    fn complete(&mut self, now: Now, completion: Completion, ops: &mut Ops) {
        let Client { shared, writers, readers, .. } = self;
        let socket = match &completion {
            Completion::Connected { socket, .. }
            | Completion::Received { socket, .. }
            | Completion::Sent { socket, .. }
            | Completion::Closed { socket } => socket.0 as usize,
            _ => return,
        };
        match writers.get_mut(socket) {
            Some(writer) => match completion {
                Completion::Connected { result, .. } => writer.on_connected(shared, now, result),
                Completion::Sent { result, .. } => writer.on_sent(result, ops),
                Completion::Received { result, .. } => {
                    self.heard = now.mono;
                    let before = shared.tally.counts.answered();
                    writer.on_received(shared, now, result, ops);
                    if shared.tally.counts.answered() != before {
                        self.last = shared.elapsed(now);
                    }
                }
                _ => writer.on_closed(shared, now),
            },
            None => readers.complete(shared, now, socket as u32, completion, ops),
        }
    }

    fn change_phase(&mut self, now: Now, ops: &mut Ops) {
        match self.phase {
            Phase::Connecting { until: None } => self.phase = Phase::Connecting { until: Some(now.mono + READY_NS) },
            Phase::Connecting { until: Some(until) } => {
                let ready = self.writers.iter().all(Writer::is_ready) && self.readers.is_ready();
                if ready {
                    self.phase = Phase::Waiting;
                } else if until <= now.mono {
                    let text = unreachable_text(&self.shared, &self.writers, &self.readers);
                    self.shared.fatal.get_or_insert(text);
                }
            }
            Phase::Running if !self.shared.is_running(now) => {
                self.writers.iter_mut().for_each(|writer| writer.finish(&mut self.shared));
                self.phase = Phase::Draining { since: now.mono };
            }
            Phase::Draining { since } if self.is_drained(since) || since + DRAIN_NS <= now.mono => {
                self.incomplete |= !self.readers.have_all(since);
                self.close(now, ops);
            }
            Phase::Closing { since } if self.is_closed() || since + CLOSE_NS <= now.mono => self.phase = Phase::Done,
            _ => {}
        }
        if self.shared.fatal.is_some() && !matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            self.close(now, ops);
        }
    }

    /// Every request is answered, or will not be.
    fn is_written(&self) -> bool {
        self.writers.iter().all(|writer| writer.is_idle() || writer.is_lost())
    }

    /// Every request is answered, and then everything is read.
    fn is_drained(&self, since: Mono) -> bool {
        if !self.is_written() {
            return false;
        }
        let settled = self.shared.ledger.as_ref().is_none_or(|ledger| ledger.is_settled());
        settled || self.readers.have_all(since.max(self.heard))
    }

    fn close(&mut self, now: Now, ops: &mut Ops) {
        self.writers.iter_mut().for_each(|writer| writer.give_up(&mut self.shared, Fate::Unknown));
        let Client { shared, readers, .. } = self;
        let whole = !self.incomplete && !readers.are_incomplete();
        let close = |ledger: &mut Ledger| ledger.close(|place| readers.is_trimmed(place), whole);
        self.findings = shared.ledger.as_mut().map_or_else(Findings::default, close);
        self.writers.iter_mut().for_each(|writer| writer.close(ops));
        self.readers.close(ops);
        self.phase = Phase::Closing { since: now.mono };
    }

    fn is_closed(&self) -> bool {
        self.writers.iter().all(Writer::is_down) && self.readers.are_down()
    }

    /// When the next turn must be; `None`: when something completes.
    pub fn deadline(&self) -> Option<Mono> {
        let end = self.shared.begun.map(|begun| begun.mono + self.shared.plan.end);
        let end = end.filter(|_| self.phase == Phase::Running);
        let writers = self.writers.iter().filter_map(|writer| writer.deadline(&self.shared));
        writers.chain(self.readers.deadline()).chain(end).min()
    }

    /// All connections may be used.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// The plan begins, at `at`.
    pub fn begin(&mut self, at: Now) {
        debug_assert!(self.is_ready());
        self.shared.begun = Some(at);
        self.phase = Phase::Running;
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Ends now, whatever is unanswered.
    pub fn stop(&mut self, now: Now, ops: &mut Ops) {
        if !matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            self.incomplete = true;
            self.close(now, ops);
        }
    }

    /// Something has failed below the connections: before the run that ends it, later it is told.
    pub fn fail(&mut self, text: String) {
        match self.shared.begun {
            None => drop(self.shared.fatal.get_or_insert(text)),
            Some(_) => self.shared.complain(text),
        }
    }

    /// Why it could not run.
    pub fn fatal(&self) -> Option<&str> {
        self.shared.fatal.as_deref()
    }

    /// What has been counted since the last time.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.shared.tally)
    }

    /// What reading back has shown: so far, and at the end.
    pub fn findings(&self) -> Findings {
        match self.phase {
            Phase::Closing { .. } | Phase::Done => self.findings,
            _ => self.shared.ledger.as_ref().map_or_else(Findings::default, |ledger| ledger.findings()),
        }
    }

    /// When the last answer came, ns from the beginning.
    pub fn last_answer(&self) -> u64 {
        self.last
    }

    /// The memory that spans are of, for whoever carries out what a turn asks for.
    pub fn memory(&mut self) -> &mut Buffers {
        &mut self.shared.buffers
    }

    pub fn complaints(&self) -> &[(String, u64)] {
        &self.shared.complaints
    }
}

fn unreachable_text(shared: &Shared, writers: &[Writer], readers: &Readers) -> String {
    let seconds = READY_NS / 1_000_000_000;
    let plan = &shared.plan;
    let links = writers.iter().filter_map(|writer| Some((plan.to, writer.link.error?)));
    let read = plan.read.zip(readers.error());
    let error = links.chain(read).next();
    let said = shared.complaints.first().map_or(String::new(), |(text, _)| format!(": {text}"));
    match error {
        Some((to, error)) => format!("{to} cannot be reached: {error}; is a server running there?"),
        None => format!("connections were not ready after {seconds} s{said}"),
    }
}

const _: () = assert!(CONTROL >= native::message::CONTROL_MAX * 2 && CONTROL >= super::native::CONTROL);

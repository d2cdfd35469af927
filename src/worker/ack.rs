//! Who waits for which log to be durable how far, and who must be told.

use super::Worker;
use super::mailbox::{ConnectionId, Message, PutId, PutRefusal};
use super::put::FrameState;
use crate::io::op::Ops;
use crate::log::format::{Position, ShardKey};
use std::collections::VecDeque;

/// What this worker knows of each log, its own and others', and the puts that wait for it, in the order of their positions.
pub struct Acks {
    logs: Vec<LogAcks>,
    /// A log is durable further, or has failed, since native clients were last answered.
    pub(super) news: bool,
}

struct LogAcks {
    durable: Position,
    failed: bool,
    waiting: VecDeque<(Position, PutId)>,
}

impl Acks {
    /// For `logs` logs and up to `puts` puts: a put waits once or twice at most logs.
    pub fn new(logs: usize, puts: usize) -> Acks {
        let log = |_| LogAcks { durable: Position(0), failed: false, waiting: VecDeque::with_capacity(puts * 2) };
        Acks { logs: (0..logs).map(log).collect(), news: false }
    }

    /// Up to where log `log` is known to be durable, and whether it will never be further.
    pub fn of(&self, log: u32) -> (Position, bool) {
        let log = &self.logs[log as usize];
        (log.durable, log.failed)
    }

    /// Lets `put` wait for `position` of log `log`; `false`: it need not, that is durable or waited for already.
    pub fn wait(&mut self, log: u32, position: Position, put: PutId) -> bool {
        let log = &mut self.logs[log as usize];
        if position <= log.durable || log.waiting.back() == Some(&(position, put)) {
            return false;
        }
        debug_assert!(
            log.waiting.back().is_none_or(|(last, _)| *last <= position),
            "positions are waited for in order"
        );
        log.waiting.push_back((position, put));
        true
    }
}

/// What other workers must be told of one of this worker's logs.
pub struct Tell {
    /// By worker: the highest position that it waits for, and what it has been told.
    asked: Vec<Position>,
    told: Vec<Position>,
    told_failed: Vec<bool>,
}

impl Tell {
    pub fn new(workers: u16) -> Tell {
        let n = workers as usize;
        Tell { asked: vec![Position(0); n], told: vec![Position(0); n], told_failed: vec![false; n] }
    }

    /// Worker `worker` has been answered with `position` and waits for it.
    pub fn expects(&mut self, worker: u16, position: Position) {
        let asked = &mut self.asked[worker as usize];
        // What was sent again may have been durable before what is waited for.
        *asked = position.max(*asked);
    }
}

/// A LATEST iterator that waits until what was assigned before it is durable.
#[derive(Clone, Copy)]
pub struct LatestWait {
    pub log: usize,
    pub position: Position,
    pub worker: u16,
    pub to: ConnectionId,
    pub shard: ShardKey,
    pub next: u64,
}

impl Worker {
    /// Releases what waits for this worker's logs, and tells the workers whose puts do.
    pub(super) fn release_acks(&mut self, ops: &mut Ops) {
        for log in 0..self.logs.len() {
            let (number, durable) = (self.logs[log].settings().number, self.logs[log].durable());
            let failed = self.logs[log].failed().is_some();
            self.log_durable(number, durable, failed, ops);
            self.tell_durable(log, number, durable, failed);
            self.fanout_durable(log);
        }
        for _ in 0..self.latest.len() {
            let Some(wait) = self.latest.pop_front() else { break };
            if self.is_overdue_here(wait.worker, wait.to) {
                continue;
            }
            let log = &self.logs[wait.log];
            match (log.durable() >= wait.position, log.failed().is_some()) {
                (true, _) => self.latest_is(wait, ops),
                (false, true) => self.latest_is_lost(wait, ops),
                (false, false) => self.latest.push_back(wait),
            }
        }
    }

    fn tell_durable(&mut self, log: usize, number: u32, durable: Position, failed: bool) {
        for worker in 0..self.workers {
            let tell = &mut self.tell[log];
            let w = worker as usize;
            let news = tell.asked[w] > tell.told[w] && durable > tell.told[w];
            if worker == self.id || !(news || failed && !tell.told_failed[w]) {
                continue;
            }
            if self.mail.offer(worker, Message::Durable { log: number, position: durable, failed }).is_ok() {
                (tell.told[w], tell.told_failed[w]) = (durable, failed);
            }
        }
    }

    /// Log `log` is durable below `position`: the puts that waited for it go on. When it has failed, the others' frames there are lost.
    pub(super) fn log_durable(&mut self, log: u32, position: Position, failed: bool, ops: &mut Ops) {
        let acks = &mut self.acks.logs[log as usize];
        self.acks.news |= position > acks.durable || failed && !acks.failed;
        acks.durable = acks.durable.max(position);
        acks.failed |= failed;
        self.places[log as usize].failed |= failed;
        loop {
            let acks = &mut self.acks.logs[log as usize];
            let Some(&(wanted, put)) = acks.waiting.front() else { return };
            let durable = wanted <= acks.durable;
            if !durable && !acks.failed {
                return;
            }
            acks.waiting.pop_front();
            if !durable {
                self.lose(put, log, wanted);
            }
            self.puts.slots[put.0 as usize].undurable -= 1;
            self.put_progress(put, ops);
        }
    }

    /// The frames of `put` that wait for `position` of a failed log will never be durable.
    fn lose(&mut self, put: PutId, log: u32, position: Position) {
        for frame in &mut self.puts.slots[put.0 as usize].frames {
            if frame.log == log && matches!(frame.state, FrameState::Appended { position: p, .. } if p == position) {
                frame.state = FrameState::Refused(PutRefusal::Failed);
            }
        }
    }
}

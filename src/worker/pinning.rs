//! Every worker's part of a snapshot: its logs are sealed, their segments held, and given second names.

use super::mailbox::Message;
use super::snapshot::{Letter, Taken, Why};
use super::{LINK_TOKEN, Worker};
use crate::io::clock::Mono;
use crate::io::op::{Errno, FileName, Linked, Op, Ops, Piece, Token};
use crate::log::Log;
use crate::log::manifest::Part;
use std::collections::VecDeque;

/// How long sealing may take, with changes waiting, and how long segments are then held for a word that does not come.
pub const PIN_MS: u64 = 10_000;

/// The snapshot that this worker has a part in.
#[derive(Default)]
pub struct Pinning {
    round: Option<Round>,
}

struct Round {
    serial: u32,
    stage: Stage,
    deadline: Mono,
    /// Segments without a second name, by log, oldest first; the first one may be getting it.
    queue: VecDeque<Part>,
    taken: Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Seal,
    /// Worker 0 has been told.
    Wait,
    Link {
        under_way: bool,
    },
}

impl Pinning {
    /// Holds all that the logs have from now on.
    pub fn pin(&mut self, serial: u32, now: Mono, logs: &mut [Log]) {
        logs.iter_mut().for_each(Log::pin);
        let deadline = now.plus_ms(PIN_MS);
        let queue = VecDeque::new();
        self.round = Some(Round { serial, stage: Stage::Seal, deadline, queue, taken: Taken::default() });
    }

    pub fn is_under_way(&self) -> bool {
        self.round.is_some()
    }

    /// Worker 0 has written down the catalog.
    pub fn link(&mut self, serial: u32) {
        match &mut self.round {
            Some(round) if round.serial == serial => round.stage = Stage::Link { under_way: false },
            // Its time was over.
            _ => {
                let (stage, deadline) = (Stage::Link { under_way: false }, Mono(0));
                self.round = Some(Round { serial, stage, deadline, queue: VecDeque::new(), taken: Taken::default() });
            }
        }
    }
}

impl Worker {
    /// Every turn, when the logs have had theirs.
    pub(super) fn run_pinning(&mut self, ops: &mut Ops) {
        let Some(round) = &mut self.pinning.round else { return };
        let overdue = self.now.mono >= round.deadline;
        match round.stage {
            Stage::Seal => {
                let failed = self.logs.iter().find(|log| log.failed().is_some());
                let failed = failed.map(|log| format!("log {} has failed", log.settings().number));
                let held: Option<Vec<_>> =
                    self.logs.iter().map(|log| Some((log.settings().number, log.held()?))).collect();
                if let Some(why) = failed.or_else(|| overdue.then(|| "a log could not be sealed in time".to_string())) {
                    self.tell_pinned(Err(why));
                    self.pinning_over();
                } else if let Some(held) = held {
                    let parts =
                        held.into_iter().flat_map(|(log, held)| held.into_iter().map(move |held| Part { log, held }));
                    round.queue = parts.collect();
                    round.stage = Stage::Wait;
                    let parts = round.queue.iter().copied().collect();
                    self.tell_pinned(Ok(parts));
                }
            }
            Stage::Wait if overdue => self.pinning_over(),
            Stage::Link { under_way: false } if round.deadline == Mono(0) => {
                self.tell_linked(Err("the segments were held for too long".to_string()));
                self.pinning_over();
            }
            Stage::Link { under_way: false } => match round.queue.front() {
                Some(part) => {
                    round.stage = Stage::Link { under_way: true };
                    let Part { log, held } = *part;
                    let at = (log / self.workers as u32) as usize;
                    let from = self.logs[at].link(&held);
                    let to = FileName::Captured(Piece::Segment { log, index: held.file });
                    let token = Token((LINK_TOKEN as u64) << 56 | round.serial as u64);
                    ops.push(Op::Link { from, to, token });
                }
                None => {
                    let taken = round.taken;
                    self.tell_linked(Ok(taken));
                    self.pinning_over();
                }
            },
            Stage::Wait | Stage::Link { under_way: true } => {}
        }
    }

    /// A segment has its second name, or does not get it.
    pub(super) fn segment_linked(&mut self, result: Result<u32, Errno>) {
        let Some(round) = &mut self.pinning.round else { return };
        let Some(Part { log, held }) = round.queue.pop_front() else { return };
        round.stage = Stage::Link { under_way: false };
        let at = (log / self.workers as u32) as usize;
        match result {
            Ok(answer) => {
                let linked = Linked::of(answer);
                self.logs[at].linked(&held, linked != Linked::Hard);
                let by = |kind| (linked == kind) as u64;
                round.taken.add(&Taken {
                    segments: 1,
                    bytes: held.end as u64,
                    reflinks: by(Linked::Reflink),
                    links: by(Linked::Hard),
                    copies: by(Linked::Copied),
                });
            }
            Err(errno) => {
                let from = FileName::Segment { log, index: held.file };
                let why = self.first_half_missing(Some(log)).map_or(errno.to_string(), str::to_owned);
                self.tell_linked(Err(format!("linking {from}: {why}")));
                self.pinning_over();
            }
        }
    }

    fn pinning_over(&mut self) {
        self.pinning.round = None;
        self.logs.iter_mut().for_each(Log::unpin);
    }

    fn tell_pinned(&mut self, held: Result<Vec<Part>, Why>) {
        let serial = self.pinning.round.as_ref().map_or(0, |round| round.serial);
        match self.id {
            0 => self.snapshot_pinned(serial, held),
            _ => self.mail.answer(0, Message::Snapshot(Letter::Pinned { serial, held: Box::new(held) })),
        }
    }

    fn tell_linked(&mut self, result: Result<Taken, Why>) {
        let serial = self.pinning.round.as_ref().map_or(0, |round| round.serial);
        match self.id {
            0 => self.snapshot_linked(serial, result),
            _ => self.mail.answer(0, Message::Snapshot(Letter::Linked { serial, result: Box::new(result) })),
        }
    }
}

//! What a log knows of a shard's producers goes with the shard when that moves to another log: before the move ends, the new log has it,
//! durably. Where the new log cannot take it (it is full, or has failed, or knows as many other producers as it can that have been active
//! lately), the shard stays where it was: a log that was left behind with what it knew would take for new what has been stored since, if the
//! shard came back.

use super::mailbox::Message;
use super::{WhenFull, Worker};
use crate::io::clock::Mono;
use crate::log::Refusal;
use crate::log::format::{Position, ShardKey};
use crate::observe::counter::Counter;

/// What workers tell each other.
pub enum Letter {
    /// To the owner of log `log`, where `shard` goes: let it know these producers. Answered by `Adopted`.
    Adopt { shard: ShardKey, log: u32, table: Vec<u8> },
    /// It does, durably, or (`known`: false) cannot.
    Adopted { shard: ShardKey, known: bool },
}

/// How far that is for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handover {
    Waits,
    /// The other log knows them, or there is no other log.
    Done,
    Refused,
}

/// A table on its way into a log of this worker.
struct Adoption {
    /// Who has sent it.
    worker: u16,
    shard: ShardKey,
    /// Index of the log.
    log: usize,
    table: Vec<u8>,
    /// Where its frame ends, once it is appended.
    end: Option<Position>,
    /// When the log, which is full, is not waited for any more.
    deadline: Mono,
}

/// How long a full log is waited for. Puts to the shard wait as long.
const FULL_MS: u64 = 5_000;

/// Shards are moved one at a time, so each of these is one, or none.
#[derive(Default)]
pub(super) struct Handovers {
    /// A shard of this worker that leaves its log.
    leaving: Option<(ShardKey, Handover)>,
    coming: Vec<Adoption>,
}

impl Handovers {
    /// Whether something is to be done though nothing completes.
    pub fn goes_on(&self) -> bool {
        self.coming.iter().any(|adoption| adoption.end.is_none())
    }
}

impl Worker {
    /// Whether the log that `shard`, all of it durable, is moving to knows its producers, if it is moving; if not, that is asked for.
    pub(super) fn hand_over(&mut self, shard: ShardKey) -> Handover {
        let stream = self.state().stream_by_number(shard.stream());
        let Some(moving) = stream.and_then(|stream| stream.moving).filter(|moving| moving.shard == shard.shard())
        else {
            return Handover::Done;
        };
        match self.handovers.leaving {
            Some((leaving, state)) if leaving == shard => {
                if state != Handover::Waits {
                    self.handovers.leaving = None;
                }
                return state;
            }
            Some((_, Handover::Waits)) => return Handover::Waits,
            // What it was for ended in another way.
            Some(_) => self.handovers.leaving = None,
            None => {}
        }
        let Some(table) = self.shards.get(shard).map(|owned| self.logs[owned.log].producers_of(shard)) else {
            return Handover::Done;
        };
        let owner = self.owner_of(moving.to);
        self.handovers.leaving = Some((shard, Handover::Waits));
        if owner == self.id {
            self.adopt(owner, shard, moving.to, table);
        } else if self.mail.may_ask(owner, 1) {
            self.mail.ask(owner, Message::Handover(Letter::Adopt { shard, log: moving.to, table }));
        } else {
            self.handovers.leaving = None;
        }
        Handover::Waits
    }

    fn adopt(&mut self, worker: u16, shard: ShardKey, log: u32, table: Vec<u8>) {
        match self.log_index(log).filter(|index| *index < self.logs.len()) {
            Some(log) => {
                let deadline = self.now.mono.plus_ms(FULL_MS);
                self.handovers.coming.push(Adoption { worker, shard, log, table, end: None, deadline });
            }
            None => self.adopted(worker, shard, false),
        }
    }

    pub(super) fn on_handover_letter(&mut self, from: u16, letter: Letter) {
        match letter {
            Letter::Adopt { shard, log, table } => self.adopt(from, shard, log, table),
            Letter::Adopted { shard, known } => {
                self.mail.answered(from);
                self.handed_over(shard, known);
            }
        }
    }

    fn handed_over(&mut self, shard: ShardKey, known: bool) {
        if let Some((leaving, state)) = &mut self.handovers.leaving
            && *leaving == shard
        {
            *state = if known { Handover::Done } else { Handover::Refused };
        }
    }

    fn adopted(&mut self, worker: u16, shard: ShardKey, known: bool) {
        match worker == self.id {
            true => self.handed_over(shard, known),
            false => self.mail.answer(worker, Message::Handover(Letter::Adopted { shard, known })),
        }
    }

    /// Appends what came, and answers for what is durable. Before the logs end their turn.
    pub(super) fn handovers_turn(&mut self) {
        let now = self.retention.stamp(self.now);
        for _ in 0..self.handovers.coming.len() {
            let mut adoption = self.handovers.coming.remove(0);
            let log = &mut self.logs[adoption.log];
            let over = match adoption.end {
                Some(end) if log.durable() >= end => Some(true),
                Some(_) => log.failed().map(|_| false),
                None => match log.adopt_producers(adoption.shard, &adoption.table, now, &mut self.buffers) {
                    Ok(end) => {
                        adoption.end = Some(end);
                        None
                    }
                    Err(Refusal::Busy) => None,
                    Err(Refusal::Full) if self.now.mono < adoption.deadline && !self.stopping => {
                        let space = &mut self.space[adoption.log];
                        space.wants_trim |= self.options.when_full == WhenFull::Trim && !space.stuck;
                        None
                    }
                    Err(Refusal::Full | Refusal::Failed | Refusal::TooLarge) => {
                        self.counters.add(Counter::NativeHandoversFailed, 1);
                        Some(false)
                    }
                },
            };
            match over {
                Some(known) => self.adopted(adoption.worker, adoption.shard, known),
                None => self.handovers.coming.push(adoption),
            }
        }
    }
}

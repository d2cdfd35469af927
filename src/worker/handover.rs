//! What a log knows of a shard's producers goes with the shard when that moves to another log: before the move ends, the new log has it,
//! durably. Where the new log cannot take it, the move ends all the same: producers then begin a new epoch, as after a day of silence.

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
    /// It does, durably, or cannot.
    Adopted { shard: ShardKey },
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
    /// A shard of this worker that leaves its log, and whether the other one knows its producers.
    leaving: Option<(ShardKey, bool)>,
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
    pub(super) fn is_handed_over(&mut self, shard: ShardKey) -> bool {
        let stream = self.state().stream_by_number(shard.stream());
        let Some(moving) = stream.and_then(|stream| stream.moving).filter(|moving| moving.shard == shard.shard())
        else {
            return true;
        };
        match self.handovers.leaving {
            Some((leaving, known)) if leaving == shard => {
                if known {
                    self.handovers.leaving = None;
                }
                return known;
            }
            // What it was for ended in another way.
            Some((_, true)) => self.handovers.leaving = None,
            Some((_, false)) => return false,
            None => {}
        }
        let Some(table) = self.shards.get(shard).map(|owned| self.logs[owned.log].producers_of(shard)) else {
            return true;
        };
        let owner = self.owner_of(moving.to);
        if table.is_empty() {
            return true;
        } else if owner == self.id {
            self.adopt(owner, shard, moving.to, table);
        } else if self.mail.may_ask(owner, 1) {
            self.mail.ask(owner, Message::Handover(Letter::Adopt { shard, log: moving.to, table }));
        } else {
            return false;
        }
        self.handovers.leaving = Some((shard, false));
        false
    }

    fn adopt(&mut self, worker: u16, shard: ShardKey, log: u32, table: Vec<u8>) {
        match self.log_index(log).filter(|index| *index < self.logs.len()) {
            Some(log) => {
                let deadline = self.now.mono.plus_ms(FULL_MS);
                self.handovers.coming.push(Adoption { worker, shard, log, table, end: None, deadline });
            }
            None => self.adopted(worker, shard),
        }
    }

    pub(super) fn on_handover_letter(&mut self, from: u16, letter: Letter) {
        match letter {
            Letter::Adopt { shard, log, table } => self.adopt(from, shard, log, table),
            Letter::Adopted { shard } => {
                self.mail.answered(from);
                self.is_known_there(shard);
            }
        }
    }

    fn is_known_there(&mut self, shard: ShardKey) {
        if let Some((leaving, known)) = &mut self.handovers.leaving
            && *leaving == shard
        {
            *known = true;
        }
    }

    fn adopted(&mut self, worker: u16, shard: ShardKey) {
        match worker == self.id {
            true => self.is_known_there(shard),
            false => self.mail.answer(worker, Message::Handover(Letter::Adopted { shard })),
        }
    }

    /// Appends what came, and answers for what is durable. Before the logs end their turn.
    pub(super) fn handovers_turn(&mut self) {
        for _ in 0..self.handovers.coming.len() {
            let mut adoption = self.handovers.coming.remove(0);
            let log = &mut self.logs[adoption.log];
            let over = match adoption.end {
                Some(end) => log.durable() >= end || log.failed().is_some(),
                None => match log.adopt_producers(adoption.shard, &adoption.table, &mut self.buffers) {
                    Ok(end) => {
                        adoption.end = Some(end);
                        false
                    }
                    Err(Refusal::Busy) => false,
                    Err(Refusal::Full) if self.now.mono < adoption.deadline && !self.stopping => {
                        let space = &mut self.space[adoption.log];
                        space.wants_trim |= self.options.when_full == WhenFull::Trim && !space.stuck;
                        false
                    }
                    Err(Refusal::Full | Refusal::Failed | Refusal::TooLarge) => {
                        self.counters.add(Counter::NativeHandoversFailed, 1);
                        true
                    }
                },
            };
            match over {
                true => self.adopted(adoption.worker, adoption.shard),
                false => self.handovers.coming.push(adoption),
            }
        }
    }
}

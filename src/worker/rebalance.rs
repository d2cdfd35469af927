//! Moves of shards between logs, asked for by `penstock rebalance`: worker 0 makes them one at a time, and answers when all are made.
//!
//! A move is two changes of the catalog (`catalog/moving.rs`). One that does not end in its time is not undone: it ends when the log is durable
//! that it waits for. Where that log fails instead, the move ends and the shard stays.

use super::Worker;
use super::control::{Then, Wish};
use super::mailbox::{ConnectionId, Message};
use super::serve::{Body, Reply};
use crate::catalog::balance::Move;
use crate::catalog::decide::Decide;
use crate::catalog::state::StreamStatus;
use crate::http::response::ContentType;
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::kinesis::shard_id::ShardId;
use crate::log::format::ShardKey;
use crate::observe::counter::Counter;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A request begins no further move after this time.
pub const REBALANCE_MS: u64 = 20_000;
/// How long one move is waited for.
const MOVE_MS: u64 = 12_000;
/// Moves of one request; what is planned beyond is only counted, for the next one.
pub const MOVES_MAX: usize = 64;

/// A move that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the stream.
    pub stream: String,
    pub shard: u32,
    /// Number of a log.
    pub to: u32,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// These moves; `None`: those that even things out.
    moves: Option<Vec<Wanted>>,
    /// The path of a data directory that all shards are to leave.
    away: Option<String>,
    /// Only to say what would be moved.
    dry_run: bool,
}

impl Request {
    /// From `{"moves": [{"stream": NAME, "shard": ID, "to": LOG}], "away": PATH, "dry_run": BOOL}`, each optional; nothing at all is `{}`.
    fn decode(text: &[u8]) -> Result<Request, String> {
        if text.is_empty() {
            return Ok(Request::default());
        }
        let body: Value = serde_json::from_slice(text).map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(members) = body else { return Err("the body is not an object".to_string()) };
        let mut request = Request::default();
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("moves", Value::Array(moves)) if moves.len() <= MOVES_MAX => {
                    request.moves = Some(moves.iter().map(wanted).collect::<Result<_, _>>()?);
                }
                ("moves", Value::Array(_)) => return Err(format!("at most {MOVES_MAX} moves are made at once")),
                ("away", Value::String(path)) => request.away = Some(path.clone()),
                ("dry_run", Value::Bool(dry_run)) => request.dry_run = *dry_run,
                _ => return Err(format!("{name} is not known, or not of its type")),
            }
        }
        match request.moves.is_some() && request.away.is_some() {
            true => Err("moves and away exclude each other".to_string()),
            false => Ok(request),
        }
    }
}

fn wanted(value: &Value) -> Result<Wanted, String> {
    let shard = value["shard"].as_str().and_then(ShardId::parse);
    let to = value["to"].as_u64().and_then(|to| u32::try_from(to).ok());
    match (value["stream"].as_str(), shard, to) {
        (Some(stream), Some(shard), Some(to)) => Ok(Wanted { stream: stream.to_string(), shard: shard.0, to }),
        _ => Err(format!(
            "a move is {{\"stream\": NAME, \"shard\": \"shardId-000000000000\", \"to\": LOG}}, not {value}"
        )),
    }
}

/// What workers tell each other.
pub enum Letter {
    /// To worker 0: a connection of mine asks for it. Answered by `Answer`.
    Asked {
        from: ConnectionId,
        request: Box<Request>,
    },
    Answer {
        to: ConnectionId,
        answer: Box<Answer>,
    },
}

/// Of a request: the status and JSON.
pub struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn refused(status: u16, why: impl Into<String>) -> Answer {
        Answer { status, body: json!({ "message": why.into() }) }
    }
}

/// Worker 0's part.
#[derive(Default)]
pub struct Rebalances {
    under_way: Option<Rebalance>,
}

struct Rebalance {
    worker: u16,
    connection: ConnectionId,
    deadline: Mono,
    waiting: VecDeque<Wanted>,
    current: Option<Current>,
    moved: Vec<Value>,
    not_moved: Vec<Value>,
    /// Planned beyond what one request moves.
    left: usize,
}

/// The move under way.
struct Current {
    wanted: Wanted,
    /// Once the change that begins it is proposed.
    begun: Option<Begun>,
    began: Mono,
    /// How it ended.
    ended: Option<Result<(), String>>,
}

/// What a move was begun with.
#[derive(Clone, Copy)]
struct Begun {
    stream: u32,
    /// The log that it leaves.
    from: u32,
    /// Number of the change. What was proposed before is of an earlier move.
    change: u64,
}

impl Wanted {
    fn not_moved(&self, why: &str) -> Value {
        json!({ "stream": self.stream, "shard": ShardId(self.shard).to_string(), "to": self.to, "why": why })
    }
}

impl From<Move> for Wanted {
    fn from(planned: Move) -> Wanted {
        Wanted { stream: planned.stream, shard: planned.shard, to: planned.to }
    }
}

impl Worker {
    /// The request of connection `slot`.
    pub(super) fn rebalance_begin(&mut self, slot: u16, key: Option<[u8; 16]>, ops: &mut Ops) {
        if !self.is_admin(key) {
            return self.refuse_stranger(slot, ops);
        }
        let from = self.connections.id(slot);
        let decoded = Request::decode(self.buffers.bytes(self.body_of(slot)));
        self.body_is_read(slot);
        let request = match decoded {
            Ok(request) => Box::new(request),
            Err(why) => return self.rebalance_answered(from, Answer::refused(400, why), ops),
        };
        if self.id == 0 {
            return self.rebalance_asked(0, from, &request, ops);
        }
        match self.mail.may_ask(0, 1) {
            true => self.mail.ask(0, Message::Rebalance(Letter::Asked { from, request })),
            false => self.rebalance_answered(from, Answer::refused(503, "worker 0 is busy; try again"), ops),
        }
    }

    pub(super) fn on_rebalance_letter(&mut self, from: u16, letter: Letter, ops: &mut Ops) {
        match letter {
            Letter::Asked { from: connection, request } => self.rebalance_asked(from, connection, &request, ops),
            Letter::Answer { to, answer } => {
                self.mail.answered(from);
                self.rebalance_answered(to, *answer, ops);
            }
        }
    }

    /// Worker 0: `connection` of worker `worker` asks for moves.
    fn rebalance_asked(&mut self, worker: u16, connection: ConnectionId, request: &Request, ops: &mut Ops) {
        let control = self.control.as_ref().expect("shards are moved by worker 0");
        let refusal = if self.rebalances.under_way.is_some() {
            Some("shards are being moved already; ask again when that is done")
        } else if control.has_failed() {
            Some("the catalog has failed: restart the server first")
        } else if self.stopping || !self.serving {
            Some("the server is being started or stopped")
        } else {
            None
        };
        if let Some(why) = refusal {
            return self.answer_rebalance(worker, connection, Answer::refused(503, why), ops);
        }
        let (mut waiting, left) = match self.moves_of(request) {
            Ok(found) => found,
            Err(why) => return self.answer_rebalance(worker, connection, Answer::refused(400, why), ops),
        };
        let mut rebalance = Rebalance {
            worker,
            connection,
            deadline: self.now.mono.plus_ms(REBALANCE_MS),
            waiting: VecDeque::new(),
            current: None,
            moved: Vec::new(),
            not_moved: Vec::new(),
            left,
        };
        if request.dry_run {
            for wanted in waiting.drain(..) {
                match self.judge(&wanted) {
                    Ok((_, from)) => rebalance.moved.push(self.told(&wanted, from, None)),
                    Err(why) => rebalance.not_moved.push(wanted.not_moved(&why)),
                }
            }
        }
        rebalance.waiting = waiting;
        self.rebalances.under_way = Some(rebalance);
    }

    /// The moves that a request is about, and how many there are beyond what is made at once.
    fn moves_of(&self, request: &Request) -> Result<(VecDeque<Wanted>, usize), String> {
        if let Some(moves) = &request.moves {
            return Ok((moves.iter().cloned().collect(), 0));
        }
        let away = request.away.as_ref().map(|path| {
            let known = self.paths.iter().position(|of| of == path).map(|number| number as u32);
            known
                .ok_or_else(|| format!("{path} is no data directory of this server; it has: {}", self.paths.join(", ")))
        });
        let away = away.transpose()?;
        if away.is_some_and(|away| self.places.iter().all(|place| place.failed || place.directory == away)) {
            return Err("there is no other directory with a log that takes records".to_string());
        }
        let state = self.control.as_ref().expect("worker 0").catalog.ahead();
        let planned = state.moves(&self.places, away, |stream| self.horizon(stream.number));
        let left = planned.len().saturating_sub(MOVES_MAX);
        Ok((planned.into_iter().take(MOVES_MAX).map(Wanted::from).collect(), left))
    }

    /// The change that begins a move, and the log that the shard is on; or why it cannot be.
    fn judge(&self, wanted: &Wanted) -> Result<(crate::catalog::change::Change, u32), String> {
        let state = self.control.as_ref().expect("worker 0").catalog.ahead();
        let horizon = state.stream(&wanted.stream).map_or(0, |stream| self.horizon(stream.number));
        let decide = Decide { state, identity: &self.identity, logs: &self.places };
        let change =
            decide.move_shard(&wanted.stream, wanted.shard, wanted.to, horizon).map_err(|error| error.message)?;
        let from = state.stream(&wanted.stream).and_then(|stream| stream.shards.get(&wanted.shard)).map(|s| s.log);
        Ok((change, from.expect("it was just looked at")))
    }

    /// Whether a turn has something to do that no completion tells of.
    pub(super) fn rebalance_goes_on(&self) -> bool {
        self.rebalances.under_way.is_some()
    }

    /// Worker 0, every turn: the next move, when the last one has ended; the answer, when all have.
    pub(super) fn run_rebalance(&mut self, ops: &mut Ops) {
        self.look_after_move();
        let broken = self.control.as_ref().is_none_or(|control| control.has_failed()) || self.stopping;
        let now = self.now.mono;
        let Some(rebalance) = self.rebalances.under_way.as_mut().filter(|rebalance| rebalance.current.is_none()) else {
            return;
        };
        if broken || now >= rebalance.deadline {
            let why = if broken {
                "the server is stopping, or its catalog has failed"
            } else {
                "there was no time left; ask again"
            };
            rebalance.not_moved.extend(rebalance.waiting.drain(..).map(|wanted| wanted.not_moved(why)));
        }
        let Some(wanted) = rebalance.waiting.pop_front() else { return self.rebalance_over(ops) };
        let began = now;
        rebalance.current = Some(Current { wanted: wanted.clone(), begun: None, began, ended: None });
        self.control.as_mut().expect("worker 0").wishes.push_back(Wish::Move(wanted));
    }

    /// Puts down how the move under way has ended, if it has.
    fn look_after_move(&mut self) {
        let failed = self.control.as_ref().is_none_or(|control| control.has_failed());
        let Some(rebalance) = self.rebalances.under_way.as_mut() else { return };
        let Some(current) = rebalance.current.as_mut() else { return };
        if current.ended.is_none() {
            let why = if failed {
                "the catalog has failed: whether it was moved shows after a restart"
            } else if self.stopping {
                "the server is being stopped; the move ends after the next start"
            } else if self.now.mono >= current.began.plus_ms(MOVE_MS) {
                "it takes longer than the server waits; it ends by itself when the shard's log is durable, or fails"
            } else {
                return;
            };
            current.ended = Some(Err(why.to_string()));
        }
        let current = rebalance.current.take().expect("it was just looked at");
        match current.ended.expect("settled above") {
            Ok(()) => {
                let took = (self.now.mono - current.began) / 1_000_000;
                let begun = current.begun.expect("what has ended well was begun");
                let told = self.told(&current.wanted, begun.from, Some(took));
                self.counters.add(Counter::ShardsMoved, 1);
                self.rebalances.under_way.as_mut().expect("as above").moved.push(told);
            }
            Err(why) => rebalance.not_moved.push(current.wanted.not_moved(&why)),
        }
    }

    /// Worker 0: a wish for a move has its turn.
    pub(super) fn judge_move(&mut self, wanted: &Wanted, ops: &mut Ops) {
        let judged = self.judge(wanted);
        let stream = self.control.as_ref().and_then(|control| control.catalog.ahead().stream(&wanted.stream));
        let stream = stream.map_or(0, |stream| stream.number);
        let current = self.rebalances.under_way.as_mut().and_then(|rebalance| rebalance.current.as_mut());
        // Nobody waits for one whose time is over: it is not begun.
        let Some(current) = current.filter(|current| current.wanted == *wanted) else { return };
        match judged {
            Err(why) => current.ended = Some(Err(why)),
            Ok((change, from)) => {
                let catalog = &mut self.control.as_mut().expect("worker 0").catalog;
                let change = catalog.propose(change, &mut self.buffers, ops);
                current.begun = Some(Begun { stream, from, change });
            }
        }
    }

    /// Worker 0, now and then: forgets former logs of which everything has expired.
    pub(super) fn forget_formers(&mut self) {
        // Where the clock has stepped, nothing is given up by it.
        if self.retention.stepped != 0 {
            return;
        }
        let Some(control) = self.control.as_ref().filter(|control| control.may_wish()) else { return };
        let streams = control.catalog.state().streams.values().map(|stream| (stream, self.horizon(stream.number)));
        let due = streams.filter(|(stream, horizon)| stream.forget_formers(*horizon).is_some());
        let wishes: Vec<_> = due.map(|(of, horizon)| Wish::ForgetFormers { stream: of.number, horizon }).collect();
        let control = self.control.as_mut().expect("as above");
        for wish in wishes {
            if control.may_wish() {
                control.wishes.push_back(wish);
            }
        }
    }

    /// Worker 0: the owner of the moving shard has said how it ends on the log that it is on.
    pub(super) fn judge_moved(&mut self, stream: u32, ops: &mut Ops) {
        let horizon = self.horizon(stream);
        let control = self.control.as_mut().expect("worker 0");
        let of = control.catalog.ahead().stream_by_number(stream);
        let Some((of, moving)) = of.and_then(|of| Some((of, of.moving?))) else { return };
        let shard = ShardKey::new(stream, moving.shard);
        let stays = control.stays.take_if(|stays| *stays == shard).is_some();
        let change = match control.ends.remove(&shard) {
            Some(Some(drained)) => of.end_of_move(drained, stays, horizon, &self.places),
            Some(None) => of.end_of_stranded_move(horizon),
            None => None,
        };
        if let Some(change) = change {
            self.propose(change, Some(Then::Moved { stream }), ops);
        }
    }

    /// Worker 0: every worker knows by change `number` that a shard of stream `stream` takes records again, or that the stream is being
    /// deleted.
    pub(super) fn move_ended(&mut self, stream: u32, number: u64) {
        let state = self.control.as_ref().expect("worker 0").catalog.state();
        let current = self.rebalances.under_way.as_mut().and_then(|rebalance| rebalance.current.as_mut());
        let Some(current) = current.filter(|current| current.ended.is_none()) else { return };
        let is_its = |begun: &Begun| begun.stream == stream && begun.change < number;
        let Some(Begun { from, .. }) = current.begun.filter(is_its) else { return };
        let failed = |log: u32| self.places.get(log as usize).is_some_and(|place| place.failed);
        let found = state.stream_by_number(stream).filter(|stream| stream.status != StreamStatus::Deleting);
        current.ended = Some(match found.and_then(|stream| stream.shards.get(&current.wanted.shard)) {
            Some(shard) if shard.log == current.wanted.to => Ok(()),
            Some(_) if failed(current.wanted.to) => Err(format!("log {} has failed meanwhile", current.wanted.to)),
            Some(_) if failed(from) => Err(format!("its log {from} has failed meanwhile: it stays there")),
            Some(_) => Err(format!(
                "log {} is full, or knows as many producers as it can: it stays in log {from}",
                current.wanted.to
            )),
            None => Err("its stream was deleted meanwhile".to_string()),
        });
    }

    /// What a move is told as; `took`: ms, or that it has not been made.
    fn told(&self, wanted: &Wanted, from: u32, took: Option<u64>) -> Value {
        let path = |log: u32| self.places.get(log as usize).and_then(|place| self.paths.get(place.directory as usize));
        let mut told = json!({
            "stream": wanted.stream, "shard": ShardId(wanted.shard).to_string(), "from": from, "to": wanted.to,
            "from_directory": path(from), "to_directory": path(wanted.to),
        });
        if let Some(ms) = took {
            told["ms"] = ms.into();
        }
        told
    }

    /// All moves have ended.
    fn rebalance_over(&mut self, ops: &mut Ops) {
        let Some(done) = self.rebalances.under_way.take() else { return };
        let state = self.control.as_ref().expect("worker 0").catalog.state();
        let logs = (0u32..).zip(&self.places).map(|(log, place)| {
            let shards = state.placed.get(&log).copied().unwrap_or(0);
            let path = self.paths.get(place.directory as usize);
            json!({ "log": log, "directory": path, "shards": shards, "failed": place.failed })
        });
        let logs: Vec<Value> = logs.collect();
        let body = json!({ "moved": done.moved, "not_moved": done.not_moved, "left": done.left, "logs": logs });
        self.answer_rebalance(done.worker, done.connection, Answer { status: 200, body }, ops);
    }

    fn answer_rebalance(&mut self, worker: u16, to: ConnectionId, answer: Answer, ops: &mut Ops) {
        match worker == self.id {
            true => self.rebalance_answered(to, answer, ops),
            false => self.mail.answer(worker, Message::Rebalance(Letter::Answer { to, answer: Box::new(answer) })),
        }
    }

    /// The answer to a request that a connection of this worker has made.
    fn rebalance_answered(&mut self, to: ConnectionId, answer: Answer, ops: &mut Ops) {
        if !self.connections.awaits(to) {
            return;
        }
        let body = Body::Bytes(format!("{}\n", answer.body).into_bytes());
        self.reply(to.slot, Reply { status: answer.status, content_type: Some(ContentType::Json), body }, ops);
    }
}

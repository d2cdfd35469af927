//! Lease tables at worker 0: reads are answered from the durable state, writes are judged one by one against the state that all earlier
//! ones leave, and answered when that is durable. Writes that come together share an entry of the journal.

use super::Worker;
use super::access::refusal;
use super::control::FAILED;
use super::errand::{Errand, Outcome, Sender, busy};
use super::room::NO_ROOM;
use super::serve::{Body, Reply, Route};
use crate::auth::ask::Resource;
use crate::auth::sigv4;
use crate::catalog::change::Change;
use crate::catalog::reserve::Cover;
use crate::http::http1;
use crate::http::response::ContentType;
use crate::io::op::Ops;
use crate::kinesis;
use crate::tables::error::{Error, Kind};
use crate::tables::judge::Judge;
use crate::tables::limits::ITEM_BYTES_MAX;
use crate::tables::operation::Operation;
use crate::tables::read;
use crate::tables::request::{self, Request, Write};
use std::collections::VecDeque;

/// Writes that wait to be judged or to be durable: how many, and their bytes with those of their answers.
const WRITES_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;

struct Wish {
    sender: Sender,
    write: Write,
    /// What it counts for.
    bytes: usize,
}

/// An answer that is true when change `number` is durable.
struct Waiting {
    number: u64,
    sender: Sender,
    result: Result<String, Error>,
    bytes: usize,
}

/// Writes on their way.
#[derive(Default)]
pub(super) struct Desk {
    wishes: VecDeque<Wish>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Desk {
    fn has_room(&self, bytes: usize) -> bool {
        self.wishes.len() + self.waiting.len() < WRITES_MAX && self.bytes + bytes <= BYTES_MAX
    }
}

/// What a request with a target of DynamoDB is for.
pub(super) fn route(operation: Operation, request: &http1::Request<'_>) -> Route {
    let route = Route::Tables(operation);
    match sigv4::check_form(request.authorization, request.query, request.dated) {
        Ok(()) => route,
        Err(error) => Route::Refused(Box::new(refusal(&route, &error))),
    }
}

impl Reply {
    /// The answer to a request on lease tables.
    pub(super) fn tables(result: Result<String, Error>) -> Reply {
        let (status, body) = match result {
            Ok(body) => (200, body),
            Err(error) => (error.status(), error.body()),
        };
        Reply { status, content_type: Some(ContentType::AmzJsonOld), body: Body::Bytes(body.into_bytes()) }
    }
}

impl Worker {
    /// A whole request has come.
    pub(super) fn tables_begin(&mut self, slot: u16, operation: Operation, ops: &mut Ops) {
        let body = self.buffers.bytes(self.body_of(slot));
        let bytes = body.len();
        let decoded = request::decode(operation, body);
        self.body_is_read(slot);
        if let Ok(request) = &decoded
            && let Err(error) = self.may_use_tables(slot, operation, request)
        {
            return self.reply(slot, Reply::refused(refusal(&Route::Tables(operation), &error)), ops);
        }
        let refused = match decoded {
            Err(error) => error,
            Ok(request) => match self.send_errand(slot, Errand::Tables { request: Box::new(request), bytes }, ops) {
                true => return,
                false => busy(),
            },
        };
        self.reply(slot, Reply::tables(Err(refused)), ops);
    }

    fn may_use_tables(&self, slot: u16, operation: Operation, request: &Request) -> Result<(), kinesis::error::Error> {
        for (action, table) in request.needs(operation) {
            self.authorize(slot, action, table.as_deref().map_or(Resource::Any, Resource::Table))?;
        }
        Ok(())
    }

    pub(super) fn tables_asked(&mut self, sender: Sender, request: Request, bytes: usize, ops: &mut Ops) {
        let write = match request {
            Request::Read(read) => {
                let control = self.control.as_ref().expect("errands go to worker 0");
                let result = read::answer(&read, &control.catalog.state().tables, &self.identity);
                return self.answer_errand(sender, Outcome::Tables(result), ops);
            }
            Request::Write(write) => write,
        };
        // Its answer may have the item, or as many of a transaction as were sent.
        let bytes = bytes + ITEM_BYTES_MAX;
        if !self.desk.has_room(bytes) {
            return self.answer_errand(sender, Outcome::Tables(Err(busy())), ops);
        }
        self.desk.bytes += bytes;
        self.desk.wishes.push_back(Wish { sender, write, bytes });
    }

    /// Worker 0's share of a turn.
    pub(super) fn run_tables(&mut self, ops: &mut Ops) {
        if self.serving {
            self.judge_writes(ops);
        }
        self.answer_durable(ops);
    }

    fn judge_writes(&mut self, ops: &mut Ops) {
        while let Some(Wish { sender, write, bytes }) = self.desk.wishes.pop_front() {
            let now = self.retention.stamp(self.now);
            let control = self.control.as_mut().expect("worker 0");
            let refused = match (control.failed, control.catalog.waits_for_room()) {
                (true, _) => Some(failed()),
                (_, true) => Some(no_room()),
                _ => None,
            };
            if let Some(error) = refused {
                self.answer_write(sender, Err(error), bytes, ops);
                continue;
            }
            let ahead = control.catalog.ahead();
            let judge = Judge { tables: &ahead.tables, identity: &self.identity, now };
            let (number, result) = match judge.judge(&write) {
                // What it was judged by may be lost in a crash: the refusal goes out when that is durable.
                Err(error) => (ahead.applied, Err(error)),
                Ok(judged) => {
                    let cover = match judged.growth {
                        0 => Cover::Given,
                        growth => control.catalog.cover(growth, &mut self.buffers, ops),
                    };
                    match cover {
                        Cover::Missing => {
                            self.answer_write(sender, Err(no_room()), bytes, ops);
                            continue;
                        }
                        Cover::Soon => return self.desk.wishes.push_front(Wish { sender, write, bytes }),
                        Cover::Given if judged.changes.is_empty() => (control.catalog.ahead().applied, Ok(judged.body)),
                        Cover::Given => {
                            let change = Change::Tables(judged.changes);
                            (control.catalog.propose(change, &mut self.buffers, ops), Ok(judged.body))
                        }
                    }
                }
            };
            self.desk.waiting.push_back(Waiting { number, sender, result, bytes });
        }
    }

    /// Answers in the order in which they were judged, which is that of the numbers.
    fn answer_durable(&mut self, ops: &mut Ops) {
        let control = self.control.as_ref().expect("worker 0");
        let (durable, is_lost) = (control.catalog.state().applied, control.failed);
        while let Some(next) = self.desk.waiting.pop_front_if(|next| is_lost || next.number <= durable) {
            let result = if next.number <= durable { next.result } else { Err(failed()) };
            self.answer_write(next.sender, result, next.bytes, ops);
        }
    }

    fn answer_write(&mut self, sender: Sender, result: Result<String, Error>, bytes: usize, ops: &mut Ops) {
        self.desk.bytes -= bytes;
        self.answer_errand(sender, Outcome::Tables(result), ops);
    }
}

fn failed() -> Error {
    Error::new(Kind::InternalServer, FAILED)
}

fn no_room() -> Error {
    Error::new(Kind::LimitExceeded, NO_ROOM)
}

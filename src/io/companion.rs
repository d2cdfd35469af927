//! A companion, as its worker's ring sees it: what it is asked, what it answers, and what happens when it has ended.

use super::op::{Completion, Errno};
use super::uring::Ring;
use super::{prepare, scrub};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

/// Work for a companion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Prepare(prepare::Request),
    Scrub(scrub::Request),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Prepared { request: prepare::Request, result: Result<(), Errno> },
    Scrubbed { request: scrub::Request, report: scrub::Report },
}

/// Both ends of it at the worker. Whoever answers wakes the worker.
pub struct Link {
    pub requests: Sender<Request>,
    pub answers: Receiver<Answer>,
}

/// The link, and what has been asked and not answered.
pub(super) struct Companion {
    link: Option<Link>,
    asked: Vec<Request>,
}

impl Companion {
    pub fn new(link: Option<Link>) -> Companion {
        Companion { link, asked: Vec::new() }
    }
}

impl Ring {
    /// Whether there is a companion that has been asked.
    pub(super) fn ask_companion(&mut self, request: Request) -> bool {
        let sent = self.companion.link.as_ref().is_some_and(|link| link.requests.send(request).is_ok());
        if sent {
            self.companion.asked.push(request);
        }
        sent
    }

    /// Without a companion nothing is scrubbed: the ring has its own work.
    pub(super) fn scrub(&mut self, request: scrub::Request) {
        if !self.ask_companion(Request::Scrub(request)) {
            self.early.push(Completion::Scrubbed { token: request.token, report: None });
        }
    }

    /// Takes the companion's answers. If it has ended, what it owes is done here, or answered so.
    pub(super) fn hear_companion(&mut self) -> io::Result<()> {
        let Some(link) = &self.companion.link else { return Ok(()) };
        if self.companion.asked.is_empty() {
            return Ok(());
        }
        loop {
            let (request, completion) = match link.answers.try_recv() {
                Ok(Answer::Prepared { request, result }) => {
                    let done = Completion::Done { token: request.token, result: result.map(|()| 0) };
                    (Request::Prepare(request), done)
                }
                Ok(Answer::Scrubbed { request, report }) => {
                    let done = Completion::Scrubbed { token: request.token, report: Some(Box::new(report)) };
                    (Request::Scrub(request), done)
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => break,
            };
            self.companion.asked.retain(|asked| *asked != request);
            self.early.push(completion);
        }
        self.companion.link = None;
        for owed in std::mem::take(&mut self.companion.asked) {
            match owed {
                Request::Prepare(request) => self.prepare_itself(request)?,
                Request::Scrub(request) => self.scrub(request),
            }
        }
        Ok(())
    }
}

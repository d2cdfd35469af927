//! The requests of a connection that are made and not done with, in the order in which they were made.
//!
//! ```text
//!   oldest ─► [answered | sent | sent | answered | being sent | made | made] ─► next free place
//! ```
//!
//! Each has a place in one stretch of memory, all places of a size. Those that fill theirs lie one behind the other and are sent in one call.

use super::plan::{Pace, Plan};
use super::tally::{self, Counts, Tally};
use crate::io::buffers::Span;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Made,
    BeingSent,
    Sent,
    Answered,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The part of the writer's keys that it is of.
    pub lane: u16,
    /// As the wire tells it from others.
    pub shard: u64,
    pub number: u32,
    pub records: u32,
    /// Of data.
    pub bytes: u64,
    /// Of all of it.
    pub len: u32,
    /// What follows what is in its place, where that is not all.
    pub rest: Option<Span>,
    /// When it was due, ns from the beginning of the run.
    pub due: u64,
    /// When it was made, and handed to the ring.
    pub made: u64,
    pub counted: bool,
    /// It was sent before on a connection that has ended, which may still bring it to the server.
    pub again: bool,
}

/// Of a record of a request: its key, and its number among those of the key.
pub type Reference = (u32, u64);

#[derive(Debug)]
pub struct Outbox {
    room: Span,
    /// Bytes of a place.
    place: u32,
    places: u32,
    /// Place of the oldest request.
    first: u32,
    requests: VecDeque<(Request, State)>,
    /// By place; empty where no stamps are written.
    references: Vec<Vec<Reference>>,
    /// Requests without an answer, and their bytes.
    open: u32,
    open_bytes: u64,
}

impl Outbox {
    /// Places of `place` bytes, as many as fit into `room`. `references`: of how many records a place keeps track.
    pub fn new(room: Span, place: u32, references: u32) -> Outbox {
        let places = room.len / place;
        Outbox {
            room,
            place,
            places,
            first: 0,
            requests: VecDeque::with_capacity(places as usize),
            references: (0..places).map(|_| Vec::with_capacity(references as usize)).collect(),
            open: 0,
            open_bytes: 0,
        }
    }

    /// Where the next request goes; `None`: all places are taken.
    pub fn next_place(&self) -> Option<u32> {
        let used = self.requests.len() as u32;
        (used < self.places).then(|| (self.first + used) % self.places)
    }

    pub fn span(&self, place: u32) -> Span {
        self.room.part(place * self.place, self.place)
    }

    pub fn references(&mut self, place: u32) -> &mut Vec<Reference> {
        &mut self.references[place as usize]
    }

    /// The request at [`Outbox::next_place`] is made.
    pub fn push(&mut self, request: Request) {
        self.requests.push_back((request, State::Made));
        self.open += 1;
        self.open_bytes += request.len as u64;
    }

    pub fn unanswered(&self) -> u32 {
        self.open
    }

    /// Bytes of requests without an answer.
    pub fn unanswered_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// What is to be sent next, and that it is.
    pub fn take_unsent(&mut self) -> Option<(Span, Option<Span>)> {
        let from = self.requests.iter().position(|(_, state)| *state == State::Made)?;
        let mut spans = [None::<Span>; 2];
        let mut part = 0;
        for at in from..self.requests.len() {
            // Of those that are sent again, some may have been answered.
            if self.requests[at].1 != State::Made {
                continue;
            }
            let place = (self.first + at as u32) % self.places;
            let Request { len, rest, .. } = self.requests[at].0;
            if let Some(rest) = rest {
                if spans[0].is_none() {
                    self.requests[at].1 = State::BeingSent;
                    spans = [Some(self.span(place).first(len - rest.len)), Some(rest)];
                }
                break;
            }
            let span = self.span(place).first(len);
            match &mut spans[part] {
                Some(run) if run.at + run.len == span.at => run.len += span.len,
                Some(_) if part == 1 => break,
                Some(_) => {
                    part += 1;
                    spans[part] = Some(span);
                }
                free => *free = Some(span),
            }
            self.requests[at].1 = State::BeingSent;
        }
        spans[0].map(|first| (first, spans[1]))
    }

    /// The next request alone is to be sent: its number, its place, and its length.
    pub fn begin_one(&mut self) -> Option<(u32, u32, u32)> {
        let at = self.requests.iter().position(|(_, state)| *state == State::Made)?;
        let (request, state) = &mut self.requests[at];
        *state = State::BeingSent;
        Some((request.number, (self.first + at as u32) % self.places, request.len))
    }

    /// What was being sent has been.
    pub fn sent(&mut self) {
        let being = self.requests.iter_mut().filter(|(_, state)| *state == State::BeingSent);
        being.for_each(|(_, state)| *state = State::Sent);
    }

    /// The oldest request without an answer that `is_it` means is answered: gives it with its place.
    pub fn answer(&mut self, is_it: impl Fn(&Request) -> bool) -> Option<(Request, u32)> {
        let at = self.requests.iter().position(|(request, state)| {
            // An answer may be faster than the news that all of the request has been sent.
            matches!(state, State::Sent | State::BeingSent) && is_it(request)
        })?;
        Some(self.done(at))
    }

    /// The oldest request of which nothing has been sent will not be: gives it with its place.
    pub fn withdraw(&mut self) -> Option<(Request, u32)> {
        let at = self.requests.iter().position(|(_, state)| *state == State::Made)?;
        Some(self.done(at))
    }

    fn done(&mut self, at: usize) -> (Request, u32) {
        let (request, state) = &mut self.requests[at];
        *state = State::Answered;
        self.open -= 1;
        self.open_bytes -= request.len as u64;
        (*request, (self.first + at as u32) % self.places)
    }

    /// The oldest request without an answer.
    pub fn oldest(&self) -> Option<&Request> {
        self.requests.iter().find(|(_, state)| *state != State::Answered).map(|(request, _)| request)
    }

    /// Frees the places at the front that are done with. Not while something is being sent from them.
    pub fn settle(&mut self, sending: bool) {
        while let Some((_, State::Answered)) = self.requests.front()
            && !sending
        {
            self.requests.pop_front();
            self.first = (self.first + 1) % self.places;
        }
    }

    /// The connection has ended: requests without an answer, oldest first, with their places.
    pub fn unanswered_requests(&self) -> impl Iterator<Item = (Request, u32)> {
        let open = self.requests.iter().enumerate().filter(|(_, (_, state))| *state != State::Answered);
        open.map(|(at, (request, _))| (*request, (self.first + at as u32) % self.places))
    }

    /// They are to be sent once more, in their order.
    pub fn send_again(&mut self) {
        let open = self.requests.iter_mut().filter(|(_, state)| *state != State::Answered);
        open.for_each(|(request, state)| (request.again, *state) = (true, State::Made));
    }

    /// They are done with.
    pub fn forget(&mut self) {
        let count = self.requests.len() as u32;
        self.first = (self.first + count) % self.places;
        self.requests.clear();
        (self.open, self.open_bytes) = (0, 0);
    }
}

/// Counts the answer of a request that is durable, which came `now`, ns from the beginning.
pub fn count_ack(tally: &mut Tally, plan: &Plan, request: &Request, now: u64) {
    // In an open loop what counts is when it was due, so that nothing late is left out. A closed one has as many answers as there is time for.
    let counted = match plan.pace {
        Pace::Open { .. } => request.counted,
        Pace::Closed { .. } => plan.counts(now),
    };
    if !counted {
        return;
    }
    let Counts { acked_requests, acked_records, acked_bytes, .. } = &mut tally.counts;
    *acked_requests += 1;
    *acked_records += request.records as u64;
    *acked_bytes += request.bytes;
    tally::record(&mut tally.response, now.saturating_sub(request.due));
    tally::record(&mut tally.service, now.saturating_sub(request.made));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::Pool;

    fn outbox() -> Outbox {
        let room = Span { worker: 0, pool: Pool::Small, slot: 3, at: 0, len: 400 };
        Outbox::new(room, 100, 0)
    }

    fn request(number: u32, len: u32) -> Request {
        Request {
            lane: 0,
            shard: 1,
            number,
            records: 1,
            bytes: 1,
            len,
            rest: None,
            due: 0,
            made: 0,
            counted: true,
            again: false,
        }
    }

    fn at(span: Span) -> (u32, u32) {
        (span.at, span.len)
    }

    #[test]
    fn whole_places_are_sent_in_one_run_and_shorter_ones_two_at_a_time() {
        let mut outbox = outbox();
        (0..3).for_each(|number| outbox.push(request(number, 100)));
        let (first, then) = outbox.take_unsent().expect("three");
        assert_eq!((at(first), then), ((0, 300), None));
        outbox.sent();
        assert!(outbox.take_unsent().is_none());
        // Answers come in any order; places are freed from the oldest on.
        assert_eq!(outbox.answer(|r| r.number == 1).map(|(r, place)| (r.number, place)), Some((1, 1)));
        outbox.settle(false);
        outbox.push(request(3, 60));
        assert_eq!(outbox.next_place(), None);
        outbox.answer(|r| r.number == 0).expect("it was sent");
        outbox.settle(true);
        assert_eq!(outbox.next_place(), None, "something is still being sent from there");
        outbox.settle(false);
        assert_eq!(outbox.next_place(), Some(0));
        (4..6).for_each(|number| outbox.push(request(number, 60)));
        let (first, then) = outbox.take_unsent().expect("three");
        assert_eq!((at(first), then.map(at)), ((300, 60), Some((0, 60))));
        assert_eq!(outbox.unanswered(), 4);
        assert_eq!(outbox.take_unsent().map(|(first, _)| at(first)), Some((100, 60)), "the third");
    }

    #[test]
    fn what_was_not_sent_cannot_be_answered_and_what_was_unanswered_is_sent_again() {
        let mut outbox = outbox();
        (0..2).for_each(|number| outbox.push(request(number, 100)));
        assert!(outbox.answer(|_| true).is_none());
        assert_eq!(outbox.oldest().map(|request| request.number), Some(0));
        outbox.take_unsent().expect("two");
        outbox.answer(|r| r.number == 0).expect("it is being sent");
        outbox.send_again();
        let again: Vec<u32> = outbox.unanswered_requests().map(|(request, _)| request.number).collect();
        assert_eq!(again, [1]);
        assert_eq!(outbox.take_unsent().map(|(first, _)| at(first)), Some((100, 100)));
        outbox.push(request(2, 100));
        assert_eq!(outbox.withdraw().map(|(request, place)| (request.number, place)), Some((2, 2)));
        assert!(outbox.withdraw().is_none(), "of the other something has been sent");
        assert_eq!((outbox.unanswered(), outbox.oldest().map(|request| request.number)), (1, Some(1)));
        outbox.forget();
        assert_eq!((outbox.unanswered(), outbox.next_place()), (0, Some(3)));
    }
}

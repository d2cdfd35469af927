//! What a writer sends over HTTP/2, and makes of what comes.

use super::http2::{Event, Http2, Part};
use super::http2_body::put_number;
use super::ledger::Fate;
use super::outbox::Request;
use super::put;
use super::shared::Shared;
use super::writer::{Speech, Writer};
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::Now;
use crate::io::op::Ops;

impl Writer {
    /// Gives the request in `span` the number of a stream, which is given back. Of others nothing.
    pub(super) fn number(&mut self, span: Span, buffers: &mut Buffers) -> Option<u32> {
        let Speech::Http2(_, http2) = &mut self.speech else { return None };
        let number = http2.number();
        put_number(buffers.bytes_mut(span), number);
        Some(number)
    }

    /// What may be sent now: what the connection has to say, else what windows allow of one request and of the next.
    pub(super) fn http2_unsent(&mut self, shared: &mut Shared) -> Option<(Span, Option<Span>)> {
        let Speech::Http2(_, http2) = &mut self.speech else { return None };
        let len = http2.take_control(shared.buffers.bytes_mut(self.control));
        if len > 0 {
            return Some((self.control.first(len), None));
        }
        let mut spans = [None; 2];
        for (at, span) in spans.iter_mut().enumerate() {
            if http2.sending().is_none() {
                let Some((number, place, len)) = self.outbox.begin_one() else { break };
                http2.begin(number);
                self.partial = self.outbox.span(place).first(len);
            }
            // A piece of a frame goes behind its head, and so takes both spans.
            let Some(Part { head, from, len }) = http2.advance(shared.buffers.bytes(self.partial), at == 0) else {
                break;
            };
            let part = self.partial.part(from, len);
            if let Some(head) = head {
                let before = self.control.first(head.len() as u32);
                shared.buffers.bytes_mut(before).copy_from_slice(&head);
                return Some((before, Some(part)));
            }
            *span = Some(part);
        }
        spans[0].map(|first| (first, spans[1]))
    }

    /// Takes whole frames; gives how many bytes they had.
    pub(super) fn http2_received(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) -> Result<u32, &'static str> {
        let held = self.link.held();
        let Speech::Http2(_, http2) = &mut self.speech else { return Ok(0) };
        let mut events = Vec::new();
        let taken = http2.receive(shared.buffers.bytes(held), &mut events)?;
        self.ready = http2.is_ready && !http2.is_going;
        for event in events {
            self.on_event(shared, now, event)?;
        }
        let is_going = matches!(&self.speech, Speech::Http2(_, http2) if http2.is_going);
        if is_going && self.is_idle() {
            self.link.close(ops);
        }
        Ok(taken)
    }

    fn on_event(&mut self, shared: &mut Shared, now: Now, event: Event) -> Result<(), &'static str> {
        match event {
            Event::Answer { stream, status, body } => {
                let answered = self.outbox.answer(|request| request.number == stream);
                let (request, place) = answered.ok_or("an answer came that was not asked for")?;
                let (wire, single) = (shared.plan.wire, shared.plan.batch == 1);
                let outcome = put::outcome(wire, status, &body, request.records, single);
                if shared.ledger.is_some() {
                    put::places(wire, &body, &mut shared.places);
                }
                self.on_outcome(shared, now, &request, place, outcome);
            }
            Event::Reset { stream, refused } => {
                let fate = if refused { Fate::Refused } else { Fate::Unknown };
                self.end_requests(shared, fate, |number| number == stream);
                shared.complain("the server has reset a stream".to_string());
            }
            Event::Going { last } => {
                self.end_requests(shared, Fate::Refused, |number| number > last);
                // Nor will those be looked at that have not been sent.
                while let Some((request, place)) = self.outbox.withdraw() {
                    self.end_request(shared, Fate::Refused, &request, place);
                }
                shared.complain("the server has ended a connection of HTTP/2".to_string());
            }
        }
        Ok(())
    }

    /// Requests that will not be answered, with what became of them.
    fn end_requests(&mut self, shared: &mut Shared, fate: Fate, is_one: impl Fn(u32) -> bool) {
        while let Some((request, place)) = self.outbox.answer(|request| is_one(request.number)) {
            self.end_request(shared, fate, &request, place);
        }
    }

    fn end_request(&mut self, shared: &mut Shared, fate: Fate, request: &Request, place: u32) {
        self.settle_records(shared, place, |_| fate);
        shared.count_failure(request, fate, false);
        let lane = self.lanes.lane(request.lane);
        lane.unanswered = lane.unanswered.saturating_sub(1);
    }
}

/// Whether another request may be made: `unanswered` of at most `outstanding` are under way.
pub(super) fn takes(http2: &Http2, unanswered: u32, outstanding: u32) -> bool {
    unanswered < outstanding.min(http2.streams_max)
}

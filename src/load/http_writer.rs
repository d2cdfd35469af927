//! What a writer sends to the Kinesis API, and makes of its answers.

use super::http::Speaker;
use super::http2_body;
use super::lanes::Lane;
use super::ledger::Fate;
use super::native::Made;
use super::outbox::{Reference, Request, count_ack};
use super::plan::{Plan, key_name};
use super::put::{self, Body, Outcome};
use super::random::Random;
use super::shared::Shared;
use super::writer::Writer;
use crate::io::buffers::Span;
use crate::io::clock::Now;
use crate::io::op::Ops;
use crate::native::message::{Kind, blank};

/// Room in front of a body for its head.
fn head_room(span: Span, plan: &Plan) -> usize {
    (span.len - plan.body_max() - plan.frames_max()) as usize
}

/// Makes a PutRecords, or a PutRecord where a request is one record, due at `due`. It begins behind unused room, which is moved away.
pub(super) fn make(
    speaker: &mut Speaker,
    shared: &mut Shared,
    random: &mut Random,
    lane: &Lane,
    span: Span,
    (due, now): (u64, Now),
    references: &mut Vec<Reference>,
) -> Made {
    let plan = shared.plan.clone();
    let (single, verified) = (plan.batch == 1, shared.ledger.is_some());
    let room = head_room(span, &plan);
    let (mut maker, buffers, _, raw) = shared.making(due);
    let out = buffers.bytes_mut(span);
    references.clear();
    let mut bytes = 0;
    let mut body = Body::begin(plan.wire, &mut out[room..], raw, &plan.stream, single);
    for _ in 0..plan.batch {
        let (key, size) = (lane.draw(random), plan.sizes.draw(random));
        let number = body.record(&key_name(key), size as usize, |data| maker.make(key, data, random));
        if verified {
            references.push((key, number));
        }
        bytes += size as u64;
    }
    let len = body.end();
    let operation = if single { "PutRecord" } else { "PutRecords" };
    let now = now.wall.seconds();
    let (begin, end) = match plan.http2 {
        // Signed before its bytes are moved apart.
        true => {
            let begin = speaker.head_of_http2(out, room, len, (operation, plan.tls), now);
            (begin, http2_body::put_in_frames(out, room, len))
        }
        false => (speaker.head(out, room, len, operation, now), room + len),
    };
    out.copy_within(begin..end, 0);
    Made { header: blank(Kind::Batch), len: (end - begin) as u32, bytes }
}

impl Writer {
    /// Takes an answer; gives how many bytes it had.
    pub(super) fn http_received(&mut self, shared: &mut Shared, now: Now, ops: &mut Ops) -> Result<u32, &'static str> {
        let Some(answer) = self.answer_in(shared)? else { return Ok(0) };
        let Some((request, place)) = self.outbox.answer(|_| true) else {
            return Err("an answer came that was not asked for");
        };
        let held = self.link.held().part(answer.begin, answer.end - answer.begin);
        let (wire, single) = (shared.plan.wire, shared.plan.batch == 1);
        let Shared { buffers, places, ledger, .. } = shared;
        let body = buffers.bytes(held);
        let outcome = put::outcome(wire, answer.status, body, request.records, single);
        if ledger.is_some() {
            put::places(wire, body, places);
        }
        self.on_outcome(shared, now, &request, place, outcome);
        if answer.closes {
            self.link.close(ops);
        }
        Ok(answer.end)
    }

    /// What became of the request at `place`; `shared.places` has where its records are.
    pub(super) fn on_outcome(
        &mut self,
        shared: &mut Shared,
        now: Now,
        request: &Request,
        place: u32,
        outcome: Outcome,
    ) {
        let elapsed = shared.elapsed(now);
        match outcome {
            Outcome::Acked => {
                let places = std::mem::take(&mut shared.places);
                let stored = |at: usize| places.get(at).copied().flatten();
                self.settle_stored(shared, place, |_| Fate::Acked, stored);
                shared.places = places;
                count_ack(&mut shared.tally, &shared.plan, request, elapsed);
                self.link.is_good();
            }
            Outcome::Some(refused) => {
                let fate = |at: usize| if refused[at].is_some() { Fate::Refused } else { Fate::Acked };
                let places = std::mem::take(&mut shared.places);
                let before = |at: usize| refused[..at].iter().filter(|refused| refused.is_none()).count();
                self.settle_stored(shared, place, fate, |at| places.get(before(at)).copied().flatten());
                shared.places = places;
                let acked = refused.iter().filter(|refused| refused.is_none()).count() as u64;
                let throttled = refused.contains(&Some(true));
                let part = |records: u64| Request {
                    records: records as u32,
                    bytes: request.bytes * records / request.records as u64,
                    ..*request
                };
                if acked > 0 {
                    count_ack(&mut shared.tally, &shared.plan, &part(acked), elapsed);
                }
                shared.count_failure(&part(request.records as u64 - acked), Fate::Refused, throttled);
                shared.complain("records of a PutRecords were refused".to_string());
            }
            Outcome::Refused(throttled, text) => {
                self.settle_records(shared, place, |_| Fate::Refused);
                shared.count_failure(request, Fate::Refused, throttled);
                shared.complain(format!("a put was refused: {text}"));
            }
            Outcome::Unknown(text) => {
                self.settle_records(shared, place, |_| Fate::Unknown);
                shared.count_failure(request, Fate::Unknown, false);
                shared.complain(format!("a put may have failed: {text}"));
            }
        }
        let lane = self.lanes.lane(request.lane);
        lane.unanswered = lane.unanswered.saturating_sub(1);
    }
}

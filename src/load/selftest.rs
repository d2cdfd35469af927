//! What a generator must measure of a server whose pauses are known.
//!
//! The server does one request after the other. Request k takes s(k) and is due at a(k), so it is done at
//!
//! ```text
//!   d(k) = max(a(k), d(k - 1)) + s(k)          (Lindley's recursion)
//! ```
//!
//! and its response time is d(k) - a(k). That holds wherever the requests wait: at the server, on the way, or at a generator that may not send
//! yet. A generator that waits with its clock until it can send loses what they wait there; its percentiles are then those of s alone. So with the same
//! schedule and the same s, percentiles follow exactly, and what differs is the generator's error, and the machine's.

use super::outbox::{Request, count_ack};
use super::plan::Plan;
use super::tally::Tally;

/// How long a server takes for each request, ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub usual: u64,
    /// After so many requests it pauses: the next one takes so much more. 0: never.
    pub every: u64,
    pub pause: u64,
    /// One of so many takes this long instead. 0: none.
    pub slow_every: u64,
    pub slow: u64,
}

impl Service {
    /// Of request `number`, from 0.
    pub fn of(&self, number: u64) -> u64 {
        let is = |every: u64| every > 0 && number % every == every - 1;
        let usual = if is(self.slow_every) { self.slow } else { self.usual };
        usual + if is(self.every) { self.pause } else { 0 }
    }
}

/// The recursion above.
#[derive(Clone, Debug)]
pub struct Lindley {
    service: Service,
    number: u64,
    done: u64,
}

impl Lindley {
    pub fn new(service: Service) -> Lindley {
        Lindley { service, number: 0, done: 0 }
    }

    /// When a request is done that comes at `at`, behind all before it.
    pub fn serve(&mut self, at: u64) -> u64 {
        self.done = self.done.max(at) + self.service.of(self.number);
        self.number += 1;
        self.done
    }
}

/// What a run of `plan` by one connection must come to. Of a closed loop nothing is known before.
pub fn theory(plan: &Plan, service: &Service) -> Tally {
    let mut tally = Tally::default();
    let Some(mut schedule) = plan.schedule(1.0, 0) else { return tally };
    let mut queue = Lindley::new(service.clone());
    while schedule.due() < plan.end {
        let due = schedule.take();
        let done = queue.serve(due);
        let request = Request {
            lane: 0,
            shard: 0,
            number: 0,
            records: plan.batch,
            bytes: 0,
            len: 0,
            rest: None,
            due,
            made: due,
            counted: plan.counts(due),
            again: false,
        };
        count_ack(&mut tally, plan, &request, done);
    }
    tally
}

//! Which consumer has a subscription to which shard: asked by the worker with the connection, answered by one worker for each shard,
//! whichever log that is on and wherever it moves.
//!
//! A consumer has one subscription to a shard. A call within [`HELD_MS`] of the one that was granted is refused while that one lasts; a later
//! one takes over. Only calls that were granted count, so a client that keeps asking is granted in time.

use crate::io::clock::Mono;
use crate::log::format::ShardKey;
use std::collections::BTreeMap;

/// How long a subscription cannot be taken over.
const HELD_MS: u64 = 5_000;
/// How soon after a call the next one may be granted.
const APART_MS: u64 = 1_000;

/// A subscription at the worker that has its connection. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId {
    /// The connection's.
    pub slot: u16,
    pub number: u64,
}

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// The consumer has another subscription to the shard, which is too young to be taken over.
    Taken,
    TooOften,
}

/// A consumer of a stream and one of its shards.
pub type Claim = (ShardKey, u32);

#[derive(Clone, Copy, Debug)]
struct Held {
    worker: u16,
    id: SubscriptionId,
    granted: Mono,
    lasts: bool,
}

/// The subscriptions to the shards that this worker answers for. As many as there are, and those of the last second.
#[derive(Debug, Default)]
pub struct Registrar {
    held: BTreeMap<Claim, Held>,
}

impl Registrar {
    /// A call of `worker`: the verdict, and the subscription that it ends.
    pub fn claim(
        &mut self,
        now: Mono,
        claim: Claim,
        worker: u16,
        id: SubscriptionId,
    ) -> (Verdict, Option<(u16, SubscriptionId)>) {
        let before = self.held.get(&claim).copied();
        match before {
            Some(held) if held.lasts && now < held.granted.plus_ms(HELD_MS) => return (Verdict::Taken, None),
            Some(held) if now < held.granted.plus_ms(APART_MS) => return (Verdict::TooOften, None),
            _ => {}
        }
        self.held.insert(claim, Held { worker, id, granted: now, lasts: true });
        (Verdict::Granted, before.filter(|held| held.lasts).map(|held| (held.worker, held.id)))
    }

    /// A subscription has ended. One that was taken over is not known any more.
    pub fn over(&mut self, claim: Claim, worker: u16, id: SubscriptionId) {
        if let Some(held) = self.held.get_mut(&claim).filter(|held| (held.worker, held.id) == (worker, id)) {
            held.lasts = false;
        }
    }

    /// Forgets what says nothing about the next call. Now and then.
    pub fn sweep(&mut self, now: Mono) {
        self.held.retain(|_, held| held.lasts || now < held.granted.plus_ms(APART_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = (ShardKey::new(1, 2), 3);

    fn id(number: u64) -> SubscriptionId {
        SubscriptionId { slot: 7, number }
    }

    fn at(ms: u64) -> Mono {
        Mono(1_000_000_000).plus_ms(ms)
    }

    #[test]
    fn a_young_subscription_is_held_and_an_older_one_taken_over() {
        let mut registrar = Registrar::default();
        assert_eq!(registrar.claim(at(0), CLAIM, 0, id(1)), (Verdict::Granted, None));
        for ms in [0, 999, 1_000, 4_999] {
            assert_eq!(registrar.claim(at(ms), CLAIM, 1, id(2)), (Verdict::Taken, None), "{ms}");
        }
        assert_eq!(registrar.claim(at(5_000), CLAIM, 1, id(2)), (Verdict::Granted, Some((0, id(1)))));
        // The end of the old one says nothing of the new one.
        registrar.over(CLAIM, 0, id(1));
        assert_eq!(registrar.claim(at(9_999), CLAIM, 0, id(3)), (Verdict::Taken, None));
        let other = (CLAIM.0, 4);
        assert_eq!(registrar.claim(at(9_999), other, 0, id(4)), (Verdict::Granted, None));
    }

    #[test]
    fn one_that_has_ended_makes_room_after_a_second() {
        let mut registrar = Registrar::default();
        registrar.claim(at(0), CLAIM, 0, id(1));
        registrar.over(CLAIM, 0, id(1));
        for ms in [0, 500, 999] {
            registrar.sweep(at(ms));
            assert_eq!(registrar.claim(at(ms), CLAIM, 0, id(2)), (Verdict::TooOften, None), "{ms}");
        }
        assert_eq!(registrar.claim(at(1_000), CLAIM, 0, id(2)), (Verdict::Granted, None));
        registrar.over(CLAIM, 0, id(2));
        registrar.sweep(at(2_000));
        assert!(registrar.held.is_empty());
    }
}

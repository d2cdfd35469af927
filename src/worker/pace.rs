//! Buffers for messages and bodies that do not fit where their connection receives: lent against a pace.
//!
//! A message gets its buffer when its first blocks are there, so who sends a byte now and then holds none. A native client that has not sent a whole one
//! yet takes buffers only while three quarters of their pool are free, so those that have find some whatever strangers do; for bodies of requests see
//! `body.rs`. And where somebody waits for a buffer, what comes more slowly than is decent ends, the slowest first, in whichever protocol it comes.

use super::Worker;
use super::body::{BODY_POOLS as LENT, take_body};
use super::connection::DRAIN_MS;
use super::native::{Native, Phase};
use crate::io::buffers::{ALL_POOLS, Buffers, Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::native::message::BLOCK;
use crate::native::refusal::{Code, Fault};
use crate::observe::counter::Counter;

/// Bytes of a message, or of a body, that must be there before it gets a buffer.
pub(super) const BEGUN: u32 = BLOCK;
/// What comes is slow that is further behind this pace than the grace, while others wait for what it holds.
const PACE_BYTES_PER_MS: u64 = 100;
const GRACE_MS: u64 = 2_000;
/// Who has waited for so long has others ended.
const PATIENCE_MS: u64 = 500;

/// Buffers that are given up at once where readers want for one: they take the next only when half of the pool is free.
const FOR_READERS: usize = 32;

const SLOW: Fault =
    Fault { code: Code::Overdue, why: "A message comes so slowly that others wait for the memory that it takes." };
const SLOW_BODY: &str = "The body comes so slowly that others wait for the memory that it takes.";

/// What comes too slowly, and holds a buffer.
pub(super) struct Slow {
    /// Until when it would have been in time: the slowest is first.
    until: Mono,
    who: Who,
    pool: Pool,
    /// It is a stranger's, and counts among those that strangers share.
    shares: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Native(u16),
    Connection(u16),
}

/// Room for as many as can hold a buffer at once.
pub(super) fn slow_room(buffers: &Buffers) -> Vec<Slow> {
    let slots = |pool: &Pool| buffers.slots(*pool) as usize;
    Vec::with_capacity(LENT.iter().map(slots).sum())
}

impl Native {
    /// Until when the message that is coming would be in time, at a decent pace.
    fn in_time_until(&self) -> Option<Mono> {
        let since = self.since.filter(|_| self.receiving)?;
        let there = match self.awaited() {
            // How much of it is there, the kernel keeps for itself until it is whole.
            Some(stride) => stride,
            None if self.into.is_some() => self.into_filled,
            None => self.filled - self.start,
        };
        Some(paid_until(since, there))
    }

    /// Bytes of a message that is received whole, into a buffer of bulk.
    fn awaited(&self) -> Option<u32> {
        let (inbox, stride) = (self.inbox()?, self.header?.stride);
        (inbox.pool == Pool::Bulk && self.start + stride <= inbox.len).then_some(stride)
    }

    fn inbox(&self) -> Option<Span> {
        self.bulk.as_ref().and_then(|bulk| bulk.inbox)
    }

    /// The buffer into which a message is coming.
    fn holds(&self) -> Option<Span> {
        self.in_time_until()?;
        let inbox = self.inbox().filter(|inbox| inbox.pool != Pool::Bulk);
        self.into.or(inbox)
    }
}

/// Until when a message or body of which so much is there would be in time, at a decent pace.
fn paid_until(since: Mono, bytes: u32) -> Mono {
    since.plus_ms(GRACE_MS + bytes as u64 / PACE_BYTES_PER_MS)
}

/// The least of the pools that would do for `size` bytes, by place; nothing is larger than what the last one has.
pub(super) fn class_of(size: u32, buffers: &Buffers) -> usize {
    LENT.iter().position(|pool| buffers.slot_size(*pool) >= size).unwrap_or(LENT.len() - 1)
}

/// Buffers that are waited for, by the least of the pools that would do.
#[derive(Default, Debug, PartialEq, Eq)]
struct Wanted {
    any: [usize; LENT.len()],
    /// By strangers, who wait for what other strangers hold.
    shared: [usize; LENT.len()],
}

impl Wanted {
    fn is_empty(&self) -> bool {
        *self == Wanted::default()
    }

    fn add(&mut self, size: u32, buffers: &Buffers) {
        self.any[class_of(size, buffers)] += 1;
    }

    fn add_shared(&mut self, size: u32, buffers: &Buffers) {
        self.shared[class_of(size, buffers)] += 1;
    }

    /// Whether a buffer of `pool` is waited for, which is one of those that strangers share if it `shares`; then it counts as found.
    fn takes(&mut self, pool: Pool, shares: bool) -> bool {
        let Some(class) = LENT.iter().position(|other| *other == pool) else { return false };
        let shared = self.shared[..=class].iter_mut().rev().filter(|_| shares);
        let found = shared.chain(self.any[..=class].iter_mut().rev()).find(|count| **count > 0);
        found.map(|count| *count -= 1).is_some()
    }
}

impl Worker {
    /// Places for clients run short: ends whoever has not said who it is for longest; if there is none, one that has been told why it ends; then
    /// the one whose message is slowest; and at last whoever has been idle for longest.
    pub(super) fn native_make_room(&mut self, ops: &mut Ops) {
        let now = self.now.mono;
        let goes = |place: usize, native: &Native| match native.phase {
            Phase::Hello | Phase::Proof => Some((0, native.begun_by, place)),
            Phase::Draining => Some((1, native.gone_by, place)),
            Phase::Open => match native.in_time_until() {
                Some(until) => (until < now).then_some((2, until, place)),
                None => native.is_idle().then_some((3, native.receive_by, place)),
            },
            _ => None,
        };
        let slots = self.natives.slots.iter().enumerate();
        if let Some((.., place)) = slots.filter_map(|(place, native)| goes(place, native)).min() {
            self.counters.add(Counter::ConnectionsRefused, 1);
            self.native_close(place as u16, ops);
        }
    }

    /// A buffer for a message of the client's that has `size` bytes.
    pub(super) fn native_buffer(&mut self, place: u16, size: u32) -> Option<Span> {
        let earnest = self.natives.slots[place as usize].earnest;
        buffer_for(&mut self.buffers, size, earnest)
    }

    /// Ends messages and bodies that are slow, as many as there are others that wait for what they hold. Once a second.
    pub(super) fn keep_pace(&mut self, ops: &mut Ops) {
        let wanted = self.wanted_buffers();
        if !wanted.is_empty() {
            self.end_slow(wanted, ops);
        }
    }

    /// What is waited for, and has been for longer than is decent.
    fn wanted_buffers(&self) -> Wanted {
        let Worker { natives, connections, buffers, fanout, gate, limits, now, .. } = self;
        let mut wanted = Wanted::default();
        let impatient = |since: Mono| since.plus_ms(PATIENCE_MS) <= now.mono;
        let natives_waiting = natives.slots.iter().filter(|native| native.starved.is_some_and(impatient));
        natives_waiting.for_each(|native| wanted.add(native.header.map_or(0, |header| header.stride), buffers));
        let bodies = connections.unbuffered.iter().map(|slot| &connections.slots[slot as usize]);
        for c in bodies.filter(|c| impatient(c.body_since)) {
            let size = c.body_size(limits.large.1);
            // Who may not have more of what strangers share is helped by what other strangers hold.
            let may = LENT[class_of(size, buffers)..].iter().any(|pool| gate.may_hold(*pool, buffers.slots(*pool)));
            match gate.is_stranger(c) && !may {
                true => wanted.add_shared(size, buffers),
                false => wanted.add(size, buffers),
            }
        }
        if fanout.starves_since().is_some_and(impatient) {
            let medium = buffers.slot_size(Pool::Medium);
            (0..FOR_READERS).for_each(|_| wanted.add(medium, buffers));
        }
        wanted
    }

    fn end_slow(&mut self, mut wanted: Wanted, ops: &mut Ops) {
        let Worker { natives, connections, gate, slow, now, .. } = self;
        slow.clear();
        for (place, native) in natives.slots.iter().enumerate() {
            let (Some(span), Some(until)) = (native.holds(), native.in_time_until()) else { continue };
            match native.phase {
                Phase::Open if until < now.mono => {
                    slow.push(Slow { until, who: Who::Native(place as u16), pool: span.pool, shares: false });
                }
                Phase::Open | Phase::Free => {}
                // It is on its way back.
                _ => _ = wanted.takes(span.pool, false),
            }
        }
        for (slot, c) in connections.slots.iter().enumerate() {
            let (who, shares) = (Who::Connection(slot as u16), gate.is_stranger(c));
            if let Some((span, since)) = c.receives_body() {
                let until = paid_until(since, c.body_filled);
                if until < now.mono {
                    slow.push(Slow { until, who, pool: span.pool, shares });
                }
            } else if let Some(span) = c.body.filter(|_| c.is_giving_body_back()) {
                wanted.takes(span.pool, shares);
            }
        }
        slow.sort_unstable_by_key(|slow| (slow.until, slow.who));
        for at in 0..self.slow.len() {
            let Slow { who, pool, shares, .. } = self.slow[at];
            if !wanted.takes(pool, shares) {
                continue;
            }
            self.counters.add(Counter::ConnectionsTimedOut, 1);
            match who {
                Who::Native(place) => self.native_leave(place, SLOW),
                Who::Connection(slot) => self.end_slow_body(slot, ops),
            }
        }
    }

    /// Says why a body ends that comes too slowly; its buffer comes back when the connection has ended, as the kernel may write into it until then.
    fn end_slow_body(&mut self, slot: u16, ops: &mut Ops) {
        if self.connections.slots[slot as usize].continuing {
            // Something is being sent already.
            return self.close(slot, ops);
        }
        self.refuse(slot, 408, SLOW_BODY, ops);
        self.connections.slots[slot as usize].deadline = self.now.mono.plus_ms(DRAIN_MS);
    }
}

/// A buffer of the pools for bodies; for a client that is not known to be in earnest only while three quarters of its pool are free:
/// readers, whose buffers want half of it free, then find some as well.
pub(super) fn buffer_for(buffers: &mut Buffers, size: u32, earnest: bool) -> Option<Span> {
    let free = ALL_POOLS.map(|pool| buffers.available(pool));
    take_body(buffers, size as usize, |pool, slots| earnest || free[pool as usize] * 4 > slots as usize * 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn strangers_leave_most_of_a_pool_to_those_who_have_sent_something() {
        let mut buffers = Buffers::new(0, Limits::standard().layouts());
        let (medium, large) = (buffers.slots(Pool::Medium) as usize, buffers.slots(Pool::Large) as usize);
        let strangers = std::iter::from_fn(|| buffer_for(&mut buffers, 1 << 20, false)).count();
        assert_eq!(strangers, medium / 4 + large / 4);
        let others = std::iter::from_fn(|| buffer_for(&mut buffers, 1 << 20, true)).count();
        assert_eq!(others, medium / 2 + large / 2);
        assert!(buffer_for(&mut buffers, 1 << 20, true).is_none() && buffer_for(&mut buffers, 100, false).is_some());
    }

    #[test]
    fn a_buffer_serves_who_needs_that_much_or_less() {
        let buffers = Buffers::new(0, Limits::standard().layouts());
        let mut wanted = Wanted::default();
        [1, 100_000, 2 << 20, u32::MAX].into_iter().for_each(|size| wanted.add(size, &buffers));
        assert_eq!(wanted, Wanted { any: [1, 1, 2], shared: [0; 3] });
        let found = [Pool::Small, Pool::Small, Pool::Medium, Pool::Bulk, Pool::Large, Pool::Large, Pool::Large];
        assert_eq!(found.map(|pool| wanted.takes(pool, false)), [true, false, true, false, true, true, false]);
        wanted.add(100, &buffers);
        assert!(wanted.takes(Pool::Large, false), "a larger one does as well");
        wanted.add_shared(100, &buffers);
        wanted.add(100, &buffers);
        let found = [false, false, true, true].map(|shares| wanted.takes(Pool::Small, shares));
        assert_eq!(
            found,
            [true, false, true, false],
            "a stranger is helped by what strangers hold, and by nothing else"
        );
    }

    #[test]
    fn what_comes_at_a_decent_pace_is_never_slow() {
        let (begun, ms) = (Mono(7_000_000), |ms: u64| ms * 1_000_000);
        assert_eq!(paid_until(begun, 0), Mono(7_000_000 + ms(2_000)));
        assert_eq!(paid_until(begun, 1_000_000), Mono(7_000_000 + ms(12_000)));
    }
}

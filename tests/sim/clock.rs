//! Virtual time: events on a heap, and a wall clock that may step while the boot clock cannot.

use penstock::io::clock::{Mono, Now, Wall};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// 2026-11-24, where every simulation begins, in µs.
const START: u64 = 1_795_500_000_000_000;

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// The clocks of the machine, which outlive the node.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    mono: u64,
    /// Sum of the wall clock's steps, in µs.
    stepped: i64,
}

impl Clock {
    pub fn mono(&self) -> u64 {
        self.mono
    }

    pub fn now(&self) -> Now {
        // The boot clock does not start at 0: nothing may depend on it.
        Now { mono: Mono(self.mono + 17 * SECOND), wall: Wall(self.wall_at(self.mono)) }
    }

    /// What the wall clock says, or said, at `mono`, with the steps made until now.
    pub fn wall_at(&self, mono: u64) -> u64 {
        (START + mono / 1_000).saturating_add_signed(self.stepped)
    }

    /// The simulator's time of the worker's `deadline`.
    pub fn from_deadline(deadline: Mono) -> u64 {
        deadline.0.saturating_sub(17 * SECOND)
    }

    pub fn step(&mut self, microseconds: i64) {
        self.stepped += microseconds;
    }

    fn advance(&mut self, to: u64) {
        assert!(to >= self.mono, "time goes forward");
        self.mono = to;
    }
}

/// Events by time; those of one instant in the order in which they were added.
#[derive(Debug)]
pub struct Heap<E> {
    events: BinaryHeap<Reverse<(u64, u64, Keyed<E>)>>,
    added: u64,
}

/// An event that is not compared: time and number settle the order.
#[derive(Debug)]
struct Keyed<E>(E);

impl<E> PartialEq for Keyed<E> {
    fn eq(&self, _: &Keyed<E>) -> bool {
        true
    }
}
impl<E> Eq for Keyed<E> {}
impl<E> PartialOrd for Keyed<E> {
    fn partial_cmp(&self, other: &Keyed<E>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Keyed<E> {
    fn cmp(&self, _: &Keyed<E>) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<E> Default for Heap<E> {
    fn default() -> Heap<E> {
        Heap { events: BinaryHeap::new(), added: 0 }
    }
}

impl<E> Heap<E> {
    /// At `mono` nanoseconds.
    pub fn at(&mut self, mono: u64, event: E) {
        self.events.push(Reverse((mono, self.added, Keyed(event))));
        self.added += 1;
    }

    /// The next event; the clock is advanced to it.
    pub fn pop(&mut self, clock: &mut Clock) -> Option<E> {
        let Reverse((mono, _, Keyed(event))) = self.events.pop()?;
        clock.advance(mono.max(clock.mono));
        Some(event)
    }
}

#[test]
fn events_come_by_time_and_then_by_order() {
    let (mut heap, mut clock) = (Heap::default(), Clock::default());
    for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
        heap.at(at, event);
    }
    let order: String = std::iter::from_fn(|| heap.pop(&mut clock)).collect();
    assert_eq!((order.as_str(), clock.mono()), ("abcd", 5));
    clock.step(-3_600_000_000);
    assert_eq!(clock.now().wall.0, START - 3_600_000_000);
    assert_eq!(clock.now().mono.0, 17 * SECOND + 5);
}

//! A bounded queue from one thread to another, and the bell that decides whether the other one must be woken.
//!
//! ```text
//!   taken ──► oldest                    next free ◄── put          0 ≤ put - taken ≤ capacity
//!   ─────────[ T ][ T ][ T ][ T ]─────────
//! ```
//!
//! `taken` and `put` only rise; their low bits are the slot. Each side owns its own counter, publishes it with release, reads the other
//! one with acquire, and remembers what it read last, so that a run of pushes or pops touches the other's cache line once.
//!
//! The bell closes the race between "nothing there, I sleep" and "here is a message, does it sleep?":
//!
//! ```text
//!   consumer: bell := sleeping; FENCE; look into the queues again; sleep unless something is there
//!   producer: push;             FENCE; if bell = sleeping, wake
//! ```
//!
//! Of two full fences one comes first, so either the consumer sees the push or the producer sees the sleeper. Proved in
//! `tests/interleavings.rs`, which puts loom in place of [`super::sync`].

use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, fence};
use std::mem::MaybeUninit;

/// Keeps what two cores write on different cache lines; 128 because lines are fetched in pairs.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
    /// Items ever put; written by the sender.
    put: Padded<AtomicUsize>,
    /// Items ever taken; written by the receiver.
    taken: Padded<AtomicUsize>,
}

// SAFETY: a slot is touched by the sender only while it is free and by the receiver only while it is full; `put` and `taken`, published
// with release and read with acquire, hand it over. So items cross threads one at a time, for which `T: Send` is enough.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the items go with it.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, number: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[number & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (taken, put) = (self.taken.0.load(Ordering::Acquire), self.put.0.load(Ordering::Acquire));
        let mut number = taken;
        while number != put {
            // SAFETY: both ends are gone; slots from `taken` to `put` are full and nobody else will read them.
            self.slot(number).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            number = number.wrapping_add(1);
        }
    }
}

/// The end that puts in.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    put: usize,
    /// As read last: never more than is true.
    taken: usize,
}

/// The end that takes out.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    taken: usize,
    /// As read last: never more than is true.
    put: usize,
}

/// A queue of at most `capacity` items; everything is allocated here.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a queue holds something");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let (put, taken) = (Padded(AtomicUsize::new(0)), Padded(AtomicUsize::new(0)));
    let shared = Arc::new(Shared { slots, capacity, put, taken });
    (Sender { shared: shared.clone(), put: 0, taken: 0 }, Receiver { shared, taken: 0, put: 0 })
}

impl<T> Sender<T> {
    /// Puts `item` in, or gives it back when the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.put.wrapping_sub(self.taken) == self.shared.capacity && self.free() == 0 {
            return Err(item);
        }
        // SAFETY: the slot is free: fewer than `capacity` items are between `taken` and `put`, and acquire on `taken` has ordered the
        // receiver's read of the slot's former item before this write.
        self.shared.slot(self.put).with_mut(|slot| unsafe { (*slot).write(item) });
        self.put = self.put.wrapping_add(1);
        self.shared.put.0.store(self.put, Ordering::Release);
        Ok(())
    }

    /// Items that may be pushed before the receiver takes another one. Never more than is true.
    pub fn free(&mut self) -> usize {
        self.taken = self.shared.taken.0.load(Ordering::Acquire);
        self.shared.capacity - self.put.wrapping_sub(self.taken)
    }

    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest item out.
    pub fn pop(&mut self) -> Option<T> {
        if self.put == self.taken && self.is_empty() {
            return None;
        }
        // SAFETY: the slot is full: `taken` is below `put`, and acquire on `put` has ordered the sender's write before this read. It is
        // read once, as `taken` passes it now.
        let item = self.shared.slot(self.taken).with(|slot| unsafe { (*slot).assume_init_read() });
        self.taken = self.taken.wrapping_add(1);
        self.shared.taken.0.store(self.taken, Ordering::Release);
        Some(item)
    }

    /// Whether nothing is there to pop. Looks at the sender's counter: to be called after [`Doorbell::about_to_sleep`].
    pub fn is_empty(&mut self) -> bool {
        self.put = self.shared.put.0.load(Ordering::Acquire);
        self.put == self.taken
    }
}

/// Tells producers whether a consumer sleeps. One a consumer, shared by all that send to it.
pub struct Doorbell {
    sleeping: Padded<AtomicBool>,
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell::new()
    }
}

impl Doorbell {
    /// Of a consumer that is awake.
    pub fn new() -> Doorbell {
        Doorbell { sleeping: Padded(AtomicBool::new(false)) }
    }

    /// The consumer's last word before it looks into its queues once more and, finding nothing, sleeps.
    pub fn about_to_sleep(&self) {
        self.sleeping.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The consumer is up, or has found something after all.
    pub fn awake(&self) {
        self.sleeping.0.store(false, Ordering::Relaxed);
    }

    /// After a push: whether this producer must wake the consumer. Of several producers one is told so.
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // Not a swap: one that finds `false` would write it once more, perhaps over the `true` of the next sleep.
        let taken = |bell: &AtomicBool| bell.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        self.sleeping.0.load(Ordering::Relaxed) && taken(&self.sleeping.0)
    }
}

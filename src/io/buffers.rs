//! The memory of a worker: one region, cut into pools of equal slots when the worker starts, first touched by its own thread.
//!
//! The core names memory by [`Span`] (worker, pool, slot, range) and gets slices for the length of a borrow. The kernel reads and writes
//! the same memory by address while an operation is in flight; [`Buffers::address`] is the one door to that.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Pool {
    /// One a connection: the head of a request, with its body when that fits.
    Connection,
    /// One a connection: heads of replies, and small replies whole.
    Reply,
    /// Bodies, replies and lent batches of up to 64 KiB.
    Small,
    /// The same, to 1 MiB; reads of cold segments.
    Medium,
    /// The same, to 16 MiB: the largest request, reply or frame.
    Large,
    /// One slot: the ring of commits on their way to disk, then the cache of the tail. Registered with the kernel.
    Log,
    /// One a connection that does not speak HTTP/1.1 as it is: two thirds for what comes from the network, the rest for what goes there.
    Wire,
    /// Single blocks and short runs of them: superblock, journal, heads of segments, footers.
    Block,
    /// What bulk connections receive, and the log writes from there.
    Bulk,
}

pub const POOLS: usize = 9;
pub const ALL_POOLS: [Pool; POOLS] = [
    Pool::Connection,
    Pool::Reply,
    Pool::Small,
    Pool::Medium,
    Pool::Large,
    Pool::Log,
    Pool::Wire,
    Pool::Block,
    Pool::Bulk,
];

/// A range of a slot of a pool of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub worker: u16,
    pub pool: Pool,
    pub slot: u16,
    pub at: u32,
    pub len: u32,
}

impl Span {
    /// The part from `at` (within this span), `len` bytes long.
    pub fn part(self, at: u32, len: u32) -> Span {
        assert!(at as u64 + len as u64 <= self.len as u64, "part {at}+{len} of {self:?}");
        Span { at: self.at + at, len, ..self }
    }
    /// The first `len` bytes.
    pub fn first(self, len: u32) -> Span {
        self.part(0, len)
    }
}

/// Slots and slot size of each pool, in the order of [`ALL_POOLS`]. Sizes are whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Layouts(pub [(u16, u32); POOLS]);

const ALIGNMENT: usize = 4096;

struct Region {
    base: NonNull<u8>,
    layout: Layout,
    /// Byte of the region where each pool starts.
    starts: [usize; POOLS],
    pools: Layouts,
}

// SAFETY: a region is plain memory; who may touch which range is settled by the protocol of `Buffers` and `Lent`.
unsafe impl Send for Region {}
// SAFETY: as above: shared access goes through `Loans::bytes`, whose callers hold a loan.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; the last owner unmaps it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.size()) };
    }
}

/// What the kernel's large page is on x86-64 and on arm64 with pages of 4 KiB.
const LARGE_PAGE: usize = 2 << 20;

/// Zeroed memory that the kernel hands out when it is first touched: an aligned allocation of std would be written full of zeros at once, by
/// the wrong thread. It comes in large pages where there are any (`/sys/kernel/mm/transparent_hugepage/enabled` is not `never`): a write to the
/// drive from memory that is not registered looks up and holds each page that it touches, and gives the device one segment for each; in
/// pages of 4 KiB that made bulk a third slower (`benches/README.md`).
fn map(layout: Layout) -> Option<NonNull<u8>> {
    const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let (bytes, align) = (layout.size(), layout.align());
    // The kernel begins a mapping at any page, so one of large pages asks for more, and gives back what lies before and behind it.
    let slack = align - ALIGNMENT;
    // SAFETY: a new mapping of our own, at a place that the kernel chooses.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), bytes + slack, PROTECTION, FLAGS, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let before = mapped.addr().next_multiple_of(align) - mapped.addr();
    // SAFETY: `before` is less than `align`, so base and its `bytes` lie within what was mapped; what is unmapped lies there too, outside of them.
    let base = unsafe {
        let base = mapped.byte_add(before);
        for (at, len) in [(mapped, before), (base.byte_add(bytes), slack - before)] {
            if len > 0 {
                libc::munmap(at, len);
            }
        }
        base
    };
    if align == LARGE_PAGE {
        // SAFETY: the range is the mapping. A kernel without large pages says EINVAL, and all works with small ones.
        unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
    }
    NonNull::new(base.cast())
}

impl Region {
    fn address(&self, span: Span) -> *mut u8 {
        let (slots, size) = self.pools.0[span.pool as usize];
        assert!(span.slot < slots && span.at as u64 + span.len as u64 <= size as u64, "outside of its pool: {span:?}");
        let at = self.starts[span.pool as usize] + span.slot as usize * size as usize + span.at as usize;
        // SAFETY: the assertion above bounds `at + len` by the pool, which lies in the region.
        unsafe { self.base.as_ptr().add(at) }
    }
}

/// A worker's own memory: slices by span, and a free list for each pool.
pub struct Buffers {
    worker: u16,
    region: Arc<Region>,
    /// Taken from the end. Parked slots are at the front, the one that was parked last first.
    free: [Vec<u16>; POOLS],
    /// How many times each slot has been taken.
    uses: [Vec<u32>; POOLS],
}

/// A slot that was given back with bytes that may be wanted again. It is free: whoever needs a slot gets it, if there is no other.
#[derive(Debug, PartialEq, Eq)]
pub struct Parked {
    span: Span,
    /// Of the slot when it was parked.
    uses: u32,
}

/// Another worker's memory, for the spans that it has lent.
#[derive(Clone)]
pub struct Loans {
    region: Arc<Region>,
}

impl Buffers {
    /// Allocates (not yet touches) the memory of worker `worker`.
    pub fn new(worker: u16, pools: Layouts) -> Buffers {
        let mut starts = [0; POOLS];
        let mut bytes = 0usize;
        for (start, (slots, size)) in starts.iter_mut().zip(pools.0) {
            assert!((size as usize).is_multiple_of(ALIGNMENT), "a slot is whole blocks");
            if slots as usize * size as usize >= LARGE_PAGE {
                bytes = bytes.next_multiple_of(LARGE_PAGE);
            }
            *start = bytes;
            bytes += slots as usize * size as usize;
        }
        let align = if bytes < LARGE_PAGE { ALIGNMENT } else { LARGE_PAGE };
        let layout = Layout::from_size_align(bytes.max(ALIGNMENT), align).expect("pools fit in memory");
        let base = map(layout).unwrap_or_else(|| handle_alloc_error(layout));
        // Lowest slot first, so that few pages are ever touched.
        let free = pools.0.map(|(slots, _)| (0..slots).rev().collect());
        let uses = pools.0.map(|(slots, _)| vec![0; slots as usize]);
        Buffers { worker, region: Arc::new(Region { base, layout, starts, pools }), free, uses }
    }

    /// What other workers need to read lent spans.
    pub fn loans(&self) -> Loans {
        Loans { region: self.region.clone() }
    }

    /// Takes a whole free slot of `pool`; `None` when all are in use.
    pub fn take(&mut self, pool: Pool) -> Option<Span> {
        let slot = self.free[pool as usize].pop()?;
        let uses = &mut self.uses[pool as usize][slot as usize];
        *uses = uses.wrapping_add(1);
        Some(self.whole(pool, slot))
    }

    /// Takes a slot of the smallest of the pools `Small`, `Medium`, `Large` that holds `len` bytes and has one free; its span is whole.
    pub fn take_for(&mut self, len: usize) -> Option<Span> {
        let fits = |b: &Buffers, pool| b.slot_size(pool) as usize >= len;
        [Pool::Small, Pool::Medium, Pool::Large]
            .into_iter()
            .find_map(|pool| fits(self, pool).then(|| self.take(pool))?)
    }

    /// Gives the slot of `span` back. It must have been taken, whole or in parts, exactly once.
    pub fn give(&mut self, span: Span) {
        assert_eq!(span.worker, self.worker, "a lent slot goes home before it is given back");
        let free = &mut self.free[span.pool as usize];
        debug_assert!(!free.contains(&span.slot), "given back twice: {span:?}");
        free.push(span.slot);
    }

    /// Gives the slot of `span` back like [`Buffers::give`], as the last one to be taken again.
    pub fn park(&mut self, span: Span) -> Parked {
        self.give(span);
        self.free[span.pool as usize].rotate_right(1);
        Parked { span, uses: self.uses[span.pool as usize][span.slot as usize] }
    }

    /// Takes a parked slot, with the bytes that it had; `None`: somebody else has had it meanwhile.
    pub fn unpark(&mut self, parked: Parked) -> Option<Span> {
        let Parked { span, uses } = parked;
        if self.uses[span.pool as usize][span.slot as usize] != uses {
            return None;
        }
        let free = &mut self.free[span.pool as usize];
        let at = free.iter().position(|slot| *slot == span.slot).expect("a slot that was not taken is free");
        free.remove(at);
        self.uses[span.pool as usize][span.slot as usize] = uses.wrapping_add(1);
        Some(span)
    }

    /// Free slots of `pool`.
    pub fn available(&self, pool: Pool) -> usize {
        self.free[pool as usize].len()
    }

    pub fn slots(&self, pool: Pool) -> u16 {
        self.region.pools.0[pool as usize].0
    }

    pub fn slot_size(&self, pool: Pool) -> u32 {
        self.region.pools.0[pool as usize].1
    }

    /// The whole slot, without taking it: for the pools whose slots belong to a connection or to the log by number.
    pub fn whole(&self, pool: Pool, slot: u16) -> Span {
        Span { worker: self.worker, pool, slot, at: 0, len: self.slot_size(pool) }
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        assert_eq!(span.worker, self.worker, "another worker's memory is read through its loans");
        // SAFETY: in bounds by `address`; the worker writes only through `&mut self`, the kernel only into spans whose operation is in
        // flight, which the core does not read.
        unsafe { std::slice::from_raw_parts(self.region.address(span), span.len as usize) }
    }

    pub fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        assert_eq!(span.worker, self.worker, "another worker's memory is never written");
        // SAFETY: as in `bytes`; `&mut self` excludes every other slice of this worker, and lent spans are not written while lent.
        unsafe { std::slice::from_raw_parts_mut(self.region.address(span), span.len as usize) }
    }

    /// Two spans at once, one to read and one to write; they must not overlap.
    pub fn pair(&mut self, from: Span, to: Span) -> (&[u8], &mut [u8]) {
        let same = from.pool == to.pool && from.slot == to.slot;
        let apart = from.at + from.len <= to.at || to.at + to.len <= from.at;
        assert!(
            from.worker == self.worker && to.worker == self.worker && (!same || apart),
            "{from:?} and {to:?} overlap"
        );
        let (a, b) = (self.region.address(from), self.region.address(to));
        // SAFETY: in bounds by `address`, disjoint by the assertion.
        unsafe {
            (std::slice::from_raw_parts(a, from.len as usize), std::slice::from_raw_parts_mut(b, to.len as usize))
        }
    }

    /// Where the kernel finds `span`. Only `io` calls it, for an operation that the core has emitted.
    pub fn address(&self, span: Span) -> *mut u8 {
        assert_eq!(span.worker, self.worker, "spans of other workers are found through their loans");
        self.region.address(span)
    }
}

impl Loans {
    /// The bytes of a span that its owner has lent to this worker and that has not gone home yet.
    pub fn bytes(&self, span: Span) -> &[u8] {
        // SAFETY: in bounds by `address`. The owner does not write a lent span until it is returned by a message, and the mailbox's
        // release and acquire order its writes before this read.
        unsafe { std::slice::from_raw_parts(self.region.address(span), span.len as usize) }
    }

    /// Where the kernel finds a lent span that is being sent.
    pub fn address(&self, span: Span) -> *mut u8 {
        self.region.address(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers() -> Buffers {
        Buffers::new(
            3,
            Layouts([
                (2, 4096),
                (2, 4096),
                (2, 8192),
                (1, 16384),
                (1, 32768),
                (1, 4096),
                (0, 4096),
                (2, 4096),
                (0, 4096),
            ]),
        )
    }

    #[test]
    fn slots_are_taken_lowest_first_and_come_back() {
        let mut b = buffers();
        let first = b.take(Pool::Small).expect("two are free");
        let second = b.take(Pool::Small).expect("one is free");
        assert_eq!((first.slot, second.slot), (0, 1));
        assert_eq!(b.take(Pool::Small), None);
        b.give(first);
        assert_eq!(b.take(Pool::Small), Some(first));
    }

    #[test]
    fn the_smallest_pool_that_fits_is_taken_and_a_larger_one_when_it_is_empty() {
        let mut b = buffers();
        let pools: Vec<_> = (0..4).filter_map(|_| b.take_for(5000)).map(|s| s.pool).collect();
        assert_eq!(pools, [Pool::Small, Pool::Small, Pool::Medium, Pool::Large]);
        assert_eq!(b.take_for(1), None);
    }

    #[test]
    fn a_parked_slot_is_free_is_taken_last_and_comes_back_as_it_was() {
        let mut b = buffers();
        let (first, second) = (b.take(Pool::Small).expect("free"), b.take(Pool::Small).expect("free"));
        b.bytes_mut(first)[..3].copy_from_slice(b"abc");
        let parked = b.park(first);
        b.give(second);
        assert_eq!(b.available(Pool::Small), 2);
        assert_eq!(b.take(Pool::Small), Some(second), "another one is free");
        let again = b.unpark(parked).expect("nobody needed it");
        assert_eq!((again, &b.bytes(again)[..3], b.available(Pool::Small)), (first, &b"abc"[..], 0));
    }

    #[test]
    fn a_parked_slot_that_was_needed_does_not_come_back_the_oldest_is_needed_first() {
        let mut b = buffers();
        let (first, second) = (b.take(Pool::Small).expect("free"), b.take(Pool::Small).expect("free"));
        let (older, newer) = (b.park(first), b.park(second));
        let taken = b.take(Pool::Small).expect("both are free");
        b.give(taken);
        assert_eq!((taken, b.unpark(older)), (first, None), "it has been another's, though it is free again");
        assert_eq!(b.unpark(newer), Some(second));
    }

    #[test]
    fn a_loan_shows_the_owner_s_bytes() {
        let mut b = buffers();
        let span = b.take(Pool::Small).expect("free").part(100, 3);
        b.bytes_mut(span).copy_from_slice(b"abc");
        assert_eq!(b.loans().bytes(span), b"abc");
    }

    #[test]
    #[should_panic(expected = "outside of its pool")]
    fn a_span_past_its_slot_is_refused() {
        let b = buffers();
        b.bytes(Span { worker: 3, pool: Pool::Block, slot: 1, at: 4000, len: 97 });
    }
}

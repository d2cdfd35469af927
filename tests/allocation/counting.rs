//! An allocator that counts, by thread: how often memory was asked for, and how much of it is held.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory.
#[allow(dead_code, reason = "shared by two tests, each with its own question")]
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that this thread has taken, less those that it has given back.
#[allow(dead_code, reason = "shared by two tests, each with its own question")]
pub fn held() -> i64 {
    HELD.get()
}

fn note(asked: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + asked);
    HELD.set(HELD.get() + bytes);
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as above.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as above.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
    // SAFETY: as above.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

//! The heap, with a count of what is asked of it: on the hot path nothing may be, and a test looks.
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counted;

static ASKED: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for so far, growing and shrinking included.
pub fn allocations() -> u64 {
    ASKED.load(Ordering::Relaxed)
}

// SAFETY: every request goes to the system's allocator as it came, which keeps GlobalAlloc's contract; the count
// is an atomic of its own.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps alloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps alloc_zeroed's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps realloc's contract; the block came from the same allocator.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps dealloc's contract; the block came from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

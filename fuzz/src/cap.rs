//! An allocator that ends the process where more is held than any input may ask for.
//!
//! A capsule asks for 64 MiB of tables and two chunks of 16 MiB; what is held of its sections and of model files
//! is a small multiple of their bytes, which targets hold to a cap of their own ([`capped`]). What zstd allocates is not counted here:
//! libFuzzer's `-malloc_limit_mb` bounds each of its requests.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

const CEILING: usize = 512 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What may be held now: the ceiling, or less while [`capped`] works.
static MOST: AtomicUsize = AtomicUsize::new(CEILING);

/// Ends the process where `work` holds more than `room` bytes beyond what is held before it. One at a time.
pub fn capped<T>(room: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before.saturating_add(room).min(CEILING), Ordering::Relaxed);
    let done = work();
    MOST.store(CEILING, Ordering::Relaxed);
    done
}

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

fn count(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed).saturating_add(size);
    if live > MOST.load(Ordering::Relaxed) {
        // room for the message
        MOST.store(usize::MAX, Ordering::Relaxed);
        eprintln!("allocation beyond the ceiling: {size} bytes more, {live} in all");
        std::process::abort();
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory
// of the caller's.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as this function's own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as this function's own contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as this function's own contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

//! An allocator that ends the process where more is held than any input may ask for.
//!
//! The largest lawful demand is a llama.cpp token list of 2^26 ids (runtimes-v1), 256 MiB; a capsule
//! asks for 64 MiB of tables and two chunks of 16 MiB. What zstd allocates is not counted here:
//! libFuzzer's `-malloc_limit_mb` bounds each of its requests.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

const CEILING: usize = 512 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

fn count(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed).saturating_add(size);
    if live > CEILING {
        LIVE.store(0, Ordering::Relaxed); // room for the message
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

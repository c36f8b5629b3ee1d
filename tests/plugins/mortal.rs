//! mulkko in a VM that dies when the host hands it more than 50,000 bytes at once, as after any trap: what it knows from
//! then on is what it finds in shared data.

#![cfg(target_arch = "wasm32")]
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};

// Everything else is mulkko's own, its entry point too.
use mulkko as _;

struct Mortal;

#[global_allocator]
static ALLOCATOR: Mortal = Mortal;

/// What a request with a header of 60 kB takes: nothing in a small policy is of that size.
const DEADLY: std::ops::Range<usize> = 50_000..80_000;

// SAFETY: the system's allocator, or none.
unsafe impl GlobalAlloc for Mortal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if DEADLY.contains(&layout.size()) {
            std::process::abort();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

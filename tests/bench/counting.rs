//! The program's own allocator, with a count, and on demand the place of each call.

use std::alloc::{GlobalAlloc, Layout};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

use barbican_kms::secret::WipingAllocator;

pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static TRACES: RefCell<Vec<(usize, String)>> = const { RefCell::new(Vec::new()) };
}

/// How many allocations there were so far, and of how many bytes.
pub(crate) fn count() -> (usize, usize) {
    COUNT.get()
}

/// From now on the place of each allocation is noted.
pub(crate) fn trace(on: bool) {
    TRACING.set(on);
}

/// Size and backtrace of each allocation that was noted.
pub(crate) fn traces() -> Vec<(usize, String)> {
    TRACES.take()
}

fn note(bytes: usize) {
    let (calls, sum) = COUNT.get();
    COUNT.set((calls + 1, sum + bytes));
    if TRACING.replace(false) {
        let trace = Backtrace::force_capture().to_string();
        TRACES.with_borrow_mut(|traces| traces.push((bytes, trace)));
        TRACING.set(true);
    }
}

// SAFETY: every call is passed on. `realloc` is the trait's default, as it is there.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { WipingAllocator.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { WipingAllocator.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { WipingAllocator.dealloc(block, layout) }
    }
}

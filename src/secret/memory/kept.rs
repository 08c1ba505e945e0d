//! Pages that a test's thread keeps for its next secrets: where time is simulated a key is
//! downloaded every few microseconds, and a mapping takes longer than that.

use std::cell::RefCell;
use std::ptr::NonNull;

use super::{Protection, Region};

thread_local! {
    /// Of one page each, zeroed; nothing where the thread keeps none.
    static KEPT: RefCell<Option<Vec<Region>>> = const { RefCell::new(None) };
}

/// From now on this thread keeps the pages of secrets that it drops.
pub(crate) fn keep_pages() {
    KEPT.with_borrow_mut(|kept| {
        kept.get_or_insert_default();
    });
}

pub(super) fn take(length: usize) -> Option<Region> {
    KEPT.with_borrow_mut(|kept| kept.as_mut()?.pop_if(|region| region.length == length))
}

/// Whether the pages of a region that is dropped, which are zero, are kept.
pub(super) fn keep(start: NonNull<u8>, length: usize, protection: Protection) -> bool {
    let kept = KEPT.try_with(|kept| {
        // Borrowed while the thread ends.
        let mut kept = kept.try_borrow_mut().ok()?;
        kept.as_mut()?.push(Region {
            start,
            length,
            protection,
        });
        Some(())
    });
    matches!(kept, Ok(Some(())))
}

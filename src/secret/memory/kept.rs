//! Pages that a test's thread keeps for its next secrets: where time is simulated a key is
//! downloaded every few microseconds, and a mapping takes longer than that.

use std::any::Any;
use std::cell::RefCell;

/// Zeroed pages, and how many bytes they have.
type Pages = (usize, Box<dyn Any>);

thread_local! {
    /// Nothing where the thread keeps none.
    static KEPT: RefCell<Option<Vec<Pages>>> = const { RefCell::new(None) };
}

/// From now on this thread keeps the pages of secrets that it drops.
pub(crate) fn keep_pages() {
    KEPT.with_borrow_mut(|kept| {
        kept.get_or_insert_default();
    });
}

pub(super) fn take(bytes: usize) -> Option<Box<dyn Any>> {
    KEPT.with_borrow_mut(|kept| {
        let pages = kept.as_mut()?.pop_if(|(length, _)| *length == bytes);
        pages.map(|(_, pages)| pages)
    })
}

/// Whether `pages` of so many bytes, which are zero, are kept.
pub(super) fn keep(bytes: usize, pages: impl FnOnce() -> Box<dyn Any>) -> bool {
    // Gone while the thread ends.
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        kept.as_mut()?.push((bytes, pages()));
        Some(())
    });
    matches!(kept, Ok(Some(())))
}

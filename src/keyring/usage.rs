//! When calls last used a key, and for what.

use std::sync::atomic::AtomicU64;

/// When calls were last given a key, in seconds of the coarse clock; 0 for never.
#[derive(Debug, Default)]
pub(super) struct Uses {
    wrapped: AtomicU64,
    unwrapped: AtomicU64,
}

/// What a call does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Encrypt.
    Wrap,
    /// Decrypt.
    Unwrap,
}

impl Uses {
    pub(super) fn of(&self, usage: Use) -> &AtomicU64 {
        match usage {
            Use::Wrap => &self.wrapped,
            Use::Unwrap => &self.unwrapped,
        }
    }
}

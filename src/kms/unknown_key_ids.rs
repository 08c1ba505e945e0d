//! Key ids of Decrypts that are not configured: each is logged once.
//!
//! A client that can write to etcd chooses them, so only so many are remembered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use crate::key_id::KeyId;

/// The number of ids that are logged until the next reload.
const LIMIT: usize = 64;

/// The ids that were logged. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct UnknownKeyIds(Arc<Mutex<Logged>>);

#[derive(Debug, Default)]
struct Logged {
    /// The number of reloads so far: each may have removed a key.
    reloads: u64,
    ids: BTreeSet<KeyId>,
}

impl UnknownKeyIds {
    /// A Decrypt has asked for `id`.
    pub(super) fn log(&self, id: KeyId, reloads: u64) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_new(id, reloads) {
            warn!(
                key_id = %id,
                key_id_hash = id.sha256_label(),
                "kube-apiserver sent data of a key that is not configured: add its id to \
                 decrypt-key-ids, or the key to the key container"
            );
            if logged.ids.len() == LIMIT {
                warn!("no more unknown key ids are logged until the next reload");
            }
        }
    }
}

impl Logged {
    fn is_new(&mut self, id: KeyId, reloads: u64) -> bool {
        if std::mem::replace(&mut self.reloads, reloads) != reloads {
            self.ids.clear();
        }
        self.ids.len() < LIMIT && self.ids.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_logged_once_up_to_a_bound_and_again_after_a_reload() {
        let mut logged = Logged::default();
        let id = |n: u8| -> KeyId {
            let text = format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{n:02x}");
            text.parse().expect("a UUID")
        };
        let count = (0..=255).filter(|n| logged.is_new(id(*n), 0)).count();
        assert_eq!((count, logged.ids.len()), (LIMIT, LIMIT));
        assert!(!logged.is_new(id(0), 0));
        assert!(logged.is_new(id(0), 1));
    }
}

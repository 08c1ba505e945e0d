//! Key ids of Decrypts that are not configured: each is said once in the log.
//!
//! A client that can write to etcd chooses them, so only so many are remembered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use crate::key_id::KeyId;

/// So many ids are said, until the next reload.
const SAID: usize = 64;

/// What the log has said. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<Met>>);

#[derive(Debug, Default)]
struct Met {
    /// As of so many reloads: each may have dropped a key.
    reloads: u64,
    ids: BTreeSet<KeyId>,
}

impl Strangers {
    /// A Decrypt has asked for `id`.
    pub(super) fn met(&self, id: KeyId, reloads: u64) {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if met.is_news(id, reloads) {
            warn!(
                key_id = %id,
                key_id_hash = id.sha256_label(),
                "kube-apiserver sent data of a key that is not configured: add its id to \
                 decrypt-key-ids, or the key to the key container"
            );
            if met.ids.len() == SAID {
                warn!("no more unknown key ids are logged until the next reload");
            }
        }
    }
}

impl Met {
    fn is_news(&mut self, id: KeyId, reloads: u64) -> bool {
        if std::mem::replace(&mut self.reloads, reloads) != reloads {
            self.ids.clear();
        }
        self.ids.len() < SAID && self.ids.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_said_once_up_to_a_bound_and_again_after_a_reload() {
        let mut met = Met::default();
        let id = |n: u8| -> KeyId {
            let text = format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{n:02x}");
            text.parse().expect("a UUID")
        };
        let said = (0..=255).filter(|n| met.is_news(id(*n), 0)).count();
        assert_eq!((said, met.ids.len()), (SAID, SAID));
        assert!(!met.is_news(id(0), 0));
        assert!(met.is_news(id(0), 1));
    }
}

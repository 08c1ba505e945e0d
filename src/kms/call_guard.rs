//! A call in progress: recorded when it ends, however it ends.
//!
//! Used by the two calls that use a key. A client may leave, and `server` gives up what
//! takes too long; both drop the call's future and this with it. Invariant: one event at
//! debug and one audit entry a call, and no allocation where neither is needed.

use std::time::{Instant, SystemTime};

use tracing::debug;

use super::error::CallError;
use crate::audit::{Entry, Outcome, Trail, UID_BYTES};
use crate::instruments::{Label as _, Operation};
use crate::key_id::KeyId;

/// Dropped without [`CallGuard::finish`], the call was cancelled.
#[derive(Debug)]
pub(super) struct CallGuard<'a> {
    operation: Operation,
    /// When it began, if that is to be noted.
    trail: Option<(&'a Trail, Instant)>,
    uid: String,
    key_id: Option<KeyId>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Served,
    Refused(CallError),
    Cancelled,
}

impl<'a> CallGuard<'a> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what the audit log says of a call"
    )]
    pub(super) fn new(operation: Operation, trail: Option<&'a Trail>, uid: String) -> Self {
        Self {
            operation,
            trail: trail.map(|trail| (trail, Instant::now())),
            uid,
            key_id: None,
            ending: Ending::Cancelled,
        }
    }

    /// It is about this key.
    pub(super) fn set_key_id(&mut self, key_id: Option<KeyId>) {
        self.key_id = key_id;
    }

    /// It is answered.
    pub(super) fn finish(mut self, refused: Option<&CallError>) {
        self.ending = refused.map_or(Ending::Served, |error| Ending::Refused(*error));
    }

    /// The uid is there to find the call in kube-apiserver's log, the key id is as
    /// kube-apiserver's metrics label it.
    fn log(&self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let call = self.operation.as_str();
        let uid = self
            .uid
            .get(..self.uid.floor_char_boundary(UID_BYTES))
            .unwrap_or_default();
        let uid = uid.escape_debug().to_string();
        let key_id_hash = self
            .key_id
            .map_or_else(|| "unknown".to_owned(), |id| id.sha256_label());
        match self.ending {
            Ending::Served => debug!(call, uid, key_id_hash, "served"),
            Ending::Refused(error) => debug!(call, uid, key_id_hash, "refused: {error}"),
            Ending::Cancelled => debug!(
                call,
                uid,
                key_id_hash,
                "cancelled: the client has disconnected, or the call took too \
                                   long"
            ),
        }
    }
}

impl Drop for CallGuard<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what the audit log says of a call"
    )]
    fn drop(&mut self) {
        self.log();
        let Some((trail, begin)) = self.trail else {
            return;
        };
        trail.note(Entry {
            at: SystemTime::now(),
            call: match self.operation {
                Operation::Encrypt => "Encrypt",
                Operation::Decrypt => "Decrypt",
            },
            uid: std::mem::take(&mut self.uid),
            key_id: self.key_id,
            outcome: match self.ending {
                Ending::Served => Outcome::Served,
                Ending::Refused(error) => Outcome::Refused(error.to_string()),
                Ending::Cancelled => Outcome::Cancelled,
            },
            took: begin.elapsed(),
        });
    }
}

//! The rule that the write key stays in the ring when it stops being the write key.

use super::writer::{Writer, list};
use super::{KeyProblem, KeySource};
use crate::config::Ring;
use crate::key_id::{ContainerId, KeyId};
use crate::mutation::{self, Mutation};

impl<S: KeySource, C> Writer<S, C> {
    /// The write key must not leave the ring in the step in which it stops being the
    /// write key: other nodes, and this one's own data, still need it.
    pub(super) fn may_replace(&self, next: &Ring) -> Result<(), WriteKeyWouldVanish> {
        let Some(old) = self.ring.ring.write else {
            return Ok(());
        };
        if mutation::active(Mutation::WriteKeyVanishes) {
            return Ok(());
        }
        if next.ids().any(|id| id == old) {
            return Ok(());
        }
        if self.never_usable(&old) {
            return Ok(());
        }
        Err(match &next.container {
            Some(container) => WriteKeyWouldVanish::Container {
                old,
                container: container.id,
            },
            None => WriteKeyWouldVanish::File {
                old,
                decrypt: next.decrypt.iter().copied().chain([old]).collect(),
            },
        })
    }

    /// Whether `next` does not say which key is the write key, where that is known now: it
    /// follows a container that has not said so yet, and may never. Pinning the old one
    /// does not make up for it.
    pub(super) fn loses_write_key(&self, next: &Ring) -> bool {
        let old = self.ring.ring.write;
        next.write.is_none() && old.is_some_and(|old| !self.never_usable(&old))
    }

    /// A mistyped id: this process has never held such a key, and Barbican says that
    /// there is none. No data is lost, because the id can be added later.
    fn never_usable(&self, id: &KeyId) -> bool {
        self.ring.slots.slot(id).is_some_and(|slot| {
            slot.confirmed().is_none() && slot.problem().is_some_and(KeyProblem::is_final)
        })
    }
}

/// The reload would make data unreadable.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteKeyWouldVanish {
    #[error(
        "key-id changes and the key in use until now, {old}, is missing from decrypt-key-ids; data \
         that it has wrapped could not be read. Add it: decrypt-key-ids = {}",
        list(decrypt)
    )]
    File { old: KeyId, decrypt: Vec<KeyId> },
    #[error(
        "the container {container} does not list the key in use until now, {old}; data that \
         it has wrapped could not be read. Add it to the container, the write key under a time that has \
         passed, or to decrypt-key-ids"
    )]
    Container { old: KeyId, container: ContainerId },
}

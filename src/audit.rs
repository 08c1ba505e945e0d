//! The audit trail: which key was used when, one entry for each Encrypt and Decrypt
//! with its outcome.
//!
//! `kms` adds entries, the thread of [`writer`] writes them to a file. Invariant: a
//! call never waits for the trail and never fails because of it; entries that do not
//! fit into the bounded queue are dropped and counted.

pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use crate::instruments::Instruments;
use crate::key_id::KeyId;

/// Lines that can wait for the file: a few seconds of a cold start. With the longest
/// lines, about 2 MiB when a disk hangs.
const QUEUE: usize = 4096;

/// How many bytes of a caller's uid are kept, here and in the log. kube-apiserver's has
/// 36 bytes, but a request may contain a thousand times as many.
pub(crate) const UID_BYTES: usize = 64;

/// One call.
#[derive(Debug)]
pub struct Entry {
    /// When it was answered.
    pub at: SystemTime,
    /// `Encrypt` or `Decrypt`.
    pub call: &'static str,
    /// The uid of the call in kube-apiserver's audit log; the first 64 bytes are kept.
    pub uid: String,
    /// The key; `None` when the request named none.
    pub key_id: Option<KeyId>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// Successfully.
    Served,
    /// With this error.
    Refused(String),
    /// Without an answer: the client has disconnected, or the call took too long.
    Cancelled,
}

/// The sending end, which calls write to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trail {
    sender: SyncSender<Note>,
    reopen: Arc<AtomicBool>,
    instruments: Arc<Instruments>,
}

/// The receiving end, which the writer's thread reads.
#[derive(Debug)]
pub struct Entries {
    receiver: Receiver<Note>,
    reopen: Arc<AtomicBool>,
    instruments: Arc<Instruments>,
}

#[derive(Debug)]
enum Note {
    Entry(Box<Entry>),
    /// See [`Trail::reopen`].
    Wake,
}

/// Creates both ends of a trail.
pub fn trail(instruments: &Arc<Instruments>) -> (Trail, Entries) {
    let (sender, receiver) = sync_channel(QUEUE);
    let reopen = Arc::new(AtomicBool::new(false));
    let trail = Trail {
        sender,
        reopen: Arc::clone(&reopen),
        instruments: Arc::clone(instruments),
    };
    let entries = Entries {
        receiver,
        reopen,
        instruments: Arc::clone(instruments),
    };
    (trail, entries)
}

impl Trail {
    /// Records a call, if there is room.
    pub fn note(&self, mut entry: Entry) {
        let end = entry.uid.floor_char_boundary(UID_BYTES);
        entry.uid.truncate(end);
        // A queued entry must not keep the memory of the part that was cut off.
        entry.uid.shrink_to_fit();
        if self.sender.try_send(Note::Entry(Box::new(entry))).is_err() {
            self.instruments.unaudited.increase();
        }
    }

    /// Opens the file again, after it has been renamed.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread as well.
        let _ = self.sender.try_send(Note::Wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: String) -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH,
            call: "Encrypt",
            uid,
            key_id: None,
            outcome: Outcome::Served,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_counted() {
        let instruments = Arc::new(Instruments::default());
        let (trail, _notes) = trail(&instruments);
        for _ in 0..QUEUE + 3 {
            trail.note(entry(String::new()));
        }
        assert_eq!(instruments.unaudited.value(), 3);
    }

    #[test]
    fn a_long_uid_is_cut_before_it_waits() {
        let instruments = Arc::new(Instruments::default());
        let (trail, notes) = trail(&instruments);
        // 63 bytes, and then two for each letter.
        trail.note(entry("u".repeat(63) + &"é".repeat(32 * 1024)));
        let Ok(Note::Entry(queued)) = notes.receiver.try_recv() else {
            panic!("an entry waits");
        };
        assert_eq!(queued.uid, "u".repeat(63));
        assert!(queued.uid.capacity() <= 64, "{}", queued.uid.capacity());
    }
}

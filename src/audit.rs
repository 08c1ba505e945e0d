//! The audit trail: who had which key used, one entry for each Encrypt and Decrypt,
//! whatever became of it.
//!
//! `kms` notes entries, the thread of [`writer`] puts them into a file. Invariant: a
//! call never waits for the trail and never fails because of it; what the bounded queue
//! has no room for is dropped and counted.

pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use crate::instruments::Instruments;
use crate::key_id::KeyId;

/// Lines that can wait for the file: some seconds of a cold start. With what a line
/// can hold, some 2 MiB when a disk hangs.
const QUEUE: usize = 4096;

/// What is kept of a caller's uid, here and in the log; kube-apiserver's has 36 bytes,
/// and a request may bring a thousand times as many.
pub(crate) const UID_BYTES: usize = 64;

/// One call.
#[derive(Debug)]
pub struct Entry {
    /// When it was answered.
    pub at: SystemTime,
    /// `Encrypt` or `Decrypt`.
    pub call: &'static str,
    /// What kube-apiserver calls it in its own audit log; the first 64 bytes are kept.
    pub uid: String,
    /// The key; `None` when the request named none.
    pub key_id: Option<KeyId>,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// As it should.
    Served,
    /// With this error.
    Refused(String),
    /// Without an answer: the client has gone, or it took too long.
    Cancelled,
}

/// The end that calls write to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trail {
    entries: SyncSender<Note>,
    reopen: Arc<AtomicBool>,
    instruments: Arc<Instruments>,
}

/// The end that the file's thread reads.
#[derive(Debug)]
pub struct Entries {
    queue: Receiver<Note>,
    reopen: Arc<AtomicBool>,
    instruments: Arc<Instruments>,
}

#[derive(Debug)]
enum Note {
    Entry(Box<Entry>),
    /// Look at [`Trail::reopen`].
    Wake,
}

/// Both ends of a trail.
pub fn trail(instruments: &Arc<Instruments>) -> (Trail, Entries) {
    let (sender, queue) = sync_channel(QUEUE);
    let reopen = Arc::new(AtomicBool::new(false));
    let trail = Trail {
        entries: sender,
        reopen: Arc::clone(&reopen),
        instruments: Arc::clone(instruments),
    };
    let notes = Entries {
        queue,
        reopen,
        instruments: Arc::clone(instruments),
    };
    (trail, notes)
}

impl Trail {
    /// Entries a call, if there is room.
    pub fn note(&self, mut entry: Entry) {
        let end = entry.uid.floor_char_boundary(UID_BYTES);
        entry.uid.truncate(end);
        // What waits here must not hold what was cut off.
        entry.uid.shrink_to_fit();
        if self.entries.try_send(Note::Entry(Box::new(entry))).is_err() {
            self.instruments.unaudited.increase();
        }
    }

    /// Has the file opened anew: somebody has renamed it.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread as well.
        let _ = self.entries.try_send(Note::Wake);
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
        let Ok(Note::Entry(queued)) = notes.queue.try_recv() else {
            panic!("an entry waits");
        };
        assert_eq!(queued.uid, "u".repeat(63));
        assert!(queued.uid.capacity() <= 64, "{}", queued.uid.capacity());
    }
}

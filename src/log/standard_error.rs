//! Writes the log to standard error, whose reader may stop reading.
//!
//! Lines go through a bounded queue to a thread of their own. Invariants: nobody who logs
//! ever waits; what the queue has no room for is dropped and counted, and the log says so
//! as soon as it goes on.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::instruments::Instruments;
use crate::log::background::{Lines, Worker};

/// What can wait, in bytes: some thousand lines, and a reader's pause of some seconds at
/// level debug.
const QUEUE_BYTES: usize = 512 * 1024;

/// How long the end of the process waits for what is queued: a reader that is there takes
/// it in no time.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a full descriptor is tried again that somebody has made non-blocking.
const PAUSE: Duration = Duration::from_millis(10);

/// The log while the process runs. Dropped, it is written to its end, but not at any cost.
#[derive(Debug)]
pub struct Log {
    queue: Queue,
    worker: Worker,
}

/// The end that is logged to. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    notes: Sender<Note>,
    waiting: Arc<AtomicUsize>,
    instruments: Arc<Instruments>,
}

#[derive(Debug)]
enum Note {
    Line(Box<str>),
    /// Nothing more is to come.
    End,
}

impl Log {
    /// Starts the thread that writes.
    pub(super) fn start(instruments: &Arc<Instruments>) -> io::Result<Self> {
        // A descriptor of its own: the lock of `std::io::Stderr` would be held all the
        // while that its reader does not read.
        let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (queue, notes) = Queue::new(instruments);
        let waiting = Arc::clone(&queue.waiting);
        let counted = Arc::clone(instruments);
        let worker = Worker::start("log", move || write_all(file, &notes, &waiting, &counted))?;
        Ok(Self { queue, worker })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.queue.notes.send(Note::End);
        self.worker.finish(PATIENCE);
    }
}

impl Queue {
    fn new(instruments: &Arc<Instruments>) -> (Self, Receiver<Note>) {
        // Bounded by the bytes that wait in it.
        let (sender, notes) = channel();
        let queue = Self {
            notes: sender,
            waiting: Arc::default(),
            instruments: Arc::clone(instruments),
        };
        (queue, notes)
    }

    fn push(&self, line: &[u8]) {
        let before = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let line_bytes = line.len();
        let taken = before + line_bytes <= QUEUE_BYTES && {
            let line = String::from_utf8_lossy(line).into_owned();
            let note = Note::Line(line.into_boxed_str());
            self.notes.send(note).is_ok()
        };
        if !taken {
            self.waiting.fetch_sub(line_bytes, Ordering::Relaxed);
            self.instruments.unlogged.increase();
        }
    }
}

impl Write for Queue {
    /// Called with a whole line; see `tracing_subscriber::fmt::Layer::on_event`.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn write_all(
    file: impl Write,
    notes: &Receiver<Note>,
    waiting: &AtomicUsize,
    instruments: &Instruments,
) {
    let mut lines = Lines::default();
    let mut file = Patient(file);
    // As far as the log knows.
    let mut known = 0;
    let mut ends = false;
    loop {
        let note = if ends {
            notes.try_recv().ok()
        } else {
            notes.recv().ok()
        };
        match note {
            None => return,
            Some(Note::End) => ends = true,
            Some(Note::Line(line)) => {
                let taken = lines.append(&mut file, &line).is_ok();
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
                if !taken {
                    // Nor would a line about it be taken.
                    instruments.unlogged.increase();
                    continue;
                }
                instruments.logged.increase();
            }
        }
        // Not while the queue is nearly full: that line would be the next to be lost.
        let room = ends || waiting.load(Ordering::Relaxed) <= QUEUE_BYTES / 2;
        let dropped = instruments.unlogged.value();
        if dropped > known && room {
            warn!(
                dropped = dropped - known,
                "log lines were dropped: standard error was not read fast enough"
            );
            known = dropped;
        }
    }
}

/// Waits where a non-blocking descriptor has no room.
struct Patient<W>(W);

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_counted() {
        let instruments = Arc::new(Instruments::default());
        let (queue, notes) = Queue::new(&instruments);
        let line = [b'x'; 1024];
        for _ in 0..QUEUE_BYTES / 1024 + 3 {
            queue.push(&line);
        }
        assert_eq!(instruments.unlogged.value(), 3);
        queue.notes.send(Note::End).expect("open");
        let mut written = Vec::new();
        write_all(&mut written, &notes, &queue.waiting, &instruments);
        assert_eq!(written.len(), QUEUE_BYTES);
        assert_eq!(instruments.logged.value(), 512);
        assert_eq!(
            queue.waiting.load(Ordering::Relaxed),
            0,
            "room for the next"
        );
    }
}

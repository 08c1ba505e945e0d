//! Writing to files that may hang: a thread for which the process waits a limited time,
//! and lines that are written completely or not at all.
//!
//! Used by the log and by the audit log. Invariant: each line starts on a new line,
//! even if the previous one was cut off.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// A thread with work that may hang.
#[derive(Debug)]
pub struct Worker {
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// The known state of the end of a file of lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// It ends within a line: a disk that fills up takes half of one.
    torn: bool,
}

impl Worker {
    /// Starts the thread. It ends when `work` returns, or with the process.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (running, ended) = sync_channel(0);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                work();
                drop(running);
            })?;
        Ok(Self { ended })
    }

    /// Waits for the end of the work, but no longer than `patience`.
    pub fn finish(&self, patience: Duration) {
        // Nothing is ever sent: this ends by the other end's going, or by time.
        let _ = self.ended.recv_timeout(patience);
    }
}

impl Lines {
    /// Of a file that ends within a line, if `torn`.
    pub fn after(torn: bool) -> Self {
        Self { torn }
    }

    /// Appends `line`, which ends with a line feed.
    ///
    /// # Errors
    /// What the system says; a part of the line may have been written.
    pub fn append(&mut self, file: &mut impl Write, line: &str) -> io::Result<()> {
        let healed;
        let line = if self.torn {
            healed = format!("\n{line}");
            &healed
        } else {
            line
        };
        write_whole(file, line.as_bytes())
            .map(|()| self.torn = false)
            .map_err(|(written, error)| {
                if let Some(last) = written.checked_sub(1) {
                    self.torn = line.as_bytes().get(last) != Some(&b'\n');
                }
                error
            })
    }
}

/// Writes all of it, or says how much was written before the error.
fn write_whole(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes this many bytes.
    struct Small {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.taken.extend(&bytes[..taken]);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_half_a_line_the_next_one_begins_anew() {
        for room in 0..=4 {
            let mut file = Small {
                room,
                taken: Vec::new(),
            };
            let mut lines = Lines::default();
            let first = lines.append(&mut file, "123\n");
            assert_eq!(first.is_ok(), room == 4);
            file.room = 100;
            lines.append(&mut file, "456\n").expect("there is room");
            let text = String::from_utf8(file.taken).expect("text");
            assert_eq!(text.lines().last(), Some("456"), "{room}: {text}");
            assert_eq!(text.lines().count(), if room == 0 { 1 } else { 2 });
        }
    }

    #[test]
    fn a_line_that_fails_again_is_still_followed_by_a_new_one() {
        let mut file = Small {
            room: 2,
            taken: Vec::new(),
        };
        let mut lines = Lines::default();
        lines.append(&mut file, "123\n").expect_err("no room");
        lines.append(&mut file, "456\n").expect_err("no room");
        file.room = 100;
        lines.append(&mut file, "789\n").expect("there is room");
        assert_eq!(file.taken, b"12\n789\n");
    }

    #[test]
    fn nobody_waits_long_for_work_that_hangs() {
        let (release, hangs) = sync_channel::<()>(0);
        let worker = Worker::start("hangs", move || {
            let _ = hangs.recv();
        })
        .expect("a thread");
        worker.finish(Duration::from_millis(10));
        drop(release);
        worker.finish(Duration::from_secs(600));
    }
}

//! The thread that writes the audit trail: one JSON object a line, appended.
//!
//! A thread of its own, because a disk may hang. The file is opened again after SIGHUP,
//! and when its name has come to mean another file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tracing::{error, info};

use super::{Entry, Note, Notes};

/// How often the name is looked at, and a file that could not be opened tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the end of the process waits for what is queued.
const PATIENCE: Duration = Duration::from_secs(2);

/// The running thread.
#[derive(Debug)]
pub struct Writer {
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// One line, whose fields are documented in README.md and stay.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    call: &'a str,
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id_hash: Option<String>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    micros: u64,
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    looked: Option<Instant>,
    /// Whether the failure that goes on has been said.
    failing: bool,
}

impl Writer {
    /// Starts the thread, which ends when every [`super::Trail`] is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(path: PathBuf, notes: Notes) -> io::Result<Self> {
        let (running, ended) = sync_channel(0);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                write_all(path, &notes);
                drop(running);
            })?;
        Ok(Self { ended })
    }

    /// Waits until everything is written, but not for long.
    pub fn finish(self) {
        // Nothing is ever sent: this ends by the other end's going, or by time.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

fn write_all(path: PathBuf, notes: &Notes) {
    let mut log = Log {
        path,
        file: None,
        looked: None,
        failing: false,
    };
    log.refresh(false);
    while let Ok(note) = notes.entries.recv() {
        log.refresh(notes.reopen.swap(false, Ordering::AcqRel));
        let Note::Entry(entry) = note else {
            continue;
        };
        if log.append(&entry) {
            notes.instruments.audited.increase();
        } else {
            notes.instruments.unaudited.increase();
        }
    }
}

impl Log {
    /// Makes sure that the open file is the one that the name means.
    fn refresh(&mut self, asked: bool) {
        let recent = self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if recent && !asked {
            return;
        }
        self.looked = Some(Instant::now());
        let renamed = self
            .file
            .as_ref()
            .is_some_and(|file| !is_named(file, &self.path));
        if renamed || asked {
            self.file = None;
        }
        if self.file.is_none() {
            match open(&self.path) {
                Ok(file) => {
                    info!(file = %self.path.display(), "audit log opened");
                    self.file = Some(file);
                    self.failing = false;
                }
                Err(error) => self.fails(&error),
            }
        }
    }

    fn append(&mut self, entry: &Entry) -> bool {
        let line = line(entry);
        let Some(file) = &mut self.file else {
            return false;
        };
        match file.write_all(line.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                self.fails(&error);
                false
            }
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            error!(
                file = %self.path.display(),
                "the audit log cannot be written, calls are served without it: {error}; mend the \
                 directory, its permissions or the space, it is tried again"
            );
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)
}

fn is_named(file: &File, path: &Path) -> bool {
    let same = |one: &std::fs::Metadata, other: &std::fs::Metadata| {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    };
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(named)) => same(&file, &named),
        _ => false,
    }
}

fn line(entry: &Entry) -> String {
    let time = Timestamp::try_from(entry.at).unwrap_or_default();
    let line = Line {
        time: format!("{time:.6}"),
        call: entry.call,
        uid: &entry.uid,
        key_id: entry.key_id.map(|id| id.to_string()),
        key_id_hash: entry.key_id.map(|id| id.sha256_label()),
        outcome: if entry.refused.is_none() {
            "ok"
        } else {
            "refused"
        },
        reason: entry.refused.as_deref(),
        micros: u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
    };
    serde_json::to_string(&line).expect("strings and numbers are always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_uid() {
        let entry = Entry {
            at: std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042),
            call: "Decrypt",
            uid: "a\n\"b\u{1b}".to_owned() + &"é".repeat(100),
            key_id: "b5309dfb-b326-4148-b0ad-e9cd1ec223a8".parse().ok(),
            refused: Some("the key id is not configured".to_owned()),
            took: Duration::from_micros(23),
        };
        let line = line(&entry);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.starts_with(
            "{\"time\":\"2023-11-14T22:13:20.000042Z\",\"call\":\"Decrypt\",\"uid\":\"a\\n\\\"b\\u001b"
        ), "{line}");
        assert!(line.ends_with("\"outcome\":\"refused\",\"reason\":\"the key id is not configured\",\"micros\":23}\n"), "{line}");
    }
}

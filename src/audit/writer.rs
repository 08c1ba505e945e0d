//! The thread that writes the audit trail: one JSON object a line, appended.
//!
//! A thread of its own, because a disk may hang. The file is opened again after SIGHUP,
//! and when its name has come to mean another file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tracing::{error, info};

use super::{Entries, Entry, Note, Outcome};
use crate::config::redact;
use crate::log::background::{Lines, Worker};
use crate::log::throttle::{LogThrottle, REPEAT_INTERVAL};

/// How often the name is looked at, and a file that could not be opened tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    throttle: LogThrottle<ErrorKind>,
    /// Lines that could not be written since the last one that could.
    dropped: u64,
    lines: Lines,
}

/// Starts the thread, which ends when every [`super::Trail`] is dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start(path: PathBuf, notes: Entries) -> io::Result<Worker> {
    Worker::start("audit", move || write_all(path, &notes))
}

fn write_all(path: PathBuf, notes: &Entries) {
    let mut log = Log::new(path);
    log.refresh(false);
    while let Ok(note) = notes.receiver.recv() {
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
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            looked: None,
            throttle: LogThrottle::new(REPEAT_INTERVAL),
            dropped: 0,
            lines: Lines::default(),
        }
    }

    /// Makes sure that the open file is the one that the name means.
    fn refresh(&mut self, asked: bool) {
        let recent = self
            .looked
            .is_some_and(|at| now().saturating_duration_since(at) < LOOK_AGAIN);
        if recent && !asked {
            return;
        }
        self.looked = Some(now());
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
                    info!(file = %redact::path(&self.path), "audit log opened");
                    self.lines = Lines::after(ends_within_a_line(&file, &self.path));
                    self.file = Some(file);
                }
                Err(error) => self.on_failure(&error),
            }
        }
    }

    fn append(&mut self, entry: &Entry) -> bool {
        let Some(file) = &mut self.file else {
            self.dropped += 1;
            return false;
        };
        match self.lines.append(file, &line(entry)) {
            Ok(()) => {
                self.on_success();
                true
            }
            Err(error) => {
                self.dropped += 1;
                self.on_failure(&error);
                false
            }
        }
    }

    fn on_success(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if self.throttle.on_success(Duration::ZERO, now()).is_some() {
            info!(
                file = %redact::path(&self.path), dropped,
                "the audit log can be written again"
            );
        }
    }

    fn on_failure(&mut self, error: &io::Error) {
        if self.throttle.on_failure(error.kind(), now()).is_some() {
            error!(
                file = %redact::path(&self.path), dropped = self.dropped,
                "the audit log cannot be written, calls are served without it: {error}; fix the \
                 directory, its permissions or the disk space; the sidecar retries"
            );
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread, outside the runtime and its clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// A process that was killed may have left half a line as well.
fn ends_within_a_line(file: &File, path: &Path) -> bool {
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file);
    let last = length.and_then(|metadata| metadata.len().checked_sub(1));
    let mut byte = [0];
    last.is_some_and(|last| {
        File::open(path).is_ok_and(|file| file.read_exact_at(&mut byte, last).is_ok())
            && byte != *b"\n"
    })
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
    let (outcome, reason) = match &entry.outcome {
        Outcome::Served => ("ok", None),
        Outcome::Refused(reason) => ("refused", Some(reason.as_str())),
        Outcome::Cancelled => ("cancelled", None),
    };
    let line = Line {
        time: format!("{time:.6}"),
        call: entry.call,
        uid: &entry.uid,
        key_id: entry.key_id.map(|id| id.to_string()),
        key_id_hash: entry.key_id.map(|id| id.sha256_label()),
        outcome,
        reason,
        micros: u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
    };
    serde_json::to_string(&line).expect("strings and numbers are always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: &str) -> Entry {
        Entry {
            at: std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042),
            call: "Decrypt",
            uid: uid.to_owned(),
            key_id: "b5309dfb-b326-4148-b0ad-e9cd1ec223a8".parse().ok(),
            outcome: Outcome::Refused("the key id is not configured".to_owned()),
            took: Duration::from_micros(23),
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_the_uid() {
        let line = line(&entry("a\n\"b\u{1b}"));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.starts_with(
            "{\"time\":\"2023-11-14T22:13:20.000042Z\",\"call\":\"Decrypt\",\"uid\":\"a\\n\\\"b\\u001b\""
        ), "{line}");
        assert!(line.ends_with("\"outcome\":\"refused\",\"reason\":\"the key id is not configured\",\"micros\":23}\n"), "{line}");
    }

    #[test]
    fn an_entry_begins_a_line_even_where_another_process_left_half_of_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        for (before, begins) in [("", 0), ("{}\n", 3), ("{\"time\":\"20", 12)] {
            std::fs::write(&path, before).expect("written");
            let mut log = Log::new(path.clone());
            log.refresh(false);
            assert!(log.append(&entry("u")));
            assert!(log.append(&entry("u")));
            let text = crate::config::files::read(&path).expect("read").bytes;
            let (left, lines) = text.split_at(begins);
            assert_eq!(left.last().unwrap_or(&b'\n'), &b'\n', "{before}");
            let lines = String::from_utf8(lines.to_vec()).expect("UTF-8");
            assert_eq!(lines, line(&entry("u")).repeat(2), "{before}");
        }
    }
}

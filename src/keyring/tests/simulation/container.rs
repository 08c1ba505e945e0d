//! The container of a simulation: what stands in it, and what Barbican says of it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::history::{KEYS, Move, Secret};
use super::key_id;

/// The one container that there is.
pub(super) const CONTAINER: &str = "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8";

/// The date at which every history begins, in seconds since 1970.
pub(super) const BEGIN: u64 = 2_000_000_000;

/// For so long after a change some answers may still be those of before: the databases of
/// a cluster are not always of one mind.
const LAG: Duration = Duration::from_secs(20);

/// How the container itself fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Fine,
    /// Deleted.
    Gone,
    /// Of a type that nobody can change.
    Certificate,
    /// Other JSON.
    Strange,
    /// Longer than anybody reads.
    TooLarge,
}

/// What one key has in the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) listed: bool,
    /// When it becomes the write key, in seconds since the begin; kept when it is retired,
    /// as no key id may come back with another.
    pub(super) time: Option<i64>,
}

/// What stands in the container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) health: Health,
    entries: [Entry; KEYS],
    before: [Entry; KEYS],
    changed: Option<Instant>,
}

impl Container {
    /// With the first key, which has been in use for a day.
    pub(super) fn new() -> Self {
        let mut entries = [Entry::default(); KEYS];
        entries[0] = Entry {
            listed: true,
            time: Some(-86_400),
        };
        Self {
            health: Health::Fine,
            entries,
            before: entries,
            changed: None,
        }
    }

    /// Another one in its place, that lists `ring`, and `write` as the write key.
    pub(super) fn make_anew(&mut self, write: usize, ring: &[usize], now: i64) {
        let mut entries = [Entry::default(); KEYS];
        for key in ring {
            entries[*key].listed = true;
        }
        // No clock that is right is so far off.
        entries[write].time = Some(now - 1000);
        (self.entries, self.before, self.changed) = (entries, entries, None);
    }

    pub(super) fn entry(&self, key: usize) -> Entry {
        self.entries[key]
    }

    fn change(&mut self, key: usize, entry: Entry) {
        if self.entries[key] != entry {
            self.before = self.entries;
            self.entries[key] = entry;
            self.changed = Some(Instant::now());
        }
    }

    /// Adds a reference that makes `key` readable.
    pub(super) fn stage(&mut self, key: usize) {
        let entry = self.entries[key];
        self.change(
            key,
            Entry {
                listed: true,
                ..entry
            },
        );
    }

    /// Adds a reference that makes `key` the write key from `time` on, if it has no time yet.
    pub(super) fn activate(&mut self, key: usize, time: i64) {
        let time = self.entries[key].time.unwrap_or(time);
        self.change(
            key,
            Entry {
                listed: true,
                time: Some(time),
            },
        );
    }

    /// Removes every reference to `key`.
    pub(super) fn retire(&mut self, key: usize) {
        let entry = self.entries[key];
        self.change(
            key,
            Entry {
                listed: false,
                ..entry
            },
        );
    }

    /// Carries out what an operator does at `now`, in seconds since the begin.
    pub(super) fn make(&mut self, what: Move, now: i64) {
        match what {
            Move::Stage(key) => self.stage(key),
            Move::Activate(key, delay) => self.activate(key, now + delay),
            Move::Retire(key) => self.retire(key),
        }
    }

    /// The newest change is lost.
    pub(super) fn restore(&mut self) {
        (self.entries, self.changed) = (self.before, None);
    }

    /// The first key that has never been in the container.
    pub(super) fn unused(&self) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| *entry == Entry::default())
    }

    /// Puts right what nobody would leave so: lists `needed` again, and a write key.
    pub(super) fn repair(&mut self, needed: &[usize], now: i64) {
        for key in needed {
            self.stage(*key);
        }
        // No clock that is right is so far off.
        let past = now - 1000;
        let is_active = |entry: &Entry| entry.time.is_some_and(|time| time <= past);
        if self
            .entries
            .iter()
            .any(|entry| entry.listed && is_active(entry))
        {
            return;
        }
        match self.entries.iter().position(is_active) {
            Some(key) => self.stage(key),
            None => self.activate(0, past),
        }
    }

    /// Whether an answer may still be that of before.
    pub(super) fn may_lag(&self) -> bool {
        self.changed.is_some_and(|at| at.elapsed() < LAG)
    }

    /// What Barbican answers: a deleted secret leaves no trace, an expired one does.
    pub(super) fn description(
        &self,
        secrets: [Secret; KEYS],
        lagging: bool,
    ) -> Result<String, u16> {
        let kind = match self.health {
            Health::Gone => return Err(404),
            Health::Strange => return Ok(r#"{"orders":[],"total":0}"#.to_owned()),
            Health::Certificate => "certificate",
            Health::Fine | Health::TooLarge => "generic",
        };
        let entries = if lagging { &self.before } else { &self.entries };
        let mut references = Vec::new();
        for (key, entry) in entries.iter().enumerate() {
            if !entry.listed || secrets[key] == Secret::Gone {
                continue;
            }
            let href = format!("http://host.of.its.own/v1/secrets/{}", key_id(key));
            let names = ["staged".to_owned()]
                .into_iter()
                .chain(entry.time.map(name));
            for name in names {
                references.push(format!(r#"{{"name":"{name}","secret_ref":"{href}"}}"#));
            }
        }
        let mut text = format!(
            r#"{{"name":"k8s","type":"{kind}","status":"ACTIVE","secret_refs":[{}]"#,
            references.join(",")
        );
        if self.health == Health::TooLarge {
            let _ = write!(text, r#","consumers":"{}""#, "x".repeat(70_000));
        }
        text.push('}');
        Ok(text)
    }
}

/// The name of a reference that makes a write key.
fn name(time: i64) -> String {
    let begin = i64::try_from(BEGIN).expect("a date");
    let time = Timestamp::from_second(begin + time).expect("in range");
    time.to_string()
}

//! The report of the refresher, for `status` and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::listing::ContainerProblem;
use crate::config::{Live, Ring};
use crate::key_id::{ContainerId, KeyId};

/// Published by the refresher, as a whole, after each event.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many reloads ended in each way.
    pub reloads: ReloadCounts,
    /// The newest reload, but for one that changed nothing after one that went well.
    pub last_reload: Option<LastReload>,
    /// The keys that reloads have removed within the last day, oldest first; bounded.
    pub dropped: Vec<DroppedKey>,
    /// Since when the configuration is in use.
    pub in_force_since: SystemTime,
    /// When the files were last found to contain the configuration in use, changed or not.
    pub files_good: SystemTime,
    /// When a key was last downloaded from Barbican.
    pub last_contact: Option<SystemTime>,
    /// When the next key is downloaded, as planned when an attempt ended.
    pub next_fetch: Option<SystemTime>,
    /// [`crate::config::Live::digest`] of the configuration in use.
    pub configuration: String,
    /// How often each key is confirmed, as that configuration has it.
    pub revalidate_interval: Duration,
    /// The keys that `decrypt-key-ids` names in it.
    pub pinned: Vec<KeyId>,
    /// How long a key may go unconfirmed before it is wiped, as that configuration has it.
    pub max_cache_age: Option<Duration>,
    /// Attempts to download a key that failed since the last one that did not.
    pub consecutive_failures: u64,
    /// The container that lists the keys, if one does.
    pub container: Option<Arc<ContainerReport>>,
}

/// What a container says, and how it is with its reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReport {
    /// Its id.
    pub id: ContainerId,
    /// When it was last read.
    pub read_at: Option<SystemTime>,
    /// What keeps it from being followed, if anything.
    pub problem: Option<ContainerProblem>,
    /// The same for a person, with the fix.
    pub problem_text: String,
    /// References that are ignored, and why.
    pub warnings: Vec<String>,
    /// The next key that becomes the write key, and when.
    pub next_activation: Option<(KeyId, SystemTime)>,
    /// Since when a rotation has not gone on, by the names that it leaves in the container.
    pub rotation_waiting_since: Option<SystemTime>,
    /// The keys that it lists, or has listed and that have not been dropped.
    pub keys: BTreeMap<KeyId, ListedKey>,
}

impl ContainerReport {
    /// For how long a key has been the write key by its time; `None` when it has none that
    /// has come.
    pub fn age(&self, id: &KeyId, now: SystemTime) -> Option<Duration> {
        let from = self.keys.get(id)?.active_from?;
        now.duration_since(from).ok()
    }
}

/// One key of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The earliest of its times; `None` when it is only readable.
    pub active_from: Option<SystemTime>,
    /// Whether the last good reading lists it.
    pub listed: bool,
    /// It is held, and neither the container nor Barbican has it any more: it is kept.
    pub secret_gone: bool,
}

/// For how long a removed key is shown, and counts as one that was in use.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The limit of removed keys that are shown: the newest ones.
const DROPPED_KEYS: usize = 32;

/// A key that a reload has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedKey {
    /// Its id.
    pub id: KeyId,
    /// When it was removed.
    pub at: SystemTime,
    /// When a call of this process last used it, accurate to a minute.
    pub last_used: Option<SystemTime>,
}

impl DroppedKey {
    /// Whether a call used it within the day before its removal.
    pub fn was_in_use(&self) -> bool {
        self.last_used
            .is_some_and(|used| within_a_day(used, self.at))
    }
}

fn within_a_day(then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).unwrap_or_default() <= DAY
}

/// How many reloads ended in each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReloadCounts {
    /// The new configuration is in use.
    pub applied: u64,
    /// The files contain the configuration in use.
    pub unchanged: u64,
    /// The files cannot be read or are not valid.
    pub invalid: u64,
    /// Valid, but applying it would lose data or change a key's bytes.
    pub refused: u64,
    /// Valid, and its keys could not be loaded at first; those that could later count
    /// as applied too.
    pub failed: u64,
}

impl ReloadCounts {
    /// Each outcome with its count.
    pub fn by_outcome(&self) -> [(ReloadOutcome, u64); 5] {
        [
            (ReloadOutcome::Applied, self.applied),
            (ReloadOutcome::Unchanged, self.unchanged),
            (ReloadOutcome::Invalid, self.invalid),
            (ReloadOutcome::Refused, self.refused),
            (ReloadOutcome::Failed, self.failed),
        ]
    }
}

/// How one reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration is in use.
    Applied,
    /// The files contain the configuration in use.
    Unchanged,
    /// The files cannot be read or are not valid.
    Invalid,
    /// Valid, but applying it would lose data or change a key's bytes.
    Refused,
    /// Valid, but its keys cannot be loaded yet; the sidecar retries.
    Failed,
}

impl ReloadOutcome {
    /// Whether the files were found to contain the configuration in use.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged)
    }

    /// The word used in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The newest reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it ended.
    pub at: SystemTime,
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// What was wrong and what to do, for an operator; empty when applied.
    pub message: String,
    /// The keys that it added, when applied.
    pub added: Vec<KeyId>,
    /// The keys that it removed, when applied.
    pub removed: Vec<KeyId>,
}

impl Report {
    /// Nothing has happened yet.
    pub(super) fn new(live: &Live, now: SystemTime) -> Self {
        Self {
            next_fetch: None,
            configuration: live.digest(),
            revalidate_interval: live.ring.revalidate_interval,
            pinned: live.ring.decrypt.clone(),
            max_cache_age: live.ring.max_cache_age,
            reloads: ReloadCounts::default(),
            last_reload: None,
            dropped: Vec::new(),
            in_force_since: now,
            files_good: now,
            last_contact: None,
            consecutive_failures: 0,
            container: None,
        }
    }

    /// Copies what is shown of the configuration in use.
    pub(super) fn follows(&mut self, live: &Live) {
        self.configuration = live.digest();
        self.revalidate_interval = live.ring.revalidate_interval;
        self.pinned.clone_from(&live.ring.decrypt);
        self.max_cache_age = live.ring.max_cache_age;
    }

    /// The keys that reloads have removed within the day before `now`.
    pub fn dropped_lately(&self, now: SystemTime) -> impl Iterator<Item = &DroppedKey> {
        let lately = move |key: &&DroppedKey| within_a_day(key.at, now);
        self.dropped.iter().filter(lately)
    }

    /// Records the keys that were dropped; a key that came back is none of them.
    pub(super) fn drops(&mut self, keys: &[DroppedKey], ring: &Ring, now: SystemTime) {
        self.dropped.extend(keys);
        self.dropped
            .retain(|key| within_a_day(key.at, now) && ring.ids().all(|id| id != key.id));
        let excess = self.dropped.len().saturating_sub(DROPPED_KEYS);
        self.dropped.drain(..excess);
    }

    /// Records that the files contain the configuration in use: any problem with them
    /// has been fixed.
    pub(super) fn unchanged(&mut self, now: SystemTime) {
        let good = |last: &LastReload| last.outcome == ReloadOutcome::Applied;
        if self.last_reload.as_ref().is_none_or(good) {
            self.reloads.unchanged += 1;
            self.files_good = now;
        } else {
            self.reloaded(ReloadOutcome::Unchanged, String::new(), now);
        }
    }

    /// Records the end of a reload.
    pub(super) fn reloaded(&mut self, outcome: ReloadOutcome, message: String, now: SystemTime) {
        let count = match outcome {
            ReloadOutcome::Applied => &mut self.reloads.applied,
            ReloadOutcome::Unchanged => &mut self.reloads.unchanged,
            ReloadOutcome::Invalid => &mut self.reloads.invalid,
            ReloadOutcome::Refused => &mut self.reloads.refused,
            ReloadOutcome::Failed => &mut self.reloads.failed,
        };
        *count += 1;
        if outcome == ReloadOutcome::Applied {
            self.in_force_since = now;
        }
        if outcome.is_good() {
            self.files_good = now;
        }
        self.last_reload = Some(LastReload {
            at: now,
            outcome,
            message,
            added: Vec::new(),
            removed: Vec::new(),
        });
    }

    /// Records another attempt of a reload that has been counted as failed.
    pub(super) fn failed_again(&mut self, message: String, now: SystemTime) {
        self.last_reload = Some(LastReload {
            at: now,
            outcome: ReloadOutcome::Failed,
            message,
            added: Vec::new(),
            removed: Vec::new(),
        });
    }
}

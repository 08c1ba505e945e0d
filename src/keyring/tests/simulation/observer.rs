//! What must be true of a sidecar whenever nothing in it moves.
//!
//! Looked at before time goes on, so that no state is missed. What was seen the last
//! time, and what the servers have said meanwhile, decides what may be seen now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::following::{Followed, no_write_key};
use super::log::Change;
use super::node::{Entries, Process, Times};
use crate::config::Live;
use crate::envelope::Fingerprint;
use crate::key_id::KeyId;
use crate::keyring::{KeyProblem, Report, Slot, Snapshot};

/// Timers count milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// A timer stands still with the machine, and looks again after so long.
const AFTER_SUSPEND: Duration = Duration::from_secs(61);

/// A node has so many downloads under way that another may have to wait.
const AT_ONCE: usize = 2;

/// The longest time between two tries while nobody answers.
const STEADY: Duration = Duration::from_millis(1100);

/// Where nothing changes it is looked at this often all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What is known of one process.
pub(super) struct Observer {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) report: Arc<Report>,
    pub(super) in_force: Arc<Live>,
    /// The files, as the process was told of them last.
    pub(super) newest: Result<Arc<Live>, String>,
    /// What the process was told just now, and has not answered.
    told: bool,
    /// The first bytes of each key since it came into the ring.
    bytes: BTreeMap<KeyId, Fingerprint>,
    ever_held: BTreeMap<KeyId, bool>,
    /// Of a container.
    pub(super) followed: Followed,
    /// Whether the newest change has counted as failed.
    failed: bool,
    /// Until then nothing changes by itself, as long as the snapshot does not.
    still: Option<Instant>,
    /// How often its clock had been looked at then.
    reads: u64,
    /// The node's date.
    pub(super) wall: SystemTime,
    /// When the machine was suspended last.
    suspended: Option<tokio::time::Instant>,
}

impl Observer {
    pub(super) fn new(process: &Process, live: &Arc<Live>) -> Self {
        Self {
            snapshot: process.keyring.snapshot(),
            report: process.keyring.report(),
            in_force: Arc::clone(live),
            newest: Ok(Arc::clone(live)),
            told: false,
            bytes: BTreeMap::new(),
            ever_held: BTreeMap::new(),
            followed: Followed::default(),
            failed: false,
            still: None,
            reads: 0,
            wall: SystemTime::UNIX_EPOCH,
            suspended: None,
        }
    }

    /// The process is told what the files say.
    pub(super) fn tell(&mut self, files: Result<Arc<Live>, String>) {
        if self.newest != files {
            self.failed = false;
        }
        self.newest = files;
        self.told = true;
    }

    pub(super) fn suspend(&mut self) {
        self.suspended = Some(tokio::time::Instant::now());
    }

    /// The bytes that the process has for `id`.
    pub(super) fn fingerprint(&self, id: &KeyId) -> Option<Fingerprint> {
        self.bytes.get(id).copied()
    }

    /// What is wrong with `process` now, if anything.
    pub(super) fn look(&mut self, process: &Process, times: &Times) -> Result<(), String> {
        if process.has_ended() {
            return Err("rule 2: the refresher has ended".to_owned());
        }
        times.at_rest();
        let now = times.now();
        let is_still = !self.told && self.still.is_some_and(|still| now < still);
        // Whatever a process does, it looks at its clock.
        let reads = times.reads();
        if is_still && std::mem::replace(&mut self.reads, reads) == reads {
            return Ok(());
        }
        let same = self.is_of(process);
        if same && is_still && process.log.is_empty() {
            return Ok(());
        }
        self.wall = times.wall();
        let snapshot = process.keyring.snapshot();
        let report = process.keyring.report();
        if !same || self.told {
            self.configuration(process, &snapshot, &report, now)?;
            self.outcome(process, &report)?;
            self.keys(process, &snapshot, now)?;
            report_is_true(process, &report)?;
        }
        if !process.log.is_empty() || !same {
            let change = Change {
                before: (&self.snapshot, &self.report),
                after: (&snapshot, &report),
                lines: process.log.take(),
            };
            change.is_logged()?;
        }
        (self.snapshot, self.report) = (snapshot, report);
        self.told = false;
        self.ages(now)?;
        let age = self.in_force.ring.max_cache_age;
        let expiry = age.and_then(|age| self.snapshot.next_expiry(age));
        let soon = now + LOOK_AGAIN;
        self.still = Some(expiry.map_or(soon, |expiry| expiry.min(soon)));
        times.uncounted(|| status_is_true(process, now))
    }

    /// Whether the process shows what was seen the last time.
    fn is_of(&self, process: &Process) -> bool {
        let shared = &process.keyring.shared;
        Arc::ptr_eq(&shared.snapshot.load(), &self.snapshot)
            && Arc::ptr_eq(&shared.report.load(), &self.report)
    }

    /// Rule 4: all of a configuration, or nothing of it.
    fn configuration(
        &mut self,
        process: &Process,
        snapshot: &Snapshot,
        report: &Report,
        now: Instant,
    ) -> Result<(), String> {
        let applied = report.reloads.applied - self.report.reloads.applied;
        if applied > 1 {
            return Err("rule 4: two reloads at once".to_owned());
        }
        if applied == 1 {
            let Ok(live) = &self.newest else {
                return Err("rule 4: a file with an error is in force".to_owned());
            };
            if let Some(old) = self.snapshot.write_id()
                && snapshot.slot(&old).is_none()
                && !self.never_usable(&old)
            {
                return Err(format!("rule 4: the write key {old} has left the ring"));
            }
            let write = snapshot.write_id();
            if self.could_serve(live, write, now) && write.is_none_or(|id| !snapshot.holds(&id)) {
                return Err("rule 4: the new write key is not loaded".to_owned());
            }
            // What has become too old just now is another matter.
            let missing = snapshot
                .slots()
                .filter(|(id, slot)| slot.key().is_none() && !self.snapshot.holds(id));
            asked_for_at_once(process, missing.map(|(id, _)| *id))?;
            self.in_force = Arc::clone(live);
        }
        self.bytes.retain(|id, _| snapshot.slot(id).is_some());
        self.ever_held.retain(|id, _| snapshot.slot(id).is_some());
        let ring = &self.in_force.ring;
        let wanted = Snapshot::new(ring);
        let same_ids = snapshot.slots().count() == wanted.slots().count()
            && wanted.slots().all(|(id, _)| snapshot.slot(id).is_some());
        let same_keys = same_ids && snapshot.write_id() == ring.write;
        if !(same_keys || ring.container.is_some())
            || snapshot.untagged() != wanted.untagged()
            || snapshot.max_cache_age() != ring.max_cache_age
        {
            return Err("rule 4: the ring is not that of the configuration in force".to_owned());
        }
        if report.max_cache_age != ring.max_cache_age
            || report.revalidate_interval != ring.revalidate_interval
            || (applied == 1 && report.configuration != self.in_force.digest())
        {
            return Err("rule 8: the report is of another configuration".to_owned());
        }
        if ring.container.is_some() {
            return self.following(process, snapshot, report, applied == 1, now);
        }
        self.followed = Followed::default();
        Ok(())
    }

    /// Whether there is a key in force that `live` must not make useless: one that is not
    /// too old, where the new write key has not just become too old itself.
    fn could_serve(&self, live: &Live, write: Option<KeyId>, now: Instant) -> bool {
        let ages = [self.in_force.ring.max_cache_age, live.ring.max_cache_age];
        let age = ages.into_iter().flatten().min();
        let fresh = |slot: &Slot| {
            let expiry = age.and_then(|age| slot.expiry(age));
            slot.key().is_some() && expiry.is_none_or(|expiry| now < expiry)
        };
        let slot = write.and_then(|id| self.snapshot.slot(&id));
        let outlived = slot.is_some_and(|slot| slot.key().is_some() && !fresh(slot));
        !outlived && self.snapshot.slots().any(|(_, slot)| fresh(slot))
    }

    fn never_usable(&self, id: &KeyId) -> bool {
        let slot = self.snapshot.slot(id);
        let refused = slot
            .and_then(Slot::problem)
            .is_some_and(KeyProblem::is_final);
        refused && !self.ever_held.contains_key(id)
    }

    /// Rules 4 and 8: what becomes of each reload, and that it is counted as that.
    fn outcome(&mut self, process: &Process, report: &Report) -> Result<(), String> {
        let (old, new) = (&self.report.reloads, &report.reloads);
        let more = |name, new: u64, old: u64, wanted: bool| match new - old {
            count if count == u64::from(wanted) => Ok(()),
            count => Err(format!("rule 4: {count} reloads more are {name}")),
        };
        let told = self.told.then_some(&self.newest);
        // `in_force` is what it was before, unless this has been applied.
        let applied = new.applied > old.applied;
        let unchanged = told
            .is_some_and(|told| !applied && told.as_ref().is_ok_and(|live| *live == self.in_force));
        let old_write = self.snapshot.write_id();
        let vanishes = |live: &Arc<Live>| {
            live.ring.container.is_none() && live.ring.ids().all(|id| Some(id) != old_write)
        };
        let usable = old_write.is_some_and(|id| !self.never_usable(&id));
        let must_refuse = |told: &Result<Arc<Live>, String>| {
            !applied && told.as_ref().is_ok_and(vanishes) && usable
        };
        let refused = told.is_some_and(must_refuse);
        more(
            "invalid",
            new.invalid,
            old.invalid,
            told.is_some_and(Result::is_err),
        )?;
        // What has waited for its time alone is in force just before the files are looked at.
        let just_before = applied
            && new.unchanged > old.unchanged
            && told.is_some_and(|told| told.as_ref() == Ok(&self.in_force));
        let same = unchanged || just_before;
        more("unchanged", new.unchanged, old.unchanged, same)?;
        // One that waits is refused later, when the old write key turns out to be usable.
        let later = told.is_none() && self.newest.as_ref().is_ok_and(vanishes);
        // What a container lists is known when it has been read.
        let by_file = self.in_force.ring.container.is_none();
        let unlisted = |live: &Arc<Live>| live.ring.container.is_some() && by_file;
        let later = later || self.newest.as_ref().is_ok_and(unlisted);
        more(
            "refused",
            new.refused,
            old.refused,
            refused || (later && new.refused > old.refused),
        )?;
        if new.failed > old.failed && std::mem::replace(&mut self.failed, true) {
            return Err("rule 8: one change fails twice".to_owned());
        }
        if new.refused > old.refused {
            // That was its end: whoever asks again for the same begins anew.
            self.failed = false;
        }
        if unchanged {
            let troubled = |(_, slot): &(&KeyId, &Slot)| slot.problem().is_some();
            let troubled = self.snapshot.slots().filter(troubled);
            asked_for_at_once(process, troubled.map(|(id, _)| *id))?;
        }
        Ok(())
    }

    /// Rules 2, 5 and 8: which keys come and go, and why.
    fn keys(&mut self, process: &Process, snapshot: &Snapshot, now: Instant) -> Result<(), String> {
        let age = self.in_force.ring.max_cache_age;
        let ledger = process.ledger.entries();
        for (id, slot) in snapshot.slots() {
            let before = self.snapshot.slot(id);
            let entries = ledger.get(id);
            if let Some(key) = slot.key() {
                let confirmed = slot.confirmed().ok_or("rule 5: held and never confirmed")?;
                let given = entries.map(|entries| &entries.confirmed);
                let known = before.and_then(Slot::confirmed) == Some(confirmed);
                if !known && given.is_none_or(|given| !given.contains(&confirmed)) {
                    return Err(format!("rule 5: nobody has given out {id} when it says so"));
                }
                let changed = before.and_then(Slot::key);
                if changed.is_none_or(|other| !Arc::ptr_eq(other, key)) {
                    let first = *self.bytes.entry(*id).or_insert_with(|| key.fingerprint());
                    if first != key.fingerprint() {
                        return Err(format!("rule 5: {id} has other bytes now"));
                    }
                }
                self.ever_held.insert(*id, true);
            } else if let Some(held) = before.filter(|slot| slot.key().is_some()) {
                let confirmed = held.confirmed().unwrap_or(now);
                let old = now.saturating_duration_since(confirmed);
                // By the limit until now, where a new ring came when none was left of the old.
                let limits = [age, self.snapshot.max_cache_age()];
                if limits.iter().flatten().all(|limit| old + TICK < *limit) {
                    return Err(format!(
                        "rule 5: {id} is gone {old:?} after its confirmation"
                    ));
                }
            }
            let said = slot.problem().filter(|problem| {
                !matches!(
                    problem,
                    KeyProblem::Pending | KeyProblem::Unconfirmed | KeyProblem::Altered
                )
            });
            if let Some(problem) = said
                && entries.is_none_or(|entries| !entries.problems.contains(&problem))
            {
                return Err(format!(
                    "rule 8: no download of {id} has ended in {problem:?}"
                ));
            }
            if slot.problem() == Some(KeyProblem::Login)
                && !login_is_open(process, snapshot, &ledger, id)
            {
                return Err(format!(
                    "rule 8: the login for {id} is said to be refused, and works"
                ));
            }
            let newest = entries.and_then(|entries| entries.ends.back());
            if let Some((at, None)) = newest
                && slot.confirmed() == Some(*at)
                && slot.problem().is_some()
                && slot.key().is_some()
            {
                return Err(format!("rule 8: {id} is well, and said not to be"));
            }
            if slot.problem().is_none() && slot.key().is_none() {
                return Err(format!(
                    "rule 8: {id} is not held, and nothing is wrong with it"
                ));
            }
        }
        Ok(())
    }

    /// Rule 5: nothing that is too old is kept.
    fn ages(&self, now: Instant) -> Result<(), String> {
        let Some(age) = self.in_force.ring.max_cache_age else {
            return Ok(());
        };
        let slack = match self.suspended {
            Some(at) if at.elapsed() <= AFTER_SUSPEND => return Ok(()),
            _ => TICK,
        };
        for (id, slot) in self.snapshot.slots() {
            if let Some(expiry) = slot.expiry(age)
                && now > expiry + slack
            {
                let late = now - expiry;
                return Err(format!(
                    "rule 5: {id} is still held {late:?} after max-cache-age"
                ));
            }
        }
        Ok(())
    }
}

/// Rule 1: whoever is told a key id can use it, and whoever can is told.
fn status_is_true(process: &Process, now: Instant) -> Result<(), String> {
    let snapshot = process.keyring.snapshot();
    let Some(id) = snapshot.write_id() else {
        return no_write_key(&snapshot, process.keyring.status());
    };
    let slot = snapshot
        .slot(&id)
        .ok_or("rule 4: the write key has no slot")?;
    let stale = snapshot.max_cache_age().is_some_and(|age| {
        let expiry = slot.expiry(age);
        expiry.is_none_or(|expiry| now >= expiry)
    });
    let usable = slot.key().is_some() && !stale;
    let said = process.keyring.status();
    if said.is_ok() != usable || said.is_ok_and(|said| said != id) {
        return Err(format!(
            "rule 1: status is {said:?}, and the key is usable: {usable}"
        ));
    }
    Ok(())
}

/// Rule 7: whoever has changed something need not wait for it.
fn asked_for_at_once(process: &Process, ids: impl Iterator<Item = KeyId>) -> Result<(), String> {
    let ledger = process.ledger.entries();
    if has_no_room(process, &ledger) {
        return Ok(());
    }
    let now = tokio::time::Instant::now();
    // While nobody answers, there is one try each second for all keys together. The newest answer
    // may have been one to a configuration that waits; what the ring says of its keys is not.
    let tried = |at: &tokio::time::Instant| now.duration_since(*at) <= STEADY;
    let ends = ledger.values().flat_map(|entries| &entries.ends);
    let newest = ends.max_by_key(|(at, end)| (*at, end.is_some()));
    let unanswered = |problem| problem == Some(KeyProblem::Unavailable);
    let snapshot = process.keyring.snapshot();
    let is_probing = (newest.is_some_and(|(_, end)| unanswered(*end))
        || snapshot.slots().any(|(_, slot)| unanswered(slot.problem())))
        && ledger
            .values()
            .any(|entries| entries.under_way > 0 || entries.starts.back().is_some_and(tried));
    if is_probing {
        return Ok(());
    }
    for id in ids {
        let asked = ledger.get(&id).is_some_and(|entries| {
            entries.under_way > 0 || entries.starts.back().is_some_and(|at| *at == now)
        });
        if !asked {
            return Err(format!("rule 7: {id} is not asked for at once"));
        }
    }
    Ok(())
}

/// Whether so much is under way that another download may have to wait.
fn has_no_room(process: &Process, ledger: &BTreeMap<KeyId, Entries>) -> bool {
    let downloads = ledger.values().map(|entries| entries.under_way);
    downloads.sum::<usize>() + process.ledger.readings().under_way >= AT_ONCE
}

/// Whether the login may be said to be refused for `id`: no other key was confirmed since, or it is
/// being found out.
fn login_is_open(
    process: &Process,
    snapshot: &Snapshot,
    ledger: &BTreeMap<KeyId, Entries>,
    id: &KeyId,
) -> bool {
    let Some((refused, _)) = ledger.get(id).and_then(|entries| entries.ends.back()) else {
        return true;
    };
    let accepted = snapshot
        .slots()
        .filter_map(|(_, slot)| slot.confirmed())
        .max();
    let unanswered = |(_, slot): (_, &Slot)| slot.problem() == Some(KeyProblem::Unavailable);
    accepted.is_none_or(|accepted| accepted <= *refused)
        || ledger.get(id).is_some_and(|entries| entries.under_way > 0)
        || has_no_room(process, ledger)
        || snapshot.slots().any(unanswered)
}

/// Rule 8: what the report says of downloads.
fn report_is_true(process: &Process, report: &Report) -> Result<(), String> {
    let ledger = process.ledger.entries();
    let ends = ledger.values().flat_map(|entries| &entries.ends);
    let Some((_, newest)) = ends.max_by_key(|(at, end)| (*at, end.is_some())) else {
        return Ok(());
    };
    let contact = ledger.values().any(|entries| !entries.confirmed.is_empty());
    let told = report.last_contact.is_some();
    if told && !contact {
        return Err("rule 8: a contact that has not been".to_owned());
    }
    if newest.is_none() && report.consecutive_failures > 0 {
        return Err("rule 8: failures are counted after a success".to_owned());
    }
    Ok(())
}

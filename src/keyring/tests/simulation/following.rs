//! What must be true of a sidecar that follows a container.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use super::node::Process;
use super::observer::Observer;
use crate::key_id::KeyId;
use crate::keyring::{ContainerProblem, ContainerReport, KeyError, KeyProblem, Report};
use crate::keyring::{RingSource, Snapshot};

/// The least part of an interval that two readings are apart.
const APART: f64 = 0.7;

/// What is known of the container's keys in one process.
#[derive(Default)]
pub(super) struct Followed {
    /// The write key with the latest time.
    newest: Option<(SystemTime, KeyId)>,
    /// The shortest time between readings that the process has been told of.
    interval: Option<Duration>,
    /// When readings for another configuration were last possible, which do not count here.
    mixed: Option<tokio::time::Instant>,
    /// Whether Barbican keeps each key back, where that is known.
    withheld: BTreeMap<KeyId, bool>,
}

impl Observer {
    /// Rule 9: keys come and go as the container says, and none is lost by it.
    pub(super) fn following(
        &mut self,
        process: &Process,
        snapshot: &Snapshot,
        report: &Report,
        applied: bool,
        now: Instant,
    ) -> Result<(), String> {
        let interval = self.in_force.ring.revalidate_interval;
        let shortest = self.followed.interval.get_or_insert(interval);
        *shortest = interval.min(*shortest);
        let is_mixed = self
            .newest
            .as_ref()
            .is_ok_and(|live| *live != self.in_force);
        if is_mixed || applied {
            self.followed.mixed = Some(tokio::time::Instant::now());
        }
        if !applied {
            self.dropped(process, snapshot, now)?;
        }
        let container = report.container.as_deref();
        let container = container.ok_or("rule 8: the report knows no container")?;
        self.is_ring_of(snapshot, container)?;
        self.write_key(snapshot, container, applied)?;
        agrees(snapshot, container)?;
        self.followed.gone_is_true(snapshot, container, applied)?;
        was_read(process, container)
    }

    fn is_ring_of(&self, snapshot: &Snapshot, container: &ContainerReport) -> Result<(), String> {
        let pinned = self.in_force.ring.decrypt.iter();
        let wanted: BTreeSet<&KeyId> = pinned.chain(container.keys.keys()).collect();
        let ids: BTreeSet<&KeyId> = snapshot.slots().map(|(id, _)| id).collect();
        if ids == wanted {
            Ok(())
        } else {
            Err(format!(
                "rule 9: the ring has {ids:?}, and the container and the file {wanted:?}"
            ))
        }
    }

    /// A key that was held leaves the ring when two readings miss it, an interval apart, and
    /// Barbican gives it out after that; or when it is too old, and so held no more.
    fn dropped(&self, process: &Process, snapshot: &Snapshot, now: Instant) -> Result<(), String> {
        let interval = self.followed.interval.unwrap_or_default();
        let apart = interval.mul_f64(APART);
        let age = self.snapshot.max_cache_age();
        let (readings, entries) = (process.ledger.readings(), process.ledger.entries());
        for (id, before) in self.snapshot.slots() {
            let expiry = age.and_then(|age| before.expiry(age));
            let is_held = before.key().is_some() && expiry.is_none_or(|expiry| now < expiry);
            if !is_held || snapshot.slot(id).is_some() {
                continue;
            }
            let newest = entries.get(id).and_then(|entries| entries.confirmed.back());
            if self
                .followed
                .mixed
                .is_some_and(|at| at.elapsed() < interval * 3)
            {
                // Which readings count is not known.
                if newest.is_none() {
                    return Err(format!("rule 9: {id} is dropped and was never given out"));
                }
                continue;
            }
            let Some((since, until)) = readings.absent.get(id) else {
                return Err(format!(
                    "rule 9: {id} is dropped, and the container lists it"
                ));
            };
            if *until < *since + apart {
                return Err(format!(
                    "rule 9: {id} is dropped {:?} after the first reading without it",
                    *until - *since
                ));
            }
            if newest.is_none_or(|newest| *newest < *since + apart) {
                return Err(format!(
                    "rule 9: {id} is dropped, and Barbican has not given it out since"
                ));
            }
        }
        Ok(())
    }

    /// The write key is a later one each time, is held when it becomes one, and stays.
    fn write_key(
        &mut self,
        snapshot: &Snapshot,
        container: &ContainerReport,
        applied: bool,
    ) -> Result<(), String> {
        let (old, new) = (self.snapshot.write_id(), snapshot.write_id());
        let Some(id) = new else {
            return match old.filter(|id| self.snapshot.holds(id)) {
                Some(old) => Err(format!("rule 9: the write key {old} is one no more")),
                None => Ok(()),
            };
        };
        let time = container.keys.get(&id).and_then(|key| key.active_from);
        let held = old.is_some_and(|old| self.snapshot.holds(&old));
        // What a reload may do is said by rule 4.
        if old != new && held && !applied && !snapshot.holds(&id) {
            return Err(format!(
                "rule 9: {id} becomes the write key and is not held"
            ));
        }
        let Some(time) = time else {
            // An answer of before it had one changes nothing.
            return if old == new {
                Ok(())
            } else {
                Err(format!("rule 9: {id} becomes the write key without a time"))
            };
        };
        let key = (time, id);
        let newest = self.followed.newest;
        if newest.is_some_and(|newest| key < newest) && old != new {
            return Err(format!("rule 9: the write key goes back to {id}"));
        }
        // Whoever gives the write key in use another time, as after a backup, gives it none
        // that counts before it comes.
        if snapshot.holds(&id) && time <= self.wall {
            self.followed.newest = newest.max(Some(key));
        }
        Ok(())
    }
}

/// Rule 8: the container's report and the snapshot say the same.
fn agrees(snapshot: &Snapshot, container: &ContainerReport) -> Result<(), String> {
    if snapshot.source() != RingSource::Container(container.problem) {
        let source = snapshot.source();
        let problem = container.problem;
        return Err(format!(
            "rule 8: status says {source:?}, and the report {problem:?}"
        ));
    }
    Ok(())
}

impl Followed {
    /// Rule 8: what Barbican has said of a key holds until it says something else.
    fn gone_is_true(
        &mut self,
        snapshot: &Snapshot,
        container: &ContainerReport,
        applied: bool,
    ) -> Result<(), String> {
        self.withheld.retain(|id, _| snapshot.slot(id).is_some());
        for (id, slot) in snapshot.slots() {
            let said = match slot.problem() {
                Some(KeyProblem::NotFound | KeyProblem::Denied) => Some(true),
                None | Some(KeyProblem::NotAKey | KeyProblem::Foreign | KeyProblem::Altered) => {
                    Some(false)
                }
                // It was asked for a configuration that was not in force then.
                Some(_) if applied => None,
                Some(_) => self.withheld.get(id).copied(),
            };
            match said {
                Some(said) => self.withheld.insert(*id, said),
                None => self.withheld.remove(id),
            };
        }
        for (id, key) in &container.keys {
            let withheld = self.withheld.get(id);
            let gone = withheld.map(|withheld| *withheld && !key.listed && snapshot.holds(id));
            if gone.is_some_and(|gone| gone != key.secret_gone) {
                return Err(format!(
                    "rule 8: that the secret of {id} is gone is said: {}, and it is {gone:?}",
                    key.secret_gone
                ));
            }
        }
        Ok(())
    }
}

/// Rule 8: somebody has said to this process what it says of the container.
fn was_read(process: &Process, container: &ContainerReport) -> Result<(), String> {
    let readings = process.ledger.readings();
    let said = |problem: ContainerProblem| readings.problems.contains(&problem);
    match container.problem {
        Some(ContainerProblem::Pending) if container.read_at.is_none() => {}
        Some(ContainerProblem::Empty | ContainerProblem::NoActiveKey) | None
            if container.read_at.is_some() => {}
        Some(problem) if said(problem) => {}
        problem => return Err(format!("rule 8: no reading has ended in {problem:?}")),
    }
    let listed = container.keys.iter().filter(|(_, key)| key.listed);
    let listed: BTreeSet<KeyId> = listed.map(|(id, _)| *id).collect();
    if listed.is_empty() || readings.lists.contains(&listed) {
        Ok(())
    } else {
        Err(format!("rule 8: no reading has listed {listed:?}"))
    }
}

/// Rule 1, where nothing says which key is the write key.
pub(super) fn no_write_key(
    snapshot: &Snapshot,
    said: Result<KeyId, KeyError>,
) -> Result<(), String> {
    match (snapshot.source(), said) {
        (RingSource::Container(Some(problem)), Err(KeyError::NoList(said))) if said == problem => {
            Ok(())
        }
        (source, said) => Err(format!(
            "rule 1: status is {said:?} without a write key: {source:?}"
        )),
    }
}

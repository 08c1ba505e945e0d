//! `Rotation`: how far a rotation has come, by the names that it leaves in the container.
//! Pure.
//!
//! Made by the follower from each reading. `rotate-key`, and who rotates by hand as
//! `barbican-kms rotate` says, names a new key `staged TIME`, then by the time from which
//! it is the write key, then `migrated TIME` when everything is stored under it. Invariant:
//! nothing here decides about a key.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::listing::{Listing, secret, utc_time};
use crate::key_id::KeyId;

#[derive(Clone, Debug, Default)]
pub(super) struct Rotation {
    keys: BTreeMap<KeyId, Marks>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    staged: Option<SystemTime>,
    active_from: Option<SystemTime>,
    migrated: bool,
}

impl Rotation {
    pub(super) fn of(listing: &Listing) -> Self {
        let mut keys: BTreeMap<KeyId, Marks> = BTreeMap::new();
        for reference in &listing.references {
            let Some(id) = secret(&reference.secret_ref) else {
                continue;
            };
            let marks = keys.entry(id).or_default();
            if let Some(time) = utc_time(&reference.name) {
                marks.active_from = earliest(marks.active_from, time);
            } else if let Some(time) = after("staged ", &reference.name) {
                marks.staged = earliest(marks.staged, time);
            } else if after("migrated ", &reference.name).is_some() {
                marks.migrated = true;
            }
        }
        Self { keys }
    }

    /// Since when a rotation has not gone on; `None` when none is under way. A key whose
    /// activation is planned waits for nothing, and one that was staged before the write key
    /// became active is left for the next rotation.
    pub(super) fn waiting_since(&self, wall: SystemTime) -> Option<SystemTime> {
        let active = self.keys.iter();
        let active = active.filter_map(|(id, marks)| Some((marks.active_from?, *id)));
        let active = active.filter(|(time, _)| *time <= wall);
        let write = active.clone().max();
        let staged = self.keys.values();
        let staged = staged.filter(|marks| marks.active_from.is_none());
        let staged = staged.filter_map(|marks| marks.staged);
        let staged = staged.filter(|staged| write.is_none_or(|(time, _)| *staged > time));
        if let Some(staged) = staged.min() {
            return Some(staged);
        }
        let (since, id) = write?;
        let marks = self.keys.get(&id)?;
        let replaces_another = active.count() > 1;
        (replaces_another && marks.staged.is_some() && !marks.migrated).then_some(since)
    }
}

fn earliest(known: Option<SystemTime>, time: SystemTime) -> Option<SystemTime> {
    Some(known.map_or(time, |known| known.min(time)))
}

/// The time behind a word; names may have been written in lower case.
fn after(word: &str, name: &str) -> Option<SystemTime> {
    utc_time(name.strip_prefix(word)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Reference;

    const OLD: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";
    const NEW: &str = "11111111-2222-3333-4444-555555555555";
    const FIRST: (&str, &str) = (OLD, "2026-01-01T00:00:00Z");

    fn time(text: &str) -> SystemTime {
        utc_time(text).expect("a time")
    }

    /// What is said on 1 May of these references.
    fn waiting(references: &[(&str, &str)]) -> Option<SystemTime> {
        let references = references.iter().map(|(secret, name)| Reference {
            name: (*name).to_owned(),
            secret_ref: format!("http://b/v1/secrets/{secret}"),
        });
        let listing = Listing {
            references: references.collect(),
        };
        Rotation::of(&listing).waiting_since(time("2026-05-01T00:00:00Z"))
    }

    #[test]
    fn a_rotation_waits_from_its_last_step_until_the_storage_is_migrated() {
        let staged = (NEW, "staged 2026-04-01T00:00:00Z");
        let active = (NEW, "2026-04-02T00:00:00Z");
        let migrated = (NEW, "migrated 2026-04-03T00:00:00Z");
        assert_eq!(waiting(&[]), None);
        assert_eq!(waiting(&[FIRST]), None);
        let since = Some(time("2026-04-01T00:00:00Z"));
        assert_eq!(waiting(&[FIRST, staged]), since);
        let lower = (NEW, "staged 2026-04-01t00:00:00z");
        assert_eq!(waiting(&[FIRST, lower]), since);
        let since = Some(time("2026-04-02T00:00:00Z"));
        assert_eq!(waiting(&[FIRST, staged, active]), since);
        assert_eq!(waiting(&[FIRST, staged, active, migrated]), None);
        assert_eq!(waiting(&[staged, active]), None, "the old one is retired");
    }

    #[test]
    fn what_is_planned_left_over_or_made_by_hand_does_not_wait() {
        let planned = (NEW, "2026-06-01T00:00:00Z");
        let staged = (NEW, "staged 2026-04-01T00:00:00Z");
        assert_eq!(waiting(&[FIRST, staged, planned]), None);
        let by_hand = (NEW, "2026-04-02T00:00:00Z");
        assert_eq!(
            waiting(&[FIRST, (NEW, "staged 2025-12-01T00:00:00Z")]),
            None
        );
        for name in ["", "staged", "k8s", "staged 2026-13-01T00:00:00Z"] {
            assert_eq!(waiting(&[FIRST, (NEW, name)]), None, "{name}");
        }
        assert_eq!(waiting(&[FIRST, by_hand]), None);
    }

    #[test]
    fn far_times_and_strange_references_do_no_harm() {
        let far = "9999-01-01T00:00:00Z";
        let staged = format!("staged {far}");
        assert_eq!(waiting(&[FIRST, (NEW, &staged)]), Some(time(far)));
        assert_eq!(
            waiting(&[FIRST, (NEW, "staged 0001-01-01T00:00:00Z")]),
            None
        );
        assert_eq!(waiting(&[("", "staged 2026-04-01T00:00:00Z")]), None);
    }
}

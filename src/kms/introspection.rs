//! The introspection service: what `barbican-kms status` shows.
//!
//! Answered from the snapshot and the report alone, so it works when nothing else does.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use crate::instruments::Instruments;
use crate::key_id::KeyId;
use crate::keyring::{Keyring, Report, Slot, Snapshot, Use};
use crate::proto::introspection::introspection_server::Introspection;
use crate::proto::introspection::{
    Activation, Configuration, DescribeRequest, DescribeResponse, DroppedKey, Key, LastReload, Ring,
};

/// The service over a keyring.
#[derive(Clone, Debug)]
pub(super) struct IntrospectionService {
    keyring: Keyring,
    instruments: Arc<Instruments>,
}

impl IntrospectionService {
    pub(super) fn new(keyring: Keyring, instruments: Arc<Instruments>) -> Self {
        Self {
            keyring,
            instruments,
        }
    }
}

#[tonic::async_trait]
impl Introspection for IntrospectionService {
    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let snapshot = self.keyring.snapshot();
        let report = self.keyring.report();
        Ok(Response::new(DescribeResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.keyring.status().is_ok(),
            keys: self.keys(&snapshot, &report),
            ring: Some(ring(&snapshot, &report, self.keyring.clock().wall())),
            revalidate_interval_ms: milliseconds(report.revalidate_interval),
            configuration: Some(configuration(&report, self.keyring.clock().wall())),
            last_contact_unix_ms: report.last_contact.map_or(0, unix_ms),
            consecutive_failures: report.consecutive_failures,
            credential_end_unix_ms: self.instruments.credential_end().map_or(0, of_seconds),
            key_memory: self.keyring.protection().as_str().to_owned(),
        }))
    }
}

impl IntrospectionService {
    fn keys(&self, snapshot: &Snapshot, report: &Report) -> Vec<Key> {
        let write = snapshot.write_id();
        let mut keys: Vec<Key> = snapshot
            .slots()
            .map(|(id, slot)| Key {
                write: Some(*id) == write,
                ..self.key(*id, slot, report)
            })
            .collect();
        keys.sort_by_key(|key| !key.write);
        keys
    }

    fn key(&self, id: KeyId, slot: &Slot, report: &Report) -> Key {
        let now = self.keyring.clock().now();
        let problem = slot.problem();
        let confirmed = slot.confirmed().map(|at| now.saturating_duration_since(at));
        let container = report.container.as_deref();
        let listed = container.and_then(|container| container.keys.get(&id));
        let used = |usage| self.keyring.last_use(slot, usage).map(milliseconds);
        Key {
            id: id.to_string(),
            id_hash: id.sha256_label(),
            write: false,
            held: slot.key().is_some(),
            confirmed_ms_ago: confirmed.map(milliseconds),
            problem: problem
                .map(|problem| problem.as_str().to_owned())
                .unwrap_or_default(),
            problem_text: problem
                .map(|problem| problem.to_string())
                .unwrap_or_default(),
            active_from_unix_ms: listed.and_then(|key| key.active_from).map(signed_ms),
            listed: match container {
                None => true,
                Some(_) => listed.is_some_and(|key| key.listed),
            },
            pinned: report.pinned.contains(&id),
            secret_gone: listed.is_some_and(|key| key.secret_gone),
            wrapped_ms_ago: used(Use::Wrap),
            unwrapped_ms_ago: used(Use::Unwrap),
        }
    }
}

fn ring(snapshot: &Snapshot, report: &Report, now: SystemTime) -> Ring {
    let Some(container) = report.container.as_deref() else {
        return Ring::default();
    };
    let write = snapshot.write_id();
    let next = container.next_activation;
    Ring {
        container_id: container.id.to_string(),
        read_at_unix_ms: container.read_at.map_or(0, unix_ms),
        problem: container
            .problem
            .map(|problem| problem.as_str().to_owned())
            .unwrap_or_default(),
        problem_text: container.problem_text.clone(),
        warnings: container.warnings.clone(),
        next_activation: next.map(|(id, at)| Activation {
            key_id: id.to_string(),
            at_unix_ms: signed_ms(at),
        }),
        write_key_age_ms: write
            .and_then(|id| container.age(&id, now))
            .map(milliseconds),
    }
}

fn configuration(report: &Report, now: SystemTime) -> Configuration {
    Configuration {
        in_force_since_unix_ms: unix_ms(report.in_force_since),
        applied: report.reloads.applied,
        unchanged: report.reloads.unchanged,
        invalid: report.reloads.invalid,
        refused: report.reloads.refused,
        failed: report.reloads.failed,
        dropped: report
            .dropped_lately(now)
            .map(|key| DroppedKey {
                id: key.id.to_string(),
                at_unix_ms: unix_ms(key.at),
                last_used_unix_ms: key.last_used.map(unix_ms),
            })
            .collect(),
        last_reload: report.last_reload.as_ref().map(|last| LastReload {
            at_unix_ms: unix_ms(last.at),
            outcome: last.outcome.as_str().to_owned(),
            message: last.message.clone(),
            added: last.added.iter().map(ToString::to_string).collect(),
            removed: last.removed.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn of_seconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// The same for times that need not be of this age.
fn signed_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

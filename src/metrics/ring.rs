//! The families about where the list of keys comes from: the ring and its container.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::Source;
use super::encode::{Written, family, gauge, key, labelled, seconds, timestamp};
use crate::config::short_digest;
use crate::keyring::{ContainerProblem, ContainerReport, Snapshot};

impl Source {
    pub(super) fn ring(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let snapshot = self.keyring.snapshot();
        let help = "The keys in memory and which of them Encrypt uses: a hash, which differs \
                    when nodes hold different rings.";
        let mut info = family(out, "ring", help, MetricType::Info)?;
        info.encode_info(&[("hash", ring_hash(&snapshot).as_str())])?;
        match self.keyring.report().container.as_deref() {
            Some(container) => self.container(out, &snapshot, container),
            None => Ok(()),
        }
    }

    fn container(
        &self,
        out: &mut DescriptorEncoder<'_>,
        snapshot: &Snapshot,
        container: &ContainerReport,
    ) -> Written {
        let help = "When the container that lists the keys was last read; missing for never.";
        let read_at = container.read_at;
        timestamp(out, "container_last_read_timestamp", help, read_at)?;
        let help = "What keeps the container from being followed: 1 for what does.";
        let mut written = family(out, "container_problem", help, MetricType::Gauge)?;
        for problem in ContainerProblem::ALL {
            let present = container.problem == Some(problem);
            let labels = [("problem", problem.as_str())];
            labelled(&mut written, &labels, i64::from(present))?;
        }
        let help = "References of the container that are ignored.";
        let warnings = i64::try_from(container.warnings.len()).unwrap_or(i64::MAX);
        gauge(out, "container_ignored_references", help, warnings)?;
        let wall = self.keyring.clock().wall();
        let write = snapshot.write_id();
        if let Some(age) = write.and_then(|id| container.age(&id, wall)) {
            let help = "For how long the write key has been one, by its time in the container.";
            seconds(out, "write_key_age", help)?.encode_gauge(&age.as_secs_f64())?;
        }
        let since = container.rotation_waiting_since;
        if let Some(waiting) = since.and_then(|since| wall.duration_since(since).ok()) {
            let help = "For how long a rotation has not gone on; missing when none is under way.";
            seconds(out, "rotation_waiting", help)?.encode_gauge(&waiting.as_secs_f64())?;
        }
        if let Some((id, at)) = container.next_activation {
            let help = "When the next key becomes the write key; missing when none is planned.";
            timestamp(out, "next_activation_timestamp", help, Some(at))?;
            let help = "Whether the key that becomes the write key next is held.";
            let is_held = i64::from(snapshot.holds(&id));
            gauge(out, "next_activation_key_held", help, is_held)?;
        }
        let help = "Whether the key is kept because its secret is gone from Barbican.";
        let mut written = family(out, "key_secret_gone", help, MetricType::Gauge)?;
        for (id, listed) in &container.keys {
            let hash = id.sha256_label();
            labelled(&mut written, &key(&hash), i64::from(listed.secret_gone))?;
        }
        Ok(())
    }
}

/// Tells rings apart; key ids are public.
fn ring_hash(snapshot: &Snapshot) -> String {
    let held = snapshot.slots().filter(|(_, slot)| slot.key().is_some());
    let text = held.fold(format!("{:?}", snapshot.write_id()), |text, (id, _)| {
        text + " " + &id.text()
    });
    short_digest(&text)
}

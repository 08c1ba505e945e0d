//! The families of `barbican_kms_*`: one function for each subject.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::Source;
use super::encode::{
    Written, count_of, counter, durations, family, gauge, histogram, key, labelled,
    labelled_seconds, lines_of, seconds, since_epoch, timestamp, whole,
};
use crate::instruments::{Format, Label, Method, Operation, Outcome, Refusal, Upstream};
use crate::keyring::KeyProblem;
use crate::secret::Protection;

/// gRPC's names of its codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Codes that are shown before they happen, so that their first time is an increase.
const EXPECTED_CODES: [usize; 7] = [0, 1, 3, 4, 9, 13, 14];

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Written {
        let out = &mut encoder;
        self.build(out)?;
        self.keys(out)?;
        self.ring(out)?;
        self.calls(out)?;
        self.operations(out)?;
        self.upstream(out)?;
        self.configuration(out)?;
        self.lines(out)
    }
}

impl Source {
    fn build(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let mut info = family(
            out,
            "build",
            "Version of the running program.",
            MetricType::Info,
        )?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let help = "Whether a usable write key is held, so that Status is ok.";
        let ready = self.keyring.status().is_ok();
        gauge(out, "ready", help, i64::from(ready))?;
        let help = "How the pages that hold keys are protected: the least protected ones.";
        let memory = self.keyring.protection();
        let mut info = family(out, "key_memory", help, MetricType::Info)?;
        info.encode_info(&[("protection", memory.as_str())])?;
        let help = "Whether all pages that hold keys are kept out of swap.";
        let locked = memory != Protection::Unlocked;
        gauge(out, "key_memory_locked", help, i64::from(locked))
    }

    fn keys(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let snapshot = self.keyring.snapshot();
        let clock = self.keyring.clock();
        let now = clock.now();
        let keys: Vec<_> = snapshot
            .slots()
            .map(|(id, slot)| (id.sha256_label(), Some(*id) == snapshot.write_id(), slot))
            .collect();

        let help = "Whether the key is the one that Encrypt uses.";
        let mut written = family(out, "key_write", help, MetricType::Gauge)?;
        for (hash, write, _) in &keys {
            labelled(&mut written, &key(hash), i64::from(*write))?;
        }
        let help = "Whether the key is held in memory.";
        let mut written = family(out, "key_held", help, MetricType::Gauge)?;
        for (hash, _, slot) in &keys {
            labelled(&mut written, &key(hash), i64::from(slot.key().is_some()))?;
        }
        let help = "Time since Barbican last confirmed the key; absent if it never did.";
        let mut written = seconds(out, "key_confirmed_age", help)?;
        for (hash, _, slot) in &keys {
            if let Some(at) = slot.confirmed() {
                let age = now.saturating_duration_since(at).as_secs_f64();
                labelled_seconds(&mut written, &key(hash), age)?;
            }
        }
        let help = "When the key is wiped unless it is confirmed; absent without max-cache-age.";
        let mut written = seconds(out, "key_expiry_timestamp", help)?;
        if let Some(age) = self.keyring.report().max_cache_age {
            for (hash, _, slot) in &keys {
                if let Some(at) = slot.expiry(age) {
                    let left = at.saturating_duration_since(now);
                    let at = since_epoch(clock.wall() + left);
                    labelled_seconds(&mut written, &key(hash), at)?;
                }
            }
        }
        let help = "The problem that prevents the key from being loaded or confirmed: 1 for that \
                    problem.";
        let mut written = family(out, "key_problem", help, MetricType::Gauge)?;
        for (hash, _, slot) in &keys {
            for problem in PROBLEMS {
                let labels = [
                    ("key_id_hash", hash.as_str()),
                    ("problem", problem.as_str()),
                ];
                let present = slot.problem() == Some(problem);
                labelled(&mut written, &labels, i64::from(present))?;
            }
        }
        Ok(())
    }

    fn calls(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let instruments = &self.instruments;
        let help = "Completed calls on the socket.";
        let mut written = family(out, "requests", help, MetricType::Counter)?;
        for method in Method::ALL {
            let kms = !matches!(method, Method::Describe | Method::Other);
            for (code, count) in instruments.calls(*method).codes() {
                let name = CODES.get(code).copied().unwrap_or("UNKNOWN");
                if count > 0 || (kms && EXPECTED_CODES.contains(&code)) {
                    let labels = [("method", method.as_str()), ("code", name)];
                    count_of(&mut written, &labels, count)?;
                }
            }
        }
        let help = "Time from the headers of a request to the headers of its answer.";
        let mut written = durations(out, "request_duration", help)?;
        for method in Method::ALL {
            let reading = instruments.calls(*method).latency.read();
            histogram(&mut written, &[("method", method.as_str())], &reading)?;
        }
        let help = "Calls on the socket in progress.";
        let mut written = family(out, "requests_in_flight", help, MetricType::Gauge)?;
        for method in Method::ALL {
            let count = instruments.calls(*method).in_flight();
            labelled(&mut written, &[("method", method.as_str())], whole(count))?;
        }
        let help = "Open connections to the socket.";
        let connections = &instruments.connections;
        gauge(out, "connections", help, whole(connections.present()))?;
        let help = "Connections to the socket so far.";
        counter(out, "accepted_connections", help, connections.total.value())
    }

    fn operations(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let help = "Seeds wrapped and unwrapped, by stored format.";
        let mut written = family(out, "key_operations", help, MetricType::Counter)?;
        for operation in Operation::ALL {
            for format in Format::ALL {
                let count = self.instruments.operations(*operation, *format).value();
                let labels = [
                    ("operation", operation.as_str()),
                    ("format", format.as_str()),
                ];
                if *format == Format::Tagged || *operation == Operation::Decrypt {
                    count_of(&mut written, &labels, count)?;
                }
            }
        }
        let help = "Decrypts that were refused.";
        let mut written = family(out, "refused_decrypts", help, MetricType::Counter)?;
        for reason in Refusal::ALL {
            let count = self.instruments.refusals(*reason).value();
            count_of(&mut written, &[("reason", reason.as_str())], count)?;
        }
        Ok(())
    }

    fn upstream(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let help = "Completed requests to Keystone and Barbican.";
        let mut written = family(out, "openstack_requests", help, MetricType::Counter)?;
        for request in Upstream::ALL {
            let requests = self.instruments.requests(*request);
            for outcome in Outcome::ALL {
                let count = requests.outcome(*outcome).value();
                let labels = [
                    ("service", request.service()),
                    ("operation", request.as_str()),
                    ("outcome", outcome.as_str()),
                ];
                let rare = !matches!(request, Upstream::Login | Upstream::Payload);
                if count > 0 || !rare {
                    count_of(&mut written, &labels, count)?;
                }
            }
        }
        let help = "Time from the connection to the last byte of the answer.";
        let mut written = durations(out, "openstack_request_duration", help)?;
        for request in [Upstream::Login, Upstream::Payload] {
            let labels = [
                ("service", request.service()),
                ("operation", request.as_str()),
            ];
            let reading = self.instruments.requests(request).latency.read();
            histogram(&mut written, &labels, &reading)?;
        }
        if let Some(end) = self.instruments.token_end() {
            let help = "When the newest Keystone token expires.";
            let mut written = seconds(out, "token_expiry_timestamp", help)?;
            written.encode_gauge(&end)?;
        }
        if let Some(end) = self.instruments.credential_end() {
            let help = "When the application credential expires; absent while that is not known.";
            let mut written = seconds(out, "credential_expiry_timestamp", help)?;
            written.encode_gauge(&end)?;
        }
        let report = self.keyring.report();
        let help = "Failed attempts to download a key since the last successful one.";
        let failures = whole(report.consecutive_failures);
        gauge(out, "consecutive_failures", help, failures)?;
        let help = "When Barbican last returned a key; absent if it never did.";
        timestamp(out, "last_contact_timestamp", help, report.last_contact)?;
        let help = "When the next download of a key is planned.";
        timestamp(out, "next_fetch_timestamp", help, report.next_fetch)
    }

    fn configuration(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let report = self.keyring.report();
        let help = "Changes of the configuration files, by outcome; a change that fails first and \
                    is applied later counts as both.";
        let mut written = family(out, "config_reloads", help, MetricType::Counter)?;
        for (outcome, count) in report.reloads.by_outcome() {
            count_of(&mut written, &[("outcome", outcome.as_str())], count)?;
        }
        let last = report.last_reload.as_ref();
        let good = last.is_none_or(|last| last.outcome.is_good());
        let help = "Whether the files contain the configuration in use.";
        gauge(out, "config_last_reload_successful", help, i64::from(good))?;
        let help = "When the files were last found to contain the configuration in use.";
        let good = Some(report.files_good);
        timestamp(out, "config_last_success_timestamp", help, good)?;
        let help = "How often each key is confirmed with Barbican, at least.";
        let interval = report.revalidate_interval.as_secs_f64();
        seconds(out, "revalidate_interval", help)?.encode_gauge(&interval)?;
        let help = "The configuration in use: a hash of all settings except secrets.";
        let mut info = family(out, "config", help, MetricType::Info)?;
        info.encode_info(&[("hash", report.configuration.as_str())])
    }

    fn lines(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let instruments = &self.instruments;
        let help = "Lines of the audit log, by whether they were written.";
        let counters = (&instruments.audited, &instruments.unaudited);
        lines_of(out, "audit_lines", help, counters)?;
        let help = "Lines of the log, by whether they were written.";
        let counters = (&instruments.logged, &instruments.unlogged);
        lines_of(out, "log_lines", help, counters)
    }
}

const PROBLEMS: [KeyProblem; 10] = [
    KeyProblem::Pending,
    KeyProblem::Unavailable,
    KeyProblem::Login,
    KeyProblem::Denied,
    KeyProblem::NotFound,
    KeyProblem::NotAKey,
    KeyProblem::Foreign,
    KeyProblem::Altered,
    KeyProblem::Crashed,
    KeyProblem::Unconfirmed,
];

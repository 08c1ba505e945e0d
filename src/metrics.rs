//! Metrics, as text for Prometheus.
//!
//! Everything is read at the moment of the scrape: counters from [`Instruments`], the
//! state of keys and reloads from the keyring. Invariant: label values are words of
//! enums, hashes, and our own version; nothing that a client sends.

mod collect;
mod encode;
mod process;
mod ring;
pub mod server;

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::instruments::Instruments;
use crate::keyring::{KeyError, Keyring};

/// The metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    keyring: Keyring,
}

/// Read at each scrape.
#[derive(Debug)]
struct Source {
    keyring: Keyring,
    instruments: Arc<Instruments>,
}

/// In which form metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own text format, 0.0.4.
    Classic,
}

impl Metrics {
    /// Metrics of this process, which has just started.
    #[expect(clippy::disallowed_methods, reason = "when the real process started")]
    pub fn new(keyring: Keyring, instruments: Arc<Instruments>) -> Self {
        let mut metrics = Self::of_keyring(keyring, instruments);
        let process = process::Process::started(SystemTime::now());
        let registry = &mut metrics.registry;
        registry
            .sub_registry_with_prefix("process")
            .register_collector(Box::new(process));
        metrics
    }

    /// The same without those of the process itself, which the kernel is asked for.
    pub(crate) fn of_keyring(keyring: Keyring, instruments: Arc<Instruments>) -> Self {
        let mut registry = Registry::default();
        let source = Source {
            keyring: keyring.clone(),
            instruments,
        };
        registry
            .sub_registry_with_prefix("barbican_kms")
            .register_collector(Box::new(source));
        Self { registry, keyring }
    }

    /// Everything, as text.
    pub fn text(&self, exposition: Exposition) -> String {
        let mut openmetrics = String::new();
        // Writing to a `String` does not fail, and the collectors report no error.
        let _ = text::encode(&mut openmetrics, &self.registry);
        match exposition {
            Exposition::OpenMetrics => openmetrics,
            Exposition::Classic => classic(&openmetrics),
        }
    }

    /// Whether a usable write key is held.
    ///
    /// # Errors
    /// The problem that prevents it from being held.
    pub fn ready(&self) -> Result<(), KeyError> {
        self.keyring.status().map(|_| ())
    }
}

/// OpenMetrics names a family without the suffix of its samples; the older format does
/// not, and knows neither units nor an end.
fn classic(openmetrics: &str) -> String {
    let mut suffix = "";
    let mut lines = openmetrics.lines().peekable();
    let mut written = String::with_capacity(openmetrics.len());
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if line.starts_with("# HELP ") {
            suffix = match lines.peek().and_then(|kind| kind.rsplit(' ').next()) {
                Some("counter") => "_total",
                Some("info") => "_info",
                _ => "",
            };
        }
        match line.strip_prefix("# ").and_then(|rest| {
            let mut words = rest.splitn(3, ' ');
            Some((words.next()?, words.next()?, words.next()?))
        }) {
            Some((keyword, name, rest)) => {
                let rest = if rest == "info" { "gauge" } else { rest };
                written.extend(["# ", keyword, " ", name, suffix, " ", rest]);
            }
            None => written.push_str(line),
        }
        written.push('\n');
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_samples_and_not_families() {
        let openmetrics = "# HELP a_calls Calls so far.\n# TYPE a_calls counter\n\
             a_calls_total{x=\"counter\"} 3\n# HELP a_build Build.\n# TYPE a_build info\n\
             a_build_info{v=\"1\"} 1\n# HELP a_age_seconds Age.\n# TYPE a_age_seconds gauge\n\
             # UNIT a_age_seconds seconds\na_age_seconds 2\n# EOF\n";
        let expected = "# HELP a_calls_total Calls so far.\n# TYPE a_calls_total counter\n\
             a_calls_total{x=\"counter\"} 3\n# HELP a_build_info Build.\n# TYPE a_build_info gauge\n\
             a_build_info{v=\"1\"} 1\n# HELP a_age_seconds Age.\n# TYPE a_age_seconds gauge\n\
             a_age_seconds 2\n";
        assert_eq!(classic(openmetrics), expected);
    }
}

//! The standard process metrics of Prometheus clients.
//!
//! Read from /proc at each scrape; what cannot be read is left out.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The size of /proc/self/stat, with room to spare.
const STAT_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

/// The fields of `proc_pid_stat(5)` that are shown.
#[derive(Debug, PartialEq)]
struct Stat {
    processor_ticks: u64,
    threads: i64,
    virtual_bytes: i64,
    resident_pages: i64,
}

impl Process {
    pub(super) fn started(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: since.as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let out = &mut encoder;
        let bytes = Some(&Unit::Bytes);
        let second = Some(&Unit::Seconds);
        gauge(
            out,
            "start_time",
            "When the process started.",
            second,
            &self.started,
        )?;
        if let Some(stat) = read().as_deref().and_then(parse) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "exact for centuries of CPU time"
            )]
            let used = stat.processor_ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            let help = "User and system CPU time spent.";
            let (unit, kind) = (Unit::Seconds, MetricType::Counter);
            let mut written = out.encode_descriptor("cpu", help, Some(&unit), kind)?;
            written.encode_counter::<NoLabelSet, f64, f64>(&used, None)?;
            let page = i64::try_from(rustix::param::page_size()).unwrap_or(0);
            let resident = stat.resident_pages.saturating_mul(page);
            gauge(out, "resident_memory", "Resident memory.", bytes, &resident)?;
            let virtual_bytes = stat.virtual_bytes;
            gauge(
                out,
                "virtual_memory",
                "Virtual memory.",
                bytes,
                &virtual_bytes,
            )?;
            gauge(out, "threads", "Threads.", None, &stat.threads)?;
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX);
            gauge(out, "open_fds", "Open file descriptors.", None, &open)?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let Some(most) = limit.current.and_then(|most| i64::try_from(most).ok()) {
            gauge(
                out,
                "max_fds",
                "Limit of open file descriptors.",
                None,
                &most,
            )?;
        }
        Ok(())
    }
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &impl EncodeGaugeValue,
) -> Result<(), fmt::Error> {
    let mut written = out.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    written.encode_gauge(value)
}

fn read() -> Option<String> {
    use std::io::Read as _;
    let mut text = vec![0; STAT_BYTES];
    let mut file = std::fs::File::open(Path::new("/proc/self/stat")).ok()?;
    let length = file.read(&mut text).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

/// The program's name may hold spaces and brackets: count from its end.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    // The first of these is field 3.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    Some(Stat {
        processor_ticks: u64::try_from(ticks).ok()?,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_end_of_the_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 3 0 5000 8192000 450 1";
        let expected = Stat {
            processor_ticks: 42,
            threads: 3,
            virtual_bytes: 8_192_000,
            resident_pages: 450,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn our_own_process_can_be_read() {
        assert!(read().as_deref().and_then(parse).is_some());
    }
}

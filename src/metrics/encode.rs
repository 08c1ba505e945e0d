//! How values become OpenMetrics: thin functions over the client library's encoder.
//!
//! Used by `collect`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::instruments::{Counter, Reading};

pub(super) type Written = Result<(), fmt::Error>;

pub(super) fn key(hash: &str) -> [(&str, &str); 1] {
    [("key_id_hash", hash)]
}

pub(super) fn family<'a>(
    out: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    out.encode_descriptor(name, help, None, kind)
}

pub(super) fn seconds<'a>(
    out: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)
}

pub(super) fn durations<'a>(
    out: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
}

pub(super) fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Written {
    family(out, name, help, MetricType::Gauge)?.encode_gauge(&value)
}

pub(super) fn counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Written {
    let mut written = family(out, name, help, MetricType::Counter)?;
    written.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

pub(super) fn timestamp(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    at: Option<SystemTime>,
) -> Written {
    let Some(at) = at else {
        return Ok(());
    };
    seconds(out, name, help)?.encode_gauge(&since_epoch(at))
}

/// Seconds; 0 for what was before 1970, where a clock may stand that was never set.
pub(super) fn since_epoch(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

pub(super) fn labelled(
    written: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: i64,
) -> Written {
    written.encode_family(labels)?.encode_gauge(&value)
}

pub(super) fn labelled_seconds(
    written: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: f64,
) -> Written {
    written.encode_family(labels)?.encode_gauge(&value)
}

pub(super) fn count_of(
    written: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: u64,
) -> Written {
    let mut written = written.encode_family(labels)?;
    written.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

pub(super) fn histogram(
    written: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    reading: &Reading,
) -> Written {
    let mut written = written.encode_family(labels)?;
    written.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
}

pub(super) fn lines_of(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    (taken, dropped): (&Counter, &Counter),
) -> Written {
    let mut written = family(out, name, help, MetricType::Counter)?;
    count_of(&mut written, &[("outcome", "written")], taken.value())?;
    count_of(&mut written, &[("outcome", "dropped")], dropped.value())
}

pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

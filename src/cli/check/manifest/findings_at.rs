//! The context of every rule about a part of the pod: its path, and where to report.

use serde_json::Value;

use super::super::findings::Findings;
use super::names::Form;
use crate::cli::check::quoted;
use crate::config::redact;

/// Where rules report to.
pub(super) struct FindingsAt<'a> {
    pub(super) at: &'a str,
    pub(super) findings: &'a mut Findings,
}

impl FindingsAt<'_> {
    pub(super) fn error(&mut self, field: &str, what: &str, fix: &str) {
        let at = if field.is_empty() {
            self.at.to_owned()
        } else {
            below(self.at, field)
        };
        self.findings
            .error(format!("{at} {what}: Kubernetes refuses the pod"), fix);
    }
}

pub(super) fn keys_and_values(value: &Value, labels: &str, findings: &mut FindingsAt<'_>) {
    let pairs = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, label) in pairs(labels) {
        let label = label.as_str().unwrap_or_default();
        if !Form::Key.fits(key) || !Form::LabelValue.fits(label) {
            let what = format!(
                "has the label {}, {}",
                quoted::word(key),
                quoted::word(label)
            );
            findings.error(labels, &what, Form::LabelValue.expected());
        }
    }
    for (key, _) in pairs("annotations") {
        if !Form::Key.fits(&key.to_lowercase()) {
            let what = format!("has the key {}", quoted::word(key));
            findings.error("annotations", &what, Form::Key.expected());
        }
    }
}

/// A whole number; YAML's `8.0` is one too.
pub(super) fn whole(value: &Value) -> Option<i64> {
    /// Beyond this, not every whole number has a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        let is_whole = number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT;
        #[allow(clippy::cast_possible_truncation, reason = "whole and in range")]
        is_whole.then_some(float as i64)
    })
}

/// The path of a field. A key may be anything, so it is shown only if it looks like one.
pub(super) fn below(at: &str, key: &str) -> String {
    let shown = redact::name(key);
    let is_plain = key.len() <= 40 && key.chars().all(|one| one.is_ascii_alphabetic());
    let key = match (shown.is_redacted(), is_plain) {
        (true, false) => format!("({shown})"),
        _ => key.to_owned(),
    };
    if at.is_empty() {
        key
    } else {
        format!("{at}.{key}")
    }
}

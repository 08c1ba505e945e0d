//! The fields of a pod and their types, as the kubelet decodes them.
//!
//! `types.txt` is printed from the Go types of Kubernetes by tests/static-pod, which compares
//! it. The kubelet refuses a value of another type, and ignores a field that it does not
//! know; case counts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::findings::Findings;
use super::findings_at::{below, whole};
use super::{quantity, values};
use crate::config::edit_distance;

/// A line for each type: its name, and `field:kind`. Before the kind of entries stands `[`
/// for a list and `{` for a mapping.
const TYPES: &str = include_str!("types.txt");

/// How many letters of a field may be wrong before it is taken for another one.
const NEAR: usize = 3;

/// Fields with their kinds.
type Fields = Vec<(&'static str, &'static str)>;

struct Walk<'a> {
    types: BTreeMap<&'static str, Fields>,
    is_json: bool,
    findings: &'a mut Findings,
}

/// Goes through a pod; each part of a known type is handed to the rules over its values.
pub(super) fn fields_are_as_declared(
    pod: &Value,
    at: &str,
    is_json: bool,
    findings: &mut Findings,
) {
    let types = TYPES.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        Some((
            name,
            words.filter_map(|word| word.split_once(':')).collect(),
        ))
    });
    let mut walk = Walk {
        types: types.collect(),
        is_json,
        findings,
    };
    walk.value("Pod", pod, at);
}

impl Walk<'_> {
    fn value(&mut self, kind: &'static str, value: &Value, at: &str) {
        if value.is_null() {
            return;
        }
        if let Some(entries) = kind.strip_prefix('[') {
            match value.as_array() {
                Some(all) => {
                    for (number, one) in all.iter().enumerate() {
                        self.value(entries, one, &format!("{at}[{number}]"));
                    }
                }
                None => self.error(at, "a list", "begin each entry with `- `"),
            }
        } else if let Some(entries) = kind.strip_prefix('{') {
            match value.as_object() {
                Some(all) => {
                    for (key, one) in all {
                        self.value(entries, one, &below(at, key));
                    }
                }
                None => self.error(at, "a mapping", "write `key: value` on each line"),
            }
        } else if let Some(fields) = self.types.get(kind).cloned() {
            match value.as_object() {
                Some(all) => {
                    for (key, one) in all {
                        match fields.iter().find(|(name, _)| name == key) {
                            Some((_, kind)) => self.value(kind, one, &below(at, key)),
                            None => self.unknown(key, &fields, at),
                        }
                    }
                    values::check(kind, value, at, self.findings);
                }
                None => self.error(
                    at,
                    "a mapping",
                    "write `field: value` on each line below it",
                ),
            }
        } else {
            self.scalar(kind, value, at);
        }
    }

    fn scalar(&mut self, kind: &str, value: &Value, at: &str) {
        let whole = |value: &Value| whole(value).filter(|_| !(self.is_json && value.is_f64()));
        let (is_right, expected, fix) = match kind {
            "string" => (value.is_string(), "a text", "put it into quotes"),
            "bool" => (
                value.is_boolean(),
                "true or false",
                "write it without quotes",
            ),
            "int32" => (
                whole(value).is_some_and(|number| i32::try_from(number).is_ok()),
                "a whole number of 32 bits",
                "write digits without quotes",
            ),
            "int64" => (
                whole(value).is_some(),
                "a whole number",
                "write digits without quotes",
            ),
            "port" => (
                value.is_string()
                    || whole(value).is_some_and(|number| i32::try_from(number).is_ok()),
                "the number or the name of a port",
                "write the number",
            ),
            "quantity" => (
                quantity::value(value).is_some(),
                "an amount",
                "write a number with a unit of Kubernetes, such as 64Mi or 250m",
            ),
            "time" => (
                value
                    .as_str()
                    .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                "a time",
                "remove it, or write it like 2026-01-31T00:00:00Z",
            ),
            // Types without a rule.
            _ => (true, "", ""),
        };
        if !is_right {
            self.error(at, expected, fix);
        }
    }

    fn error(&mut self, at: &str, expected: &str, fix: &str) {
        let at = if at.is_empty() { "the pod" } else { at };
        self.findings.error(
            format!("{at} is not {expected}: Kubernetes refuses the pod"),
            fix,
        );
    }

    fn unknown(&mut self, key: &str, fields: &Fields, at: &str) {
        let near = fields.iter().map(|(name, _)| {
            let is_same = name.eq_ignore_ascii_case(key);
            (if is_same { 0 } else { edit_distance(key, name) }, *name)
        });
        let near = near
            .min()
            .filter(|(letters, name)| *letters <= NEAR && *letters < name.len().saturating_sub(1));
        let hint = near.map_or(
            "remove it, or move it to where it belongs".to_owned(),
            |one| format!("write {}", one.1),
        );
        self.findings.warn(format!(
            "{}: Kubernetes knows no such field and ignores it: {hint}",
            below(at, key)
        ));
    }
}

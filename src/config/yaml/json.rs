//! A tree as JSON, for `check`: plain scalars are what Kubernetes' reader takes them for.
//!
//! That is go-yaml's version 2, of YAML 1.1: `yes` is true, `1_000`, `0b1` and `010` are
//! numbers, and the rest of what looks like one is a text. What is not finite is refused,
//! as JSON has no word for it.

use serde_json::{Number, Value};

use super::reader::{Merging, Reading};
use super::{Content, Node, Scalar, TAGGED, Tag, YamlError, YamlProblem};

/// Reads a text of one document.
pub(crate) fn parse(text: &str) -> Result<Value, YamlError> {
    value(super::parse(text)?)
}

/// The first document of a text.
pub(crate) struct First {
    pub(crate) value: Value,
    /// Whether there is another.
    pub(crate) more: bool,
}

/// Reads the first document of a text, as Kubernetes' strict reader does: the rest is
/// not checked, and a merge key must not repeat an entry.
pub(crate) fn parse_first(text: &str) -> Result<First, YamlError> {
    first(Reading::new(text, Merging::Strict))
}

/// The first document of a text, as Kubernetes' lenient reader does: of a key that stands
/// twice, the last counts.
pub(crate) fn parse_first_leniently(text: &str) -> Result<First, YamlError> {
    first(Reading::new(text, Merging::Last))
}

/// All documents of a text, read like [`parse_first_leniently`].
pub(crate) fn parse_all_leniently(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut reading = Reading::new(text, Merging::Last);
    let mut all = Vec::new();
    while let Some(node) = reading.next_document()? {
        all.push(value(node)?);
    }
    Ok(all)
}

fn first(mut reading: Reading<'_>) -> Result<First, YamlError> {
    let node = reading.document()?;
    Ok(First {
        value: value(node)?,
        more: reading.has_more(),
    })
}

fn value(node: Node) -> Result<Value, YamlError> {
    match node.content {
        Content::Scalar(scalar) => scalar_value(scalar).map_err(|problem| (node.at, problem)),
        Content::Sequence(items) => {
            let items: Result<_, _> = items.into_iter().map(value).collect();
            items.map(Value::Array)
        }
        Content::Mapping(entries) => {
            let entries = entries.into_iter();
            let entries: Result<_, _> =
                entries.map(|(key, node)| Ok((key, value(node)?))).collect();
            entries.map(Value::Object)
        }
    }
}

fn scalar_value(scalar: Scalar) -> Result<Value, YamlProblem> {
    if scalar.is_null() {
        return Ok(Value::Null);
    }
    let text = scalar.text.as_str();
    match scalar.tag {
        Tag::Flag => flag(text).map(Value::Bool).ok_or(YamlProblem::Boolean),
        Tag::Integer => integer(text).map(Value::Number).ok_or(NO_NUMBER),
        Tag::Float => float(text).ok_or(NO_NUMBER).and_then(finite),
        Tag::None | Tag::Merge if scalar.plain => {
            if let Some(flag) = flag(text) {
                return Ok(Value::Bool(flag));
            }
            if let Some(number) = integer(text) {
                return Ok(Value::Number(number));
            }
            match float(text) {
                Some(number) => finite(number),
                None => Ok(Value::String(scalar.text)),
            }
        }
        tag if tag.is_text() => Ok(Value::String(scalar.text)),
        _ => Err(TAGGED),
    }
}

/// Only these, and not in every case.
fn flag(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

fn integer(text: &str) -> Option<Number> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first)) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, unsigned) = sign(&plain);
    let prefix = unsigned.get(..2).unwrap_or_default();
    let (radix, digits) = match prefix {
        "0x" | "0X" => (16, unsigned.get(2..)?),
        "0o" | "0O" => (8, unsigned.get(2..)?),
        "0b" | "0B" => (2, unsigned.get(2..)?),
        _ => match unsigned.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => (8, octal),
            _ => (10, unsigned),
        },
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

fn float(text: &str) -> Option<f64> {
    let (negative, unsigned) = sign(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if negative => return Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if text == unsigned => return Some(f64::NAN),
        _ => {}
    }
    // After a leading dot, `_` is no digit separator.
    let plain = match text.chars().next()? {
        '.' => text.to_owned(),
        first if first.is_ascii_digit() || "+-".contains(first) => text.replace('_', ""),
        _ => return None,
    };
    // Rust would also take words: `inf`, `infinity`, `nan`.
    let (_, unsigned) = sign(&plain);
    if !unsigned.starts_with(|first: char| first == '.' || first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = plain.parse().ok()?;
    number.is_finite().then_some(number)
}

fn finite(number: f64) -> Result<Value, YamlProblem> {
    match Number::from_f64(number) {
        Some(number) => Ok(Value::Number(number)),
        None => Err(YamlProblem::Shape("a finite number")),
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

const NO_NUMBER: YamlProblem = YamlProblem::Shape("a number");

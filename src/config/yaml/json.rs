//! A tree as JSON, for `check`: plain scalars are what YAML's core schema says they are.
//!
//! With the readings of YAML 1.1 that Kubernetes' own reader has as well: `yes` is true,
//! `1_000` and `0b1` are numbers. What is not finite is null, as JSON has no word for it.

use serde_json::{Number, Value};

use super::{Content, Node, Scalar, TAGGED, Tag, YamlError, YamlProblem};

/// Reads a text of one document.
pub(crate) fn parse(text: &str) -> Result<Value, YamlError> {
    value(super::parse(text)?)
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
        Tag::Flag => scalar.flag().map(Value::Bool).ok_or(YamlProblem::Boolean),
        Tag::Integer => integer(text).map(Value::Number).ok_or(NO_NUMBER),
        Tag::Float => float(text).ok_or(NO_NUMBER),
        Tag::None | Tag::Merge if scalar.plain => Ok(scalar
            .flag()
            .map(Value::Bool)
            .or_else(|| integer(text).map(Value::Number))
            .or_else(|| float(text))
            .unwrap_or(Value::String(scalar.text))),
        tag if tag.is_text() => Ok(Value::String(scalar.text)),
        _ => Err(TAGGED),
    }
}

fn integer(text: &str) -> Option<Number> {
    let (negative, unsigned) = sign(text);
    let radix = unsigned.get(..2).and_then(|prefix| match prefix {
        "0x" | "0X" => Some(16),
        "0o" | "0O" => Some(8),
        "0b" | "0B" => Some(2),
        _ => None,
    });
    let (radix, digits) = match radix {
        Some(radix) => (radix, unsigned.get(2..)?),
        None if unsigned.starts_with('0') && unsigned != "0" => return None,
        None => (10, unsigned),
    };
    let mut groups = digits.split('_');
    if !groups.all(|group| !group.is_empty() && group.chars().all(|digit| digit.is_digit(radix))) {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

fn float(text: &str) -> Option<Value> {
    let (_, unsigned) = sign(text);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&unsigned) {
        return Some(Value::Null);
    }
    // Rust would also take words: `inf`, `infinity`, `nan`.
    if !unsigned.starts_with(|first: char| first == '.' || first.is_ascii_digit()) {
        return None;
    }
    text.parse::<f64>().ok().map(Value::from)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

const NO_NUMBER: YamlProblem = YamlProblem::Shape("a number");

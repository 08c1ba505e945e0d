//! What is found in files of Kubernetes: wrong things, doubtful things, and what to do.

use serde_json::Value;

/// What one file says wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    /// Works, or may be meant so.
    pub(super) warnings: Vec<String>,
}

/// It does not work.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    /// What, and where in the file.
    pub(super) what: String,
    /// What to do about it.
    pub(super) fix: String,
}

impl Findings {
    pub(super) fn error(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.errors.push(Finding {
            what: what.into(),
            fix: fix.into(),
        });
    }

    pub(super) fn warn(&mut self, what: impl Into<String>) {
        self.warnings.push(what.into());
    }
}

/// The text under a key of a mapping.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The entries of a list under a key; none when there is no list.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Whether something stands under a key.
pub(super) fn is_set(value: &Value, key: &str) -> bool {
    value.get(key).is_some_and(|value| !value.is_null())
}

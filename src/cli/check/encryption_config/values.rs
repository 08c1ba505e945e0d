//! JSON values as the strict decoder looks at them.

use serde_json::{Map, Value};

/// The fields of a mapping, or of nothing.
pub(super) struct Fields<'v>(pub(super) Option<&'v Map<String, Value>>);

impl<'v> Fields<'v> {
    pub(super) fn get(&self, name: &str) -> Option<&'v Value> {
        self.0?.get(name)
    }

    pub(super) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// YAML's `1e3` is one too.
pub(super) fn whole_number(value: &Value) -> Option<i32> {
    if let Some(number) = value.as_i64() {
        return i32::try_from(number).ok();
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    format!("{number}").parse().ok()
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

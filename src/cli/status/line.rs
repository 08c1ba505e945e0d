//! One line of `status`, and the words that its parts share.

use jiff::Timestamp;

use crate::cli::terminal::Severity;

/// What one line of the text says.
pub(super) struct Line {
    pub(super) severity: Severity,
    pub(super) text: String,
    /// On lines of their own below it.
    pub(super) more: String,
}

impl Line {
    pub(super) fn new(good: bool, otherwise: Severity, text: String) -> Self {
        Self {
            severity: if good { Severity::Ok } else { otherwise },
            text,
            more: String::new(),
        }
    }

    pub(super) fn and(self, more: &str) -> Self {
        Self {
            more: more.to_owned(),
            ..self
        }
    }
}

pub(super) fn some_text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// RFC 3339 to the second; `None` for never.
pub(super) fn time(unix_ms: u64) -> Option<String> {
    let seconds = i64::try_from(unix_ms / 1000)
        .ok()
        .filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds)
        .ok()
        .map(|time| time.to_string())
}

/// The same for a time that need not be of this age.
pub(super) fn date(unix_ms: i64) -> Option<String> {
    let time = Timestamp::from_second(unix_ms.div_euclid(1000)).ok()?;
    Some(time.to_string())
}

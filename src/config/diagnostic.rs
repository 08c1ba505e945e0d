//! An error or a warning about a configuration: one line for the operator.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use super::location::Position;
use super::redact;

/// What is wrong and how to fix it. Most are fixed texts.
pub(super) type Message = Cow<'static, str>;

/// An error or a warning about a configuration: where it is, what is wrong, and the
/// fix.
///
/// Its `Display` is one line. Invariant: no value of a secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    location: String,
    message: Message,
    missing_file_of: Option<Box<str>>,
}

impl Diagnostic {
    pub(super) fn new(location: impl fmt::Display, message: impl Into<Message>) -> Self {
        Self {
            location: location.to_string(),
            message: message.into(),
            missing_file_of: None,
        }
    }

    /// With the setting that names a file which does not exist.
    pub(super) fn with_missing_file_of(mut self, setting: impl fmt::Display) -> Self {
        self.missing_file_of = Some(setting.to_string().into());
        self
    }

    /// The location of the setting that names a missing file, if that is the problem.
    pub fn missing_file_of(&self) -> Option<&str> {
        self.missing_file_of.as_deref()
    }

    /// About a whole file.
    pub(super) fn of_file(file: &Path, message: impl Into<Message>) -> Self {
        Self::new(redact::path(file), message)
    }

    /// About a position in a file.
    pub(super) fn at(file: &Path, position: Position, message: impl Into<Message>) -> Self {
        Self::new(format_args!("{}:{position}", redact::path(file)), message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

impl std::error::Error for Diagnostic {}

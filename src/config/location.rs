//! Where a setting is: every message about a setting begins with its location.

use std::fmt;
use std::path::{Path, PathBuf};

use super::key::Key;
use super::redact;

/// A position in a text, both numbers counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: usize,
    /// The column: bytes in gcfg and TOML, characters in YAML.
    pub(crate) column: usize,
}

impl Position {
    /// The position of a byte of `text`.
    pub(super) fn of_offset(text: &[u8], offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |line_feed| line_feed + 1);
        Self {
            line: before.split(|byte| *byte == b'\n').count(),
            column: before.len() - start + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A setting in a file: `FILE:LINE:COLUMN: [Global] auth-url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) file: PathBuf,
    pub(super) position: Position,
    /// The setting as the file names it.
    pub(super) field: String,
}

impl Location {
    pub(super) fn of_key(file: &Path, position: Position, key: Key) -> Self {
        Self {
            file: file.to_owned(),
            position,
            field: key.to_string(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = redact::path(&self.file);
        write!(f, "{file}:{}: {}", self.position, self.field)
    }
}

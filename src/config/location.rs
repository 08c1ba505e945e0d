//! Where a setting stands: what every message about a setting begins with.

use std::fmt;
use std::path::{Path, PathBuf};

use super::key::Key;
use super::redact;

/// A place in a file, both numbers counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column: bytes in gcfg and TOML, characters in YAML.
    pub column: usize,
}

impl Position {
    /// The position of a byte of `text`.
    pub(super) fn of_offset(text: &str, offset: usize) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
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
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub at: Position,
    /// What stands there, in the file's own terms.
    pub field: String,
}

impl Place {
    pub(super) fn of_key(file: &Path, at: Position, key: Key) -> Self {
        Self {
            file: file.to_owned(),
            at,
            field: key.to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}",
            redact::path(&self.file),
            self.at,
            self.field
        )
    }
}

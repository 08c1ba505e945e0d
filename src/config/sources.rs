//! The files that a configuration consists of: read through a function that is
//! passed in, and remembered, so that a watcher knows where to look.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, FileError};
use super::location::Place;
use super::redact::{self, Shown};
use super::warning::Warning;

/// What reads a file; [`super::files::read`] outside of tests.
pub type ReadFile<'a> = dyn Fn(&Path) -> Result<Content, FileError> + 'a;

/// A file's contents.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// All of it. It may hold secrets.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Content({} bytes, mode {:04o})",
            self.bytes.len(),
            self.mode
        )
    }
}

/// Reads files and keeps the list of them.
pub(super) struct Sources<'a> {
    read: &'a ReadFile<'a>,
    working_directory: &'a Path,
    files: Vec<PathBuf>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(read: &'a ReadFile<'a>, working_directory: &'a Path) -> Self {
        Self {
            read,
            working_directory,
            files: Vec::new(),
        }
    }

    /// Every file that was read or looked for, in order, each once.
    pub(super) fn into_files(self) -> Vec<PathBuf> {
        self.files
    }

    /// Reads a file; a relative path counts from the working directory.
    pub(super) fn read(&mut self, path: &Path) -> Result<Content, FileError> {
        let path = self.absolute(path);
        let content = (self.read)(&path);
        if !self.files.contains(&path) {
            self.files.push(path);
        }
        content
    }

    /// Reads a file that a setting names, so it has to be there.
    pub(super) fn read_named(
        &mut self,
        path: &Path,
        named_by: &Place,
    ) -> Result<Content, ConfigError> {
        self.read(path).map_err(|error| ConfigError::File {
            file: self.shown(path),
            named_by: Some(named_by.clone()),
            error,
        })
    }

    /// Reads the first file of several that exists.
    pub(super) fn read_first(
        &mut self,
        candidates: &[PathBuf],
    ) -> Result<Option<(PathBuf, Content)>, ConfigError> {
        for path in candidates {
            match self.read(path) {
                Ok(content) => return Ok(Some((self.absolute(path), content))),
                Err(FileError::Missing) => {}
                Err(error) => {
                    return Err(ConfigError::File {
                        file: self.shown(path),
                        named_by: None,
                        error,
                    });
                }
            }
        }
        Ok(None)
    }

    /// The warning about a file with credentials that every user can read.
    pub(super) fn world_readable(&self, path: &Path, content: &Content) -> Option<Warning> {
        (content.mode & 0o004 != 0).then(|| Warning::WorldReadable {
            file: self.absolute(path),
            mode: content.mode,
        })
    }

    /// A file's name for messages: as somebody has written it, it may be something else.
    pub(super) fn shown(&self, path: &Path) -> Shown {
        let written = redact::path(path);
        if written.is_described() {
            written
        } else {
            redact::path(&self.absolute(path))
        }
    }

    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.working_directory.join(path)
    }
}

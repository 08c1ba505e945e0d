//! The files that a configuration consists of: read through a function that is
//! passed in, and remembered, so that the watcher knows what to watch.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::key::Key;
use super::location::Location;
use super::redact::{self, Redacted};

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

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, mode } = self;
        write!(f, "Content({} bytes, mode {mode:04o})", bytes.len())
    }
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not exist.
    #[error("there is no such file; create it or correct its name")]
    Missing,
    /// Its permissions do not allow it.
    #[error("permission denied; make it readable for the user of this process")]
    Denied,
    /// It is a directory.
    #[error("it is a directory; name a file in it")]
    Directory,
    /// It is a FIFO, a device or a socket.
    #[error("it is {0}; only regular files are read")]
    NotRegular(&'static str),
    /// It is longer than any file of its kind.
    #[error("it is longer than {limit} bytes, so it cannot be the right file")]
    TooLong {
        /// The longest length that is read.
        limit: usize,
    },
    /// Anything else.
    #[error("it cannot be read: {0}")]
    Io(ErrorKind),
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

    /// Reads a file; a relative path is relative to the working directory.
    pub(super) fn read(&mut self, path: &Path) -> Result<Content, FileError> {
        let path = self.absolute(path);
        let content = (self.read)(&path);
        if !self.files.contains(&path) {
            self.files.push(path);
        }
        content
    }

    /// Reads a file that a setting names, so it has to exist.
    pub(super) fn read_named(
        &mut self,
        path: &Path,
        named_by: &Location,
    ) -> Result<Content, Diagnostic> {
        self.read(path).map_err(|error| {
            let diagnostic = named_but_unreadable(&self.redacted(path), named_by, error);
            match error {
                FileError::Missing => diagnostic.with_missing_file_of(named_by),
                _ => diagnostic,
            }
        })
    }

    /// Reads the first file of several that exists.
    pub(super) fn read_first(
        &mut self,
        candidates: &[PathBuf],
    ) -> Result<Option<(PathBuf, Content)>, Diagnostic> {
        for path in candidates {
            match self.read(path) {
                Ok(content) => return Ok(Some((self.absolute(path), content))),
                Err(FileError::Missing) => {}
                Err(error) => return Err(self.unreadable(path, error)),
            }
        }
        Ok(None)
    }

    /// The error about a file that no setting names.
    pub(super) fn unreadable(&self, path: &Path, error: FileError) -> Diagnostic {
        let file = self.redacted(path);
        if file.is_redacted() {
            let location = format_args!("the path that is given ({file}, which is not shown)");
            Diagnostic::new(location, error.to_string())
        } else {
            Diagnostic::new(file, error.to_string())
        }
    }

    /// The warning about a file with credentials that every user can read.
    pub(super) fn world_readable(&self, path: &Path, content: &Content) -> Option<Diagnostic> {
        let mode = content.mode;
        let message = || {
            format!(
                "every user of the host can read the credentials in it (mode {mode:04o}); run \
                 `chmod 600` on it"
            )
        };
        (mode & 0o004 != 0).then(|| Diagnostic::of_file(&self.absolute(path), message()))
    }

    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.working_directory.join(path)
    }

    /// A file's name for messages. What is written as a path may be a secret instead.
    fn redacted(&self, path: &Path) -> Redacted {
        let written = redact::path(path);
        if written.is_redacted() {
            written
        } else {
            redact::path(&self.absolute(path))
        }
    }
}

/// The error about a file that a setting names, or about a value that is no path at
/// all.
fn named_but_unreadable(file: &Redacted, named_by: &Location, error: FileError) -> Diagnostic {
    if !file.is_redacted() {
        let location = format_args!("{file} (named by {named_by})");
        return Diagnostic::new(location, error.to_string());
    }
    let inline = if named_by.field == Key::CaFile.to_string() {
        ", or give the certificate as `cafilecontents`"
    } else {
        ""
    };
    let found = format!("found {file} where the path of a file is expected");
    if file.is_pem() {
        let message = format!("{found}; store it in a file and write its path here{inline}");
        return Diagnostic::new(named_by, message);
    }
    let error = match error {
        FileError::Missing => "there is no file of this name".to_owned(),
        other => format!("such a file cannot be read ({other})"),
    };
    Diagnostic::new(
        named_by,
        format!(
            "{found}, and {error}; correct the path, or if this is the content, store it in a \
             file and write its path here{inline}"
        ),
    )
}

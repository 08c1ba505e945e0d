//! Why a configuration is refused.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::clouds_yaml::CloudsError;
use super::file_type::Form;
use super::gcfg::GcfgError;
use super::key::Key;
use super::location::Place;
use super::redact::{self, Shown};
use super::refusal::Refusal;
use super::toml::TomlError;
use super::warning::Warning;

/// A configuration that is refused, with what is known of it nevertheless.
///
/// Its `Display` is that of the error.
pub struct LoadError {
    /// Why.
    pub error: Box<ConfigError>,
    /// What had been noticed by then.
    pub warnings: Vec<Warning>,
    /// Every file that was read or looked for: a change of one of them is a
    /// reason to try again.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for LoadError {
    /// Whatever is taken for the path of a file may be something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadError")
            .field("error", &self.error)
            .field("warnings", &self.warnings)
            .field("files", &self.files.len())
            .finish()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for LoadError {}

/// Why a configuration is refused: the file, the place, the shape that is wanted
/// and what to do, in one line and without any value of a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{}", of_file(file, named_by.as_ref(), error))]
    File {
        /// The file.
        file: Shown,
        /// The setting that names it.
        named_by: Option<Place>,
        /// Why not.
        error: FileError,
    },
    /// What is there is no cloud-config at all.
    #[error("{}: {form}", redact::path(file))]
    Form {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        form: Form,
    },
    /// A cloud-config is not valid gcfg.
    #[error("{}:{error}", redact::path(file))]
    Gcfg {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: GcfgError,
    },
    /// A cloud-config whose name ends in `.toml` is not valid.
    #[error("{}:{error}", redact::path(file))]
    Toml {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: TomlError,
    },
    /// clouds.yaml, or a file that belongs to it, is missing or not valid.
    #[error(transparent)]
    Clouds(#[from] CloudsError),
    /// A setting has a value that it cannot have, at least beside the others.
    #[error("{place}: {refusal}")]
    Setting {
        /// Which one.
        place: Box<Place>,
        /// Why.
        refusal: Refusal,
    },
    /// A setting is missing.
    #[error("{}: {refusal}", redact::path(file))]
    Missing {
        /// The cloud-config.
        file: PathBuf,
        /// Which one, and why it is needed.
        refusal: Refusal,
    },
}

/// The file, the setting that names it, and why not; or, where that names something which
/// is hardly a file, what to do instead.
fn of_file(file: &Shown, named_by: Option<&Place>, error: &FileError) -> String {
    let Some(place) = named_by else {
        return if file.is_described() {
            format!("the path that is given ({file}, which is not shown): {error}")
        } else {
            format!("{file}: {error}")
        };
    };
    if !file.is_described() {
        return format!("{file} (named by {place}): {error}");
    }
    let inline = if place.field == Key::CaFile.to_string() {
        ", or give the certificate as `cafilecontents`"
    } else {
        ""
    };
    if file.is_pem() {
        return format!(
            "{place}: {file} stands where the path of a file belongs; store it in a file and name \
             that{inline}"
        );
    }
    let error = match error {
        FileError::Missing => "there is no file of this name".to_owned(),
        other => format!("reading such a file fails ({other})"),
    };
    format!(
        "{place}: {file} stands where the path of a file belongs, and {error}; correct the path, \
         or if this is the content, store it in a file and name that{inline}"
    )
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not exist.
    #[error("there is no such file; create it or correct its name")]
    Missing,
    /// Its permissions do not allow it.
    #[error("permission denied; let the user that this process runs as read it")]
    Denied,
    /// It is a directory.
    #[error("it is a directory; name a file in it")]
    Directory,
    /// It is a FIFO, a device or a socket.
    #[error("it is {0}; only regular files are read")]
    NotRegular(&'static str),
    /// It is longer than anything sensible.
    #[error("it is longer than {limit} bytes; that cannot be the right file")]
    TooLong {
        /// The longest length that is read.
        limit: usize,
    },
    /// Anything else.
    #[error("reading it fails: {0}")]
    Io(ErrorKind),
}

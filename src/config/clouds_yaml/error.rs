//! Why no entry of clouds.yaml could be read.

use std::path::PathBuf;

use crate::config::file_type::Form;
use crate::config::location::{Place, Position};
use crate::config::redact::{self, Shown};
use crate::config::yaml::YamlProblem;

/// Why no entry could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudsError {
    /// There is no clouds.yaml.
    #[error(
        "{place}: there is no {file}; looked for {}; create one of them, or name it with \
         clouds-file", list(searched.iter().map(|path| redact::path(path)))
    )]
    NoFile {
        /// The setting that wants it.
        place: Box<Place>,
        /// What was looked for.
        file: &'static str,
        /// Where.
        searched: Vec<PathBuf>,
    },
    /// There is no file with the entry that `profile` or `cloud` names.
    #[error(
        "{place}: it has the rest of the entry taken from clouds-public.yaml, and there is none; \
         looked for {}; remove the line and write auth_url and the rest into the entry itself \
         (no vendors are built in)", list(searched.iter().map(|path| redact::path(path)))
    )]
    NoPublicFile {
        /// The key of the entry.
        place: Box<Place>,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// What is there is no clouds.yaml at all.
    #[error("{}: {form}", redact::path(file))]
    Form {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        form: Form,
    },
    /// A file that cannot be read as YAML of the right shape.
    #[error("{}:{at}: {problem}", redact::path(file))]
    Yaml {
        /// The file.
        file: PathBuf,
        /// Where in it.
        at: Position,
        /// What is wrong.
        problem: YamlProblem,
    },
    /// No entry at all.
    #[error(
        "{}: there is no cloud in it; add one below `clouds:`",
        redact::path(file)
    )]
    NoCloud {
        /// clouds.yaml.
        file: PathBuf,
    },
    /// Several entries and none chosen.
    #[error(
        "{}: there are several clouds ({}); name one with `cloud = NAME` in [Global] or with \
         OS_CLOUD", redact::path(file), list(names.iter())
    )]
    SeveralClouds {
        /// clouds.yaml.
        file: PathBuf,
        /// The entries.
        names: Vec<Shown>,
    },
    /// No entry of the wanted name.
    #[error(
        "{place}: there is no cloud of this name in {}; there is {}", redact::path(file),
        list(names.iter())
    )]
    NoSuchCloud {
        /// What names it.
        place: Box<Place>,
        /// clouds.yaml or clouds-public.yaml.
        file: PathBuf,
        /// The entries.
        names: Vec<Shown>,
    },
    /// No entry has anything to log in with.
    #[error(
        "{}: cloud {} has no `auth:`; add it with auth_url and credentials",
        redact::path(file),
        name
    )]
    NoAuth {
        /// clouds.yaml.
        file: PathBuf,
        /// The entry.
        name: Shown,
    },
}

fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let texts: Vec<_> = items.map(|item| item.to_string()).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

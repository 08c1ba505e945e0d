//! The entry point: from the path of a cloud-config to [`Live`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::settings::Live;
use super::sources::{ReadFile, Sources};
use super::{clouds_yaml, file_type, gcfg, resolve, toml, typography};

/// A valid configuration.
#[derive(PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub live: Arc<Live>,
    /// What the operator should know about it.
    pub warnings: Vec<Diagnostic>,
    /// Every file that was read or looked for: a change of one of them can change
    /// the configuration.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("live", &self.live)
            .field("warnings", &self.warnings)
            .field("files", &self.files.len())
            .finish()
    }
}

/// Why a configuration is refused. Its `Display` is that of the error.
pub struct LoadError {
    /// The first error.
    pub error: Diagnostic,
    /// The warnings up to there.
    pub warnings: Vec<Diagnostic>,
    /// Every file that was read or looked for: a change of one of them is a
    /// reason to try again.
    pub files: Vec<PathBuf>,
}

impl LoadError {
    /// The error that reading a cloud-config has panicked; `files` are those of the
    /// reading before.
    pub(super) fn crashed(cloud_config: &Path, files: Vec<PathBuf>) -> Self {
        Self {
            error: Diagnostic::of_file(cloud_config, CRASHED),
            warnings: Vec::new(),
            files,
        }
    }
}

const CRASHED: &str = "reading it crashed, which is a bug: please report the preceding log lines, \
                       and undo the last change of the file";

impl fmt::Debug for LoadError {
    /// Without the paths: a secret may be in the place of one.
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

/// Whether a cloud-config of this name is TOML: when it ends in exactly `.toml`. Any
/// other one is in the gcfg dialect.
pub fn is_toml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// Reads a cloud-config and every file that it names.
///
/// # Errors
/// On the first file that cannot be read and the first invalid setting, with the
/// list of files, so that the watcher knows what to wait for.
pub fn load(
    path: &Path,
    environment: &Environment,
    read: &ReadFile<'_>,
) -> Result<Loaded, LoadError> {
    let mut sources = Sources::new(read, &environment.working_directory);
    let mut warnings = Vec::new();
    let live = assemble(path, environment, &mut sources, &mut warnings);
    let files = sources.into_files();
    match live {
        Ok(live) => Ok(Loaded {
            live: Arc::new(live),
            warnings,
            files,
        }),
        Err(error) => Err(LoadError {
            error,
            warnings,
            files,
        }),
    }
}

fn assemble(
    path: &Path,
    environment: &Environment,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Live, Diagnostic> {
    let file = sources.absolute(path);
    let content = sources
        .read(path)
        .map_err(|error| sources.unreadable(path, error))?;
    let read = if is_toml(path) {
        toml::read(&file, &content.bytes, warnings)
    } else {
        gcfg::read(&file, &content.bytes, warnings)
    };
    // "Illegal character" does not help somebody whose file is base64.
    let mut raw = read.map_err(|error| {
        file_type::of_cloud_config(&content.bytes)
            .map_or(error, |message| Diagnostic::of_file(&file, message))
    })?;
    if raw.holds_secret() {
        warnings.extend(sources.world_readable(&file, &content));
    }
    if let Some(entry) = clouds_yaml::read(&raw, environment, sources, warnings)? {
        clouds_yaml::merge(&mut raw, entry, warnings);
    }
    typography::check(&raw, warnings);
    resolve::resolve(raw, environment.proxy.clone(), sources, warnings)
}

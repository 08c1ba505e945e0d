//! The front door: from the path of a cloud-config to [`Live`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clouds_yaml;
use super::error::{ConfigError, LoadError};
use super::sources::{ReadFile, Sources};
use super::warning::Warning;
use super::{Live, Proxy, file_type, gcfg, redact, resolve, toml, typography};

/// What is taken from the process's environment rather than from files.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `OS_CLOUD`: the entry of clouds.yaml, unless the cloud-config names one.
    pub cloud: Option<String>,
    /// `OS_CLIENT_CONFIG_FILE`: clouds.yaml, unless the cloud-config names it.
    pub client_config_file: Option<PathBuf>,
    /// `OS_CLIENT_SECURE_FILE`: secure.yaml.
    pub client_secure_file: Option<PathBuf>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// What relative paths count from.
    pub working_directory: PathBuf,
    /// The proxies.
    pub proxy: Proxy,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path =
            |path: &Option<PathBuf>| path.as_deref().map(|path| redact::path(path).to_string());
        f.debug_struct("Environment")
            .field("cloud", &self.cloud.is_some())
            .field("client_config_file", &path(&self.client_config_file))
            .field("client_secure_file", &path(&self.client_secure_file))
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// A configuration that can be used.
#[derive(PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub live: Arc<Live>,
    /// What the operator should know about it.
    pub warnings: Vec<Warning>,
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

/// Whether a cloud-config of this name is TOML: when it ends in `.toml`, to the letter. Any
/// other one is in the gcfg dialect.
pub fn is_toml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// Reads a cloud-config and every file that it names.
///
/// # Errors
/// On the first file that cannot be read and the first setting that cannot be
/// used; with the list of files, so that the watcher knows what to wait for.
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
            error: Box::new(error),
            warnings,
            files,
        }),
    }
}

fn assemble(
    path: &Path,
    environment: &Environment,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Live, ConfigError> {
    let file = sources.absolute(path);
    let content = sources.read(path).map_err(|error| ConfigError::File {
        file: sources.shown(path),
        named_by: None,
        error,
    })?;
    let mut raw = if is_toml(path) {
        toml::read(&file, &content.bytes, warnings).map_err(|error| {
            of_form(&content.bytes, &file).unwrap_or(ConfigError::Toml {
                file: file.clone(),
                error,
            })
        })?
    } else {
        gcfg::read(&file, &content.bytes, warnings).map_err(|error| {
            of_form(&content.bytes, &file).unwrap_or(ConfigError::Gcfg {
                file: file.clone(),
                error,
            })
        })?
    };
    if raw.holds_secret() {
        warnings.extend(sources.world_readable(&file, &content));
    }
    if let Some(entry) = clouds_yaml::read(&raw, environment, sources, warnings)? {
        clouds_yaml::merge(&mut raw, entry, warnings);
    }
    typography::warn(&raw, warnings);
    resolve::decide(raw, environment.proxy.clone(), sources, warnings)
}

/// The error that a file is of another kind altogether, if that is to be seen.
fn of_form(bytes: &[u8], file: &Path) -> Option<ConfigError> {
    let form = file_type::of_cloud_config(bytes)?;
    let file = file.to_owned();
    Some(ConfigError::Form { file, form })
}

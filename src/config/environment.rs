//! What the process's environment adds to the configuration files.
//!
//! Filled in by [`super::files`].

use std::fmt;
use std::path::PathBuf;

use super::redact;
use super::settings::Proxy;

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
    /// What relative paths are relative to.
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

//! The configuration: typed settings, and how files become them.
//!
//! [`Live`] is everything that the cloud-config says; all of it can change while the
//! process runs. What needs a restart is on the command line only, see `ServeOptions` in
//! `serve`. Three parts, from the bottom up:
//!
//! - `settings`: what a configuration means, checked.
//! - The reader of the cloud-config, [`load()`]. The dialects `gcfg` and `toml` and the
//!   entry of `clouds_yaml` become `raw`, what the files say; `resolve` turns that into
//!   settings. Every error and warning is a [`Diagnostic`], which shows no more of a
//!   value than [`redact`] allows.
//! - [`watch`], which reads the files again when they change, by [`files`].

mod clouds_yaml;
mod diagnostic;
mod environment;
mod file_type;
pub mod files;
mod gcfg;
mod key;
mod load;
mod location;
mod raw;
pub mod redact;
mod resolve;
mod settings;
mod sources;
mod toml;
mod typography;
pub mod watch;
mod yaml;

pub use diagnostic::Diagnostic;
pub use environment::Environment;
pub use key::{Key, Section};
pub use load::{LoadError, Loaded, is_toml, load};
pub(crate) use resolve::{escaped_url, parse_duration};
pub(crate) use settings::short_digest;
pub use settings::{
    ClientCertificate, Cloud, Container, Domain, Identity, Interface, Live, Proxy, ProxyUrl, Ring,
    Roots, Scope, Tls, User,
};
pub use sources::{Content, FileError, ReadFile};
pub(crate) use yaml::YamlProblem;
pub(crate) use yaml::{
    parse_first_json as parse_first_yaml, parse_first_leniently, parse_json as parse_yaml,
};

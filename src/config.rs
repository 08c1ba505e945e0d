//! What the sidecar is told to do: typed settings, and how files become them.
//!
//! [`Live`] is everything the cloud-config says; all of it can change while the
//! process runs. What needs a restart is on the command line only, see `Boot` in
//! `serve`. Raw file structures stay inside the modules that read them: a value of
//! these types has been checked.

mod clouds_yaml;
mod error;
mod file_type;
pub mod files;
mod gcfg;
mod key;
mod load;
mod location;
mod raw;
pub mod redact;
mod refusal;
mod resolve;
mod settings;
mod sources;
mod toml;
mod typography;
mod warning;
pub mod watch;
mod yaml;

pub use clouds_yaml::{CloudsError, EntryDoubt};
pub use error::{ConfigError, FileError, LoadError};
pub use file_type::Form;
pub use gcfg::{GcfgError, Problem as GcfgProblem};
pub use key::{Key, Section};
pub use load::{Environment, Loaded, is_toml, load};
pub use location::{Place, Position};
pub use refusal::Refusal;
pub use resolve::certificates::CertificateError;
pub(crate) use resolve::duration::parse_duration;
pub(crate) use resolve::url::escaped_url;
pub use sources::{Content, ReadFile};
pub use toml::{TomlError, TomlProblem};
pub use typography::OddMarks;
pub use warning::{Ineffective, Warning};
pub use yaml::YamlProblem;
pub(crate) use yaml::{parse_first_json as parse_first_yaml, parse_json as parse_yaml};

pub use settings::{
    ClientCertificate, Cloud, Domain, Identity, Interface, Live, Proxy, Ring, Roots, Scope, Tls,
    User,
};

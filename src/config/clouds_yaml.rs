//! clouds.yaml and the files around it: where they are looked for, and which
//! entry counts.
//!
//! Called by [`super::load()`] when `use-clouds` is set. What an entry may say is in
//! [`entry`]. The search is the Go plugin's, but a file that is named must exist,
//! and secure.yaml counts for an entry that was not named as well.

mod entry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use entry::{Document, Entry};

use super::error::ConfigError;
use super::key::Key;
use super::load::Environment;
use super::place::{Place, Position};
use super::raw::{Raw, Setting, Value};
use super::sources::{Content, Sources};
use super::warning::Warning;
use super::yaml::YamlProblem;

/// Why no entry could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudsError {
    /// There is no clouds.yaml.
    #[error(
        "{place}: there is no {file}; looked for {}; create one of them, or name it with \
         clouds-file", list(searched.iter().map(|path| path.display()))
    )]
    NoFile {
        /// The setting that wants it.
        place: Box<Place>,
        /// What was looked for.
        file: &'static str,
        /// Where.
        searched: Vec<PathBuf>,
    },
    /// A file that cannot be read as YAML of the right shape.
    #[error("{}:{at}: {problem}", file.display())]
    Yaml {
        /// The file.
        file: PathBuf,
        /// Where in it.
        at: Position,
        /// What is wrong.
        problem: YamlProblem,
    },
    /// No entry at all.
    #[error("{}: there is no cloud in it; add one below `clouds:`", file.display())]
    NoCloud {
        /// clouds.yaml.
        file: PathBuf,
    },
    /// Several entries and none chosen.
    #[error(
        "{}: there are several clouds ({}); name one with `cloud = NAME` in [Global] or with \
         OS_CLOUD", file.display(), list(names.iter())
    )]
    SeveralClouds {
        /// clouds.yaml.
        file: PathBuf,
        /// The entries.
        names: Vec<String>,
    },
    /// No entry of the wanted name.
    #[error("{}: there is no cloud {name}; there is {}", file.display(), list(names.iter()))]
    NoSuchCloud {
        /// clouds.yaml or clouds-public.yaml.
        file: PathBuf,
        /// The wanted name.
        name: String,
        /// The entries.
        names: Vec<String>,
    },
    /// No entry has anything to log in with.
    #[error("{}: cloud {name} has no `auth:`; add it with auth_url and credentials", file.display())]
    NoAuth {
        /// clouds.yaml.
        file: PathBuf,
        /// The entry.
        name: String,
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

/// Reads the settings that clouds.yaml adds to those of a cloud-config.
///
/// # Errors
/// When there is no file, no entry, or when a file cannot be read.
pub(super) fn read(
    raw: &Raw,
    environment: &Environment,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<BTreeMap<Key, Setting>, ConfigError> {
    let place = match raw.get(Key::UseClouds) {
        Some(setting) => setting.place.clone(),
        None => return Ok(BTreeMap::new()),
    };
    let mut finder = Finder {
        environment,
        sources,
        warnings,
        place,
    };
    let named = raw
        .get(Key::CloudsFile)
        .map(|setting| (text(setting), setting.place.clone()));
    let clouds = finder.clouds(named)?;
    let wanted = raw
        .get(Key::Cloud)
        .map(text)
        .or_else(|| environment.cloud.clone());
    let secure = finder.secure()?;

    let (name, mut entry) = choose(clouds, wanted, secure.as_ref())?;
    if let Some(profile) = entry.profile() {
        let public = finder.public(&profile)?;
        entry = entry.or(public);
    }
    if let Some(mut secure) = secure
        && let Some(overriding) = secure.entries.remove(&name.name)
    {
        entry = overriding.or(entry);
    }
    if !entry.has_auth() {
        return Err(CloudsError::NoAuth {
            file: name.file,
            name: name.name,
        }
        .into());
    }
    Ok(entry.into_settings(environment.home.as_deref()))
}

/// The name of an entry, and the file that it stands in.
struct EntryName {
    file: PathBuf,
    name: String,
}

/// Chooses the entry: the named one, else the only one of clouds.yaml, else, as in Go, the
/// only one of secure.yaml, which then has to hold all of it.
fn choose(
    mut clouds: Document,
    wanted: Option<String>,
    secure: Option<&Document>,
) -> Result<(EntryName, Entry), ConfigError> {
    let only = |entries: &BTreeMap<String, Entry>| {
        let mut names = entries.keys().cloned();
        names.next().filter(|_| names.next().is_none())
    };
    let file = clouds.file.clone();
    let Some(name) = wanted.or_else(|| only(&clouds.entries)) else {
        if let Some(name) = secure.and_then(|secure| only(&secure.entries)) {
            return Ok((EntryName { file, name }, Entry::default()));
        }
        let names: Vec<_> = clouds.entries.into_keys().collect();
        return Err(if names.is_empty() {
            CloudsError::NoCloud { file }.into()
        } else {
            CloudsError::SeveralClouds { file, names }.into()
        });
    };
    let in_secure = || secure.is_some_and(|secure| secure.entries.contains_key(&name));
    let entry = match clouds.entries.remove(&name) {
        Some(entry) => entry,
        None if clouds.entries.is_empty() && in_secure() => Entry::default(),
        None => {
            let names = clouds.entries.into_keys().collect();
            return Err(CloudsError::NoSuchCloud { file, name, names }.into());
        }
    };
    Ok((EntryName { file, name }, entry))
}

fn text(setting: &Setting) -> String {
    match &setting.value {
        Value::Text(text) => text.clone(),
        Value::Flag(_) | Value::List(_) => String::new(),
    }
}

/// Finds and reads the files.
struct Finder<'a, 's> {
    environment: &'a Environment,
    sources: &'a mut Sources<'s>,
    warnings: &'a mut Vec<Warning>,
    /// The setting on whose behalf files are looked for.
    place: Place,
}

impl Finder<'_, '_> {
    fn clouds(&mut self, named: Option<(String, Place)>) -> Result<Document, ConfigError> {
        let (file, content) = match (named, &self.environment.client_config_file) {
            (Some((path, place)), _) => {
                let path = PathBuf::from(path);
                let content = self.sources.read_named(&path, &place)?;
                (self.sources.absolute(&path), content)
            }
            (None, Some(path)) => self.named_by_variable(path, "OS_CLIENT_CONFIG_FILE")?,
            (None, None) => self
                .search("clouds")?
                .ok_or_else(|| self.no_file("clouds.yaml"))?,
        };
        self.parse(file, &content, "clouds")
    }

    fn secure(&mut self) -> Result<Option<Document>, ConfigError> {
        let found = match &self.environment.client_secure_file {
            Some(path) => Some(self.named_by_variable(path, "OS_CLIENT_SECURE_FILE")?),
            None => self.search("secure")?,
        };
        found
            .map(|(file, content)| self.parse(file, &content, "clouds"))
            .transpose()
    }

    fn public(&mut self, profile: &str) -> Result<Entry, ConfigError> {
        let (file, content) = self
            .search("clouds-public")?
            .ok_or_else(|| self.no_file("clouds-public.yaml"))?;
        let mut document = self.parse(file, &content, "public-clouds")?;
        document.entries.remove(profile).ok_or_else(|| {
            ConfigError::Clouds(CloudsError::NoSuchCloud {
                name: profile.to_owned(),
                names: document.entries.keys().cloned().collect(),
                file: document.file.clone(),
            })
        })
    }

    fn named_by_variable(
        &mut self,
        path: &Path,
        variable: &'static str,
    ) -> Result<(PathBuf, Content), ConfigError> {
        let place = Place {
            field: format!("use-clouds with {variable}"),
            ..self.place.clone()
        };
        let content = self.sources.read_named(path, &place)?;
        Ok((self.sources.absolute(path), content))
    }

    fn search(&mut self, stem: &str) -> Result<Option<(PathBuf, Content)>, ConfigError> {
        self.sources.read_first(&self.candidates(stem))
    }

    /// Every `.yaml` before every `.yml`.
    fn candidates(&self, stem: &str) -> Vec<PathBuf> {
        let home = self.environment.home.as_ref();
        let directories = [
            Some(self.environment.working_directory.clone()),
            home.map(|home| home.join(".config/openstack")),
            Some(PathBuf::from("/etc/openstack")),
        ];
        ["yaml", "yml"]
            .iter()
            .flat_map(|extension| {
                let name = format!("{stem}.{extension}");
                directories
                    .iter()
                    .flatten()
                    .map(move |directory| directory.join(&name))
            })
            .collect()
    }

    fn no_file(&self, file: &'static str) -> ConfigError {
        let stem = file.trim_end_matches(".yaml");
        ConfigError::Clouds(CloudsError::NoFile {
            place: Box::new(self.place.clone()),
            file,
            searched: self.candidates(stem),
        })
    }

    fn parse(
        &mut self,
        file: PathBuf,
        content: &Content,
        top: &'static str,
    ) -> Result<Document, ConfigError> {
        let document = Document::parse(&file, &content.bytes, top)
            .map_err(|(at, problem)| CloudsError::Yaml { file, at, problem })?;
        if document.holds_secret() {
            let warning = self.sources.world_readable(&document.file, content);
            self.warnings.extend(warning);
        }
        Ok(document)
    }
}

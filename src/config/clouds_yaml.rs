//! clouds.yaml and the files around it: where they are looked for, and which
//! entry counts.
//!
//! Called by [`super::load()`] for `use-clouds` or `cloud`. What an entry may say is in
//! [`entry`], what comes of it in [`merge`]. The search is the Go plugin's, but a file
//! that is named must exist, and secure.yaml counts for an entry that was not named as
//! well.

mod entry;
mod error;
mod merge;
mod unknown_keys;

pub use error::CloudsError;
pub(super) use merge::{Chosen, merge};
pub use unknown_keys::EntryDoubt;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use entry::{Document, Entry};

use super::error::ConfigError;
use super::file_type;
use super::key::Key;
use super::load::Environment;
use super::location::Place;
use super::raw::{Raw, Setting, Value};
use super::redact::{self, Shown};
use super::sources::{Content, Sources};
use super::warning::{Ineffective, Warning};

/// Reads the settings that clouds.yaml adds to those of a cloud-config.
///
/// Without `use-clouds`, the Go plugin looks for them all the same as soon as `cloud` is
/// set; where there is no file, it does not start, and here the cloud-config counts alone.
///
/// # Errors
/// When there is no file, no entry, or when a file cannot be read.
pub(super) fn read(
    raw: &Raw,
    environment: &Environment,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Chosen>, ConfigError> {
    let use_clouds = raw.flag(Key::UseClouds);
    let named_by = raw.get(Key::Cloud).map(|setting| setting.place.clone());
    let clouds_file = raw.get(Key::CloudsFile).filter(|setting| {
        if !use_clouds {
            warnings.push(without_use_clouds(setting.place.clone()));
        }
        use_clouds
    });
    let flag = raw.get(Key::UseClouds).filter(|_| use_clouds);
    let Some(place) = flag.or(raw.get(Key::Cloud)).map(|flag| flag.place.clone()) else {
        return Ok(None);
    };
    let mut finder = Finder {
        environment,
        sources,
        warnings,
        word: if use_clouds { "use-clouds" } else { "cloud" },
        place,
    };
    let named = clouds_file.map(|setting| (text(setting), setting.place.clone()));
    let clouds = match finder.clouds(named)? {
        Some(clouds) => clouds,
        None if use_clouds => return Err(finder.no_file("clouds.yaml")),
        None => {
            let place = finder.place;
            warnings.push(without_use_clouds(place));
            return Ok(None);
        }
    };
    let wanted = match raw.get(Key::Cloud) {
        Some(setting) => Some((text(setting), setting.place.clone())),
        None => environment
            .cloud
            .clone()
            .map(|name| (name, finder.by_variable("OS_CLOUD"))),
    };
    let secure = finder.secure()?;

    let (name, mut entry) = choose(clouds, wanted, secure.as_ref())?;
    if let Some((profile, place)) = entry.profile() {
        let public = finder.public(&profile, place)?;
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
            name: redact::name(&name.name),
        }
        .into());
    }
    warnings.append(&mut entry.take_doubts());
    if let Some(place) = named_by.clone().filter(|_| !use_clouds) {
        warnings.push(Warning::CloudAlone(place));
    }
    Ok(Some(Chosen {
        settings: entry.into_settings(environment.home.as_deref()),
        named_by,
        use_clouds,
    }))
}

fn without_use_clouds(place: Place) -> Warning {
    Warning::Ineffective {
        place,
        reason: Ineffective::WithoutUseClouds,
    }
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
    wanted: Option<(String, Place)>,
    secure: Option<&Document>,
) -> Result<(EntryName, Entry), ConfigError> {
    let only = |entries: &BTreeMap<String, Entry>| {
        let mut names = entries.keys().cloned();
        names.next().filter(|_| names.next().is_none())
    };
    let file = clouds.file.clone();
    let (wanted, place) = wanted.unzip();
    let Some(name) = wanted.or_else(|| only(&clouds.entries)) else {
        if let Some(name) = secure.and_then(|secure| only(&secure.entries)) {
            return Ok((EntryName { file, name }, Entry::default()));
        }
        let names = shown_names(&clouds.entries);
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
            let names = shown_names(&clouds.entries);
            // Only a name that somebody has given can be missing.
            return Err(match place.map(Box::new) {
                Some(place) => CloudsError::NoSuchCloud { place, file, names }.into(),
                None => CloudsError::NoCloud { file }.into(),
            });
        }
    };
    Ok((EntryName { file, name }, entry))
}

fn shown_names(entries: &BTreeMap<String, Entry>) -> Vec<Shown> {
    entries.keys().map(|name| redact::name(name)).collect()
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
    /// What that is called.
    word: &'static str,
}

impl Finder<'_, '_> {
    fn clouds(&mut self, named: Option<(String, Place)>) -> Result<Option<Document>, ConfigError> {
        let (file, content) = match (named, &self.environment.client_config_file) {
            (Some((path, place)), _) => {
                let path = PathBuf::from(path);
                let content = self.sources.read_named(&path, &place)?;
                (self.sources.absolute(&path), content)
            }
            (None, Some(path)) => self.named_by_variable(path, "OS_CLIENT_CONFIG_FILE")?,
            (None, None) => match self.search("clouds")? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        self.parse(file, &content, "clouds").map(Some)
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

    fn public(&mut self, profile: &str, place: Place) -> Result<Entry, ConfigError> {
        let place = Box::new(place);
        let Some((file, content)) = self.search("clouds-public")? else {
            let searched = self.candidates("clouds-public");
            return Err(CloudsError::NoPublicFile { place, searched }.into());
        };
        let mut document = self.parse(file, &content, "public-clouds")?;
        document.entries.remove(profile).ok_or_else(|| {
            ConfigError::Clouds(CloudsError::NoSuchCloud {
                place,
                names: shown_names(&document.entries),
                file: document.file.clone(),
            })
        })
    }

    fn named_by_variable(
        &mut self,
        path: &Path,
        variable: &'static str,
    ) -> Result<(PathBuf, Content), ConfigError> {
        let place = self.by_variable(variable);
        let content = self.sources.read_named(path, &place)?;
        Ok((self.sources.absolute(path), content))
    }

    fn by_variable(&self, variable: &'static str) -> Place {
        Place {
            field: format!("{} with {variable}", self.word),
            ..self.place.clone()
        }
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
        let document = Document::parse(&file, &content.bytes, top).map_err(|(at, problem)| {
            match file_type::of_clouds_yaml(&content.bytes) {
                Some(form) => CloudsError::Form { file, form },
                None => CloudsError::Yaml { file, at, problem },
            }
        })?;
        if document.holds_secret() {
            let warning = self.sources.world_readable(&document.file, content);
            self.warnings.extend(warning);
        }
        Ok(document)
    }
}

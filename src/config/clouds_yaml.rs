//! clouds.yaml and the files around it: where they are searched for, and which
//! entry is used.
//!
//! Called by [`super::load()`] for `use-clouds` or `cloud`. [`entry`] parses an entry,
//! [`mod@merge`] combines it with the cloud-config. The search is the Go plugin's, with two
//! differences: a file that is named must exist, and secure.yaml applies also to an
//! entry that is not named.

mod entry;
mod fields;
mod merge;
mod unknown_keys;

pub(super) use merge::{Chosen, merge};

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use entry::{Document, Entry};

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::key::Key;
use super::location::Location;
use super::raw::{Raw, Setting, Value};
use super::sources::{Content, Sources};
use super::{file_type, redact};

/// Reads the settings that clouds.yaml adds to those of a cloud-config.
///
/// As in the Go plugin, `cloud` alone is enough to look for them. Where there is no
/// clouds.yaml then, the Go plugin does not start; here only the cloud-config is used.
///
/// # Errors
/// When there is no file or no entry, or when a file cannot be read.
pub(super) fn read(
    raw: &Raw,
    environment: &Environment,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<Chosen>, Diagnostic> {
    let use_clouds = raw.flag(Key::UseClouds);
    let named_by = raw.get(Key::Cloud).map(|setting| setting.location.clone());
    let clouds_file = raw.get(Key::CloudsFile).filter(|setting| {
        if !use_clouds {
            warnings.push(Diagnostic::new(&setting.location, WITHOUT_USE_CLOUDS));
        }
        use_clouds
    });
    let flag = raw.get(Key::UseClouds).filter(|_| use_clouds);
    let Some(location) = flag
        .or(raw.get(Key::Cloud))
        .map(|flag| flag.location.clone())
    else {
        return Ok(None);
    };
    let mut finder = Finder {
        environment,
        sources,
        warnings,
        word: if use_clouds { "use-clouds" } else { "cloud" },
        location,
    };
    let named = clouds_file.map(|setting| (text(setting), setting.location.clone()));
    let clouds = match finder.clouds(named)? {
        Some(clouds) => clouds,
        None if use_clouds => return Err(finder.no_file()),
        None => {
            let warning = Diagnostic::new(&finder.location, WITHOUT_USE_CLOUDS);
            warnings.push(warning);
            return Ok(None);
        }
    };
    let requested = match raw.get(Key::Cloud) {
        Some(setting) => Some((text(setting), setting.location.clone())),
        None => environment
            .cloud
            .clone()
            .map(|name| (name, finder.by_variable("OS_CLOUD"))),
    };
    let secure = finder.secure()?;

    let (name, mut entry) = choose(clouds, requested, secure.as_ref())?;
    if let Some((profile, location)) = entry.profile() {
        let public = finder.public(&profile, location)?;
        entry = entry.or(public);
    }
    if let Some(mut secure) = secure
        && let Some(overriding) = secure.entries.remove(&name.name)
    {
        entry = overriding.or(entry);
    }
    if !entry.has_auth() {
        let name_shown = redact::name(&name.name);
        let message =
            format!("cloud {name_shown} has no `auth:`; add it with auth_url and credentials");
        return Err(Diagnostic::of_file(&name.file, message));
    }
    warnings.append(&mut entry.take_warnings());
    if let Some(location) = named_by.clone().filter(|_| !use_clouds) {
        warnings.push(Diagnostic::new(location, CLOUD_ALONE));
    }
    Ok(Some(Chosen {
        settings: entry.into_settings(environment.home.as_deref()),
        named_by,
        use_clouds,
    }))
}

/// The name of an entry, and the file that it is in.
struct EntryName {
    file: PathBuf,
    name: String,
}

/// Chooses the entry: the named one, else the only one of clouds.yaml, else, as in Go,
/// the only one of secure.yaml, which then must contain all settings.
fn choose(
    mut clouds: Document,
    requested: Option<(String, Location)>,
    secure: Option<&Document>,
) -> Result<(EntryName, Entry), Diagnostic> {
    let only = |entries: &BTreeMap<String, Entry>| {
        let mut names = entries.keys().cloned();
        names.next().filter(|_| names.next().is_none())
    };
    let file = clouds.file.clone();
    let (requested, location) = requested.unzip();
    let Some(name) = requested.or_else(|| only(&clouds.entries)) else {
        if let Some(name) = secure.and_then(|secure| only(&secure.entries)) {
            return Ok((EntryName { file, name }, Entry::default()));
        }
        if clouds.entries.is_empty() {
            return Err(Diagnostic::of_file(&file, NO_CLOUD));
        }
        let names = redacted_names(&clouds.entries);
        let message = format!(
            "there are several clouds ({names}); name one with `cloud = NAME` in [Global] or with \
             OS_CLOUD"
        );
        return Err(Diagnostic::of_file(&file, message));
    };
    let in_secure = || secure.is_some_and(|secure| secure.entries.contains_key(&name));
    let entry = match clouds.entries.remove(&name) {
        Some(entry) => entry,
        None if clouds.entries.is_empty() && in_secure() => Entry::default(),
        None => {
            // Only a configured name can be missing.
            return Err(match location {
                Some(location) => no_such_cloud(&location, &clouds),
                None => Diagnostic::of_file(&file, NO_CLOUD),
            });
        }
    };
    Ok((EntryName { file, name }, entry))
}

fn no_such_cloud(location: &Location, document: &Document) -> Diagnostic {
    let file = redact::path(&document.file);
    let names = redacted_names(&document.entries);
    let message = format!("there is no cloud of this name in {file}; available: {names}");
    Diagnostic::new(location, message)
}

fn redacted_names(entries: &BTreeMap<String, Entry>) -> String {
    list(entries.keys().map(|name| redact::name(name)))
}

fn list<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let texts: Vec<_> = items.map(|item| item.to_string()).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
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
    warnings: &'a mut Vec<Diagnostic>,
    /// The setting that needs the files.
    location: Location,
    /// Its name.
    word: &'static str,
}

impl Finder<'_, '_> {
    fn clouds(
        &mut self,
        named: Option<(String, Location)>,
    ) -> Result<Option<Document>, Diagnostic> {
        let (file, content) = match (named, &self.environment.client_config_file) {
            (Some((path, location)), _) => {
                let path = PathBuf::from(path);
                let content = self.sources.read_named(&path, &location)?;
                (self.sources.absolute(&path), content)
            }
            (None, Some(path)) => self.named_by_variable(path, "OS_CLIENT_CONFIG_FILE")?,
            (None, None) => match self.search("clouds")? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        self.parse(&file, &content, "clouds").map(Some)
    }

    fn secure(&mut self) -> Result<Option<Document>, Diagnostic> {
        let found = match &self.environment.client_secure_file {
            Some(path) => Some(self.named_by_variable(path, "OS_CLIENT_SECURE_FILE")?),
            None => self.search("secure")?,
        };
        found
            .map(|(file, content)| self.parse(&file, &content, "clouds"))
            .transpose()
    }

    fn public(&mut self, profile: &str, location: Location) -> Result<Entry, Diagnostic> {
        let Some((file, content)) = self.search("clouds-public")? else {
            let searched = self.searched("clouds-public");
            let message = format!(
                "the other settings of the entry come from clouds-public.yaml, which does not \
                 exist; looked for {searched}; remove the line and write auth_url and the other \
                 settings into the entry itself (there are no built-in vendors)"
            );
            return Err(Diagnostic::new(location, message));
        };
        let mut document = self.parse(&file, &content, "public-clouds")?;
        let entry = document.entries.remove(profile);
        entry.ok_or_else(|| no_such_cloud(&location, &document))
    }

    fn named_by_variable(
        &mut self,
        path: &Path,
        variable: &'static str,
    ) -> Result<(PathBuf, Content), Diagnostic> {
        let location = self.by_variable(variable);
        let content = self.sources.read_named(path, &location)?;
        Ok((self.sources.absolute(path), content))
    }

    fn by_variable(&self, variable: &'static str) -> Location {
        Location {
            field: format!("{} with {variable}", self.word),
            ..self.location.clone()
        }
    }

    fn search(&mut self, stem: &str) -> Result<Option<(PathBuf, Content)>, Diagnostic> {
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

    fn searched(&self, stem: &str) -> String {
        list(self.candidates(stem).iter().map(|path| redact::path(path)))
    }

    fn no_file(&self) -> Diagnostic {
        let searched = self.searched("clouds");
        let message = format!(
            "there is no clouds.yaml; looked for {searched}; create one of them, or name it with \
             clouds-file"
        );
        Diagnostic::new(&self.location, message)
    }

    fn parse(
        &mut self,
        file: &Path,
        content: &Content,
        top: &'static str,
    ) -> Result<Document, Diagnostic> {
        let document = Document::parse(file, &content.bytes, top).map_err(|(at, problem)| {
            match file_type::of_clouds_yaml(&content.bytes) {
                Some(message) => Diagnostic::of_file(file, message),
                None => Diagnostic::at(file, at, problem.to_string()),
            }
        })?;
        if document.holds_secret() {
            let warning = self.sources.world_readable(&document.file, content);
            self.warnings.extend(warning);
        }
        Ok(document)
    }
}

const WITHOUT_USE_CLOUDS: &str = "has no effect: add `use-clouds = true` or remove it";
const CLOUD_ALONE: &str = "only the credentials are taken from clouds.yaml; add `use-clouds = \
                           true` to take the other settings from there too, or remove it";
const NO_CLOUD: &str = "there is no cloud in it; add one below `clouds:`";

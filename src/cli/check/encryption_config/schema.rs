//! Which fields there are and of which types, decoded strictly.
//!
//! Null is the same as nothing. What has the wrong type is reported here and left out,
//! so that no later rule says the same in other words.

use serde_json::{Map, Value};

use super::configuration::{Configuration, Entry, Key, Keys, Kms, Provider};
use super::values::{Fields, kind_of, whole_number};
use crate::cli::check::findings::Findings;
use crate::cli::check::quoted;

const API_VERSION: &str = "apiserver.config.k8s.io/v1";

const KEY_KINDS: [&str; 3] = ["aesgcm", "aescbc", "secretbox"];

const PROVIDERS: [&str; 5] = ["kms", "aesgcm", "aescbc", "secretbox", "identity"];

/// The configuration, unless the file is something else.
pub(super) fn decode(file: &Value, findings: &mut Findings) -> Option<Configuration> {
    let mut decoder = Decoder { findings };
    let Value::Object(fields) = file else {
        decoder.findings.error(
            format!("the file is {}, not a configuration", kind_of(file)),
            format!("begin it with `apiVersion: {API_VERSION}`, or name the right file"),
        );
        return None;
    };
    if !decoder.version(fields) {
        return None;
    }
    decoder.known("", fields, &["kind", "apiVersion", "resources"]);
    let mut entries = Vec::new();
    match decoder.items("resources", fields.get("resources")) {
        Some([]) => decoder.findings.error(
            "resources: at least one is required",
            "add them as in static-pod/encryption-config.yaml",
        ),
        items => {
            for (number, item) in items.into_iter().flatten().enumerate() {
                entries.extend(decoder.entry(format!("resources[{number}]"), item));
            }
        }
    }
    Some(Configuration { entries })
}

struct Decoder<'a> {
    findings: &'a mut Findings,
}

impl Decoder<'_> {
    /// Whether kind and version are those of an EncryptionConfiguration.
    fn version(&mut self, fields: &Map<String, Value>) -> bool {
        let kind = self.text("kind", fields.get("kind"));
        let version = self.text("apiVersion", fields.get("apiVersion"));
        let (Some(kind), Some(version)) = (kind, version) else {
            return false;
        };
        let right =
            format!("write `kind: EncryptionConfiguration` and `apiVersion: {API_VERSION}`");
        match (kind.as_str(), version.as_str()) {
            ("EncryptionConfiguration", API_VERSION) => true,
            ("EncryptionConfig", "v1" | "/v1") => {
                self.findings.warn(format!(
                    "kind: EncryptionConfig is outdated, though kube-apiserver still accepts it: \
                     {right}"
                ));
                true
            }
            ("", _) => {
                self.findings.error("kind: missing", right);
                false
            }
            ("EncryptionConfiguration" | "EncryptionConfig", "" | "/") => {
                self.findings.error("apiVersion: missing", right);
                false
            }
            ("EncryptionConfiguration" | "EncryptionConfig", version) => {
                self.findings.error(
                    format!(
                        "apiVersion: there is no {kind} of version {}",
                        quoted::value(version)
                    ),
                    right,
                );
                false
            }
            (kind, _) => {
                self.findings.error(
                    format!("kind: {}, not EncryptionConfiguration", quoted::value(kind)),
                    format!("{right}, or name the right file"),
                );
                false
            }
        }
    }

    fn entry(&mut self, path: String, value: &Value) -> Option<Entry> {
        let fields = self.fields(&path, value, &["resources", "providers"])?;
        let place = format!("{path}.resources");
        let resources = match self.items(&place, fields.get("resources")) {
            Some([]) => {
                self.findings.error(
                    format!("{place}: at least one is required"),
                    "add `resources: [secrets]`",
                );
                Vec::new()
            }
            items => {
                let items = items.into_iter().flatten().enumerate();
                items
                    .map(|(number, item)| self.text(&format!("{place}[{number}]"), Some(item)))
                    .collect()
            }
        };
        let place = format!("{path}.providers");
        let mut providers = Vec::new();
        match self.items(&place, fields.get("providers")) {
            Some([]) => self.findings.error(
                format!("{place}: at least one is required"),
                "add `providers:` with kms first and `identity: {}` last",
            ),
            items => {
                for (number, item) in items.into_iter().flatten().enumerate() {
                    providers.extend(self.provider(&format!("{place}[{number}]"), item));
                }
            }
        }
        Some(Entry {
            path,
            resources,
            providers,
        })
    }

    fn provider(&mut self, path: &str, value: &Value) -> Option<Provider> {
        let before = self.findings.errors.len();
        let fields = self.fields(path, value, &PROVIDERS)?;
        let mut kinds = PROVIDERS
            .into_iter()
            .filter(|kind| fields.get(kind).is_some_and(|value| !value.is_null()));
        let kind = kinds.next();
        let only = kinds.next().is_none();
        match kind {
            Some(_) if !only => self.findings.error(
                format!("{path}: more than one provider in a single element"),
                "begin each provider with a `-` of its own",
            ),
            None if fields.contains_key("identity") => self.findings.error(
                format!("{path}: identity without a value is not a provider"),
                "write `identity: {}`, with the braces",
            ),
            None if self.findings.errors.len() == before => self.findings.error(
                format!("{path}: there is no provider in it"),
                format!("write one of {} there", PROVIDERS.join(", ")),
            ),
            _ => {}
        }
        let keys = |decoder: &mut Self, kind| {
            let value = fields.get(kind)?;
            decoder.keys(&format!("{path}.{kind}"), kind, value)
        };
        let keys: Vec<Keys> = KEY_KINDS
            .into_iter()
            .filter_map(|kind| keys(self, kind))
            .collect();
        let kms = fields.get("kms");
        let kms = kms.and_then(|value| self.kms(format!("{path}.kms"), value));
        if let Some(identity) = fields.get("identity") {
            self.fields(&format!("{path}.identity"), identity, &[]);
        }
        Some(Provider {
            kind: kind.filter(|_| only),
            kms,
            keys: keys.into_iter().next(),
        })
    }

    fn kms(&mut self, path: String, value: &Value) -> Option<Kms> {
        if value.is_null() {
            return None;
        }
        let known = ["apiVersion", "name", "endpoint", "timeout", "cachesize"];
        let fields = self.fields(&path, value, &known)?;
        let mut text = |name| self.text(&format!("{path}.{name}"), fields.get(name));
        let api_version = text("apiVersion");
        let name = text("name");
        let endpoint = text("endpoint");
        let timeout = match fields.get("timeout") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => {
                self.findings.error(
                    format!("{path}.timeout: {number} is a number, not a duration"),
                    format!("add a unit, such as `timeout: {number}s`"),
                );
                None
            }
            Some(other) => {
                self.findings.error(
                    format!("{path}.timeout: {}, not a duration", kind_of(other)),
                    "write one with a unit, such as `timeout: 3s`",
                );
                None
            }
        };
        let cache_size = match fields.get("cachesize") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let size = whole_number(value);
                if size.is_none() {
                    self.findings.error(
                        format!("{path}.cachesize: not a whole number"),
                        "remove cachesize; it is for v1 only",
                    );
                }
                size
            }
        };
        Some(Kms {
            path,
            api_version,
            name,
            endpoint,
            timeout,
            cache_size,
        })
    }

    fn keys(&mut self, path: &str, kind: &'static str, value: &Value) -> Option<Keys> {
        if value.is_null() {
            return None;
        }
        let fields = self.fields(path, value, &["keys"])?;
        let path = format!("{path}.keys");
        let items = self.items(&path, fields.get("keys"));
        let keys = items.map(|items| {
            let items = items.iter().enumerate();
            items
                .filter_map(|(number, item)| self.key(&format!("{path}[{number}]"), item))
                .collect()
        });
        Some(Keys {
            path,
            kind,
            list: keys,
        })
    }

    fn key(&mut self, path: &str, value: &Value) -> Option<Key> {
        let fields = self.fields(path, value, &["name", "secret"])?;
        let mut text = |name| self.text(&format!("{path}.{name}"), fields.get(name));
        Some(Key {
            name: text("name"),
            secret: text("secret"),
        })
    }

    /// The fields of a mapping, of which all must be known.
    fn fields<'v>(&mut self, path: &str, value: &'v Value, known: &[&str]) -> Option<Fields<'v>> {
        match value {
            Value::Null => Some(Fields(None)),
            Value::Object(fields) => {
                self.known(path, fields, known);
                Some(Fields(Some(fields)))
            }
            other => {
                let fix = match known {
                    [] => "write `{}` there".to_owned(),
                    known => format!("write a mapping there, with {}", known.join(", ")),
                };
                let what = format!("{path}: {}, not a mapping", kind_of(other));
                self.findings.error(what, fix);
                None
            }
        }
    }

    fn known(&mut self, path: &str, fields: &Map<String, Value>, known: &[&str]) {
        for field in fields
            .keys()
            .filter(|field| !known.contains(&field.as_str()))
        {
            let dot = if path.is_empty() { "" } else { "." };
            let field = quoted::name(field);
            let fix = match known {
                [] => "remove it".to_owned(),
                known => format!(
                    "remove it, or correct its name and indentation; allowed here: {}",
                    known.join(", ")
                ),
            };
            let what = format!("{path}{dot}{field}: there is no such field");
            self.findings.error(what, fix);
        }
    }

    /// A text; nothing is an empty one.
    fn text(&mut self, path: &str, value: Option<&Value>) -> Option<String> {
        match value {
            None | Some(Value::Null) => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.findings.error(
                    format!("{path}: {}, not a text", kind_of(other)),
                    match other {
                        Value::Array(_) | Value::Object(_) => "write one text there",
                        _ => "put it into quotes",
                    },
                );
                None
            }
        }
    }

    /// The items of a list; nothing is an empty one.
    fn items<'v>(&mut self, path: &str, value: Option<&'v Value>) -> Option<&'v [Value]> {
        match value {
            None | Some(Value::Null) => Some(&[]),
            Some(Value::Array(items)) => Some(items),
            Some(other) => {
                self.findings.error(
                    format!("{path}: {}, not a list", kind_of(other)),
                    "begin each element with `- `",
                );
                None
            }
        }
    }
}

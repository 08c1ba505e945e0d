//! Redaction: how much of a value may be in a message.
//!
//! Secrets end up in the wrong field, so a value is shown only if it looks like what
//! belongs there: one line of at most [`MAX_CHARS`] characters, made of ordinary words.
//! Any other is replaced by a description. Every module that has a value to show uses
//! this one. Invariant: what is shown holds nothing that looks like PEM, like base64 or
//! hexadecimal of a key, or like the secret of an application credential.

use std::fmt;
use std::path::{Component, Path};

/// The longest text that is shown.
pub const MAX_CHARS: usize = 80;

/// The longest name: regions and clouds have shorter ones, passphrases longer ones.
const NAME_CHARS: usize = 20;

/// So many characters without a word in them could be a secret.
const GENERATED_CHARS: usize = 16;

const PORT_DIGITS: usize = 5;

/// The length of the secret that Keystone makes for an application credential.
const CREDENTIAL_SECRET_CHARS: usize = 86;

/// A value as messages may show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    text: String,
    redacted: bool,
}

impl Redacted {
    /// Whether it is a description instead of the value.
    pub fn is_redacted(&self) -> bool {
        self.redacted
    }

    /// Whether the description is one of PEM.
    pub fn is_pem(&self) -> bool {
        self.redacted && self.text.ends_with("PEM block")
    }

    fn unchanged(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            redacted: false,
        }
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of a region, of a cloud, of a key or of a section.
pub fn name(text: &str) -> Redacted {
    let short = (1..=NAME_CHARS).contains(&text.chars().count());
    if short && is_ordinary(text) {
        Redacted::unchanged(text)
    } else {
        described(text)
    }
}

/// The path of a file, as it is written.
pub fn path(path: &Path) -> Redacted {
    let Some(text) = path.to_str() else {
        return described(&path.to_string_lossy());
    };
    if !is_path(path) {
        return described(text);
    }
    Redacted::unchanged(elided(text))
}

/// A value of any form: a duration, a socket's URL, a resource with its group.
pub fn value(text: &str) -> Redacted {
    let short = (1..=MAX_CHARS).contains(&text.chars().count());
    if short && !text.chars().any(char::is_control) && generated_chars(text) < GENERATED_CHARS {
        Redacted::unchanged(text)
    } else {
        described(text)
    }
}

/// The host of a URL, with its port if it has one.
pub fn host(text: &str) -> Redacted {
    let (bare, port) = match text.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (bare, port),
        _ => (text, ""),
    };
    let address = bare
        .strip_prefix('[')
        .and_then(|bare| bare.strip_suffix(']'));
    let address = address.unwrap_or(bare).parse::<std::net::IpAddr>();
    let is_address = address.is_ok() && port.len() <= PORT_DIGITS;
    let is_name = bare.len() < MAX_CHARS - PORT_DIGITS
        && port.len() <= PORT_DIGITS
        && match bare.rsplit_once('.') {
            None => bare.len() <= NAME_CHARS && is_ordinary(bare),
            Some((labels, top)) => {
                let is_top = top.bytes().all(|byte| byte.is_ascii_alphabetic());
                is_top && !top.is_empty() && labels.split('.').all(is_harmless)
            }
        };
    if is_address || is_name {
        Redacted::unchanged(text)
    } else {
        described(text)
    }
}

/// A URL without a user, a query and a fragment. Of its path, what could be a secret is
/// left out; ids of OpenStack stay.
pub fn url(uri: &http::Uri) -> Redacted {
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let bare = authority
        .rsplit_once('@')
        .map_or(authority, |(_, bare)| bare);
    let scheme = uri.scheme_str().unwrap_or_default();
    let segments = uri.path().split('/').map(|segment| {
        let shown = is_id(segment) || is_harmless(segment);
        if shown { segment } else { "(not shown)" }
    });
    let segments: Vec<_> = segments.collect();
    Redacted::unchanged(format!("{scheme}://{}{}", host(bare), segments.join("/")))
}

/// Whether a text is what people and programs call users, projects and domains by:
/// ordinary words, or a UUID. Servers may repeat such a text.
pub fn is_public(text: &str) -> bool {
    is_uuid(text) || !name(text).is_redacted()
}

/// Says what a text is without saying any of it.
fn described(text: &str) -> Redacted {
    let trimmed = text.trim();
    let lines = text.lines().count();
    let characters = text.chars().count();
    let size = if lines > 1 {
        format!("a text of {lines} lines")
    } else {
        let plural = if characters == 1 { "" } else { "s" };
        format!("a text of {characters} character{plural}")
    };
    let hexadecimal = trimmed.bytes().all(|byte| byte.is_ascii_hexdigit());
    let base64 = trimmed
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_ \r\n".contains(&byte));
    let looks = if trimmed.starts_with("-----BEGIN") {
        " that begins like a PEM block"
    } else if trimmed.contains("-----BEGIN") || trimmed.contains("-----END") {
        " with a part of a PEM block"
    } else if trimmed.len() == CREDENTIAL_SECRET_CHARS && base64 {
        " that looks like the secret of an application credential"
    } else if hexadecimal && trimmed.len() >= GENERATED_CHARS {
        " that looks like hexadecimal"
    } else if base64 && !trimmed.contains(['-', ' ']) && trimmed.len() > GENERATED_CHARS {
        " that looks like base64"
    } else {
        ""
    };
    Redacted {
        text: size + looks,
        redacted: true,
    }
}

/// An absolute path may contain directories with generated names. A relative one can be
/// a secret as easily as a path, so it must look like the name of a file.
fn is_path(path: &Path) -> bool {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name),
                None => return false,
            },
            Component::RootDir | Component::CurDir | Component::ParentDir => {}
            Component::Prefix(_) => return false,
        }
    }
    let (Some(first), Some(last)) = (names.first(), names.last()) else {
        return true;
    };
    if path.is_absolute() {
        let root = first.len() > 1 && first.len() <= NAME_CHARS && is_ordinary(first);
        names.iter().all(|name| is_ordinary(name))
            || root && names.iter().all(|name| is_harmless(name))
    } else {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let known = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        (known || path.components().count() > 1)
            && last.len() <= 2 * NAME_CHARS
            && names.iter().all(|name| is_ordinary(name))
    }
}

/// Of files that a configuration names.
const EXTENSIONS: [&str; 15] = [
    "cer", "cert", "cfg", "conf", "config", "crt", "ini", "json", "key", "pem", "sock", "toml",
    "txt", "yaml", "yml",
];

/// A name that holds no secret, although it may not consist of words: it is short, or
/// a UUID, or what is generated in it is short.
fn is_harmless(name: &str) -> bool {
    if is_uuid(name) {
        return true;
    }
    let allowed = |c: char| c.is_alphanumeric() || "._-~@+,: ".contains(c);
    name.chars().all(allowed) && generated_chars(name) < GENERATED_CHARS
}

/// How many characters are not of ordinary words.
fn generated_chars(text: &str) -> usize {
    words(text)
        .filter(|word| !is_word(word))
        .map(str::len)
        .sum()
}

/// Consists of ordinary words.
fn is_ordinary(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "._-~".contains(c);
    text.chars().all(allowed) && words(text).all(is_word)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// Letters as people write them, with a number behind them at most: `eu`, `RegionOne`,
/// `CA`, `node12`, `v3`, `20261126`.
fn is_word(word: &str) -> bool {
    const LETTERS: usize = 20;
    const DIGITS: usize = 10;
    /// `k8s`, `x86`.
    const SHORT: usize = 3;
    if word.len() <= SHORT {
        return true;
    }
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = word.len() - letters.len();
    let few = digits <= if letters.is_empty() { DIGITS } else { 2 };
    few && letters.chars().count() <= LETTERS
        && letters.chars().all(char::is_alphabetic)
        && is_case_ordinary(letters)
}

/// Capitals begin words or make them up: not `aBcD`.
fn is_case_ordinary(letters: &str) -> bool {
    if letters.chars().all(char::is_uppercase) {
        return letters.chars().count() <= 12;
    }
    let capitals = letters.chars().filter(|c| c.is_uppercase()).count();
    let lowered = letters.trim_end_matches(char::is_uppercase);
    let at_end = letters.chars().count() - lowered.chars().count();
    let mut humps = lowered.split(char::is_uppercase).skip(1);
    capitals <= 3 && at_end <= 1 && humps.all(|hump| hump.chars().count() > 1)
}

/// An id of OpenStack: a UUID, with or without dashes.
fn is_id(text: &str) -> bool {
    let bare = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    bare || is_uuid(text)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12]
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// A long path without its middle.
fn elided(text: &str) -> String {
    let length = text.chars().count();
    if length <= MAX_CHARS {
        return text.to_owned();
    }
    let half = MAX_CHARS / 2 - 1;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests;

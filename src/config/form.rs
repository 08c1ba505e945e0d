//! Files of another kind than the one that was asked for, told by their looks.
//!
//! Asked by [`super::load()`] and `clouds_yaml` when a file cannot be read: "illegal
//! character" helps nobody whose file is base64. Pure; nothing of a file is quoted.

use std::fmt;

/// What a file is instead, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    found: &'static str,
    fix: &'static str,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}; {}", self.found, self.fix)
    }
}

/// What a file is that is no cloud-config, if that is to be seen.
pub(super) fn of_cloud_config(bytes: &[u8]) -> Option<Form> {
    if has_sections(bytes) {
        return None;
    }
    let form = |found, fix| Some(Form { found, fix });
    match look(bytes)? {
        Look::Utf16 => form("UTF-16", SAVE_AS_UTF8),
        Look::Base64 => form("base64", DECODE),
        Look::Pem => form("a PEM file", "name it with ca-file, cert-file or key-file"),
        Look::Json => form("JSON", WRITE_SECTIONS),
        Look::Shell => form(
            "a shell script (an openrc file?)",
            "write its values below `[Global]`: OS_AUTH_URL as auth-url, OS_USERNAME as username, \
             and so on",
        ),
        Look::Object => form(
            "a Kubernetes object in YAML",
            "store what stands in its `stringData`, or in its `data` after `base64 -d`, in a file \
             of its own",
        ),
        Look::Clouds => form(
            "a clouds.yaml",
            "name it in a cloud-config: `use-clouds = true` and `clouds-file = FILE` in [Global]",
        ),
        Look::Yaml => form("YAML", WRITE_SECTIONS),
    }
}

/// What a file is that is no clouds.yaml, if that is to be seen.
pub(super) fn of_clouds_yaml(bytes: &[u8]) -> Option<Form> {
    let form = |found, fix| Some(Form { found, fix });
    if has_sections(bytes) {
        return form(
            "a cloud-config",
            "write `clouds:` and below it the name of a cloud with its `auth:`",
        );
    }
    match look(bytes)? {
        Look::Utf16 => form("UTF-16", SAVE_AS_UTF8),
        Look::Base64 => form("base64", DECODE),
        Look::Pem => form("a PEM file", "name it with cacert, cert or key"),
        Look::Shell => form(
            "a shell script (an openrc file?)",
            "write its values below `auth:` of a cloud: OS_AUTH_URL as auth_url, OS_USERNAME as \
             username, and so on",
        ),
        Look::Object | Look::Json | Look::Clouds | Look::Yaml => None,
    }
}

const SAVE_AS_UTF8: &str = "save it as UTF-8";
const DECODE: &str =
    "decode it with `base64 -d` (the `data` of a Secret holds base64, its `stringData` plain text)";
const WRITE_SECTIONS: &str =
    "write `[Global]` and `[KeyManager]` with lines of the form `key = value` below";

enum Look {
    Utf16,
    Base64,
    Pem,
    Json,
    Shell,
    Object,
    Clouds,
    Yaml,
}

fn look(bytes: &[u8]) -> Option<Look> {
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Some(Look::Utf16);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with("-----BEGIN ") {
        return Some(Look::Pem);
    }
    if text.starts_with('{') {
        return Some(Look::Json);
    }
    if is_base64(text) {
        return Some(Look::Base64);
    }
    if text.starts_with("#!") || text.lines().any(is_of_shell) {
        return Some(Look::Shell);
    }
    let begins = |name: &str| text.lines().any(|line| line.starts_with(name));
    if begins("apiVersion:") && begins("kind:") {
        return Some(Look::Object);
    }
    if begins("clouds:") {
        return Some(Look::Clouds);
    }
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (first == "---" || first.ends_with(':') || first.contains(": ")).then_some(Look::Yaml)
}

/// Whether it has a header of ours, however damaged the rest is.
fn has_sections(bytes: &[u8]) -> bool {
    let headers: [&[u8]; 2] = [b"[global", b"[keymanager"];
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start().to_ascii_lowercase();
        headers.iter().any(|header| line.starts_with(header))
    })
}

/// Shorter ones may be words.
const BASE64_LEAST: usize = 24;

fn is_base64(text: &str) -> bool {
    let letters: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let padded = letters.len().is_multiple_of(4);
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    letters.len() >= BASE64_LEAST && padded && letters.iter().all(letter) && !text.contains(' ')
}

fn is_of_shell(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("export ") || line.starts_with("OS_") || line.starts_with("unset OS_")
}

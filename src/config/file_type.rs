//! Files of another type than expected: what a file is, and what to do with it.
//!
//! Asked by [`super::load()`] and `clouds_yaml` when a file cannot be parsed. Nothing
//! of a file is quoted.

use super::diagnostic::Message;

/// What a file is instead of a cloud-config, if its content tells.
pub(super) fn of_cloud_config(bytes: &[u8]) -> Option<Message> {
    let (found, fix) = if has_sections(bytes) {
        if !has_open_pem(bytes) {
            return None;
        }
        ("a cloud-config with a PEM block in it", STORE_PEM)
    } else {
        match FileType::detect(bytes)? {
            FileType::Utf16 => ("UTF-16", SAVE_AS_UTF8),
            FileType::Base64 => ("base64", DECODE),
            FileType::Pem => ("a PEM file", "name it with ca-file, cert-file or key-file"),
            FileType::Json => ("JSON", WRITE_SECTIONS),
            FileType::Shell => (
                "a shell script (an openrc file?)",
                "write its values below `[Global]`: OS_AUTH_URL as auth-url, OS_USERNAME as \
                 username, and so on",
            ),
            FileType::Object => (
                "a Kubernetes object in YAML",
                "store the content of its `stringData`, or of its `data` after `base64 -d`, in a \
                 separate file",
            ),
            FileType::Clouds => (
                "a clouds.yaml",
                "name it in a cloud-config: `use-clouds = true` and `clouds-file = FILE` in \
                 [Global]",
            ),
            FileType::Yaml => ("YAML", WRITE_SECTIONS),
        }
    };
    Some(format!("it is {found}; {fix}").into())
}

/// What a file is instead of a clouds.yaml, if its content tells.
pub(super) fn of_clouds_yaml(bytes: &[u8]) -> Option<Message> {
    let (found, fix) = if has_sections(bytes) {
        (
            "a cloud-config",
            "write `clouds:` and below it the name of a cloud with its `auth:`",
        )
    } else {
        match FileType::detect(bytes)? {
            FileType::Utf16 => ("UTF-16", SAVE_AS_UTF8),
            FileType::Base64 => ("base64", DECODE),
            FileType::Pem => ("a PEM file", "name it with cacert, cert or key"),
            FileType::Shell => (
                "a shell script (an openrc file?)",
                "write its values below `auth:` of a cloud: OS_AUTH_URL as auth_url, OS_USERNAME \
                 as username, and so on",
            ),
            FileType::Object | FileType::Json | FileType::Clouds | FileType::Yaml => return None,
        }
    };
    Some(format!("it is {found}; {fix}").into())
}

const STORE_PEM: &str = "store the block in a file and write its path here (a CA may be given as \
     `cafilecontents`, in quotes and on one line, with `\\n` for each line break)";
const SAVE_AS_UTF8: &str = "save it as UTF-8";
const DECODE: &str =
    "decode it with `base64 -d` (the `data` of a Secret holds base64, its `stringData` plain text)";
const WRITE_SECTIONS: &str =
    "write `[Global]` and `[KeyManager]` with lines of the form `key = value` below";

enum FileType {
    Utf16,
    Base64,
    Pem,
    Json,
    Shell,
    Object,
    Clouds,
    Yaml,
}

impl FileType {
    fn detect(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
            return Some(Self::Utf16);
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with("-----BEGIN ") {
            return Some(Self::Pem);
        }
        if text.starts_with('{') {
            return Some(Self::Json);
        }
        if is_base64(text) {
            return Some(Self::Base64);
        }
        if text.starts_with("#!") || text.lines().any(is_shell) {
            return Some(Self::Shell);
        }
        let begins = |name: &str| text.lines().any(|line| line.starts_with(name));
        if begins("apiVersion:") && begins("kind:") {
            return Some(Self::Object);
        }
        if begins("clouds:") {
            return Some(Self::Clouds);
        }
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
        (first == "---" || first.ends_with(':') || first.contains(": ")).then_some(Self::Yaml)
    }
}

/// Whether it has a section header of ours, even if the rest is damaged.
fn has_sections(bytes: &[u8]) -> bool {
    let headers: [&[u8]; 2] = [b"[global", b"[keymanager"];
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start().to_ascii_lowercase();
        headers.iter().any(|header| line.starts_with(header))
    })
}

/// Whether a value begins with a PEM block that does not end on its line.
fn has_open_pem(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| {
        let value = line.split_once('=').map_or(line, |(_, value)| value);
        let value = value.trim().trim_start_matches(['"', '\'']);
        value.starts_with("-----BEGIN ") && !value.contains("-----END ")
    })
}

/// Shorter texts may be words.
const BASE64_LEAST: usize = 24;

fn is_base64(text: &str) -> bool {
    let bytes = || text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let length = bytes().count();
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    length >= BASE64_LEAST
        && length.is_multiple_of(4)
        && bytes().all(in_alphabet)
        && !text.contains(' ')
}

fn is_shell(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("export ") || line.starts_with("OS_") || line.starts_with("unset OS_")
}

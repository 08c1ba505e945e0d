//! From bytes to a value: JSON where the file begins with a brace, else YAML.
//!
//! As kube-apiserver does: of several YAML documents it reads the first, and a key twice
//! in a mapping is refused in both languages.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::cli::check::findings::Findings;
use crate::config;

const EXAMPLE: &str = "static-pod/encryption-config.yaml is an example";

/// The value of the file, if it has one.
pub(super) fn read(file: &[u8], findings: &mut Findings) -> Option<Value> {
    if file.is_empty() {
        findings.error(
            "the file is empty",
            format!("write a configuration; {EXAMPLE}"),
        );
        return None;
    }
    let lossy = String::from_utf8_lossy(file);
    if lossy.trim_start().starts_with('{') {
        return json(&lossy, findings);
    }
    let text = match text(file) {
        Ok(text) => text,
        Err(what) => {
            findings.error(
                what,
                "save the file as UTF-8, without control characters and marks",
            );
            return None;
        }
    };
    if let Some((what, fix)) = older_yaml(&text) {
        findings.error(what, fix);
        return None;
    }
    match config::parse_first_yaml(&text) {
        Ok(document) => {
            if document.more {
                findings.warn(
                    "the file has several documents (`---`), and kube-apiserver reads only the \
                     first",
                );
            }
            Some(document.value)
        }
        Err((at, problem)) => {
            findings.error(
                format!("line {}, column {}: {problem}", at.line, at.column),
                format!("correct it there; {EXAMPLE}"),
            );
            None
        }
    }
}

/// What newer YAML allows in the first document and kube-apiserver's reader does not: a
/// version, and tabs that indent nothing.
fn older_yaml(text: &str) -> Option<(String, &'static str)> {
    let mut open = 0_usize;
    let mut content = false;
    for (number, line) in (1..).zip(text.lines()) {
        let bare = line.trim_start_matches([' ', '\t']);
        let indentation = line.strip_suffix(bare).unwrap_or_default();
        let nothing = bare.is_empty() || bare.starts_with('#');
        // Inside of brackets anything goes.
        if nothing && open == 0 && indentation.contains('\t') {
            return Some((
                format!("line {number}: there is a tab in an otherwise empty line"),
                "remove the tab",
            ));
        }
        if !content
            && line
                .strip_prefix("%YAML")
                .is_some_and(|version| version.trim() != "1.1")
        {
            return Some((
                format!("line {number}: kube-apiserver reads YAML 1.1 and no other version"),
                "remove the line",
            ));
        }
        let mark = line.starts_with("---") || line.starts_with("...");
        if content && mark {
            break;
        }
        content |= !nothing && !mark && !line.starts_with('%');
        for c in bare.chars() {
            match c {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

fn json(text: &str, findings: &mut Findings) -> Option<Value> {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => Some(value),
        Err(error) => {
            findings.error(
                format!("not valid JSON: {error}"),
                "correct it there. A file that begins with a brace is read as JSON; to write YAML, \
                 begin with `apiVersion:`",
            );
            None
        }
    }
}

/// The text of a YAML file, which may be UTF-16 with a byte order mark, and has no
/// control characters.
fn text(file: &[u8]) -> Result<String, &'static str> {
    let decoded = match file {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => {
            let bare = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
            utf8(bare).map(str::to_owned)
        }
    };
    let text = decoded.ok_or("illegal UTF-8 encoding")?;
    if !text.chars().all(is_printable) {
        Err("there is a control character in the file")
    } else if text.contains("\n\u{feff}") {
        Err("there is a byte order mark before a line that is not the first")
    } else if text.starts_with('\u{feff}') {
        Err("there are two byte order marks")
    } else {
        Ok(text)
    }
}

/// UTF-8. What follows the end of the first document (`...`) is not read.
fn utf8(bytes: &[u8]) -> Option<&str> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(text),
        Err(error) => error,
    };
    let valid = std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?;
    let end = ["\n...\n", "\n...\r\n"].map(|end| valid.find(end));
    let end = end.into_iter().flatten().min()?;
    valid.get(..=end)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).ok()
}

/// What YAML 1.1 calls so.
fn is_printable(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fffd}' | '\u{10000}'..
    )
}

/// A JSON value without a key twice in one object.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if values.insert(key, value).is_some() {
                return Err(de::Error::custom("a key occurs twice in one object"));
            }
        }
        Ok(Value::Object(values))
    }
}

//! An excerpt of a server's answer for the log: short, printable, without our secrets.
//!
//! Used by `http` on the body of every refused request. Invariant: an
//! [`Excerpt`] contains no control character and no secret of this client.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::LockedBytes;

/// The longest excerpt, in characters.
const EXCERPT_CHARS: usize = 300;

/// Secrets shorter than this are recognised only as whole words: otherwise a password
/// of one letter would be cut out of every word.
const SHORT_SECRET_BYTES: usize = 6;

const REDACTED: &str = "(redacted)";

/// A piece of a server's answer that may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// `text` on one line, from which the caller has removed any secret; `None`
    /// when nothing is left.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let mut shown = String::new();
        for word in text.split_whitespace() {
            if !shown.is_empty() {
                shown.push(' ');
            }
            shown.extend(word.chars().flat_map(printable));
        }
        if let Some((cut, _)) = shown.char_indices().nth(EXCERPT_CHARS) {
            shown.truncate(cut);
            shown.push('…');
        }
        (!shown.is_empty()).then_some(Self(shown))
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The secrets of one client, kept to recognise them in what servers send back.
pub(super) struct Redactor {
    /// All of them in one locked page, one after the other.
    secrets: LockedBytes,
    lengths: Vec<usize>,
}

impl Redactor {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Zeroizing::new(Vec::new());
        let mut lengths = Vec::new();
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            all.extend_from_slice(secret.as_bytes());
            lengths.push(secret.len());
        }
        Self {
            secrets: LockedBytes::copy_of(&all),
            lengths,
        }
    }

    /// The message of an error reply: Keystone's or Barbican's own words where
    /// the body is theirs, else the beginning of the text.
    pub(super) fn excerpt_of_body(&self, body: &[u8], token: Option<&str>) -> Option<Excerpt> {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody {
                error: Some(Keystone { message }),
                ..
            }) => self.excerpt(&message, token),
            Ok(ErrorBody {
                description: Some(description),
                ..
            }) => self.excerpt(&description, token),
            _ => {
                let text = String::from_utf8_lossy(body);
                if text.trim_start().starts_with('<') {
                    self.excerpt(&without_tags(&text), token)
                } else {
                    self.excerpt(&text, token)
                }
            }
        }
    }

    /// `text` on one line, without secrets; `None` when nothing is left.
    pub(super) fn excerpt(&self, text: &str, token: Option<&str>) -> Option<Excerpt> {
        let mut text = text.to_owned();
        for secret in self.secrets().chain(token) {
            // As it is, and as it stands in the JSON that we sent.
            let escaped = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
            let escaped = escaped.trim_matches('"');
            text = without_secret(text, secret);
            if escaped != secret {
                text = without_secret(text, escaped);
            }
        }
        Excerpt::of_text(&text)
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.secrets.expose();
        self.lengths.iter().map_while(move |length| {
            let (secret, after) = rest.split_at_checked(*length)?;
            rest = after;
            std::str::from_utf8(secret).ok()
        })
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.lengths.len())
    }
}

/// Whether this is an error of Keystone itself. What stands before it answers with
/// pages, or with JSON of other kinds.
pub(super) fn is_keystones(body: &[u8], status: StatusCode) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: Whole,
    }
    #[derive(Deserialize)]
    struct Whole {
        code: u16,
        #[serde(rename = "title")]
        _title: String,
        #[serde(rename = "message")]
        _message: String,
    }
    serde_json::from_slice(body).is_ok_and(|Body { error }| error.code == status.as_u16())
}

/// Whose answer a refusal is, where Barbican should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responder {
    /// Barbican's, or its middleware's.
    Barbican,
    /// Barbican's, which does not know the path.
    BarbicansRouter,
    /// Another server's.
    Other,
}

/// Whether this is an error of Barbican itself. Paths that Barbican does not route get
/// an error without a description.
pub(super) fn responder(body: &[u8], status: StatusCode) -> Responder {
    #[derive(Deserialize)]
    struct Body {
        code: u16,
        #[serde(rename = "title")]
        _title: String,
        // Without a default: there it is, if only as null.
        #[serde(deserialize_with = "Option::deserialize")]
        description: Option<String>,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) if body.code != status.as_u16() => Responder::Other,
        Ok(Body {
            description: Some(text),
            ..
        }) if !text.is_empty() => Responder::Barbican,
        Ok(_) => Responder::BarbicansRouter,
        Err(_) => Responder::Other,
    }
}

/// `{"error": {"message"}}` is Keystone's, `{"description"}` Barbican's.
#[derive(Deserialize)]
struct ErrorBody {
    error: Option<Keystone>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Keystone {
    message: String,
}

fn without_secret(text: String, secret: &str) -> String {
    if secret.is_empty() || !text.contains(secret) {
        return text;
    }
    if secret.len() >= SHORT_SECRET_BYTES {
        return text.replace(secret, REDACTED);
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(secret) {
        cleaned.push_str(before);
        let inside_a_word =
            before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        cleaned.push_str(if inside_a_word { secret } else { REDACTED });
        rest = after;
    }
    cleaned.push_str(rest);
    cleaned
}

fn without_tags(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        text.push(' ');
        text.push_str(piece.split_once('>').map_or("", |(_, text)| text));
    }
    text
}

/// Escapes control characters, and those that reorder or hide text.
fn printable(c: char) -> impl Iterator<Item = char> {
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let escaped = hidden.then(|| c.escape_unicode());
    let plain = (!hidden).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// A URL without user name, password and query.
pub(super) fn printable_url(url: &http::Uri) -> String {
    Excerpt::of_text(&crate::config::redact::url(url).to_string())
        .map_or_else(String::new, |text| text.to_string())
}

#[cfg(test)]
mod tests;

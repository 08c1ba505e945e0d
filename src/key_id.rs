//! `KeyId`: names one key-encryption key, in requests, in etcd and in URLs.
//!
//! Only a parsed value ever reaches a URL, so nothing that a request or a file
//! says can change which resource is asked for. Used by every layer above.

mod container;
mod uuid;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use self::uuid::{UUID_BYTES, Uuid, hex_digit, parse_uuid, uuid_text};

pub use self::container::{ContainerId, ContainerIdError};

/// The longest suffix, in bytes.
pub const SUFFIX_MAX_BYTES: usize = 16;

const TEXT_MAX_BYTES: usize = UUID_BYTES + 1 + SUFFIX_MAX_BYTES;

/// A Barbican secret's UUID, with an optional suffix after `_`.
///
/// The suffix exists because Kubernetes forbids re-using a key id: an operator who goes
/// back to an earlier key sets a new suffix and so gets a new id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    uuid: u128,
    /// Padded with zeros, which no suffix contains.
    suffix: [u8; SUFFIX_MAX_BYTES],
}

/// Why a text is not a key id. Each variant's text says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyIdError {
    /// Nothing was given.
    #[error("it is empty; write the UUID of the secret in Barbican")]
    Empty,
    /// Not the 8-4-4-4-12 form.
    #[error(
        "it is not a UUID like b5309dfb-b326-4148-b0ad-e9cd1ec223a8 (`openstack secret list` shows \
         it at the end of the secret href)"
    )]
    Uuid,
    /// The href of an order.
    #[error(
        "it is the href of an order; write the href of the secret, which `openstack secret order \
         get HREF` shows as \"Secret href\""
    )]
    Order,
    /// A suffix that is empty, too long, or has other characters.
    #[error("the suffix after `_` must be 1 to 16 letters or digits")]
    Suffix,
}

impl KeyId {
    /// The same key under another suffix, or under none.
    ///
    /// # Errors
    /// When the suffix is not 1 to 16 ASCII letters or digits.
    pub fn with_suffix(self, suffix: Option<&str>) -> Result<Self, KeyIdError> {
        let suffix = suffix.map_or(Ok([0; SUFFIX_MAX_BYTES]), parse_suffix)?;
        Ok(Self {
            uuid: self.uuid,
            suffix,
        })
    }

    /// Reads a UUID or a whole secret href
    /// (`https://HOST/v1/secrets/UUID`, optionally with `/payload`).
    ///
    /// # Errors
    /// When there is no UUID where one is expected.
    pub fn from_reference(text: &str) -> Result<Self, KeyIdError> {
        let text = text.trim();
        let last = match text.split_once("://") {
            None => text,
            Some((_, href)) => {
                let href = href.trim_end_matches('/');
                let href = href.strip_suffix("/payload").unwrap_or(href);
                if href.contains("/orders/") {
                    return Err(KeyIdError::Order);
                }
                let (_, last) = href.rsplit_once("/secrets/").ok_or(KeyIdError::Uuid)?;
                last
            }
        };
        last.parse()
    }

    /// The UUID alone, in lower case: the secret's name in Barbican.
    pub fn secret_uuid(&self) -> impl fmt::Display + use<> {
        Uuid(self.uuid)
    }

    /// `sha256:` and 64 hex digits, as kube-apiserver labels key ids in its
    /// metrics (k8s.io/apiserver, envelope/metrics).
    pub fn sha256_label(&self) -> String {
        let digest = Sha256::digest(self.text().as_bytes());
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let mut label = String::with_capacity(7 + 64);
        label.push_str("sha256:");
        label.extend(digits.map(|digit| char::from(hex_digit(digit))));
        label
    }

    /// The whole id, without an allocation: each call needs it.
    pub fn text(&self) -> impl Deref<Target = str> + use<> {
        let mut text = Text {
            bytes: [0; TEXT_MAX_BYTES],
            length: 0,
        };
        text.push(&uuid_text(self.uuid));
        if !self.suffix().is_empty() {
            text.push(b"_");
            text.push(self.suffix().as_bytes());
        }
        text
    }

    fn suffix(&self) -> &str {
        let end = self
            .suffix
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(SUFFIX_MAX_BYTES);
        std::str::from_utf8(self.suffix.get(..end).unwrap_or_default()).unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    /// Upper-case UUIDs are accepted: the Go plugin stored whatever its
    /// configuration said.
    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        if text.is_empty() {
            return Err(KeyIdError::Empty);
        }
        let (uuid, suffix) = match text.split_once('_') {
            None => (text, [0; SUFFIX_MAX_BYTES]),
            Some((uuid, suffix)) => (uuid, parse_suffix(suffix)?),
        };
        Ok(Self {
            uuid: parse_uuid(uuid).ok_or(KeyIdError::Uuid)?,
            suffix,
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Text {
    bytes: [u8; TEXT_MAX_BYTES],
    length: usize,
}

impl Text {
    fn push(&mut self, more: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(more) {
            *to = *from;
        }
        self.length += more.len();
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

fn parse_suffix(text: &str) -> Result<[u8; SUFFIX_MAX_BYTES], KeyIdError> {
    let mut suffix = [0; SUFFIX_MAX_BYTES];
    let valid = (1..=SUFFIX_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !valid {
        return Err(KeyIdError::Suffix);
    }
    for (to, from) in suffix.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

    #[test]
    fn a_uuid_is_written_in_lower_case() {
        let id: KeyId = UUID.to_uppercase().parse().expect("a UUID");
        assert_eq!(id.to_string(), UUID);
    }

    #[test]
    fn a_suffix_makes_another_id_of_the_same_secret() {
        let plain: KeyId = UUID.parse().expect("a UUID");
        let again = plain.with_suffix(Some("002")).expect("a suffix");
        assert_ne!(plain, again);
        assert_eq!(again.to_string(), format!("{UUID}_002"));
        assert_eq!(again.secret_uuid().to_string(), UUID);
        assert_eq!(again.to_string().parse(), Ok(again));
    }

    #[test]
    fn a_secret_href_is_taken_for_its_uuid() {
        let plain: KeyId = UUID.parse().expect("a UUID");
        for href in [
            format!("http://barbican:9311/v1/secrets/{UUID}"),
            format!("https://cloud/key-manager/v1/secrets/{UUID}/payload"),
            format!("https://cloud/v1/secrets/{UUID}/"),
            format!("  {UUID} "),
        ] {
            assert_eq!(KeyId::from_reference(&href), Ok(plain), "{href}");
        }
    }

    #[test]
    fn what_could_change_a_url_is_no_key_id() {
        for text in [
            "",
            "..",
            "b5309dfb-b326-4148-b0ad-e9cd1ec223a",
            "b5309dfb-b326-4148-b0ad-e9cd1ec223a8/acl",
            "b5309dfb-b326-4148-b0ad-e9cd1ec223a8_",
            "b5309dfb-b326-4148-b0ad-e9cd1ec223a8_../x",
            "b5309dfb-b326-4148-b0ad-e9cd1ec223a8_01234567890123456",
            "b5309dfb_b326-4148-b0ad-e9cd1ec223a8",
            "b5309dfbb3264148b0ade9cd1ec223a8",
            "+5309dfb-b326-4148-b0ad-e9cd1ec223a8",
            "ü5309dfb-b326-4148-b0ad-e9cd1ec223a",
            "https://cloud/v1/containers/b5309dfb-b326-4148-b0ad-e9cd1ec223a8",
        ] {
            assert!(KeyId::from_reference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_order_is_not_taken_for_its_secret() {
        let href = format!("https://cloud/v1/orders/{UUID}");
        assert_eq!(KeyId::from_reference(&href), Err(KeyIdError::Order));
    }

    #[test]
    fn the_label_is_the_one_of_kube_apiserver() {
        // printf %s b5309dfb-b326-4148-b0ad-e9cd1ec223a8 | sha256sum
        let id: KeyId = UUID.parse().expect("a UUID");
        assert_eq!(
            id.sha256_label(),
            "sha256:8b4f69e44459470b6c4e0504dfe875d234c175a0ae400b81635584f772e54df4"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reproduced(text in "\\PC{0,60}") {
            if let Ok(id) = text.parse::<KeyId>() {
                prop_assert_eq!(id.to_string().to_lowercase(), text.to_lowercase());
            }
        }

        #[test]
        fn every_id_survives_writing_and_reading(uuid: u128, suffix in "[A-Za-z0-9]{1,16}") {
            let id = KeyId { uuid, suffix: parse_suffix(&suffix).expect("a valid suffix") };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}

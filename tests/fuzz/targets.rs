//! What is fuzzed: each function takes any bytes, and panics when a promise is broken.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use barbican_kms::config::{Content, Environment, FileError, load};
use barbican_kms::envelope::{self, Untagged, WrappingKey};
use barbican_kms::key_id::KeyId;
use barbican_kms::openstack::{Container, Session};
use barbican_kms::secret::KekWriter;

/// A stored seed: the first byte says how the rest is split into tag and ciphertext.
pub(crate) fn envelope(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let (tag, ciphertext) = if *how < 128 {
        (None, rest)
    } else {
        let (tag, ciphertext) = rest.split_at(rest.len().min(32));
        (Some(tag), ciphertext)
    };
    let mut writer = KekWriter::new();
    writer.push(&[7; 32]);
    let key = WrappingKey::new(&writer.finish().expect("32 bytes"));
    let id: KeyId = ID.parse().expect("an id");
    let opened = envelope::open(&key, &id, ciphertext, tag, Untagged::Accept);
    if let Ok(plaintext) = &opened {
        assert!(plaintext.len() < ciphertext.len());
        assert!(tag.is_some() || plaintext.len() == envelope::SEED_BYTES);
    }
    assert!(envelope::open(&key, &id, ciphertext, None, Untagged::Refuse).is_err());
    if tag.is_none()
        && let Ok(sealed) = envelope::seal(&key, &id, rest, &[9; 16])
    {
        let opened = envelope::open(
            &key,
            &id,
            &sealed.ciphertext,
            Some(&sealed.tag),
            Untagged::Refuse,
        );
        assert_eq!(opened.as_deref(), Ok(rest));
    }
}

/// A cloud-config in the gcfg dialect.
pub(crate) fn gcfg(bytes: &[u8]) {
    read("cloud.conf", &[("cloud.conf", bytes)]);
}

/// A cloud-config in TOML.
pub(crate) fn toml(bytes: &[u8]) {
    read("cloud.toml", &[("cloud.toml", bytes)]);
}

/// A clouds.yaml.
pub(crate) fn clouds_yaml(bytes: &[u8]) {
    let cloud_config = format!("[Global]\nuse-clouds\n[KeyManager]\nkey-id={ID}\n");
    let files = [
        ("cloud.conf", cloud_config.as_bytes()),
        ("clouds.yaml", bytes),
    ];
    read("cloud.conf", &files);
}

/// Keystone's reply to a login.
pub(crate) fn token_reply(bytes: &[u8]) {
    if let Ok(session) = Session::from_reply(Some("token"), bytes, SystemTime::UNIX_EPOCH) {
        assert!(!format!("{session:?}").contains("\"token\""));
        session.account();
    }
}

/// Barbican's reply about a container. What comes of it has a measure, and can be shown.
pub(crate) fn container_reply(bytes: &[u8]) {
    let listing = Container::from_reply(bytes).map(Container::listing);
    let listing = match listing {
        Some(Ok(listing)) => listing,
        Some(Err(error)) => {
            assert!(!error.to_string().contains(char::is_control));
            return;
        }
        None => return,
    };
    let listed = listing.keys();
    assert!(listed.keys.len() <= listing.references.len());
    assert!(listed.warnings.len() <= listing.references.len().min(16));
    for warning in listed.warnings {
        assert!(!warning.contains(char::is_control), "{warning:?}");
    }
}

const ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

/// Reads a configuration from files that exist in memory only. Whatever comes of it can
/// be shown.
fn read(name: &str, files: &[(&str, &[u8])]) {
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| path.ends_with(name));
        let (_, bytes) = found.ok_or(FileError::Missing)?;
        Ok(Content {
            bytes: bytes.to_vec(),
            mode: 0o600,
        })
    };
    let environment = Environment {
        working_directory: PathBuf::from("/d"),
        ..Environment::default()
    };
    let said = match load(Path::new(name), &environment, &read) {
        Ok(loaded) => format!("{loaded:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!said.is_empty());
}

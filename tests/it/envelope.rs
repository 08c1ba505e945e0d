//! The stored format against vectors made by an independent implementation.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use barbican_kms::envelope::{self, OpenError, Untagged, WrappingKey};
use barbican_kms::key_id::KeyId;
use barbican_kms::secret::KekWriter;
use serde::Deserialize;

use crate::support::hex;

#[derive(Deserialize)]
struct Vector {
    name: String,
    kek: String,
    key_id: String,
    iv: Option<String>,
    plaintext: Option<String>,
    ciphertext: String,
    tag: Option<String>,
}

impl Vector {
    fn key(&self) -> WrappingKey {
        let mut writer = KekWriter::new();
        writer.push(&hex::decode(&self.kek));
        WrappingKey::new(&writer.finish().expect("a key of the right length"))
    }

    fn id(&self) -> KeyId {
        self.key_id.parse().expect("a key id")
    }

    fn open(&self, untagged: Untagged) -> Result<Vec<u8>, OpenError> {
        let tag = self.tag.as_deref().map(hex::decode);
        let ciphertext = hex::decode(&self.ciphertext);
        envelope::open(
            &self.key(),
            &self.id(),
            &ciphertext,
            tag.as_deref(),
            untagged,
        )
    }
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(file);
    let lines = BufReader::new(File::open(&path).expect("the vectors are committed")).lines();
    let vectors: Vec<Vector> = lines
        .map(|line| serde_json::from_str(&line.expect("text")).expect("a vector"))
        .collect();
    assert!(!vectors.is_empty(), "{file} is empty");
    vectors
}

#[test]
fn golden_vectors_are_sealed_and_opened_bit_for_bit() {
    for vector in vectors("envelope.jsonl") {
        let plaintext = hex::decode(vector.plaintext.as_deref().expect("a plaintext"));
        let iv = hex::decode(vector.iv.as_deref().expect("an IV"))
            .try_into()
            .expect("16 bytes");
        let sealed = envelope::seal(&vector.key(), &vector.id(), &plaintext, &iv).expect("it fits");
        assert_eq!(
            hex::encode(&sealed.ciphertext),
            vector.ciphertext,
            "{}",
            vector.name
        );
        assert_eq!(
            Some(hex::encode(&sealed.tag)),
            vector.tag,
            "{}",
            vector.name
        );
        assert_eq!(
            vector.open(Untagged::Refuse),
            Ok(plaintext),
            "{}",
            vector.name
        );
    }
}

#[test]
fn legacy_vectors_are_opened_unless_policy_refuses_them() {
    for vector in vectors("envelope_legacy.jsonl") {
        let plaintext = hex::decode(vector.plaintext.as_deref().expect("a plaintext"));
        assert_eq!(
            vector.open(Untagged::Accept),
            Ok(plaintext),
            "{}",
            vector.name
        );
        assert_eq!(
            vector.open(Untagged::Refuse),
            Err(OpenError::Unauthenticated),
            "{}",
            vector.name
        );
    }
}

#[test]
fn failing_vectors_are_refused_with_one_opaque_error() {
    for file in [
        "fail_envelope_tag.jsonl",
        "fail_envelope_length.jsonl",
        "fail_envelope_padding.jsonl",
        "fail_envelope_untagged.jsonl",
    ] {
        for vector in vectors(file) {
            let opened = vector.open(Untagged::Accept);
            assert_eq!(opened, Err(OpenError::Invalid), "{file}: {}", vector.name);
        }
    }
}

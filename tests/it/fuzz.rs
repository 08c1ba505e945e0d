//! The fuzz targets without a fuzzer: mutated samples for some seconds each, from fixed
//! seeds. `tests/fuzz` has the same targets for cargo-fuzz.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::hex;
use crate::support::random::Random;

/// How long each target is tried.
const TIME: Duration = Duration::from_secs(2);

/// However fast the machine, this is enough.
const TRIES: usize = 200_000;

/// Runs `target` on mutations of `samples`; each one builds on one that came before.
fn fuzz(target: fn(&[u8]), mut samples: Vec<Vec<u8>>, seed: u64) {
    assert!(!samples.is_empty());
    let mut random = Random::new(seed);
    for sample in &samples {
        shown(target, sample);
    }
    let begin = Instant::now();
    let mut tries = 0;
    while tries < TRIES && begin.elapsed() < TIME {
        let chosen = random.below(samples.len());
        let mut input = random.mutated(&samples[chosen]);
        if random.below(8) == 0 {
            let other = random.below(samples.len());
            let at = random.below(samples[other].len());
            input.extend_from_slice(&samples[other][at..]);
        }
        if random.below(50) == 0 {
            let length = random.below(200);
            input = random.bytes(length);
        }
        input.truncate(8192);
        shown(target, &input);
        // Without coverage to go by, now and then a mutation is kept by chance.
        if random.below(100) == 0 && samples.len() < 2000 {
            samples.push(input);
        }
        tries += 1;
    }
    assert!(tries > 100, "only {tries} in {TIME:?}");
}

/// Calls `target`, and prints the input if that panics.
fn shown(target: fn(&[u8]), input: &[u8]) {
    struct Shown<'a>(&'a [u8]);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let text = String::from_utf8_lossy(self.0);
                println!("the input was {}\n{text}", hex::encode(self.0));
            }
        }
    }
    let _shown = Shown(input);
    target(input);
}

/// A field of every line of a file of vectors.
fn vectors(file: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/");
    let text = crate::support::read_text((path.to_owned() + file).as_ref());
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn no_stored_bytes_make_the_envelope_panic() {
    let mut samples = Vec::new();
    for file in ["envelope.jsonl", "fail_envelope_padding.jsonl"] {
        for vector in vectors(file) {
            let ciphertext = hex::decode(vector["ciphertext"].as_str().expect("text"));
            let tag = hex::decode(vector["tag"].as_str().unwrap_or_default());
            samples.push([&[200], &tag[..], &ciphertext].concat());
            samples.push([&[0], &ciphertext[..]].concat());
        }
    }
    fuzz(targets::envelope, samples, 1);
}

#[test]
fn no_gcfg_file_makes_the_reader_panic() {
    let input = |vector: &Value| vector["in"].as_str().map(|text| text.as_bytes().to_vec());
    let samples = vectors("gcfg.jsonl").iter().filter_map(input).collect();
    fuzz(targets::gcfg, samples, 2);
}

#[test]
fn no_toml_file_makes_the_reader_panic() {
    fuzz(targets::toml, vec![TOML.into()], 3);
}

#[test]
fn no_clouds_yaml_makes_the_reader_panic() {
    fuzz(
        targets::clouds_yaml,
        vec![CLOUDS.into(), JSON_CLOUDS.into()],
        4,
    );
}

#[test]
fn no_reply_of_keystone_makes_the_reader_panic() {
    fuzz(targets::token_reply, vec![REPLY.into()], 5);
}

#[test]
fn no_reply_about_a_container_makes_the_reader_panic() {
    let place = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fuzz/seeds/container_reply"
    );
    let files = std::fs::read_dir(place).expect("seeds");
    let seeds = files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes"));
    let mut seeds: Vec<_> = seeds.collect();
    seeds.sort();
    fuzz(targets::container_reply, seeds, 6);
}

const TOML: &str = r#"
# A comment.
[Global]
auth-url = "https://k:5000/v3"
application-credential-id = 'id'
application-credential-secret = """a\tsecret"""
region = "RegionOne"
tls-insecure = false

[KeyManager]
key-id = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
decrypt-key-ids = [ "b5309dfb-b326-4148-b0ad-e9cd1ec223a9_002" ]
revalidate-interval = "5m"
max-cache-age = "1h30m"
key-manager-endpoint = "https://b/key-manager"
require-authentication = true
"#;

const CLOUDS: &str = r#"
clouds:
  openstack: &base
    auth_type: v3applicationcredential
    region_name: RegionOne
    interface: public
    auth:
      auth_url: "https://k:5000/v3"
      application_credential_id: 'id'
      application_credential_secret: >-
        folded
        secret
  other:
    <<: *base
    verify: no
"#;

const JSON_CLOUDS: &str = r#"{"clouds": {"one": {"auth": {"auth_url": "http://k/v3", "password": "p", "user_id": "u"}}}}"#;

const REPLY: &str = r#"{"token": {"methods": ["password"], "issued_at": "2026-01-01T00:00:00.000000Z",
"expires_at": "2026-01-01T01:00:00.000000Z", "user": {"id": "u", "name": "n", "domain": {"id": "d"}},
"project": {"id": "p", "name": "k"}, "roles": [{"id": "r", "name": "member"}],
"application_credential": {"id": "a", "restricted": true, "access_rules": [{"service": "key-manager",
"method": "GET", "path": "/v1/secrets/*/payload"}]},
"catalog": [{"type": "key-manager", "name": "barbican", "endpoints": [{"region": "RegionOne",
"region_id": "RegionOne", "interface": "public", "url": "http://127.0.0.1:9311/v1/"}]}]}}"#;

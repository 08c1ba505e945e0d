//! The ring on real servers: older keys, suffixes, and data without a tag.

use barbican_kms::proto::v2;
use serde_json::Value;
use tonic::Code;

use crate::support::client::{SEED, refusal, request};
use crate::support::hex;
use crate::support::openstack;
use crate::support::sidecar::Place;

#[tokio::test]
async fn what_an_older_key_has_wrapped_is_read_by_its_id() {
    let cloud = openstack::plain();
    let (old, new) = (cloud.key(0), cloud.key(1));
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let wrapped = place.start().ready().await.round_trip().await;
    assert_eq!(wrapped.key_id, old);

    let rotated = cloud.config_for("application_credential_narrow", new);
    let rotated = Place::new(&format!("{rotated}decrypt-key-ids = {old}\n"));
    let mut sidecar = rotated.start();
    let client = sidecar.ready().await;
    assert_eq!(client.round_trip().await.key_id, new);
    assert_eq!(client.decrypt(&wrapped).await.expect("the old key"), SEED);
}

#[tokio::test]
async fn every_configured_key_is_loaded_at_the_start() {
    let cloud = openstack::plain();
    let more = format!("decrypt-key-ids = {}, {}\n", cloud.key(1), cloud.key(2));
    let place = Place::new(&(cloud.config("application_credential_narrow") + &more));
    let mut sidecar = place.start();
    sidecar.logged_times("key loaded", 3).await;
}

#[tokio::test]
async fn data_under_the_id_of_another_key_is_damaged() {
    let cloud = openstack::plain();
    let more = format!("decrypt-key-ids = {}\n", cloud.key(1));
    let place = Place::new(&(cloud.config("application_credential_narrow") + &more));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    sidecar.logged_times("key loaded", 2).await;
    let mut wrapped = client.round_trip().await;
    cloud.key(1).clone_into(&mut wrapped.key_id);
    let (code, _) = refusal(client.decrypt(&wrapped).await);
    assert_eq!(code, Code::InvalidArgument);
}

#[tokio::test]
async fn a_suffix_makes_a_new_id_of_the_same_secret() {
    let cloud = openstack::plain();
    let plain = cloud.key(0);
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let wrapped = place.start().ready().await.round_trip().await;

    let more = format!("key-id-suffix = 002\ndecrypt-key-ids = {plain}\n");
    let suffixed = Place::new(&(cloud.config("application_credential_narrow") + &more));
    let mut sidecar = suffixed.start();
    let client = sidecar.ready().await;
    let status = client.status().await.expect("ready");
    assert_eq!(status.key_id, format!("{plain}_002"));
    assert_eq!(client.round_trip().await.key_id, format!("{plain}_002"));
    sidecar.logged_times("key loaded", 2).await;
    assert_eq!(client.decrypt(&wrapped).await.expect("listed"), SEED);
}

#[tokio::test]
async fn an_id_without_its_suffix_is_another_id() {
    let cloud = openstack::plain();
    let more = "key-id-suffix = 002\n";
    let place = Place::new(&(cloud.config("application_credential_narrow") + more));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let mut wrapped = client.round_trip().await;
    cloud.key(0).clone_into(&mut wrapped.key_id);
    let (code, _) = refusal(client.decrypt(&wrapped).await);
    assert_eq!(code, Code::FailedPrecondition);
}

/// A key of known bytes in Barbican, and what an independent implementation of the Go
/// plugin's format has wrapped with those bytes.
async fn legacy(more: &str) -> (Place, Vec<(v2::DecryptRequest, Vec<u8>)>) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/envelope_legacy.jsonl"
    );
    let text = crate::support::read_text(path.as_ref());
    let vectors: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let field = |vector: &Value, name| vector[name].as_str().expect("text").to_owned();
    let kek = field(&vectors[0], "kek");
    let cloud = openstack::plain();
    let id = cloud.new_key(&kek).await;
    let stored = vectors
        .iter()
        .filter(|vector| vector["kek"] == kek.as_str())
        .map(|vector| {
            let request = v2::DecryptRequest {
                ciphertext: hex::decode(&field(vector, "ciphertext")),
                uid: "legacy".to_owned(),
                key_id: id.clone(),
                annotations: [].into(),
            };
            (request, hex::decode(&field(vector, "plaintext")))
        })
        .collect();
    let config = cloud.config_for("application_credential_narrow", &id);
    (Place::new(&(config + more)), stored)
}

#[tokio::test]
async fn data_of_the_go_plugin_is_read() {
    let (place, stored) = legacy("").await;
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    assert!(stored.len() > 3);
    for (request, plaintext) in stored {
        assert_eq!(client.send(request).await.expect("legacy"), plaintext);
    }
}

#[tokio::test]
async fn data_without_a_tag_is_refused_when_policy_says_so() {
    let (place, stored) = legacy("require-authentication = true\n").await;
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let text = "the data has no authentication tag, and require-authentication is set";
    let answer = (Code::InvalidArgument, text.to_owned());
    for (legacy, _) in stored {
        assert_eq!(refusal(client.send(legacy).await), answer);
    }
    let mut own = request(&client.round_trip().await);
    own.annotations.clear();
    assert_eq!(refusal(client.send(own).await), answer);
}

//! The process with real servers, when all is well.

use crate::support::openstack::{self, OpenStack};
use crate::support::patience::at_once;
use crate::support::sidecar::Place;

/// Serves with one of the deployment's ready cloud-configs.
async fn serves(openstack: &OpenStack, kind: &str) {
    let name = if kind == "toml" {
        "cloud.toml"
    } else {
        "cloud.conf"
    };
    serves_as(
        openstack,
        kind,
        Place::with_file(name, &openstack.config(kind)),
    )
    .await;
}

async fn serves_as(openstack: &OpenStack, kind: &str, place: Place) {
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let status = client.status().await.expect("ready");
    assert_eq!(status.version, "v2", "{kind}");
    assert_eq!(status.healthz, "ok", "{kind}");
    assert_eq!(status.key_id, openstack.key(0), "{kind}");
    let wrapped = client.round_trip().await;
    assert_eq!(wrapped.key_id, openstack.key(0), "{kind}");
}

const LOGINS: &[&str] = &[
    "password",
    "password_user_id",
    "application_credential",
    "application_credential_name",
    "application_credential_narrow",
    "trust",
    "use_clouds",
    "use_clouds_password",
    "toml",
];

#[tokio::test]
async fn every_way_to_log_in_serves_over_http() {
    at_once(LOGINS.iter().map(|kind| serves(openstack::plain(), kind))).await;
}

#[tokio::test]
async fn every_way_to_log_in_serves_over_https_with_an_own_authority() {
    at_once(LOGINS.iter().map(|kind| serves(openstack::tls(), kind))).await;
}

#[tokio::test]
async fn every_way_to_log_in_serves_with_a_client_certificate() {
    at_once(LOGINS.iter().map(|kind| serves(openstack::mtls(), kind))).await;
}

#[tokio::test]
async fn a_ready_token_serves_over_http_and_https() {
    for openstack in [openstack::plain(), openstack::tls(), openstack::mtls()] {
        let token = openstack.ctl(&["token"]).await;
        let token = token["token"].as_str().expect("a token");
        let place = Place::new(&openstack.config_of_token(token));
        serves_as(openstack, "token", place).await;
    }
}

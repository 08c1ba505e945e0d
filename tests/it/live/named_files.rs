//! The files that the cloud-config names count as much as itself.

use std::path::{Path, PathBuf};

use super::{AT_ONCE, reloads, replace, write};
use crate::support::openstack;
use crate::support::patience::within;
use crate::support::pki;
use crate::support::sidecar::Place;

async fn applied(place: &Place, count: u64, what: &str) {
    let socket = place.socket();
    let seen = within(AT_ONCE, async || {
        (reloads(&socket, "applied").await == count).then_some(())
    })
    .await;
    assert!(seen.is_some(), "{what}");
}

#[tokio::test]
async fn a_change_of_each_named_file_is_a_reload() {
    let openstack = openstack::plain();
    let place = Place::new("");
    let directory = |name: &str| -> PathBuf {
        let path = place.path(name);
        std::fs::create_dir(&path).expect("made");
        path
    };
    let ca = directory("ca").join("ca.pem");
    let pair = directory("pair");
    let (certificate, key) = (pair.join("tls.crt"), pair.join("tls.key"));
    let clouds = directory("clouds").join("clouds.yaml");
    // Looked for in the working directory.
    let secure = place.path("secure.yaml");
    let make = || pki::self_signed(pki::params());
    let identity = make();
    write(&ca, &make().chain_pem);
    write(&certificate, &identity.chain_pem);
    write(&key, &identity.key_pem);
    let password = openstack.text("/user/password");
    write(
        &clouds,
        &clouds_yaml(
            openstack.text("/auth_url"),
            openstack.text("/user/username"),
        ),
    );
    let secret = |indent: &str| {
        format!(
            "clouds:\n{indent}kms:\n{indent}{indent}auth:\n{indent}{indent}{indent}password: \"{password}\"\n"
        )
    };
    write(&secure, &secret(" "));
    let config = format!(
        "[Global]\nuse-clouds = true\ncloud = kms\nclouds-file = {}\nca-file = {}\n\
         cert-file = {}\nkey-file = {}\n[KeyManager]\nkey-id = {}\n",
        shown(&clouds),
        shown(&ca),
        shown(&certificate),
        shown(&key),
        openstack.key(0),
    );
    write(place.config(), &config);
    let mut sidecar = place.start();
    let client = sidecar.ready().await;

    replace(&ca, &make().chain_pem);
    applied(&place, 1, "the authority").await;
    write(&ca, &make().chain_pem);
    applied(&place, 2, "the authority, in place").await;

    let identity = make();
    replace(&certificate, &identity.chain_pem);
    sidecar.logged("configuration not reloaded").await;
    assert_eq!(reloads(&place.socket(), "applied").await, 2, "half a pair");
    replace(&key, &identity.key_pem);
    applied(&place, 3, "certificate and key").await;

    let text = clouds_yaml(
        openstack.text("/auth_url"),
        openstack.text("/user/username"),
    );
    replace(
        &clouds,
        &text.replace("interface: public", "interface: internal"),
    );
    applied(&place, 4, "clouds.yaml").await;

    // Other letters, the same password: not a change, and nobody is asked.
    replace(&secure, &secret("  "));
    // A password that Keystone refuses, and the right one again.
    replace(&secure, &secret(" ").replace(password, "wrong"));
    sidecar.logged("key not loaded").await;
    replace(&secure, &secret(" "));
    sidecar.logged("nothing to reload").await;
    assert_eq!(reloads(&place.socket(), "applied").await, 4);

    // A file in a directory that is not there yet.
    let later = place.path("later/deeper/ca.pem");
    let moved = config.replace(&shown(&ca), &shown(&later));
    replace(place.config(), &moved);
    sidecar.logged_times("configuration not reloaded", 3).await;
    std::fs::create_dir_all(later.parent().expect("a directory")).expect("made");
    write(&later, &make().chain_pem);
    applied(&place, 5, "a directory that appears later").await;
    replace(&later, &make().chain_pem);
    applied(&place, 6, "a file in it").await;
    client.round_trip().await;
    assert!(!sidecar.errors().contains("without a notification"));
}

fn clouds_yaml(auth_url: &str, username: &str) -> String {
    format!(
        "clouds:\n  kms:\n    region_name: RegionOne\n    interface: public\n    auth:\n      \
         auth_url: \"{auth_url}\"\n      username: {username}\n      user_domain_name: Default\n      \
         project_name: kubernetes\n      project_domain_name: Default\n"
    )
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a text").to_owned()
}

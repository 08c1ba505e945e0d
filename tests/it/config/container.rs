//! `key-container`: a list of keys in place of `key-id`.

use super::{Directory, KEY_ID, conf};

const CONTAINER: &str = "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8";

/// A configuration without `key-id`.
fn with_container(lines: &str) -> String {
    conf("", lines).replace(&format!("key-id={KEY_ID}\n"), "")
}

#[test]
fn a_container_takes_the_place_of_the_key() {
    for value in [
        CONTAINER.to_owned(),
        format!("https://b/v1/containers/{CONTAINER}"),
    ] {
        let lines =
            format!("key-container={value}\ndecrypt-key-ids={KEY_ID}_002\nkey-container-owner=abc");
        let directory = Directory::new();
        let text = with_container(&lines);
        let ring = directory.load_text(&text).expect("valid").live.ring.clone();
        assert_eq!(ring.write, None);
        let container = ring.container.expect("a container");
        assert_eq!(container.id.to_string(), CONTAINER);
        assert_eq!(container.owner.as_deref(), Some("abc"));
        let pins: Vec<_> = ring.decrypt.iter().map(ToString::to_string).collect();
        assert_eq!(pins, [format!("{KEY_ID}_002")]);
        assert!(directory.warnings(&text).is_empty());
    }
}

#[test]
fn a_container_beside_what_it_replaces_is_refused_with_the_reason() {
    let container = format!("key-container={CONTAINER}");
    for (text, expected) in [
        (
            conf("", &container),
            "[KeyManager] key-id: key-container names the list from which the write key comes",
        ),
        (
            with_container(&format!("{container}\nkey-id-suffix=002")),
            "[KeyManager] key-id-suffix: keys of key-container have no suffix",
        ),
        (
            with_container("key-container=k8s-keys"),
            "[KeyManager] key-container: it is not the UUID of a container",
        ),
        (
            with_container(&format!("key-container=https://b/v1/secrets/{KEY_ID}")),
            "[KeyManager] key-container: it is the href of a secret",
        ),
    ] {
        let refusal = Directory::new().refusal(&text);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn an_owner_without_a_container_is_warned_about() {
    let directory = Directory::new();
    let text = conf("", "key-container-owner=abc");
    directory.load_text(&text).expect("valid");
    let warnings = directory.warnings(&text);
    assert!(warnings[0].contains("has no effect without key-container"));
}

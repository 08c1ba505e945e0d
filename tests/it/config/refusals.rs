//! Settings that are refused, the messages about it, and what is merely warned
//! about.

use std::time::Duration;

use barbican_kms::config::Interface;

use super::{Directory, KEY_ID, conf};

const OTHER_ID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn an_auth_url_always_ends_in_v3() {
    for (url, expected) in [
        ("http://k:5000", "http://k:5000/v3"),
        ("http://k:5000/", "http://k:5000/v3"),
        ("https://k/identity", "https://k/identity/v3"),
        ("https://k/identity/", "https://k/identity/v3"),
        ("https://k/v3", "https://k/v3"),
        ("https://k/v3/", "https://k/v3"),
        ("https://k/identity/v3/", "https://k/identity/v3"),
        ("https://k/v2", "https://k/v3"),
        ("https://k/v3.14/", "https://k/v3"),
        ("https://k/v3/auth/tokens", "https://k/v3"),
        ("https://k/dev1/identity", "https://k/dev1/identity/v3"),
        ("HTTPS://K/v3", "https://K/v3"),
        ("http://[::1]:5000/v3", "http://[::1]:5000/v3"),
        ("https://k/v3 ", "https://k/v3"),
        ("https://k/a \u{e9}|/v3", "https://k/a%20%C3%A9%7C/v3"),
        ("https://k/a%20b/v3", "https://k/a%20b/v3"),
    ] {
        let text = conf(&format!("auth-url=\"{url}\""), "");
        let loaded = Directory::new().load_text(&text).expect(url);
        assert_eq!(loaded.live.cloud.keystone.to_string(), expected, "{url}");
    }
}

#[test]
fn an_age_that_one_failed_confirmation_can_reach_is_warned_about() {
    let directory = Directory::new();
    for (lines, warned) in [
        ("max-cache-age=5m1s", true),
        ("max-cache-age=9m59s", true),
        ("max-cache-age=10m", false),
        ("revalidate-interval=10s\nmax-cache-age=20s", false),
        ("max-cache-age=0", false),
    ] {
        let text = conf("", lines);
        directory.load_text(&text).expect(lines);
        let warnings = directory.warnings(&text);
        let about = |text: &String| {
            text.contains("[KeyManager] max-cache-age: one confirmation that fails")
                && text.ends_with("write 10m or more, or 0 for no limit")
        };
        assert_eq!(warnings.iter().any(about), warned, "{lines}: {warnings:?}");
        assert_eq!(warnings.is_empty(), !warned, "{lines}: {warnings:?}");
    }
}

#[test]
fn what_is_no_address_of_keystone_is_refused() {
    for (url, expected) in [
        ("keystone:5000/v3", "it must begin with https://"),
        ("ftp://keystone/v3", "it must begin with https://"),
        ("http://", "it is not a URL"),
        ("http://k k/v3", "it is not a URL"),
        ("http://k/v2.0", "Keystone's API v2.0 no longer exists"),
        (
            "http://k/identity/v2.0/",
            "Keystone's API v2.0 no longer exists",
        ),
        (
            "http://u:hunter2@k/v3",
            "it must not contain a user or password",
        ),
        ("http://k/v3?x=1", "it must end with the path"),
        ("http://k/v3#x", "it must end with the path"),
    ] {
        let refusal = Directory::new().refusal(&conf(&format!("auth-url=\"{url}\""), ""));
        let expected = format!("cloud.conf:6:10: [Global] auth-url: {expected}");
        assert!(refusal.starts_with(&expected), "{url}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
    let refusal = Directory::new().refusal(&conf("auth-url=", ""));
    assert!(
        refusal.starts_with("cloud.conf: auth-url is missing in [Global]"),
        "{refusal}"
    );
}

#[test]
fn barbicans_own_url_always_ends_in_v1_in_both_dialects() {
    let directory = Directory::new();
    let without = directory.load_text(&conf("", "")).expect("loaded");
    assert_eq!(without.live.cloud.barbican, None);
    for (url, expected) in [
        ("http://b:9311", "http://b:9311/v1"),
        ("https://b/key-manager/", "https://b/key-manager/v1"),
        ("https://b/key-manager/v1/", "https://b/key-manager/v1"),
        ("HTTPS://B/v1", "https://B/v1"),
        ("https://[::1]:9311", "https://[::1]:9311/v1"),
        ("https://b/a \u{e9}", "https://b/a%20%C3%A9/v1"),
    ] {
        let text = conf("", &format!("key-manager-endpoint=\"{url}\""));
        let loaded = directory.load_text(&text).expect(url);
        let barbican = loaded.live.cloud.barbican.as_ref().expect("a URL");
        assert_eq!(barbican.to_string(), expected, "{url}");
        // It belongs to what a key is proved with.
        assert_ne!(loaded.live.cloud, without.live.cloud, "{url}");
    }
    let toml = format!(
        "[Global]\nauth-url = 'http://k'\nuser-id = 'u'\npassword = 'p'\ntenant-id = 't'\n\
         [KeyManager]\nkey-id = '{KEY_ID}'\nkey-manager-endpoint = 'https://b/km'\n"
    );
    directory.write("cloud.toml", &toml);
    let loaded = directory.load("cloud.toml").expect("loaded");
    let barbican = loaded.live.cloud.barbican.as_ref().expect("a URL");
    assert_eq!(barbican.to_string(), "https://b/km/v1");
}

#[test]
fn what_is_no_address_of_barbican_is_refused() {
    for (url, expected) in [
        ("barbican:9311", "it must begin with https://"),
        ("ftp://b", "it must begin with https://"),
        (
            "http://",
            "it is not a URL like https://barbican.example.com:9311",
        ),
        (
            "http://b b",
            "it is not a URL like https://barbican.example.com:9311",
        ),
        (
            "http://u:hunter2@b",
            "it must not contain a user or password",
        ),
        ("http://b?x=1", "it must end with the path"),
        ("http://b/#x", "it must end with the path"),
    ] {
        let text = conf("", &format!("key-manager-endpoint=\"{url}\""));
        let refusal = Directory::new().refusal(&text);
        let said = format!("[KeyManager] key-manager-endpoint: {expected}");
        assert!(refusal.contains(&said), "{url}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn an_endpoint_type_is_taken_in_every_spelling() {
    for (word, expected) in [
        ("public", Interface::Public),
        ("internalURL", Interface::Internal),
        ("ADMIN", Interface::Admin),
        ("AdminUrl", Interface::Admin),
    ] {
        let text = conf(&format!("os-endpoint-type={word}"), "");
        let loaded = Directory::new().load_text(&text).expect(word);
        assert_eq!(loaded.live.cloud.interface, expected);
    }
    assert_eq!(
        Directory::new().refusal(&conf("os-endpoint-type=private", "")),
        "cloud.conf:6:18: [Global] os-endpoint-type: it must be public, internal or admin"
    );
}

#[test]
fn the_ring_has_sensible_defaults() {
    let ring = Directory::new()
        .load_text(&conf("", ""))
        .expect("valid")
        .live
        .ring
        .clone();
    assert_eq!(ring.write.expect("a key").to_string(), KEY_ID);
    assert_eq!(ring.decrypt, []);
    assert!(!ring.require_authentication);
    assert_eq!(ring.revalidate_interval, Duration::from_secs(300));
    assert_eq!(ring.max_cache_age, None);
}

#[test]
fn the_ring_is_what_the_file_says() {
    let lines = format!(
        "key-id-suffix=002\ndecrypt-key-ids={KEY_ID}, https://b/v1/secrets/{OTHER_ID}\n\
         require-authentication\nrevalidate-interval=1h30m\nmax-cache-age=\"12h\""
    );
    let ring = Directory::new()
        .load_text(&conf("", &lines))
        .expect("valid")
        .live
        .ring
        .clone();
    assert_eq!(
        ring.write.expect("a key").to_string(),
        format!("{KEY_ID}_002")
    );
    let decrypt: Vec<_> = ring.decrypt.iter().map(ToString::to_string).collect();
    assert_eq!(decrypt, [KEY_ID, OTHER_ID]);
    assert!(ring.require_authentication);
    assert_eq!(ring.revalidate_interval, Duration::from_secs(5400));
    assert_eq!(ring.max_cache_age, Some(Duration::from_secs(43_200)));
}

#[test]
fn a_key_that_is_named_twice_is_held_once_and_warned_about() {
    let directory = Directory::new();
    let text = conf(
        "",
        &format!("decrypt-key-ids={OTHER_ID},{KEY_ID},{OTHER_ID}"),
    );
    let ring = directory.load_text(&text).expect("valid").live.ring.clone();
    assert_eq!(ring.ids().count(), 2);
    assert_eq!(
        directory.warnings(&text),
        [KEY_ID, OTHER_ID].map(|id| format!(
            "cloud.conf:9:17: [KeyManager] decrypt-key-ids: key {id} is named twice; one of them \
             is \
             ignored"
        ))
    );
}

#[test]
fn settings_of_the_ring_that_cannot_be_are_refused() {
    let suffixed = format!("key-id={KEY_ID}_001\nkey-id-suffix=002");
    for (lines, expected) in [
        ("key-id=", "cloud.conf: key-id is missing in [KeyManager]"),
        (
            "key-id=abc",
            "cloud.conf:9:8: [KeyManager] key-id: it is not a UUID",
        ),
        (
            "decrypt-key-ids=abc",
            "cloud.conf:9:17: [KeyManager] decrypt-key-ids: element 1: it is not a UUID",
        ),
        (
            "decrypt-key-ids=11111111-2222-3333-4444-555555555555,,",
            "cloud.conf:9:17: [KeyManager] decrypt-key-ids: element 2: it is empty",
        ),
        (
            "key-id-suffix=a/b",
            "cloud.conf:9:15: [KeyManager] key-id-suffix: the suffix after `_` must be 1 to 16",
        ),
        (
            &suffixed,
            "cloud.conf:10:15: [KeyManager] key-id-suffix: key-id has a suffix already",
        ),
        (
            "revalidate-interval=5",
            "cloud.conf:9:21: [KeyManager] revalidate-interval: it is not a duration; write a \
             number and its unit, such as 90s, 5m or 1h30m",
        ),
        (
            "revalidate-interval=1s",
            "cloud.conf:9:21: [KeyManager] revalidate-interval: it must be 10s to 24h",
        ),
        (
            "revalidate-interval=25h",
            "cloud.conf:9:21: [KeyManager] revalidate-interval: it must be 10s to 24h",
        ),
        (
            "max-cache-age=4m",
            "cloud.conf:9:15: [KeyManager] max-cache-age: it must be longer than \
             revalidate-interval (5m), otherwise keys are wiped before they are confirmed; write \
             at least twice the interval, 10m, or 0 for no limit",
        ),
        (
            "max-cache-age=5m",
            "cloud.conf:9:15: [KeyManager] max-cache-age: it must be longer",
        ),
        (
            "require-authentication=maybe",
            "cloud.conf:9:24: failed to parse the value of [KeyManager] require-authentication as \
             a boolean",
        ),
    ] {
        let refusal = Directory::new().refusal(&conf("", lines));
        assert!(
            refusal.starts_with(expected),
            "{refusal}\ninstead of\n{expected}"
        );
    }
}

#[test]
fn turning_verification_off_is_warned_about_loudly() {
    let directory = Directory::new();
    let text = conf("tls-insecure=true", "");
    assert!(
        !directory
            .load_text(&text)
            .expect("valid")
            .live
            .cloud
            .tls
            .verify
    );
    assert!(directory.warnings(&text)[0].contains("CERTIFICATES ARE NOT VERIFIED"));
}

#[test]
fn nothing_but_true_turns_verification_off() {
    for (value, warned) in [
        ("TRUE", true),
        ("yes", true),
        ("1", true),
        ("false", false),
        ("No", false),
    ] {
        let directory = Directory::new();
        let text = conf(&format!("tls-insecure={value}"), "");
        assert!(
            directory
                .load_text(&text)
                .expect("valid")
                .live
                .cloud
                .tls
                .verify
        );
        assert_eq!(!directory.warnings(&text).is_empty(), warned, "{value}");
    }
}

#[test]
fn gcfg_errors_name_file_line_and_column() {
    assert_eq!(
        Directory::new().refusal("[Global]\nuser_name=x\n"),
        "cloud.conf:2:5: illegal character U+005F '_'; names consist of letters, digits and `-`, \
         begin with a letter, and are followed by `=`"
    );
}

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn shown_path(text: &str) -> String {
    path(Path::new(text)).to_string()
}

#[test]
fn ordinary_paths_are_shown() {
    for text in [
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/barbican-kms/cloud.conf",
        "/etc/openstack/clouds.yaml",
        "/tmp/.tmpqLk9eZ/cloud.conf",
        "/var/lib/kubelet/pods/b5309dfb-b326-4148-b0ad-e9cd1ec223a8/volumes/kms.sock",
        "/etc/config/..2026_11_26_11_59_20.1234567890/cloud.conf",
        "/no/such",
        "/",
        "clouds.yaml",
        "./pki/ca.pem",
        "../cloud.toml",
        "./cloud",
        "pki/ca",
    ] {
        assert_eq!(shown_path(text), text);
    }
}

#[test]
fn a_long_path_loses_its_middle() {
    let long = format!("/etc/{}cloud.conf", "kubernetes/".repeat(20));
    let shown = shown_path(&long);
    assert!(shown.chars().count() <= MAX_CHARS, "{shown}");
    assert!(shown.starts_with("/etc/kubernetes/") && shown.ends_with("/cloud.conf"));
}

#[test]
fn what_could_be_a_secret_is_redacted() {
    for (text, expected) in [
        (
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n",
            "a text of 3 lines that begins like a PEM block",
        ),
        (
            "MC4CAQAw-----END PRIVATE KEY",
            "a text of 28 characters with a part of a PEM block",
        ),
        ("Passw0rd", "a text of 8 characters"),
        ("correct-horse-battery-staple", "a text of 28 characters"),
        (
            "000102030405060708090a0b0c0d0e0f",
            "a text of 32 characters that looks like hexadecimal",
        ),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "a text of 44 characters that looks like base64",
        ),
        (
            "/AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "a text of 44 characters that looks like base64",
        ),
        ("x", "a text of 1 character"),
        ("", "a text of 0 characters"),
    ] {
        assert_eq!(described(text).to_string(), expected, "{text}");
        assert!(name(text).is_redacted() || text == "x", "{text}");
        assert!(
            path(Path::new(text)).is_redacted() || text.is_empty(),
            "{text}"
        );
    }
    let secret = "mS9-".repeat(21) + "xQ";
    assert_eq!(
        name(&secret).to_string(),
        "a text of 86 characters that looks like the secret of an application credential"
    );
}

#[test]
fn names_are_shown_and_passwords_are_not() {
    for text in [
        "RegionOne",
        "eu-de-1",
        "prod",
        "my_cloud2",
        "dbl",
        "FRA",
        "GRA11",
    ] {
        assert_eq!(name(text).to_string(), text);
    }
    for text in [
        "Passw0rd",
        "Tr0ub4dor",
        "a b",
        "x=y",
        "p\u{a0}q",
        "Wr0ng-Pa55word",
    ] {
        assert!(name(text).is_redacted(), "{text}");
    }
}

#[test]
fn hosts_and_urls_are_shown_without_what_could_be_a_secret() {
    for text in [
        "keystone",
        "keystone:5000",
        "keystone.example.com:5000",
        "10.0.0.1:80",
        "[::1]:5000",
        "k8s-4f3a.cloud.example.org",
    ] {
        assert_eq!(host(text).to_string(), text);
    }
    assert!(host("S3cret-Passw0rd:80").is_redacted());
    assert!(host("000102030405060708090a0b0c0d0e0f.example.com").is_redacted());
    let shown = |text: &str| url(&text.parse().expect("a URL")).to_string();
    let key = "https://b.example.com/v1/secrets/b5309dfb-b326-4148-b0ad-e9cd1ec223a8/payload";
    assert_eq!(shown(key), key);
    assert_eq!(
        shown("https://u:p@k.example.com/v3"),
        "https://k.example.com/v3"
    );
    assert_eq!(
        shown("https://k.example.com/AAECAwQFBgcICQoLDA0ODxAR/v3?x"),
        "https://k.example.com/(not shown)/v3"
    );
}

proptest! {
    #[test]
    fn no_generated_secret_is_shown(bytes: [u8; 32]) {
        let mut hexadecimal = String::new();
        for byte in bytes {
            write!(hexadecimal, "{byte:02x}").expect("written");
        }
        prop_assert!(name(&hexadecimal).is_redacted());
        prop_assert!(path(Path::new(&hexadecimal)).is_redacted());
        prop_assert!(host(&hexadecimal).is_redacted());
    }

    #[test]
    fn one_line_of_bounded_length_is_shown(text in "(?s).{0,200}") {
        for shown in [name(&text), path(Path::new(&text)), host(&text)] {
            let shown = shown.to_string();
            prop_assert!(shown.chars().count() <= MAX_CHARS);
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}

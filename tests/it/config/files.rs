//! Which files are read and looked for, and what is said when one is missing.

use std::path::{Path, PathBuf};

use barbican_kms::config::{Environment, Roots};

use super::vectors::login_body;
use super::{Directory, KEY_ID, conf, load_in};

const CLOUDS: &str = "clouds:\n  one:\n    auth: {auth_url: \"http://k/v3\", user_id: u, password: \
                      hunter2, project_id: T}\n";

fn use_clouds(lines: &str) -> String {
    format!("[Global]\nuse-clouds=true\n{lines}\n[KeyManager]\nkey-id={KEY_ID}\n")
}

#[test]
fn every_file_that_was_read_is_listed() {
    let directory = Directory::new();
    let files = directory.load_text(&conf("", "")).expect("valid").files;
    assert_eq!(files, [directory.path().join("cloud.conf")]);
}

#[test]
fn a_missing_cloud_config_is_listed_all_the_same() {
    let directory = Directory::new();
    let error = directory.load("cloud.conf").expect_err("missing");
    assert_eq!(error.files, [directory.path().join("cloud.conf")]);
    assert_eq!(
        directory.relative(&error.to_string()),
        "cloud.conf: there is no such file; create it or correct its name"
    );
}

#[test]
fn a_missing_clouds_yaml_is_listed_wherever_it_may_appear() {
    let directory = Directory::new();
    let error = directory.load_text(&use_clouds("")).expect_err("missing");
    let here = directory.path();
    let home = here.join("home/.config/openstack");
    let etc = Path::new("/etc/openstack");
    let expected: Vec<PathBuf> = vec![
        here.join("cloud.conf"),
        here.join("clouds.yaml"),
        home.join("clouds.yaml"),
        etc.join("clouds.yaml"),
        here.join("clouds.yml"),
        home.join("clouds.yml"),
        etc.join("clouds.yml"),
    ];
    assert_eq!(error.files, expected);
    let text = directory.relative(&error.to_string());
    let start =
        "cloud.conf:2:12: [Global] use-clouds: there is no clouds.yaml; looked for clouds.yaml";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    for (lines, named) in [
        (
            "clouds-file=none.yaml",
            "none.yaml (named by cloud.conf:3:13: [Global] clouds-file)",
        ),
        (
            "ca-file=none.pem",
            "none.pem (named by cloud.conf:3:9: [Global] ca-file)",
        ),
        (
            "cert-file=none.pem\nkey-file=none.key",
            "none.pem (named by cloud.conf:3:11: [Global] cert-file)",
        ),
    ] {
        assert_eq!(
            directory.refusal(&use_clouds(lines)),
            format!("{named}: there is no such file; create it or correct its name")
        );
    }
    let environment = Environment {
        client_secure_file: Some(PathBuf::from("none.yaml")),
        ..directory.environment()
    };
    directory.write("cloud.conf", &use_clouds(""));
    let error = load_in("cloud.conf", &environment).expect_err("missing");
    assert_eq!(
        directory.relative(&error.to_string()),
        "none.yaml (named by cloud.conf:2:12: use-clouds with OS_CLIENT_SECURE_FILE): there is no \
         such file; create it or correct its name"
    );
}

#[test]
fn errors_in_clouds_yaml_name_the_place_and_quote_nothing() {
    for (yaml, expected) in [
        ("clouds: [\n", "clouds.yaml:1:9: "),
        (
            "clouds:\n  one:\n    auth: {password: \"hunter2\n",
            "clouds.yaml:3:22: not valid YAML",
        ),
        (
            "clouds:\n  one:\n    auth: hunter2\n",
            "clouds.yaml:3:11: a value of another type",
        ),
        (
            "clouds:\n  one:\n    auth: {password: !!int hunter2}\n",
            "clouds.yaml:3:28: a value of another type is expected here (a string without a tag",
        ),
        (
            "clouds:\n  one:\n    auth: {password: hunter2, password: hunter2}\n",
            "clouds.yaml:3:31: a key occurs twice in one mapping",
        ),
        (
            "clouds:\n  one:\n    verify: hunter2\n",
            "clouds.yaml:3:13: true or false is expected",
        ),
        (
            "clouds:\n  one:\n    verify: \"false\"\n",
            "clouds.yaml:3:13: true or false is expected",
        ),
        (
            "clouds:\n  one: {}\n---\nx: 1\n",
            "clouds.yaml:4:1: the file has several documents",
        ),
        (
            "clouds:\n  one:\n    region_name: R\n",
            "clouds.yaml: cloud one has no `auth:`",
        ),
        ("", "clouds.yaml: there is no cloud in it"),
        (
            "clouds:\n  one:\n    auth: {auth_url: \"http://u:hunter2@k\"}\n",
            "clouds.yaml:3:22: clouds.one.auth.auth_url: it must not contain a user",
        ),
    ] {
        let directory = Directory::new();
        directory.write("clouds.yaml", yaml);
        let refusal = directory.refusal(&use_clouds(""));
        assert!(refusal.starts_with(expected), "{yaml}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn a_yaml_bomb_is_refused() {
    use std::fmt::Write as _;
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 9].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{items}]").expect("written");
    }
    let nested = format!("a: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    for yaml in [bomb, nested] {
        let directory = Directory::new();
        directory.write("clouds.yaml", &(yaml + CLOUDS));
        let refusal = directory.refusal(&use_clouds(""));
        assert!(refusal.starts_with("clouds.yaml:"), "{refusal}");
    }
}

#[test]
fn the_cloud_is_the_named_one_or_the_only_one() {
    let directory = Directory::new();
    directory.write("clouds.yaml", "clouds:\n  b: {}\n  a: {}\n");
    assert_eq!(
        directory.refusal(&use_clouds("")),
        "clouds.yaml: there are several clouds (a, b); name one with `cloud = NAME` in [Global] or \
         with OS_CLOUD"
    );
    assert_eq!(
        directory.refusal(&use_clouds("cloud=c")),
        "cloud.conf:3:7: [Global] cloud: there is no cloud of this name in clouds.yaml; available: \
         a, b"
    );
}

#[test]
fn secure_yaml_wins_over_clouds_yaml_and_that_over_its_profile() {
    let directory = Directory::new();
    directory.write(
        "clouds.yaml",
        "clouds:\n  one:\n    profile: vendor\n    auth: {user_id: u, password: public}\n",
    );
    directory.write(
        "secure.yaml",
        "clouds:\n  one:\n    auth: {password: secret}\n",
    );
    directory.write(
        "clouds-public.yml",
        "public-clouds:\n  vendor:\n    auth: {auth_url: \"http://vendor\", user_id: v, \
         project_id: \
         T}\n    region_name: R\n",
    );
    let loaded = directory.load_text(&use_clouds("")).expect("valid");
    let cloud = &loaded.live.cloud;
    assert_eq!(cloud.keystone.to_string(), "http://vendor/v3");
    assert_eq!(cloud.region.as_deref(), Some("R"));
    let user = &login_body(cloud)["identity"]["password"]["user"];
    assert_eq!(*user, serde_json::json!({"id": "u", "password": "secret"}));
}

#[test]
fn an_entry_that_stands_alone_in_secure_yaml_is_taken_where_clouds_yaml_has_no_only_one() {
    for clouds in [
        "clouds: {}\n",
        "clouds:\n  one: {auth: {user_id: x}}\n  two: {}\n",
    ] {
        let directory = Directory::new();
        directory.write("clouds.yaml", clouds);
        directory.write("secure.yaml", CLOUDS);
        let loaded = directory.load_text(&use_clouds("")).expect("valid");
        let user = &login_body(&loaded.live.cloud)["identity"]["password"]["user"];
        assert_eq!(*user, serde_json::json!({"id": "u", "password": "hunter2"}));
    }
}

#[test]
fn a_profile_without_its_file_is_refused() {
    let directory = Directory::new();
    directory.write(
        "clouds.yaml",
        "clouds:\n  one:\n    profile: vendor\n    auth: {}\n",
    );
    let refusal = directory.refusal(&use_clouds(""));
    assert!(
        refusal.starts_with(
            "clouds.yaml:3:14: clouds.one.profile: the rest of the entry comes from \
             clouds-public.yaml, which does not exist; looked for "
        ),
        "{refusal}"
    );
    directory.write("clouds-public.yaml", "public-clouds: {other: {}}\n");
    assert_eq!(
        directory.refusal(&use_clouds("")),
        "clouds.yaml:3:14: clouds.one.profile: there is no cloud of this name in clouds-public.yaml; available: other"
    );
}

#[test]
fn files_that_everybody_can_read_are_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let path = directory.write("cloud.conf", &conf("", ""));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
    let loaded = directory.load("cloud.conf").expect("valid");
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings)
    };
    assert_eq!(
        directory.relative(&warning.to_string()),
        "cloud.conf: every user of the host can read the credentials in it (mode 0644); run \
         `chmod 600` on it"
    );
}

#[test]
fn a_certificate_authority_is_read_and_replaces_the_hosts() {
    let directory = Directory::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(["kms".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let pem = certificate.pem();
    let der = certificate.der().to_vec();

    let with_header = pem.replace("CERTIFICATE-----\nMII", "CERTIFICATE-----\nX: y\n\nMII");
    directory.write(
        "ca.pem",
        &format!("comment\n{}{with_header}{pem}{pem}", key.serialize_pem()),
    );
    directory.write("client.key", &key.serialize_pem());
    let text = conf("ca-file=ca.pem\ncert-file=ca.pem\nkey-file=client.key", "");
    let loaded = directory.load_text(&text).expect("valid");
    assert_eq!(
        loaded.live.cloud.tls.roots,
        Roots::Only(vec![der.clone(), der.clone()])
    );
    let client = loaded
        .live
        .cloud
        .tls
        .client
        .as_ref()
        .expect("a client certificate");
    assert_eq!(client.key_pem.expose_text(), key.serialize_pem());
    let names: Vec<_> = loaded
        .files
        .iter()
        .filter_map(|path| path.file_name())
        .collect();
    assert_eq!(names, ["cloud.conf", "ca.pem", "client.key"]);

    let escaped = pem.replace('\n', "\\n");
    let text = conf(&format!("cafilecontents=\"{escaped}\""), "");
    let loaded = directory.load_text(&text).expect("valid");
    assert_eq!(loaded.live.cloud.tls.roots, Roots::Only(vec![der]));
}

#[test]
fn pem_files_without_what_they_should_hold_are_refused() {
    let directory = Directory::new();
    directory.write("empty.pem", "nothing\n");
    directory.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    );
    directory.write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(["kms".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    directory.write("good.pem", &certificate.pem());
    for (lines, expected) in [
        (
            "ca-file=empty.pem",
            "cloud.conf:6:9: [Global] ca-file: there is no certificate in it",
        ),
        (
            "ca-file=broken.pem",
            "cloud.conf:6:9: [Global] ca-file: certificate 1 in it is damaged",
        ),
        (
            "cafilecontents=x",
            "cloud.conf:6:16: [Global] cafilecontents: there is no certificate in it",
        ),
        (
            "cert-file=empty.pem\nkey-file=good.pem",
            "cloud.conf:6:11: [Global] cert-file: there is no certificate in it",
        ),
        (
            "cert-file=good.pem\nkey-file=good.pem",
            "cloud.conf:7:10: [Global] key-file: there is no private key in it",
        ),
        (
            "cert-file=good.pem\nkey-file=encrypted.pem",
            "cloud.conf:7:10: [Global] key-file: the private key in it has a passphrase",
        ),
    ] {
        let refusal = directory.refusal(&conf(lines, ""));
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn a_tilde_in_clouds_yaml_is_the_home_directory() {
    let directory = Directory::new();
    directory.write("clouds.yaml", &format!("{CLOUDS}    cacert: ~/ca.pem\n"));
    let refusal = directory.refusal(&use_clouds(""));
    assert!(
        refusal.starts_with("home/ca.pem (named by clouds.yaml:4:13: clouds.one.cacert)"),
        "{refusal}"
    );
}

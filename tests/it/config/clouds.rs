//! Two files that say different things, and keys of clouds.yaml that nobody reads.

use serde_json::json;

use super::vectors::login_body;
use super::{Directory, KEY_ID, load_in};

const CLOUDS: &str = "clouds:\n  one:\n    auth: {auth_url: \"http://y/v3\", username: yu, password: \
                      yp, project_name: yproj, user_domain_name: YUD, project_domain_name: YPD}\n    \
                      region_name: R1\n";

fn conf(lines: &str) -> String {
    format!("[Global]\n{lines}\n[KeyManager]\nkey-id={KEY_ID}\n")
}

fn of_clouds() -> serde_json::Value {
    json!({
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "yu", "domain": {"name": "YUD"}, "password": "yp",
        }}},
        "scope": {"project": {"name": "yproj", "domain": {"name": "YPD"}}},
    })
}

#[test]
fn with_cloud_who_logs_in_comes_from_clouds_yaml_alone() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    let text = conf(
        "auth-url=http://g/v3\nusername=gu\npassword=yp\nuser-id=gi\nregion=R2\nuse-clouds=true\n\
         cloud=one",
    );
    let loaded = directory.load_text(&text).expect("valid");
    let cloud = &loaded.live.cloud;
    assert_eq!(login_body(cloud), of_clouds());
    // All else is the cloud-config's, as in Go.
    assert_eq!(cloud.keystone.to_string(), "http://g/v3");
    assert_eq!(cloud.region.as_deref(), Some("R2"));
    let mut warnings = directory.warnings(&text);
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "cloud.conf:3:10: [Global] username: has no effect: clouds.yaml:3:47: \
             clouds.one.auth.username has another value and takes precedence, because \
             cloud.conf:8:7: \
             [Global] cloud takes the credentials from there; remove one of the two",
            "cloud.conf:5:9: [Global] user-id: has no effect: cloud.conf:8:7: [Global] cloud \
             takes the credentials from clouds.yaml; remove one of the two",
            "clouds.yaml:3:22: clouds.one.auth.auth_url: has no effect: cloud.conf:2:10: [Global] \
             auth-url has another value and takes precedence; remove one of the two",
            "clouds.yaml:4:18: clouds.one.region_name: has no effect: cloud.conf:6:8: [Global] \
             region has another value and takes precedence; remove one of the two",
        ]
    );
}

#[test]
fn without_cloud_the_cloud_config_wins_field_by_field() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    let text = conf("username=gu\npassword=yp\nuse-clouds=true");
    let loaded = directory.load_text(&text).expect("valid");
    let body = login_body(&loaded.live.cloud);
    assert_eq!(body["identity"]["password"]["user"]["name"], "gu");
    assert_eq!(body["scope"], of_clouds()["scope"]);
    assert_eq!(
        directory.warnings(&text),
        [
            "clouds.yaml:3:47: clouds.one.auth.username: has no effect: cloud.conf:2:10: [Global] \
             username has another value and takes precedence; remove one of the two"
        ]
    );
}

#[test]
fn cloud_without_use_clouds_decides_who_logs_in_and_nothing_else() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    directory.write("secure.yaml", "clouds: {one: {auth: {password: yp}}}\n");
    let text = conf("auth-url=http://g/v3\nuser-id=gi\npassword=gp\ntenant-id=T\ncloud=one");
    let loaded = directory.load_text(&text).expect("valid");
    assert_eq!(login_body(&loaded.live.cloud), of_clouds());
    assert_eq!(loaded.live.cloud.region, None);
    let warnings = directory.warnings(&text);
    let alone = "cloud.conf:6:7: [Global] cloud: only the credentials are taken from clouds.yaml; \
                 add `use-clouds = true` to take the other settings from there too, or remove it";
    assert!(warnings.iter().any(|text| text == alone), "{warnings:?}");
    assert_eq!(warnings.len(), 4, "{warnings:?}");

    // Go refuses what is wrong there; only a file that is not there is passed over.
    let refusal = directory.refusal(&text.replace("cloud=one", "cloud=two"));
    assert_eq!(
        refusal,
        "cloud.conf:6:7: [Global] cloud: there is no cloud of this name in clouds.yaml; available: \
         one"
    );
    std::fs::remove_file(directory.path().join("clouds.yaml")).expect("removed");
    let loaded = directory.load_text(&text).expect("valid");
    let body = login_body(&loaded.live.cloud);
    assert_eq!(body["identity"]["password"]["user"]["id"], "gi");
    assert_eq!(
        directory.warnings(&text),
        ["cloud.conf:6:7: [Global] cloud: has no effect: add `use-clouds = true` or remove it"]
    );
}

#[test]
fn a_trust_of_the_cloud_config_counts_beside_cloud() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    let text = conf("use-clouds=true\ncloud=one\ntrust-id=tr");
    let loaded = directory.load_text(&text).expect("valid");
    let body = login_body(&loaded.live.cloud);
    assert_eq!(body["identity"], of_clouds()["identity"]);
    assert_eq!(body["scope"], json!({"OS-TRUST:trust": {"id": "tr"}}));
}

#[test]
fn os_cloud_chooses_an_entry_and_overrules_nothing() {
    let directory = Directory::new();
    directory.write("clouds.yaml", CLOUDS);
    directory.write("cloud.conf", &conf("use-clouds=true\nusername=gu"));
    let environment = |cloud: &str| barbican_kms::config::Environment {
        cloud: Some(cloud.to_owned()),
        ..directory.environment()
    };
    let loaded = load_in("cloud.conf", &environment("one")).expect("valid");
    let body = login_body(&loaded.live.cloud);
    assert_eq!(body["identity"]["password"]["user"]["name"], "gu");
    let error = load_in("cloud.conf", &environment("two")).expect_err("no such cloud");
    assert_eq!(
        directory.relative(&error.to_string()),
        "cloud.conf:2:12: use-clouds with OS_CLOUD: there is no cloud of this name in clouds.yaml; available: one"
    );
}

#[test]
fn keys_of_the_chosen_cloud_that_nobody_reads_are_warned_about() {
    for (entry, expected) in [
        (
            "insecure: true",
            "clouds.one.insecure: it is ignored, certificates are verified; give the cloud's CA",
        ),
        (
            "regions: [R1]",
            "clouds.one.regions: it is ignored; write `region_name: NAME`",
        ),
        (
            "username: u",
            "clouds.one.username: it is ignored here; write it below `auth:`",
        ),
        (
            "auth_type: v3oidcpassword",
            "clouds.one.auth_type: this kind of login is not supported, and the setting is ignored",
        ),
        (
            "frob: 1",
            "clouds.one.frob: there is no such key, it is ignored",
        ),
        (
            "region: R1",
            "clouds.one.region: there is no such key, it is ignored; did you mean region_name?",
        ),
        (
            "region-name: R1",
            "clouds.one.region-name: there is no such key, it is ignored; did you mean \
             region_name?",
        ),
    ] {
        let directory = Directory::new();
        directory.write(
            "clouds.yaml",
            &format!("{CLOUDS}    {entry}\n  two: {{odd: 1}}\n"),
        );
        let warnings = directory.warnings(&conf("use-clouds=true\ncloud=one"));
        let [warning] = &warnings[..] else {
            panic!("{entry}: {warnings:?}")
        };
        let (place, text) = warning.split_once(": ").expect("a place");
        assert!(place.starts_with("clouds.yaml:5:"), "{warning}");
        assert!(text.starts_with(expected), "{warning}");
    }
    for (field, expected) in [
        (
            "verify: false",
            "clouds.one.auth.verify: it is ignored here; write it at the level of `auth:`, not \
             below it",
        ),
        (
            "system_scope: all",
            "clouds.one.auth.system_scope: it is ignored: keys belong to projects; set project_id",
        ),
        (
            "project: p",
            "clouds.one.auth.project: there is no such key, it is ignored; did you mean \
             project_name?",
        ),
    ] {
        let directory = Directory::new();
        directory.write(
            "clouds.yaml",
            &CLOUDS.replace("username: yu", &format!("username: yu, {field}")),
        );
        let warnings = directory.warnings(&conf("use-clouds=true"));
        assert_eq!(warnings.len(), 1, "{field}: {warnings:?}");
        assert!(warnings[0].contains(expected), "{field}: {warnings:?}");
    }
    for entry in [
        "compute_api_version: 2.79",
        "auth_type: v3password",
        "networks: []",
    ] {
        let directory = Directory::new();
        directory.write("clouds.yaml", &format!("{CLOUDS}    {entry}\n"));
        assert_eq!(
            directory.warnings(&conf("use-clouds=true")),
            [""; 0],
            "{entry}"
        );
    }
}

#[test]
fn a_cloud_inside_of_a_cloud_is_named_as_the_cause() {
    let directory = Directory::new();
    directory.write("clouds.yaml", &format!("{CLOUDS}    cloud: one\n"));
    let refusal = directory.refusal(&conf("use-clouds=true"));
    let expected = "clouds.yaml:5:12: clouds.one.cloud: the rest of the entry comes from \
                    clouds-public.yaml, which does not exist; looked for clouds-public.yaml, ";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert!(refusal.contains("remove the line"), "{refusal}");
}

#[test]
fn a_file_of_another_kind_is_named_as_what_it_is() {
    let secret = "aHVudGVyMi1zM2NyM3QtaHVudGVyMg==";
    for (text, expected) in [
        (
            format!("W0dsb2JhbF0KYXV0aC11cmw9eApwYXNzd29yZD0i\n{secret}\n"),
            "it is base64; decode it with `base64 -d`",
        ),
        (
            format!("{{\"Global\": {{\"password\": \"{secret}\"}}}}"),
            "it is JSON; write `[Global]` and `[KeyManager]`",
        ),
        (
            format!("global:\n  password: {secret}\n"),
            "it is YAML; write `[Global]` and `[KeyManager]`",
        ),
        (
            format!("apiVersion: v1\nkind: Secret\ndata:\n  cloud.conf: {secret}\n"),
            "it is a Kubernetes object in YAML; store the content of its `stringData`",
        ),
        (
            CLOUDS.to_owned(),
            "it is a clouds.yaml; name it in a cloud-config",
        ),
        (
            format!("#!/bin/sh\nexport OS_PASSWORD={secret}\n"),
            "it is a shell script (an openrc file?); write its values below `[Global]`",
        ),
        (
            format!("OS_PASSWORD={secret}\n"),
            "it is a shell script (an openrc file?); write its values below `[Global]`",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
            "it is a PEM file; name it with ca-file",
        ),
    ] {
        let directory = Directory::new();
        for name in ["cloud.conf", "cloud.toml"] {
            directory.write(name, &text);
            let error = directory.load(name).expect_err(&text);
            let refusal = directory.relative(&error.to_string());
            assert!(
                refusal.starts_with(&format!("{name}: {expected}")),
                "{text}: {refusal}"
            );
            assert!(!refusal.contains(secret), "{refusal}");
        }
    }
    for (text, expected) in [
        (format!("Y2xvdWRzOgogIG9uZToK{secret}\n"), "it is base64"),
        (
            format!("export OS_PASSWORD={secret}\n"),
            "it is a shell script (an openrc file?); write its values below `auth:`",
        ),
        (conf("user-id=u"), "it is a cloud-config; write `clouds:`"),
    ] {
        let directory = Directory::new();
        directory.write("clouds.yaml", &text);
        let refusal = directory.refusal(&conf("use-clouds=true"));
        let expected = format!("clouds.yaml: {expected}");
        assert!(refusal.starts_with(&expected), "{text}: {refusal}");
    }
}

#[test]
fn a_pem_block_across_lines_is_named_as_the_cause() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQ+IBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----";
    for value in [pem.to_owned(), format!("\"{pem}\"")] {
        let refusal = Directory::new().refusal(&conf(&format!("key-file = {value}")));
        assert_eq!(
            refusal,
            "cloud.conf: it is a cloud-config with a PEM block in it; store the block in a file \
             and write its path here (a CA may be given as `cafilecontents`, in quotes and on one \
             line, with `\\n` for each line break)"
        );
    }
}

#[test]
fn a_damaged_cloud_config_is_still_told_where() {
    for text in ["[Global]\n{\n", "# export x\n[global]\nx y\n", "abc\n"] {
        let refusal = Directory::new().refusal(text);
        assert!(!refusal.contains("it is "), "{text}: {refusal}");
    }
}

#[test]
fn marks_of_word_processors_are_warned_about() {
    let base = "auth-url=http://k/v3\nuser-id=u\ntenant-id=t";
    for (value, expected) in [
        ("\u{201c}abc\u{201d}", Some("typographic quotes are part")),
        ("\u{2019}abc\u{2019}", Some("typographic quotes are part")),
        ("`abc`", Some("backticks are part")),
        ("abc\u{a0}", Some("a no-break space")),
        ("a\u{a0}bc", Some("a no-break space")),
        ("a\u{201c}b`c", None),
    ] {
        let directory = Directory::new();
        let expected = expected.map(|text| format!("cloud.conf:5:10: [Global] password: {text}"));
        let warnings = directory.warnings(&conf(&format!("{base}\npassword={value}")));
        let found = warnings
            .iter()
            .find(|text| text.contains("part of the value"));
        assert_eq!(found.is_some(), expected.is_some(), "{value}: {warnings:?}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert!(found.starts_with(&expected), "{found}");
            assert!(!found.contains("abc"), "{found}");
        }
    }
    let directory = Directory::new();
    assert_eq!(
        directory.refusal("[Global]\nuser\u{a0}id=x\n"),
        "cloud.conf:2:5: illegal character U+00A0, a no-break space or another invisible \
         character; write a plain space; names consist of letters, digits and `-`, begin with a \
         letter, and are followed by `=`"
    );
    directory.write("cloud.toml", "[Global]\nuser-id = \u{201c}u\u{201d}\n");
    let error = directory.load("cloud.toml").expect_err("no TOML");
    assert_eq!(
        directory.relative(&error.to_string()),
        "cloud.toml:2:11: not valid TOML: a typographic quote; write a plain one, `\"`"
    );
}

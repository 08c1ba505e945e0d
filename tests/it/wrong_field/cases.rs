//! Configurations with a secret in one field each: every field that there is.

use std::fmt::Write as _;

use barbican_kms::config::{Key, Section};
use serde_json::{Value, json};

const KEY_ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

/// Where the cloud-config is, from the working directory.
pub(super) const CONFIG: &str = "cloud.conf";
const GCFG: &str = "config/cloud.conf";
const TOML: &str = "config/cloud.toml";

#[derive(Debug)]
pub(super) struct Secret {
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// Files by their paths from the working directory, and variables.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) config: String,
    pub(super) files: Vec<(String, String)>,
    pub(super) variables: Vec<(&'static str, String)>,
}

fn case(name: String, config: &str, text: String) -> Case {
    Case {
        name,
        config: config.to_owned(),
        files: vec![(config.to_owned(), text)],
        variables: Vec::new(),
    }
}

/// What can be used, for each dialect.
pub(super) fn good(url: &str) -> [(&'static str, String); 2] {
    [GCFG, TOML].map(|file| (file, written(file, &login(url))))
}

/// Every case in which the secret stands in a file.
pub(super) fn files(url: &str, secret: &Secret) -> Vec<Case> {
    let text = secret.text.as_str();
    let mut cases = Vec::new();
    for (dialect, file) in [("gcfg", GCFG), ("TOML", TOML)] {
        for key in Key::all().filter(|key| key.section().is_some()) {
            let mut lines = beside(key, url);
            lines.retain(|(known, _)| *known != key);
            lines.push((key, text.to_owned()));
            let mut case = case(format!("{dialect} {key}"), file, written(file, &lines));
            case.files
                .push(("clouds.yaml".to_owned(), clouds(url).to_string()));
            cases.push(case);
        }
        for (place, damaged) in damaged(&written(file, &login(url)), text) {
            cases.push(case(format!("{dialect} {place}"), file, damaged));
        }
    }
    let use_clouds = format!("[Global]\nuse-clouds = true\n[KeyManager]\nkey-id = {KEY_ID}\n");
    for (place, document) in in_clouds(url, text) {
        let mut case = case(format!("clouds.yaml {place}"), GCFG, use_clouds.clone());
        case.files
            .push(("clouds.yaml".to_owned(), document.to_string()));
        cases.push(case);
    }
    for (place, document) in in_clouds(url, text) {
        let mut case = case(format!("secure.yaml {place}"), GCFG, use_clouds.clone());
        case.files
            .push(("clouds.yaml".to_owned(), clouds(url).to_string()));
        case.files
            .push(("secure.yaml".to_owned(), document.to_string()));
        cases.push(case);
    }
    cases
}

/// Every case in which it stands in the environment.
pub(super) fn variables(url: &str, secret: &Secret) -> Vec<Case> {
    let use_clouds = format!("[Global]\nuse-clouds = true\n[KeyManager]\nkey-id = {KEY_ID}\n");
    let of = |name: &'static str, url: &str, before: &str| {
        let mut case = case(format!("{name} {before}"), GCFG, use_clouds.clone());
        case.files
            .push(("clouds.yaml".to_owned(), clouds(url).to_string()));
        case.variables = vec![(name, format!("{before}{}", secret.text))];
        case
    };
    // Loopback is never reached through a proxy.
    let elsewhere = url.replace("127.0.0.1", "keystone.invalid");
    let mut cases = Vec::new();
    for name in [
        "OS_CLOUD",
        "OS_CLIENT_CONFIG_FILE",
        "OS_CLIENT_SECURE_FILE",
        "HOME",
    ] {
        cases.push(of(name, url, ""));
    }
    let encrypted = url.replace("http:", "https:");
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        cases.push(of(name, &encrypted, ""));
    }
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        for before in ["", "http://", "http://user:"] {
            cases.push(of(name, &elsewhere, before));
        }
    }
    cases
}

type Line = (Key, String);

fn login(url: &str) -> Vec<Line> {
    vec![
        (Key::AuthUrl, url.to_owned()),
        (Key::UserId, "uid".to_owned()),
        (Key::Password, "none".to_owned()),
        (Key::TenantId, "tid".to_owned()),
        (Key::KeyId, KEY_ID.to_owned()),
    ]
}

/// Lines beside which the key counts.
fn beside(key: Key, url: &str) -> Vec<Line> {
    let mut lines = login(url);
    let mut swap = |without: &[Key], with: &[(Key, &str)]| {
        lines.retain(|(key, _)| !without.contains(key));
        lines.extend(with.iter().map(|(key, text)| (*key, (*text).to_owned())));
    };
    match key {
        Key::Username | Key::UserDomainId | Key::UserDomainName => {
            swap(&[Key::UserId], &[(Key::Username, "u")]);
            if key == Key::Username {
                swap(&[], &[(Key::UserDomainName, "d")]);
            }
        }
        Key::DomainId | Key::DomainName => swap(&[Key::TenantId], &[]),
        Key::TenantName | Key::TenantDomainId | Key::TenantDomainName => {
            swap(&[Key::TenantId], &[(Key::TenantName, "t")]);
            if key == Key::TenantName {
                swap(&[], &[(Key::TenantDomainName, "d")]);
            }
        }
        Key::CredentialId | Key::CredentialSecret => swap(
            &[Key::UserId, Key::Password, Key::TenantId],
            &[(Key::CredentialId, "c"), (Key::CredentialSecret, "s")],
        ),
        Key::CredentialName => swap(
            &[Key::Password, Key::TenantId],
            &[(Key::CredentialSecret, "s")],
        ),
        Key::TrustId | Key::TrusteeId | Key::TrusteePassword => swap(
            &[],
            &[
                (Key::TrustId, "t"),
                (Key::TrusteeId, "t"),
                (Key::TrusteePassword, "p"),
            ],
        ),
        Key::Token => swap(&[Key::UserId, Key::Password], &[]),
        Key::CertFile | Key::KeyFile => {
            swap(
                &[],
                &[
                    (Key::CertFile, "clouds.yaml"),
                    (Key::KeyFile, "clouds.yaml"),
                ],
            );
        }
        Key::CloudsFile | Key::Cloud => swap(&[], &[(Key::UseClouds, "true")]),
        _ => {}
    }
    lines
}

fn written(file: &str, lines: &[Line]) -> String {
    let mut text = String::new();
    for section in [Section::Global, Section::KeyManager] {
        writeln!(text, "[{}]", section.name()).expect("written");
        for (key, value) in lines
            .iter()
            .filter(|(key, _)| key.section() == Some(section))
        {
            let quoted = if file == GCFG {
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{}\"", escaped.replace('\n', "\\n"))
            } else {
                json!(value).to_string()
            };
            let value = match (file == GCFG, key) {
                (false, Key::DecryptKeyIds) => format!("[{quoted}]"),
                (false, Key::UseClouds) if value == "true" => value.clone(),
                _ => quoted,
            };
            writeln!(text, "{} = {value}", key.name()).expect("written");
        }
    }
    text
}

/// A secret where no value stands, or across several lines.
fn damaged(good: &str, text: &str) -> Vec<(&'static str, String)> {
    let instead = |from: &str, to: String| good.replacen(from, &to, 1);
    vec![
        (
            "raw",
            instead("password = \"none\"", format!("password = {text}")),
        ),
        (
            "raw path",
            instead("user-id", format!("key-file = {text}\nuser-id")),
        ),
        (
            "open quote",
            instead("password = \"none\"", format!("password = \"{text}")),
        ),
        (
            "two quotes",
            instead("\"none\"", format!("\"{text}\" {text}")),
        ),
        ("literal", instead("\"none\"", format!("'''{text}'''"))),
        (
            "long literal",
            instead("\"none\"", format!("\"\"\"\n{text}\"\"\"")),
        ),
        ("no quotes", instead("\"none\"", format!("[{text}]"))),
        ("key", instead("user-id", format!("{text} = x\nuser-id"))),
        (
            "quoted key",
            instead("user-id", format!("\"{text}\" = \"x\"\nuser-id")),
        ),
        ("key alone", instead("user-id", format!("{text}\nuser-id"))),
        (
            "section",
            good.replace("[KeyManager]", &format!("[{text}]")),
        ),
        (
            "quoted section",
            good.replace("[KeyManager]", &format!("[\"{text}\"]")),
        ),
        (
            "subsection",
            good.replace("[KeyManager]", &format!("[KeyManager \"{text}\"]")),
        ),
        ("first", format!("{text}\n{good}")),
        ("first key", format!("{text} = 1\n{good}")),
        ("all", text.to_owned()),
    ]
}

fn clouds(url: &str) -> Value {
    json!({"clouds": {"one": {
        "auth": {"auth_url": url, "user_id": "uid", "password": "none", "project_id": "tid"},
    }}})
}

/// The secret in each field of an entry, as a value and as a name.
fn in_clouds(url: &str, text: &str) -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for field in [
        "region_name",
        "endpoint_type",
        "interface",
        "verify",
        "cacert",
        "cert",
        "key",
        "profile",
        "cloud",
        "auth_type",
        "regions",
        "insecure",
        "unknown",
        "auth",
    ] {
        let mut document = clouds(url);
        let entry = &mut document["clouds"]["one"];
        if matches!(field, "cert" | "key") {
            entry["cert"] = json!("clouds.yaml");
            entry["key"] = json!("clouds.yaml");
        }
        entry[field] = json!(text);
        cases.push((field.to_owned(), document));
    }
    for field in [
        "auth_url",
        "token",
        "username",
        "user_id",
        "password",
        "application_credential_id",
        "application_credential_name",
        "application_credential_secret",
        "project_name",
        "tenant_name",
        "project_id",
        "tenant_id",
        "user_domain_name",
        "user_domain_id",
        "project_domain_name",
        "project_domain_id",
        "domain_name",
        "domain_id",
        "default_domain",
        "trust_id",
        "system_scope",
        "unknown",
    ] {
        let mut document = clouds(url);
        let auth = &mut document["clouds"]["one"]["auth"];
        let absent: &[&str] = match field {
            "username" | "user_domain_name" | "user_domain_id" => &["user_id"],
            "project_name"
            | "tenant_name"
            | "project_domain_name"
            | "project_domain_id"
            | "domain_name"
            | "domain_id" => &["project_id"],
            "token" => &["user_id", "password"],
            name if name.starts_with("application") => &["password", "project_id"],
            _ => &[],
        };
        if let Some(auth) = auth.as_object_mut() {
            auth.retain(|name, _| !absent.contains(&name.as_str()));
        }
        auth[field] = json!(text);
        cases.push((format!("auth.{field}"), document));
    }
    let whole = clouds(url);
    let entry = &whole["clouds"]["one"];
    cases.push(("name".to_owned(), json!({"clouds": {text: entry}})));
    cases.push((
        "one of two".to_owned(),
        json!({"clouds": {text: entry, "two": entry}}),
    ));
    cases.push(("top".to_owned(), json!({text: whole["clouds"]})));
    cases.push(("all".to_owned(), json!(text)));
    for at in ["", "auth"] {
        let mut document = whole.clone();
        let entry = &mut document["clouds"]["one"];
        let entry = if at.is_empty() { entry } else { &mut entry[at] };
        entry[text] = json!("x");
        cases.push((format!("name below {at}"), document));
    }
    cases
}

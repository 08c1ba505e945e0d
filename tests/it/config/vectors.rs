//! Whole configurations against what the Go plugin's client code did with them.
//!
//! Only what configuration decides: whether it is accepted, the login body, and
//! which endpoint and key are asked for. The requests are the client's tests.

use std::path::{Path, PathBuf};

use barbican_kms::config::{Cloud, Domain, Environment, Identity, Interface, Loaded, Scope, User};
use serde_json::{Value as Json, json};

use super::{Directory, load_in};

const BASE: &str = "http://127.0.0.1:35357";

#[test]
fn openstack_vectors_are_accepted_or_refused_as_they_say() {
    let named = std::env::var_os("OPENSTACK_VECTORS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/openstack_go.jsonl");
    let file = named.unwrap_or(own);
    let lines = std::fs::File::open(&file)
        .and_then(std::io::read_to_string)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for line in lines.lines() {
        check(&serde_json::from_str(line).expect("a vector is JSON"));
    }
    assert!(lines.lines().count() > 0);
}

fn check(vector: &Json) {
    let name = vector["name"].as_str().expect("a name");
    let ours = vector["ours"].as_str().expect("what is expected");
    let requests = vector["go"]["requests"].as_array().expect("requests");
    let go_logs_in = requests.iter().any(|request| request["method"] == "POST");
    // A refused redirect is the client's business, not the configuration's.
    let accepted = match ours {
        "same" => go_logs_in,
        other => !other.starts_with("refused") || other.contains("redirects"),
    };

    let directory = Directory::new();
    let place = |text: &str| {
        let here = directory.path().to_str().expect("a path in UTF-8");
        text.replace("@B@", BASE).replace("@D@", here)
    };
    for (file, content) in vector["files"].as_object().into_iter().flatten() {
        directory.write(file, &place(content.as_str().expect("a text")));
    }
    directory.write(
        "cloud.conf",
        &place(vector["cloud_conf"].as_str().expect("a text")),
    );
    let variable = |name: &str| vector["env"][name].as_str().map(place);
    let environment = Environment {
        cloud: variable("OS_CLOUD"),
        client_config_file: variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from),
        client_secure_file: variable("OS_CLIENT_SECURE_FILE").map(PathBuf::from),
        ..directory.environment()
    };
    let loaded = load_in("cloud.conf", &environment);
    assert_eq!(loaded.is_ok(), accepted, "{name}: {ours}: {loaded:?}");
    let Ok(loaded) = loaded else { return };
    if ours.contains("warning") || ours.contains("ignored") {
        assert_ne!(loaded.warnings, [], "{name}: {ours}");
    }
    if ours == "same" {
        check_requests(name, &loaded, requests);
    }
}

fn check_requests(name: &str, loaded: &Loaded, requests: &[Json]) {
    let login = &requests[0];
    assert_eq!(login["auth"], login_body(&loaded.live.cloud), "{name}");
    let path = login["path"].as_str().expect("a path");
    let keystone = format!("{}/auth/tokens", loaded.live.cloud.keystone);
    assert_eq!(keystone, format!("{BASE}{path}"), "{name}");

    let payload = requests.iter().rev().find_map(|request| {
        request["path"]
            .as_str()
            .filter(|path| path.ends_with("/payload"))
    });
    if let Some(path) = payload {
        let endpoint = endpoint(&loaded.live.cloud);
        let uuid = loaded.live.ring.write.expect("a key").secret_uuid();
        assert_eq!(
            path,
            format!("{endpoint}/v1/secrets/{uuid}/payload"),
            "{name}"
        );
    }
}

/// What the recorder's catalog has for these settings.
fn endpoint(cloud: &Cloud) -> &'static str {
    match (cloud.interface, cloud.region.as_deref()) {
        (Interface::Public, None | Some("R1")) => "/km",
        (Interface::Public, Some("R2" | "R2id")) => "/kmr2",
        (Interface::Internal, None | Some("R1")) => "/kmint",
        (Interface::Admin, None | Some("R1")) => "/kmadm",
        other => panic!("no endpoint for {other:?}"),
    }
}

/// Keystone's login body, written out once more and independently of the client.
pub(super) fn login_body(cloud: &Cloud) -> Json {
    let domain = |domain: &Domain| match domain {
        Domain::Id(id) => json!({"id": id}),
        Domain::Name(name) => json!({"name": name}),
    };
    let user = |user: &User| match user {
        User::Id(id) => json!({"id": id}),
        User::Name { name, domain: of } => json!({"name": name, "domain": domain(of)}),
    };
    let identity = match &cloud.identity {
        Identity::Password {
            user: who,
            password,
        } => {
            let mut user = user(who);
            user["password"] = password.expose_text().into();
            json!({"methods": ["password"], "password": {"user": user}})
        }
        Identity::ApplicationCredentialId { id, secret } => json!({
            "methods": ["application_credential"],
            "application_credential": {"id": id, "secret": secret.expose_text()},
        }),
        Identity::ApplicationCredentialName {
            name,
            user: who,
            secret,
        } => json!({
            "methods": ["application_credential"],
            "application_credential":
                {"name": name, "secret": secret.expose_text(), "user": user(who)},
        }),
        Identity::Token(token) => {
            json!({"methods": ["token"], "token": {"id": token.expose_text()}})
        }
    };
    let scope = match &cloud.scope {
        Scope::Unscoped => return json!({"identity": identity}),
        Scope::ProjectId(id) => json!({"project": {"id": id}}),
        Scope::ProjectName { name, domain: of } => {
            json!({"project": {"name": name, "domain": domain(of)}})
        }
        Scope::Domain(of) => json!({"domain": domain(of)}),
        Scope::Trust(id) => json!({"OS-TRUST:trust": {"id": id}}),
    };
    json!({"identity": identity, "scope": scope})
}

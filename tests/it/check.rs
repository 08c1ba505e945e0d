//! `check` on real servers: each step that can fail, and what it warns about.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::openstack::{self, OpenStack, text};
use crate::support::sidecar::Place;

/// The steps of a `check --json`, after its text form was seen to say the same.
async fn steps(config: &str, code: i32) -> Vec<Value> {
    let place = Place::new(config);
    steps_of(&place, code).await
}

async fn steps_of(place: &Place, code: i32) -> Vec<Value> {
    let json = place.check(&["--json"]).await;
    assert_eq!(json.code, code, "{json:?}");
    let document: Value = serde_json::from_str(&json.output).expect("one JSON document");
    assert_eq!(document["ok"], code == 0, "{document:#}");
    let steps = document["steps"].as_array().expect("steps").clone();
    let printed = place.check(&[]).await;
    assert_eq!(printed.code, code, "{printed:?}");
    for step in &steps {
        let line = |line: &&str| line.contains(&text(step, "name"));
        let line = printed.output.lines().find(line).expect("a line");
        let word = match step["outcome"].as_str() {
            Some("failed") => "FAIL",
            Some("warning") => "warn",
            Some("skipped") => "skip",
            _ => "ok",
        };
        assert!(line.starts_with(word), "{line}");
        assert!(step["took_ms"].is_u64(), "{step}");
    }
    steps
}

fn step<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {steps:#?}"))
}

fn warnings(step: &Value) -> String {
    step["warnings"].to_string()
}

/// The last step is this one, it failed with this text, and says what to do.
async fn fails(config: &str, name: &str, cause: &str) -> String {
    let steps = steps(config, 1).await;
    let last = steps.last().expect("a step");
    assert_eq!(last["name"], name, "{steps:#?}");
    assert_eq!(last["outcome"], "failed", "{last:#}");
    let found = text(last, "found");
    assert!(found.contains(cause), "{cause:?} is not in {found}");
    found
}

#[tokio::test]
async fn the_recommended_credential_passes_every_step() {
    let cloud = openstack::tls();
    let steps = steps(&cloud.config("application_credential_narrow"), 0).await;
    let names: Vec<_> = steps.iter().map(|step| text(step, "name")).collect();
    assert_eq!(
        names,
        [
            "configuration",
            "key memory",
            "keystone name",
            "keystone connection",
            "login",
            "credential end",
            "catalog",
            "barbican name",
            "barbican connection",
            "access rules",
            "key-id metadata",
            "key-id payload",
        ]
    );
    for step in &steps {
        let wanted = match step["name"].as_str() {
            Some("key-id metadata" | "credential end") => "skipped",
            // It reads the payload of any secret, not of this key alone.
            Some("login" | "key memory") => continue,
            _ => "ok",
        };
        assert_eq!(step["outcome"], wanted, "{step:#}");
    }
    assert!(text(step(&steps, "key-id metadata"), "found").contains("as recommended"));
    assert!(text(step(&steps, "key-id payload"), "found").contains("256 bits"));
}

#[tokio::test]
async fn every_key_of_the_ring_is_read() {
    let cloud = openstack::plain();
    let more = format!("decrypt-key-ids = {}\n", cloud.key(1));
    let steps = steps(&(cloud.config("password") + &more), 0).await;
    let found = text(step(&steps, "decrypt-key-ids payload"), "found");
    assert!(found.contains(cloud.key(1)), "{found}");
}

#[tokio::test]
async fn credentials_that_can_do_more_are_warned_about() {
    let cloud = openstack::plain();
    for (config, warning) in [
        (cloud.config("password"), "everything that the user may"),
        (
            cloud.config("application_credential"),
            "everything that its roles allow",
        ),
    ] {
        let steps = steps(&config, 0).await;
        let login = step(&steps, "login");
        assert_eq!(login["outcome"], "warning", "{login:#}");
        assert!(warnings(login).contains(warning), "{login:#}");
    }
}

#[tokio::test]
async fn plain_http_is_warned_about() {
    let steps = steps(&openstack::plain().config("password"), 0).await;
    for name in ["keystone connection", "barbican connection"] {
        assert!(warnings(step(&steps, name)).contains("in clear"), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_others_can_read_is_warned_about() {
    let place = Place::new(&openstack::plain().config("password"));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(place.config(), open).expect("set");
    let steps = steps_of(&place, 0).await;
    let configuration = step(&steps, "configuration");
    assert!(
        warnings(configuration).contains("read"),
        "{configuration:#}"
    );
}

#[tokio::test]
async fn doubtful_keys_are_warned_about() {
    let cloud = openstack::plain();
    let hex = "5a".repeat(16);
    let create = [
        "secret-create",
        "--hex",
        &hex,
        "--algorithm",
        "des",
        "--expires-in",
        "3600",
    ];
    let id = text(&cloud.ctl(&create).await, "id");
    let steps = steps(&cloud.config_for("password", &id), 0).await;
    let metadata = warnings(step(&steps, "key-id metadata"));
    for doubt in ["it expires soon", "des, not aes", "128 bits are fewer"] {
        assert!(metadata.contains(doubt), "{doubt:?} is not in {metadata}");
    }
    let payload = warnings(step(&steps, "key-id payload"));
    assert!(payload.contains("128 bits are fewer"), "{payload}");
}

#[tokio::test]
async fn a_wrong_configuration_fails_at_its_line() {
    fails("[Global]\nauth-url\n=\n", "configuration", "cloud.conf:").await;
}

#[tokio::test]
async fn an_unknown_name_fails_at_name_resolution() {
    let cloud = openstack::plain();
    let config = cloud
        .config("password")
        .replace("127.0.0.1", "no-such-host.invalid");
    fails(&config, "keystone name", "no-such-host.invalid").await;
}

#[tokio::test]
async fn a_closed_port_fails_at_the_connection() {
    let cloud = openstack::plain();
    let url = cloud.text("/auth_url");
    let config = cloud
        .config("password")
        .replace(url, "http://127.0.0.1:9/v3");
    fails(&config, "keystone connection", "refused").await;
}

#[tokio::test]
async fn another_authority_fails_at_the_connection() {
    let (cloud, other) = (openstack::tls(), openstack::mtls());
    let (own, other) = (cloud.text("/ca_file"), other.text("/ca_file"));
    let config = cloud.config("password").replace(own, other);
    fails(&config, "keystone connection", "certificate").await;
}

#[tokio::test]
async fn a_wrong_password_fails_at_the_login_and_is_not_shown() {
    let cloud = openstack::plain();
    let config = cloud.config_of_user(cloud.text("/user/username"), "wrong-password");
    let found = fails(&config, "login", "401").await;
    assert!(!found.contains("wrong-password"), "{found}");
}

#[tokio::test]
async fn an_unknown_region_fails_at_the_catalog() {
    let config = openstack::tls().config("password");
    fails(
        &config.replace("RegionOne", "RegionNine"),
        "catalog",
        "RegionOne",
    )
    .await;
}

#[tokio::test]
async fn a_barbican_that_is_not_there_fails_at_its_connection() {
    let cloud = openstack::plain();
    region(cloud, "CheckNowhere", "http://127.0.0.1:9").await;
    let config = cloud
        .config("password")
        .replace("RegionOne", "CheckNowhere");
    fails(&config, "barbican connection", "refused").await;
}

async fn region(cloud: &OpenStack, region: &str, url: &str) {
    cloud.ctl(&["endpoint-delete", "--region", region]).await;
    cloud
        .ctl(&["endpoint-create", "--region", region, "--url", url])
        .await;
}

#[tokio::test]
async fn a_missing_role_fails_at_the_payload() {
    let config = openstack::plain().config("reader");
    fails(&config, "key-id payload", "403").await;
}

#[tokio::test]
async fn an_unknown_secret_fails_at_the_payload() {
    let id = "00000000-0000-4000-8000-000000000000";
    let config = openstack::plain().config_for("password", id);
    fails(&config, "key-id payload", "404").await;
}

#[tokio::test]
async fn a_payload_that_is_no_key_fails_with_its_length_and_is_not_shown() {
    let cloud = openstack::plain();
    let id = cloud.new_key(&"5a".repeat(31)).await;
    let config = cloud.config_for("password", &id);
    let found = fails(&config, "key-id payload", "31 bytes").await;
    assert!(
        !found.contains("5a5a") && !found.contains("ZZZZ"),
        "{found}"
    );
}

//! The process with real servers that refuse: what the socket says, and the log.

use std::time::{Duration, Instant};

use barbican_kms::proto::v2;
use serde_json::Value;
use tonic::Code;

use crate::support::client::{Client, SEED, refusal};
use crate::support::openstack::{self, text};
use crate::support::patience::at_once;
use crate::support::sidecar::{Place, Sidecar};

/// Serves with `config`, whose write key `key_id` must never be had. All three calls
/// say `reason`; returns the text of the event in the log, which says more.
async fn no_key(config: &str, key_id: &str, reason: &str) -> String {
    let place = Place::new(config);
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar.unavailable(&client, reason).await;
    assert_all_say(&client, key_id, reason).await;
    let event = sidecar.logged("key not loaded: ").await;
    assert_eq!(event["level"], "ERROR", "{event}");
    assert_eq!(event["key_id"], key_id, "{event}");
    let probed = place.probe(&[]).await;
    assert_eq!(probed.code, 0, "alive all the same: {probed:?}");
    assert_eq!(place.probe(&["--ready"]).await.code, 1);
    message(&event)
}

async fn assert_all_say(client: &Client, key_id: &str, reason: &str) {
    let whole = format!("the key-encryption key is not loaded: {reason}");
    let answer = (Code::Unavailable, whole);
    assert_eq!(refusal(client.status().await), answer);
    assert_eq!(refusal(client.encrypt(SEED).await), answer);
    assert_eq!(refusal(client.send(untagged(key_id)).await), answer);
}

/// Well-formed, and of no meaning.
fn untagged(key_id: &str) -> v2::DecryptRequest {
    v2::DecryptRequest {
        ciphertext: vec![7; 64],
        uid: "test".to_owned(),
        key_id: key_id.to_owned(),
        annotations: [].into(),
    }
}

fn message(event: &Value) -> String {
    text(event, "message")
}

const LOGIN: &str = "Keystone refuses the login";
const ACCESS: &str = "Barbican refuses access to it";
const NOT_FOUND: &str = "Barbican has no such secret";
const NOT_A_KEY: &str = "the secret is not an AES key";
const UNREACHABLE: &str = "OpenStack is unavailable";

#[tokio::test]
async fn a_wrong_password_is_a_refused_login() {
    let cloud = openstack::plain();
    let config = cloud.config_of_user(cloud.text("/user/username"), "wrong-password");
    let said = no_key(&config, cloud.key(0), LOGIN).await;
    assert!(
        said.contains("401") && said.contains("check the user"),
        "{said}"
    );
    assert!(!said.contains("wrong-password"), "{said}");
}

#[tokio::test]
async fn an_unknown_project_is_a_refused_login() {
    let cloud = openstack::plain();
    let config = cloud
        .config("password")
        .replace(cloud.text("/project/name"), "no-such-project");
    let said = no_key(&config, cloud.key(0), LOGIN).await;
    assert!(said.contains("401"), "{said}");
}

#[tokio::test]
async fn a_user_without_a_role_is_a_refused_login() {
    let cloud = openstack::plain();
    let user = cloud.ctl(&["user-create", "--no-role"]).await;
    let config = cloud.config_of_user(&text(&user, "username"), &text(&user, "password"));
    no_key(&config, cloud.key(0), LOGIN).await;
}

#[tokio::test]
async fn an_expired_application_credential_is_a_refused_login() {
    let cloud = openstack::plain();
    let expired = cloud.ctl(&["appcred-create", "--expired"]).await;
    let config = cloud.config_of_credential(&text(&expired, "id"), &text(&expired, "secret"));
    let said = no_key(&config, cloud.key(0), LOGIN).await;
    assert!(said.contains("whether it has expired"), "{said}");
}

#[tokio::test]
async fn a_deleted_application_credential_is_a_refused_login() {
    let cloud = openstack::plain();
    let made = cloud.ctl(&["appcred-create"]).await;
    let id = text(&made, "id");
    cloud.ctl(&["appcred-delete", &id]).await;
    let config = cloud.config_of_credential(&id, &text(&made, "secret"));
    let said = no_key(&config, cloud.key(0), LOGIN).await;
    assert!(said.contains("404"), "{said}");
}

#[tokio::test]
async fn a_missing_role_is_refused_access() {
    let cloud = openstack::plain();
    let said = no_key(&cloud.config("reader"), cloud.key(0), ACCESS).await;
    assert!(
        said.contains("403") && said.contains("the role `member`"),
        "{said}"
    );
}

#[tokio::test]
async fn access_rules_for_another_path_are_refused_access() {
    let cloud = openstack::plain();
    let rules = r#"[{"service": "key-manager", "method": "GET", "path": "/v1/orders"}]"#;
    let made = cloud
        .ctl(&["appcred-create", "--access-rules", rules])
        .await;
    let config = cloud.config_of_credential(&text(&made, "id"), &text(&made, "secret"));
    let said = no_key(&config, cloud.key(0), ACCESS).await;
    assert!(
        said.contains("401") && said.contains("access rules"),
        "{said}"
    );

    let place = Place::new(&config);
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.client().await;
    sidecar.unavailable(&client, ACCESS).await;
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        refusal(client.encrypt(SEED).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(logins(&sidecar), 2, "however many calls come");
    let reads = requests(&sidecar, "/payload").len();
    assert!((3..=6).contains(&reads), "{reads} reads");
}

#[tokio::test]
async fn an_unknown_secret_is_not_found() {
    let cloud = openstack::plain();
    let id = "00000000-0000-4000-8000-000000000000";
    let said = no_key(&cloud.config_for("password", id), id, NOT_FOUND).await;
    assert!(said.contains("404") && said.contains(id), "{said}");
}

#[tokio::test]
async fn a_secret_without_a_payload_is_not_found() {
    let cloud = openstack::plain();
    let id = text(&cloud.ctl(&["secret-create"]).await, "id");
    let said = no_key(&cloud.config_for("password", &id), &id, NOT_FOUND).await;
    assert!(said.contains("has no payload"), "{said}");
}

#[tokio::test]
async fn an_expired_secret_is_not_found() {
    let cloud = openstack::plain();
    let hex = "5a".repeat(32);
    let made = cloud
        .ctl(&["secret-create", "--hex", &hex, "--expired"])
        .await;
    let id = text(&made, "id");
    let said = no_key(&cloud.config_for("password", &id), &id, NOT_FOUND).await;
    assert!(said.contains("has expired"), "{said}");
    assert!(!said.contains(&hex), "{said}");
}

#[tokio::test]
async fn payloads_of_other_lengths_are_not_keys() {
    let cloud = openstack::plain();
    let lengths = vec![1, 15, 17, 31, 33, 4000];
    at_once(lengths.into_iter().map(|length| async move {
        let id = cloud.new_key(&"5a".repeat(length)).await;
        let said = no_key(&cloud.config_for("password", &id), &id, NOT_A_KEY).await;
        assert!(said.contains(&format!("{length} bytes")), "{said}");
        assert!(said.contains("openstack secret order create"), "{said}");
    }))
    .await;
}

#[tokio::test]
async fn base64_text_is_not_a_key_and_the_log_says_what_it_looks_like() {
    let cloud = openstack::plain();
    let stored = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let kind = "application/octet-stream";
    let create = ["secret-create", "--text", stored, "--content-type", kind];
    let id = text(&cloud.ctl(&create).await, "id");
    let said = no_key(&cloud.config_for("password", &id), &id, NOT_A_KEY).await;
    assert!(said.contains("looks like base64"), "{said}");
    assert!(!said.contains(stored), "{said}");
}

#[tokio::test]
async fn keys_of_16_24_and_32_bytes_serve() {
    let cloud = openstack::plain();
    let lengths = vec![16, 24, 32];
    at_once(lengths.into_iter().map(|length| async move {
        let id = cloud.new_key(&"5a".repeat(length)).await;
        let place = Place::new(&cloud.config_for("password", &id));
        let mut sidecar = place.start();
        assert_eq!(sidecar.ready().await.round_trip().await.key_id, id);
    }))
    .await;
}

#[tokio::test]
async fn a_region_without_barbican_is_named_with_those_that_have_one() {
    let cloud = openstack::tls();
    let config = cloud.config("password").replace("RegionOne", "RegionNine");
    let said = no_key(&config, cloud.key(0), UNREACHABLE).await;
    assert!(
        // Other tests add regions of their own, so the list may be cut short.
        said.contains("RegionNine") && said.contains("it has: public in"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_of_another_authority_gets_no_password() {
    let (cloud, other) = (openstack::tls(), openstack::mtls());
    let config = cloud
        .config("password")
        .replace(cloud.text("/ca_file"), other.text("/ca_file"));
    let said = no_key(&config, cloud.key(0), UNREACHABLE).await;
    assert!(said.contains("certificate"), "{said}");
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_does_not_answer_without_one() {
    let cloud = openstack::mtls();
    let config: Vec<String> = cloud
        .config("password")
        .lines()
        .filter(|line| !line.starts_with("cert-file") && !line.starts_with("key-file"))
        .map(str::to_owned)
        .collect();
    let said = no_key(&(config.join("\n") + "\n"), cloud.key(0), UNREACHABLE).await;
    assert!(said.contains("certificate"), "{said}");
}

#[tokio::test]
async fn verification_that_is_off_is_warned_about_and_serves() {
    let cloud = openstack::tls();
    let ca = format!("ca-file = \"{}\"", cloud.text("/ca_file"));
    let place = Place::new(&cloud.config("password").replace(&ca, "tls-insecure = true"));
    let mut sidecar = place.start();
    sidecar.ready().await.round_trip().await;
    let event = sidecar.logged("tls-insecure").await;
    assert_eq!(event["level"], "WARN", "{event}");
}

#[tokio::test]
async fn a_role_that_is_given_is_noticed_within_seconds() {
    let cloud = openstack::plain();
    let user = cloud.ctl(&["user-create", "--role", "reader"]).await;
    let name = text(&user, "username");
    let place = Place::new(&cloud.config_of_user(&name, &text(&user, "password")));
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar.unavailable(&client, ACCESS).await;
    cloud.ctl(&["role-add", &name, "member"]).await;
    let given = Instant::now();
    sidecar
        .until("Encrypt works", async |_| client.encrypt(SEED).await.ok())
        .await;
    // Asked again after 5 s; the rest is for a busy machine.
    let took = given.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    client.round_trip().await;
    sidecar.logged("key loaded").await;
}

#[tokio::test]
async fn a_revoked_token_is_replaced_by_one_new_login() {
    let cloud = openstack::plain();
    let user = cloud.ctl(&["user-create"]).await;
    let name = text(&user, "username");
    let second = cloud.new_key(&"a7".repeat(32)).await;
    cloud.ctl(&["secret-acl", &second, "--private"]).await;
    let config = cloud.config_of_user(&name, &text(&user, "password"));
    let place = Place::new(&format!("{config}decrypt-key-ids = {second}\n"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.ready().await;
    sidecar.logged("key not loaded: ").await;
    assert_eq!(logins(&sidecar), 1);

    cloud.ctl(&["tokens-revoke", &name]).await;
    let id = text(&user, "id");
    cloud.ctl(&["secret-acl", &second, "--reader", &id]).await;
    let wanted = Code::InvalidArgument;
    sidecar
        .until("the second key is loaded", async |_| {
            let answer = client.send(untagged(&second)).await;
            answer.err().filter(|status| status.code() == wanted)
        })
        .await;
    sidecar.logged_times("key loaded", 2).await;
    assert_eq!(logins(&sidecar), 2);
    client.round_trip().await;
}

fn logins(sidecar: &Sidecar) -> usize {
    let is_login = |event: &&Value| {
        let asked = event["asked"].as_str().unwrap_or_default();
        asked.ends_with("/auth/tokens") && event["status"] == 201
    };
    sidecar.log().iter().filter(is_login).count()
}

/// The requests of the log to such a URL, at debug.
fn requests(sidecar: &Sidecar, url: &str) -> Vec<String> {
    let asked = |event: Value| event.get("asked")?.as_str().map(str::to_owned);
    let all = sidecar.log().into_iter().filter_map(asked);
    all.filter(|asked| asked.contains(url)).collect()
}

#[tokio::test]
async fn an_unknown_key_id_is_refused_without_a_request_to_barbican() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.ready().await;
    sidecar.logged("key loaded").await;
    let before = requests(&sidecar, "http").len();
    // It exists, and this credential could read it.
    let other = cloud.key(1);
    let answer = refusal(client.send(untagged(other)).await);
    let text = format!("the key id {other} is not configured");
    assert_eq!(answer, (Code::FailedPrecondition, text));
    client.round_trip().await;
    assert_eq!(requests(&sidecar, "http").len(), before);
    assert!(requests(&sidecar, other).is_empty());
}

#[tokio::test]
async fn a_malformed_key_id_is_refused_before_anything_is_asked() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.ready().await;
    sidecar.logged("key loaded").await;
    let before = requests(&sidecar, "http").len();
    let long = "a".repeat(5000);
    let climbing = format!("../{}", cloud.key(0));
    let padded = format!("{} ", cloud.key(0));
    for id in [
        "",
        "no-such-id",
        "../../secrets",
        &climbing,
        &padded,
        "%2e%2e",
        "\u{0}",
        &long,
    ] {
        let (code, text) = refusal(client.send(untagged(id)).await);
        assert_eq!(code, Code::InvalidArgument, "{id:?}: {text}");
        assert!(
            text.starts_with("the request's key id is malformed: "),
            "{text}"
        );
        assert!(id.is_empty() || !text.contains(id), "not repeated: {text}");
    }
    assert_eq!(requests(&sidecar, "http").len(), before);
    client.round_trip().await;
}

#[tokio::test]
async fn damaged_data_has_one_answer_whatever_is_wrong_with_it() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let good = client.round_trip().await;
    let altered = |change: &dyn Fn(&mut v2::EncryptResponse)| {
        let mut altered = good.clone();
        change(&mut altered);
        altered
    };
    let tag = |altered: &mut v2::EncryptResponse, change: &dyn Fn(&mut Vec<u8>)| {
        altered.annotations.values_mut().for_each(change);
    };
    for wrong in [
        altered(&|wrong| wrong.ciphertext[0] ^= 1),
        altered(&|wrong| wrong.ciphertext[60] ^= 1),
        altered(&|wrong| wrong.ciphertext.truncate(48)),
        altered(&|wrong| wrong.ciphertext.truncate(63)),
        altered(&|wrong| wrong.ciphertext.clear()),
        altered(&|wrong| wrong.ciphertext.resize(2048, 0)),
        altered(&|wrong| tag(wrong, &|tag| tag[0] ^= 1)),
        altered(&|wrong| tag(wrong, &Vec::clear)),
        altered(&|wrong| tag(wrong, &|tag| tag.push(0))),
    ] {
        let answer = refusal(client.decrypt(&wrong).await);
        let text = "the ciphertext is damaged, or was not made with this key".to_owned();
        assert_eq!(answer, (Code::InvalidArgument, text));
    }
    assert_eq!(client.decrypt(&good).await.expect("unharmed"), SEED);
}

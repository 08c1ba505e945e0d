//! Nothing secret in any output: every error path, at every log level, held against
//! passwords, tokens, keys and seeds in every form that they could take.

use std::net::SocketAddr;

use barbican_kms::proto::v2;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Status;

use crate::support::client::{SEED, request};
use crate::support::hex;
use crate::support::openstack::{self, OpenStack, text};
use crate::support::patience::at_once;
use crate::support::secret_forms::Forms;
use crate::support::sidecar::{CommandOutput, Place};

const WRONG_PASSWORD: &str = "Wr0ng-Pa55word=of;nobody";
const STORED_TEXT: &str = "b64dMDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A server that answers with this status, and everything that it was sent.
pub(crate) async fn echo(status: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&request[..length]).await;
        }
    });
    (address, tasks)
}

/// A case: its name, the configuration's file name, and its text.
type Case = (&'static str, &'static str, String);

/// The configurations, and what must never be seen.
struct Setting {
    cases: Vec<Case>,
    secrets: Forms,
    _servers: Vec<JoinSet<()>>,
}

/// Regions of the catalog are for one test each, which `name` tells apart.
async fn setting(name: &str) -> Setting {
    let cloud = openstack::plain();
    let token = text(&cloud.ctl(&["token"]).await, "token");
    let long_hex = "c35a9611e0".repeat(7)[..66].to_owned();
    let long = cloud.new_key(&long_hex).await;
    let kind = "application/octet-stream";
    let create = [
        "secret-create",
        "--text",
        STORED_TEXT,
        "--content-type",
        kind,
    ];
    let stored = text(&cloud.ctl(&create).await, "id");
    let expired = cloud.ctl(&["appcred-create", "--expired"]).await;
    let (expired, expired_secret) = (text(&expired, "id"), text(&expired, "secret"));
    let key = cloud.payload(cloud.key(0)).await;

    let mut secrets = Forms::default();
    let narrow = "/application_credentials/narrow/secret";
    for (name, secret) in [
        ("the password", cloud.text("/user/password")),
        ("the reader's password", cloud.text("/reader/password")),
        ("the wrong password", WRONG_PASSWORD),
        ("the credential's secret", cloud.text(narrow)),
        ("the expired secret", &expired_secret),
        // What all tokens begin with is no secret.
        ("the token", &token[12..]),
        ("a stored text", STORED_TEXT),
    ] {
        secrets.add(name, secret.as_bytes());
    }
    secrets.add("the key", &hex::decode(&key));
    secrets.add("a long payload", &hex::decode(&long_hex));
    secrets.add("the seed", SEED);

    let mut cases = accepted(cloud, &token);
    cases.extend(refused(cloud, &token));
    let credential = cloud.config_of_credential(&expired, &expired_secret);
    cases.push(("expired credential", GCFG, credential));
    cases.push(("33 bytes", GCFG, cloud.config_for("password", &long)));
    cases.push(("text", GCFG, cloud.config_for("password", &stored)));
    cases.extend(misspelt(cloud));
    let (echoing, servers) = echoes(cloud, &token, name).await;
    cases.extend(echoing);
    Setting {
        cases,
        secrets,
        _servers: servers,
    }
}

const GCFG: &str = "cloud.conf";
const TOML: &str = "cloud.toml";

fn accepted(cloud: &OpenStack, token: &str) -> Vec<Case> {
    vec![
        ("password", GCFG, cloud.config("password")),
        (
            "narrow",
            GCFG,
            cloud.config("application_credential_narrow"),
        ),
        ("toml", TOML, cloud.config("toml")),
        ("token", GCFG, cloud.config_of_token(token)),
    ]
}

fn refused(cloud: &OpenStack, token: &str) -> Vec<Case> {
    let password = cloud.config("password");
    let (user, project) = (cloud.text("/user/username"), cloud.text("/project/name"));
    let other_token = cloud
        .config_of_token(token)
        .replace(&token[5..12], "0000000");
    let other_key = password.replace(&cloud.key(0)[..8], "00000000");
    let nobody = password.replace(cloud.text("/auth_url"), "http://127.0.0.1:9");
    vec![
        ("reader", GCFG, cloud.config("reader")),
        (
            "wrong password",
            GCFG,
            cloud.config_of_user(user, WRONG_PASSWORD),
        ),
        ("wrong token", GCFG, other_token),
        ("unknown project", GCFG, password.replace(project, "none")),
        ("unknown secret", GCFG, other_key),
        ("nobody", GCFG, nobody),
        ("https to http", GCFG, password.replace("http:", "https:")),
    ]
}

/// Errors that point at the line of the secret.
fn misspelt(cloud: &OpenStack) -> Vec<Case> {
    let (gcfg, toml) = (cloud.config("password"), cloud.config("toml"));
    let (user, own) = (cloud.text("/user/username"), cloud.text("/user/password"));
    let with = |from: &str, to: &str| gcfg.replace(from, to);
    let in_url = format!("http://{user}:{own}@");
    vec![
        ("open quote", GCFG, with(&format!("{own}\""), own)),
        ("bad escape", GCFG, with(own, &format!("{own}\\q"))),
        (
            "key without value",
            GCFG,
            with("password = ", "password \""),
        ),
        ("pass word", GCFG, with("password = ", "pass word = ")),
        ("password in the URL", GCFG, with("http://", &in_url)),
        ("password as key id", GCFG, with(cloud.key(0), own)),
        ("password as region", GCFG, with("password =", "region =")),
        ("gcfg as toml", TOML, gcfg.clone()),
        ("toml as gcfg", GCFG, toml.replace(" = \"", " == \"")),
        (
            "toml open quote",
            TOML,
            toml.replacen("-secret = \"", "-secret = ", 1),
        ),
        (
            "toml twice",
            TOML,
            toml.replace("region =", "application-credential-secret ="),
        ),
    ]
}

/// Servers that say what they were sent.
async fn echoes(cloud: &OpenStack, token: &str, name: &str) -> (Vec<Case>, Vec<JoinSet<()>>) {
    let (keystone, first) = echo("401 Unauthorized").await;
    let (barbican, second) = echo("403 Forbidden").await;
    let (broken, third) = echo("200 OK").await;
    let keystone = format!("http://{keystone}");
    let at_keystone = |config: &str| config.replace(cloud.text("/auth_url"), &keystone);
    let mut cases = vec![
        (
            "echo of a password",
            GCFG,
            at_keystone(&cloud.config("password")),
        ),
        (
            "echo of a secret",
            GCFG,
            at_keystone(&cloud.config("application_credential_narrow")),
        ),
        (
            "echo of a token",
            GCFG,
            at_keystone(&cloud.config_of_token(token)),
        ),
    ];
    for (case, address) in [("echo as Barbican", barbican), ("echo as payload", broken)] {
        let region = format!("{name} {case}").replace(' ', "-");
        let url = format!("http://{address}");
        cloud.ctl(&["endpoint-delete", "--region", &region]).await;
        cloud
            .ctl(&["endpoint-create", "--region", &region, "--url", &url])
            .await;
        let config = cloud.config_of_token(token).replace("RegionOne", &region);
        cases.push((case, GCFG, config));
    }
    (cases, vec![first, second, third])
}

/// Everything that the process and its answers say in one case at one level.
async fn all_output(case: &Case, level: &str, format: &str) -> Vec<(&'static str, Vec<u8>)> {
    let (_, file, config) = case;
    let place = Place::with_file(file, config);
    let mut sidecar = place.start_with(&["--log-level", level, "--log-format", format]);
    let mut answers = String::new();
    let mut note =
        |answer: Option<Status>| answers.extend(answer.map(|status| format!("{status:?}\n")));
    if let Some(client) = sidecar.client_or_end().await {
        sidecar
            .until("an attempt has ended", async |sidecar| {
                let failed = sidecar.errors().contains("key not loaded");
                (failed || client.status().await.is_ok()).then_some(())
            })
            .await;
        note(client.status().await.err());
        note(client.encrypt(&SEED.repeat(40)).await.err());
        let wrapped = client.encrypt(SEED).await;
        if let Ok(wrapped) = &wrapped {
            let mut damaged = request(wrapped);
            damaged.ciphertext[20] ^= 1;
            note(client.send(damaged.clone()).await.err());
            damaged.annotations.clear();
            note(client.send(damaged).await.err());
            client.decrypt(wrapped).await.expect("as it was");
        }
        note(wrapped.err());
        for key_id in ["", "no-such-id", "00000000-0000-4000-8000-000000000000"] {
            let request = v2::DecryptRequest {
                ciphertext: SEED.repeat(2),
                uid: "test".to_owned(),
                key_id: key_id.to_owned(),
                annotations: [("kms.example".to_owned(), SEED.to_vec())].into(),
            };
            note(client.send(request).await.err());
        }
        sidecar.stop().await;
    }
    vec![
        ("the log", sidecar.errors_raw()),
        ("standard output", sidecar.output().into_bytes()),
        ("the gRPC answers", answers.into_bytes()),
    ]
}

fn said(said: CommandOutput) -> Vec<u8> {
    (said.output + &said.errors).into_bytes()
}

/// Runs every case and looks for every secret.
async fn assert_silent(level: &str, format: &str) {
    assert_silent_in(level, format, |_| true).await;
}

/// What is logged at the three least talkative levels is a part of what is logged at
/// debug, so each of them gets a third of the cases.
async fn assert_silent_in(level: &str, format: &str, taken: impl Fn(usize) -> bool) {
    let setting = setting(level).await;
    let cases = setting.cases.iter().enumerate();
    let cases: Vec<_> = cases.filter(|(number, _)| taken(*number)).collect();
    for part in cases.chunks(8) {
        at_once(part.iter().map(async |(_, case)| {
            let output = all_output(case, level, format).await;
            for (whose, output) in &output {
                let whose = format!("{whose} of {:?}", case.0);
                setting.secrets.assert_absent(output, &whose);
            }
        }))
        .await;
    }
}

#[tokio::test]
async fn no_output_holds_a_secret_at_level_trace() {
    assert_silent("trace", "json").await;
}

#[tokio::test]
async fn no_output_holds_a_secret_at_level_debug_in_text() {
    assert_silent("debug", "text").await;
}

#[tokio::test]
async fn no_output_holds_a_secret_at_level_info() {
    assert_silent_in("info", "json", |case| case % 3 == 0).await;
}

#[tokio::test]
async fn no_output_holds_a_secret_at_level_warn_in_text() {
    assert_silent_in("warn", "text", |case| case % 3 == 1).await;
}

#[tokio::test]
async fn no_output_holds_a_secret_at_level_error() {
    assert_silent_in("error", "json", |case| case % 3 == 2).await;
}

#[tokio::test]
async fn no_check_and_no_rotation_plan_shows_a_secret() {
    let setting = setting("check").await;
    for part in setting.cases.chunks(8) {
        at_once(part.iter().map(async |(name, file, config)| {
            let place = Place::with_file(file, config);
            let mut rotate = place.command("rotate");
            rotate.arg("--cloud-config").arg(place.config());
            for output in [
                said(place.check(&[]).await),
                said(place.check(&["--json"]).await),
                said(crate::support::sidecar::run(rotate).await),
            ] {
                assert!(!output.is_empty(), "{name}");
                let whose = format!("what check says of {name:?}");
                setting.secrets.assert_absent(&output, &whose);
            }
        }))
        .await;
    }
}

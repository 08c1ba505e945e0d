//! A secret in the wrong field: whatever the field and whatever is done with the file, no
//! output shows any part of it.
//!
//! Every field in process, which finds most; then every field with the real binary, the
//! secrets taking turns.

mod cases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barbican_kms::config::{Content, Environment, FileError, Proxy, load};
use barbican_kms::openstack::{OpenStack, Timing};
use rustix::process::Signal;

use self::cases::{CONFIG, Case, Secret, files, variables};
use crate::silence::echo;
use crate::support::patience::at_once;
use crate::support::scrape::Target;
use crate::support::secret_forms::{Forms, base64};
use crate::support::sidecar::{Place, Sidecar, run};
use crate::support::{hex, random::Random};

/// Base64 has a slash here or there, and so may look like a path.
const SEEDS: u64 = 4;

/// So many processes at once.
const AT_ONCE: usize = 8;

/// One of each kind, and all forms of all of them.
fn secrets() -> (Vec<Secret>, Forms) {
    secrets_of(2026)
}

fn secrets_of(seed: u64) -> (Vec<Secret>, Forms) {
    let mut random = Random::new(seed);
    let mut forms = Forms::default();
    let mut secrets = Vec::new();
    let mut add = |name: &'static str, text: String, body: &[u8]| {
        forms.add(name, body);
        secrets.push(Secret { name, text });
    };
    let text = |bytes: &[u8]| String::from_utf8(base64(bytes)).expect("base64 is ASCII");

    let der = random.bytes(138);
    let body = text(&der);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let begin = "-----BEGIN PRIVATE KEY-----";
    let pem = format!("{begin}\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    add("a private key", pem, body.as_bytes());
    let password = "Wr0ng-Pa55word=of;nobody#42";
    add("a password", password.to_owned(), password.as_bytes());
    let url_safe = |bytes: &[u8]| text(bytes).replace('+', "-").replace('/', "_");
    let token = url_safe(&random.bytes(120));
    add("a token", format!("gAAAAAB{token}"), token.as_bytes());
    let credential = url_safe(&random.bytes(64)).replace('=', "");
    add("a credential", credential.clone(), credential.as_bytes());
    for (in_hexadecimal, in_base64, length) in [
        ("a key in hexadecimal", "a key in base64", 32),
        ("a short key in hexadecimal", "a short key in base64", 16),
    ] {
        let key = random.bytes(length);
        add(in_hexadecimal, hex::encode(&key), &key);
        let key = random.bytes(length);
        add(in_base64, text(&key), &key);
    }
    (secrets, forms)
}

/// Loads it from files that are in memory only, and returns all that is said about it.
fn load_case(case: &Case) -> String {
    let directory = Path::new("/d");
    let files: BTreeMap<PathBuf, &str> = case
        .files
        .iter()
        .map(|(name, text)| (directory.join(name), text.as_str()))
        .collect();
    let read = |path: &Path| {
        let text = files.get(path).ok_or(FileError::Missing)?;
        let bytes = text.as_bytes().to_vec();
        Ok(Content { bytes, mode: 0o644 })
    };
    let variable = |name: &str| {
        let found = case.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    };
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
    let environment = Environment {
        cloud: variable("OS_CLOUD"),
        client_config_file: variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from),
        client_secure_file: variable("OS_CLIENT_SECURE_FILE").map(PathBuf::from),
        home: variable("HOME").map(PathBuf::from),
        working_directory: directory.to_owned(),
        proxy: Proxy {
            http: either("HTTP_PROXY").unwrap_or_default().into(),
            https: either("HTTPS_PROXY").unwrap_or_default().into(),
            no_proxy: either("NO_PROXY").unwrap_or_default(),
        },
    };
    let said = match load(Path::new(&case.config), &environment, &read) {
        Ok(loaded) => {
            let client = OpenStack::new(&loaded.live.cloud, Timing::default());
            let refused = client.err().map(|error| error.to_string());
            let keystone = barbican_kms::config::redact::url(&loaded.live.cloud.keystone);
            format!("{:?} {refused:?} {keystone}", loaded.warnings) + &shown(loaded.warnings.iter())
        }
        Err(error) => format!("{error} {error:?}") + &shown(error.warnings.iter()),
    };
    format!("{said} {environment:?}")
}

fn shown<T: ToString>(warnings: impl Iterator<Item = T>) -> String {
    warnings.map(|warning| warning.to_string()).collect()
}

#[test]
fn no_message_about_a_configuration_shows_a_secret() {
    let mut count = 0;
    for (secret, forms) in (0..SEEDS).flat_map(|seed| {
        let (secrets, forms) = secrets_of(seed);
        let forms = std::rc::Rc::new(forms);
        secrets
            .into_iter()
            .map(move |secret| (secret, forms.clone()))
    }) {
        let secret = &secret;
        let all = files("http://k.example.com:5000", secret);
        for case in all.iter().chain(&variables("http://k.example.com", secret)) {
            let said = load_case(case);
            let whose = format!("what is said of {} in {}", secret.name, case.name);
            forms.assert_absent(said.as_bytes(), &whose);
            for line in said.lines() {
                assert!(
                    !line.contains("-----BEGIN PRIVATE KEY-----\\n"),
                    "{whose}: {line}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 800, "{count}");
}

/// Every case once; which secret is in it depends on its number.
fn taking_turns(of: impl Fn(&Secret) -> Vec<Case>, secrets: &[Secret], from: usize) -> Vec<Case> {
    let all: Vec<Vec<Case>> = secrets.iter().map(of).collect();
    let count = all.first().map_or(0, Vec::len);
    (0..count)
        .filter_map(|number| all[(number + from) % all.len()].get(number).cloned())
        .collect()
}

/// The files of a case, where the working directory of the binary is.
fn placed(case: &Case) -> Place {
    let place = Place::with_file(CONFIG, "");
    put(&place, case);
    place
}

fn put(place: &Place, case: &Case) {
    for (name, text) in &case.files {
        std::fs::write(place.path(name), text).expect("written");
    }
}

async fn says(case: &Case, command: &str, more: &[&str]) -> Vec<u8> {
    let place = placed(case);
    let mut command = place.command(command);
    command
        .arg("--cloud-config")
        .arg(place.path(&case.config))
        .args(more)
        .envs(case.variables.iter().map(|(name, value)| (name, value)));
    let said = run(command).await;
    assert!(
        !(said.output.is_empty() && said.errors.is_empty()),
        "{}",
        case.name
    );
    (said.output + &said.errors).into_bytes()
}

async fn serves(case: &Case) -> Vec<u8> {
    let place = placed(case);
    let mut command = place.command("serve");
    command
        .arg("--cloud-config")
        .arg(place.path(&case.config))
        .arg("--socketpath")
        .arg(place.socket())
        .args(["--log-level", "trace", "--log-format", "json"])
        .envs(case.variables.iter().map(|(name, value)| (name, value)));
    let mut sidecar = place.spawn(command);
    let mut said = Vec::new();
    if let Some(client) = sidecar.client_or_end().await {
        sidecar
            .until("an attempt has ended", async |sidecar| {
                let failed = sidecar.errors().contains("key not loaded");
                failed.then_some(())
            })
            .await;
        let answer = client.status().await.err();
        said.extend(format!("{answer:?}").into_bytes());
        said.extend(status(&place).await);
        sidecar.stop().await;
    }
    said.extend(sidecar.errors_raw());
    said.extend(sidecar.output().into_bytes());
    said
}

async fn status(place: &Place) -> Vec<u8> {
    let mut said = Vec::new();
    for more in [&[][..], &["--json"]] {
        let mut command = place.command("status");
        command.arg("--socketpath").arg(place.socket()).args(more);
        let status = run(command).await;
        said.extend((status.output + &status.errors).into_bytes());
    }
    said
}

async fn assert_silent(command: &str, from: usize) {
    let (secrets, forms) = secrets();
    let (keystone, _server) = echo("401 Unauthorized").await;
    let url = format!("http://{keystone}");
    let of = |secret: &Secret| {
        let mut cases = files(&url, secret);
        cases.extend(variables(&url, secret));
        cases
    };
    let cases = taking_turns(of, &secrets, from);
    for part in cases.chunks(AT_ONCE) {
        at_once(part.iter().map(async |case| {
            let said = match command {
                "serve" => serves(case).await,
                command => says(case, command, &[]).await,
            };
            let whose = format!("what {command} says of a secret in {}", case.name);
            forms.assert_absent(&said, &whose);
        }))
        .await;
    }
}

#[tokio::test]
async fn check_shows_no_secret_wherever_it_stands() {
    assert_silent("check", 0).await;
}

#[tokio::test]
async fn rotate_shows_no_secret_wherever_it_stands() {
    assert_silent("rotate", 1).await;
}

#[tokio::test]
async fn serve_shows_no_secret_wherever_it_stands() {
    assert_silent("serve", 2).await;
}

#[tokio::test]
async fn a_reload_shows_no_secret_wherever_it_stands() {
    let (secrets, forms) = secrets();
    let (keystone, _server) = echo("401 Unauthorized").await;
    let url = format!("http://{keystone}");
    let cases = taking_turns(|secret| files(&url, secret), &secrets, 3);
    for (file, good) in cases::good(&url) {
        let cases: Vec<_> = cases.iter().filter(|case| case.config == file).collect();
        let share = cases.len().div_ceil(AT_ONCE);
        at_once(cases.chunks(share).map(async |part| {
            let place = Place::with_file(
                Path::new(file)
                    .file_name()
                    .expect("a name")
                    .to_str()
                    .expect("UTF-8"),
                &good,
            );
            let mut sidecar =
                place.start_with(&["--log-level", "trace", "--metrics-address", "127.0.0.1:0"]);
            let target = Target::of(&mut sidecar).await;
            for (number, case) in part.iter().enumerate() {
                put(&place, case);
                read_again(&mut sidecar, number + 1).await;
                let whose = format!("status after a reload of {}", case.name);
                forms.assert_absent(&status(&place).await, &whose);
            }
            let metrics = target.get("/metrics").await.body;
            forms.assert_absent(metrics.as_bytes(), "the metrics");
            sidecar.stop().await;
            forms.assert_absent(&sidecar.errors_raw(), "the log of reloads");
        }))
        .await;
    }
}

async fn read_again(sidecar: &mut Sidecar, times: usize) {
    sidecar.signal(Signal::HUP);
    sidecar
        .logged_times("reading the configuration again: SIGHUP", times)
        .await;
}

#[tokio::test]
async fn no_flag_repeats_a_secret() {
    let (secrets, forms) = secrets();
    for secret in &secrets {
        let text = secret.text.as_str();
        let dashed = format!("--{text}");
        for arguments in [
            &["rotate", "--cloud-config", text][..],
            &["rotate", "--cloud-config", "/c", "--new-key-id", text],
            &["check", "--cloud-config", text],
            &[
                "serve",
                "--cloud-config",
                text,
                "--socketpath",
                "/no/such.sock",
            ],
            &["serve", "--cloud-config", "/c", "--socketpath", text],
            &[
                "serve",
                "--cloud-config",
                "/c",
                "--socketpath",
                "/s",
                "--socket-group",
                text,
            ],
            &[
                "serve",
                "--cloud-config",
                "/c",
                "--socketpath",
                "/s",
                "--log-format",
                text,
            ],
            &["status", "--socketpath", text],
            &["probe", "--socketpath", text, "--timeout-ms", text],
            &["check", text],
            &["check", &dashed],
            &[text],
        ] {
            let said = crate::support::sidecar::barbican_kms(arguments).await;
            let said = (said.output + &said.errors).into_bytes();
            let whose = format!("what is said of {} in {}", secret.name, arguments.len());
            forms.assert_absent(&said, &whose);
        }
    }
}

#[test]
fn a_private_key_in_place_of_its_path_is_redacted_with_the_fix() {
    let (secrets, _) = secrets();
    let secret = &secrets[0];
    let cases = files("http://k.example.com", secret);
    let said = |name: &str| {
        let case = cases.iter().find(|case| case.name == name);
        load_case(case.unwrap_or_else(|| panic!("no case {name}")))
    };
    let gcfg = said("gcfg [Global] key-file");
    let expected = "[Global] key-file: found a text of 5 lines that begins like a PEM block where \
                    the path of a file is expected; store it in a file and write its path here";
    assert!(gcfg.contains(expected), "{gcfg}");
    assert!(said("gcfg [Global] ca-file").contains("as `cafilecontents`"));
    assert!(said("clouds.yaml key").contains("clouds.one.key: found a text of 5 lines"));
}

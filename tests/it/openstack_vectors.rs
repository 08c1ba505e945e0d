//! From a cloud-config to the requests that it causes, held against recordings
//! of the Go plugin's own client.
//!
//! One JSON object a line: `cloud_conf`, `files` and `env` are the input (`@B@`
//! is the server, `@D@` the directory of the files), `server` says how the
//! recorder answers, `gets` how often the key is read. What is expected is
//! `sent` where we wrote the line; else `go`, and `ours` says in its first words
//! how we differ: `same`, `ok`, `refused`, `retried`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barbican_kms::config::{Environment, Proxy, files, load};
use barbican_kms::openstack::OpenStack;
use serde::Deserialize;
use serde_json::Value;

use crate::support::cloud::{Recorder, quick};
use crate::support::server::{Received, Server};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    cloud_conf: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    server: Answers,
    gets: Option<usize>,
    go: Option<Run>,
    ours: Option<String>,
    sent: Option<Run>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    auth: Option<Vec<u16>>,
    pay: Option<Vec<u16>>,
    disc: Option<u16>,
    sfx: Option<String>,
    stype: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Run {
    ok: bool,
    #[serde(default)]
    requests: Vec<Request>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Request {
    method: String,
    path: String,
    auth: Option<Value>,
    #[serde(default)]
    token: bool,
    accept: Option<String>,
}

impl Request {
    /// Go asks for the versions at the roots of Keystone and Barbican.
    fn is_discovery(&self) -> bool {
        self.method == "GET" && self.path.ends_with('/')
    }

    fn of(received: &Received) -> Self {
        let body: Option<Value> = serde_json::from_slice(&received.body).ok();
        let get = received.method == "GET";
        Self {
            method: received.method.clone(),
            path: received.target.clone(),
            auth: body.and_then(|body| body.get("auth").cloned()),
            token: received.header("x-auth-token").is_some(),
            accept: received.header("accept").filter(|_| get).map(str::to_owned),
        }
    }
}

/// What we did: the requests, and the key or what was wrong.
struct Outcome {
    requests: Vec<Request>,
    result: Result<(), String>,
}

async fn run(vector: &Vector) -> Outcome {
    let default = Recorder::default();
    let answers = &vector.server;
    let server = Recorder {
        auth: answers.auth.clone().unwrap_or(default.auth),
        pay: answers.pay.clone().unwrap_or(default.pay),
        disc: answers.disc.unwrap_or(default.disc),
        sfx: answers.sfx.clone().unwrap_or(default.sfx),
        stype: answers.stype.clone().unwrap_or(default.stype),
        ..Recorder::default()
    };
    let server = server.start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let result = reads(vector, &server, directory.path()).await;
    Outcome {
        requests: server.received().iter().map(Request::of).collect(),
        result,
    }
}

async fn reads(vector: &Vector, server: &Server, directory: &Path) -> Result<(), String> {
    let place = |text: &str| {
        text.replace("@B@", &server.base())
            .replace("@D@", directory.to_str().expect("a UTF-8 path"))
    };
    for (name, content) in &vector.files {
        let path = directory.join(name);
        let parent = path.parent().expect("a file in a directory");
        std::fs::create_dir_all(parent).expect("a directory");
        std::fs::write(path, place(content)).expect("a file");
    }
    let path = directory.join("cloud.conf");
    std::fs::write(&path, place(&vector.cloud_conf)).expect("a file");

    let variable = |name: &str| vector.env.get(name).map(|value| place(value));
    let either = |name: &str| {
        let lower = variable(&name.to_lowercase());
        variable(name).or(lower).unwrap_or_default()
    };
    let environment = Environment {
        cloud: variable("OS_CLOUD"),
        client_config_file: variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from),
        client_secure_file: variable("OS_CLIENT_SECURE_FILE").map(PathBuf::from),
        // Home is what /etc/passwd says, not `HOME`: not this directory.
        home: None,
        working_directory: directory.to_owned(),
        proxy: Proxy {
            http: either("HTTP_PROXY").into(),
            https: either("HTTPS_PROXY").into(),
            no_proxy: either("NO_PROXY"),
        },
    };
    let loaded = load(&path, &environment, &files::read).map_err(|error| error.to_string())?;
    let client = OpenStack::new(&loaded.live.cloud, quick()).map_err(|error| error.to_string())?;
    for _ in 0..vector.gets.unwrap_or(1) {
        let key = client.key(loaded.live.ring.write.expect("a key")).await;
        key.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// `None` for agreement.
fn difference(vector: &Vector, outcome: &Outcome) -> Option<String> {
    if let Some(sent) = &vector.sent {
        return exactly(sent, outcome);
    }
    let (Some(go), Some(ours)) = (&vector.go, &vector.ours) else {
        return Some("the line expects nothing".to_owned());
    };
    let succeeded = outcome.result.is_ok();
    let word = ours.split([':', ',', ' ']).next().unwrap_or_default();
    match word {
        "same" | "verification" => exactly(go, outcome),
        "ok" if !succeeded => Some("it should succeed".to_owned()),
        "ok" if ours.contains("after one retry") && tries(outcome) != 2 => {
            Some(format!("{} tries instead of two", tries(outcome)))
        }
        "ok" => None,
        "refuse" | "refused" => succeeded.then(|| "it should be refused".to_owned()),
        "retried" if succeeded => Some("it should fail in the end".to_owned()),
        "retried" => (tries(outcome) < 2).then(|| "it is not retried".to_owned()),
        other => Some(format!("{other:?} is not understood")),
    }
}

/// How often the request that was made most often was made.
fn tries(outcome: &Outcome) -> usize {
    let count = |one: &Request| {
        let like = |other: &&Request| other.path == one.path;
        outcome.requests.iter().filter(like).count()
    };
    outcome.requests.iter().map(count).max().unwrap_or(0)
}

fn exactly(expected: &Run, outcome: &Outcome) -> Option<String> {
    let requests: Vec<Request> = expected
        .requests
        .iter()
        .filter(|request| !request.is_discovery())
        .cloned()
        .collect();
    if outcome.result.is_ok() != expected.ok {
        return Some(format!("expected ok = {}", expected.ok));
    }
    (requests != outcome.requests).then(|| format!("expected the requests {requests:#?}"))
}

/// Runs every line; returns how many there were.
async fn hold(path: &Path) -> usize {
    let text = files::read_capped(path, 16 * 1024 * 1024)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&text.bytes);
    let mut disagreements = Vec::new();
    let mut count = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let vector: Vector = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()));
        let outcome = run(&vector).await;
        count += 1;
        if let Some(difference) = difference(&vector, &outcome) {
            let Outcome { requests, result } = outcome;
            let ours = vector.ours.as_deref().unwrap_or("-");
            disagreements.push(format!(
                "{}\n  ours: {ours}\n  {difference}\n  result: {result:?}\n  requests: {requests:#?}",
                vector.name
            ));
        }
    }
    println!("{}: {count} vectors", path.display());
    let number = disagreements.len();
    assert!(
        number == 0,
        "{number} of {count}:\n{}",
        disagreements.join("\n")
    );
    count
}

#[tokio::test]
async fn our_own_openstack_vectors_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/openstack.jsonl");
    assert!(hold(&path).await >= 30);
}

#[tokio::test]
async fn the_go_plugins_openstack_vectors_hold() {
    let named = std::env::var_os("OPENSTACK_VECTORS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/openstack_go.jsonl");
    assert!(hold(&named.unwrap_or(own)).await > 0);
}

//! Access rules: judged as keystonemiddleware's own function does, and what real servers do
//! with a Barbican below a prefix.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use barbican_kms::openstack::{AccessRule, RuleMatch};

use crate::support::openstack::{self, OpenStack, text};
use crate::support::random::Random;
use crate::support::sidecar::{CommandOutput, Place};

/// Reads lines of a pattern, a tab and a path; says for each whether they match.
const JUDGE: &str = "
import sys
from keystonemiddleware.auth_token import _path_matches
for line in sys.stdin.buffer.read().decode().split('\\n')[:-1]:
    pattern, path = line.split('\\t')
    print('y' if _path_matches(path, pattern) else 'n')
";

const CASES: usize = 20_000;

/// The Python that has keystonemiddleware: the one that the servers run with.
fn python() -> PathBuf {
    let _installed = openstack::plain();
    if let Some(own) = std::env::var_os("OPENSTACK_VENV") {
        return PathBuf::from(own).join("bin/python");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"),
        PathBuf::from,
    );
    let lock = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/openstack/requirements.lock"
    );
    let sum = Command::new("sha256sum")
        .arg(lock)
        .output()
        .expect("sha256sum");
    let sum = String::from_utf8_lossy(&sum.stdout)[..12].to_owned();
    cache.join(format!("barbican-kms/openstack-venv-{sum}/bin/python"))
}

fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len())]
}

fn pattern(random: &mut Random) -> String {
    const PIECES: [&str; 18] = [
        "/",
        "/",
        "/v1",
        "/secrets",
        "/payload",
        "*",
        "**",
        "{id}",
        "{",
        "}",
        "{}",
        "a",
        "b",
        ".",
        "-",
        "KEY-ID",
        "/key-manager",
        "%20",
    ];
    (0..=random.below(8))
        .map(|_| pick(random, &PIECES))
        .collect()
}

/// Mostly what `pattern` might stand for, so that matches are not rare.
fn path(random: &mut Random, pattern: &str) -> String {
    const WORDS: [&str; 8] = ["a", "b", "x", "id", "a/b", "", "/", "v1"];
    let mut path = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let taken = match (first, rest.find('}')) {
            ('{', Some(end)) => end + 1,
            _ => first.len_utf8(),
        };
        match first {
            '*' | '{' => path += pick(random, &WORDS),
            '.' => path += pick(random, &["x", ".", "/"]),
            '}' => {}
            other => path.push(other),
        }
        rest = &rest[taken..];
    }
    if random.below(4) == 0 {
        path += pick(random, &WORDS);
    }
    path
}

#[test]
fn rules_are_judged_as_keystonemiddleware_judges_them() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(20_261_126);
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let cases: Vec<(String, String)> = (0..CASES)
        .map(|_| {
            let pattern = pattern(&mut random);
            let path = path(&mut random, &pattern);
            (pattern, path)
        })
        .collect();
    let mut judge = Command::new(python())
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python of the servers");
    let mut lines = String::new();
    for (pattern, path) in &cases {
        lines.extend([pattern.as_str(), "\t", path.as_str(), "\n"]);
    }
    // It reads everything before it writes anything.
    let mut input = judge.stdin.take().expect("a pipe");
    input.write_all(lines.as_bytes()).expect("written");
    drop(input);
    let said = judge.wait_with_output().expect("it ends");
    let verdicts = String::from_utf8(said.stdout).expect("text");
    assert_eq!(verdicts.lines().count(), CASES);
    let mut matches = 0;
    for ((pattern, path), verdict) in cases.iter().zip(verdicts.lines()) {
        let rule = AccessRule {
            service: "key-manager".to_owned(),
            method: "GET".to_owned(),
            path: pattern.clone(),
        };
        let expected = if verdict == "y" {
            RuleMatch::Yes
        } else {
            RuleMatch::No
        };
        assert_eq!(
            rule.allows("key-manager", "GET", path),
            expected,
            "rule {pattern:?}, path {path:?}, SEED={seed}"
        );
        matches += usize::from(verdict == "y");
    }
    assert!(matches > CASES / 10, "only {matches} match");
}

/// `check` at a Barbican that is below `/key-manager`, with this rule.
async fn check(cloud: &OpenStack, rule: &str) -> CommandOutput {
    let url = cloud.text("/barbican_url").trim_end_matches('/').to_owned();
    let region = "Prefixed";
    cloud.ctl(&["endpoint-delete", "--region", region]).await;
    let url = format!("{}/key-manager", url.trim_end_matches("/v1"));
    cloud
        .ctl(&["endpoint-create", "--region", region, "--url", &url])
        .await;
    let made = cloud.ctl(&["appcred-create", "--access-rules", rule]).await;
    let config = cloud.config_of_credential(&text(&made, "id"), &text(&made, "secret"));
    Place::new(&config.replace("RegionOne", region))
        .check(&[])
        .await
}

#[tokio::test]
async fn below_a_prefix_the_rule_without_it_is_refused_and_the_right_one_is_printed() {
    let cloud = openstack::plain();
    let plain = r#"[{"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"}]"#;
    let said = check(cloud, plain).await;
    assert_eq!(said.code, 1, "{said:?}");
    let needed = format!(
        "{{\"service\":\"key-manager\",\"method\":\"GET\",\"path\":\"/key-manager/v1/secrets/{}/payload\"}}",
        cloud.key(0)
    );
    let (_, to_do) = said.output.split_once("to do: ").expect("a next step");
    assert!(to_do.contains(&needed), "{said:?}");
    // The very rule that was printed.
    let said = check(cloud, &format!("[{needed}]")).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.output.contains("payloads of 1 of 1 key"), "{said:?}");
}
